//! The command line of the campaign.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;

use crate::campaign::{self, Next, Seeds};
use crate::faults::{self, Fault};
use crate::harness::{self, keeper};
use crate::link;
use crate::report;
use crate::world::{Terms, Trust};

/// The exit code after Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 130;

/// Starts a nats-server and steward nodes as real processes, hands messages with known effects in, breaks what can break,
/// mends it, and looks whether every promise was kept.
#[derive(Debug, Parser)]
#[command(name = "steward-chaos")]
struct Args {
    /// One world, and what happened in it, a line each
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// A world for each of these seeds
    #[arg(long, value_name = "A..B", value_parser = parse_range, default_value = "0..10")]
    seeds: Range<u64>,
    /// Begin no more worlds after so many minutes, however many seeds are left
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Worlds at the same time
    #[arg(long, value_name = "J", default_value_t = 1)]
    jobs: usize,
    /// Nodes beside central
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    nodes: u16,
    /// Messages that are handed in
    #[arg(long, value_name = "N", default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=5000))]
    messages: u32,
    /// How long faults strike, in seconds
    #[arg(long, value_name = "S", default_value_t = 6.0)]
    duration: f64,
    /// How long everything may take to come to its end after the faults, in seconds; what takes longer is lost
    #[arg(long, value_name = "S", default_value_t = 150.0)]
    settle: f64,
    /// All of these faults in each world, with commas between; "none" for none. Without it the seed chooses. See --list
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    faults: Vec<String>,
    /// Every fault but these
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    without: Vec<String>,
    /// How the nodes trust each other; without it the seed chooses
    #[arg(long, value_name = "HOW")]
    trust: Option<Trust>,
    /// The program; otherwise `steward` beside this one
    #[arg(long, value_name = "PATH")]
    steward: Option<PathBuf>,
    /// Keep the folder of each world, also of those without a failure
    #[arg(long)]
    keep: bool,
    /// Plant this bug (see protocol/src/planted.rs) into the nodes, to see that the audit notices it: the exit code is 0 only
    /// if it does, and the campaign ends with the first world that shows it
    #[arg(long, value_name = "BUG")]
    plant: Option<String>,
    /// With --plant: run all worlds, and say in how many the bug was noticed
    #[arg(long, requires = "plant")]
    count: bool,
    /// Print the counts by fault as a table in Markdown
    #[arg(long)]
    markdown: bool,
    /// List the faults and what they do
    #[arg(long)]
    list: bool,
}

/// Does what the command line says. The exit code is 0 only if every promise was kept in every world.
pub fn run() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|verb| verb == keeper::VERB) {
        return keeper::main();
    }
    let args = Args::parse();
    if args.list {
        report::list(faults::ALL);
        return ExitCode::SUCCESS;
    }
    let terms = match terms(&args) {
        Ok(terms) => terms,
        Err(why) => {
            report::say(&why);
            return ExitCode::from(2);
        }
    };
    let repeat = repeat(&args);
    let ready = harness::have_a_keeper().and_then(|()| {
        link::on_interrupt(|| {
            harness::end_all();
            std::process::exit(INTERRUPTED);
        })
    });
    if let Err(error) = ready {
        report::say(&format!("Nothing is begun, because Ctrl-C would leave processes behind: {error}"));
        return ExitCode::from(2);
    }
    let limit = args.minutes.and_then(|minutes| Duration::try_from_secs_f64(minutes * 60.0).ok());
    let seeds = Seeds { range: args.seeds.clone(), limit, jobs: args.jobs.max(1) };
    if terms.bug.is_some() {
        return planted(&args, seeds, &terms, &repeat);
    }
    let failed = match args.seed {
        Some(seed) => {
            let told = campaign::one(seed, &terms);
            report::chronicle(&told);
            report::world(&told, &repeat);
            !told.is_fine()
        }
        None => {
            let total = campaign::run(&seeds, &terms, &|told| {
                report::world(told, &repeat);
                Next::World
            });
            report::total(&total, args.markdown);
            total.worlds == 0 || !total.failed.is_empty()
        }
    };
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Looks for a world in which the planted bug is noticed, or counts those worlds.
fn planted(args: &Args, seeds: Seeds, terms: &Terms, repeat: &str) -> ExitCode {
    let (jobs, noticed) = (if args.count { seeds.jobs } else { 1 }, AtomicU64::new(0));
    let seeds = Seeds { range: args.seed.map_or(seeds.range, |seed| seed..seed + 1), jobs, ..seeds };
    let total = campaign::run(&seeds, terms, &|told| {
        report::world(told, repeat);
        // A world that could not be set up says nothing about the bug.
        let is_noticed = told.outcome.is_ok() && !told.is_fine();
        let before = noticed.fetch_add(u64::from(is_noticed), Ordering::Relaxed);
        if args.count || before + u64::from(is_noticed) == 0 { Next::World } else { Next::Nothing }
    });
    match noticed.into_inner() {
        0 => {
            report::say("The bug is not noticed: an audit that finds nothing proves nothing.");
            ExitCode::FAILURE
        }
        noticed => {
            let (worlds, took) = (total.worlds, total.took.as_secs_f64());
            report::say(&format!(
                "The bug is noticed in {noticed} of {worlds} worlds, in {took:.0} s, as it should be."
            ));
            ExitCode::SUCCESS
        }
    }
}

fn terms(args: &Args) -> Result<Terms, String> {
    for name in args.faults.iter().chain(&args.without) {
        if name != "none" && !faults::ALL.iter().any(|fault| fault.name == name) {
            return Err(format!("There is no fault {name:?}; --list says which there are."));
        }
    }
    let wanted = |fault: &&&'static Fault| {
        let named = |names: &[String]| names.iter().any(|name| name == fault.name);
        (args.faults.is_empty() || named(&args.faults)) && !named(&args.without)
    };
    let steward = steward(args)?;
    let has_switches = has_switches(&steward)?;
    if args.plant.is_some() && !has_switches {
        return Err("Bugs can be planted only into a steward with crash points; scripts/chaos builds one.".to_owned());
    }
    Ok(Terms {
        has_switches,
        steward,
        bug: args.plant.clone(),
        nodes: usize::from(args.nodes),
        messages: args.messages as usize,
        duration: seconds("--duration", args.duration)?,
        settle: seconds("--settle", args.settle)?,
        faults: faults::ALL.iter().filter(wanted).copied().collect(),
        all: !args.faults.is_empty(),
        trust: args.trust,
        keep: args.keep,
    })
}

fn seconds(option: &str, seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{option}: {error}"))
}

/// The program that is put to the test.
fn steward(args: &Args) -> Result<PathBuf, String> {
    let path = match &args.steward {
        Some(path) => path.clone(),
        None => std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("steward"),
    };
    let full = path.canonicalize();
    full.map_err(|error| {
        format!("{}: {error}; build it with `cargo build -p steward`, or name one with --steward", path.display())
    })
}

/// Whether a program was built with the feature `crash-points`: only then does it know this name.
fn has_switches(steward: &Path) -> Result<bool, String> {
    let program = std::fs::read(steward).map_err(|error| format!("{}: {error}", steward.display()))?;
    let name = b"STEWARD_SWITCHES";
    Ok(program.windows(name.len()).any(|window| window == name))
}

/// The options that decide what a seed does, as they were given.
fn repeat(args: &Args) -> String {
    let list = |name: &str, list: &[String]| match list {
        [] => String::new(),
        list => format!(" --{name} {}", list.join(",")),
    };
    format!("--nodes {} --messages {} --duration {} --settle {}", args.nodes, args.messages, args.duration, args.settle)
        + &list("faults", &args.faults)
        + &list("without", &args.without)
        + &args.trust.map_or_else(String::new, |trust| format!(" --trust {trust}"))
        + &args.plant.as_ref().map_or_else(String::new, |bug| format!(" --plant {bug}"))
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("two numbers are wanted, as in 0..200")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let range = number(first)?..number(end)?;
    if range.is_empty() { Err("there is no seed in it".to_owned()) } else { Ok(range) }
}
