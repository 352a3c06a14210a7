//! What a file here has beside the version that a node has of it: worked out once to see whether it pays, and once more on its way.

use std::fs::File;
use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::copies::attributes::ChunksView;
use crate::copies::delta::{self, List};

/// Blocks that are made and not taken.
const BLOCKS_MAX: usize = 8;

/// Bytes of a block.
const BLOCK_BYTES: usize = 256 * 1024;

/// A file that is to be told as what it has beside another version.
pub(super) struct Beside {
    have: List,
    /// The hash of the other version.
    pub(super) base: String,
    /// Length and hash of the file.
    pub(super) bytes: u64,
    pub(super) hash: blake3::Hash,
}

impl Beside {
    /// None where the other side has no version of it, or one that has little in common with it.
    pub(super) fn of(view: ChunksView, mut file: File) -> io::Result<Option<Self>> {
        let (Some(base), Some(chunks)) = (view.blake3, view.chunks) else { return Ok(None) };
        let have = List::read(&chunks).map_err(io::Error::other)?;
        let mut counted = Counted(0);
        let (bytes, hash) = delta::write(&mut file, &have, &mut counted)?;
        // It has to be made of the older version there, which takes time as well.
        let pays = counted.0 < bytes / 4 * 3;
        Ok(pays.then_some(Self { have, base, bytes, hash }))
    }

    /// Makes it, block by block.
    pub(super) fn make(&self, file: File) -> mpsc::Receiver<io::Result<Bytes>> {
        let ((to, made), have) = (mpsc::channel(BLOCKS_MAX), self.have.clone());
        tokio::task::spawn_blocking(move || {
            let mut blocks = Blocks { to, block: Vec::with_capacity(BLOCK_BYTES) };
            let written = delta::write(file, &have, &mut blocks).and_then(|_| blocks.flush());
            if let Err(error) = written {
                // Whoever takes them may have gone.
                blocks.to.blocking_send(Err(error)).unwrap_or_default();
            }
        });
        made
    }
}

struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Blocks {
    to: mpsc::Sender<io::Result<Bytes>>,
    block: Vec<u8>,
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.block.extend_from_slice(bytes);
        if self.block.len() >= BLOCK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        let sent = self.to.blocking_send(Ok(Bytes::from(block)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
