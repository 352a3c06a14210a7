//! Echoes: publishes from us through the broker to us. One that comes back proves that everything before it has reached
//! the broker, and that the link works in both directions. Nothing else proves either.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::message::{Incarnation, Seq};
use protocol::name::Lane;
use tokio::sync::oneshot;

/// Echoes that may be on their way; with more, the oldest is given up.
const WAITING_MAX: usize = 4096;

/// What an echo is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// Somebody waits for it.
    Signal(oneshot::Sender<()>),
    /// NACK messages were published before it.
    HandedOver(Vec<(Lane, Vec<Seq>)>),
}

/// The echoes of one process that are on their way.
#[derive(Debug)]
pub(crate) struct Echoes {
    incarnation: Incarnation,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    purposes: BTreeMap<u64, Purpose>,
}

impl Echoes {
    /// No echoes yet. Their marks carry the incarnation, so that a namesake's are never taken for ours.
    pub(crate) fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, waiting: Mutex::default() }
    }

    /// The mark for a new echo.
    pub(crate) fn expect(&self, purpose: Purpose) -> String {
        let mut waiting = self.lock();
        waiting.last += 1;
        let number = waiting.last;
        waiting.purposes.insert(number, purpose);
        if waiting.purposes.len() > WAITING_MAX {
            waiting.purposes.pop_first();
        }
        format!("{:016x}-{number}", self.incarnation.0)
    }

    /// What the echo with this mark was for, the first time it comes back.
    pub(crate) fn take(&self, mark: &str) -> Option<Purpose> {
        let (incarnation, number) = mark.split_once('-')?;
        if u64::from_str_radix(incarnation, 16).ok()? != self.incarnation.0 {
            return None;
        }
        self.lock().purposes.remove(&number.parse().ok()?)
    }

    /// The link went down: what was on its way proves nothing any more.
    pub(crate) fn clear(&self) {
        self.lock().purposes.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_counts_once_and_only_for_its_own_process() {
        let echoes = Echoes::new(Incarnation(7));
        let mark = echoes.expect(Purpose::HandedOver(Vec::new()));
        assert!(Echoes::new(Incarnation(8)).take(&mark).is_none());
        for bad in ["", "-", "x-1", "0000000000000007", "0000000000000007-", "0000000000000007-2"] {
            assert!(echoes.take(bad).is_none(), "{bad:?}");
        }
        assert!(echoes.take(&mark).is_some());
        assert!(echoes.take(&mark).is_none());
    }

    #[test]
    fn echoes_that_never_come_back_take_bounded_room() {
        let echoes = Echoes::new(Incarnation(7));
        let first = echoes.expect(Purpose::HandedOver(Vec::new()));
        for _ in 0..WAITING_MAX {
            echoes.expect(Purpose::HandedOver(Vec::new()));
        }
        assert!(echoes.take(&first).is_none());
        assert_eq!(echoes.lock().purposes.len(), WAITING_MAX);
    }
}
