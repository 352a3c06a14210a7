//! Keys that a fleet believes no more: a list with a version, signed by the fleet key, of which a node keeps the highest
//! version that it has seen, durably. An older list, or one that somebody else has signed, changes nothing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use protocol::name::NodeName;
use protocol::time::Wall;
use serde::{Deserialize, Serialize};

use super::keys::{KeyKind, KeyPair, PublicKey};
use super::secret_file::{self, SecretFileError};
use super::statement::{Statement, StatementError};

/// The file in the node's directory.
const FILE: &str = "revoked.jwt";

/// Keys in a list at most. A fleet that has revoked more begins anew with another fleet key.
pub(crate) const REVOKED_MAX: usize = 2048;

/// The longest list, in bytes: it has to fit a file of ours, and one publish.
pub(crate) const LIST_BYTES_MAX: usize = 700 * 1024;

/// What a list is called in its token.
const NAME: &str = "revoked";

/// A key that is believed no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Revoked {
    /// The key.
    pub(crate) key: String,
    /// The node whose key it was.
    pub(crate) name: String,
    /// When it was revoked, in milliseconds since 1970.
    pub(crate) at_ms: u64,
}

/// Why a list is not made or not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevocationError {
    /// The token.
    #[error("the list of revoked keys is not believed: {0}")]
    Statement(#[from] StatementError),
    /// Too many.
    #[error("{0} keys are revoked; a list has at most {REVOKED_MAX}. Begin a new fleet, whose nodes join anew")]
    TooMany(usize),
    /// An entry is no key.
    #[error("the list of revoked keys has an entry that is no key of a node: {0}")]
    Key(String),
    /// The file.
    #[error("{0}")]
    File(#[from] SecretFileError),
}

#[derive(Serialize, Deserialize)]
struct Part {
    /// How often the fleet has revoked something.
    version: u64,
    revoked: Vec<Revoked>,
}

#[derive(Debug, Default)]
struct List {
    version: u64,
    keys: HashSet<PublicKey>,
    revoked: Vec<Revoked>,
    token: Arc<str>,
}

/// The list that holds here. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Revocations {
    fleet: PublicKey,
    path: PathBuf,
    list: Arc<RwLock<List>>,
}

impl Revocations {
    /// The list in the node's directory `dir`; an empty one, version 0, if there is none.
    pub(crate) fn load(dir: &Path, fleet: PublicKey) -> Result<Self, RevocationError> {
        let path = dir.join(FILE);
        let list = match secret_file::read(&path) {
            Err(SecretFileError::Missing { .. }) => List::default(),
            read => parse(&read?, &fleet)?,
        };
        Ok(Self { fleet, path, list: Arc::new(RwLock::new(list)) })
    }

    /// The token of a list, signed with the fleet key.
    pub(crate) fn issue(
        version: u64,
        revoked: Vec<Revoked>,
        fleet: &KeyPair,
        now: Wall,
    ) -> Result<String, RevocationError> {
        let (name, about) = (NAME.to_owned(), fleet.public().to_string());
        let said = Part { version, revoked };
        let token = Statement { name, about, expires: None, said }.sign(fleet, now)?;
        // What others would refuse is not made.
        parse(&token, &fleet.public())?;
        Ok(token)
    }

    /// Takes a list, if it is newer than the one that holds; on disk when this returns. False: it is not newer. Blocks for
    /// a write to the disk.
    pub(crate) fn apply(&self, token: &str) -> Result<bool, RevocationError> {
        let new = parse(token, &self.fleet)?;
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        if new.version <= list.version {
            return Ok(false);
        }
        secret_file::write(&self.path, token)?;
        *list = new;
        Ok(true)
    }

    /// Whether this key is believed no more.
    pub(crate) fn has(&self, key: &PublicKey) -> bool {
        self.list.read().unwrap_or_else(PoisonError::into_inner).keys.contains(key)
    }

    /// The version of the list that holds; 0 if nothing was ever revoked.
    pub(crate) fn version(&self) -> u64 {
        self.list.read().unwrap_or_else(PoisonError::into_inner).version
    }

    /// The list that holds, as a token for others; empty if nothing was ever revoked.
    pub(crate) fn token(&self) -> Arc<str> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).token.clone()
    }

    /// What is revoked.
    pub(crate) fn revoked(&self) -> Vec<Revoked> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).revoked.clone()
    }
}

/// What a list holds that `fleet` has signed, for whoever keeps none.
pub(crate) fn read_list(token: &str, fleet: &PublicKey) -> Result<Vec<Revoked>, RevocationError> {
    parse(token, fleet).map(|list| list.revoked)
}

/// Whether a token is a list, for whoever wants to know no more.
#[cfg(any(test, fuzzing))]
pub(crate) fn is_list(token: &str, fleet: &PublicKey) -> bool {
    parse(token, fleet).is_ok()
}

fn parse(token: &str, fleet: &PublicKey) -> Result<List, RevocationError> {
    let (statement, _) = Statement::<Part>::verify(token, fleet, LIST_BYTES_MAX)?;
    let Part { version, revoked } = statement.said;
    if revoked.len() > REVOKED_MAX {
        return Err(RevocationError::TooMany(revoked.len()));
    }
    let mut keys = HashSet::with_capacity(revoked.len());
    for Revoked { key, name, .. } in &revoked {
        let parsed = PublicKey::parse(key, KeyKind::User).map_err(|why| RevocationError::Key(why.to_string()))?;
        NodeName::new(name).map_err(|why| RevocationError::Key(why.to_string()))?;
        keys.insert(parsed);
    }
    Ok(List { version, keys, revoked, token: Arc::from(token) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_795_363_200_000);

    fn revoked(key: PublicKey) -> Revoked {
        Revoked { key: key.to_string(), name: "ship1".to_owned(), at_ms: NOW.0 }
    }

    fn pair(kind: KeyKind) -> KeyPair {
        KeyPair::generate(kind).unwrap()
    }

    #[test]
    fn the_highest_version_holds_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let fleet = pair(KeyKind::Account);
        let (one, two) = (pair(KeyKind::User).public(), pair(KeyKind::User).public());
        let list = Revocations::load(dir.path(), fleet.public()).unwrap();
        assert_eq!((list.version(), list.has(&one)), (0, false));
        let first = Revocations::issue(1, vec![revoked(one)], &fleet, NOW).unwrap();
        let second = Revocations::issue(2, vec![revoked(one), revoked(two)], &fleet, NOW).unwrap();
        assert!(list.apply(&second).unwrap());
        assert!(!list.apply(&first).unwrap(), "an older one takes nothing back");
        for list in [list, Revocations::load(dir.path(), fleet.public()).unwrap()] {
            assert_eq!((list.version(), list.has(&one), list.has(&two)), (2, true, true));
            assert_eq!((&*list.token(), list.revoked().len()), (second.as_str(), 2));
        }
    }

    #[test]
    fn the_list_of_another_fleet_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (fleet, other) = (pair(KeyKind::Account), pair(KeyKind::Account));
        let list = Revocations::load(dir.path(), fleet.public()).unwrap();
        let token = Revocations::issue(9, Vec::new(), &other, NOW).unwrap();
        assert!(matches!(list.apply(&token), Err(RevocationError::Statement(StatementError::Token(_)))));
        assert_eq!(list.version(), 0);
    }

    #[test]
    fn a_list_has_a_limit_that_fits_its_file() {
        let fleet = pair(KeyKind::Account);
        let many = |count| (0..count).map(|_| revoked(pair(KeyKind::User).public())).collect();
        Revocations::issue(1, many(REVOKED_MAX), &fleet, NOW).unwrap();
        let error = Revocations::issue(1, many(REVOKED_MAX + 1), &fleet, NOW).unwrap_err();
        assert!(error.to_string().contains("at most 2048"), "{error}");
    }
}
