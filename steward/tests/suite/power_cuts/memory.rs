//! What lies in the memory of a process that is being recorded.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::syscalls::Bytes;

/// The longest path, in bytes.
const PATH_BYTES_MAX: u64 = 4096;

/// So much is read at once of what ends with a zero. A piece never crosses the end of a page, behind which there may be
/// nothing.
const PIECE_BYTES: u64 = 256;

/// The memory of a process, until it runs another program.
pub(super) struct Memory(File);

impl Memory {
    pub(super) fn of(process: i32) -> io::Result<Self> {
        File::open(format!("/proc/{process}/mem")).map(Self)
    }

    fn read(&self, address: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.0.read_exact_at(&mut bytes, address)?;
        Ok(bytes)
    }

    /// Numbers, one after the other.
    fn numbers(&self, address: u64, count: u64) -> io::Result<Vec<u64>> {
        let bytes = self.read(address, count * 8)?;
        Ok(bytes.chunks_exact(8).map(|eight| u64::from_le_bytes(eight.try_into().unwrap())).collect())
    }

    /// A text that ends with a zero.
    pub(super) fn text(&self, address: u64) -> io::Result<String> {
        let mut text = Vec::new();
        while (text.len() as u64) < PATH_BYTES_MAX {
            let at = address + text.len() as u64;
            let piece = self.read(at, PIECE_BYTES - at % PIECE_BYTES)?;
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return String::from_utf8(text).map_err(io::Error::other);
            }
            text.extend(piece);
        }
        Err(io::Error::other("a path without an end"))
    }

    /// The bytes of a write.
    pub(super) fn bytes(&self, bytes: Bytes) -> io::Result<Vec<u8>> {
        let (address, count) = match bytes {
            Bytes::At { address, len } => return self.read(address, len),
            Bytes::Vector { address, count } => (address, count),
            Bytes::Message(header) => {
                let header = self.numbers(header, 4)?;
                (header[2], header[3])
            }
        };
        let mut all = Vec::new();
        for part in self.numbers(address, count * 2)?.chunks_exact(2) {
            all.extend(self.read(part[0], part[1])?);
        }
        Ok(all)
    }

    /// The path of a socket's address; none if it has no path.
    pub(super) fn socket_path(&self, address: u64, len: u64) -> io::Result<Option<String>> {
        let bytes = self.read(address, len)?;
        let [low, high, path @ ..] = bytes.as_slice() else { return Ok(None) };
        let is_unix = i32::from(u16::from_le_bytes([*low, *high])) == nix::libc::AF_UNIX;
        let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok((is_unix && !path.is_empty()).then(|| String::from_utf8_lossy(path).into_owned()))
    }
}
