//! What commands print: slices of two files that the seed has filled, so that every byte that comes back is known.

use std::io;
use std::path::{Path, PathBuf};

use crate::dice::Dice;

/// Bytes of each file.
const BYTES: usize = 1024 * 1024;

/// Two files with known content.
#[derive(Debug)]
pub(crate) struct Payload {
    binary: PathBuf,
    text: PathBuf,
    bytes: Vec<u8>,
    letters: Vec<u8>,
}

/// A part of one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Of the file with text, or of the one with bytes that are no text.
    pub(crate) text: bool,
    /// Where it begins.
    pub(crate) offset: usize,
    /// Its bytes.
    pub(crate) len: usize,
}

impl Payload {
    /// Writes the files into a folder.
    pub(crate) fn make(dir: &Path, dice: &mut Dice) -> io::Result<Self> {
        let bytes: Vec<u8> = (0..BYTES).map(|_| dice.throw(256) as u8).collect();
        let letters: Vec<u8> =
            (0..BYTES).map(|at| if at % 61 == 60 { b'\n' } else { b'a' + dice.throw(26) as u8 }).collect();
        let (binary, text) = (dir.join("payload.bin"), dir.join("payload.txt"));
        std::fs::write(&binary, &bytes)?;
        std::fs::write(&text, &letters)?;
        Ok(Self { binary, text, bytes, letters })
    }

    /// A line of shell that prints this part.
    pub(crate) fn print(&self, slice: Slice) -> String {
        let file = if slice.text { &self.text } else { &self.binary };
        format!("tail -c +{} {} | head -c {}", slice.offset + 1, file.display(), slice.len)
    }

    /// What that prints.
    pub(crate) fn bytes(&self, slice: Slice) -> &[u8] {
        let all = if slice.text { &self.letters } else { &self.bytes };
        &all[slice.offset..slice.offset + slice.len]
    }
}

impl Slice {
    /// The same in so many parts that are about as long; fewer where it is short.
    pub(crate) fn parts(self, parts: usize) -> impl Iterator<Item = Self> {
        let step = self.len.div_ceil(parts.max(1)).max(1);
        (0..self.len.max(1)).step_by(step).map(move |at| Self {
            text: self.text,
            offset: self.offset + at,
            len: step.min(self.len - at),
        })
    }

    /// A part of so many bytes, somewhere.
    pub(crate) fn thrown(dice: &mut Dice, text: bool, len: usize) -> Self {
        Self { text, offset: dice.index(BYTES - len), len }
    }
}
