//! The rate at which this node may send (`--link-rate`), and who goes first where that is little: one gate in front of the broker's
//! client, through which every publish goes. Without a rate there is no gate.
//!
//! The most urgent class goes first, and within it whoever came first. So that nothing waits for ever, every sixteenth turn is for
//! the less urgent ones, one after the other. What is too long for the credit that there is goes when there is any, and is paid
//! for afterwards: the rate holds over time, and no publish is too long for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::traffic::Class;

/// Credit that is saved up while nothing is sent.
const SAVED_MAX: Duration = Duration::from_millis(250);

/// One of so many turns is for what is less urgent.
const SHARE: u64 = 16;

/// The least that is put together into one publish, in bytes, however low the rate is.
const PUBLISH_BYTES_MIN: usize = 1024;

/// Whose turn it is among classes that wait.
#[derive(Debug, Default)]
pub(super) struct Turns(u64);

impl Turns {
    /// The class that goes next of those that wait, the most urgent first; none if none does. Changes nothing.
    fn next(&self, waiting: &[Class]) -> Option<Class> {
        let (first, rest) = waiting.split_first()?;
        let is_shared = self.0 % SHARE == SHARE - 1 && !rest.is_empty();
        let place = usize::try_from(self.0 / SHARE % (rest.len() as u64).max(1)).unwrap_or_default();
        if is_shared { rest.get(place).copied() } else { Some(*first) }
    }

    /// The class that goes now.
    pub(super) fn take(&mut self, waiting: &[Class]) -> Option<Class> {
        let next = self.next(waiting);
        self.0 += 1;
        next
    }
}

/// Somebody who waits: his class, and his number in it.
type Place = (Class, u64);

/// What may be done now.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// Send.
    Go,
    /// Ask again after this time.
    After(Duration),
    /// Ask again when somebody has gone.
    Behind,
}

/// What is in the gate, without a clock.
#[derive(Debug)]
struct Bucket {
    bytes_per_second: u64,
    /// What may be sent, as the time in which it was earned; below zero it is owed.
    credit_ns: i128,
    at: Duration,
    waiting: BTreeMap<Place, usize>,
    turns: Turns,
    next: u64,
}

impl Bucket {
    fn new(bytes_per_second: u64) -> Self {
        let (credit_ns, at) = (nanos(SAVED_MAX), Duration::ZERO);
        let (waiting, turns) = (BTreeMap::new(), Turns::default());
        Self { bytes_per_second: bytes_per_second.max(1), credit_ns, at, waiting, turns, next: 0 }
    }

    fn enter(&mut self, class: Class, bytes: usize) -> Place {
        self.next += 1;
        let place = (class, self.next);
        self.waiting.insert(place, bytes);
        place
    }

    fn pay(&mut self, bytes: usize) {
        self.credit_ns -= self.price(bytes);
    }

    fn price(&self, bytes: usize) -> i128 {
        bytes as i128 * 1_000_000_000 / i128::from(self.bytes_per_second)
    }

    fn turn(&mut self, place: Place, now: Duration) -> Turn {
        let earned = nanos(now.saturating_sub(self.at));
        self.at = self.at.max(now);
        self.credit_ns = (self.credit_ns + earned).min(nanos(SAVED_MAX));
        let classes: BTreeSet<Class> = self.waiting.keys().map(|(class, _)| *class).collect();
        let classes: Vec<Class> = classes.into_iter().collect();
        let first = self.turns.next(&classes);
        let first = self.waiting.keys().find(|(class, _)| Some(*class) == first).copied();
        if first != Some(place) {
            return Turn::Behind;
        }
        if self.credit_ns <= 0 {
            return Turn::After(Duration::from_nanos(u64::try_from(1 - self.credit_ns).unwrap_or(u64::MAX)));
        }
        let bytes = self.waiting.remove(&place).unwrap_or_default();
        self.turns.take(&classes);
        self.pay(bytes);
        Turn::Go
    }
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Budget {
    gate: Option<Gate>,
    clock: Clock,
}

#[derive(Debug)]
struct Gate {
    bucket: Mutex<Bucket>,
    /// Told when somebody has gone.
    gone: Notify,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Bucket> {
        // It is whole at any moment, even after a panic.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits leaves his place, also if he is dropped over it.
struct Waiting<'a> {
    gate: &'a Gate,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.lock().waiting.remove(&self.place);
        self.gate.gone.notify_waiters();
    }
}

impl Budget {
    /// At most so many bits a second; none is without limit.
    pub(super) fn new(bits_per_second: Option<u64>, clock: Clock) -> Self {
        let gate = |rate: u64| Gate { bucket: Mutex::new(Bucket::new(rate / 8)), gone: Notify::new() };
        Self { gate: bits_per_second.map(gate), clock }
    }

    /// Whether there is a limit.
    pub(super) fn is_limited(&self) -> bool {
        self.gate.is_some()
    }

    /// What should go in one publish at most, in bytes: what the link takes in half a second.
    pub(super) fn publish_bytes(&self) -> usize {
        let rate = self.gate.as_ref().map(|gate| gate.lock().bytes_per_second / 2);
        rate.map_or(usize::MAX, |rate| usize::try_from(rate).unwrap_or(usize::MAX).max(PUBLISH_BYTES_MIN))
    }

    /// Waits until a publish of so many bytes may go. What belongs to the link itself never waits, and is paid for all the same.
    pub(super) async fn take(&self, class: Class, bytes: usize) {
        let Some(gate) = &self.gate else { return };
        if class == Class::Link {
            return gate.lock().pay(bytes);
        }
        let waiting = Waiting { gate, place: gate.lock().enter(class, bytes) };
        loop {
            let gone = gate.gone.notified();
            tokio::pin!(gone);
            // From here on nobody's leaving is missed.
            gone.as_mut().enable();
            let turn = gate.lock().turn(waiting.place, self.clock.elapsed());
            match turn {
                Turn::Go => return,
                Turn::Behind => gone.await,
                Turn::After(pause) => tokio::select! {
                    () = gone => {}
                    () = tokio::time::sleep(pause) => {}
                },
            }
        }
    }

    /// Waits until something may go; who then goes is another question.
    pub(super) async fn some(&self) {
        let Some(gate) = &self.gate else { return };
        loop {
            let now = nanos(self.clock.elapsed());
            let owed = {
                let bucket = gate.lock();
                -(bucket.credit_ns + now - nanos(bucket.at))
            };
            match u64::try_from(owed) {
                Ok(owed) => tokio::time::sleep(Duration::from_nanos(owed + 1)).await,
                Err(_) => return,
            }
        }
    }

    /// What was taken for so many bytes has had so many.
    pub(super) fn correct(&self, taken: usize, had: usize) {
        if let Some(gate) = &self.gate {
            let mut bucket = gate.lock();
            let price = bucket.price(taken) - bucket.price(had);
            bucket.credit_ns += price;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes within so many seconds, of those who always want to send so much, in a clock of our own.
    fn sent(rate: u64, wanted: &[(Class, usize)], seconds: u64) -> BTreeMap<Class, usize> {
        let mut bucket = Bucket::new(rate);
        let mut places: Vec<Place> = wanted.iter().map(|(class, bytes)| bucket.enter(*class, *bytes)).collect();
        let mut sent = BTreeMap::new();
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(seconds) {
            let mut pause = None;
            for (place, (class, bytes)) in places.iter_mut().zip(wanted) {
                match bucket.turn(*place, now) {
                    Turn::Go => {
                        *sent.entry(*class).or_default() += bytes;
                        *place = bucket.enter(*class, *bytes);
                        pause = Some(Duration::ZERO);
                    }
                    Turn::After(after) => pause = pause.or(Some(after)),
                    Turn::Behind => {}
                }
            }
            now += pause.expect("somebody is the first");
        }
        sent
    }

    #[test]
    fn the_rate_holds_over_time_whatever_the_sizes() {
        for bytes in [10, 1000, 50_000] {
            let sent = sent(8000, &[(Class::Events, bytes)], 100)[&Class::Events];
            assert!((790_000..=860_000).contains(&sent), "{sent} bytes in publishes of {bytes}");
        }
    }

    #[test]
    fn the_most_urgent_goes_first_and_the_others_get_a_share() {
        let all = [(Class::Receipts, 500), (Class::Events, 500), (Class::Files, 500)];
        let sent = sent(8000, &all, 1000);
        let total: usize = sent.values().sum();
        assert!(sent[&Class::Receipts] > total * 9 / 10, "{sent:?} of {total}");
        assert!(sent[&Class::Events] > total / 40 && sent[&Class::Files] > total / 40, "{sent:?} of {total}");
    }

    #[test]
    fn who_comes_later_with_something_urgent_overtakes() {
        let mut bucket = Bucket::new(1000);
        bucket.pay(10_000);
        let file = bucket.enter(Class::Files, 500);
        let second = bucket.enter(Class::Files, 500);
        let command = bucket.enter(Class::Commands, 500);
        let now = Duration::from_secs(60);
        assert_eq!(bucket.turn(file, now), Turn::Behind);
        assert_eq!(bucket.turn(second, now), Turn::Behind);
        assert_eq!(bucket.turn(command, now), Turn::Go);
        assert_eq!(bucket.turn(second, now), Turn::Behind);
        assert!(matches!(bucket.turn(file, now), Turn::After(pause) if pause < Duration::from_millis(300)));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_his_place_and_the_link_itself_never_waits() {
        let budget = Budget::new(Some(8 * 100), Clock::start());
        budget.take(Class::Events, 1_000_000).await;
        {
            let waiting = budget.take(Class::Commands, 10);
            tokio::pin!(waiting);
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
            assert_eq!(budget.gate.as_ref().unwrap().lock().waiting.len(), 1);
        }
        assert!(budget.gate.as_ref().unwrap().lock().waiting.is_empty());
        budget.take(Class::Link, 10).await;
        budget.correct(1_000_000, 0);
        budget.take(Class::Commands, 10).await;
        let unlimited = Budget::new(None, Clock::start());
        unlimited.take(Class::Background, usize::MAX).await;
        assert!(!unlimited.is_limited() && unlimited.publish_bytes() == usize::MAX);
    }
}
