//! The temporary folder of a fleet.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Names that are tried before giving up.
const TRIED_MAX: u32 = 1000;

/// How often a folder is tried to be removed: a process that was killed may write until it is gone.
const REMOVE_TRIES: usize = 20;

/// What the name of a fleet's folder begins with.
pub(super) const PREFIX: &str = "steward-";

/// Makes a new folder in `parent` that nobody else can look into: what nodes send each other is nobody's business. Its
/// path is absolute.
pub(super) fn make(parent: &Path, verb: &str) -> anyhow::Result<PathBuf> {
    let parent = std::path::absolute(parent)?;
    fresh(&parent, &format!("{PREFIX}{verb}-{}", std::process::id()))
}

/// Makes a folder of this name in `parent`, with a number behind it if the name is taken.
pub(super) fn fresh(parent: &Path, name: &str) -> anyhow::Result<PathBuf> {
    for number in 1..=TRIED_MAX {
        let path = parent.join(if number == 1 { name.to_owned() } else { format!("{name}-{number}") });
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("{} can't be made", path.display())),
        }
    }
    anyhow::bail!("{} is full of folders with the name {name}", parent.display())
}

/// Removes a folder of ours, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    for _ in 1..REMOVE_TRIES {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
    }
    fs::remove_dir_all(path)
}
