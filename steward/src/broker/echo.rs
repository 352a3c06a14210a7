//! Echoes: publishes from us through the broker to us. One that comes back proves that everything before it has reached
//! the broker, and that the link works in both directions. Nothing else proves either. It proves the same for the echoes
//! before it, should those have been lost on their way back.

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
    /// Something was published before it to a subject that was denied earlier, with this mark.
    Passed(String, u64),
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

    /// What the echo with this mark was for, the first time it comes back, after what the lost ones before it were for;
    /// at most `WAITING_MAX`.
    pub(crate) fn take(&self, mark: &str) -> Vec<Purpose> {
        let Some((incarnation, number)) = mark.split_once('-') else { return Vec::new() };
        let is_ours = u64::from_str_radix(incarnation, 16).is_ok_and(|incarnation| incarnation == self.incarnation.0);
        let mut waiting = self.lock();
        let Some(number) = number.parse::<u64>().ok().filter(|number| is_ours && waiting.purposes.contains_key(number))
        else {
            return Vec::new();
        };
        let later = waiting.purposes.split_off(&(number + 1));
        std::mem::replace(&mut waiting.purposes, later).into_values().collect()
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
        assert!(Echoes::new(Incarnation(8)).take(&mark).is_empty());
        for bad in ["", "-", "x-1", "0000000000000007", "0000000000000007-", "0000000000000007-2"] {
            assert!(echoes.take(bad).is_empty(), "{bad:?}");
        }
        assert_eq!(echoes.take(&mark).len(), 1);
        assert!(echoes.take(&mark).is_empty());
    }

    #[test]
    fn an_echo_that_is_back_counts_for_those_before_it_that_were_lost() {
        let echoes = Echoes::new(Incarnation(7));
        let (lost, mut told) = oneshot::channel();
        echoes.expect(Purpose::Signal(lost));
        let mark = echoes.expect(Purpose::HandedOver(Vec::new()));
        let later = echoes.expect(Purpose::HandedOver(Vec::new()));
        let mut purposes = echoes.take(&mark).into_iter();
        let Some(Purpose::Signal(back)) = purposes.next() else { panic!("the lost one comes first") };
        back.send(()).unwrap();
        assert_eq!(told.try_recv(), Ok(()));
        assert_eq!(purposes.count(), 1);
        assert_eq!(echoes.take(&later).len(), 1, "the later one is still on its way");
    }

    #[test]
    fn echoes_that_never_come_back_take_bounded_room() {
        let echoes = Echoes::new(Incarnation(7));
        let first = echoes.expect(Purpose::HandedOver(Vec::new()));
        for _ in 0..WAITING_MAX {
            echoes.expect(Purpose::HandedOver(Vec::new()));
        }
        assert!(echoes.take(&first).is_empty());
        assert_eq!(echoes.lock().purposes.len(), WAITING_MAX);
    }
}
