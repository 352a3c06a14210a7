//! What a file has that an older version of it at the other side has not. The older one is cut into chunks where its content says so
//! (FastCDC), so that the cuts are in the same places after something was put in or taken out; its list of chunks goes to where the
//! newer one is, and what comes back names chunks, or brings bytes. The hash of the whole decides in the end, so a list that is wrong
//! costs bytes and nothing else.
//!
//! A difference is the line `steward-delta-1`, and then records: `c`, offset and length (8 bytes each, the lowest first) of what is
//! taken from the older version; or `l`, a length (4 bytes), and so many bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};

use fastcdc::v2020::StreamCDC;

/// Shorter files travel whole, in bytes: their list would take as long.
pub(crate) const BYTES_MIN: u64 = 128 * 1024;

/// Chunks that a list has at most; a file with more has no list.
const CHUNKS_MAX: usize = 8192;

/// The smallest chunks, on average, in bytes, and into how many of them a file is to be cut if they are larger.
const AVERAGE_BYTES_MIN: u64 = 8 * 1024;
/// See [`AVERAGE_BYTES_MIN`].
const CHUNKS_WANTED: u64 = 2048;

/// The largest, in bytes.
const AVERAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Bytes of a chunk in a list: 16 of its hash, and 4 of its length.
const ENTRY_BYTES: usize = 20;

/// What a difference begins with.
const MAGIC: &[u8; 16] = b"steward-delta-1\n";

/// Bytes that are taken from the older version at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// The chunks of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List {
    /// The length of a chunk on average, in bytes: a power of two.
    average: u64,
    /// The hash of each, and its length.
    chunks: Vec<([u8; 16], u32)>,
}

impl List {
    /// The list of a file, and the hash of the whole; none if it is too short or too long for one.
    pub(crate) fn of(file: &mut File) -> io::Result<Option<(Self, blake3::Hash)>> {
        let len = file.metadata()?.len();
        if len < BYTES_MIN {
            return Ok(None);
        }
        let average = (len / CHUNKS_WANTED).next_power_of_two().clamp(AVERAGE_BYTES_MIN, AVERAGE_BYTES_MAX);
        file.rewind()?;
        let (mut chunks, mut whole) = (Vec::new(), blake3::Hasher::new());
        for chunk in cut(file, average)? {
            let data = chunk.map_err(io::Error::from)?.data;
            if chunks.len() >= CHUNKS_MAX {
                return Ok(None);
            }
            whole.update(&data);
            chunks.push((short(&data), u32::try_from(data.len()).map_err(io::Error::other)?));
        }
        Ok(Some((Self { average, chunks }, whole.finalize())))
    }

    /// As one word of a message.
    pub(crate) fn text(&self) -> String {
        let mut bytes = Vec::with_capacity(self.chunks.len() * ENTRY_BYTES);
        for (hash, len) in &self.chunks {
            bytes.extend_from_slice(hash);
            bytes.extend_from_slice(&len.to_le_bytes());
        }
        format!("{}:{}", self.average, data_encoding::BASE64_NOPAD.encode(&bytes))
    }

    /// From such a word, or why it is none.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let bad = || "it is no list of chunks".to_owned();
        let (average, chunks) = text.split_once(':').ok_or_else(bad)?;
        let average: u64 = average.parse().map_err(|_| bad())?;
        if !average.is_power_of_two() || !(AVERAGE_BYTES_MIN..=AVERAGE_BYTES_MAX).contains(&average) {
            return Err(bad());
        }
        let bytes = data_encoding::BASE64_NOPAD.decode(chunks.as_bytes()).map_err(|_| bad())?;
        if !bytes.len().is_multiple_of(ENTRY_BYTES) || bytes.len() / ENTRY_BYTES > CHUNKS_MAX {
            return Err(bad());
        }
        let entry = |entry: &[u8]| {
            let (hash, len) = entry.split_at(16);
            Some((hash.try_into().ok()?, u32::from_le_bytes(len.try_into().ok()?)))
        };
        let chunks: Option<Vec<_>> = bytes.chunks_exact(ENTRY_BYTES).map(entry).collect();
        Ok(Self { average, chunks: chunks.ok_or_else(bad)? })
    }
}

/// A file in chunks.
fn cut<R: Read>(source: R, average: u64) -> io::Result<StreamCDC<R>> {
    let average = usize::try_from(average).map_err(io::Error::other)?;
    Ok(StreamCDC::new(source, average / 4, average, average * 4))
}

fn short(data: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(data).as_bytes()[..16]);
    short
}

/// Writes what `source` has beside the version that has this list. Returns the length and the hash of the source.
pub(crate) fn write(source: impl Read, have: &List, to: &mut impl Write) -> io::Result<(u64, blake3::Hash)> {
    let (mut known, mut at) = (BTreeMap::new(), 0);
    for (hash, len) in &have.chunks {
        known.entry(*hash).or_insert((at, u64::from(*len)));
        at += u64::from(*len);
    }
    let (mut total, mut whole, mut copy) = (0, blake3::Hasher::new(), (0, 0));
    to.write_all(MAGIC)?;
    for chunk in cut(source, have.average)? {
        let data = chunk.map_err(io::Error::from)?.data;
        whole.update(&data);
        total += data.len() as u64;
        match known.get(&short(&data)).filter(|(_, len)| *len == data.len() as u64) {
            // What follows what was taken before is taken with it.
            Some((from, len)) if copy.1 > 0 && copy.0 + copy.1 == *from => copy.1 += len,
            Some(other) => {
                flush(&mut copy, to)?;
                copy = *other;
            }
            None => {
                flush(&mut copy, to)?;
                to.write_all(b"l")?;
                to.write_all(&u32::try_from(data.len()).map_err(io::Error::other)?.to_le_bytes())?;
                to.write_all(&data)?;
            }
        }
    }
    flush(&mut copy, to)?;
    Ok((total, whole.finalize()))
}

fn flush(copy: &mut (u64, u64), to: &mut impl Write) -> io::Result<()> {
    let (from, len) = std::mem::take(copy);
    if len > 0 {
        to.write_all(b"c")?;
        to.write_all(&from.to_le_bytes())?;
        to.write_all(&len.to_le_bytes())?;
    }
    Ok(())
}

/// Makes the newer version of the older one and a difference, which comes bit by bit.
#[derive(Debug)]
pub(crate) struct Patch {
    base: File,
    /// What has come of a record that is not whole.
    held: Vec<u8>,
    is_begun: bool,
    /// Bytes that still belong to the last record.
    left: u64,
    /// Bytes that may still be written.
    most: u64,
    hash: blake3::Hasher,
}

impl Patch {
    /// Of this older version; the newer one has so many bytes.
    pub(crate) fn new(base: File, bytes: u64) -> Self {
        Self { base, held: Vec::new(), is_begun: false, left: 0, most: bytes, hash: blake3::Hasher::new() }
    }

    /// Takes more of the difference, and writes what that makes.
    pub(crate) fn push(&mut self, mut bytes: &[u8], to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                let (now, later) = bytes.split_at(take);
                self.put(now, to)?;
                self.left -= take as u64;
                bytes = later;
                continue;
            }
            let wanted = match (self.is_begun, self.held.first()) {
                (false, _) => MAGIC.len(),
                (true, Some(b'c')) => 17,
                (true, Some(_)) => 5,
                (true, None) => 1,
            };
            let take = (wanted - self.held.len()).min(bytes.len());
            let (now, later) = bytes.split_at(take);
            self.held.extend_from_slice(now);
            bytes = later;
            if self.held.len() == wanted && wanted > 1 {
                let record = std::mem::take(&mut self.held);
                self.record(&record, to)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &[u8], to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if !self.is_begun {
            self.is_begun = true;
            return if record == MAGIC { Ok(()) } else { Err(bad("what came is no difference of two files")) };
        }
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).map_err(|_| bad("a record is cut"));
        match record.split_first() {
            Some((b'c', rest)) => {
                let (from, mut left) = (number(&rest[..8])?, number(&rest[8..])?);
                self.base.seek(SeekFrom::Start(from))?;
                let mut buffer = vec![0; BLOCK_BYTES];
                while left > 0 {
                    let most = usize::try_from(left).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
                    let block = buffer.get_mut(..most).unwrap_or_default();
                    self.base.read_exact(block)?;
                    self.put(block, to)?;
                    left -= most as u64;
                }
                Ok(())
            }
            Some((b'l', rest)) => {
                let len = rest.try_into().map(u32::from_le_bytes).map_err(|_| bad("a record is cut"))?;
                self.left = u64::from(len);
                Ok(())
            }
            _ => Err(bad("what came has a record of no known kind")),
        }
    }

    fn put(&mut self, bytes: &[u8], to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let left = self.most.checked_sub(bytes.len() as u64);
        self.most = left.ok_or_else(|| bad("what came makes more than the file that was told of"))?;
        self.hash.update(bytes);
        to(bytes)
    }

    /// The hash of what was written.
    pub(crate) fn hash(&self) -> blake3::Hash {
        self.hash.finalize()
    }
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn base(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// The newer version, made of the older one and the difference, which comes in pieces of some length; and how long that is.
    fn through(old: &[u8], new: &[u8], step: usize) -> (Vec<u8>, usize) {
        let (list, hash) = List::of(&mut base(old)).unwrap().unwrap();
        assert_eq!(hash, blake3::hash(old));
        let list = List::read(&list.text()).unwrap();
        let mut difference = Vec::new();
        let (bytes, hash) = write(new, &list, &mut difference).unwrap();
        assert_eq!((bytes, hash), (new.len() as u64, blake3::hash(new)));
        let (mut patch, mut made) = (Patch::new(base(old), bytes), Vec::new());
        for piece in difference.chunks(step) {
            patch
                .push(piece, &mut |bytes| {
                    made.extend_from_slice(bytes);
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(patch.hash(), hash);
        (made, difference.len())
    }

    #[test]
    fn only_what_is_new_travels_wherever_it_was_put_in() {
        let old = noise(1, 3_000_000);
        for (at, step) in [(0, 1 << 20), (1_500_001, 7), (3_000_000, 4096)] {
            let mut new = old.clone();
            new.splice(at..at, noise(2, 1000));
            new.drain(400_000..400_500);
            let (made, travelled) = through(&old, &new, step);
            assert!(made == new && travelled < 150_000, "{travelled} bytes for a change at {at}");
        }
        let other = noise(3, 200_000);
        assert!(through(&old, &other, 1000).0 == other);
        assert!(through(&old, b"", 1000).0.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_an_error_and_makes_no_more_than_the_file() {
        let mut file = base(&noise(1, 200_000));
        let push = |patch: &mut Patch, bytes: &[u8]| patch.push(bytes, &mut |_| Ok(()));
        let patch = |bytes| Patch::new(file.try_clone().unwrap(), bytes);
        assert!(push(&mut patch(10), b"no difference at all").is_err());
        let records = |kind: &[u8]| [MAGIC.as_slice(), kind].concat();
        assert!(push(&mut patch(10), &records(b"xxxxx")).is_err());
        assert!(push(&mut patch(10), &records(b"l\x0b\0\0\0elevenbytes")).is_err());
        let copy = [b"c".as_slice(), &0_u64.to_le_bytes(), &300_000_u64.to_le_bytes()].concat();
        assert!(push(&mut patch(u64::MAX), &records(&copy)).is_err(), "the older version is shorter");
        for bad in ["", "8192", "8191:", "16:", "8192:x", "8192:AAAA"] {
            assert!(List::read(bad).is_err(), "{bad}");
        }
        file.set_len(BYTES_MIN - 1).unwrap();
        assert_eq!(List::of(&mut file).unwrap(), None);
    }
}
