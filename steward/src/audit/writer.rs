//! The task that writes the audit log. Lines that a full disk does not take are kept, up to a limit, and written when there
//! is room; how many there was no room for stands in the log then.

use std::collections::VecDeque;
use std::mem;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;

use super::chain::Chain;
use super::{Audit, Entry, QUEUE_MAX, Record, Scope, Wait, Waiting};
use crate::clock::{self, Clock};

/// What was handed over together counts as one here: so many go to one write.
const GROUP_MAX: usize = 512;

/// How long lines are gathered for one write while nobody waits for them. A line for itself costs more than what is in it.
const GATHER: Duration = Duration::from_millis(20);

/// Lines that are kept while the disk does not take them; further ones are lost, and counted. As many as can come at once,
/// so that none is lost while it does.
const KEPT_MAX: usize = QUEUE_MAX;

/// How often what was written is synced, and what is kept is tried again.
const SYNC: Duration = Duration::from_secs(1);

/// Refusals that have a line of their own within [`REFUSALS_SPAN_MS`]; further ones are summed up. Whoever is refused must
/// not be able to push out of the log what he has done before.
const REFUSALS_MAX: u64 = 600;

/// Milliseconds in which refusals are counted together.
const REFUSALS_SPAN_MS: u64 = 60_000;

/// Writes the audit log.
#[derive(Debug)]
pub(crate) struct Writer {
    audit: Audit,
    dir: PathBuf,
    waiting: Mutex<Waiting>,
}

/// What the writing thread holds.
#[derive(Debug)]
struct State {
    chain: Chain,
    kept: VecDeque<Record>,
    refusals: Refusals,
    /// Lines that were lost and are not told in the log.
    untold: u64,
    is_failing: bool,
    /// Since the last sync.
    synced: Clock,
    /// Those who wait until all that is here is on the disk.
    owed: Vec<oneshot::Sender<()>>,
}

#[derive(Debug, Default)]
struct Refusals {
    since_ms: u64,
    count: u64,
}

impl Writer {
    /// In this directory, for what goes to `audit`.
    pub(crate) fn new(audit: Audit, dir: PathBuf, waiting: Waiting) -> Arc<Self> {
        Arc::new(Self { audit, dir, waiting: Mutex::new(waiting) })
    }

    /// Writes until the end, and then what waits.
    pub(crate) async fn run(self: Arc<Self>, end: CancellationToken) -> anyhow::Result<()> {
        if self.audit.settings.scope == Scope::Nothing {
            return Ok(());
        }
        let mut waiting = self.waiting.lock().await;
        let dir = self.dir.clone();
        let (chain, cut) = tokio::task::spawn_blocking(move || Chain::open(&dir)).await??;
        let mut state = State::new(chain);
        let reason = format!("steward {}, process {}", env!("CARGO_PKG_VERSION"), std::process::id());
        let reason = match cut {
            0 => reason,
            cut => format!(
                "{reason}; the process before was ended in the middle of a line, {cut} bytes of it were cut off"
            ),
        };
        let (from, reason) = (Some(self.audit.node.clone()), Some(reason.into()));
        let start = Record { at: clock::wall(), event: "start", from, reason, ..Record::default() };
        state = self.write(state, vec![Entry { records: vec![start], wait: Wait::Nobody }]).await?;
        loop {
            let mut group = Vec::new();
            let is_end = tokio::select! {
                biased;
                _ = waiting.0.recv_many(&mut group, GROUP_MAX) => false,
                () = tokio::time::sleep(SYNC), if !state.is_idle() => false,
                () = end.cancelled() => true,
            };
            if is_end && group.is_empty() {
                return Ok(());
            }
            self.gather(&mut waiting, &mut group, &end).await;
            state = self.write(state, group).await?;
        }
    }

    /// Adds to a group what comes while nobody waits for any of it.
    async fn gather(&self, waiting: &mut Waiting, group: &mut Vec<Entry>, end: &CancellationToken) {
        let mut urgent = pin!(self.audit.shared.urgent.notified());
        urgent.as_mut().enable();
        waiting.drain(group);
        if !group.is_empty() && group.iter().all(|entry| matches!(entry.wait, Wait::Nobody)) {
            tokio::select! {
                biased;
                () = urgent => {}
                () = end.cancelled() => {}
                () = tokio::time::sleep(GATHER) => {}
            }
            waiting.drain(group);
        }
        let lines = group.iter().map(|entry| entry.records.len()).sum();
        self.audit.shared.queued.fetch_sub(lines, Ordering::Relaxed);
    }

    /// Writes a group on a thread that may block, and tells whoever waits for it.
    async fn write(&self, mut state: State, group: Vec<Entry>) -> anyhow::Result<State> {
        state.untold += self.audit.take_lost();
        // There may be no second in which nothing comes.
        let is_due = group.is_empty() || state.synced.elapsed() >= SYNC;
        let (mut records, mut waiting) = (Vec::new(), Vec::new());
        for entry in group {
            records.extend(entry.records);
            match entry.wait {
                Wait::Nobody => {}
                Wait::Written(waits) => waiting.push(waits),
                Wait::Synced(waits) => state.owed.push(waits),
            }
        }
        let sync = is_due || !state.owed.is_empty();
        let (state, written, lost) = tokio::task::spawn_blocking(move || state.write(records, sync)).await?;
        let shared = &self.audit.shared;
        shared.written.fetch_add(written, Ordering::Relaxed);
        shared.lost_in_all.fetch_add(lost, Ordering::Relaxed);
        *shared.head.lock().unwrap_or_else(PoisonError::into_inner) = state.chain.head.clone();
        shared.is_failing.store(state.is_failing, Ordering::Relaxed);
        for waiting in waiting {
            // Whoever waited may have been stopped.
            waiting.send(()).ok();
        }
        Ok(state)
    }
}

impl Waiting {
    fn drain(&mut self, group: &mut Vec<Entry>) {
        while group.len() < GROUP_MAX
            && let Ok(entry) = self.0.try_recv()
        {
            group.push(entry);
        }
    }
}

impl Audit {
    /// Lines that were lost since the last time.
    fn take_lost(&self) -> u64 {
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        self.shared.lost_in_all.fetch_add(lost, Ordering::Relaxed);
        lost
    }
}

impl State {
    fn new(chain: Chain) -> Self {
        let (kept, refusals) = (VecDeque::new(), Refusals::default());
        Self { chain, kept, refusals, untold: 0, is_failing: false, synced: Clock::start(), owed: Vec::new() }
    }

    /// Whether there is nothing left to do about what was written down so far.
    fn is_idle(&self) -> bool {
        self.kept.is_empty() && !self.chain.is_dirty && self.untold == 0 && self.refusals.count == 0
    }

    /// Writes these and what was kept; says how many lines were written, and how many are lost for lack of room.
    fn write(mut self, records: Vec<Record>, sync: bool) -> (Self, u64, u64) {
        let mut lost = 0;
        for record in records {
            let Some(record) = self.refusals.pass(record, &mut self.kept) else { continue };
            if self.kept.len() >= KEPT_MAX {
                (lost, self.untold) = (lost + 1, self.untold + 1);
            } else {
                self.kept.push_back(record);
            }
        }
        self.refusals.close(clock::wall().0, &mut self.kept);
        if self.untold > 0 && self.kept.len() < KEPT_MAX {
            let count = Some(mem::take(&mut self.untold));
            let reason = Some("there was no room for them".into());
            self.kept.push_back(Record { at: clock::wall(), event: "lost", count, reason, ..Record::default() });
        }
        let mut result = Ok(());
        let mut written = 0;
        if !self.kept.is_empty() {
            result = self.chain.append(self.kept.make_contiguous());
            if result.is_ok() {
                written = self.kept.len() as u64;
                self.kept.clear();
            }
        }
        if result.is_ok() && sync && self.chain.is_dirty {
            result = self.chain.sync();
            self.synced = Clock::start();
        }
        if result.is_ok() && !self.chain.is_dirty {
            for waits in self.owed.drain(..) {
                // Whoever waited may have been stopped.
                waits.send(()).ok();
            }
        }
        match &result {
            Err(error) if !self.is_failing => {
                tracing::error!(%error, "the audit log can't be written; its lines are kept, and messages go on");
            }
            Ok(()) if self.is_failing => tracing::info!("the audit log is written again"),
            Ok(()) | Err(_) => {}
        }
        self.is_failing = result.is_err();
        (self, written, lost)
    }
}

impl Refusals {
    /// The record, unless it is a refusal too many.
    fn pass(&mut self, record: Record, to: &mut VecDeque<Record>) -> Option<Record> {
        if !matches!(record.event, "refused" | "join-refused") {
            return Some(record);
        }
        self.close(record.at.0, to);
        if self.count == 0 {
            self.since_ms = record.at.0;
        }
        self.count += 1;
        (self.count <= REFUSALS_MAX).then_some(record)
    }

    /// Ends the span if it is over: what was not written in it is told as a sum.
    fn close(&mut self, now_ms: u64, to: &mut VecDeque<Record>) {
        // A clock that was set back ends it as well.
        let is_over = now_ms.saturating_sub(self.since_ms) >= REFUSALS_SPAN_MS || now_ms < self.since_ms;
        if !is_over {
            return;
        }
        if self.count > REFUSALS_MAX {
            let (count, reason) = (Some(self.count - REFUSALS_MAX), Some("further refusals within a minute".into()));
            to.push_back(Record { at: clock::wall(), event: "summed", count, reason, ..Record::default() });
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
