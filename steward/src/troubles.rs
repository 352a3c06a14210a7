//! What goes wrong in this node, on its way to the central error log (R15): parts of the node that fail, lines of the log
//! that an operator must act on, messages that it ran and that failed. A storm is summed up: of each kind the first few
//! are told one by one and in order, then how many more there were ("and 4,812 more of this kind").
//!
//! ```text
//! log lines (logging/errors.rs) ─┐
//! failed messages (the engine) ──┴─▶ Troubles ──▶ ErrorLog messages to central (node/trouble.rs)
//! ```
//! It never holds up whoever tells, and what it keeps has a limit: texts that wait, kinds, and a number for each kind.
//! It never sends: that is the business of whoever asks for [`Troubles::first`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::message::MessageId;
use protocol::name::Lane;
use protocol::outcome::{Final, Outcome};
use protocol::step::Report;
use tokio::sync::Notify;

use crate::clock::Clock;

/// The target of lines of the log that are told below the level of errors as well.
pub(crate) const TOLD: &str = "steward::told";

/// The target of errors that are not told, because they are in another way already.
pub(crate) const HERE_ONLY: &str = "steward::here_only";

/// The method that carries errors. What goes wrong with errors on their way is never told as an error: it would only make
/// more of them.
pub(crate) const ERROR_LOG: &str = "ErrorLog";

/// Kinds of errors that are told apart at the same time; further ones count as one kind.
const KINDS_MAX: usize = 32;

/// What further kinds are called.
const OTHERS: &str = "errors of other kinds";

/// Errors of a kind that are told one by one before it counts as a storm and the rest is summed up.
const SINGLY_MAX: u32 = 10;

/// A kind of which nothing was heard for so long is over: its last sum is told, and the next of it is news.
const QUIET: Duration = Duration::from_secs(60);

/// How long after the first error that is not told by itself the sum is told; twice as long for each further sum of a
/// storm that goes on.
const SUM_FIRST: Duration = Duration::from_secs(5);
/// The longest time between two sums of a kind. See [`SUM_FIRST`].
const SUM_MAX: Duration = Duration::from_secs(3600);

/// Texts that may wait until they are messages; while there are so many, all further ones are summed up.
const READY_MAX: usize = 64;

/// Characters of one text; the rest is cut.
const TEXT_CHARS_MAX: usize = 1000;

/// Errors of this node. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Troubles {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    storms: Mutex<Storms>,
    news: Notify,
    emptied: Notify,
    told: AtomicU64,
    summed: AtomicU64,
}

/// What has happened since the start, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Texts that were told: single errors, and sums.
    pub(crate) told: u64,
    /// Errors that were not told by themselves.
    pub(crate) summed: u64,
}

impl Troubles {
    /// Without any.
    pub(crate) fn new(clock: Clock) -> Self {
        let shared = Shared {
            clock,
            storms: Mutex::default(),
            news: Notify::new(),
            emptied: Notify::new(),
            told: AtomicU64::new(0),
            summed: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Something went wrong. `text` is asked for if it is told by itself. Never waits.
    pub(crate) fn tell(&self, kind: &str, text: impl FnOnce() -> String) {
        let is_told = self.storms().add(kind, text, self.shared.clock.elapsed());
        let counter = if is_told { &self.shared.told } else { &self.shared.summed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.shared.news.notify_one();
    }

    /// Tells of a message that was run here for another node, or for this one, and went wrong. Results that are what
    /// somebody asked for are none of an error log's business, and neither are errors about errors.
    pub(crate) fn report(&self, report: &Report) {
        let Report::In { id, lane, outcome, sealed } = report else { return };
        let is_trouble = match outcome.state {
            Final::Failed | Final::TimedOut | Final::Interrupted => true,
            Final::Done | Final::Refused | Final::Expired | Final::Cancelled | Final::Undeliverable | Final::Sent => {
                false
            }
        };
        if is_trouble && lane.method.as_str() != ERROR_LOG {
            let kind = format!("{} {}", lane.method, outcome.state);
            self.tell(&kind, || failed(*id, lane, outcome, *sealed));
        }
    }

    /// The next text that is to be told, once there is one. It stays the next one until [`Troubles::pop`].
    pub(crate) async fn first(&self) -> String {
        loop {
            let now = self.shared.clock.elapsed();
            let wait = {
                let mut storms = self.storms();
                let summed = storms.sum_up(now, false);
                self.shared.told.fetch_add(summed, Ordering::Relaxed);
                if let Some(text) = storms.ready.front() {
                    return text.clone();
                }
                storms.next_sum(now)
            };
            tokio::select! {
                () = self.shared.news.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// The first one has been told.
    pub(crate) fn pop(&self) {
        let mut storms = self.storms();
        storms.ready.pop_front();
        if storms.ready.is_empty() {
            self.shared.emptied.notify_waiters();
        }
    }

    /// Sums up what is not told yet, because the node stops; returns once all of it is told.
    pub(crate) async fn last_words(&self) {
        let summed = self.storms().sum_up(self.shared.clock.elapsed(), true);
        self.shared.told.fetch_add(summed, Ordering::Relaxed);
        self.shared.news.notify_one();
        let emptied = self.shared.emptied.notified();
        tokio::pin!(emptied);
        // Listening before looking, so that the end is not missed in between.
        emptied.as_mut().enable();
        if !self.storms().ready.is_empty() {
            emptied.await;
        }
    }

    /// What has happened since the start.
    pub(crate) fn counts(&self) -> Counts {
        let (told, summed) = (&self.shared.told, &self.shared.summed);
        Counts { told: told.load(Ordering::Relaxed), summed: summed.load(Ordering::Relaxed) }
    }

    fn storms(&self) -> MutexGuard<'_, Storms> {
        // What is kept is whole between any two statements; a panic loses one error at most.
        self.shared.storms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was told lately, what was not, and what waits.
#[derive(Debug, Default)]
struct Storms {
    ready: VecDeque<String>,
    kinds: BTreeMap<String, Kind>,
}

/// One kind of errors.
#[derive(Debug)]
struct Kind {
    singly: u32,
    /// Errors since the last sum that were not told by themselves, and when the first and the last of them came.
    more: u64,
    since: Duration,
    last: Duration,
    sum_at: Duration,
    /// The time to the next sum.
    pause: Duration,
}

impl Storms {
    /// Takes an error. Says whether it is told by itself.
    fn add(&mut self, kind: &str, text: impl FnOnce() -> String, now: Duration) -> bool {
        self.kinds.retain(|_, kind| kind.more > 0 || now.saturating_sub(kind.last) < QUIET);
        let is_known = self.kinds.contains_key(kind);
        let name = if is_known || self.kinds.len() < KINDS_MAX { kind } else { OTHERS };
        let new = Kind { singly: 0, more: 0, since: now, last: now, sum_at: now, pause: SUM_FIRST };
        let kind = self.kinds.entry(name.to_owned()).or_insert(new);
        kind.last = now;
        // Behind errors that are not told yet none is told by itself: they keep their order.
        if kind.singly < SINGLY_MAX && kind.more == 0 && self.ready.len() < READY_MAX {
            kind.singly += 1;
            self.ready.push_back(cut(text()));
            return true;
        }
        if kind.more == 0 {
            (kind.since, kind.sum_at) = (now, now + kind.pause);
        }
        kind.more += 1;
        false
    }

    /// Makes the sums that are due, or all of them. Says how many.
    fn sum_up(&mut self, now: Duration, all: bool) -> u64 {
        let mut sums = 0;
        for (name, kind) in self.kinds.iter_mut().filter(|(_, kind)| kind.more > 0) {
            if all || (self.ready.len() < READY_MAX && now >= kind.due()) {
                let within = span(kind.last.saturating_sub(kind.since));
                self.ready.push_back(format!("and {} more of this kind within {within}: {name}", thousands(kind.more)));
                kind.more = 0;
                kind.pause = (kind.pause * 2).min(SUM_MAX);
                sums += 1;
            }
        }
        sums
    }

    /// How long until the next sum is due; no longer than [`SUM_MAX`].
    fn next_sum(&self, now: Duration) -> Duration {
        let due = self.kinds.values().filter(|kind| kind.more > 0).map(Kind::due).min();
        due.map_or(SUM_MAX, |due| due.saturating_sub(now))
    }
}

impl Kind {
    /// When its sum is to be told: some time after the first, but soon after the last.
    fn due(&self) -> Duration {
        self.sum_at.min(self.last + QUIET)
    }
}

/// What is told of a message that failed here.
fn failed(id: MessageId, lane: &Lane, outcome: &Outcome, sealed: bool) -> String {
    if sealed {
        // The error log is neither its sender nor its receiver.
        return format!(
            "{} for {} {}; why, only the two know: it is sealed (message {id})",
            lane.method, lane.peer, outcome.state
        );
    }
    let line = crate::logging::first_line(outcome);
    let why: String =
        [outcome.reason.as_deref(), line.as_deref()].iter().flatten().map(|why| format!(": {why}")).collect();
    format!("{} for {} {}{why} (message {id})", lane.method, lane.peer, outcome.state)
}

fn cut(text: String) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

/// `4812` as `4,812`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A span as people say it, in whole units and rounded up.
fn span(span: Duration) -> String {
    let seconds = span.as_millis().div_ceil(1000).max(1);
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        7200.. => format!("{} h", seconds.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests;
