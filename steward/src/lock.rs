//! One process owns a node's directory, and one runs the broker of a fleet. The lock dies with the process, whatever kills it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use protocol::name::NodeName;
use rustix::fs::{FlockOperation, flock};

use crate::own_file;

/// The file that is locked. It says who holds it, and whose directory it is.
const FILE: &str = "steward.lock";

/// The file in the folder of a fleet whose broker runs.
const BROKER_FILE: &str = "broker.lock";

/// How often the lock is tried, and the pause between: a second in all.
const TRIES: u32 = 20;
/// See [`TRIES`].
const TRY_PAUSE: Duration = Duration::from_millis(50);

/// Held as long as this lives.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes `dir` for `name`, or says which process has it, or which node it belongs to.
    pub(crate) fn take(dir: &Path, name: &NodeName) -> anyhow::Result<Self> {
        let path = dir.join(FILE);
        let mut options = OpenOptions::new();
        let open = own_file::open(&path, options.read(true).write(true).create(true).truncate(false).mode(0o600));
        let mut file = open.with_context(|| format!("{} can't be opened", path.display()))?;
        let mut text = String::new();
        let is_held = !locked(&file);
        if !is_held && !is_still_there(&file, &path) {
            bail!("{} was removed while it was taken; start again", path.display());
        }
        if is_held {
            let holder = file.read_to_string(&mut text).map(|_| text.trim().replace('\n', ", "));
            bail!(
                "another steward runs in {} ({}); stop it, or give this one a directory of its own with --dir",
                dir.display(),
                holder.unwrap_or_default()
            );
        }
        file.read_to_string(&mut text).with_context(|| format!("{} can't be read", path.display()))?;
        let owner = text.lines().find_map(|line| line.strip_prefix("node "));
        if let Some(owner) = owner.filter(|owner| *owner != name.as_str()) {
            bail!(
                "{} is the directory of node {owner}, and its messages are sent in that name; start --node={owner}, or \
                 give {name} a directory of its own with --dir",
                dir.display()
            );
        }
        let text = format!("node {name}\npid {}\n", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()))?;
        Ok(Self { _file: file })
    }
}

/// Held by the one process that runs the broker of a fleet, as long as this lives.
#[derive(Debug)]
pub(crate) struct BrokerLock {
    _file: File,
}

impl BrokerLock {
    /// Takes the folder of a fleet, or says which process runs its broker. Two of them would write into the same files of the server.
    pub(crate) fn take(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(BROKER_FILE);
        let mut options = OpenOptions::new();
        let open = own_file::open(&path, options.read(true).write(true).create(true).truncate(false).mode(0o600));
        let mut file = open.with_context(|| format!("{} can't be opened", path.display()))?;
        if !locked(&file) {
            let mut text = String::new();
            let holder = file.read_to_string(&mut text).map(|_| text.trim().to_owned()).unwrap_or_default();
            bail!(
                "the broker of the fleet in {} runs already ({holder}: `steward broker` or `steward up`); stop that one, or leave it be: \
                 `steward run` starts the node alone",
                folder.display()
            );
        }
        let text = format!("pid {}\n", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()))?;
        Ok(Self { _file: file })
    }
}

/// Tries for a while: a process that was just killed holds the lock until the kernel has cleared it away.
fn locked(file: &File) -> bool {
    for _ in 0..TRIES {
        if flock(file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return true;
        }
        std::thread::park_timeout(TRY_PAUSE);
    }
    false
}

/// Whether the file is still the one under its name: a lock on a file that was deleted keeps nobody away.
fn is_still_there(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(named)) = (file.metadata(), path.metadata()) else { return false };
    (held.dev(), held.ino()) == (named.dev(), named.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_process_and_one_node() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let (ship1, ship2) = (NodeName::new("ship1")?, NodeName::new("ship2")?);
        let held = DirLock::take(dir.path(), &ship1)?;
        let error = DirLock::take(dir.path(), &ship1).expect_err("it is held");
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        drop(held);
        let error = DirLock::take(dir.path(), &ship2).expect_err("it is ship1's");
        assert!(error.to_string().contains("directory of node ship1"), "{error}");
        DirLock::take(dir.path(), &ship1)?;
        Ok(())
    }

    #[test]
    fn a_lock_on_a_file_that_was_deleted_is_none() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join(FILE);
        let file = File::create(&path)?;
        assert!(is_still_there(&file, &path));
        std::fs::remove_file(&path)?;
        assert!(!is_still_there(&file, &path));
        let _another = File::create(&path)?;
        assert!(!is_still_there(&file, &path));
        Ok(())
    }

    /// What a node leaves behind that is killed in the very moment in which it starts a command: the new process has the
    /// lock until it runs its own program.
    #[test]
    fn a_lock_that_goes_in_a_moment_is_waited_for() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let ship1 = NodeName::new("ship1")?;
        let held = DirLock::take(dir.path(), &ship1)?;
        let mut child = std::process::Command::new("sleep").arg("0.1").stdin(held._file.try_clone()?).spawn()?;
        drop(held);
        DirLock::take(dir.path(), &ship1)?;
        child.wait()?;
        Ok(())
    }
}
