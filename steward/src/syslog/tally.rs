//! What has become of lines since the start, for metrics and for `ps`. Nothing waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kinds of sources, in the order of the counts.
pub(crate) const KINDS: [&str; 4] = ["unix", "udp", "tcp", "journal"];

/// Counts. Clones are the same counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    received: [AtomicU64; KINDS.len()],
    cut: AtomicU64,
    dropped: AtomicU64,
    forwarded: AtomicU64,
    repeated: AtomicU64,
    written: AtomicU64,
    passed_on: AtomicU64,
    waiting: AtomicU64,
    bytes: AtomicU64,
}

/// How things are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Lines that came, by kind of their source.
    pub(crate) received: [u64; KINDS.len()],
    /// Lines that were longer than may be.
    pub(crate) cut: u64,
    /// Lines that were dropped because the spool was full or could not be written.
    pub(crate) dropped: u64,
    /// Lines that are in messages.
    pub(crate) forwarded: u64,
    /// Lines in messages that did not end well, so that they were sent in another one.
    pub(crate) repeated: u64,
    /// Lines of nodes that were written into files here.
    pub(crate) written: u64,
    /// Lines of nodes that were passed on from here.
    pub(crate) passed_on: u64,
    /// Lines in the spool.
    pub(crate) waiting: u64,
    /// Bytes of the spool.
    pub(crate) bytes: u64,
}

impl Tally {
    /// Lines came from a source of this kind.
    pub(super) fn received(&self, kind: &str, lines: u64) {
        if let Some((_, count)) = KINDS.iter().zip(&self.0.received).find(|(known, _)| **known == kind) {
            count.fetch_add(lines, Ordering::Relaxed);
        }
    }

    pub(super) fn cut(&self, lines: u64) {
        self.0.cut.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, lines: u64) {
        self.0.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn forwarded(&self, lines: u64) {
        self.0.forwarded.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn repeated(&self, lines: u64) {
        self.0.repeated.fetch_add(lines, Ordering::Relaxed);
    }

    /// Lines of a node are in files here.
    pub(crate) fn written(&self, lines: u64) {
        self.0.written.fetch_add(lines, Ordering::Relaxed);
    }

    /// Lines of a node were passed on.
    pub(crate) fn passed_on(&self, lines: u64) {
        self.0.passed_on.fetch_add(lines, Ordering::Relaxed);
    }

    /// How the spool is.
    pub(super) fn spool(&self, waiting: u64, bytes: u64) {
        self.0.waiting.store(waiting, Ordering::Relaxed);
        self.0.bytes.store(bytes, Ordering::Relaxed);
    }

    /// All of it.
    pub(crate) fn figures(&self) -> Figures {
        let Counts { received, cut, dropped, forwarded, repeated, written, passed_on, waiting, bytes } = &*self.0;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Figures {
            received: [0, 1, 2, 3].map(|kind: usize| received.get(kind).map_or(0, get)),
            cut: get(cut),
            dropped: get(dropped),
            forwarded: get(forwarded),
            repeated: get(repeated),
            written: get(written),
            passed_on: get(passed_on),
            waiting: get(waiting),
            bytes: get(bytes),
        }
    }
}
