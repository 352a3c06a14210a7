//! `done/` and `rejected/` in the spool folder: files as they came, each with a note beside it. For people and scripts;
//! nothing here reads them again.
//!
//! A file keeps its name. Where one of that name lies there already, the new one has the time at which it was taken before it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use protocol::time::Wall;

use super::taken::Judged;
use crate::clock;
use crate::crash_points::{Point, reach};
use crate::own_file::Folder;

/// Files on a shelf, notes with them; the oldest go when there are more.
const FILES_MAX: usize = 10_000;

/// Bytes of all files on a shelf; the oldest go when there are more.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What a note is called while it is written.
const ASIDE: &str = ".note.tmp";

/// One of the two folders.
pub(super) struct Shelf {
    folder: Folder,
    shown: PathBuf,
}

impl Shelf {
    /// Opens it; makes it where it is missing.
    pub(super) fn open(spool: &Path, name: &str) -> io::Result<Self> {
        let shown = spool.join(name);
        super::make(&shown)?;
        Ok(Self { folder: Folder::open(&shown)?, shown })
    }

    /// Puts files here, and a note beside each that is durable before the file is moved: where a file is, its note is.
    pub(super) fn put(&self, from: &Folder, files: &[&Judged]) -> io::Result<()> {
        let here = self.folder.path();
        let (mut names, mut moves) = (HashSet::new(), Vec::with_capacity(files.len()));
        for (file, verdict) in files {
            let mut name = file.name.clone();
            if names.contains(&name) || self.has(&name)? {
                let time = clock::rfc3339(Wall(file.id.millis())).replace([':', '.'], "-");
                name = format!("{time}-{:06x}-{name}", file.id.tag());
            }
            let (ending, note) = verdict.note();
            let mut options = OpenOptions::new();
            options.mode(0o600).create(true).write(true).truncate(true);
            let mut aside = self.folder.file(OsStr::new(ASIDE), &mut options)?;
            aside.write_all(note.as_bytes())?;
            aside.sync_data()?;
            fs::rename(here.join(ASIDE), here.join(format!("{name}.{ending}")))?;
            names.insert(name.clone());
            moves.push((file.aside(), name));
        }
        self.folder.sync()?;
        reach(Point::SpoolNoted);
        for (aside, name) in moves {
            fs::rename(from.path().join(aside), here.join(name))?;
        }
        self.folder.sync()?;
        from.sync()?;
        self.prune()
    }

    fn has(&self, name: &str) -> io::Result<bool> {
        match fs::symlink_metadata(self.folder.path().join(name)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Keeps it small. What was put here last goes last.
    fn prune(&self) -> io::Result<()> {
        let mut files: Vec<((i64, i64), PathBuf, u64)> = Vec::new();
        for entry in fs::read_dir(self.folder.path())?.flatten() {
            // What somebody has made here beside files is not ours; what is gone again takes no room.
            if let Ok(meta) = fs::symlink_metadata(entry.path())
                && meta.is_file()
            {
                // When it was put here: a file that is moved keeps the time at which it was last written.
                files.push(((meta.ctime(), meta.ctime_nsec()), entry.path(), meta.len()));
            }
        }
        let mut bytes: u64 = files.iter().map(|(.., length)| length).sum();
        if files.len() <= FILES_MAX && bytes <= BYTES_MAX {
            return Ok(());
        }
        files.sort();
        let (all, mut gone) = (files.len(), 0);
        for (_, path, length) in files {
            if all - gone <= FILES_MAX && bytes <= BYTES_MAX {
                break;
            }
            fs::remove_file(path)?;
            (bytes, gone) = (bytes - length, gone + 1);
        }
        tracing::warn!(files = gone, folder = %self.shown.display(), "the oldest files that were put away are removed");
        Ok(())
    }
}
