//! The only place that spawns tasks. Each task has a name, an end (the supervisor's token) and a restart rule; a panic
//! ends the run that it happened in and nothing else, and whoever listens to [`Supervisor::alarms`] hears of it.
//!
//! It never decides what a task does, and it never stops one that works: [`Supervisor::stop`] first asks all of them,
//! and aborts only those that have not ended within the limit.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::logging::errors::HERE_ONLY;
use crate::view::ProcessView;

/// Alarms that a slow listener may be behind before it misses the oldest.
pub(crate) const ALARMS_MAX: usize = 256;

/// How long aborted tasks may take to be gone. One that holds its thread can't be aborted; nobody waits for it longer.
const ABORT_LIMIT: Duration = Duration::from_secs(1);

/// When a kept task that has failed runs again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// The first pause; it doubles with each failure in a row.
    pub(crate) pause_first: Duration,
    /// The longest pause.
    pub(crate) pause_max: Duration,
    /// A run of at least this length was healthy: the pause begins anew.
    pub(crate) healthy: Duration,
    /// So many failures within `window`, and the task stays down.
    pub(crate) failures_max: usize,
    /// See `failures_max`.
    pub(crate) window: Duration,
}

impl Rule {
    /// What holds for every task of a node.
    pub(crate) const NODE: Self = Self {
        pause_first: Duration::from_millis(100),
        pause_max: Duration::from_secs(30),
        healthy: Duration::from_secs(60),
        failures_max: 10,
        window: Duration::from_secs(5 * 60),
    };
}

/// Something went wrong in a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alarm {
    /// The task.
    pub(crate) task: Arc<str>,
    /// What happened.
    pub(crate) trouble: Trouble,
    /// What is done about it.
    pub(crate) answer: Answer,
}

/// How a run of a task ended when it should not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It returned an error, in words.
    Failed(Arc<str>),
    /// It panicked, with this message.
    Panicked(Arc<str>),
}

/// What is done about a run that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was the only run of its task.
    Nothing,
    /// It runs again after this pause.
    RestartAfter(Duration),
    /// It has failed too often: the task stays down until the node is restarted. An operator must act.
    Down,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}: {}", self.task, self.trouble)?;
        match self.answer {
            Answer::Nothing => Ok(()),
            Answer::RestartAfter(pause) => write!(f, "; it is restarted in {} ms", pause.as_millis()),
            Answer::Down => f.write_str("; it failed too often and stays down until the node is restarted"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

/// What has happened since the start, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Restarts of kept tasks.
    pub(crate) restarts: u64,
    /// Panics that were caught, of all tasks.
    pub(crate) panics: u64,
    /// Tasks that stay down.
    pub(crate) down: u64,
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
    alarms: broadcast::Sender<Alarm>,
    tasks: Mutex<BTreeMap<u64, Task>>,
    next: AtomicU64,
    restarts: AtomicU64,
    panics: AtomicU64,
    down: AtomicU64,
}

#[derive(Debug)]
struct Task {
    name: Arc<str>,
    state: State,
    restarts: u64,
    note: Option<Arc<str>>,
    abort: Option<AbortHandle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Restarting,
    Down,
    Ended,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Down => "down",
            Self::Ended => "ended",
        }
    }
}

impl Supervisor {
    /// A supervisor without tasks. Its tasks run on the runtime in which they are spawned.
    pub(crate) fn new() -> Self {
        Self::with_rule(Rule::NODE)
    }

    /// A supervisor with a restart rule of its own, for tests that can't wait.
    pub(crate) fn with_rule(rule: Rule) -> Self {
        Self {
            shared: Arc::new(Shared {
                tracker: TaskTracker::new(),
                end: CancellationToken::new(),
                clock: Clock::start(),
                rule,
                alarms: broadcast::Sender::new(ALARMS_MAX),
                tasks: Mutex::default(),
                next: AtomicU64::new(0),
                restarts: AtomicU64::new(0),
                panics: AtomicU64::new(0),
                down: AtomicU64::new(0),
            }),
        }
    }

    /// Runs what `make` gives, again and again: after an error or a panic once more, by the restart rule; not after
    /// `Ok`, which says that its work is done or that it has seen the token. Keeps nothing that is not `'static`.
    pub(crate) fn keep<F, T>(&self, name: impl Into<Arc<str>>, make: F)
    where
        F: FnMut() -> T + Send + 'static,
        T: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        self.spawn(name.into(), |id, name| async move { shared.keep(id, name, make).await });
    }

    /// Runs `future` once. A panic ends it alone and is reported; what else goes wrong is its own business.
    pub(crate) fn once<T>(&self, name: impl Into<Arc<str>>, future: T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        self.spawn(name.into(), |id, name| async move {
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                shared.alarm(name, Trouble::Panicked(panic_text(&*panic)), Answer::Nothing);
            }
            shared.forget(id);
        });
    }

    /// The end of all tasks: each looks at it wherever it waits, and returns when it is cancelled.
    pub(crate) fn token(&self) -> CancellationToken {
        self.shared.end.clone()
    }

    /// What goes wrong from now on. At most [`ALARMS_MAX`] wait for a listener.
    pub(crate) fn alarms(&self) -> broadcast::Receiver<Alarm> {
        self.shared.alarms.subscribe()
    }

    /// Reports a panic that a task has caught itself because only it knows what to do about it.
    pub(crate) fn caught(&self, name: impl Into<Arc<str>>, panic: &(dyn Any + Send)) -> Arc<str> {
        let text = panic_text(panic);
        self.shared.alarm(name.into(), Trouble::Panicked(Arc::clone(&text)), Answer::Nothing);
        text
    }

    /// What has happened since the start.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            restarts: self.shared.restarts.load(Ordering::Relaxed),
            panics: self.shared.panics.load(Ordering::Relaxed),
            down: self.shared.down.load(Ordering::Relaxed),
        }
    }

    /// The tasks that there are, in the order of their start.
    pub(crate) fn list(&self) -> Vec<ProcessView> {
        let view = |task: &Task| ProcessView {
            kind: "task".to_owned(),
            name: task.name.to_string(),
            state: task.state.as_str().to_owned(),
            messages: 0,
            restarts: task.restarts,
            note: task.note.as_deref().map(str::to_owned),
        };
        self.shared.tasks().values().map(view).collect()
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

    fn spawn<T>(&self, name: Arc<str>, run: impl FnOnce(u64, Arc<str>) -> T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let task = Task { name: Arc::clone(&name), state: State::Running, restarts: 0, note: None, abort: None };
        self.shared.tasks().insert(id, task);
        let abort = self.shared.tracker.spawn(run(id, name)).abort_handle();
        // A short task may have ended before its handle is here; then it has forgotten itself.
        if let Some(task) = self.shared.tasks().get_mut(&id) {
            task.abort = Some(abort);
        }
    }
}

impl Shared {
    async fn keep<F, T>(&self, id: u64, name: Arc<str>, mut make: F)
    where
        F: FnMut() -> T + Send,
        T: Future<Output = anyhow::Result<()>> + Send,
    {
        let mut history = Failures::new(self.rule);
        loop {
            let started = self.clock.elapsed();
            // Made inside, because `make` may panic as well.
            let run = AssertUnwindSafe(async { make().await }).catch_unwind().await;
            let trouble = match run {
                Ok(Ok(())) => return self.change(id, State::Ended, None),
                Ok(Err(error)) => Trouble::Failed(format!("{error:#}").into()),
                Err(panic) => Trouble::Panicked(panic_text(&*panic)),
            };
            let note: Arc<str> = trouble.to_string().into();
            let Some(pause) = history.failed(started, self.clock.elapsed()) else {
                self.down.fetch_add(1, Ordering::Relaxed);
                self.change(id, State::Down, Some(note));
                return self.alarm(name, trouble, Answer::Down);
            };
            self.change(id, State::Restarting, Some(note));
            self.alarm(Arc::clone(&name), trouble, Answer::RestartAfter(pause));
            tokio::select! {
                () = self.end.cancelled() => return self.change(id, State::Ended, None),
                () = tokio::time::sleep(pause) => {}
            }
            self.restarts.fetch_add(1, Ordering::Relaxed);
            self.change(id, State::Running, None);
        }
    }

    /// Sets a task's state; a note of `None` leaves the last one, so that `ps` shows why a task was restarted.
    fn change(&self, id: u64, state: State, note: Option<Arc<str>>) {
        if let Some(task) = self.tasks().get_mut(&id) {
            task.restarts += u64::from(task.state == State::Restarting && state == State::Running);
            task.state = state;
            task.note = note.or_else(|| task.note.take());
        }
    }

    fn forget(&self, id: u64) {
        self.tasks().remove(&id);
    }

    fn alarm(&self, task: Arc<str>, trouble: Trouble, answer: Answer) {
        if matches!(trouble, Trouble::Panicked(_)) {
            self.panics.fetch_add(1, Ordering::Relaxed);
        }
        let alarm = Alarm { task, trouble, answer };
        if answer == Answer::Down {
            // The alarm itself goes to the central error log.
            tracing::error!(target: HERE_ONLY, task = %alarm.task, trouble = %alarm.trouble, "a task failed too often and stays down");
        } else {
            tracing::warn!(task = %alarm.task, trouble = %alarm.trouble, ?answer, "a task failed");
        }
        // Nobody has to listen.
        self.alarms.send(alarm).ok();
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<u64, Task>> {
        // Every change of the map is a single call, so it is whole even if its holder panicked.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The restart rule at work for one task. Times are those of one monotonic clock.
#[derive(Debug)]
struct Failures {
    rule: Rule,
    recent: VecDeque<Duration>,
    pause: Duration,
}

impl Failures {
    fn new(rule: Rule) -> Self {
        Self { rule, recent: VecDeque::new(), pause: rule.pause_first }
    }

    /// A run that began at `started` has failed at `now`: the pause before the next one, none if it stays down.
    fn failed(&mut self, started: Duration, now: Duration) -> Option<Duration> {
        if now.saturating_sub(started) >= self.rule.healthy {
            self.pause = self.rule.pause_first;
        }
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|at| now.saturating_sub(*at) > self.rule.window) {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.rule.failures_max {
            return None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(self.rule.pause_max);
        Some(pause)
    }
}

/// What a panic says.
fn panic_text(panic: &(dyn Any + Send)) -> Arc<str> {
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
