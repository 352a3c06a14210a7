//! What is to happen later: at most one point in time for each thing that waits.

use std::collections::{BTreeMap, BTreeSet};

use crate::message::MessageId;
use crate::time::Mono;

/// What can wait for a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Attempts of an outgoing lane that may have been in vain.
    Lane(usize),
    /// A probe of a node, or the pause before the next one.
    Peer(usize),
    /// Final receipts that wait for their confirmation.
    Owed(usize),
    /// A piece of an output that was asked for.
    Fetch(MessageId),
    /// The earliest deadline in the outbox.
    Deadline,
    /// The earliest deadline of what waits in the inbox.
    Waiting,
    /// Progress that has not been written down.
    Progress,
}

/// All timers of a node.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<Timer, Mono>,
    order: BTreeSet<(Mono, Timer)>,
}

impl Timers {
    /// Sets `timer` to `at`, whatever it was.
    pub(crate) fn set(&mut self, timer: Timer, at: Mono) {
        if let Some(before) = self.due.insert(timer, at) {
            self.order.remove(&(before, timer));
        }
        self.order.insert((at, timer));
    }

    /// Sets `timer` to `at` unless it is due before that.
    pub(crate) fn set_earlier(&mut self, timer: Timer, at: Mono) {
        if self.due.get(&timer).is_none_or(|before| at < *before) {
            self.set(timer, at);
        }
    }

    pub(crate) fn cancel(&mut self, timer: Timer) {
        if let Some(before) = self.due.remove(&timer) {
            self.order.remove(&(before, timer));
        }
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.due.contains_key(&timer)
    }

    /// When `timer` is due.
    pub(crate) fn at(&self, timer: Timer) -> Option<Mono> {
        self.due.get(&timer).copied()
    }

    /// The next point in time at which something is due.
    pub(crate) fn next(&self) -> Option<Mono> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out one timer that is due.
    pub(crate) fn pop(&mut self, now: Mono) -> Option<Timer> {
        let (at, timer) = *self.order.first().filter(|(at, _)| *at <= now)?;
        self.order.remove(&(at, timer));
        self.due.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_timer_is_due_once_and_in_order() {
        let mut timers = Timers::default();
        timers.set(Timer::Lane(1), Mono(30));
        timers.set(Timer::Peer(1), Mono(20));
        timers.set(Timer::Lane(1), Mono(10));
        timers.set_earlier(Timer::Peer(1), Mono(25));
        assert_eq!(timers.next(), Some(Mono(10)));
        assert_eq!(timers.pop(Mono(9)), None);
        assert_eq!(timers.pop(Mono(50)), Some(Timer::Lane(1)));
        assert_eq!(timers.pop(Mono(50)), Some(Timer::Peer(1)));
        assert_eq!(timers.pop(Mono(50)), None);
    }
}
