//! What holds when files are good, bad, gone, and read again by the next process.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use protocol::name::NodeName;

use super::*;

const ONE: &str = "otherwise = \"refuse\"\n[[rule]]\nfrom = \"*\"\nmethod = \"ShellCommand\"\n";

fn open(dir: &Path) -> (Keeper, Rules) {
    let name = |text: &str| NodeName::new(text).unwrap();
    let rules = Rules::standard(name("ship1"), name("central"), Vec::new());
    (Keeper::open(dir, rules.clone()), rules)
}

fn state(rules: &Rules) -> (String, usize, String) {
    let view = rules.view();
    (view.state, view.rules, view.otherwise)
}

fn is(state: &str, rules: usize, otherwise: &str) -> (String, usize, String) {
    (state.to_owned(), rules, otherwise.to_owned())
}

/// What the running task does when the file has changed.
fn looks_again(keeper: &mut Keeper) {
    keeper.seen = look(&keeper.dir.join(FILE));
    keeper.take();
}

#[test]
fn without_a_file_the_standard_rules_hold() {
    let dir = tempfile::tempdir().unwrap();
    let (_, rules) = open(dir.path());
    assert_eq!(state(&rules), is("standard", 0, "standard"));
}

#[test]
fn what_could_be_read_last_holds_on_also_across_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    fs::write(&file, ONE).unwrap();
    let (mut keeper, rules) = open(dir.path());
    assert_eq!(state(&rules), is("good", 1, "refuse"));
    fs::write(&file, "otherwise = \"standard\"\n[[rule]\n").unwrap();
    looks_again(&mut keeper);
    assert_eq!(state(&rules), is("kept", 1, "refuse"));
    assert!(rules.view().why.unwrap().starts_with("line 2, column "));
    let (_, rules) = open(dir.path());
    assert_eq!(state(&rules), is("kept", 1, "refuse"));
    assert_eq!(rules.view().text, format!("{GOOD_HEAD}{ONE}"));
    // Gone is no change either, and good again is.
    fs::remove_file(&file).unwrap();
    let (mut keeper, rules) = open(dir.path());
    assert_eq!(state(&rules), is("kept", 1, "refuse"));
    fs::write(&file, "otherwise = \"standard\"").unwrap();
    looks_again(&mut keeper);
    assert_eq!(state(&rules), is("good", 0, "standard"));
}

#[test]
fn a_first_file_that_is_bad_changes_nothing_while_the_node_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (mut keeper, rules) = open(dir.path());
    fs::write(dir.path().join(FILE), "otherwise").unwrap();
    looks_again(&mut keeper);
    assert_eq!(state(&rules), is("kept", 0, "standard"));
    let (_, rules) = open(dir.path());
    assert_eq!(state(&rules), is("kept", 0, "standard"));
}

#[test]
fn a_bad_file_at_the_very_first_start_lets_nothing_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    fs::write(&file, "otherwise").unwrap();
    let (mut keeper, rules) = open(dir.path());
    assert_eq!(state(&rules), is("closed", 0, "refuse"));
    fs::write(&file, "otherwise = ").unwrap();
    looks_again(&mut keeper);
    assert_eq!(state(&rules), is("closed", 0, "refuse"));
    fs::write(&file, ONE).unwrap();
    looks_again(&mut keeper);
    assert_eq!(state(&rules), is("good", 1, "refuse"));
}

#[test]
fn a_file_that_others_can_write_or_that_lies_elsewhere_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (file, elsewhere) = (dir.path().join(FILE), dir.path().join("elsewhere"));
    fs::write(&elsewhere, ONE).unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert!(matches!(look(&file), Seen::Unusable(why) if why.contains("is a link")));
    fs::remove_file(&file).unwrap();
    fs::write(&file, ONE).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(look(&file), Seen::Unusable(why) if why.contains("chmod o-w")));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(look(&file), Seen::Text(ONE.to_owned()));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(matches!(look(&file), Seen::Unusable(why) if why.contains("no regular file")));
    fs::remove_dir(&file).unwrap();
    fs::write(&file, b"ok\n\xff").unwrap();
    assert!(matches!(look(&file), Seen::Unusable(why) if why.starts_with("line 2")));
    assert_eq!(look(&dir.path().join("none")), Seen::Missing);
}
