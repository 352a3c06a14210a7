//! The parts of a running node, each given its own slice of the configuration, in the order in which they need each other.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use protocol::Node;
use protocol::event::{Facts, Ticket};
use protocol::message::{Incarnation, Message, MessageId};
use protocol::snapshot::{Identity, Snapshot};
use protocol::step::{Effect, InState, InboxRow};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use super::hellos::hellos;
use super::outputs::until;
use super::{died, outputs, start_engine, trouble};
use crate::api::{Api, InfoView};
use crate::audit::Audit;
use crate::blobs::Blobs;
use crate::broker::prover::MessageOf;
use crate::broker::{self, Access, Broker, LinkBoard, NameCheck, Wiring};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::crash_points::{Point, plant, reach};
use crate::engine::{EFFECT_BATCHES_MAX, Engine, EngineHandle, EngineStats, INPUTS_MAX, Outputs, Own, REPORTS_MAX};
use crate::enrol::renewal::Renewal;
use crate::forward::Forwards;
use crate::hello::Hello;
use crate::intake::inmsg::{Inmsg, Timing};
use crate::intake::spool::{self, Spool};
use crate::intake::startup::{self, Startup};
use crate::intake::{Defaults, Intake};
use crate::lock::DirLock;
use crate::logging;
use crate::message_log::MessageLog;
use crate::methods::live::LiveOutputs;
use crate::methods::{self, OwnMethods, Runner};
use crate::processes::Processes;
use crate::replies::Keeper;
use crate::results::{self, Audience, Contents, Wants};
use crate::security::rules::Rules;
use crate::security::trust::Trust;
use crate::store::{Reader, Retention, Store};
use crate::supervise::{Rule, Spec, Stops, Supervisor};
use crate::syslog::Desk;
use crate::troubles::Troubles;

/// What a running node consists of, as far as its end is concerned.
pub(super) struct Parts {
    pub(super) engine: EngineHandle,
    pub(super) engine_ended: CancellationToken,
    pub(super) broker: Broker,
    pub(super) renewal: Option<Renewal>,
    pub(super) runner: Runner,
    pub(super) supervisor: Supervisor,
    pub(super) troubles: Troubles,
    pub(super) rules: Rules,
    pub(super) audit: Audit,
    /// Ends what brings new messages in, before everything else.
    pub(super) intake_end: CancellationToken,
    pub(super) lock: DirLock,
}

/// What is known once the store is open.
struct Opened {
    store: Store,
    reader: Reader,
    log: MessageLog,
    blobs: Blobs,
    identity: Identity,
    snapshot: Snapshot,
    bodies: MessageOf,
    own: OwnMethods,
}

/// Starts everything. The receiver tells once whether the node's name is its own.
pub(super) async fn assemble(
    config: &Config,
    troubles: Troubles,
) -> anyhow::Result<(Parts, oneshot::Receiver<NameCheck>)> {
    let clock = Clock::start();
    let dir = config.node.dir.as_path();
    let lock = DirLock::take(dir, &config.node.name)?;
    let opened = open(config)?;
    let supervisor = Supervisor::new(Rule { failures_max: config.node.restart_limit, ..Rule::NODE });
    let stats = Arc::new(EngineStats::new(config.store.max_outstanding));
    let outbox = opened.snapshot.out_lanes.iter().map(|(_, behind)| behind.messages).sum();
    stats.start(opened.store.commits(), outbox, opened.snapshot.inbox.len() as u64);
    let (inputs, taken) = mpsc::channel(INPUTS_MAX);
    let engine = EngineHandle { inputs, reports: broadcast::Sender::new(REPORTS_MAX) };
    let (to_broker, for_broker) = mpsc::channel(EFFECT_BATCHES_MAX);
    let (to_runner, for_runner) = mpsc::channel(EFFECT_BATCHES_MAX);
    let (to_results, for_results) = mpsc::channel(EFFECT_BATCHES_MAX);
    let (bulk, for_bulk) = mpsc::channel(results::BULK_MAX);

    let identity = opened.identity.clone();
    let trust = super::trust::trust(config, &engine.inputs)?;
    let gate = Gate::open(config, trust.clone(), opened.own.clone());
    gate.keep(&supervisor);
    let intake = Intake::new(engine.clone(), defaults(config, &trust, &gate)).beside(gate.audit.clone());
    let wiring = wiring(config, &engine, (for_broker, bulk, opened.bodies.clone()), &stats, &supervisor, clock, &gate);
    let (broker, name_check) = Broker::new(broker_config(config, &identity, trust), wiring)?;
    keep_broker(&supervisor, &broker);
    let renewal = super::membership::keep(dir, &supervisor, &broker, clock, &gate.audit);
    let desk = Desk::open(&config.syslog, dir, &supervisor);
    let setup = setup(config, &opened, (&engine, &supervisor), (&broker, &renewal), (&gate, &intake, &desk))?;
    let ways = (engine.clone(), broker.clone(), for_results, for_bulk);
    let shown = outputs::keep(dir, &supervisor, ways, &opened.blobs, &setup)?;
    let runner = Runner::spawn(setup, &supervisor, for_runner, engine.clone());
    keep_talking(config, &supervisor, &engine, &to_broker, &gate.own);

    plant();
    let (node, first) = Node::new(clock.now(), identity, opened.snapshot);
    let engine_ended = CancellationToken::new();
    let loop_ = Engine {
        name: config.node.name.clone(),
        node,
        store: opened.store.counting(stats.traffic.clone()),
        reader: opened.reader,
        log: opened.log.beside(gate.audit.clone()),
        blobs: opened.blobs,
        retention: retention(config),
        dir: dir.to_owned(),
        clock,
        inputs: taken,
        outputs: Outputs { broker: to_broker, runner: to_runner, results: to_results },
        reports: engine.reports.clone(),
        troubles: troubles.clone(),
        stats: stats.clone(),
        own: Own::default(),
        starting: VecDeque::new(),
        first,
    };
    start_engine(dir, loop_, engine_ended.clone())?;
    died::tell(dir);
    let (rules, audit, intake_end) = (gate.rules, gate.audit, supervisor.token().child_token());
    let parts =
        Parts { engine, engine_ended, broker, renewal, runner, supervisor, troubles, rules, audit, intake_end, lock };
    open_doors(config, &parts, (shown, &desk), &intake, clock)?;
    super::tools::open_doors(config, &parts, &stats, desk.tally);
    keep_giving(config, &parts, &stats, intake)?;
    Ok((parts, name_check))
}

/// Runs what tells people about messages and about the node: the lines of the log, and hellos.
fn keep_talking(
    config: &Config,
    supervisor: &Supervisor,
    engine: &EngineHandle,
    to_broker: &mpsc::Sender<Vec<Effect>>,
    own: &OwnMethods,
) {
    // From before the engine starts, so that what the last process left behind is told as well.
    let (mut first, reports) = (Some(engine.reports.subscribe()), engine.reports.clone());
    supervisor.keep("message lines", move |end| {
        let reports = first.take().unwrap_or_else(|| reports.subscribe());
        async move {
            logging::follow(reports, end).await;
            Ok(())
        }
    });
    let (interval, to_broker, tasks) = (config.node.hello_interval, to_broker.clone(), supervisor.clone());
    let own = own.clone();
    let spec = Spec::new("hello").stops(Stops::Never("no other node would hear which parts of this one are down"));
    supervisor.keep(spec, move |end| hellos(interval, to_broker.clone(), tasks.clone(), own.clone(), end));
}

/// Runs what gives messages of the node itself: results to other methods, and what goes wrong here to the central error log.
fn keep_giving(config: &Config, parts: &Parts, stats: &EngineStats, intake: Intake) -> anyhow::Result<()> {
    keep_replies(config, parts, &intake, stats)?;
    let to = if config.node.is_error_logger { &config.node.name } else { &config.node.central };
    let reporter = trouble::Reporter::new(intake, parts.engine.clone(), parts.troubles.clone(), to.clone())?;
    let reports = Spec::new("error reports").stops(Stops::Never("nobody would hear of what goes wrong"));
    parts.supervisor.keep(reports, move |end| reporter.clone().run(end));
    Ok(())
}

/// What a message has that does not say otherwise.
fn defaults(config: &Config, trust: &Trust, gate: &Gate) -> Defaults {
    Defaults {
        from: config.node.name.clone(),
        timeout: config.delivery.timeout,
        retries: config.delivery.retries,
        method_timeout: config.delivery.method_timeout,
        may_command: trust.may_command(),
        may_seal: trust.identity().is_some(),
        seal: config.delivery.seal.clone(),
        own: gate.own.clone(),
    }
}

/// Starts what messages come in by: `inmsg.txt`, `messages.d/`, the socket and syslog.
fn open_doors(
    config: &Config,
    parts: &Parts,
    ((audience, contents), desk): ((Audience, Contents), &Desk),
    intake: &Intake,
    clock: Clock,
) -> anyhow::Result<()> {
    let (dir, end) = (config.node.dir.clone(), parts.intake_end.clone());
    let inmsg_intake = intake.clone();
    parts.supervisor.keep(Spec::new("inmsg.txt").within(end), move |end| {
        let (dir, intake) = (dir.clone(), inmsg_intake.clone());
        async move {
            let inmsg = Inmsg::open(&dir, intake, Timing::NODE, clock.now().mono).await?;
            inmsg.run(clock, end).await
        }
    });
    let (dir, end, spool_intake) = (config.node.dir.clone(), parts.intake_end.clone(), intake.clone());
    parts.supervisor.keep(Spec::new(spool::NAME).within(end), move |end| {
        let (dir, intake) = (dir.clone(), spool_intake.clone());
        async move { Spool::open(&dir, intake)?.run(clock, end).await }
    });
    let startup = Startup::new(&config.node.dir, intake.clone());
    parts
        .supervisor
        .keep(Spec::new(startup::NAME).within(parts.intake_end.clone()), move |end| startup.clone().run(end));
    let api = Api {
        intake: intake.clone(),
        engine: parts.engine.clone(),
        supervisor: parts.supervisor.clone(),
        link: parts.broker.board().clone(),
        rules: parts.rules.clone(),
        syslog: desk.clone(),
        renewal: parts.renewal.clone(),
        forwards: parts.broker.forwards().clone(),
        audience,
        contents,
        dir: config.node.dir.clone(),
        info: info(config, parts.broker.clone()),
    };
    if let Some(address) = config.listen.messages {
        let api = api.clone();
        parts.supervisor.keep(Spec::new("port"), move |end| api.clone().run_on_port(address, end));
    }
    let spec = Spec::new("api").stops(Stops::FromAfar("nobody there could start it again"));
    parts.supervisor.keep(spec, move |end| api.clone().run(end));
    super::membership::hand_out_rules(&config.node.dir, &parts.supervisor, intake);
    super::syslog::keep(config, parts, desk, intake, clock)
}

/// Runs what brings results to where their messages say.
fn keep_replies(config: &Config, parts: &Parts, intake: &Intake, stats: &EngineStats) -> anyhow::Result<()> {
    let due = stats.replies_due.clone();
    let keeper = Keeper::new(&config.node.dir, parts.engine.clone(), intake.clone(), due)?;
    let spec = Spec::new("replies").stops(Stops::Never("results would not come to where they belong"));
    parts.supervisor.keep(spec, move |end| keeper.clone().run(end));
    Ok(())
}

/// Runs the broker's three tasks until the node stops.
fn keep_broker(supervisor: &Supervisor, broker: &Broker) {
    let (link, incoming, outgoing) = (broker.clone(), broker.clone(), broker.clone());
    let spec = |name| Spec::new(name).stops(Stops::Here("nothing would reach the node any more, not even its start"));
    let (forwards, speaker) = (broker.forwards().clone(), broker.clone());
    supervisor.keep("forwards", move |end| until(end, forwards.clone().sending(speaker.clone())));
    supervisor.keep(spec("broker link"), move |end| link.clone().link_until(end));
    supervisor.keep(spec("broker incoming"), move |end| until(end, incoming.clone().incoming()));
    supervisor.keep(spec("broker outgoing"), move |end| until(end, outgoing.clone().outgoing()));
}

/// Opens what lies on disk, and puts in order what a killed process left.
fn open(config: &Config) -> anyhow::Result<Opened> {
    let dir = config.node.dir.as_path();
    let mut store = Store::open(dir)?;
    let incarnation = Incarnation(low_bits(uuid::Uuid::now_v7().as_u128()));
    let begun = store.begin_process(incarnation);
    begun.with_context(|| format!("the store in {} can't be written", dir.display()))?;
    let own = OwnMethods::open(dir);
    let snapshot = store.snapshot(&|message: &Message| own.facts(message.method.as_str()))?;
    let running = |(row, _): &(InboxRow, Facts)| match row.state {
        InState::Running(_) => Some((row.ticket, row.message.id)),
        InState::Stored | InState::Finished(_) => None,
    };
    let running: Vec<(Ticket, MessageId)> = snapshot.inbox.iter().filter_map(running).collect();
    let ended = methods::recover(dir, &running);
    if ended > 0 {
        tracing::warn!(processes = ended, "ended what commands of the last run left behind");
    }
    let (reader, blobs) = (Reader::open(dir)?, Blobs::open(dir)?);
    let removed = blobs.remove_leftovers(&|owner| reader.is_known(owner).unwrap_or(true))?;
    if removed > 0 {
        tracing::info!(files = removed, "removed outputs that belong to no message");
    }
    let log = MessageLog::open(dir)?;
    let identity = Identity {
        name: config.node.name.clone(),
        epoch: store.epoch(),
        incarnation,
        commits_at_start: store.commits(),
        seed: low_bits(uuid::Uuid::now_v7().as_u128()),
    };
    reach(Point::AtStart);
    Ok(Opened { store, reader, log, blobs, identity, snapshot, bodies: message_of(dir)?, own })
}

/// The random bits of a `UUIDv7`, as a number that every store and every language can hold.
fn low_bits(id: u128) -> u64 {
    u64::try_from(id & u128::from(u64::MAX >> 2)).unwrap_or_default()
}

pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn broker_config(config: &Config, identity: &Identity, trust: Trust) -> broker::Config {
    let addresses = config.broker.addresses.iter().map(|address| address.clone().into_inner().to_string());
    let addresses: Vec<String> = addresses.collect();
    broker::Config {
        address: addresses.join(","),
        access: Access { tls: config.broker.tls.clone(), login: config.broker.login.clone() },
        identity: identity.clone(),
        central: config.node.central.clone(),
        take_over: config.node.take_over,
        host: host(),
        started: clock::wall(),
        trust,
        seal: config.delivery.seal.clone(),
        link_rate: config.broker.link_rate,
    }
}

fn wiring(
    config: &Config,
    engine: &EngineHandle,
    (effects, bulk, message_of): (mpsc::Receiver<Vec<Effect>>, mpsc::Sender<broker::Bulk>, MessageOf),
    stats: &Arc<EngineStats>,
    supervisor: &Supervisor,
    clock: Clock,
    gate: &Gate,
) -> Wiring {
    let hello = Hello::new(config.node.name.as_str(), &config.node.dir, clock::wall(), config.node.labels.clone());
    let (queues, tasks, audit, rules) = (stats.clone(), supervisor.clone(), gate.audit.clone(), gate.rules.clone());
    let own = gate.own.clone();
    Wiring {
        engine: engine.clone(),
        effects,
        commits: stats.commits.clone(),
        judge: gate.judge(),
        message_of,
        info: Arc::new(move || {
            hello.text(queues.queues(), &tasks.resting(), (audit.head(), rules.view().fleet_version), own.told())
        }),
        clock,
        bulk,
        forwards: Forwards::new(config.node.name.clone(), supervisor.clone()),
        board: LinkBoard::default(),
        traffic: stats.traffic.clone(),
    }
}

/// Messages of the inbox by their numbers.
fn message_of(dir: &Path) -> anyhow::Result<MessageOf> {
    let reader = Reader::open(dir)?;
    Ok(Arc::new(move |ticket| {
        reader.inbox_message(ticket).unwrap_or_else(|error| {
            tracing::error!(?ticket, %error, "a message of the inbox can't be read");
            None
        })
    }))
}

fn setup(
    config: &Config,
    opened: &Opened,
    (engine, supervisor): (&EngineHandle, &Supervisor),
    (broker, renewal): (&Broker, &Option<Renewal>),
    (gate, intake, desk): (&Gate, &Intake, &Desk),
) -> anyhow::Result<methods::Setup> {
    let (board, rules, dir) = (broker.board().clone(), gate.rules.clone(), &config.node.dir);
    let processes = Processes::new(engine.clone(), supervisor.clone(), board, rules, renewal.clone(), dir).beside(desk);
    Ok(methods::Setup {
        node: config.node.name.clone(),
        dir: config.node.dir.clone(),
        blobs: opened.blobs.clone(),
        max_output: config.methods.max_output,
        live: LiveOutputs::default(),
        wants: Wants::default(),
        started: clock::wall(),
        guard: Some(methods::job_guard::Program::own()),
        bodies: opened.bodies.clone(),
        processes: processes.forwarding(broker.forwards()),
        forwards: broker.forwards().clone(),
        audit: gate.audit.clone(),
        permit: gate.permit(),
        rules: gate.rules.clone(),
        renewal: renewal.clone(),
        syslog: desk.clone(),
        intake: intake.clone(),
        reader: Arc::new(Reader::open(dir)?),
        own: gate.own.clone(),
    })
}

fn retention(config: &Config) -> Retention {
    Retention {
        keep: config.store.keep.unwrap_or(Duration::MAX),
        bytes_max: config.store.keep_size.unwrap_or(u64::MAX),
    }
}

fn info(config: &Config, broker: Broker) -> Arc<dyn Fn() -> InfoView + Send + Sync> {
    let fixed = InfoView {
        node: config.node.name.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: clock::rfc3339(clock::wall()),
        broker: broker.address().split(',').map(|address| address.trim().to_owned()).collect(),
        link: String::new(),
        link_state: String::new(),
        link_note: None,
        dir: config.node.dir.display().to_string(),
        listen: config.listen.messages.as_ref().map(ToString::to_string),
        metrics: config.listen.metrics.as_ref().map(ToString::to_string),
        profiling: config.listen.profiling.as_ref().map(ToString::to_string),
    };
    Arc::new(move || {
        let link = if broker.is_up() { "up" } else { "down" };
        let view = broker.board().view();
        InfoView { link: link.to_owned(), link_state: view.state.to_string(), link_note: view.note, ..fixed.clone() }
    })
}
