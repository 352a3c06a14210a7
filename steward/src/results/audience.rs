//! Whoever looks on, on this node, while a message runs elsewhere: which messages are followed, how much of their outputs
//! is here, and when their nodes are to be asked for more. It never sends or writes anything itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::message::MessageId;
use protocol::name::NodeName;
use tokio::sync::{Notify, mpsc, watch};

use crate::broker::wire::live::Follow;
use crate::clock::Clock;

/// Messages that are followed at the same time; for one more, its result at the end has to do.
pub(crate) const FOLLOWED_MAX: usize = 64;

/// Wishes to the task that has the files that may wait; more are dropped, and come again.
pub(super) const WANTS_MAX: usize = 256;

/// How often what is followed is asked for anew, which holds three times as long.
const RENEW: Duration = Duration::from_secs(10);

/// The first of the pauses, each twice as long, in which a node is asked that has not answered yet.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// How soon a node may be asked again for what was lost.
const PAUSE_GAP: Duration = Duration::from_millis(500);

/// So many new bytes of a stream are told at once: the other side sends no more than twice as many that it was not told of.
pub(super) const TELL_BYTES: u64 = 512 * 1024;

/// What the files are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Somebody begins to look on: what is here already?
    Open(MessageId),
    /// Nobody looks on any more; what is here stays.
    Close(MessageId),
    /// The message has ended, and its result is here.
    Forget(MessageId),
}

/// How much of the outputs of a message is here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Grown {
    /// The run that they are of: its start in milliseconds since 1970; 0 while nothing is known of any.
    pub(crate) run: u64,
    /// Bytes of standard output and standard error that can be read here.
    pub(crate) have: [u64; 2],
    /// Bytes that there were when its node has told of them last.
    pub(crate) lengths: [u64; 2],
    /// Whether its node has told anything since somebody began to look on.
    pub(crate) is_told: bool,
}

impl Grown {
    /// Whether all that was written until its node was asked is here.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.is_told && self.have[0] >= self.lengths[0] && self.have[1] >= self.lengths[1]
    }
}

/// All messages that are followed from here. Clones are the same.
#[derive(Clone)]
pub(crate) struct Audience(Arc<Inner>);

struct Inner {
    clock: Clock,
    entries: Mutex<BTreeMap<MessageId, Entry>>,
    /// What is to be said to nodes whose outputs nobody follows any more; what finds no room is not said.
    left: Mutex<Vec<Due>>,
    wants: mpsc::Sender<Want>,
    wake: Notify,
    /// Messages of which something lies here that was followed; not looked up, because there may be a great many outputs.
    lives: Mutex<BTreeSet<MessageId>>,
}

struct Entry {
    peer: NodeName,
    seal: bool,
    listeners: usize,
    grown: watch::Sender<Grown>,
    /// When to ask next; none while it is not known what is here.
    next: Option<Duration>,
    pause: Duration,
    last: Duration,
    /// What was told to be here with the last question.
    told: [u64; 2],
    again: bool,
}

/// A question that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) peer: NodeName,
    pub(super) seal: bool,
    pub(super) follow: Follow,
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audience").finish_non_exhaustive()
    }
}

impl Audience {
    /// Nobody yet. The receiver is for the task that has the files.
    pub(super) fn new() -> (Self, mpsc::Receiver<Want>) {
        let (wants, wanted) = mpsc::channel(WANTS_MAX);
        let inner = Inner {
            clock: Clock::start(),
            entries: Mutex::default(),
            left: Mutex::default(),
            wants,
            wake: Notify::new(),
            lives: Mutex::default(),
        };
        (Self(Arc::new(inner)), wanted)
    }

    /// An audience whose files nobody has.
    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Self::new().0
    }

    /// Somebody begins to look on while this message runs on `peer`. None: too many are followed already.
    pub(crate) async fn attach(&self, id: MessageId, peer: &NodeName, seal: bool) -> Option<Attached> {
        let grown = {
            let mut entries = self.entries();
            if entries.len() >= FOLLOWED_MAX && !entries.contains_key(&id) {
                return None;
            }
            let entry = entries.entry(id).or_insert_with(|| Entry::new(peer.clone(), seal));
            entry.listeners += 1;
            entry.grown.subscribe()
        };
        let attached = Attached { audience: self.clone(), id, is_over: false, grown };
        // Given up if nobody has the files any more: then the node stops.
        self.0.wants.send(Want::Open(id)).await.ok()?;
        Some(attached)
    }

    /// Whether somebody follows this message, and it is one for this node.
    pub(super) fn is_of(&self, id: MessageId, peer: &NodeName) -> bool {
        self.entries().get(&id).is_some_and(|entry| entry.peer == *peer)
    }

    /// Whether somebody follows this message.
    pub(super) fn has(&self, id: MessageId) -> bool {
        self.entries().contains_key(&id)
    }

    /// So much is here from before.
    pub(super) fn opened(&self, id: MessageId, run: u64, have: [u64; 2]) {
        self.with(id, |entry, now| {
            if entry.next.is_none() {
                entry.grown.send_modify(|grown| (grown.run, grown.have) = (run, have));
                (entry.again, entry.next) = (true, Some(now));
            }
            true
        });
    }

    /// So much is here now, and so much is there.
    pub(super) fn grew(&self, id: MessageId, run: u64, have: [u64; 2], lengths: [u64; 2]) {
        self.with(id, |entry, now| {
            entry.grown.send_replace(Grown { run, have, lengths, is_told: true });
            if entry.pause < RENEW && !entry.again {
                // It has answered, so nothing has to be asked sooner.
                (entry.pause, entry.next) = (RENEW, Some(entry.last + RENEW));
            }
            let untold = (0..2).any(|stream| have[stream] >= entry.told[stream].saturating_add(TELL_BYTES));
            if untold {
                entry.next = Some(now);
            }
            untold
        });
    }

    /// Something is missing in between, or it is another run now whose beginning is not here.
    pub(super) fn gap(&self, id: MessageId) {
        self.with(id, |entry, now| {
            let soon = now.max(entry.last + PAUSE_GAP);
            let sooner = entry.next.is_some_and(|next| soon < next);
            entry.again = true;
            if sooner {
                entry.next = Some(soon);
            }
            sooner
        });
    }

    /// Nothing is here any more that can be gone on with.
    pub(crate) fn forget(&self, id: MessageId) {
        // What finds no room is found later by whoever looks for what is left over.
        let _room: bool = self.0.wants.try_send(Want::Forget(id)).is_ok();
    }

    /// The link is new: what was on its way is lost.
    pub(super) fn link_up(&self) {
        let now = self.0.clock.elapsed();
        self.entries().values_mut().for_each(|entry| entry.ask_anew(now));
        self.0.wake.notify_one();
    }

    /// The questions that are due now. They count as asked.
    pub(super) fn due(&self) -> Vec<Due> {
        let now = self.0.clock.elapsed();
        let mut entries = self.entries();
        let due = entries.iter_mut().filter(|(_, entry)| entry.next.is_some_and(|next| next <= now));
        due.map(|(id, entry)| {
            let Grown { run, have, .. } = *entry.grown.borrow();
            let follow = Follow { id: *id, run, have, again: std::mem::take(&mut entry.again), stop: false };
            (entry.told, entry.last, entry.next) = (have, now, Some(now + entry.pause));
            entry.pause = (entry.pause * 2).min(RENEW);
            Due { peer: entry.peer.clone(), seal: entry.seal, follow }
        })
        .chain(self.left().drain(..))
        .collect()
    }

    /// How long until the next question; none while nobody looks on.
    pub(super) fn pause(&self) -> Option<Duration> {
        let now = self.0.clock.elapsed();
        let next = self.entries().values().filter_map(|entry| entry.next).min()?;
        Some(next.saturating_sub(now))
    }

    /// Messages of which something lies here that was followed.
    pub(super) fn lives(&self) -> MutexGuard<'_, BTreeSet<MessageId>> {
        self.0.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> MutexGuard<'_, Vec<Due>> {
        self.0.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when a question may be due sooner than it was.
    pub(super) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Changes an entry; true: its question may be due sooner.
    fn with(&self, id: MessageId, change: impl FnOnce(&mut Entry, Duration) -> bool) {
        let now = self.0.clock.elapsed();
        if self.entries().get_mut(&id).is_some_and(|entry| change(entry, now)) {
            self.0.wake.notify_one();
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<MessageId, Entry>> {
        // An entry that is half changed only asks too often or too late.
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(peer: NodeName, seal: bool) -> Self {
        let grown = watch::Sender::new(Grown::default());
        let (listeners, last) = (0, Duration::ZERO);
        Self { peer, seal, listeners, grown, next: None, pause: PAUSE_FIRST, last, told: [0; 2], again: true }
    }

    fn ask_anew(&mut self, now: Duration) {
        (self.again, self.pause) = (true, PAUSE_FIRST);
        self.next = self.next.map(|_| now);
    }
}

/// Somebody who looks on. Dropped, it is over.
#[derive(Debug)]
pub(crate) struct Attached {
    audience: Audience,
    id: MessageId,
    is_over: bool,
    /// How much is here.
    pub(crate) grown: watch::Receiver<Grown>,
}

impl Attached {
    /// The message has ended, so nobody has to be told that nobody looks on.
    pub(crate) fn over(mut self) {
        self.is_over = true;
    }

    /// Has its node asked at once: there is reason to believe that it would answer now.
    pub(crate) fn ask_anew(&self) {
        self.audience.with(self.id, |entry, now| {
            entry.ask_anew(now);
            true
        });
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut entries = self.audience.entries();
        let Some(entry) = entries.get_mut(&self.id) else { return };
        entry.listeners = entry.listeners.saturating_sub(1);
        if entry.listeners > 0 {
            return;
        }
        let Some(Entry { peer, seal, .. }) = entries.remove(&self.id) else { return };
        drop(entries);
        let mut left = self.audience.left();
        if !self.is_over && left.len() < FOLLOWED_MAX {
            let follow = Follow { id: self.id, run: 0, have: [0; 2], again: false, stop: true };
            left.push(Due { peer, seal, follow });
        }
        drop(left);
        self.audience.0.wake.notify_one();
        // Where there is no room for it, the file stays open until another one needs its place.
        let _room: bool = self.audience.0.wants.try_send(Want::Close(self.id)).is_ok();
    }
}
