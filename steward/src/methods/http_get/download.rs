//! A body that becomes a file of the node: written aside, synced, and given its name once it is whole, so that whoever looks
//! finds the old file or the new one. All calls block; they belong on a thread that may.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use protocol::message::MessageId;

use crate::crash_points;
use crate::engine::little_room;
use crate::own_file::{self, Folder};

/// The folder in the node's directory.
pub(super) const FOLDER: &str = "downloads";

/// The name of a file that is not whole yet: hidden, so that it is no name that a message may give.
fn part(name: &str, id: MessageId) -> String {
    format!(".{name}.{id}.part")
}

/// Whether that is the name of one.
fn is_part(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".part"))
}

/// A file that grows. It goes when it is dropped before it is whole.
#[derive(Debug)]
pub(super) struct Download {
    folder: Folder,
    file: File,
    name: String,
    part: String,
    len: u64,
    hash: blake3::Hasher,
    whole: bool,
}

impl Download {
    /// Begins the file `name` in the folder of the node's directory `dir`, for a message.
    pub(super) fn begin(dir: &Path, name: &str, id: MessageId) -> io::Result<Self> {
        let path = dir.join(FOLDER);
        if own_file::make_folder(&path)? {
            File::open(dir)?.sync_all()?;
        }
        let (folder, part) = (Folder::open(&path)?, part(name, id));
        let options = &mut OpenOptions::new();
        let file = folder.file(part.as_ref(), options.write(true).create(true).truncate(true).mode(0o600))?;
        let (name, hash) = (name.to_owned(), blake3::Hasher::new());
        Ok(Self { folder, file, name, part, len: 0, hash, whole: false })
    }

    /// Adds bytes at the end, where the disk has room for them.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(why) = little_room(&self.folder.path()) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes it durable under its name. Says how long it is, and its BLAKE3 hash.
    pub(super) fn finish(mut self) -> io::Result<(u64, blake3::Hash)> {
        crash_points::sync();
        self.file.sync_all()?;
        let folder = self.folder.path();
        fs::rename(folder.join(&self.part), folder.join(&self.name))?;
        self.whole = true;
        self.folder.sync()?;
        Ok((self.len, self.hash.finalize()))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if !self.whole
            && let Err(error) = fs::remove_file(self.folder.path().join(&self.part))
        {
            tracing::debug!(%error, file = self.part, "a half download stays until the next start");
        }
    }
}

/// Removes what is not whole of a process that was killed. Returns how many files that were.
pub(super) fn remove_leftovers(dir: &Path) -> io::Result<usize> {
    let folder = match Folder::open(&dir.join(FOLDER)) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for entry in fs::read_dir(folder.path())? {
        let entry = entry?;
        if is_part(&entry.file_name()) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}
