//! What was about to be appended, and what was appended last, remembered across a crash: one small file with two slots, of which
//! one is always whole.
//!
//! A slot is [`SLOT_BYTES`] long: the first 16 bytes of the BLAKE3 hash of what follows, its length (u32, little endian), and a record
//! as JSON. Records have rising numbers, and each goes into the slot of the older one. A slot that does not match its hash is empty.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use protocol::message::MessageId;
use serde::{Deserialize, Serialize};

use crate::{crash_points, own_file};

/// Bytes of a slot: a path, and ids of messages, have room in it.
const SLOT_BYTES: usize = 64 * 1024;

/// Bytes before a record.
const HEAD_BYTES: usize = 20;

/// Messages that are known to be appended, whatever the store says: many more than can be on their way to their ends at once.
const RECENT_MAX: usize = 512;

/// What was about to be appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    /// The message, as its number.
    pub(super) id: String,
    /// The file, from the node's directory on.
    pub(super) file: String,
    /// Which file it is.
    pub(super) inode: u64,
    /// How long it was before.
    pub(super) len: u64,
    /// How much comes behind that.
    pub(super) bytes: u64,
    /// The BLAKE3 hash of it.
    pub(super) hash: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    number: u64,
    /// Nothing where what was about to be appended was taken back.
    about: Option<About>,
    /// Messages that were appended before that, oldest first.
    recent: VecDeque<String>,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    record: Record,
}

impl Journal {
    /// Opens it, or makes a new one.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let options = &mut OpenOptions::new();
        let file = own_file::open(path, options.create(true).truncate(false).read(true).write(true).mode(0o600))?;
        if file.metadata()?.len() < 2 * SLOT_BYTES as u64 {
            // Written out, not left sparse: then a record never has to find room on the disk.
            file.write_all_at(&vec![0; 2 * SLOT_BYTES], 0)?;
            file.sync_all()?;
        }
        let (one, other) = (read(&file, 0)?, read(&file, 1)?);
        let record = [one, other].into_iter().flatten().max_by_key(|record| record.number).unwrap_or_default();
        Ok(Self { file, record })
    }

    /// What was noted last, if it was not taken back: whoever finds it at the start finds out whether it is whole.
    pub(super) fn about(&self) -> Option<&About> {
        self.record.about.as_ref()
    }

    /// Whether this message was appended.
    pub(super) fn has(&self, id: MessageId) -> bool {
        let id = id.to_string();
        self.record.about.iter().map(|about| &about.id).chain(&self.record.recent).any(|known| *known == id)
    }

    /// Notes what is about to be appended, durably; what was noted before is appended.
    pub(super) fn note(&mut self, about: About) -> io::Result<()> {
        let mut next = self.record.clone();
        next.recent.extend(next.about.take().map(|about| about.id));
        next.recent.drain(..next.recent.len().saturating_sub(RECENT_MAX));
        self.write(Record { number: next.number + 1, about: Some(about), ..next })
    }

    /// Takes back what was noted last, durably: nothing of it is in its file.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        let next = self.record.clone();
        self.write(Record { number: next.number + 1, about: None, ..next })
    }

    fn write(&mut self, record: Record) -> io::Result<()> {
        let text = serde_json::to_vec(&record)?;
        if text.len() + HEAD_BYTES > SLOT_BYTES {
            return Err(io::Error::other("a record of the journal of tails is too long"));
        }
        let len = u32::try_from(text.len()).map_err(io::Error::other)?.to_le_bytes();
        let hash = blake3::hash(&text);
        let mut slot = Vec::with_capacity(text.len() + HEAD_BYTES);
        slot.extend_from_slice(hash.as_bytes().get(..16).unwrap_or_default());
        slot.extend_from_slice(&len);
        slot.extend_from_slice(&text);
        self.file.write_all_at(&slot, record.number % 2 * SLOT_BYTES as u64)?;
        crash_points::sync();
        self.file.sync_data()?;
        self.record = record;
        Ok(())
    }
}

fn read(file: &File, slot: u64) -> io::Result<Option<Record>> {
    let mut bytes = vec![0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_BYTES as u64)?;
    let (head, rest) = bytes.split_at(HEAD_BYTES);
    let (hash, len) = head.split_at(16);
    let len = u32::from_le_bytes(len.try_into().unwrap_or_default());
    let Some(text) = rest.get(..usize::try_from(len).unwrap_or(usize::MAX)).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let is_whole = blake3::hash(text).as_bytes().get(..16) == Some(hash);
    Ok(serde_json::from_slice(text).ok().filter(|_| is_whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(number: u128) -> About {
        let (file, hash) = ("tails/a/b".to_owned(), "00".to_owned());
        About { id: MessageId(number).to_string(), file, inode: 1, len: 2, bytes: 3, hash }
    }

    #[test]
    fn what_was_noted_is_known_after_a_crash_also_when_the_last_note_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.about(), None);
        for number in 1..=3 {
            journal.note(about(number)).unwrap();
        }
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.about(), Some(&about(3)));
        assert!((1..=3).all(|number| journal.has(MessageId(number))) && !journal.has(MessageId(4)));
        // The third one lies in the slot of odd numbers.
        journal.file.write_all_at(b"torn", SLOT_BYTES as u64 + 40).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.about(), Some(&about(2)));
        journal.take_back().unwrap();
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.about(), None);
        assert!(journal.has(MessageId(1)) && !journal.has(MessageId(2)));
    }

    #[test]
    fn it_remembers_many_and_not_all() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(&dir.path().join("journal")).unwrap();
        for number in 1..=RECENT_MAX as u128 + 10 {
            journal.note(about(number)).unwrap();
        }
        assert!(!journal.has(MessageId(9)) && journal.has(MessageId(10)));
    }
}
