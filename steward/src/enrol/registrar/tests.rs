//! Who is let in, who is refused and why, and that what was answered once is answered again.

mod renewing;

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::authority::Settings;
use crate::enrol::registry::PENDING_MAX;
use crate::enrol::token::id_of;
use crate::security::certificate::{Certificate, Role};
use crate::security::keys::{KeyKind, KeyPair, SealKey};

const HOUR_MS: u64 = 3_600_000;

struct Central {
    dir: tempfile::TempDir,
    registrar: Registrar,
    registry: Registry,
}

/// A node with its own keys, and a copy of an invitation's key.
struct Guest {
    id: String,
    name: NodeName,
    invitation: KeyPair,
    node: KeyPair,
    seal: SealPublic,
}

impl Central {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        let settings = Settings::own(vec!["127.0.0.1:4222".parse().unwrap()]).unwrap();
        let authority = Authority::found(dir.path(), &settings, Wall(1)).unwrap();
        Self {
            dir,
            registrar: Registrar { authority: Arc::new(authority), own: Box::new(|| Arc::from("central's")) },
            registry,
        }
    }

    fn invite(&mut self, name: &str, expires: Wall, replaces: bool) -> Guest {
        let invitation = KeyPair::generate(KeyKind::User).unwrap();
        let (id, name) = (id_of(&invitation.public()), NodeName::new(name).unwrap());
        let kept = Invitation {
            id: id.clone(),
            name: name.clone(),
            role: Role::Node,
            labels: BTreeMap::from([("site".to_owned(), "north".to_owned())]),
            key: invitation.public(),
            replaces,
            created: Wall(0),
            expires,
            used: None,
            withdrawn: None,
        };
        self.registry.invite(&kept, Wall(0)).unwrap();
        assert_eq!(self.registry.invitation(&id).unwrap(), Some(kept));
        Guest { id, name, invitation, node: KeyPair::generate(KeyKind::User).unwrap(), seal: seal() }
    }

    /// The verdict on a request, as the guest reads it.
    fn ask(&mut self, guest: &Guest, now: Wall) -> Verdict {
        let body = guest.body();
        let answered = self.registrar.join(&mut self.registry, &guest.id, body.as_bytes(), now).unwrap();
        let answer = Answer::open(answered.body.as_bytes(), &self.registrar.authority.fleet().public()).unwrap();
        assert_eq!((answer.id, answer.node_key), (guest.id.clone(), guest.node.public().to_string()));
        answer.verdict
    }

    fn refusal(&mut self, guest: &Guest, now: Wall) -> String {
        match self.ask(guest, now) {
            Verdict::Refused(why) => why,
            Verdict::Welcome(_) => panic!("it was let in"),
        }
    }

    fn welcome(&mut self, guest: &Guest, now: Wall) -> (Certificate, Welcome) {
        match self.ask(guest, now) {
            Verdict::Welcome(welcome) => {
                let fleet = self.registrar.authority.fleet().public();
                (Certificate::verify(&welcome.certificate, &fleet).unwrap(), welcome)
            }
            Verdict::Refused(why) => panic!("{why}"),
        }
    }

    fn reopened(self) -> Self {
        let Self { dir, registrar, registry } = self;
        drop(registry);
        let registry = Registry::open(dir.path()).unwrap();
        Self { dir, registrar, registry }
    }
}

impl Guest {
    fn body(&self) -> String {
        let request = Request::new(&self.id, &self.name, &self.invitation, &self.node, &self.seal);
        serde_json::to_string(&request).unwrap()
    }

    /// The same token on another machine.
    fn copy(&self) -> Self {
        let invitation = KeyPair::from_seed(&self.invitation.seed(), KeyKind::User).unwrap();
        let node = KeyPair::generate(KeyKind::User).unwrap();
        Self { id: self.id.clone(), name: self.name.clone(), invitation, node, seal: seal() }
    }
}

fn seal() -> SealPublic {
    SealKey::generate().unwrap().public()
}

#[test]
fn an_answer_that_was_lost_is_given_again_also_by_another_process() {
    let mut central = Central::new();
    let guest = central.invite("ship1", Wall(HOUR_MS), false);
    let (certificate, first) = central.welcome(&guest, Wall(1000));
    assert_eq!(certificate.name, guest.name);
    assert_eq!(certificate.key, guest.node.public());
    assert_eq!(certificate.seal_key, guest.seal);
    assert_eq!(certificate.labels["site"], "north");
    assert!(first.user.as_deref().unwrap().starts_with("eyJ"));
    // Also long after its time: the node may have been away in the very moment of the answer.
    let mut central = central.reopened();
    assert_eq!(central.welcome(&guest, Wall(HOUR_MS * 100)).1, first);
    assert_eq!(central.registry.members().unwrap().len(), 1);
    assert_eq!(central.registry.pending(Wall(1000)).unwrap(), []);
}

#[test]
fn a_token_is_good_for_one_node() {
    let mut central = Central::new();
    let guest = central.invite("ship1", Wall(HOUR_MS), false);
    let copy = guest.copy();
    central.welcome(&guest, Wall(1000));
    let why = central.refusal(&copy, Wall(2000));
    assert!(why.contains("was used at 1970-01-01T00:00:01.000Z") && why.contains("steward revoke ship1"), "{why}");
    assert!(why.contains(&guest.node.public().to_string()), "{why}");
    central.welcome(&guest, Wall(3000));
}

#[test]
fn a_token_that_is_unknown_expired_or_taken_back_is_refused_with_the_reason() {
    let mut central = Central::new();
    let late = central.invite("ship1", Wall(HOUR_MS), false);
    let why = central.refusal(&late, Wall(HOUR_MS));
    assert!(why.contains("expired at 1970-01-01T01:00:00.000Z"), "{why}");
    let withdrawn = central.invite("ship2", Wall(HOUR_MS), false);
    assert_eq!(central.registry.withdraw(&withdrawn.name, Wall(1000)).unwrap(), 1);
    assert!(central.refusal(&withdrawn, Wall(2000)).contains("taken back"));
    let mut other = Central::new();
    let unknown = other.invite("ship3", Wall(HOUR_MS), false);
    assert!(central.refusal(&unknown, Wall(2000)).contains("does not know this invitation"));
    assert_eq!(central.registry.members().unwrap(), []);
}

#[test]
fn whoever_does_not_have_the_invitation_or_the_key_gets_no_answer() {
    let mut central = Central::new();
    let guest = central.invite("ship1", Wall(HOUR_MS), false);
    let mut thief = guest.copy();
    thief.invitation = KeyPair::generate(KeyKind::User).unwrap();
    let mut bodies = vec![thief.body(), "[]".to_owned(), "x".repeat(super::super::wire::REQUEST_BYTES_MAX + 1)];
    let mut altered: serde_json::Value = serde_json::from_str(&guest.body()).unwrap();
    altered["nodeKey"] = KeyPair::generate(KeyKind::User).unwrap().public().to_string().into();
    bodies.push(altered.to_string());
    altered = serde_json::from_str(&guest.body()).unwrap();
    altered["sealKey"] = seal().to_string().into();
    bodies.push(altered.to_string());
    for body in &bodies {
        let answer = central.registrar.join(&mut central.registry, &guest.id, body.as_bytes(), Wall(1000));
        assert!(matches!(answer, Err(RegistrarError::Request(_))), "{answer:?}");
    }
    let other = central.invite("ship2", Wall(HOUR_MS), false);
    let answer = central.registrar.join(&mut central.registry, &other.id, guest.body().as_bytes(), Wall(1000));
    assert!(matches!(answer, Err(RegistrarError::Request(_))), "{answer:?}");
}

#[test]
fn a_name_that_is_taken_is_given_away_only_explicitly_and_then_the_old_key_is_revoked() {
    let mut central = Central::new();
    let first = central.invite("ship1", Wall(HOUR_MS), false);
    let (old, _) = central.welcome(&first, Wall(1000));
    let second = central.invite("ship1", Wall(HOUR_MS), false);
    assert!(central.refusal(&second, Wall(2000)).contains("--replace"));
    let third = central.invite("ship1", Wall(HOUR_MS), true);
    let (new, _) = central.welcome(&third, Wall(2000));
    assert!(new.serial > old.serial, "{} {}", new.serial, old.serial);
    let (version, revoked) = central.registry.revoked().unwrap();
    assert_eq!(revoked.iter().map(|revoked| revoked.key.as_str()).collect::<Vec<_>>(), [old.key.to_string()]);
    assert_eq!(central.registry.revoked_versions().unwrap(), (version, 0));
    // The one that was replaced does not come back with its old token.
    assert!(central.refusal(&first, Wall(3000)).contains("was used"));
    let name = central.registry.member("ship1").unwrap().unwrap();
    assert_eq!(name.key, new.key.to_string());
}

#[test]
fn who_is_thrown_out_stays_out_and_may_be_invited_again() {
    let mut central = Central::new();
    let guest = central.invite("ship1", Wall(HOUR_MS), false);
    central.welcome(&guest, Wall(1000));
    let unused = central.invite("ship1", Wall(HOUR_MS), true);
    central.registry.revoke(&guest.name, "stolen", Wall(2000)).unwrap();
    let (version, revoked) = central.registry.revoked().unwrap();
    assert_eq!((revoked.len(), revoked[0].reason.as_str()), (1, "stolen"));
    central.registry.revoke(&guest.name, "again", Wall(2500)).unwrap();
    assert_eq!(central.registry.revoked().unwrap().0, version, "nothing new, no new list");
    assert!(central.refusal(&guest, Wall(3000)).contains("thrown out"));
    assert!(central.refusal(&unused, Wall(3000)).contains("taken back"), "invitations go with it");
    let mut with_old_key = central.invite("ship1", Wall(HOUR_MS), false);
    with_old_key.node = KeyPair::from_seed(&guest.node.seed(), KeyKind::User).unwrap();
    assert!(central.refusal(&with_old_key, Wall(3000)).contains("revoked"));
    let again = central.invite("ship1", Wall(HOUR_MS), false);
    let (certificate, _) = central.welcome(&again, Wall(3000));
    assert_eq!(certificate.key, again.node.public());
    assert_eq!(central.registry.member("ship1").unwrap().unwrap().revoked, None);
    let unknown = central.registry.revoke(&NodeName::new("ship9").unwrap(), "", Wall(1)).unwrap_err();
    assert!(unknown.to_string().contains("no node ship9"), "{unknown}");
}

/// A million invitations: as many as may be are kept, the rest is refused, and what is over makes room.
#[test]
fn no_more_invitations_are_pending_than_may_be() {
    let mut central = Central::new();
    let guest = central.invite("ship1", Wall(HOUR_MS), false);
    let key = KeyPair::generate(KeyKind::User).unwrap().public();
    let many = |number: usize| Invitation {
        id: format!("{number:022}"),
        expires: Wall(HOUR_MS + number as u64),
        ..central_invitation(&guest, key)
    };
    central.registry.fill(PENDING_MAX - 1, &many);
    for number in PENDING_MAX..PENDING_MAX + 100 {
        let error = central.registry.invite(&many(number), Wall(0)).unwrap_err();
        assert!(error.to_string().contains("--withdraw"), "{error}");
    }
    assert_eq!(central.registry.pending(Wall(0)).unwrap().len(), PENDING_MAX);
    // Those who have one get in all the same.
    central.welcome(&guest, Wall(1000));
    central.registry.invite(&many(PENDING_MAX), Wall(1000)).unwrap();
    assert!(central.registry.invite(&many(PENDING_MAX + 1), Wall(1000)).is_err());
    assert_eq!(central.registry.withdraw(&guest.name, Wall(1000)).unwrap(), PENDING_MAX);
    central.registry.invite(&many(PENDING_MAX + 1), Wall(1000)).unwrap();
    // Long after, nothing of it is left.
    let later = Wall(HOUR_MS * 24 * 60);
    central.registry.invite(&Invitation { expires: Wall(u64::MAX >> 1), ..many(PENDING_MAX + 2) }, later).unwrap();
    assert_eq!(central.registry.kept(), 1);
    assert!(file_bytes(central.dir.path()) < 16 << 20, "{}", file_bytes(central.dir.path()));
}

fn central_invitation(guest: &Guest, key: PublicKey) -> Invitation {
    Invitation {
        id: String::new(),
        name: guest.name.clone(),
        role: Role::Node,
        labels: BTreeMap::new(),
        key,
        replaces: false,
        created: Wall(0),
        expires: Wall(0),
        used: None,
        withdrawn: None,
    }
}

fn file_bytes(folder: &Path) -> u64 {
    folder.join("registry.db").metadata().unwrap().len()
}
