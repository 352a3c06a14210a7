//! The audit log, `audit.jsonl` in the node's directory: who sent what to whom, what the receiver decided and by which
//! rule, and how it ended. Both sides write it. Each line holds the hash of the one before, so that none can be
//! altered or taken out without being missed (`steward audit verify`); whoever can write the file can still cut lines off its
//! end, or write all of it anew. The hello carries the hash of the last line, so that other nodes know better.
//!
//! ```json
//! {"n":7,"at":"2026-11-22T10:42:00.000Z","event":"started","id":"0193…","from":"central","to":"ship1","type":"CommandACK",
//!  "method":"ShellCommand","data":["df","-h"],"rule":"disk looks","prev":"5f3c…","hash":"90aa…"}
//! ```
//! | event | on | says |
//! | --- | --- | --- |
//! | `sent` | the sender | a message was accepted here, and goes out |
//! | `result` | the sender | how it ended |
//! | `accepted` | the receiver | the rules let it in |
//! | `refused` | the receiver | they did not, when it came or when its turn came |
//! | `started` | the receiver | it is about to run: by which rule, as which user |
//! | `ended` | the receiver | how it ended |
//! | `start` | both | a process of the node began to write |
//! | `invited`, `withdrawn`, `joined`, `join-refused`, `revoked`, `rules-pushed`, `renewal-asked`, `renewed` | central | what was done to the fleet |
//! | `lost`, `summed` | both | so many lines are not here: no room for them, or too many refusals |
//!
//! Commands and refusals are written, or everything (`--audit`). `started` is in the file before anything runs; all other lines
//! are handed over and written a moment later, so the engine never waits for them.

mod brought;
mod by;
mod chain;
mod fleet;
mod line;
mod read;
mod writer;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::event::Verdict;
use protocol::message::{Kind, Message, MessageId};
use protocol::name::{Lane, MethodName, NodeName};
use protocol::outcome::{Final, Outcome};
use protocol::step::{InState, Report, Run, Write};
use protocol::time::Wall;
use tokio::sync::{Notify, mpsc, oneshot};

pub(crate) use by::By;
pub(crate) use fleet::{Act, Deed};
pub(crate) use line::LineView;
pub(crate) use read::{lines, verify};
pub(crate) use writer::Writer;

use brought::Brought;

use crate::clock;
use crate::methods::Ending;
use crate::security::rules::Grant;

/// Lines that may wait for the writer; further ones are lost, and counted.
const QUEUE_MAX: usize = 8192;

/// Bytes of a message's data that are written as they are; of what is longer, so many and the hash of all.
const DATA_BYTES_MAX: usize = 8 * 1024;

/// How long a run waits for its line to be written.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 1000;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Nothing.
    Nothing,
    /// Commands, and whatever is refused.
    Commands,
    /// Events too.
    All,
}

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataForm {
    /// As it is.
    Full,
    /// As its hash: whoever knows the data can tell that it was this, and nobody else what it was.
    Hash,
}

/// What to write, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// What.
    pub(crate) scope: Scope,
    /// How.
    pub(crate) data: DataForm,
}

/// One line, before it has its place in the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Record {
    at: Wall,
    event: &'static str,
    id: Option<MessageId>,
    from: Option<NodeName>,
    to: Option<NodeName>,
    kind: Option<Kind>,
    method: Option<MethodName>,
    data: Option<Data>,
    rule: Option<Arc<str>>,
    user: Option<Arc<str>>,
    state: Option<Final>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    reason: Option<Arc<str>>,
    count: Option<u64>,
    /// What else is known of it: the text of a JSON object.
    about: Option<Arc<str>>,
    by: Option<By>,
}

/// The data of a message, within its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Data {
    /// The JSON text of an array, whole.
    Whole(Arc<str>),
    /// The hash of that text, its length, and its beginning where that may be shown.
    Hash([u8; 32], usize, Option<String>),
}

/// What the last line is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Head {
    /// Its number.
    pub(crate) n: u64,
    /// Its hash.
    pub(crate) hash: String,
}

/// Where lines go. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    node: NodeName,
    settings: Settings,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: mpsc::Sender<Entry>,
    /// Lines in the queue.
    queued: AtomicUsize,
    /// Wakes the writer while it gathers lines: somebody waits for one, or there are many.
    urgent: Notify,
    /// Lines that found the queue full, and are not told to the writer.
    lost: AtomicU64,
    /// All that were lost.
    lost_in_all: AtomicU64,
    written: AtomicU64,
    /// Whether the disk does not take lines.
    is_failing: AtomicBool,
    head: Mutex<Head>,
    brought: Brought,
}

/// Lines that go to the writer together, so that it is woken once for them.
#[derive(Debug)]
struct Entry {
    records: Vec<Record>,
    wait: Wait,
}

/// Who waits for lines.
#[derive(Debug)]
enum Wait {
    /// Nobody.
    Nobody,
    /// Somebody who has to know when they are in the file, or could not be written into it.
    Written(oneshot::Sender<()>),
    /// Somebody who keeps them until they are on the disk.
    Synced(oneshot::Sender<()>),
}

impl Audit {
    /// For `node`. The receiver is for the [`Writer`].
    pub(crate) fn new(node: NodeName, settings: Settings) -> (Self, Waiting) {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let shared = Shared {
            queue,
            queued: AtomicUsize::new(0),
            urgent: Notify::new(),
            lost: AtomicU64::new(0),
            lost_in_all: AtomicU64::new(0),
            written: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            head: Mutex::default(),
            brought: Brought::default(),
        };
        let shared = Arc::new(shared);
        (Self { node, settings, shared }, Waiting(waiting))
    }

    /// Takes down what these writes accept. Never waits.
    pub(crate) fn writes(&self, writes: &[Write]) {
        self.hand_over(writes.iter().filter_map(|write| self.accepted(write)).collect(), Wait::Nobody);
    }

    fn accepted(&self, write: &Write) -> Option<Record> {
        match write {
            Write::Submit { message, .. } if self.wants(message.kind) => {
                let by = self.shared.brought.take(message.id);
                Some(Record { by, ..self.about("sent", message) })
            }
            Write::Accept(row) => match &row.state {
                InState::Finished(outcome) if outcome.state == Final::Refused => {
                    Some(Record { reason: reason(outcome), ..self.about("refused", &row.message) })
                }
                InState::Stored if self.wants(row.message.kind) => Some(self.about("accepted", &row.message)),
                InState::Stored | InState::Running(_) | InState::Finished(_) => None,
            },
            Write::Submit { .. }
            | Write::Progress { .. }
            | Write::CancelWanted(_)
            | Write::End { .. }
            | Write::OutLane(_)
            | Write::Peer(_)
            | Write::Started { .. }
            | Write::Ended { .. }
            | Write::Forget(_)
            | Write::InLane(_)
            | Write::DropInLane { .. } => None,
        }
    }

    /// These messages, which go to the engine, were given by `by`.
    pub(crate) fn brought(&self, messages: &[Message], by: By) {
        if self.settings.scope != Scope::Nothing {
            self.shared.brought.add(messages, by);
        }
    }

    /// The engine has answered to whoever brought these.
    pub(crate) fn was_answered(&self, ids: impl Iterator<Item = MessageId>) {
        self.shared.brought.forget(ids);
    }

    /// Takes down how messages have ended. Never waits.
    pub(crate) fn report(&self, report: &Report) {
        match report {
            Report::Out { id, lane, outcome: Some(outcome), .. } if self.wants(lane.kind) => {
                let (from, to) = (self.node.clone(), lane.peer.clone());
                self.add(end("result", *id, lane, outcome, from, to));
            }
            // What was refused has its line already, with what it was.
            Report::In { outcome, .. } if outcome.state == Final::Refused && outcome.started.is_none() => {}
            Report::In { id, lane, outcome, .. } if self.wants(lane.kind) => {
                let (from, to) = (lane.peer.clone(), self.node.clone());
                self.add(end("ended", *id, lane, outcome, from, to));
            }
            Report::Out { .. }
            | Report::In { .. }
            | Report::Presence { .. }
            | Report::Conflict { .. }
            | Report::StoreLost { .. }
            | Report::Dropped { .. } => {}
        }
    }

    /// Takes down that a message without a record (NACK types) was refused as it came; nothing else remembers it.
    pub(crate) fn judged(&self, from: &NodeName, kind: Kind, method: &MethodName, body: &str, verdict: &Verdict) {
        if let Verdict::Refuse(why) = verdict
            && !kind.wants_ack()
        {
            let data = self.data(&Arc::from(body));
            let (from, to) = (Some(from.clone()), Some(self.node.clone()));
            let (kind, method, reason) = (Some(kind), Some(method.clone()), Some(Arc::clone(why)));
            self.add(Record {
                at: clock::wall(),
                event: "refused",
                from,
                to,
                kind,
                method,
                data,
                reason,
                ..Record::default()
            });
        }
    }

    /// Takes down that a message was refused when its turn came.
    pub(crate) fn refused_late(&self, message: &Message, why: &str) {
        self.add(Record { reason: Some(cut(why)), ..self.about("refused", message) });
    }

    /// Takes down that these messages are about to run; returns once that is in the file, or after [`WRITE_LIMIT`]: a log
    /// that can't be written is told as an error, and is no reason to leave a node without commands.
    pub(crate) async fn started(&self, starts: &[(&Message, Grant)]) {
        let record = |(message, grant): &(&Message, Grant)| {
            let (rule, user) = (Some(Arc::clone(&grant.rule)), grant.limits.user.clone());
            Record { rule, user, ..self.about("started", message) }
        };
        let wanted = starts.iter().filter(|(message, _)| self.wants(message.kind));
        let (written, answer) = oneshot::channel();
        // What finds no room is not waited for. Without an answer the writer has ended with the node.
        if self.hand_over(wanted.map(record).collect(), Wait::Written(written)) {
            drop(tokio::time::timeout(WRITE_LIMIT, answer).await);
        }
    }

    /// Takes down how a message without a record ended.
    pub(crate) fn unrecorded(&self, run: &Run, ending: &Ending) {
        if self.wants(run.message.kind) {
            let (exit_code, signal) = (ending.exit_code, ending.signal);
            let (state, reason) = (Some(ending.state), ending.reason.as_deref().map(cut));
            self.add(Record { state, reason, exit_code, signal, data: None, ..self.about("ended", &run.message) });
        }
    }

    /// Lines that were written since the start, and those that were lost.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.shared.written.load(Ordering::Relaxed), self.shared.lost_in_all.load(Ordering::Relaxed))
    }

    /// The last line; none where nothing is written.
    pub(crate) fn head(&self) -> Option<Head> {
        let head = self.shared.head.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (head.n > 0).then_some(head)
    }

    fn wants(&self, kind: Kind) -> bool {
        match self.settings.scope {
            Scope::Nothing => false,
            Scope::Commands => kind.is_command(),
            Scope::All => true,
        }
    }

    fn about(&self, event: &'static str, message: &Message) -> Record {
        Record {
            at: clock::wall(),
            event,
            id: Some(message.id),
            from: Some(message.from.clone()),
            to: Some(message.to.clone()),
            kind: Some(message.kind),
            method: Some(message.method.clone()),
            data: self.data(&message.body),
            ..Record::default()
        }
    }

    fn data(&self, body: &Arc<str>) -> Option<Data> {
        let hash = || *blake3::hash(body.as_bytes()).as_bytes();
        Some(match self.settings.data {
            DataForm::Hash => Data::Hash(hash(), body.len(), None),
            DataForm::Full if body.len() <= DATA_BYTES_MAX => Data::Whole(Arc::clone(body)),
            DataForm::Full => Data::Hash(hash(), body.len(), Some(beginning(body, DATA_BYTES_MAX).to_owned())),
        })
    }

    fn add(&self, record: Record) {
        self.hand_over(vec![record], Wait::Nobody);
    }

    /// Gives lines to the writer; false if there were none, or no room for them, so that they are lost.
    fn hand_over(&self, records: Vec<Record>, wait: Wait) -> bool {
        let count = records.len() as u64;
        let is_taken = self.hand_over_kept(records, wait);
        if !is_taken && self.settings.scope != Scope::Nothing {
            self.shared.lost.fetch_add(count, Ordering::Relaxed);
        }
        is_taken
    }

    /// The same for lines that are kept elsewhere if there is no room for them here.
    fn hand_over_kept(&self, records: Vec<Record>, wait: Wait) -> bool {
        if records.is_empty() || self.settings.scope == Scope::Nothing {
            return false;
        }
        let (shared, count, is_waited_for) = (&self.shared, records.len(), !matches!(wait, Wait::Nobody));
        let queued = shared.queued.fetch_add(count, Ordering::Relaxed) + count;
        if queued > QUEUE_MAX || shared.queue.try_send(Entry { records, wait }).is_err() {
            shared.queued.fetch_sub(count, Ordering::Relaxed);
            return false;
        }
        if is_waited_for || queued > QUEUE_MAX / 2 {
            shared.urgent.notify_waiters();
        }
        true
    }
}

/// What waits for the writer.
#[derive(Debug)]
pub(crate) struct Waiting(mpsc::Receiver<Entry>);

fn end(event: &'static str, id: MessageId, lane: &Lane, outcome: &Outcome, from: NodeName, to: NodeName) -> Record {
    Record {
        at: clock::wall(),
        event,
        id: Some(id),
        from: Some(from),
        to: Some(to),
        kind: Some(lane.kind),
        method: Some(lane.method.clone()),
        state: Some(outcome.state),
        exit_code: outcome.exit_code,
        signal: outcome.signal,
        reason: reason(outcome),
        ..Record::default()
    }
}

fn reason(outcome: &Outcome) -> Option<Arc<str>> {
    outcome.reason.as_deref().map(cut)
}

fn cut(text: &str) -> Arc<str> {
    Arc::from(beginning(text, REASON_BYTES_MAX))
}

/// As much of a text as has room, up to a whole character.
fn beginning(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests;
