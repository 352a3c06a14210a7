//! What the broker counts, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::security::refusal::Refusal;

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
    /// Publishes and subscriptions that the server did not permit.
    pub(crate) denied: Count,
    /// Echoes that did not come back in time.
    pub(crate) echoes_missed: Count,
    /// What arrived and was not believed, by reason; it is counted as refused, too.
    pub(crate) refusals: Refusals,
}

/// What was not believed, by the names of [`Refusal::KINDS`].
#[derive(Debug, Default)]
pub(crate) struct Refusals([Count; Refusal::KINDS.len()]);

impl Refusals {
    /// One more of this kind.
    pub(crate) fn one(&self, kind: &'static str) {
        if let Some((_, count)) = Refusal::KINDS.iter().zip(&self.0).find(|(known, _)| **known == kind) {
            count.one();
        }
    }

    /// How many there are of each kind.
    pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
        Refusal::KINDS.into_iter().zip(self.0.iter().map(Count::get)).collect()
    }
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
