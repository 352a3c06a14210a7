//! `steward bench`: how fast steward is on this machine. A real nats-server and real nodes, processes of this very
//! binary, in a temporary folder on loopback; beside each figure stands what the machine itself can do, measured in the
//! same run, because a figure without it says more about the machine than about steward.
//!
//! It measures and never judges: a figure that falls short of its aim is shown as such, and is no error.

mod backlog;
mod crowd;
mod flood;
mod idle;
mod latency;
mod limits;
mod load;
mod machine;
mod outputs;
mod plain;
mod report;
mod socket;
mod usage;
mod wire;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;

use super::exit::{self, Exit};
use super::fleet::{Fleet, Stop};
use super::output::{self, Output};
use super::{Context, Verb};
use report::{Figure, Report};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    /// Only these measures
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<Measure>,
    /// Also the measures of load
    #[arg(long)]
    load: bool,
    /// Fewer messages: a minute in place of several, and less certain
    #[arg(long)]
    quick: bool,
    /// With nodes of a fleet: everything that they send is signed, and verified where it arrives
    #[arg(long)]
    signed: bool,
    /// The same, and everything is sealed as well: encrypted to the node that it is for
    #[arg(long)]
    seal: bool,
    /// One JSON object a line: the machine, then each figure as it is measured
    #[arg(long)]
    json: bool,
    /// Where the temporary folder is made; what its disk can do decides about much [default: TMPDIR, else /var/tmp]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// Durable acknowledged events a second, from one node to another
    Events,
    /// The same over 20 lanes
    Lanes,
    /// The same to 20 nodes
    Nodes,
    /// Shell commands a second on one node
    Commands,
    /// How long one command takes, also the first to a new lane and to a new node
    Latency,
    /// From the start of a node's process until it is ready
    Start,
    /// Memory and CPU of a node that has nothing to do
    Idle,
    /// Memory when 10,000 messages come at once
    Burst,
    /// A million messages for a node that is absent: accepting, memory, restart, draining
    Million,
    /// Bytes through the broker for each command and each event
    Wire,
    /// Load: ten messages for each of 10,000 absent nodes, some of which come
    LoadAbsent,
    /// Load: 200 MB of output from each of 20 nodes at once
    LoadOutputs,
    /// Load: 50,000 messages in one write to inmsg.txt, and the latency of other lanes meanwhile
    LoadFlood,
}

impl Measure {
    /// Whether it is of interest only to who wants it: it takes minutes, and says nothing about ordinary use.
    fn is_load(self) -> bool {
        matches!(self, Self::LoadAbsent | Self::LoadOutputs | Self::LoadFlood)
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Scale {
    quick: bool,
}

impl Scale {
    /// One number for a whole run, another for a short one.
    fn of<T>(self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }
}

impl Verb for Bench {
    const NAME: &'static str = "bench";
    const ABOUT: &'static str = "Measure steward on this machine, beside what the machine itself can do";
    const MORE: &'static str = "\
Starts a nats-server ($NATS_SERVER_BIN, PATH or .tools/nats-server) and nodes of its own, on loopback and in a temporary
folder; touches no other node. It takes some minutes and 3 GiB of disk (--quick: a minute and 0.5 GiB), and removes
everything at its end, also on Ctrl-C. The measures of load (--load, or by name) take minutes and 10 GiB more. Other work on the machine shows in the figures and in the limits beside them.

Examples:
  steward bench
  steward bench --quick --only events,latency
  steward bench --signed --only events,latency,wire
  steward bench --seal --only events,latency,wire
  steward bench --json > bench.jsonl";

    fn run(self, _: Context) -> anyhow::Result<Exit> {
        if cfg!(debug_assertions) {
            output::note("this is a debug build: its figures say nothing; build with `cargo build --release`");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.context("the runtime can't be started")?;
        let done = runtime.block_on(async {
            let mut stop = Stop::listen()?;
            let stopped = tokio::select! {
                done = self.measure() => return done,
                exit = stop.comes() => exit,
            };
            output::note("stopped; everything that was started has ended");
            Ok(stopped)
        });
        // A limit that is being measured on a thread of its own would hold up the end for seconds.
        runtime.shutdown_background();
        done
    }
}

impl Bench {
    async fn measure(&self) -> anyhow::Result<Exit> {
        // Not /tmp: where that is memory, a write that is synced costs nothing, and the figures would be too good.
        let parent = self.folder.clone().or_else(|| std::env::var_os("TMPDIR").map(PathBuf::from));
        let parent = parent.unwrap_or_else(|| "/var/tmp".into());
        let mut fleet =
            Fleet::new("bench", &parent).context("nothing can be measured without a broker and a folder (--folder)")?;
        fleet.start_broker().await?;
        if self.signed || self.seal {
            fleet.certify(self.seal)?;
        }
        let machine = machine::describe(&fleet);
        let mut report = Report::new(&machine, self.json)?;
        let scale = Scale { quick: self.quick };
        let mut is_whole = true;
        for measure in Measure::value_variants() {
            let is_wanted = match &*self.only {
                [] => self.load || !measure.is_load(),
                only => only.contains(measure),
            };
            if !is_wanted {
                continue;
            }
            output::note(&format!("measuring: {}", help(*measure)));
            match take(*measure, &fleet, scale).await {
                Ok(figures) => {
                    for figure in figures {
                        output::note(&format!("  {}", figure.line()));
                        report.add(figure)?;
                    }
                }
                Err(error) => {
                    is_whole = false;
                    output::note_as("error", &format!("{}: {error:#}", help(*measure)));
                }
            }
        }
        report.finish(&mut Output::stdout())?;
        Ok(if is_whole { Exit::OK } else { Exit(exit::FAILED) })
    }
}

async fn take(measure: Measure, fleet: &Fleet, scale: Scale) -> anyhow::Result<Vec<Figure>> {
    match measure {
        Measure::Events => load::events(fleet, scale).await,
        Measure::Lanes => load::lanes(fleet, scale).await,
        Measure::Nodes => load::nodes(fleet, scale).await,
        Measure::Commands => load::commands(fleet, scale).await,
        Measure::Latency => latency::measure(fleet, scale).await,
        Measure::Start => idle::start(fleet, scale).await,
        Measure::Idle => idle::idle(fleet, scale).await,
        Measure::Burst => load::burst(fleet).await,
        Measure::Million => backlog::measure(fleet, scale).await,
        Measure::Wire => wire::measure(fleet, scale).await,
        Measure::LoadAbsent => crowd::measure(fleet).await,
        Measure::LoadOutputs => outputs::measure(fleet).await,
        Measure::LoadFlood => flood::measure(fleet).await,
    }
}

fn help(measure: Measure) -> String {
    let value = measure.to_possible_value();
    value.and_then(|value| Some(value.get_help()?.to_string())).unwrap_or_default()
}
