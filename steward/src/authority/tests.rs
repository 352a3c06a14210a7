//! The folder of a fleet: made once, closed to others, and what it signs. What a real nats-server makes
//! of it is tried beside, and in `tests/suite/fleet_broker.rs`.

mod at_the_broker;

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const NOW: Wall = Wall(1_795_300_000_000);

fn settings() -> Settings {
    Settings::own(vec!["hq.example.org:4222".parse().unwrap()]).unwrap()
}

fn files(folder: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let read = |entry: io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let text = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        (path.file_name().unwrap().to_str().unwrap().to_owned(), (mode, text))
    };
    fs::read_dir(folder).unwrap().map(read).collect()
}

#[test]
fn a_fleet_is_made_once_and_nobody_else_can_look_into_it() {
    let dir = tempfile::tempdir().unwrap();
    Authority::found(dir.path(), &settings(), NOW).unwrap();
    let folder = dir.path().join(FOLDER);
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let before = files(&folder);
    for (name, (mode, _)) in &before {
        assert_eq!(*mode, if name == RESOLVER { 0o700 } else { 0o600 }, "{name}");
    }
    let error = Authority::found(dir.path(), &Settings::external(), NOW).unwrap_err();
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    assert!(files(&folder) == before, "it was changed all the same");
    fs::set_permissions(folder.join(FLEET_SEED), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(Authority::open(dir.path()).unwrap_err().to_string().contains("fleet.nk"));
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(Authority::open(elsewhere.path()).unwrap_err().to_string().contains("steward init"));
}

#[test]
fn an_external_broker_leaves_the_fleet_its_key_only() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::found(dir.path(), &Settings::external(), NOW).unwrap();
    assert_eq!(files(authority.folder()).keys().collect::<Vec<_>>(), [FLEET_SEED, "fleet.toml"]);
    let key = KeyPair::generate(KeyKind::User).unwrap().public();
    let name = protocol::name::NodeName::new("ship1").unwrap();
    assert_eq!(authority.member_jwt(&name, &key, Role::Node, NOW, None).unwrap(), None);
    authority.revoke(&[key], NOW).unwrap();
}

#[test]
fn a_revocation_is_newer_than_what_the_server_has() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::found(dir.path(), &settings(), NOW).unwrap();
    let account = || fs::read_to_string(authority.folder().join(ACCOUNT_JWT)).unwrap();
    let iat = |jwt: &str| -> u64 {
        let body = data_encoding::BASE64URL_NOPAD.decode(jwt.split('.').nth(1).unwrap().as_bytes()).unwrap();
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()["iat"].as_u64().unwrap()
    };
    let mut before = account();
    // In the same second, and with a clock that has been set back.
    for now in [NOW, NOW, Wall(NOW.0 - 1_000_000)] {
        let key = KeyPair::generate(KeyKind::User).unwrap().public();
        authority.revoke(&[key], now).unwrap();
        assert!(iat(&account()) > iat(&before));
        let config = fs::read_to_string(authority.folder().join(ACCOUNTS)).unwrap();
        assert!(config.contains(account().trim()), "the server would start with the old account");
        before = account();
    }
}

#[test]
fn the_certificate_of_the_broker_is_renewed_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut authority = Authority::found(dir.path(), &settings(), NOW).unwrap();
    let certificate = || fs::read(dir.path().join(FOLDER).join(SERVER_CERTIFICATE)).unwrap();
    let first = certificate();
    assert!(!authority.renew_certificate(NOW).unwrap());
    assert_eq!(certificate(), first);
    let later = Wall(NOW.0 + 300 * 86_400_000);
    assert!(authority.renew_certificate(later).unwrap());
    assert_ne!(certificate(), first);
    assert!(!Authority::open(dir.path()).unwrap().renew_certificate(later).unwrap());
}
