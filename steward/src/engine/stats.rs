//! What the loop counts for metrics, and whether new messages are taken at the moment.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::Node;
use protocol::step::Write;
use tokio::sync::Notify;

use crate::hello::Queues;
use crate::metrics::Metrics;
use crate::traffic::Traffic;

/// New messages, lines for logs and fetched outputs are refused when the file system has less room than this, in bytes, so that what was accepted can still
/// be brought to an end; on a small file system, than this part of it.
const RESERVE_BYTES: u64 = 32 * 1024 * 1024;
/// See [`RESERVE_BYTES`].
const RESERVE_PART: u64 = 20;

/// How often the room is looked at.
const ROOM_EVERY: Duration = Duration::from_millis(500);

/// Counters since the start of the process.
#[derive(Debug)]
pub(crate) struct EngineStats {
    /// The store's commit counter, stamped on receipts.
    pub(crate) commits: Arc<AtomicU64>,
    /// What is counted of messages and transactions.
    pub(crate) metrics: Metrics,
    /// What is counted of the bytes on the link.
    pub(crate) traffic: Traffic,
    /// Outgoing messages that are not final.
    outbox: AtomicU64,
    /// Incoming messages that are not confirmed.
    inbox: AtomicU64,
    /// Incoming messages that are not started.
    waiting: AtomicU64,
    /// Messages that run here.
    running: AtomicU64,
    /// Lanes, outgoing and incoming.
    lanes: (AtomicU64, AtomicU64),
    /// Batches of effects that found their queue full and were dropped.
    pub(crate) effects_dropped: AtomicU64,
    /// Told when something is to be done with the result of a message that has ended.
    pub(crate) replies_due: Arc<Notify>,
    /// Outgoing messages that may be outstanding.
    outbox_max: u64,
    room: Mutex<Room>,
}

#[derive(Debug, Default)]
struct Room {
    looked_at: Option<Duration>,
    little: Option<String>,
    stuck: Option<String>,
}

impl EngineStats {
    /// Nothing yet. So many messages may be outstanding.
    pub(crate) fn new(outbox_max: Option<u64>) -> Self {
        Self {
            commits: Arc::default(),
            metrics: Metrics::new(),
            traffic: Traffic::default(),
            outbox: AtomicU64::new(0),
            inbox: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            running: AtomicU64::new(0),
            lanes: Default::default(),
            effects_dropped: AtomicU64::new(0),
            replies_due: Arc::default(),
            outbox_max: outbox_max.unwrap_or(u64::MAX),
            room: Mutex::default(),
        }
    }
}

/// One less, but never less than none.
fn down(counter: &AtomicU64) -> u64 {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_sub(1))).unwrap_or(0)
}

impl EngineStats {
    /// What the store held when the process started.
    pub(crate) fn start(&self, commits: u64, outbox: u64, inbox: u64) {
        self.commits.store(commits, Ordering::Release);
        self.outbox.store(outbox, Ordering::Relaxed);
        self.inbox.store(inbox, Ordering::Relaxed);
    }

    /// A transaction is through.
    pub(crate) fn committed(&self, commits: u64, writes: &[Write], took: Duration) {
        self.commits.store(commits, Ordering::Release);
        self.metrics.committed(writes.len(), took);
        for write in writes {
            match write {
                Write::Submit { .. } => self.outbox.fetch_add(1, Ordering::Relaxed),
                Write::End { .. } => down(&self.outbox),
                Write::Accept(_) => self.inbox.fetch_add(1, Ordering::Relaxed),
                Write::Forget(_) => down(&self.inbox),
                Write::Started { .. }
                | Write::Ended { .. }
                | Write::Progress { .. }
                | Write::CancelWanted(_)
                | Write::OutLane(_)
                | Write::Peer(_)
                | Write::InLane(_)
                | Write::DropInLane { .. } => 0,
            };
        }
    }

    /// Looks at what only the loop knows, after a turn.
    pub(crate) fn look(&self, node: &Node) {
        let (out, inward) = node.lanes();
        self.lanes.0.store(out as u64, Ordering::Relaxed);
        self.lanes.1.store(inward as u64, Ordering::Relaxed);
        self.waiting.store(node.waiting() as u64, Ordering::Relaxed);
        self.running.store(node.running() as u64, Ordering::Relaxed);
    }

    /// How many lanes there are, outgoing and incoming.
    pub(crate) fn lanes(&self) -> (u64, u64) {
        (self.lanes.0.load(Ordering::Relaxed), self.lanes.1.load(Ordering::Relaxed))
    }

    /// Incoming messages that are on disk here and not started.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The limit of outstanding messages, where it is reached with so many that are about to be accepted.
    pub(crate) fn full(&self, more: usize) -> Option<u64> {
        let open = self.outbox.load(Ordering::Relaxed).saturating_add(more as u64);
        (open >= self.outbox_max).then_some(self.outbox_max)
    }

    /// What waits and runs now.
    pub(crate) fn queues(&self) -> Queues {
        Queues {
            outbox: self.outbox.load(Ordering::Relaxed),
            inbox: self.inbox.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed),
        }
    }

    /// The store is stuck for this reason, or no longer.
    pub(crate) fn refuse(&self, why: Option<&str>) {
        self.room().stuck = why.map(str::to_owned);
    }

    /// Why new messages are not taken, if they are not.
    pub(crate) fn refusal(&self, dir: &Path, now: Duration) -> Option<String> {
        let mut room = self.room();
        if room.looked_at.is_none_or(|before| now.saturating_sub(before) >= ROOM_EVERY) {
            room.looked_at = Some(now);
            room.little = little_room(dir);
        }
        room.stuck.clone().or_else(|| room.little.clone())
    }

    fn room(&self) -> std::sync::MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is too little room in the file system of `dir`, if there is. What others send must not take the last of it
/// either, because a store that can't write can bring nothing to an end.
pub(crate) fn little_room(dir: &Path) -> Option<String> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    let (free, all) = (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize));
    let reserve = RESERVE_BYTES.min(all / RESERVE_PART);
    (free < reserve).then(|| {
        format!(
            "the file system of {} has less than the {} KiB left that steward keeps for messages that it has accepted; \
             make room and send again",
            dir.display(),
            reserve / 1024
        )
    })
}
