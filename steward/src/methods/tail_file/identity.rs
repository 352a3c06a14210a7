//! Which file it is, whatever it is called: by its inode and when that was made, and by the first bytes that were read of it.
//! The one survives a rename, the other tells a file that was emptied and written anew from one that has grown.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

/// Bytes at the beginning of a file by which it is known.
pub(super) const PRINT_BYTES: usize = 1024;

/// Bytes that are compared to tell whether one file is a copy of another.
const COPY_BYTES: usize = 64 * 1024;

/// Endings of files that were compressed, and hold no lines any more.
const COMPRESSED: [&str; 7] = [".gz", ".xz", ".zst", ".bz2", ".lz4", ".Z", ".zip"];

/// A file of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    dev: u64,
    ino: u64,
    /// When its inode was made, in nanoseconds since 1970; 0 where the file system does not say.
    born: u64,
}

impl Identity {
    pub(super) fn of(meta: &Metadata) -> Self {
        let born = meta.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        Self { dev: meta.dev(), ino: meta.ino(), born }
    }

    /// Whether it is the same file. The number of a device may change when a machine starts again; when an inode was made does not.
    pub(super) fn is(&self, other: &Self) -> bool {
        let known = self.born != 0 && other.born != 0;
        self.ino == other.ino && if known { self.born == other.born } else { self.dev == other.dev }
    }
}

/// The first bytes of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Print {
    /// How many of them.
    pub(super) len: u64,
    hash: String,
}

impl Print {
    /// Of the first bytes, of which `len` are settled.
    pub(super) fn of(file: &File, len: u64) -> io::Result<Self> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(PRINT_BYTES).min(PRINT_BYTES)];
        let read = fill(file, &mut bytes)?;
        bytes.truncate(read);
        let hash = data_encoding::HEXLOWER.encode(blake3::hash(&bytes).as_bytes().get(..8).unwrap_or_default());
        Ok(Self { len: bytes.len() as u64, hash })
    }

    /// Whether this is how the file begins.
    pub(super) fn is_of(&self, file: &File) -> io::Result<bool> {
        Ok(self.len == 0 || Self::of(file, self.len)? == *self)
    }
}

/// Whether one of two files was copied from the other, as far as their beginnings tell. Of short ones they tell too little.
pub(super) fn is_copy(one: &File, other: &File) -> io::Result<bool> {
    let (mut a, mut b) = (vec![0; COPY_BYTES], vec![0; COPY_BYTES]);
    let both = fill(one, &mut a)?.min(fill(other, &mut b)?);
    Ok(both >= PRINT_BYTES && a.get(..both) == b.get(..both))
}

/// Reads from the beginning on until the buffer is full or the file ends.
fn fill(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Opens a regular file to be read; a link only where `links` says so. A pipe is never waited for.
pub(super) fn open(path: &Path, links: bool) -> io::Result<File> {
    let flags = if links { OFlags::NONBLOCK } else { OFlags::NONBLOCK | OFlags::NOFOLLOW };
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("is no regular file")),
    }
}

/// Whether a file of the first name may be called by the second one once it was rotated: `x.log.1`, `x.log-20261123`.
pub(super) fn is_rotated(base: &str, name: &str) -> bool {
    let behind = name.strip_prefix(base).is_some_and(|behind| behind.len() > 1 && behind.starts_with(['.', '-', '_']));
    behind && !COMPRESSED.iter().any(|ending| name.ends_with(ending))
}

/// The number that a rotated file has, the younger the smaller; none if it is called otherwise.
pub(super) fn number(base: &str, name: &str) -> Option<u32> {
    // A date is longer.
    name.strip_prefix(base)?.strip_prefix('.').filter(|digits| digits.len() <= 4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_known_by_what_it_is_and_not_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("x"), dir.path().join("x.1"));
        fs::write(&path, "first line\nsecond line\n").unwrap();
        let file = open(&path, false).unwrap();
        let (identity, print) = (Identity::of(&file.metadata().unwrap()), Print::of(&file, 11).unwrap());
        assert_eq!(print.len, 11);
        fs::rename(&path, &moved).unwrap();
        assert!(identity.is(&Identity::of(&fs::symlink_metadata(&moved).unwrap())));
        fs::write(&path, "first line\nthird line\n").unwrap();
        assert!(!identity.is(&Identity::of(&fs::metadata(&path).unwrap())));
        assert!(print.is_of(&open(&path, false).unwrap()).unwrap(), "as far as it was read");
        assert!(print.is_of(&file).unwrap());
        fs::write(&moved, "another line\nthird line\n").unwrap();
        assert!(!print.is_of(&file).unwrap());
        fs::write(&moved, "").unwrap();
        assert!(!print.is_of(&file).unwrap());
        let other = Identity { dev: identity.dev + 1, ..identity };
        assert!(other.is(&identity) || identity.born == 0);
        assert!(!Identity { born: identity.born + 1, ..identity }.is(&identity) || identity.born == 0);
        assert!(!Identity { born: 0, ..other }.is(&identity));
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(open(&link, false).is_err() && open(&link, true).is_ok());
        assert!(open(dir.path(), true).is_err());
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert!(open(&pipe, true).is_err());
    }

    #[test]
    fn rotated_files_are_told_by_their_names() {
        for (name, rotated, numbered) in [
            ("x.log.1", true, Some(1)),
            ("x.log.10", true, Some(10)),
            ("x.log-20261123", true, None),
            ("x.log.20261123", true, None),
            ("x.log.1.gz", false, None),
            ("x.log", false, None),
            ("x.log2", false, None),
            ("y.log.1", false, None),
        ] {
            assert_eq!((is_rotated("x.log", name), number("x.log", name)), (rotated, numbered), "{name}");
        }
    }
}
