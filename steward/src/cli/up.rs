//! `steward up`: the fleet's broker and the node here together, with one command. Two processes of their own, so that neither
//! takes the other with it when it fails; they end in order, the node first, so that it can say goodbye.

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::name::NodeName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::broker::{FOR_EVER, keep, prepare, start_log};
use super::exit::{self, Exit};
use super::fleet::Stop;
use super::init::{found, is_headless, join_own, make_dir, own_settings};
use super::output::{self, Output};
use super::{Context, Verb, wait_for};
use crate::authority;
use crate::child::Program;
use crate::config::Config;
use crate::nats_server::{self, STOP_LIMIT};
use crate::supervise::{Rule, Spec, Stops, Supervisor};

/// The address of a fleet that is made without being asked where nodes will reach it.
const HERE_ONLY: &str = "127.0.0.1:4222";

/// How long the node is held back for the broker. It does without, but says so.
const BROKER_LIMIT: Duration = Duration::from_secs(5);

/// What a node needs beyond its own limit for what runs (`--stop-limit`) to stop.
const NODE_STOP_EXTRA: Duration = Duration::from_secs(20);

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Up {
    /// If there is no fleet here yet: where nodes will reach its broker [default: 127.0.0.1:4222, this machine alone]
    #[arg(long, value_name = "HOST:PORT")]
    address: Vec<String>,
    /// One JSON object once the broker takes connections
    #[arg(long)]
    json: bool,
}

/// What runs.
#[derive(Debug, serde::Serialize)]
struct Runs {
    dir: String,
    /// Where nodes reach the broker.
    addresses: Vec<String>,
    /// Whether it takes connections.
    ready: bool,
}

impl Verb for Up {
    const NAME: &'static str = "up";
    const ABOUT: &'static str = "Run the fleet's broker and the node here together; make the fleet if there is none";
    const MORE: &'static str = "\
The same as `steward broker` and `steward run`, in one command: each is started anew when it fails, and both end with Ctrl-C \
or SIGTERM, the node first. It needs a nats-server ($NATS_SERVER_BIN, else from PATH).
Examples:
  steward up                                  # a fleet for this machine, made at the first start
  steward --dir /var/lib/steward up --address hq.example.org:4222";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = make_dir(&context.dir()?)?;
        self.make_fleet(&dir)?;
        let (binary, _lock) = prepare(&dir)?;
        let sources = context.sources.with_own_file()?;
        let stop_limit = Config::read(&sources)?.node.stop_limit;
        start_log(&sources)?;
        wait_for(async {
            let mut stop = Stop::listen()?;
            let (brokers, mut ready) = keep(binary, dir.clone());
            let mut ended = tokio::select! {
                there = tokio::time::timeout(BROKER_LIMIT, ready.wait_for(|ready| *ready)) => {
                    if there.is_err() {
                        tracing::warn!("the broker takes long to come up; the node starts without it");
                    }
                    None
                }
                _ = stop.comes() => Some(Exit::OK),
            };
            if self.json {
                runs(&dir, *ready.borrow())?;
            }
            let nodes = Supervisor::new(Rule { halt: stop_limit + NODE_STOP_EXTRA, ..FOR_EVER });
            if ended.is_none() {
                let (over, mut is_over) = mpsc::channel(1);
                let limit = stop_limit + NODE_STOP_EXTRA;
                let spec = Spec::new("node").stops(Stops::Never("there would be nothing to talk to"));
                nodes.keep(spec, move |end| node(dir.clone(), limit, over.clone(), end));
                ended = tokio::select! {
                    _ = stop.comes() => None,
                    exit = is_over.recv() => exit,
                };
            }
            nodes.stop(stop_limit + NODE_STOP_EXTRA * 2).await;
            brokers.stop(STOP_LIMIT * 2).await;
            Ok(ended.unwrap_or(Exit::OK))
        })
    }
}

impl Up {
    /// Makes the fleet if there is none, once it is sure that it can be run.
    fn make_fleet(&self, dir: &Path) -> anyhow::Result<()> {
        let central = NodeName::new("central")?;
        if is_headless(dir) {
            join_own(dir, &central, &Default::default())?;
            output::note("the node here is central of the fleet in fleet/ now");
            return Ok(());
        }
        if dir.join(authority::FOLDER).symlink_metadata().is_ok() {
            if !self.address.is_empty() {
                output::note("there is a fleet here already, so --address means nothing");
            }
            return Ok(());
        }
        nats_server::Binary::find()?.check_version()?;
        let addresses = if self.address.is_empty() { vec![HERE_ONLY.to_owned()] } else { self.address.clone() };
        found(dir, &central, &own_settings(&addresses)?, &Default::default())?;
        output::note(&format!("a fleet was made in {}, for {}", dir.display(), addresses.join(", ")));
        Ok(())
    }
}

/// Says what runs, for programs.
fn runs(dir: &Path, ready: bool) -> anyhow::Result<()> {
    let addresses = nats_server::open_fleet(dir)?.addresses().collect();
    let mut output = Output::stdout();
    output.json(&Runs { dir: dir.display().to_string(), addresses, ready })?;
    Ok(output.flush()?)
}

/// Runs the node here. If it ends by itself and would only do so again, `over` is told.
async fn node(dir: PathBuf, limit: Duration, over: mpsc::Sender<Exit>, end: CancellationToken) -> anyhow::Result<()> {
    let program = Program::own("the node", vec!["run".into(), "--dir".into(), dir.clone().into()], &dir);
    let mut child = program.start()?;
    let status = tokio::select! {
        status = child.ends() => status?,
        () = end.cancelled() => {
            child.stop(limit).await;
            return Ok(());
        }
    };
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        // It was told to stop, or it can't be what its configuration says.
        Some(code @ (0 | exit::USAGE)) => {
            if over.send(Exit(code)).await.is_err() {
                tracing::debug!("everything ends already");
            }
            Ok(())
        }
        Some(_) | None => anyhow::bail!("the node ended by itself: {status}"),
    }
}
