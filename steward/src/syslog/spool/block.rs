//! A block of a segment: the lines that were written at once, checked as a whole.
//!
//! On disk, all integers little endian: `SYB1`, length of what follows the head (u32), checksum (8 bytes), number of the
//! first line (u64), number of lines (u32), length of the cursor (u16), zero (u16); then the cursor in the journal of
//! systemd (text, as of the last line), and for each line the time (u64, milliseconds since 1970), the length of its host
//! (u8), its own length (u32), the host, the line. The checksum is the first 8 bytes of the BLAKE3 hash of all behind it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use protocol::time::Wall;

use crate::syslog::line::Line;

/// Bytes of the head.
pub(super) const HEAD_BYTES: usize = 32;

/// Bytes behind the head at most; a writer takes less than that at once.
pub(super) const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

const MAGIC: [u8; 4] = *b"SYB1";
const CHECKED_FROM: usize = 16;

/// Bytes that a line takes beside its own and those of its host.
const LINE_HEAD_BYTES: usize = 13;

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The number of the first line.
    pub(super) first: u64,
    pub(super) lines: u32,
    /// Bytes behind the head.
    pub(super) body: usize,
    cursor: usize,
    checksum: [u8; 8],
}

impl Head {
    /// The number behind that of the last line.
    pub(super) fn next(&self) -> u64 {
        self.first.saturating_add(u64::from(self.lines))
    }

    /// Bytes of the whole block.
    pub(super) fn bytes(&self) -> u64 {
        (HEAD_BYTES + self.body) as u64
    }
}

/// What is in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) head: Head,
    pub(super) cursor: Option<String>,
    pub(super) lines: Vec<Line>,
}

/// How many bytes a line takes in a block.
pub(super) fn bytes_of(line: &Line) -> u64 {
    (LINE_HEAD_BYTES + line.host.len() + line.bytes.len()) as u64
}

/// The bytes of a block.
pub(super) fn encode(first: u64, cursor: Option<&str>, lines: &[Line]) -> io::Result<Vec<u8>> {
    let cursor = cursor.unwrap_or_default();
    let room: u64 = lines.iter().map(bytes_of).sum();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + cursor.len() + usize::try_from(room).unwrap_or(0));
    let number = |length: usize| u32::try_from(length).map_err(io::Error::other);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&number(lines.len())?.to_le_bytes());
    bytes.extend_from_slice(&u16::try_from(cursor.len()).map_err(io::Error::other)?.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(cursor.as_bytes());
    for line in lines {
        bytes.extend_from_slice(&line.at.0.to_le_bytes());
        bytes.push(u8::try_from(line.host.len()).map_err(io::Error::other)?);
        bytes.extend_from_slice(&number(line.bytes.len())?.to_le_bytes());
        bytes.extend_from_slice(line.host.as_bytes());
        bytes.extend_from_slice(&line.bytes);
    }
    let body = number(bytes.len() - HEAD_BYTES)?.to_le_bytes();
    bytes[4..8].copy_from_slice(&body);
    let checksum = checksum(&bytes[CHECKED_FROM..]);
    bytes[8..CHECKED_FROM].copy_from_slice(&checksum);
    Ok(bytes)
}

/// The head that stands there; none at the end of the file or where there is no head.
pub(super) fn head(file: &File, at: u64, end: u64) -> io::Result<Option<Head>> {
    let mut bytes = [0; HEAD_BYTES];
    if at + HEAD_BYTES as u64 > end {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, at)?;
    let Some(head) = parse(&bytes) else { return Ok(None) };
    Ok((at + head.bytes() <= end).then_some(head))
}

fn parse(bytes: &[u8; HEAD_BYTES]) -> Option<Head> {
    let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let short = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let cursor = usize::from(u16::from_le_bytes(bytes.get(28..30)?.try_into().ok()?));
    let body = usize::try_from(short(4)?).ok()?;
    let is_head = bytes.starts_with(&MAGIC) && body <= BODY_BYTES_MAX && cursor <= body;
    let checksum = bytes.get(8..16)?.try_into().ok()?;
    is_head.then_some(Head { first: long(16)?, lines: short(24)?, body, cursor, checksum })
}

/// All of a block; none if it is not what was written.
pub(super) fn read(file: &File, at: u64, end: u64) -> io::Result<Option<Block>> {
    let Some(head) = head(file, at, end)? else { return Ok(None) };
    let mut bytes = vec![0; HEAD_BYTES + head.body];
    file.read_exact_at(&mut bytes, at)?;
    if checksum(&bytes[CHECKED_FROM..]) != head.checksum {
        return Ok(None);
    }
    Ok(content(&bytes[HEAD_BYTES..], head))
}

fn content(body: &[u8], head: Head) -> Option<Block> {
    let (cursor, mut rest) = body.split_at_checked(head.cursor)?;
    let cursor = std::str::from_utf8(cursor).ok().filter(|text| !text.is_empty()).map(str::to_owned);
    let mut lines = Vec::new();
    for _ in 0..head.lines {
        let (at, behind) = rest.split_first_chunk::<8>()?;
        let ([host], behind) = behind.split_first_chunk::<1>()?;
        let (length, behind) = behind.split_first_chunk::<4>()?;
        let (host, behind) = behind.split_at_checked(usize::from(*host))?;
        let (bytes, behind) = behind.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let host = String::from_utf8_lossy(host).into_owned();
        lines.push(Line { at: Wall(u64::from_le_bytes(*at)), host, bytes: bytes.to_vec() });
        rest = behind;
    }
    Some(Block { head, cursor, lines })
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let mut checksum = [0; 8];
    checksum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    checksum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines() -> impl Strategy<Value = Vec<Line>> {
        let line = (any::<u64>(), "[a-z0-9.:-]{0,20}", proptest::collection::vec(any::<u8>(), 0..300));
        let line = line.prop_map(|(at, host, bytes)| Line { at: Wall(at), host, bytes });
        proptest::collection::vec(line, 0..20)
    }

    proptest! {
        #[test]
        fn a_block_is_read_as_it_was_written_or_not_at_all(
            lines in lines(), first in any::<u64>(), cursor in proptest::option::of("[a-z=;]{1,80}"), flip in any::<u64>(), cut in any::<u64>(),
        ) {
            let file = tempfile::tempfile().unwrap();
            let mut bytes = encode(first, cursor.as_deref(), &lines).unwrap();
            let end = bytes.len() as u64;
            file.write_all_at(&bytes, 7).unwrap();
            let block = read(&file, 7, 7 + end).unwrap().unwrap();
            prop_assert_eq!((block.head.first, block.head.bytes()), (first, end));
            prop_assert_eq!((block.cursor, block.lines), (cursor, lines));
            prop_assert_eq!(read(&file, 7, 7 + cut % end).unwrap(), None);
            let flipped = usize::try_from(flip % end).unwrap();
            bytes[flipped] ^= 1;
            file.write_all_at(&bytes, 7).unwrap();
            prop_assert_eq!(read(&file, 7, 7 + end).unwrap(), None);
        }
    }
}
