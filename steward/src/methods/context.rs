//! What a method is lent while it runs: its messages, its end, a place for its output, the node's log files. Nothing
//! else of the node can be reached from here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use protocol::event::Ticket;
use protocol::message::{Message, MessageId};
use protocol::name::NodeName;
use protocol::outcome::{Final, Outcome};
use protocol::step::Run;
use protocol::time::Wall;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::append::{Append, Appender};
use super::capture::{Captured, Place};
use super::live::{Live, LiveOutputs};
use super::ready::Permit;
use super::runner::Ends;
use super::schedule::Board;
use super::{Ending, Guard, MethodError, OwnMethods};
use crate::audit::Audit;
use crate::blobs::Blobs;
use crate::broker::wire::forward::Side;
use crate::clock;
use crate::engine::{EngineHandle, Input};
use crate::enrol::renewal::Renewal;
use crate::forward::ask::Ask;
use crate::forward::{Begin, Forward, Forwards};
use crate::intake::{Intake, MessageInput};
use crate::processes::Processes;
use crate::results::{Wanted, Wants};
use crate::security::rules::{Limits, Rules};
use crate::store::{Cursor, CursorName, ErrorRow, Note, OrderRow, Reader, ResultRow};
use crate::supervise::Supervisor;
use crate::syslog::Desk;
use crate::tails::Tails;

/// What all runs of a node share.
pub(super) struct Host {
    pub(super) node: NodeName,
    pub(super) dir: PathBuf,
    pub(super) blobs: Blobs,
    pub(super) max_output: u64,
    pub(super) live: LiveOutputs,
    pub(super) wants: Wants,
    pub(super) permit: Permit,
    pub(super) rules: Rules,
    pub(super) audit: Audit,
    pub(super) started: Wall,
    pub(super) guard: Guard,
    pub(super) ends: mpsc::Sender<Ends>,
    pub(super) text_log: Appender,
    pub(super) error_log: Appender,
    pub(super) supervisor: Supervisor,
    pub(super) processes: Processes,
    pub(super) forwards: Forwards,
    pub(super) renewal: Option<Renewal>,
    pub(super) engine: EngineHandle,
    pub(super) syslog: Desk,
    pub(super) orders: Board,
    pub(super) intake: Intake,
    pub(super) reader: Arc<Reader>,
    pub(super) own: OwnMethods,
    pub(super) tails: Tails,
    /// Ends that are not with the engine yet, in messages.
    pub(super) untold: watch::Sender<usize>,
    /// Messages that are taken up when the node starts again.
    pub(super) held: AtomicU64,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Messages that start together, with the one switch that stops them.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) runs: Vec<Run>,
    pub(super) stop: Arc<StopSwitch>,
    /// Whether anybody wants to hear how they end (not so for NACK types).
    pub(super) recorded: bool,
}

/// Why a run has to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its sender wants it back.
    Cancelled,
    /// It ran longer than it may.
    TimedOut(Duration),
    /// The node stops.
    NodeStops,
}

impl Stop {
    /// How a message ends that was stopped for this reason.
    pub(crate) fn ending(self) -> Ending {
        match self {
            Self::Cancelled => Ending::because(Final::Cancelled, "cancelled while it ran"),
            Self::TimedOut(limit) => {
                Ending::because(Final::TimedOut, format!("it ran longer than its limit of {limit:?} and was stopped"))
            }
            Self::NodeStops => Ending::because(
                Final::Interrupted,
                "the node was stopped while it ran; how far it came is unknown, so it is not run again",
            ),
        }
    }
}

/// Stops one run; the first reason counts.
#[derive(Debug, Default)]
pub(super) struct StopSwitch {
    why: OnceLock<Stop>,
    token: CancellationToken,
}

impl StopSwitch {
    pub(super) fn stop(&self, why: Stop) {
        self.why.get_or_init(|| why);
        self.token.cancel();
    }

    /// The reason, once it has been stopped.
    pub(super) fn why(&self) -> Option<Stop> {
        self.why.get().copied()
    }

    /// Returns when the run has to stop.
    pub(super) async fn stopped(&self) -> Stop {
        self.token.cancelled().await;
        // The reason is set before the token is cancelled.
        self.why().unwrap_or(Stop::NodeStops)
    }
}

/// What a method may use.
#[derive(Debug)]
pub(crate) struct MethodCtx<'a> {
    host: &'a Arc<Host>,
    runs: &'a [Run],
    stop: &'a StopSwitch,
    recorded: bool,
    limits: Limits,
    pub(super) output: Captured,
    in_memory: Option<u64>,
    pub(super) started: Wall,
    pub(super) reported: bool,
}

impl<'a> MethodCtx<'a> {
    pub(super) fn new(
        host: &'a Arc<Host>,
        runs: &'a [Run],
        stop: &'a StopSwitch,
        recorded: bool,
        limits: Limits,
    ) -> Self {
        let output = Captured::default();
        Self { host, runs, stop, recorded, limits, output, in_memory: None, started: clock::wall(), reported: false }
    }

    /// The same with the output kept in memory, so many bytes of it, for whoever has asked for the run.
    pub(super) fn in_memory(self, bytes_max: u64) -> Self {
        Self { in_memory: Some(bytes_max), ..self }
    }

    /// What all runs share, for a run that has others run.
    pub(super) fn host(&self) -> &'a Arc<Host> {
        self.host
    }

    /// The orders with a schedule that stand here.
    pub(crate) fn orders(&self) -> &Board {
        &self.host.orders
    }

    /// What catches those that panic.
    pub(super) fn supervisor(&self) -> &Supervisor {
        &self.host.supervisor
    }

    /// The messages of this run, in order; one, unless the method takes batches.
    pub(crate) fn runs(&self) -> &[Run] {
        self.runs
    }

    /// This node.
    pub(crate) fn node(&self) -> &NodeName {
        &self.host.node
    }

    /// This node's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.host.dir
    }

    /// When this node's process started.
    pub(crate) fn node_started(&self) -> Wall {
        self.host.started
    }

    /// Returns when the method has to stop. One that does not listen is dropped after [`STOP_LIMIT`](super::runner::STOP_LIMIT).
    pub(crate) async fn stopped(&self) -> Stop {
        self.stop.stopped().await
    }

    /// What ends processes whose node was killed.
    pub(crate) fn guard(&self) -> &Guard {
        &self.host.guard
    }

    /// The user as whom programs run here, where a rule names one.
    pub(crate) fn user(&self) -> Option<&str> {
        self.limits.user.as_deref()
    }

    /// Our number for the message of this run; none where nobody waits for its end.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        self.runs.first().filter(|_| self.recorded).map(|run| run.ticket)
    }

    /// Where outputs lie, and what is copied.
    pub(super) fn blobs(&self) -> &Blobs {
        &self.host.blobs
    }

    /// A place where what goes along with the message of this run comes in. None: nothing can, because nobody waits for its
    /// end, or the node stops.
    pub(super) async fn content(&self) -> Option<Wanted> {
        let run = self.runs.first().filter(|_| self.recorded)?;
        self.host.wants.open(&run.message).await
    }

    /// Where the output of this run goes.
    pub(super) fn place(&self) -> Place {
        if self.in_memory.is_some() {
            return Place::in_memory(&self.host.blobs, self.max_output());
        }
        Place::new(&self.host.blobs, self.ticket(), self.max_output())
    }

    /// Bytes of output that are kept of this run, both streams together.
    pub(crate) fn max_output(&self) -> u64 {
        let limits = [self.limits.max_output, self.in_memory];
        limits.into_iter().flatten().fold(self.host.max_output, u64::min)
    }

    /// Within which limits a rule has let this run in.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Has whoever sent the message of this run see its output while it is written, if anybody may.
    pub(super) fn live(&self) -> Option<Live> {
        let run = self.runs.first().filter(|_| self.recorded)?;
        Some(self.host.live.begin(&run.message, run.ticket, self.started))
    }

    /// Keeps a text as the standard output of this run.
    pub(crate) async fn answer(&mut self, text: &str) {
        self.output = self.place().keep(text).await;
    }

    /// Keeps objects as the standard output of this run, one a line. The method is done then.
    pub(crate) async fn answer_json(&mut self, objects: &[impl Serialize]) -> Result<Ending, MethodError> {
        let mut text = String::new();
        for object in objects {
            text += &serde_json::to_string(object).map_err(|error| MethodError(error.to_string()))?;
            text.push('\n');
        }
        self.answer(&text).await;
        Ok(Ending::DONE)
    }

    /// What the node accepts.
    pub(crate) fn rules(&self) -> &Rules {
        &self.host.rules
    }

    /// Begins the forward that a message asks for. Before each of its connections the rules are asked whether the message may
    /// still run. The error says why there is none.
    pub(crate) fn forward(&self, message: &Message, ask: Ask) -> Result<Forward, String> {
        let (permit, asked, data) = (Arc::clone(&self.host.permit), message.clone(), ask.data());
        let allowed = Box::new(move || permit(&asked, &data).map(drop));
        let (peer, seal) = (message.from.clone(), message.options.seal);
        let side = Side::Receiver;
        self.host.forwards.begin(Begin { peer, id: message.id, side, seal, ask, target: None, allowed })
    }

    /// How the node's keys are renewed; none where it has no identity.
    pub(crate) fn renewal(&self) -> Option<&Renewal> {
        self.host.renewal.as_ref()
    }

    /// The methods of the node's own.
    pub(crate) fn own(&self) -> &OwnMethods {
        &self.host.own
    }

    /// The node's processes.
    pub(crate) fn processes(&self) -> &Processes {
        &self.host.processes
    }

    /// What lines of syslog need here.
    pub(crate) fn syslog(&self) -> &Desk {
        &self.host.syslog
    }

    /// Writes errors into the node's table of errors. Returns once they are durable.
    pub(crate) async fn note_errors(&self, rows: Vec<ErrorRow>) -> Result<(), MethodError> {
        let rows = rows.into_iter().map(Note::Error).collect();
        let noted = self.host.engine.ask(|reply| Input::Note(rows, reply)).await;
        noted.map_err(|error| MethodError(error.to_string()))
    }

    /// The row of an order with a schedule that this node has given to that one; none if there is no such order.
    pub(crate) async fn order_given(&self, order: MessageId, to: &NodeName) -> Result<Option<OrderRow>, MethodError> {
        let (reader, to) = (Arc::clone(&self.host.reader), to.clone());
        let found = tokio::task::spawn_blocking(move || reader.order(order, &to)).await;
        let found = found.map_err(|error| MethodError(error.to_string()))?;
        found.map_err(|error| MethodError(format!("it can't be read which orders were given: {error}")))
    }

    /// How a message that this node has sent has ended: its state, and the reason. None if it has not, or is not known.
    pub(crate) async fn ended(&self, id: MessageId) -> Option<(String, String)> {
        let reader = Arc::clone(&self.host.reader);
        let view = tokio::task::spawn_blocking(move || reader.show(id)).await.ok()?.ok()??;
        view.finished_at.is_some().then(|| (view.state, view.reason.unwrap_or_default()))
    }

    /// Keeps what was told of an order. Returns once that is durable.
    pub(crate) async fn note_result(&self, row: ResultRow) -> Result<(), MethodError> {
        let noted = self.host.engine.ask(|reply| Input::Note(vec![Note::Result(Box::new(row))], reply)).await;
        noted.map_err(|error| MethodError(error.to_string()))
    }

    /// What this run has kept last of how far it is, also before the node was started anew.
    pub(crate) async fn cursor(&self) -> Result<Option<String>, MethodError> {
        let Some(name) = self.cursor_name() else { return Ok(None) };
        let reader = Arc::clone(&self.host.reader);
        let read = tokio::task::spawn_blocking(move || reader.cursor(&name)).await;
        let read = read.map_err(|error| MethodError(error.to_string()))?;
        read.map_err(|error| MethodError(format!("how far it is can't be read: {error}")))
    }

    /// Messages of this node, checked and with their ids, to be kept.
    pub(crate) fn prepare(&self, inputs: Vec<MessageInput>) -> Result<Vec<Message>, MethodError> {
        self.host.intake.prepare(inputs).map_err(|error| MethodError(error.to_string()))
    }

    /// Accepts messages of this node (all or none; there may be none) and keeps how far the run is, in one transaction.
    /// So what reads from a cursor loses nothing and gives nothing twice, wherever the node is killed. The cursor goes
    /// with the end of the run. After an error try the same again later, with the very same messages: a disk that was stuck may
    /// have taken them after all, and each is accepted once.
    pub(crate) async fn keep(&self, messages: Vec<Message>, cursor: String) -> Result<Vec<MessageId>, MethodError> {
        let Some(name) = self.cursor_name() else {
            return Err(MethodError("a message without ACK has no place where it keeps how far it is".to_owned()));
        };
        let kept = self.host.intake.keep(messages, Cursor { name, text: cursor }).await;
        kept.map_err(|error| MethodError(error.to_string()))
    }

    /// What the store has.
    pub(crate) fn reader(&self) -> &Arc<Reader> {
        &self.host.reader
    }

    /// Files of lines that come from other nodes.
    pub(crate) fn tails(&self) -> &Tails {
        &self.host.tails
    }

    fn cursor_name(&self) -> Option<CursorName> {
        self.runs.first().filter(|_| self.recorded).map(|run| CursorName::Run(run.ticket))
    }

    /// Appends to the text log; see [`append`](super::append).
    pub(crate) async fn append_text(&mut self, bytes: Vec<u8>) -> Result<Ending, MethodError> {
        self.append(&self.host.text_log, bytes).await
    }

    /// Appends to the error log; see [`append`](super::append).
    pub(crate) async fn append_error(&mut self, bytes: Vec<u8>) -> Result<Ending, MethodError> {
        self.append(&self.host.error_log, bytes).await
    }

    /// The log's writer itself tells how these messages ended, because the order in which it tells is what makes a log
    /// exact across a crash.
    async fn append(&mut self, log: &Appender, bytes: Vec<u8>) -> Result<Ending, MethodError> {
        let runs = if self.recorded { self.runs } else { &[] };
        let ends = runs.iter().map(|run| (run.ticket, self.outcome(Ending::DONE))).collect();
        let told = log.append(Append::new(bytes, ends)).await?;
        self.reported = true;
        Ok(told)
    }

    /// The outcome of a run that ends now.
    pub(super) fn outcome(&self, ending: Ending) -> Outcome {
        let Ending { state, reason, exit_code, signal } = ending;
        Outcome {
            state,
            reason,
            exit_code,
            signal,
            started: Some(self.started),
            finished: clock::wall(),
            stdout: self.output.stdout.clone(),
            stderr: self.output.stderr.clone(),
            proof: None,
        }
    }
}
