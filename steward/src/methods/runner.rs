//! Runs what the engine starts: each start in a task of its own, so that nothing that a method does (hang, panic, write
//! for ever) reaches anything else; and tells the engine how it ended.
//!
//! It never decides whether or when a message may start, and never writes to the store.

pub(super) mod running;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::Event;
use protocol::event::Ticket;
use protocol::message::Message;
use protocol::name::NodeName;
use protocol::outcome::{Final, Outcome};
use protocol::step::{Effect, Run};
use protocol::time::Wall;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::append::Writer;
use super::context::{Batch, Host, Stop, StopSwitch};
use super::job_guard::{Guard, Program};
use super::live::LiveOutputs;
use super::own::{OwnMethod, OwnMethods};
use super::ready::Permit;
use super::schedule::Board;
use super::{Ending, entry, error_log, stands, text_logging};
use crate::audit::Audit;
use crate::blobs::Blobs;
use crate::engine::EngineHandle;
use crate::enrol::renewal::Renewal;
use crate::forward::Forwards;
use crate::intake::Intake;
use crate::processes::Processes;
use crate::results::Wants;
use crate::security::rules::{Rules, smaller};
use crate::store::Reader;
use crate::supervise::{Spec, Stops, Supervisor};
use crate::syslog::Desk;
use crate::tails::Tails;

/// How messages ended, in the form that the engine wants.
pub(super) type Ends = Vec<(Ticket, Outcome)>;

/// How long a method that was told to stop may take before it is dropped where it stands.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Messages without a record (NACK types) that may wait for their turn; more are dropped, and counted.
pub(crate) const UNRECORDED_MAX: usize = 1024;

/// Bytes of the data of those that wait; more are dropped, and counted.
const UNRECORDED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Messages without a record that run at the same time.
const UNRECORDED_RUNNING_MAX: usize = 64;

/// Batches of ends that may wait for the engine; a method that ends then waits.
const ENDS_MAX: usize = 1024;

/// Batches of ends that go to the engine in one event.
const ENDS_AT_ONCE_MAX: usize = 256;

/// Reads a message of the inbox from the store, body included. Called on threads that may block.
pub(crate) type Bodies = Arc<dyn Fn(Ticket) -> Option<Message> + Send + Sync>;

/// What a runner has to know.
pub(crate) struct Setup {
    /// This node.
    pub(crate) node: NodeName,
    /// Its directory, for the log files.
    pub(crate) dir: PathBuf,
    /// Where outputs go.
    pub(crate) blobs: Blobs,
    /// Bytes of output that are kept of a message, both streams together.
    pub(crate) max_output: u64,
    /// What runs write, for those who follow it.
    pub(crate) live: LiveOutputs,
    /// How runs come by what goes along with their messages.
    pub(crate) wants: Wants,
    /// When this process started.
    pub(crate) started: Wall,
    /// The job guard's program; none goes without a guard.
    pub(crate) guard: Option<Program>,
    /// Where to read bodies that are only in the store.
    pub(crate) bodies: Bodies,
    /// The node's processes, for whoever asks how it is.
    pub(crate) processes: Processes,
    /// Connections that are forwarded.
    pub(crate) forwards: Forwards,
    /// Where to write down what runs.
    pub(crate) audit: Audit,
    /// Who says, just before it runs, whether a message may.
    pub(crate) permit: Permit,
    /// What the node accepts, for whoever brings other rules.
    pub(crate) rules: Rules,
    /// How the node's keys are renewed; none without an identity.
    pub(crate) renewal: Option<Renewal>,
    /// What lines of syslog need here.
    pub(crate) syslog: Desk,
    /// Where methods give messages of their own.
    pub(crate) intake: Intake,
    /// What the store has of them.
    pub(crate) reader: Arc<Reader>,
    /// Its own methods.
    pub(crate) own: OwnMethods,
}

/// What has happened since the start, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Starts that are running now.
    pub(crate) running: u64,
    /// Messages that were started, without those that have no record.
    pub(crate) started: u64,
    /// Messages without a record that were started.
    pub(crate) unrecorded: u64,
    /// Messages without a record that were dropped because too many waited.
    pub(crate) dropped: u64,
    /// Commands that the job guard could not be told of.
    pub(crate) unguarded: u64,
}

/// Starts methods. Clones are the same runner.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    shared: Arc<Shared>,
}

struct Shared {
    host: Arc<Host>,
    bodies: Bodies,
    effects: Mutex<mpsc::Receiver<Vec<Effect>>>,
    unrecorded: mpsc::Sender<(NodeName, Run)>,
    unrecorded_bytes: AtomicUsize,
    live: StdMutex<HashMap<u64, Live>>,
    /// How many entries `live` has, for whoever waits for it to become empty.
    running: watch::Sender<usize>,
    stopping: CancellationToken,
    next: AtomicU64,
    started: AtomicU64,
    unrecorded_started: AtomicU64,
    dropped: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("host", &self.host).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Live {
    tickets: Vec<Ticket>,
    /// Whether it goes on until it is told to stop.
    standing: bool,
    stop: Arc<StopSwitch>,
}

impl Runner {
    /// Starts the runner's tasks: it performs the effects of methods from `effects`, and tells their ends to `engine`.
    pub(crate) fn spawn(
        setup: Setup,
        supervisor: &Supervisor,
        effects: mpsc::Receiver<Vec<Effect>>,
        engine: EngineHandle,
    ) -> Self {
        let (ends, endings) = mpsc::channel(ENDS_MAX);
        let (text_log, text_writer) = Writer::new(&setup.dir, &text_logging::LOG, ends.clone());
        let (error_log, error_writer) = Writer::new(&setup.dir, &error_log::LOG, ends.clone());
        let (unrecorded, unrecorded_waiting) = mpsc::channel(UNRECORDED_MAX);
        let host = Host {
            node: setup.node,
            dir: setup.dir.clone(),
            blobs: setup.blobs,
            max_output: setup.max_output,
            live: setup.live,
            wants: setup.wants,
            permit: setup.permit,
            rules: setup.rules.clone(),
            audit: setup.audit,
            started: setup.started,
            guard: Guard::new(),
            ends,
            text_log,
            error_log,
            supervisor: supervisor.clone(),
            processes: setup.processes,
            forwards: setup.forwards,
            renewal: setup.renewal,
            engine: engine.clone(),
            syslog: setup.syslog,
            orders: Board::default(),
            intake: setup.intake,
            reader: setup.reader,
            own: setup.own,
            tails: Tails::new(&setup.dir),
            untold: watch::Sender::new(0),
            held: AtomicU64::new(0),
        };
        let shared = Arc::new(Shared {
            host: Arc::new(host),
            bodies: setup.bodies,
            effects: Mutex::new(effects),
            unrecorded,
            unrecorded_bytes: AtomicUsize::new(0),
            live: StdMutex::default(),
            running: watch::Sender::new(0),
            stopping: CancellationToken::new(),
            next: AtomicU64::new(0),
            started: AtomicU64::new(0),
            unrecorded_started: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        if let Some(program) = setup.guard {
            let guard = shared.host.guard.clone();
            let spec = Spec::new("job guard").stops(Stops::Never("it would end the commands that run"));
            supervisor.keep(spec, move |end| guard.clone().keep(program.clone(), end));
        }
        let needed = |name| Spec::new(name).stops(Stops::Never("messages that run would not come to an end"));
        for (name, writer) in [("text log", text_writer), ("error log", error_writer)] {
            supervisor.keep(needed(name), move |end| Arc::clone(&writer).serve(end));
        }
        let (endings, runner) = (Arc::new(Mutex::new(endings)), Arc::clone(&shared));
        supervisor.keep(needed("method ends"), move |end| {
            tell(Arc::clone(&runner), Arc::clone(&endings), engine.clone(), end)
        });
        let (waiting, runner) = (Arc::new(Mutex::new(unrecorded_waiting)), Arc::clone(&shared));
        supervisor.keep("messages without a record", move |end| {
            run_unrecorded(Arc::clone(&runner), Arc::clone(&waiting), end)
        });
        let runner = Arc::clone(&shared);
        supervisor.keep(needed("runner"), move |end| serve(Arc::clone(&runner), end));
        Self { shared }
    }

    /// Lets what runs finish for at most `limit`, then stops it; returns once all ends are with the engine. What should
    /// start from now on is held: it does not start, and nothing is told of it, because an end would only make room for
    /// the next of its lane. It is taken up when the node starts again, and so is what was stopped and may run again.
    pub(crate) async fn stop(&self, limit: Duration) {
        self.shared.stopping.cancel();
        for live in self.shared.live().values().filter(|live| live.standing) {
            live.stop.stop(Stop::NodeStops);
        }
        if tokio::time::timeout(limit, idle(&self.shared.running)).await.is_err() {
            for live in self.shared.live().values() {
                live.stop.stop(Stop::NodeStops);
            }
            // Each is dropped after STOP_LIMIT at the latest; the second one is for what stores the output.
            if tokio::time::timeout(2 * STOP_LIMIT, idle(&self.shared.running)).await.is_err() {
                tracing::warn!("methods don't stop; their messages end as interrupted when the node starts again");
            }
        }
        if tokio::time::timeout(STOP_LIMIT, idle(&self.shared.host.untold)).await.is_err() {
            tracing::warn!("the engine does not take the ends of methods any more");
        }
        let held = self.shared.host.held.load(Ordering::Relaxed);
        if held > 0 {
            tracing::info!(messages = held, "messages are taken up when the node starts again");
        }
    }

    /// What has happened since the start.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            running: *self.shared.running.borrow() as u64,
            started: self.shared.started.load(Ordering::Relaxed),
            unrecorded: self.shared.unrecorded_started.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            unguarded: self.shared.host.guard.untold(),
        }
    }
}

async fn idle(counter: &watch::Sender<usize>) {
    // The sender is there as long as it is borrowed, so the wait can't fail.
    counter.subscribe().wait_for(|left| *left == 0).await.ok();
}

async fn serve(shared: Arc<Shared>, end: CancellationToken) -> anyhow::Result<()> {
    let mut effects = shared.effects.lock().await;
    loop {
        let batch = tokio::select! {
            () = end.cancelled() => return Ok(()),
            batch = effects.recv() => batch,
        };
        let Some(batch) = batch else { return Ok(()) };
        for effect in batch {
            shared.perform(effect);
        }
    }
}

async fn tell(
    shared: Arc<Shared>,
    endings: Arc<Mutex<mpsc::Receiver<Ends>>>,
    engine: EngineHandle,
    end: CancellationToken,
) -> anyhow::Result<()> {
    let mut endings = endings.lock().await;
    let mut together = Vec::new();
    // Until all who might send are gone: what has ended is told, also while the node stops.
    loop {
        tokio::select! {
            biased;
            many = endings.recv_many(&mut together, ENDS_AT_ONCE_MAX) => if many == 0 { return Ok(()) },
            () = end.cancelled() => return Ok(()),
        }
        let ends: Ends = together.drain(..).flatten().collect();
        let count = ends.len();
        engine.event(Event::Finished(ends)).await;
        shared.host.told(count);
    }
}

async fn run_unrecorded(
    shared: Arc<Shared>,
    waiting: Arc<Mutex<mpsc::Receiver<(NodeName, Run)>>>,
    end: CancellationToken,
) -> anyhow::Result<()> {
    let (mut waiting, room) = (waiting.lock().await, Arc::new(Semaphore::new(UNRECORDED_RUNNING_MAX)));
    loop {
        let (permit, next) = tokio::select! {
            () = end.cancelled() => return Ok(()),
            next = async { (Arc::clone(&room).acquire_owned().await, waiting.recv().await) } => next,
        };
        let Some((_, run)) = next else { return Ok(()) };
        shared.unrecorded_bytes.fetch_sub(run.message.body.len(), Ordering::Relaxed);
        shared.unrecorded_started.fetch_add(1, Ordering::Relaxed);
        shared.start(vec![run], false, Some(permit?));
    }
}

impl Shared {
    fn perform(self: &Arc<Self>, effect: Effect) {
        match effect {
            Effect::Start(runs) if self.stopping.is_cancelled() => {
                self.host.held.fetch_add(runs.len() as u64, Ordering::Relaxed);
            }
            Effect::Start(runs) => {
                self.host.untold.send_modify(|untold| *untold += runs.len());
                self.started.fetch_add(runs.len() as u64, Ordering::Relaxed);
                self.start(runs, true, None);
            }
            Effect::StartUnrecorded { from, run } => {
                let bytes = run.message.body.len();
                let waiting = self.unrecorded_bytes.fetch_add(bytes, Ordering::Relaxed);
                let fits = waiting + bytes <= UNRECORDED_BYTES_MAX && !self.stopping.is_cancelled();
                if !fits || self.unrecorded.try_send((from, run)).is_err() {
                    self.unrecorded_bytes.fetch_sub(bytes, Ordering::Relaxed);
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            Effect::Kill(ticket) => {
                for live in self.live().values().filter(|live| live.tickets.contains(&ticket)) {
                    live.stop.stop(Stop::Cancelled);
                }
            }
            other => tracing::error!(effect = ?other, "an effect that is not for methods was given to the runner"),
        }
    }

    /// Starts a batch in a task of its own. The switch that stops it is in place before this returns.
    fn start(self: &Arc<Self>, runs: Vec<Run>, recorded: bool, permit: Option<tokio::sync::OwnedSemaphorePermit>) {
        let Some(first) = runs.first() else { return };
        let name = format!("{} {}", first.message.method, first.message.id);
        let stop = Arc::new(StopSwitch::default());
        let tickets = if recorded { runs.iter().map(|run| run.ticket).collect() } else { Vec::new() };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let standing = stands(first.message.kind, first.message.method.as_str());
        self.live().insert(number, Live { tickets, standing, stop: Arc::clone(&stop) });
        self.running.send_modify(|running| *running += 1);
        let leave = Leave { shared: Arc::clone(self), number };
        let shared = Arc::clone(self);
        self.host.supervisor.once(name, async move {
            let _leave = leave;
            shared.run(Batch { runs, stop, recorded }).await;
            drop(permit);
        });
    }

    async fn run(self: &Arc<Self>, mut batch: Batch) {
        let Some(method) = batch.runs.first().map(|run| run.message.method.clone()) else { return };
        if let Some(why) = batch.stop.why() {
            let reason = "it was stopped before it began; it did not run";
            let ending = Ending { reason: Some(Arc::from(reason)), ..why.ending() };
            if batch.recorded && self.host.holds(&batch.runs, &batch.stop, &ending) {
                return;
            }
            return self.host.report(&batch, &ending).await;
        }
        self.load(&mut batch).await;
        let entry = entry(method.as_str());
        if let Some(entry) = entry.filter(|entry| entry.batch() > 1) {
            return entry.run(&self.host, batch).await;
        }
        let own = if entry.is_none() { self.host.own.get(method.as_str()) } else { None };
        if entry.is_none() && own.is_none() {
            let why = format!("there is no method {method} here any more; there was one when it was accepted");
            batch.runs.iter().for_each(|run| self.host.audit.refused_late(&run.message, &why));
            return self.host.report(&batch, &Ending::because(Final::Refused, why)).await;
        }
        let Batch { runs, stop, recorded } = batch;
        for mut run in runs {
            run.limit = smaller(run.limit, own.as_ref().and_then(|own| own.timeout));
            let batch = Batch { runs: vec![run], stop: Arc::clone(&stop), recorded };
            match entry {
                Some(entry) => entry.run(&self.host, batch).await,
                None => running::execute::<OwnMethod>(&self.host, batch).await,
            }
        }
    }

    /// Reads the bodies that the engine no longer holds. A body that is not there stays empty, which is no valid data,
    /// so that its message fails with a reason.
    async fn load(&self, batch: &mut Batch) {
        if !batch.runs.iter().any(|run| run.stored) {
            return;
        }
        let (bodies, mut runs) = (Arc::clone(&self.bodies), std::mem::take(&mut batch.runs));
        let without_bodies = runs.clone();
        let read = move || {
            for run in runs.iter_mut().filter(|run| run.stored) {
                if let Some(message) = bodies(run.ticket) {
                    run.message = message;
                }
            }
            runs
        };
        batch.runs = tokio::task::spawn_blocking(read).await.unwrap_or(without_bodies);
    }

    fn live(&self) -> MutexGuard<'_, HashMap<u64, Live>> {
        // Every change of the map is a single call, so it is whole even if its holder panicked.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a start off the list, however its task ends.
struct Leave {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.shared.live().remove(&self.number);
        self.shared.running.send_modify(|running| *running = running.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests;
