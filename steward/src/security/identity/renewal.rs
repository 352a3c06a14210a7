//! Two identities of one node, while it renews its keys: the one that holds, and beside it the next one or the previous one.
//!
//! | beside `identity/` | what it means |
//! | --- | --- |
//! | `identity.next/` with keys | they were made, and the fleet does not vouch for them yet |
//! | `identity.next/`, whole | the fleet vouches for them; they are not in use |
//! | `identity.previous/` | the new ones are in use, and the fleet has not seen that yet; with the old ones the node could get in again |
//!
//! The two change places in one step, so `identity/` is whole at every moment. Which of two is the newer one is said by their
//! certificates, so a name that a killed process did not come to change is changed by the next one.

use std::fs::{self, File};
use std::path::Path;

use super::{FOLDER, Identity, IdentityError, NodeKeys, exchange, remove_folder};
use crate::crash_points::{Point, reach};
use crate::security::secret_file::{self, SecretFileError};

/// The folder of the next identity.
const NEXT: &str = "identity.next";

/// The folder of the previous identity.
const PREVIOUS: &str = "identity.previous";

/// The file that says which key the next ones are to take the place of; keys without it are not whole.
const RENEWS: &str = "renews";

/// How far a renewal is, by what lies on the disk.
#[derive(Debug)]
pub(crate) enum Stage {
    /// There is none under way.
    Idle,
    /// The keys are made.
    Made(Box<NodeKeys>),
    /// The fleet vouches for them.
    Certified,
    /// They are in use, and the previous ones are kept.
    InUse,
}

/// How far the renewal of the identity `own`, the one that holds in `dir`, is. Puts in order what a killed process has left.
pub(crate) fn stage(dir: &Path, own: &Identity) -> Result<Stage, IdentityError> {
    match read(dir, NEXT, own)? {
        Lies::Newer => return Ok(Stage::Certified),
        // The two have changed places, and not their names.
        Lies::Older => rename(dir, NEXT, PREVIOUS)?,
        Lies::Keys(keys) => return Ok(Stage::Made(keys)),
        Lies::Rest => remove(dir, NEXT)?,
        Lies::Nothing => {}
    }
    match read(dir, PREVIOUS, own)? {
        Lies::Newer => {
            rename(dir, PREVIOUS, NEXT)?;
            Ok(Stage::Certified)
        }
        Lies::Older => Ok(Stage::InUse),
        Lies::Keys(_) | Lies::Rest => {
            remove(dir, PREVIOUS)?;
            Ok(Stage::Idle)
        }
        Lies::Nothing => Ok(Stage::Idle),
    }
}

/// The other identity, the next one or the previous one, if it lies there as a whole.
pub(crate) fn beside(dir: &Path) -> Result<Option<Identity>, IdentityError> {
    for name in [NEXT, PREVIOUS] {
        match Identity::load_from(&dir.join(name)) {
            Ok(None) | Err(IdentityError::Incomplete { .. }) => {}
            other => return other,
        }
    }
    Ok(None)
}

/// Makes new keys, durably.
pub(crate) fn make(dir: &Path, own: &Identity) -> Result<(), IdentityError> {
    remove(dir, NEXT)?;
    let folder = dir.join(NEXT);
    NodeKeys::generate()?.save(&folder)?;
    secret_file::write(&folder.join(RENEWS), &own.keys.node.public().to_string())?;
    reach(Point::RenewalBegun);
    Ok(())
}

/// Keeps what the fleet says of the new keys, with them.
pub(crate) fn keep(dir: &Path, next: &Identity) -> Result<(), IdentityError> {
    next.save_as(dir, NEXT)?;
    reach(Point::RenewalCertified);
    Ok(())
}

/// Has the next identity take the place of the one that holds, which is kept. Answers with the new one.
pub(crate) fn switch(dir: &Path) -> Result<Identity, IdentityError> {
    swap(dir, NEXT)?;
    reach(Point::RenewalSwitched);
    rename(dir, NEXT, PREVIOUS)?;
    load(dir)
}

/// Has the previous identity hold again; the other one is the next one again. Answers with the one that holds.
pub(crate) fn fall_back(dir: &Path) -> Result<Identity, IdentityError> {
    swap(dir, PREVIOUS)?;
    rename(dir, PREVIOUS, NEXT)?;
    load(dir)
}

/// Removes the previous identity, whose keys are of no use any more.
pub(crate) fn settle(dir: &Path) -> Result<(), IdentityError> {
    reach(Point::RenewalSettled);
    remove(dir, PREVIOUS)
}

/// What lies in a folder beside the identity that holds.
enum Lies {
    Nothing,
    /// An identity that is newer than the one that holds.
    Newer,
    /// One that is older.
    Older,
    /// Keys that are to take the place of those that hold.
    Keys(Box<NodeKeys>),
    /// Something that was not finished, or is about another identity.
    Rest,
}

fn read(dir: &Path, name: &str, own: &Identity) -> Result<Lies, IdentityError> {
    let folder = dir.join(name);
    match Identity::load_from(&folder) {
        Ok(None) => return Ok(Lies::Nothing),
        Ok(Some(identity)) if identity.certificate.serial > own.certificate.serial => {
            return Ok(Lies::Newer);
        }
        Ok(Some(_)) => return Ok(Lies::Older),
        Err(IdentityError::Incomplete { .. }) => {}
        Err(error) => return Err(error),
    }
    match secret_file::read(&folder.join(RENEWS)) {
        Ok(key) if *key == own.keys.node.public().to_string() => Ok(Lies::Keys(Box::new(NodeKeys::load(&folder)?))),
        Ok(_) | Err(SecretFileError::Missing { .. }) => Ok(Lies::Rest),
        Err(error) => Err(error.into()),
    }
}

fn load(dir: &Path) -> Result<Identity, IdentityError> {
    Identity::load(dir)?.ok_or_else(|| {
        let folder = Identity::folder(dir);
        IdentityError::Incomplete { path: folder.clone(), folder }
    })
}

fn swap(dir: &Path, other: &str) -> Result<(), IdentityError> {
    let (folder, other) = (dir.join(FOLDER), dir.join(other));
    let swapped = exchange(&other, &folder).and_then(|()| File::open(dir)?.sync_all());
    swapped.map_err(|error| IdentityError::Place { path: folder, error })
}

fn rename(dir: &Path, from: &str, to: &str) -> Result<(), IdentityError> {
    remove(dir, to)?;
    let path = dir.join(to);
    let renamed = fs::rename(dir.join(from), &path).and_then(|()| File::open(dir)?.sync_all());
    renamed.map_err(|error| IdentityError::Place { path, error })
}

fn remove(dir: &Path, name: &str) -> Result<(), IdentityError> {
    let path = dir.join(name);
    remove_folder(&path).map_err(|error| IdentityError::Place { path, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::trust::fleet_of_tests::TestFleet;

    /// A node at some point of a renewal, its first identity and its next one.
    fn node() -> (tempfile::TempDir, Identity, Identity) {
        let (dir, fleet) = (tempfile::tempdir().unwrap(), TestFleet::new());
        let first = fleet.identity("ship1", 1);
        let next = fleet.renewed(&first, 2);
        first.save(dir.path()).unwrap();
        (dir, first, next)
    }

    /// Where a process that starts now is: the serial of the identity that holds, and the stage.
    fn started(dir: &Path) -> (u64, &'static str) {
        let own = load(dir).unwrap();
        let name = |stage: Stage| match stage {
            Stage::Idle => "idle",
            Stage::Made(_) => "made",
            Stage::Certified => "certified",
            Stage::InUse => "in use",
        };
        let first = name(stage(dir, &own).unwrap());
        // Whatever had to be put in order is in order now.
        assert_eq!(name(stage(dir, &own).unwrap()), first);
        assert_eq!(load(dir).unwrap().certificate.serial, own.certificate.serial);
        (own.certificate.serial, first)
    }

    #[test]
    fn a_process_that_starts_goes_on_where_the_last_one_was_killed() {
        let (dir, first, next) = node();
        let dir = dir.path();
        assert_eq!(started(dir), (1, "idle"));
        // Killed while the keys were written.
        next.keys.save(&dir.join(NEXT)).unwrap();
        assert_eq!(started(dir), (1, "idle"));
        assert!(!dir.join(NEXT).exists());
        make(dir, &first).unwrap();
        let Stage::Made(keys) = stage(dir, &first).unwrap() else { panic!("no keys were made") };
        let Stage::Made(again) = stage(dir, &first).unwrap() else { panic!("the keys are gone") };
        assert_eq!(keys.node.public(), again.node.public());
        // Killed while the certificate was written.
        secret_file::make_folder(&dir.join("identity.next.new")).unwrap();
        assert_eq!(started(dir), (1, "made"));
        keep(dir, &next).unwrap();
        assert_eq!(started(dir), (1, "certified"));
        // Killed between the change of places and the change of names.
        swap(dir, NEXT).unwrap();
        assert_eq!(started(dir), (2, "in use"));
        assert_eq!(beside(dir).unwrap().unwrap().certificate, first.certificate);
        // The same on the way back.
        swap(dir, PREVIOUS).unwrap();
        assert_eq!(started(dir), (1, "certified"));
        assert_eq!(switch(dir).unwrap().certificate, next.certificate);
        assert_eq!(fall_back(dir).unwrap().certificate, first.certificate);
        assert_eq!(started(dir), (1, "certified"));
        assert_eq!(switch(dir).unwrap().certificate, next.certificate);
        // Killed while the old keys were removed.
        fs::remove_file(dir.join(PREVIOUS).join("node.nk")).unwrap();
        assert_eq!(started(dir), (2, "idle"));
        assert!(beside(dir).unwrap().is_none() && !dir.join(PREVIOUS).exists());
    }

    #[test]
    fn keys_that_were_made_for_another_identity_are_not_used() {
        let (dir, first, next) = node();
        make(dir.path(), &first).unwrap();
        next.save(dir.path()).unwrap();
        assert_eq!(started(dir.path()), (2, "idle"));
    }
}
