//! The only place that spawns tasks. Each task has a name, an end (the supervisor's token) and a restart rule; a panic
//! or an error ends the run that it happened in and nothing else, and is told to the central error log.
//!
//! ```text
//! running ──error, panic──▶ restarting ──pause──▶ running        pauses double
//!    │                          └──too often──▶ down             until it is started, or the node is
//!    └──stop──▶ stopped ──start──▶ running
//! ```
//! A task that is down and that nobody could start from afar (the link to the broker, say) is tried again after a long
//! while, because otherwise the node would be lost until somebody is sent there.
//!
//! The supervisor never decides what a task does, and never stops one that works unless it is told to: then it asks
//! first, and drops only what has not ended within a limit.

mod control;
mod rule;
mod spec;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::troubles::TOLD;
use crate::view::ProcessView;

pub(crate) use rule::Rule;
pub(crate) use spec::{ControlError, Spec, Stops, Whence};

use rule::Failures;

/// How long aborted tasks may take to be gone. One that holds its thread can't be aborted; nobody waits for it longer.
const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// How a run of a task ended when it should not have.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// It returned an error, in words.
    Failed(Arc<str>),
    /// It panicked, with this message.
    Panicked(Arc<str>),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

/// Spawns tasks and knows them all. Clones are the same supervisor.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tracker: TaskTracker,
    end: CancellationToken,
    clock: Clock,
    rule: Rule,
    tasks: Mutex<BTreeMap<u64, Task>>,
    /// Grows with each change of a kept task.
    changes: watch::Sender<u64>,
    next: AtomicU64,
    panics: AtomicU64,
}

#[derive(Debug)]
struct Task {
    name: Arc<str>,
    state: State,
    /// Runs that have begun, and those of them after a failure.
    runs: u64,
    /// See `runs`.
    restarts: u64,
    note: Option<Arc<str>>,
    abort: Option<AbortHandle>,
    /// None for a task that runs once.
    control: Option<Control>,
}

#[derive(Debug)]
struct Control {
    stops: Stops,
    wish: watch::Sender<Wish>,
}

/// What is wanted of a kept task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    run: bool,
    /// How often somebody has asked for a start.
    starts: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Restarting,
    Down,
    Stopped,
    Ended,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Down => "down",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
        }
    }
}

impl Task {
    fn view(&self) -> ProcessView {
        ProcessView {
            kind: "task".to_owned(),
            name: self.name.to_string(),
            state: self.state.as_str().to_owned(),
            messages: 0,
            restarts: self.restarts,
            note: self.note.as_deref().map(str::to_owned),
        }
    }
}

impl Supervisor {
    /// A supervisor without tasks. Its tasks run on the runtime in which they are spawned.
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            shared: Arc::new(Shared {
                tracker: TaskTracker::new(),
                end: CancellationToken::new(),
                clock: Clock::start(),
                rule,
                tasks: Mutex::default(),
                changes: watch::Sender::new(0),
                next: AtomicU64::new(0),
                panics: AtomicU64::new(0),
            }),
        }
    }

    /// Runs what `make` gives, again and again: after an error or a panic once more, by the restart rule; not after
    /// `Ok`, which says that its work is done or that it has seen the token that it was given, which ends this run.
    pub(crate) fn keep<F, T>(&self, spec: impl Into<Spec>, make: F)
    where
        F: FnMut(CancellationToken) -> T + Send + 'static,
        T: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let spec = spec.into();
        let (wish, wished) = watch::channel(Wish { run: true, starts: 0 });
        let control = Control { stops: spec.stops, wish };
        let shared = Arc::clone(&self.shared);
        self.spawn(Arc::clone(&spec.name), Some(control), |id| async move {
            shared.keep(id, spec, make, wished).await;
        });
    }

    /// Runs `future` once. A panic ends it alone and is told; what else goes wrong is its own business.
    pub(crate) fn once<T>(&self, name: impl Into<Arc<str>>, future: T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let (shared, name) = (Arc::clone(&self.shared), name.into());
        self.spawn(Arc::clone(&name), None, |id| async move {
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                shared.single_failed(&name, &Trouble::Panicked(panic_text(&*panic)));
            }
            shared.tasks().remove(&id);
        });
    }

    /// The end of all tasks: each looks at it wherever it waits, and returns when it is cancelled.
    pub(crate) fn token(&self) -> CancellationToken {
        self.shared.end.clone()
    }

    /// Tells of a panic that a task has caught itself because only it knows what to do about it. Returns what it says.
    pub(crate) fn caught(&self, name: &str, panic: &(dyn Any + Send)) -> Arc<str> {
        let text = panic_text(panic);
        self.shared.single_failed(name, &Trouble::Panicked(Arc::clone(&text)));
        text
    }

    /// Panics since the start that were caught, of all tasks.
    pub(crate) fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// How often each kept task was restarted.
    pub(crate) fn restarts(&self) -> Vec<(Arc<str>, u64)> {
        let tasks = self.shared.tasks();
        let kept = tasks.values().filter(|task| task.control.is_some());
        kept.map(|task| (Arc::clone(&task.name), task.restarts)).collect()
    }

    /// The tasks that there are, in the order of their start.
    pub(crate) fn list(&self) -> Vec<ProcessView> {
        self.shared.tasks().values().map(Task::view).collect()
    }

    /// The kept tasks that do not run and are not about to: down, or stopped by somebody.
    pub(crate) fn resting(&self) -> Vec<ProcessView> {
        let tasks = self.shared.tasks();
        tasks.values().filter(|task| matches!(task.state, State::Down | State::Stopped)).map(Task::view).collect()
    }

    /// Changes whenever the state of a kept task does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Asks all tasks to end, waits for them for at most `limit`, then aborts what is left. Returns the names of those.
    pub(crate) async fn stop(&self, limit: Duration) -> Vec<Arc<str>> {
        self.shared.end.cancel();
        self.shared.tracker.close();
        if tokio::time::timeout(limit, self.shared.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let mut late = Vec::new();
        for task in self.shared.tasks().values() {
            if let Some(abort) = task.abort.as_ref().filter(|abort| !abort.is_finished()) {
                abort.abort();
                late.push(Arc::clone(&task.name));
            }
        }
        if tokio::time::timeout(ABORT_LIMIT, self.shared.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = ?late, "tasks hold their threads and can't be ended");
        }
        late
    }

    fn spawn<T>(&self, name: Arc<str>, control: Option<Control>, run: impl FnOnce(u64) -> T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let task = Task { name, state: State::Running, runs: 1, restarts: 0, note: None, abort: None, control };
        self.shared.tasks().insert(id, task);
        let abort = self.shared.tracker.spawn(run(id)).abort_handle();
        // A short task may have ended before its handle is here; then it has forgotten itself.
        if let Some(task) = self.shared.tasks().get_mut(&id) {
            task.abort = Some(abort);
        }
    }
}

/// How a run came to its end.
struct Ran {
    trouble: Option<Trouble>,
    /// Whether it was told to end.
    stopped: bool,
}

impl Shared {
    async fn keep<F, T>(&self, id: u64, spec: Spec, mut make: F, mut wish: watch::Receiver<Wish>)
    where
        F: FnMut(CancellationToken) -> T + Send,
        T: Future<Output = anyhow::Result<()>> + Send,
    {
        let mut failures = Failures::new(self.rule);
        loop {
            let (before, started) = (*wish.borrow_and_update(), self.clock.elapsed());
            let Ran { trouble, stopped } = self.run(&spec, &mut make, &mut wish).await;
            if self.end.is_cancelled() && trouble.is_none() {
                return self.change(id, State::Ended, None);
            }
            // What is wished from here on is not missed: it is looked at before the state says that this run is over.
            let wished = *wish.borrow_and_update();
            let pause = match trouble {
                Some(trouble) if stopped || !wished.run => {
                    self.count(&trouble);
                    tracing::warn!(target: TOLD, task = &*spec.name, %trouble, "a task failed as it was stopped");
                    self.change(id, State::Stopped, Some(trouble.to_string().into()));
                    None
                }
                Some(trouble) => {
                    let pause = failures.failed(started, self.clock.elapsed());
                    self.failed(id, &spec, &trouble, pause)
                }
                None => {
                    let state = if stopped { State::Stopped } else { State::Ended };
                    self.change(id, state, None);
                    None
                }
            };
            let is_wanted_again = wished.run && wished.starts > before.starts;
            if !is_wanted_again && !self.rest(id, &mut wish, wished, pause).await {
                return self.change(id, State::Ended, None);
            }
            self.change(id, State::Running, None);
        }
    }

    /// One run, up to its end or until somebody stops it.
    async fn run<F, T>(&self, spec: &Spec, make: &mut F, wish: &mut watch::Receiver<Wish>) -> Ran
    where
        F: FnMut(CancellationToken) -> T + Send,
        T: Future<Output = anyhow::Result<()>> + Send,
    {
        let end = spec.within.as_ref().unwrap_or(&self.end).child_token();
        let run_end = end.clone();
        // Made inside, because `make` may panic as well.
        let mut run = std::pin::pin!(AssertUnwindSafe(async { make(run_end).await }).catch_unwind());
        let ended = tokio::select! {
            biased;
            ended = &mut run => Some(ended),
            _ = wish.wait_for(|wish| !wish.run) => None,
        };
        let stopped = ended.is_none();
        let ended = match ended {
            Some(ended) => ended,
            None => {
                end.cancel();
                tokio::time::timeout(self.rule.halt, &mut run).await.unwrap_or(Ok(Ok(())))
            }
        };
        let trouble = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Trouble::Failed(format!("{error:#}").into())),
            Err(panic) => Some(Trouble::Panicked(panic_text(&*panic))),
        };
        Ran { trouble, stopped }
    }

    /// Waits until the task is to run again: because somebody starts it, or because its pause is over. False: the node
    /// ends.
    async fn rest(&self, id: u64, wish: &mut watch::Receiver<Wish>, before: Wish, mut pause: Option<Duration>) -> bool {
        loop {
            let pause_over = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.end.cancelled() => return false,
                () = pause_over => return true,
                changed = wish.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    let wished = *wish.borrow_and_update();
                    if wished.run && wished.starts > before.starts {
                        return true;
                    }
                    if !wished.run {
                        pause = None;
                        self.change(id, State::Stopped, None);
                    }
                }
            }
        }
    }

    /// A run has failed. Says so, and gives the pause before the next one; `pause` is none if it has failed too often.
    fn failed(&self, id: u64, spec: &Spec, trouble: &Trouble, pause: Option<Duration>) -> Option<Duration> {
        self.count(trouble);
        let (task, note) = (&*spec.name, Some(Arc::from(trouble.to_string())));
        if let Some(pause) = pause {
            let restart_ms = pause.as_millis();
            tracing::warn!(target: TOLD, task, %trouble, restart_ms, "a task failed and is restarted");
            self.change(id, State::Restarting, note);
            return Some(pause);
        }
        let (failures, minutes) = (self.rule.failures_max, self.rule.window.as_secs() / 60);
        let rescue = spec.stops.needs_rescue().then_some(self.rule.rescue);
        match rescue {
            None => tracing::error!(
                task, %trouble, failures, minutes,
                "a task failed too often; it stays down until it is started (steward start-process) or the node is"
            ),
            Some(after) => tracing::error!(
                task, %trouble, failures, minutes, again_minutes = after.as_secs() / 60,
                "a task failed too often; it is down, and tried again after a while, because the node needs it"
            ),
        }
        self.change(id, State::Down, note);
        rescue
    }

    fn single_failed(&self, name: &str, trouble: &Trouble) {
        self.count(trouble);
        tracing::warn!(target: TOLD, task = name, %trouble, "a task failed");
    }

    fn count(&self, trouble: &Trouble) {
        if matches!(trouble, Trouble::Panicked(_)) {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets a task's state; a note of `None` leaves the last one, so that `ps` shows why a task was restarted.
    fn change(&self, id: u64, state: State, note: Option<Arc<str>>) {
        if let Some(task) = self.tasks().get_mut(&id) {
            let begins = state == State::Running;
            task.runs += u64::from(begins);
            task.restarts += u64::from(begins && matches!(task.state, State::Restarting | State::Down));
            task.state = state;
            task.note = note.or_else(|| task.note.take());
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<u64, Task>> {
        // Every change of the map is a single call, so it is whole even if its holder panicked.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> Arc<str> {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        Arc::from(*text)
    } else if let Some(text) = panic.downcast_ref::<String>() {
        Arc::from(text.as_str())
    } else {
        Arc::from("a panic without a message")
    }
}

#[cfg(test)]
mod tests;
