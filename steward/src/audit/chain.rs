//! The files of the audit log: opened where the chain ended, appended to, rotated. `audit.jsonl` is written, `audit.jsonl.1`
//! is the newest of the older ones; the chain goes on from file to file.
//!
//! A process that is killed in the middle of a write leaves a line without an end; it is cut off when the next one opens
//! the file, and the chain goes on behind the last whole line. So is what a full disk has taken of a write; then the whole
//! write is tried again. Lines that were written survive whatever happens to the process; with the machine, the last
//! second of them may be lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::line::{self, LINE_BYTES_MAX};
use super::{Head, Record};
use crate::own_file;

/// The file that is written.
const FILE: &str = "audit.jsonl";

/// Bytes after which another file is begun.
pub(super) const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Older files that are kept.
pub(super) const FILES_KEPT: usize = 8;

/// The chain, open at its end.
#[derive(Debug)]
pub(super) struct Chain {
    dir: PathBuf,
    file: File,
    len: u64,
    pub(super) head: Head,
    pub(super) bytes_max: u64,
    /// Whether there may be more in the file than `len`, which could not be cut off.
    is_torn: bool,
    /// Whether something was written that is not synced.
    pub(super) is_dirty: bool,
}

impl Chain {
    /// Opens the log in `dir` at its end. Says how many bytes of a line without an end it has cut off.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, u64)> {
        let mut file = open_end(dir)?;
        let len = file.metadata()?.len();
        let tail = tail(&mut file, len)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let cut = (tail.len() - whole) as u64;
        if cut > 0 {
            file.set_len(len - cut)?;
        }
        let mut head = last_line(&tail[..whole]);
        if len == cut
            && let Ok(mut older) = own_file::read(&numbered(dir, 1))
        {
            let len = older.metadata()?.len();
            head = last_line(&self::tail(&mut older, len)?);
        }
        let (dir, len, bytes_max) = (dir.to_owned(), len - cut, FILE_BYTES_MAX);
        Ok((Self { dir, file, len, head, bytes_max, is_torn: false, is_dirty: false }, cut))
    }

    /// Writes these lines, all of them or none.
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.len)?;
            self.is_torn = false;
        }
        let (mut buffer, mut head) = (Vec::with_capacity(records.len() * 512), self.head.clone());
        for record in records {
            head = line::put(&mut buffer, record, &head)?;
        }
        if self.len > 0 && self.len + buffer.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(&buffer) {
            // What is there of it goes, because all of it is written the next time.
            self.is_torn = self.file.set_len(self.len).is_err();
            return Err(error);
        }
        (self.len, self.head, self.is_dirty) = (self.len + buffer.len() as u64, head, true);
        Ok(())
    }

    /// What was written is on the disk once this returns.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.is_dirty = false;
        self.file.sync_data()
    }

    /// Puts a device that is always full in the place of the file, and the file back.
    #[cfg(test)]
    pub(super) fn fill_disk(&mut self, is_full: bool) {
        self.file = match is_full {
            true => OpenOptions::new().append(true).open("/dev/full").unwrap(),
            false => open_end(&self.dir).unwrap(),
        };
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.sync()?;
        for number in (0..FILES_KEPT).rev() {
            match fs::rename(numbered(&self.dir, number), numbered(&self.dir, number + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        self.file = open_end(&self.dir)?;
        self.len = self.file.metadata()?.len();
        Ok(())
    }
}

/// The files that there are, oldest first.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    (0..=FILES_KEPT).rev().map(|number| numbered(dir, number)).filter(|file| file.exists()).collect()
}

fn numbered(dir: &Path, number: usize) -> PathBuf {
    if number == 0 { dir.join(FILE) } else { dir.join(format!("{FILE}.{number}")) }
}

fn open_end(dir: &Path) -> io::Result<File> {
    own_file::open(&numbered(dir, 0), OpenOptions::new().read(true).append(true).create(true).mode(0o600))
}

/// The end of a file, with the last whole line in it.
fn tail(file: &mut File, len: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(len.saturating_sub(2 * LINE_BYTES_MAX as u64)))?;
    let mut tail = Vec::new();
    file.take(2 * LINE_BYTES_MAX as u64).read_to_end(&mut tail)?;
    Ok(tail)
}

/// What the chain goes on from. A last line that can't be read has a hash all the same, so that the break is found at it
/// and not behind it.
fn last_line(tail: &[u8]) -> Head {
    let lines = tail.strip_suffix(b"\n").unwrap_or(tail);
    if lines.is_empty() {
        return Head::default();
    }
    let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    match line::read(last) {
        Ok(view) => Head { n: view.n, hash: view.hash },
        Err(_) => Head { n: 0, hash: blake3::hash(last).to_hex().to_string() },
    }
}
