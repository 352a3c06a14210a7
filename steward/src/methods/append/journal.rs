//! What a log's writer was about to write, remembered across a crash: a ring of fixed slots in one small file.
//!
//! On disk: a header of 64 bytes, then [`SLOTS`] slots of 64 bytes, all integers u64, little endian.
//! * Header: `STWJRNL1`, run, checksum.
//! * Slot: run, number, ticket, inode, length, checksum; the rest is zero.
//!
//! A checksum is the first 8 bytes of the BLAKE3 hash of what stands before it. A slot of another run, or one that does
//! not match its checksum, is empty. A run begins when the journal is forgotten; numbers rise by one within a run, and a
//! record's slot is its number modulo [`SLOTS`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use protocol::event::Ticket;

use crate::own_file;

/// Batches that are remembered; 512 KiB.
pub(super) const SLOTS: u64 = 8192;

const SLOT_BYTES: usize = 64;
const MAGIC: u64 = u64::from_le_bytes(*b"STWJRNL1");

/// A batch that was about to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Its first ticket.
    pub(super) ticket: Ticket,
    /// The file.
    pub(super) inode: u64,
    /// How long the file was before it, in bytes.
    pub(super) len: u64,
}

#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    run: u64,
    next: u64,
}

impl Journal {
    /// Opens the journal, or makes a new one. One that can't be read is begun anew: it only ever removes duplicates.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = own_file::open(path, options.create(true).truncate(false).read(true).write(true).mode(0o600))?;
        let size = (SLOTS + 1) * SLOT_BYTES as u64;
        let mut header = [0; SLOT_BYTES];
        let known = if file.metadata()?.len() == size {
            file.read_exact_at(&mut header, 0)?;
            fields::<2>(&header).filter(|[magic, _]| *magic == MAGIC).map(|[_, run]| run)
        } else {
            None
        };
        let mut journal = Self { file, run: known.unwrap_or(0), next: 0 };
        if known.is_none() {
            // Written out, not left sparse: then a note never has to find room on the disk.
            journal.file.set_len(0)?;
            journal.file.write_all_at(&vec![0; usize::try_from(size).unwrap_or(0)], 0)?;
            journal.forget()?;
            journal.file.sync_all()?;
        }
        journal.next = journal.numbered()?.last().map_or(0, |(number, _)| number.saturating_add(1));
        Ok(journal)
    }

    /// Everything that was noted in this run, oldest first, as far as the ring reaches.
    pub(super) fn records(&self) -> io::Result<Vec<Record>> {
        Ok(self.numbered()?.into_iter().map(|(_, record)| record).collect())
    }

    fn numbered(&self) -> io::Result<Vec<(u64, Record)>> {
        let mut all = vec![0; usize::try_from(SLOTS).unwrap_or(0) * SLOT_BYTES];
        self.file.read_exact_at(&mut all, SLOT_BYTES as u64)?;
        let mut records: Vec<_> = all
            .chunks_exact(SLOT_BYTES)
            // Most slots are empty or of an older run; those need no checksum.
            .filter(|slot| slot.starts_with(&self.run.to_le_bytes()))
            .filter_map(fields::<5>)
            .map(|[_, number, ticket, inode, len]| (number, Record { ticket: Ticket(ticket), inode, len }))
            .collect();
        records.sort_unstable_by_key(|(number, _)| *number);
        Ok(records)
    }

    /// Notes batches, durably.
    pub(super) fn note(&mut self, records: &[Record]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        for record in records {
            let slot = slot([self.run, self.next, record.ticket.0, record.inode, record.len]);
            self.file.write_all_at(&slot, (self.next % SLOTS + 1) * SLOT_BYTES as u64)?;
            self.next += 1;
        }
        crate::crash_points::sync();
        self.file.sync_data()
    }

    /// Begins a new run: nothing of what was noted counts any more. Durable.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        self.run += 1;
        self.next = 0;
        self.file.write_all_at(&slot([MAGIC, self.run]), 0)?;
        self.file.sync_data()
    }
}

fn slot<const N: usize>(fields: [u64; N]) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    for (index, field) in fields.into_iter().enumerate() {
        slot[index * 8..][..8].copy_from_slice(&field.to_le_bytes());
    }
    let checksum = checksum(&slot[..N * 8]);
    slot[N * 8..][..8].copy_from_slice(&checksum);
    slot
}

fn fields<const N: usize>(slot: &[u8]) -> Option<[u64; N]> {
    if slot.get(N * 8..N * 8 + 8)? != checksum(&slot[..N * 8]) {
        return None;
    }
    let mut fields = [0; N];
    for (field, bytes) in fields.iter_mut().zip(slot.chunks_exact(8)) {
        *field = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    Some(fields)
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let mut checksum = [0; 8];
    checksum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    checksum
}
