//! Prometheus metrics (R17): what has happened since the start, and how things are now. `docs/metrics.md` lists them all.
//!
//! What happens is counted as it is reported; how things are is asked for when somebody reads. It never decides anything,
//! and nothing waits for it.

mod page;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use protocol::message::Kind;
use protocol::name::{Lane, MethodName, NodeName};
use protocol::outcome::{Outcome, State};
use protocol::step::{Presence, Report};
use tokio_util::sync::CancellationToken;

use crate::api::serve;
use crate::config::ListenAddress;
use crate::engine::EngineHandle;
use crate::forward;
use crate::security::rules::RulesView;
use crate::supervise::Supervisor;
use crate::syslog::tally::Figures;
use crate::traffic::{self, Bytes};

/// Methods that have figures of their own; what is beyond is counted as `other`. A peer can't fill the memory with names.
const METHODS_MAX: usize = 100;

/// What is served to whoever asks.
const LIMITS: serve::Limits =
    serve::Limits { connections: 32, idle: Duration::from_secs(10), stall: Duration::from_secs(10) };

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Direction {
    Out,
    In,
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// What messages have in common that are counted together.
type Class = (Direction, Kind, Arc<str>);

/// What was counted since the start.
#[derive(Debug, Default)]
struct Tally {
    methods: HashMap<MethodName, Arc<str>>,
    accepted: HashMap<Class, u64>,
    ended: HashMap<(Class, &'static str), u64>,
    attempts: HashMap<Class, u64>,
    output_bytes: HashMap<Class, u64>,
    dropped: BTreeMap<&'static str, u64>,
    presence: HashMap<NodeName, &'static str>,
    conflicts: u64,
    stores_lost: u64,
}

/// Counts. Clones are the same counts.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    tally: Arc<Mutex<Tally>>,
    commit_seconds: Histogram,
    commit_rows: Histogram,
    run_seconds: Histogram,
}

/// How things are, as far as other parts know it; each figure since the start of the process, or now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// The connection to the broker is up.
    pub(crate) link_up: bool,
    /// How it is, in one word, as `ps` has it.
    pub(crate) link_state: &'static str,
    /// What the link counts: the name's middle part (`connects` of `steward_link_connects_total`), and the count.
    pub(crate) link: Vec<(&'static str, u64)>,
    /// Subjects that the broker does not permit now.
    pub(crate) denied_subjects: u64,
    /// What was not believed, by reason.
    pub(crate) refusals: Vec<(&'static str, u64)>,
    /// Outgoing messages that are not final.
    pub(crate) outbox_open: u64,
    /// Incoming messages that are not confirmed.
    pub(crate) inbox_open: u64,
    /// Incoming messages that are not started.
    pub(crate) inbox_stored: u64,
    /// Lanes, outgoing and incoming.
    pub(crate) lanes: (u64, u64),
    /// Batches of effects that found their queue full.
    pub(crate) effects_dropped: u64,
    /// Forwards, what they have counted, and what came for none of them.
    pub(crate) forwards: ((u64, forward::Tally), u64),
    /// Methods that run.
    pub(crate) methods_running: u64,
    /// Errors that were told to the central error log by themselves or as a sum, and those in the sums.
    pub(crate) errors: (u64, u64),
    /// The rules that hold, and how often they have refused something.
    pub(crate) rules: (RulesView, u64),
    /// Lines of the audit log that were written, and that were lost.
    pub(crate) audit: (u64, u64),
    /// What has become of lines of syslog.
    pub(crate) syslog: Figures,
    /// What went over the link, by class.
    pub(crate) wire: Vec<(traffic::Class, Bytes)>,
    /// The same for each of the nodes that have figures of their own, and for all others together.
    pub(crate) wire_nodes: Vec<(Option<Box<str>>, Bytes)>,
}

impl Sample {
    /// With what the broker counts.
    pub(crate) fn with_link(mut self, up: bool, counts: &crate::broker::Counters) -> Self {
        self.link_up = up;
        self.link = vec![
            ("connects", counts.connects.get()),
            ("published", counts.published.get()),
            ("published_items", counts.published_items.get()),
            ("published_bytes", counts.published_bytes.get()),
            ("received", counts.received.get()),
            ("received_items", counts.received_items.get()),
            ("received_bytes", counts.received_bytes.get()),
            ("refused", counts.refused.get()),
            ("dropped", counts.dropped.get()),
            ("unsendable", counts.unsendable.get()),
            ("bulk_dropped", counts.bulk_dropped.get()),
            ("slow_consumer", counts.slow_consumer.get()),
            ("server_errors", counts.server_errors.get()),
            ("denied", counts.denied.get()),
            ("echoes_missed", counts.echoes_missed.get()),
        ];
        self.refusals = counts.refusals.all();
        self
    }
}

/// Where the figures of this moment come from.
#[derive(Clone)]
pub(crate) struct Sources {
    /// For the length of its queue.
    pub(crate) engine: EngineHandle,
    /// For the tasks.
    pub(crate) supervisor: Supervisor,
    /// The node's directory, for the disk.
    pub(crate) dir: PathBuf,
    /// For everything else.
    pub(crate) sample: Arc<dyn Fn() -> Sample + Send + Sync>,
}

impl Metrics {
    /// With nothing counted.
    pub(crate) fn new() -> Self {
        Self {
            tally: Arc::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            commit_rows: Histogram::new(exponential_buckets(1.0, 2.0, 14)),
            run_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 12)),
        }
    }

    /// Counts a transaction of the store.
    pub(crate) fn committed(&self, rows: usize, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_rows.observe(rows as f64);
    }

    /// Counts what is reported. Cheap enough to be called by whoever reports.
    pub(crate) fn report(&self, report: &Report) {
        let mut tally = self.tally();
        match report {
            Report::Out { lane, state: State::Queued, attempts: 0, .. } => {
                let class = tally.class(Direction::Out, lane);
                *tally.accepted.entry(class).or_default() += 1;
            }
            Report::Out { lane, attempts, outcome, .. } => {
                if let Some(outcome) = outcome {
                    let class = tally.class(Direction::Out, lane);
                    *tally.attempts.entry(class.clone()).or_default() += u64::from(*attempts);
                    tally.ended(class, outcome);
                }
            }
            Report::In { lane, outcome, .. } => {
                let class = tally.class(Direction::In, lane);
                tally.ended(class, outcome);
                if let Some(started) = outcome.started {
                    let millis = outcome.finished.0.saturating_sub(started.0);
                    self.run_seconds.observe(Duration::from_millis(millis).as_secs_f64());
                }
            }
            Report::Presence { peer, presence } => {
                let name = match presence {
                    Presence::Unknown => "unknown",
                    Presence::Online(_) => "online",
                    Presence::Away(_) => "away",
                    Presence::Stopped(_) => "stopped",
                    Presence::Silent(_) => "silent",
                };
                tally.presence.insert(peer.clone(), name);
            }
            Report::Conflict { .. } => tally.conflicts += 1,
            Report::StoreLost { .. } => tally.stores_lost += 1,
            Report::Dropped { why, .. } => *tally.dropped.entry(why).or_default() += 1,
        }
    }

    /// Offers `/metrics` until the end. A port that is in use is tried again, and nothing else suffers from it.
    pub(crate) async fn serve(
        self,
        address: ListenAddress,
        sources: Sources,
        end: CancellationToken,
    ) -> anyhow::Result<()> {
        let supervisor = sources.supervisor.clone();
        if let Some(listener) = serve::listen(&address, "metrics", &end).await {
            serve::serve(listener, self.router(sources), LIMITS, "metrics connection", &supervisor, end).await;
        }
        Ok(())
    }

    fn router(self, sources: Sources) -> Router {
        let index = || async { axum::response::Html("<a href=\"/metrics\">metrics</a>\n") };
        Router::new().route("/", get(index)).route("/metrics", get(move || self.clone().page(sources.clone())))
    }

    async fn page(self, sources: Sources) -> Response {
        let text = page::write(&self, &self.tally(), &(sources.sample)(), &Here::look(&sources));
        match text {
            Ok(text) => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                ([(header::CONTENT_TYPE, kind)], text).into_response()
            }
            Err(error) => {
                tracing::warn!(%error, "the metrics can't be written");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // Counts are whole at any moment, even after a panic.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn class(&mut self, direction: Direction, lane: &Lane) -> Class {
        let method = match self.methods.get(&lane.method) {
            Some(method) => Arc::clone(method),
            None => {
                let full = self.methods.len() >= METHODS_MAX;
                let name: Arc<str> = if full { "other".into() } else { lane.method.as_str().into() };
                if !full {
                    self.methods.insert(lane.method.clone(), Arc::clone(&name));
                }
                name
            }
        };
        (direction, lane.kind, method)
    }

    fn ended(&mut self, class: Class, outcome: &Outcome) {
        *self.output_bytes.entry(class.clone()).or_default() += outcome.stdout.len + outcome.stderr.len;
        *self.ended.entry((class, outcome.state.as_str())).or_default() += 1;
    }
}

/// What can be looked up right here.
#[derive(Debug, Default)]
struct Here {
    queue: u64,
    tasks: BTreeMap<String, u64>,
    restarts: Vec<(Arc<str>, u64)>,
    panics: u64,
    disk_free_bytes: u64,
    memory_bytes: u64,
}

impl Here {
    fn look(sources: &Sources) -> Self {
        let inputs = &sources.engine.inputs;
        // Alerts want a zero, not a series that is missing while all is well.
        let mut tasks: BTreeMap<String, u64> = ["running", "down"].map(|state| (state.to_owned(), 0)).into();
        for task in sources.supervisor.list() {
            *tasks.entry(task.state).or_default() += 1;
        }
        Self {
            queue: (inputs.max_capacity() - inputs.capacity()) as u64,
            tasks,
            restarts: sources.supervisor.restarts(),
            panics: sources.supervisor.panics(),
            disk_free_bytes: disk_free_bytes(&sources.dir).unwrap_or(0),
            memory_bytes: memory_bytes().unwrap_or(0),
        }
    }
}

/// What an ordinary user can still write to the file system of `path`, in bytes.
pub(crate) fn disk_free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What this process holds in memory, in bytes.
fn memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests;
