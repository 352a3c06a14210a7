//! The file itself: for whom it is, and what it does not touch.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

impl Registry {
    /// Many invitations at once.
    pub(crate) fn fill(&mut self, count: usize, make: &dyn Fn(usize) -> Invitation) {
        let transaction = self.0.transaction().unwrap();
        for number in 0..count {
            invitations::insert(&transaction, &make(number)).unwrap();
        }
        transaction.commit().unwrap();
    }

    /// As many revoked keys as there may be.
    pub(crate) fn fill_revoked(&mut self) {
        let transaction = self.0.transaction().unwrap();
        for number in 0..REVOKED_MAX {
            let key = format!("key {number}");
            let revoked = Revoked { key, name: String::new(), at: protocol::time::Wall(1), reason: String::new() };
            revocations::add(&transaction, &revoked).unwrap();
        }
        transaction.commit().unwrap();
    }

    /// All invitations there are.
    pub(crate) fn kept(&self) -> u64 {
        from_column(self.0.query_row("select count(*) from invitations", [], |row| row.get(0)).unwrap())
    }
}

#[test]
fn the_file_is_for_us_only_and_a_foreign_one_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!Registry::exists(dir.path()));
    drop(Registry::open(dir.path()).unwrap());
    let path = dir.path().join(FILE);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
    drop(connection);
    let before = std::fs::read(&path).unwrap();
    let error = Registry::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("update steward"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::write(&path, "not a database, but something that somebody keeps here").unwrap();
    assert!(Registry::open(dir.path()).is_err());
}

#[test]
fn the_number_of_a_list_never_falls_behind_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(dir.path()).unwrap();
    let revoked = |key: &str| Revoked {
        key: key.to_owned(),
        name: String::new(),
        at: protocol::time::Wall(5000),
        reason: String::new(),
    };
    revocations::add(&registry.0, &revoked("a")).unwrap();
    assert_eq!(registry.revoked_versions().unwrap(), (5000, 0));
    revocations::add(&registry.0, &revoked("b")).unwrap();
    assert_eq!(registry.revoked_versions().unwrap(), (5001, 0));
    let all = registry.0.unchecked_transaction().unwrap();
    for number in 2..REVOKED_MAX {
        revocations::add(&all, &revoked(&number.to_string())).unwrap();
    }
    all.commit().unwrap();
    assert!(matches!(revocations::add(&registry.0, &revoked("more")), Err(RegistryError::RevokedFull)));
    revocations::add(&registry.0, &revoked("a")).unwrap();
}

#[test]
fn whatever_is_done_waits_in_the_journal_until_it_is_written_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut registry = Registry::open(dir.path()).unwrap();
    let act = |number: u64| crate::audit::Act {
        at: protocol::time::Wall(number),
        deed: crate::audit::Deed::Revoked,
        node: Some(protocol::name::NodeName::new("ship1").unwrap()),
        reason: Some("stolen".to_owned()),
        about: serde_json::json!({ "key": "U" }),
        by: Some(crate::audit::By::this_process()),
    };
    assert_eq!(registry.journal().unwrap(), None);
    let many = 300;
    for number in 1..=many {
        registry.note(&act(number)).unwrap();
    }
    drop(registry);
    let mut registry = Registry::open(dir.path()).unwrap();
    let first = registry.journal().unwrap().unwrap();
    assert_eq!((first.lost, first.last, first.acts.len()), (0, 256, 256));
    assert_eq!((&first.acts[0], &first.acts[255]), (&act(1), &act(256)));
    assert_eq!(registry.journal().unwrap(), Some(first));
    registry.journal_written(256).unwrap();
    assert_eq!(registry.journal().unwrap().unwrap().acts.len(), 44);
    registry.journal_written(many).unwrap();
    assert_eq!(registry.journal().unwrap(), None);
    // What nobody takes goes at last, and how much it was is known.
    let insert = "update sqlite_sequence set seq = ? where name = 'journal'";
    let gone = 5;
    registry.0.execute(insert, [to_column("n", many + journal::JOURNAL_MAX + gone - 1).unwrap()]).unwrap();
    registry.0.execute("insert into journal (n, at_ms, deed, about) values (301, 1, 'joined', '{}')", []).unwrap();
    registry.note(&act(1)).unwrap();
    let left = registry.journal().unwrap().unwrap();
    assert_eq!((left.lost, left.acts.len()), (journal::JOURNAL_MAX + gone - 1, 1));
}

#[test]
fn a_registry_without_a_journal_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(TABLES).unwrap();
    connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    drop(connection);
    for _ in 0..2 {
        assert_eq!(Registry::open(dir.path()).unwrap().journal().unwrap(), None);
    }
}
