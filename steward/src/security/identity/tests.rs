//! Identities there and back, and folders that others have had their hands in.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use protocol::name::NodeName;

use super::super::certificate::{Draft, Role};
use super::*;

const NOW: Wall = Wall(1_795_363_200_000);

fn identity(fleet: &KeyPair, name: &str, serial: u64) -> Identity {
    let keys = NodeKeys::generate().unwrap();
    let draft = Draft {
        name: NodeName::new(name).unwrap(),
        key: keys.node.public(),
        seal_key: keys.seal.public(),
        role: Role::Node,
        labels: BTreeMap::new(),
        serial,
        renews: None,
        expires: None,
    };
    let certificate = Certificate::issue(draft, fleet, NOW).unwrap();
    let user_jwt = Some("a.b.c".to_owned());
    Identity { keys, certificate, fleet: fleet.public(), user_jwt, ca: None }
}

fn saved() -> (tempfile::TempDir, KeyPair, Identity) {
    let dir = tempfile::tempdir().unwrap();
    let fleet = KeyPair::generate(KeyKind::Account).unwrap();
    let identity = identity(&fleet, "ship1", 1);
    identity.save(dir.path()).unwrap();
    (dir, fleet, identity)
}

fn refusal(dir: &Path) -> String {
    Identity::load(dir).unwrap_err().to_string()
}

#[test]
fn an_identity_comes_back_and_is_replaced_as_a_whole() {
    let (dir, fleet, first) = saved();
    let read = Identity::load(dir.path()).unwrap().unwrap();
    assert_eq!(read.certificate, first.certificate);
    assert_eq!((read.user_jwt.as_deref(), read.ca), (Some("a.b.c"), None));
    let second = Identity { user_jwt: None, ca: Some("PEM".to_owned()), ..identity(&fleet, "ship1", 2) };
    second.save(dir.path()).unwrap();
    let read = Identity::load(dir.path()).unwrap().unwrap();
    assert_eq!(read.certificate, second.certificate);
    assert_eq!((read.user_jwt, read.ca.as_deref()), (None, Some("PEM")));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["identity"], "nothing of the keys is left beside it");
}

#[test]
fn every_file_is_for_us_only() {
    let (dir, ..) = saved();
    let folder = Identity::folder(dir.path());
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    for (path, mode) in [(folder.join(NODE_SEED), 0o644), (folder.clone(), 0o755)] {
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let why = refusal(dir.path());
        assert!(why.contains(&path.display().to_string()) && why.contains("chmod go="), "{why}");
        fs::set_permissions(&path, before).unwrap();
    }
    assert!(Identity::load(dir.path()).unwrap().is_some());
}

#[test]
fn without_the_folder_there_is_none_and_a_file_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Identity::load(dir.path()).unwrap().is_none());
    for name in [NODE_SEED, SEAL_SEED, CERTIFICATE, FLEET] {
        let (dir, ..) = saved();
        fs::remove_file(Identity::folder(dir.path()).join(name)).unwrap();
        let why = refusal(dir.path());
        assert!(why.contains(name) && why.contains("steward join"), "{why}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let (dir, fleet, first) = saved();
    let folder = Identity::folder(dir.path());
    identity(&fleet, "ship1", 2).keys.save(&folder).unwrap();
    assert!(refusal(dir.path()).contains("is for another key"));
    first.keys.save(&folder).unwrap();
    let stranger = KeyPair::generate(KeyKind::Account).unwrap();
    secret_file::write(&folder.join(FLEET), &stranger.public().to_string()).unwrap();
    assert!(refusal(dir.path()).contains("is signed by"), "{}", refusal(dir.path()));
    secret_file::write(&folder.join(FLEET), "nonsense").unwrap();
    assert!(refusal(dir.path()).contains("fleet.pub does not hold a key"), "{}", refusal(dir.path()));
    secret_file::write(&folder.join(FLEET), &fleet.public().to_string()).unwrap();
    secret_file::write(&folder.join(NODE_SEED), &fleet.seed()).unwrap();
    let why = refusal(dir.path());
    assert!(why.contains("node.nk") && !why.contains(fleet.seed().as_str()), "{why}");
}

#[test]
fn an_error_shows_no_secret() {
    let (_, _, identity) = saved();
    let shown = format!("{identity:?}");
    assert!(!shown.contains(identity.keys.node.seed().as_str()), "{shown}");
}
