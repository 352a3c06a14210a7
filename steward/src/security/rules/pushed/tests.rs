//! What a fleet's rules take away, and which of them are believed.

use protocol::message::Kind;
use protocol::name::{MethodName, NodeName};

use super::super::{APPLY, RulesView};
use super::*;
use crate::clock::wall;
use crate::security::keys::KeyKind;
use crate::security::sender::Sender;

const DISK: &str = "otherwise = \"refuse\"\n[[rule]]\nname = \"disk\"\nfrom = \"*\"\nmethod = \"ShellCommand\"\n\
                    firstWord = \"df\"\ntimeout = \"5s\"\n";

fn key() -> KeyPair {
    KeyPair::generate(KeyKind::Account).unwrap()
}

fn rules() -> Rules {
    let name = |text: &str| NodeName::new(text).unwrap();
    Rules::standard(name("ship1"), name("central"), Vec::new())
}

fn judge(rules: &Rules, from: &str, method: &str, word: &str) -> Result<Grant, String> {
    let name = |text: &str| NodeName::new(text).unwrap();
    let sender = Sender::unsigned(name(from), &name("central"));
    match rules.judge(&sender, Kind::CommandAck, &MethodName::new(method).unwrap(), Some(&[word.to_owned()])) {
        Decision::Accept(grant) => Ok(grant),
        Decision::Refuse(refusal) => Err(refusal.why),
    }
}

#[test]
fn a_fleet_takes_away_and_never_adds() {
    let (dir, fleet, rules) = (tempfile::tempdir().unwrap(), key(), rules());
    rules.join(fleet.public(), dir.path());
    let set = Pushed::issue(DISK, 1, &fleet, wall()).unwrap();
    rules.apply(&set.token).unwrap();
    let grant = judge(&rules, "central", "ShellCommand", "df").unwrap();
    assert_eq!(&*grant.rule, "standard, and of the fleet: disk");
    assert_eq!(grant.limits.timeout, Some(std::time::Duration::from_secs(5)));
    let why = judge(&rules, "central", "ShellCommand", "rm").unwrap_err();
    assert!(why.contains("no rule of the fleet") && !why.contains("df"), "{why}");
    // The fleet's rules let everybody in, the node's own do not.
    assert!(judge(&rules, "ship2", "ShellCommand", "df").unwrap_err().contains("--allow ship2"));
    // What brings the next set is for the node's own rules alone.
    assert!(judge(&rules, "central", APPLY, "x").is_ok());
    assert!(judge(&rules, "ship2", APPLY, "x").is_err());
    // The narrower limit counts, whoever has set it.
    let own = "otherwise = \"refuse\"\n[[rule]]\nfrom = \"central\"\nmethod = \"*\"\ntimeout = \"1s\"\nuser = \"a\"\n";
    rules.hold(Some(RuleSet::parse(own).unwrap()), RulesView::default());
    let limits = judge(&rules, "central", "ShellCommand", "df").unwrap().limits;
    assert_eq!((limits.timeout, limits.user.as_deref()), (Some(std::time::Duration::from_secs(1)), Some("a")));
    assert_eq!(rules.view().fleet_version, Some(1));
}

#[test]
fn the_highest_version_holds_also_across_a_restart() {
    let (dir, fleet, first) = (tempfile::tempdir().unwrap(), key(), rules());
    first.join(fleet.public(), dir.path());
    let issue = |version: u64, text: &str| Pushed::issue(text, version, &fleet, wall()).unwrap().token;
    first.apply(&issue(7, DISK)).unwrap();
    for (version, text) in [(6, DISK), (7, "otherwise = \"accept\""), (1, "otherwise = \"accept\"")] {
        assert!(matches!(first.apply(&issue(version, text)), Err(PushedError::Old { known: 7, .. })));
    }
    // The same once more, as after an answer that was lost.
    assert_eq!(first.apply(&issue(7, DISK)).unwrap().version, 7);
    let second = rules();
    second.join(fleet.public(), dir.path());
    assert!(judge(&second, "central", "ShellCommand", "rm").is_err());
    assert!(matches!(second.apply(&issue(6, DISK)), Err(PushedError::Old { .. })));
    second.apply(&issue(8, "otherwise = \"accept\"")).unwrap();
    assert!(judge(&second, "central", "ShellCommand", "rm").is_ok());
}

#[test]
fn what_the_fleet_has_not_signed_is_not_believed() {
    let (dir, fleet, rules) = (tempfile::tempdir().unwrap(), key(), rules());
    let set = Pushed::issue(DISK, 1, &fleet, wall()).unwrap();
    assert!(matches!(rules.apply(&set.token), Err(PushedError::NoFleet(_))));
    rules.join(fleet.public(), dir.path());
    let of_another = Pushed::issue(DISK, 1, &key(), wall()).unwrap();
    assert!(matches!(rules.apply(&of_another.token), Err(PushedError::Statement(StatementError::Token(_)))));
    let altered = set.token.replacen('.', ".A", 1);
    assert!(rules.apply(&altered).is_err());
    assert!(rules.apply("").is_err() && rules.apply(&"x".repeat(TOKEN_BYTES_MAX + 1)).is_err());
    // Something else that the fleet has signed: a list of revoked keys.
    let list = crate::security::revocations::Revocations::issue(1, Vec::new(), &fleet, wall()).unwrap();
    assert!(rules.apply(&list).is_err());
    assert!(Pushed::issue("otherwise", 1, &fleet, wall()).is_err());
    assert!(matches!(
        Pushed::issue(&format!("{DISK}# {}", "x".repeat(TOKEN_BYTES_MAX)), 1, &fleet, wall()),
        Err(PushedError::TooLong(_))
    ));
    assert!(judge(&rules, "central", "ShellCommand", "rm").is_ok());
}

#[test]
fn a_set_that_is_damaged_on_disk_lets_nothing_in_but_the_next_one() {
    let (dir, fleet, first) = (tempfile::tempdir().unwrap(), key(), rules());
    first.join(fleet.public(), dir.path());
    let set = Pushed::issue("otherwise = \"accept\"", 3, &fleet, wall()).unwrap();
    first.apply(&set.token).unwrap();
    secret_file::write(&dir.path().join(FILE), &set.token[..set.token.len() - 9]).unwrap();
    let second = rules();
    second.join(fleet.public(), dir.path());
    assert!(judge(&second, "central", "ShellCommand", "df").unwrap_err().contains("pushed again"));
    assert!(second.view().fleet_why.is_some());
    assert!(judge(&second, "central", APPLY, "x").is_ok());
    second.apply(&set.token).unwrap();
    assert!(judge(&second, "central", "ShellCommand", "df").is_ok());
    assert_eq!(second.view().fleet_why, None);
}

#[test]
fn a_fleet_need_not_name_where_something_is_forwarded_to_and_its_nodes_have_to() {
    let (dir, fleet) = (tempfile::tempdir().unwrap(), key());
    let named = "[[rule]]\nfrom = \"*\"\nmethod = \"PortForward\"\nforward = \"localhost:80\"\n";
    let by = |own: &str, of_fleet: &str, version: u64| {
        let me = NodeName::new("ship1").unwrap();
        let rules = Rules::standard(me, NodeName::new("central").unwrap(), Vec::new());
        rules.hold(Some(RuleSet::parse(own).unwrap()), RulesView::default());
        rules.join(fleet.public(), dir.path());
        rules.apply(&Pushed::issue(of_fleet, version, &fleet, wall()).unwrap().token).unwrap();
        let sender = Sender::unsigned(NodeName::new("central").unwrap(), rules.central());
        let data = ["connect".to_owned(), "localhost:80".to_owned()];
        let method = MethodName::new("PortForward").unwrap();
        matches!(rules.judge(&sender, Kind::CommandAck, &method, Some(&data)), Decision::Accept(_))
    };
    let (accept, refuse) = ("otherwise = \"accept\"\n", "otherwise = \"refuse\"\n");
    let (own, other) = (format!("{refuse}{named}"), format!("{refuse}{}", named.replace(":80", ":81")));
    assert!(by(&own, accept, 1) && by(&own, &own, 2));
    assert!(!by(&own, refuse, 3) && !by(&own, &other, 4));
    assert!(!by(accept, &own, 5) && !by(accept, accept, 6));
}
