//! What happened, a readable line an event, and the hash of all lines: the same seed has to give the same bytes.
//! Lines are made in every run, also where nobody reads them, because they are what two runs are compared by.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use crate::rng::mix;

/// Lines that are kept for the report of a failure.
const TAIL_LINES_MAX: usize = 400;

/// What becomes of the lines beside their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: only their hash is wanted.
    Hash,
    /// The last of them, for the report of a failure.
    Tail,
    /// All of them.
    All,
}

/// The lines of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    keep: Keep,
    line: String,
    hash: u64,
    kept: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(keep: Keep) -> Self {
        Self { keep, line: String::with_capacity(256), hash: 0, kept: VecDeque::new() }
    }

    /// Writes one line: the virtual time in milliseconds, where, and what.
    pub(crate) fn line(&mut self, now: u64, place: &str, what: fmt::Arguments<'_>) {
        self.line.clear();
        // Writing into a String can't fail.
        let written = write!(self.line, "{:>9} {place:<4} {what}", Millis(now));
        debug_assert!(written.is_ok());
        self.absorb();
        match self.keep {
            Keep::Hash => return,
            Keep::Tail if self.kept.len() == TAIL_LINES_MAX => drop(self.kept.pop_front()),
            Keep::Tail | Keep::All => {}
        }
        self.kept.push_back(self.line.clone());
    }

    fn absorb(&mut self) {
        let mut chunks = self.line.as_bytes().chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.hash = (self.hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
        let rest = chunks.remainder().iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        self.hash = mix(self.hash ^ rest ^ (self.line.len() as u64) << 56);
    }

    /// The hash of all lines.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines that were kept.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.kept.into()
    }
}

/// Milliseconds as seconds with three digits.
struct Millis(u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = f.width().unwrap_or(0).saturating_sub(4);
        write!(f, "{:>width$}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_every_byte_and_the_order() {
        let hash = |lines: &[&str]| {
            let mut trace = Trace::new(Keep::All);
            lines.iter().for_each(|line| trace.line(1_500, "n0", format_args!("{line}")));
            (trace.hash(), trace.into_lines())
        };
        assert_eq!(hash(&["start #1"]).1, ["    1.500 n0   start #1"]);
        assert_eq!(hash(&["start #1", "b"]).0, hash(&["start #1", "b"]).0);
        assert_ne!(hash(&["start #1"]).0, hash(&["start #2"]).0);
        assert_ne!(hash(&["a", "b"]).0, hash(&["b", "a"]).0);
    }
}
