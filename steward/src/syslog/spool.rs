//! Lines on disk while they wait to be sent, in the folder `syslog.spool` of the node's directory: bounded, and every line
//! that is dropped is counted.
//!
//! Each line that comes has a number, also one that is dropped; a number that is missing is a line that is missing. So a reader
//! that knows the number of the line that it wants next knows at any time how many it will never get, whatever was killed when.
//!
//! A segment is a file with the number of its first line as its name, and holds [blocks](block). Only the last one is written.
//! Full means that a new block does not fit beside the others: then whole segments go from the old end, or the block does not come in.
//! What a power cut can take is what was not [synced](Spool::sync); readers see nothing of that.

mod block;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::line::Line;
use crate::crash_points;
use crate::engine::little_room;
use crate::own_file;

/// Its folder.
pub(super) const FOLDER: &str = "syslog.spool";

/// The smallest spool, in bytes.
pub(crate) const SPOOL_BYTES_MIN: u64 = 1024 * 1024;

/// A segment is this part of the spool, but has at most [`SEGMENT_BYTES_MAX`].
const SEGMENT_PART: u64 = 16;
/// See [`SEGMENT_PART`].
const SEGMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What goes when the spool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// The oldest lines.
    Oldest,
    /// Those that come.
    Newest,
}

/// Lines on disk.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    bytes_max: u64,
    overflow: Overflow,
    /// Oldest first; the last one is written.
    segments: VecDeque<Segment>,
    last: File,
    /// The number of the next line.
    next: u64,
    /// Lines before this number are durable.
    synced: u64,
    /// Lines before this number are with the reader.
    read: u64,
    /// Lines before this number are not needed any more.
    released: u64,
    /// Where the last block begins if it only says that lines are missing: the next one takes its place.
    gap_at: Option<u64>,
    /// The cursor in the journal of systemd as of the last line.
    journal: Option<String>,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    first: u64,
    /// The number behind that of its last line.
    next: u64,
    bytes: u64,
}

/// Where the last reading ended, so that the next one need not look for it.
#[derive(Debug, Default, Clone, Copy)]
struct Place {
    segment: u64,
    at: u64,
    number: u64,
}

/// What a reader gets at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Portion {
    /// Lines that should stand before these and are not here any more.
    pub(super) lost: u64,
    pub(super) lines: Vec<Line>,
    /// The number behind that of the last line.
    pub(super) next: u64,
}

impl Spool {
    /// Opens it, or makes one. `floor` is a number that no line from now on is below: what its reader has got to.
    pub(super) fn open(dir: &Path, bytes_max: u64, overflow: Overflow, floor: u64) -> io::Result<Self> {
        let folder = dir.join(FOLDER);
        if own_file::make_folder(&folder)? {
            File::open(dir)?.sync_all()?;
        }
        let (mut segments, mut journal) = (VecDeque::new(), None);
        for first in found(&folder)? {
            let (segment, cursor) = look(&folder, first)?;
            journal = cursor.or(journal);
            segments.push_back(segment);
        }
        let next = segments.back().map_or(0, |last: &Segment| last.next).max(floor);
        let path = |first: u64| folder.join(name(first));
        let last = match segments.back() {
            Some(last) => {
                let file = own_file::open(&path(last.first), OpenOptions::new().read(true).write(true))?;
                // What a power cut has left half written.
                file.set_len(last.bytes)?;
                file.sync_all()?;
                file
            }
            None => {
                segments.push_back(Segment { first: next, next, bytes: 0 });
                create(&folder, next)?
            }
        };
        Ok(Self {
            folder,
            bytes_max,
            overflow,
            segments,
            last,
            next,
            synced: next,
            read: floor,
            released: floor,
            gap_at: None,
            journal,
            place: Place::default(),
        })
    }

    /// Where reading goes on in the journal of systemd.
    pub(super) fn journal(&self) -> Option<&str> {
        self.journal.as_deref()
    }

    /// The number of the oldest line.
    pub(super) fn first(&self) -> u64 {
        self.segments.front().map_or(self.next, |segment| segment.first)
    }

    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Lines that are not released, those included that are dropped and not told yet.
    pub(super) fn waiting(&self) -> u64 {
        self.next.saturating_sub(self.released)
    }

    /// Whether the next lines would cost others, or themselves.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() + self.segment_bytes() > self.bytes_max || little_room(&self.folder).is_some()
    }

    fn segment_bytes(&self) -> u64 {
        (self.bytes_max / SEGMENT_PART).min(SEGMENT_BYTES_MAX)
    }

    /// Takes lines in, or drops what the operator has chosen. Says how many lines were dropped, and why these could not be
    /// written if that is the case; then they are among those.
    pub(super) fn append(&mut self, lines: &[Line], journal: Option<String>) -> (u64, io::Result<()>) {
        let bytes: u64 = lines.iter().map(block::bytes_of).sum();
        let mut dropped = self.make_room(bytes);
        self.journal = journal.or_else(|| self.journal.take());
        let first = self.next;
        self.next += lines.len() as u64;
        let fits = self.has_room(bytes);
        let written = if fits { self.write(first, lines).map(drop) } else { Ok(()) };
        if !fits || written.is_err() {
            dropped += lines.len() as u64;
        }
        (dropped, written)
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.bytes() + bytes <= self.bytes_max && little_room(&self.folder).is_none()
    }

    /// Drops old segments until so many bytes fit, if that is what is to be dropped. Says how many lines that were.
    fn make_room(&mut self, bytes: u64) -> u64 {
        let mut dropped = 0;
        while self.overflow == Overflow::Oldest && !self.has_room(bytes) {
            match self.remove_oldest() {
                Ok(Some(segment)) => dropped += segment.next.saturating_sub(segment.first.max(self.read)),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "the oldest lines in the spool of syslog can't be removed");
                    break;
                }
            }
        }
        dropped
    }

    fn remove_oldest(&mut self) -> io::Result<Option<Segment>> {
        let Some(oldest) = self.segments.front().copied().filter(|_| self.segments.len() > 1) else { return Ok(None) };
        match fs::remove_file(self.folder.join(name(oldest.first))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.segments.pop_front();
        Ok(Some(oldest))
    }

    /// Writes a block; says where it begins.
    fn write(&mut self, first: u64, lines: &[Line]) -> io::Result<u64> {
        let limit = self.segment_bytes();
        if self.segments.back().is_none_or(|last| last.bytes >= limit) {
            self.last.sync_data()?;
            self.last = create(&self.folder, first)?;
            self.segments.push_back(Segment { first, next: first, bytes: 0 });
            self.gap_at = None;
        }
        let bytes = block::encode(first, self.journal.as_deref(), lines)?;
        let Some(last) = self.segments.back_mut() else { return Err(io::Error::other("there is no segment")) };
        let at = match self.gap_at.take() {
            // Whoever has read the block that stands there finds the new one in its place.
            Some(at) => {
                self.place = Place::default();
                at
            }
            None => last.bytes,
        };
        if let Err(error) = self.last.write_all_at(&bytes, at) {
            last.bytes = at;
            self.last.set_len(at)?;
            return Err(error);
        }
        last.bytes = at + bytes.len() as u64;
        last.next = first + lines.len() as u64;
        Ok(at)
    }

    /// Makes durable what was taken in, and that lines are missing where they are. Readers see it from then on.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.segments.back().is_some_and(|last| last.next < self.next) {
            match self.write(self.next, &[]) {
                Ok(at) => self.gap_at = Some(at),
                // Known for as long as this process lives; there may be room when it is tried again.
                Err(error) => tracing::debug!(%error, "how many lines were dropped can't be written down"),
            }
        }
        crash_points::sync();
        self.last.sync_data()?;
        self.synced = self.next;
        Ok(())
    }

    /// What comes from this number on, of one day, up to so many lines and about so many bytes. What is missing can only
    /// stand at its beginning.
    pub(super) fn read(&mut self, from: u64, lines_max: usize, bytes_max: usize) -> io::Result<Portion> {
        let portion = self.look_up(from, lines_max, bytes_max)?;
        self.read = self.read.max(portion.next);
        Ok(portion)
    }

    fn look_up(&mut self, from: u64, lines_max: usize, bytes_max: usize) -> io::Result<Portion> {
        let mut portion = Portion { lost: 0, lines: Vec::new(), next: from };
        let mut bytes = 0;
        while portion.next < self.synced {
            let Some((block, after)) = self.block(portion.next)? else { break };
            if block.head.first > portion.next {
                if !portion.lines.is_empty() {
                    return Ok(portion);
                }
                portion.lost += block.head.first.min(self.synced) - portion.next;
                portion.next = block.head.first.min(self.synced);
            }
            let skip = usize::try_from(portion.next - block.head.first).unwrap_or(usize::MAX);
            for line in block.lines.into_iter().skip(skip) {
                let is_other_day = portion.lines.first().is_some_and(|first: &Line| day(first) != day(&line));
                let is_full = portion.lines.len() >= lines_max || bytes + line.bytes.len() > bytes_max;
                if portion.next >= self.synced || is_other_day || (is_full && !portion.lines.is_empty()) {
                    return Ok(portion);
                }
                bytes += line.bytes.len();
                portion.next += 1;
                portion.lines.push(line);
            }
            self.place = Place { number: portion.next, ..after };
        }
        if portion.lines.is_empty() && portion.next < self.synced {
            portion.lost += self.synced - portion.next;
            portion.next = self.synced;
        }
        Ok(portion)
    }

    /// The block with this line, or the first one behind it, and where the next one begins. What can't be read any more is
    /// passed over.
    fn block(&mut self, number: u64) -> io::Result<Option<(block::Block, Place)>> {
        let known = self.place;
        for segment in self.segments.iter().filter(|segment| segment.next > number) {
            let file = match own_file::read(&self.folder.join(name(segment.first))) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let mut at = if (known.segment, known.number) == (segment.first, number) { known.at } else { 0 };
            while let Some(head) = block::head(&file, at, segment.bytes)? {
                if head.next() > number {
                    let Some(block) = block::read(&file, at, segment.bytes)? else { break };
                    let after = Place { segment: segment.first, at: at + head.bytes(), number: head.next() };
                    return Ok(Some((block, after)));
                }
                at += head.bytes();
            }
        }
        Ok(None)
    }

    /// Lines before this number are where they belong: whole segments of them go.
    pub(super) fn release(&mut self, before: u64) -> io::Result<()> {
        self.released = self.released.max(before);
        while self.segments.len() > 1 && self.segments.front().is_some_and(|oldest| oldest.next <= before) {
            self.remove_oldest()?;
        }
        Ok(())
    }
}

/// The day of a line, as a number.
fn day(line: &Line) -> u64 {
    line.at.0 / (24 * 3600 * 1000)
}

fn name(first: u64) -> String {
    format!("{first:016x}.seg")
}

fn create(folder: &Path, first: u64) -> io::Result<File> {
    let options = &mut OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let file = own_file::open(&folder.join(name(first)), options)?;
    File::open(folder)?.sync_all()?;
    Ok(file)
}

/// The numbers of the segments that there are, in order.
fn found(folder: &Path) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok());
        firsts.extend(number);
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// What a segment holds, up to the first block that is not whole, and the last cursor in it.
fn look(folder: &Path, first: u64) -> io::Result<(Segment, Option<String>)> {
    let file = own_file::read(&folder.join(name(first)))?;
    let end = file.metadata()?.len();
    let (mut segment, mut cursor) = (Segment { first, next: first, bytes: 0 }, None);
    while let Some(block) = block::read(&file, segment.bytes, end)? {
        segment.next = block.head.next();
        segment.bytes += block.head.bytes();
        cursor = block.cursor.or(cursor);
    }
    Ok((segment, cursor))
}

#[cfg(test)]
mod tests;
