//! What the broker does not permit this node, by subject. The server says it once for each publish and subscription, and only
//! aside: the call itself succeeds. Here it is kept for as long as it is so, for those who wonder why a message waits.
//!
//! A publish that goes through again ends it, as far as that can be known: the echo behind it is back, and the server has not
//! complained. A subscription that was denied is made again with the connection, now and then.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// Subjects that are remembered; denials of others are only counted.
pub(crate) const DENIED_MAX: usize = 64;

/// How long the server's complaint may come after the echo behind what it is about: both come by different queues of the
/// client.
const SETTLED: Duration = Duration::from_secs(2);

/// After so long without a new complaint a publish is not known to be denied any more: nobody has tried it.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);

/// How often a connection is made anew so that subscriptions that were denied are tried again.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(5 * 60);

/// Characters of a subject that are kept.
const SUBJECT_CHARS_MAX: usize = 200;

/// What was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// To publish.
    Publish,
    /// To subscribe.
    Subscribe,
}

/// Something that is denied now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Denied {
    /// What.
    pub(crate) action: Action,
    /// Which subject. What is different each time in it (the mark of an echo) is a `*`.
    pub(crate) subject: String,
    /// How often the server has said so.
    pub(crate) times: u64,
}

/// All that is denied now.
#[derive(Debug)]
pub(crate) struct Denials {
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Complaints so far.
    complaints: u64,
    entries: BTreeMap<(Action, String), Entry>,
    /// When denied subscriptions were last made again.
    subscribed_at: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    times: u64,
    /// The number of the last complaint, and when it came.
    last: u64,
    at: Duration,
    /// Since when it seems to be permitted.
    passed_at: Option<Duration>,
}

impl Default for Denials {
    fn default() -> Self {
        Self { clock: Clock::start(), known: Mutex::default() }
    }
}

impl Denials {
    /// What is denied now, in order.
    pub(crate) fn all(&self) -> Vec<Denied> {
        let known = self.lock();
        let denied = |((action, subject), entry): (&(Action, String), &Entry)| Denied {
            action: *action,
            subject: subject.clone(),
            times: entry.times,
        };
        known.entries.iter().map(denied).collect()
    }

    /// What keeps a message of this lane from leaving, as far as it is that: its own subject, or the one on which its
    /// receiver is asked whether it is there.
    pub(crate) fn of_lane(&self, me: &str, to: &str, kind: &str, method: &str) -> Option<Denied> {
        let known = self.lock();
        if known.entries.is_empty() {
            return None;
        }
        [format!("{to}.{kind}.{method}"), format!("{to}.CTL.{me}")].into_iter().find_map(|subject| {
            let key = (Action::Publish, subject);
            let times = known.entries.get(&key)?.times;
            Some(Denied { action: key.0, subject: key.1, times })
        })
    }

    /// The server has complained. Answers whether that is news.
    pub(super) fn add(&self, action: Action, subject: &str) -> bool {
        self.lock().add(action, subject, self.clock.elapsed())
    }

    /// A mark for a publish to this subject, if it was denied before; for [`Denials::passed`].
    pub(super) fn mark(&self, subject: &str) -> Option<u64> {
        let known = self.lock();
        let is_denied = !known.entries.is_empty() && known.entries.contains_key(&(Action::Publish, general(subject)));
        is_denied.then_some(known.complaints)
    }

    /// What was published to this subject with this mark has reached the server.
    pub(super) fn passed(&self, subject: &str, mark: u64) {
        self.lock().passed(subject, mark, self.clock.elapsed());
    }

    /// Whether it is time to make a new connection for the sake of subscriptions that were denied.
    pub(super) fn wants_new_connection(&self) -> bool {
        self.lock().wants_new_connection(self.clock.elapsed())
    }

    /// There is a new connection: all subscriptions are made again, and what is denied still is told again.
    pub(super) fn connected(&self) {
        self.lock().connected(self.clock.elapsed());
    }

    /// Without what is over.
    fn lock(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.end(self.clock.elapsed());
        known
    }
}

impl Known {
    fn add(&mut self, action: Action, subject: &str, now: Duration) -> bool {
        self.complaints += 1;
        let (key, last) = ((action, general(subject)), self.complaints);
        let has_room = self.entries.len() < DENIED_MAX;
        match self.entries.entry(key) {
            btree_map::Entry::Occupied(mut known) => {
                let times = known.get().times + 1;
                known.insert(Entry { times, last, at: now, passed_at: None });
                false
            }
            btree_map::Entry::Vacant(free) if has_room => {
                free.insert(Entry { times: 1, last, at: now, passed_at: None });
                if action == Action::Subscribe {
                    self.subscribed_at = now;
                }
                true
            }
            btree_map::Entry::Vacant(_) => false,
        }
    }

    fn passed(&mut self, subject: &str, mark: u64, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&(Action::Publish, general(subject)))
            && entry.last <= mark
        {
            entry.passed_at.get_or_insert(now);
        }
    }

    fn wants_new_connection(&self, now: Duration) -> bool {
        self.entries.keys().any(|(action, _)| *action == Action::Subscribe)
            && now.saturating_sub(self.subscribed_at) >= SUBSCRIBE_AGAIN
    }

    fn connected(&mut self, now: Duration) {
        self.subscribed_at = now;
        for ((action, _), entry) in &mut self.entries {
            if *action == Action::Subscribe {
                entry.passed_at = Some(now);
            }
        }
    }

    fn end(&mut self, now: Duration) {
        self.entries.retain(|(action, subject), entry| {
            let is_permitted = entry.passed_at.is_some_and(|at| now.saturating_sub(at) >= SETTLED);
            let is_forgotten = *action == Action::Publish && now.saturating_sub(entry.at) >= FORGOTTEN;
            if is_permitted {
                tracing::info!(subject, "the broker permits this node to {action} there again");
            }
            !is_permitted && !is_forgotten
        });
    }
}

impl Denied {
    /// What is the case, and what to do.
    pub(crate) fn advice(&self) -> String {
        let Self { action, subject, .. } = self;
        let rest = match action {
            Action::Publish => {
                "; its role there has to permit that (docs/wire.md lists what a node needs), or the message is for somebody \
                 else to send; until then it is kept and tried again"
            }
            Action::Subscribe => {
                "; its role there has to permit that (docs/wire.md lists what a node needs); what comes there is not heard \
                 until then, and it is tried again every five minutes"
            }
        };
        format!("the broker does not permit this node to {action} to {subject:?}{rest}")
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        })
    }
}

/// What the server did not permit, if that is what it complains of: `Permissions Violation for Publish to "x"`.
pub(super) fn read(error: &str) -> Option<(Action, String)> {
    let (_, what) = error.split_once("Permissions Violation for ")?;
    let action = if what.starts_with("Subscription") { Action::Subscribe } else { Action::Publish };
    let subject = what.split('"').nth(1).unwrap_or_default();
    Some((action, subject.chars().filter(|c| !c.is_control()).take(SUBJECT_CHARS_MAX).collect()))
}

/// A subject without what is different each time: the marks of echoes and of questions.
fn general(subject: &str) -> String {
    let mut parts = subject.splitn(3, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(node), Some(channel @ ("ECHO" | "NAME" | "INBOX")), Some(_)) => format!("{node}.{channel}.*"),
        _ => subject.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_read_and_what_differs_each_time_is_one() {
        let error = "nats: Permissions Violation for Publish to \"ship2.CommandACK.ShellCommand\"";
        assert_eq!(read(error), Some((Action::Publish, "ship2.CommandACK.ShellCommand".to_owned())));
        let error = "Permissions Violation for Subscription to \"ship1.>\" using queue \"x\"";
        assert_eq!(read(error), Some((Action::Subscribe, "ship1.>".to_owned())));
        assert_eq!(read("Slow Consumer"), None);
        assert_eq!(read("Permissions Violation for "), Some((Action::Publish, String::new())));
        assert_eq!(general("ship1.ECHO.0-7"), "ship1.ECHO.*");
        assert_eq!(general("ship1.CommandACK.ShellCommand"), "ship1.CommandACK.ShellCommand");
        assert_eq!(general(""), "");
    }

    #[test]
    fn what_is_denied_is_news_once_and_bounded() {
        let denials = Denials::default();
        assert!(denials.add(Action::Publish, "a.CTL.me"));
        assert!(!denials.add(Action::Publish, "a.CTL.me"));
        assert_eq!(denials.all()[0].times, 2);
        for number in 0..1000 {
            denials.add(Action::Publish, &format!("ship{number}.CTL.me"));
        }
        assert_eq!(denials.all().len(), DENIED_MAX);
        assert_eq!((denials.mark("b.CTL.me"), denials.mark("a.CTL.me")), (None, Some(1002)));
    }

    #[test]
    fn a_publish_that_goes_through_ends_it_and_a_complaint_that_comes_late_does_not() {
        let (mut known, subject, start) = (Known::default(), "a.CTL.me", Duration::from_secs(1));
        known.add(Action::Publish, subject, start);
        // The complaint about the very publish comes after the echo behind it.
        known.passed(subject, 1, start);
        known.add(Action::Publish, subject, start);
        known.end(start + SETTLED);
        assert_eq!(known.entries.len(), 1);
        // An echo behind an earlier publish says nothing.
        known.passed(subject, 1, start);
        known.end(start + SETTLED);
        assert_eq!(known.entries.len(), 1);
        known.passed(subject, 2, start);
        known.end(start + SETTLED / 2);
        assert_eq!(known.entries.len(), 1);
        known.end(start + SETTLED);
        assert_eq!(known.entries.len(), 0);
        known.add(Action::Publish, subject, start);
        known.end(start + FORGOTTEN);
        assert_eq!(known.entries.len(), 0, "nobody tries it any more");
    }

    #[test]
    fn a_subscription_is_tried_again_with_a_new_connection() {
        let (mut known, start) = (Known::default(), Duration::from_secs(1));
        assert!(!known.wants_new_connection(start + SUBSCRIBE_AGAIN * 2));
        known.add(Action::Subscribe, "$STEWARD.hello.*", start);
        known.end(start + FORGOTTEN);
        assert!(!known.wants_new_connection(start + SUBSCRIBE_AGAIN / 2));
        let again = start + SUBSCRIBE_AGAIN;
        assert!(known.wants_new_connection(again));
        known.connected(again);
        assert!(!known.wants_new_connection(again));
        // Told again at once: it is no news.
        assert!(!known.add(Action::Subscribe, "$STEWARD.hello.*", again));
        known.end(again + SETTLED);
        assert_eq!(known.entries.len(), 1);
        known.connected(again);
        known.end(again + SETTLED);
        assert_eq!(known.entries.len(), 0);
    }
}
