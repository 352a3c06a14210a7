//! What the broker counts, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the process started; each only rises.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections that were made.
    pub(crate) connects: Count,
    /// Publishes that were handed to the client.
    pub(crate) published: Count,
    /// Messages and receipts in them.
    pub(crate) published_items: Count,
    /// Bytes of their bodies.
    pub(crate) published_bytes: Count,
    /// What arrived for this node.
    pub(crate) received: Count,
    /// Messages and receipts in it.
    pub(crate) received_items: Count,
    /// Bytes of their bodies.
    pub(crate) received_bytes: Count,
    /// What arrived and made no sense.
    pub(crate) refused: Count,
    /// Effects that were dropped because the link was down or too slow; the protocol tries again.
    pub(crate) dropped: Count,
    /// What could not be sent at all: too large, or not readable.
    pub(crate) unsendable: Count,
    /// Pieces and requests for pieces of outputs that were dropped because too many waited.
    pub(crate) bulk_dropped: Count,
    /// Messages that the client lost because this node was too slow.
    pub(crate) slow_consumer: Count,
    /// Errors that the server reported (permissions and the like).
    pub(crate) server_errors: Count,
    /// Echoes that did not come back in time.
    pub(crate) echoes_missed: Count,
}

/// One count.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// One more.
    pub(crate) fn one(&self) {
        self.add(1);
    }

    /// `more` more.
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    /// How many there are.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
