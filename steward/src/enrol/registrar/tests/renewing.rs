//! Who gets new keys, who does not, and that what was answered once is answered again.

use super::*;
use crate::enrol::registrar::renewing::Renewed;
use crate::enrol::renewal::wire::{Answer, Certified, Verdict, Word};

/// A new pair of keys of a node.
struct Next(KeyPair, SealPublic);

impl Next {
    fn new() -> Self {
        Self(KeyPair::generate(KeyKind::User).unwrap(), seal())
    }

    fn renew(&self, guest: &Guest) -> Word {
        Word::renew(&guest.name, &guest.node, &self.0, &self.1)
    }

    fn using(&self, guest: &Guest) -> Word {
        Word::using(&guest.name, &self.0)
    }

    fn key(&self) -> String {
        self.0.public().to_string()
    }
}

impl Central {
    /// A member, and its first certificate.
    fn member(&mut self, name: &str) -> (Guest, Certificate) {
        let guest = self.invite(name, Wall(HOUR_MS), false);
        let (certificate, _) = self.welcome(&guest, Wall(1000));
        (guest, certificate)
    }

    /// What central says to a word on the subject of its node, and what stands in its log.
    fn hear(&mut self, word: &Word, now: u64) -> (Verdict, Renewed) {
        let name = NodeName::new(word.name()).unwrap();
        let heard = self.registrar.renew(&mut self.registry, &name, word, Wall(now)).unwrap();
        let fleet = self.registrar.authority.fleet().public();
        (Answer::to(word, heard.body.as_bytes(), &fleet).unwrap(), heard.outcome)
    }

    fn certified(&mut self, word: &Word, now: u64) -> Certified {
        match self.hear(word, now).0 {
            Verdict::Certified(certified) => certified,
            Verdict::Refused(why) => panic!("{why}"),
        }
    }

    fn not_renewed(&mut self, word: &Word, now: u64) -> String {
        match self.hear(word, now).0 {
            Verdict::Refused(why) => why,
            Verdict::Certified(_) => panic!("it was certified"),
        }
    }

    /// The keys that are revoked.
    fn revoked(&mut self) -> Vec<String> {
        self.registry.revoked().unwrap().1.into_iter().map(|revoked| revoked.key).collect()
    }
}

#[test]
fn the_old_key_goes_when_the_new_one_is_in_use_and_not_before() {
    let mut central = Central::new();
    let (guest, before) = central.member("ship1");
    let next = Next::new();
    let first = central.certified(&next.renew(&guest), 2000);
    let fleet = central.registrar.authority.fleet().public();
    let certificate = Certificate::verify(&first.certificate, &fleet).unwrap();
    assert_eq!((certificate.key, certificate.seal_key), (next.0.public(), next.1));
    assert_eq!((certificate.renews, &certificate.labels), (Some(before.key), &before.labels));
    assert!(certificate.serial > before.serial && first.user.is_some() && !first.settled);
    assert_eq!(central.revoked(), [""; 0]);
    // Its answer was lost, or central was killed.
    let mut central = central.reopened();
    assert_eq!(central.certified(&next.renew(&guest), 9000), first);
    let (Verdict::Certified(settled), Renewed::Settled) = central.hear(&next.using(&guest), 9500) else {
        panic!("the new key is not the node's");
    };
    assert_eq!(settled, Certified { settled: true, ..first });
    assert_eq!(central.revoked(), [before.key.to_string()]);
    let member = central.registry.member("ship1").unwrap().unwrap();
    assert_eq!((member.key, member.renewed), (next.key(), Some(Wall(9500))));
    // That answer was lost as well; and somebody plays everything again.
    let version = central.registry.revoked_versions().unwrap().0;
    for word in [next.using(&guest), next.renew(&guest), next.renew(&guest), next.using(&guest)] {
        assert_eq!(central.hear(&word, 99_000), (Verdict::Certified(settled.clone()), Renewed::Again));
    }
    assert_eq!(central.registry.revoked_versions().unwrap().0, version);
    assert_eq!(central.registry.renewals().unwrap(), []);
}

#[test]
fn the_first_new_key_counts_unless_an_operator_asks_for_another() {
    let mut central = Central::new();
    let (guest, before) = central.member("ship1");
    let (first, second) = (Next::new(), Next::new());
    central.certified(&first.renew(&guest), 2000);
    let why = central.not_renewed(&second.renew(&guest), 3000);
    assert!(why.contains(&first.key()) && why.contains("steward rotate --node ship1"), "{why}");
    central.registry.ask_renewal(&guest.name, Wall(4000)).unwrap();
    let renewed = central.certified(&second.renew(&guest), 5000);
    let fleet = central.registrar.authority.fleet().public();
    assert_eq!(Certificate::verify(&renewed.certificate, &fleet).unwrap().renews, Some(before.key));
    assert_eq!(central.revoked(), [first.key()], "what nobody uses is good for nothing");
    let why = central.not_renewed(&first.using(&guest), 6000);
    assert!(why.contains("not that of ship1"), "{why}");
    // And again it is the first one that counts.
    assert!(central.not_renewed(&Next::new().renew(&guest), 7000).contains("certified for another new key"));
    assert!(central.certified(&second.using(&guest), 8000).settled);
}

#[test]
fn nobody_gets_new_keys_for_another_or_with_old_ones() {
    let mut central = Central::new();
    let ((ship1, _), (ship2, _)) = (central.member("ship1"), central.member("ship2"));
    let next = Next::new();
    // In the name of another, signed with its own key.
    let forged = Word::renew(&ship1.name, &ship2.node, &next.0, &next.1);
    assert!(central.not_renewed(&forged, 2000).contains("not that of ship1"));
    // On the subject of another, which the broker would not let pass.
    let body = Word::renew(&ship2.name, &ship2.node, &next.0, &next.1);
    assert!(central.registrar.renew(&mut central.registry, &ship1.name, &body, Wall(2000)).is_err());
    // A key that is somebody else's, and one that nobody has shown to have.
    let taken = Word::renew(&ship1.name, &ship1.node, &ship2.node, &next.1);
    assert!(central.not_renewed(&taken, 2000).contains("not new"));
    let mut altered = serde_json::to_value(next.renew(&ship1)).unwrap();
    altered["renew"]["newKey"] = Next::new().key().into();
    let altered = serde_json::from_value(altered).unwrap();
    assert!(central.registrar.renew(&mut central.registry, &ship1.name, &altered, Wall(2000)).is_err());
    // Somebody who has the old key, after it was renewed.
    central.certified(&next.renew(&ship1), 2000);
    central.certified(&next.using(&ship1), 3000);
    assert!(central.not_renewed(&Next::new().renew(&ship1), 4000).contains("its files are old"));
    // Nobody in particular, and somebody who was thrown out.
    let nobody = Guest { name: NodeName::new("ship9").unwrap(), ..ship2.copy() };
    assert!(central.not_renewed(&next.renew(&nobody), 4000).contains("no node ship9"));
    let pending = Next::new();
    central.certified(&pending.renew(&ship2), 4000);
    central.registry.revoke(&ship2.name, "", Wall(5000)).unwrap();
    assert!(central.revoked().contains(&pending.key()), "a new key of who is out is out");
    for word in [pending.renew(&ship2), pending.using(&ship2)] {
        assert!(central.not_renewed(&word, 6000).contains("thrown out"));
    }
    assert!(central.registry.ask_renewal(&ship2.name, Wall(7000)).is_err());
}

#[test]
fn central_itself_is_a_member_of_its_fleet() {
    let mut central = Central::new();
    let (guest, certificate) = central.member("central");
    let own = central.registry.member("central").unwrap().unwrap();
    central.registry.own(&own).unwrap();
    // Between the certificate and its first use it starts with the new key, and nothing is decided by that.
    let next = Next::new();
    let renewed = central.certified(&next.renew(&guest), 2000);
    let serial = certificate.serial + 5000;
    let started = Member { key: next.key(), certificate: renewed.certificate, serial, ..own.clone() };
    central.registry.own(&started).unwrap();
    assert_eq!(central.registry.member("central").unwrap().unwrap().key, own.key);
    assert!(central.certified(&next.using(&guest), 3000).settled);
    // Made anew from the fleet's folder, with a key that nobody has certified here before.
    let anew = Member { key: Next::new().key(), serial: serial + 1_000_000, ..own.clone() };
    central.registry.own(&anew).unwrap();
    assert_eq!(central.registry.member("central").unwrap().unwrap().key, anew.key);
    let revoked = central.revoked();
    assert!(revoked.len() == 2 && revoked.contains(&own.key) && revoked.contains(&next.key()), "{revoked:?}");
    // An older one changes nothing.
    central.registry.own(&own).unwrap();
    assert_eq!(central.registry.member("central").unwrap().unwrap().key, anew.key);
}

/// Where nothing more can be revoked, the new key is not the node's, and the old one is not gone.
#[test]
fn a_list_that_is_full_strands_nobody() {
    let mut central = Central::new();
    let (guest, before) = central.member("ship1");
    let next = Next::new();
    central.certified(&next.renew(&guest), 2000);
    central.registry.fill_revoked();
    let error =
        central.registrar.renew(&mut central.registry, &guest.name, &next.using(&guest), Wall(3000)).unwrap_err();
    assert!(error.to_string().contains("2048 keys are revoked"), "{error}");
    assert_eq!(central.registry.member("ship1").unwrap().unwrap().key, before.key.to_string());
    assert!(!central.certified(&next.renew(&guest), 4000).settled);
}
