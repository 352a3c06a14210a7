//! What became of each order when it was handed in. Written by those who hand in, read by the audit.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is known of the acceptance of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody has tried yet.
    Open,
    /// The node has returned this id: the message must be there for ever.
    Accepted(String),
    /// It stands in `inmsg.txt` or in a file of `messages.d/`: it must be there once that is taken.
    Written,
    /// The answer did not come. It may be there, once, or not.
    Unknown(String),
}

/// One line for each order.
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<Vec<Fate>>);

impl Ledger {
    /// For so many orders.
    pub(crate) fn new(orders: usize) -> Self {
        Self(Mutex::new(vec![Fate::Open; orders]))
    }

    /// Writes down what became of an order.
    pub(crate) fn note(&self, order: usize, fate: Fate) {
        self.lines()[order] = fate;
    }

    /// What has become of an order.
    pub(crate) fn of(&self, order: usize) -> Fate {
        self.lines()[order].clone()
    }

    /// A copy of all lines.
    pub(crate) fn all(&self) -> Vec<Fate> {
        self.lines().clone()
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Fate>> {
        // Every change is a single assignment, so it is whole even if its holder panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
