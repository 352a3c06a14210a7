//! The simulator's command line: one seed with its trace, or many seeds and the first that fails.
#![expect(clippy::print_stdout, reason = "this is a command line")]

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use sim::campaign::{self, Tally};
use sim::faults::Faults;
use sim::{Keep, Options, simulate, simulate_caught};

/// Lines of the trace that are shown of a seed that failed.
const TAIL_LINES: usize = 60;

/// Simulates fleets of steward nodes in virtual time, with faults, and checks what they promise.
#[derive(Debug, Parser)]
struct Args {
    /// Simulate this seed and print what happens, a line an event
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// Simulate these seeds on all cores, each twice; stop at the first that fails
    #[arg(long, value_name = "A..B", value_parser = parse_range, default_value = "0..1000")]
    seeds: Range<u64>,
    /// Stop after so many minutes, however many seeds are left
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Only these faults, separated by commas; "none" for none. See --list
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    faults: Vec<String>,
    /// Every fault but these
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    without: Vec<String>,
    /// With --seed: only lines with this text, such as "n1 " or "#17"; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// A receiver that is slower than its sender, who sends for so many minutes; no faults but those of --faults
    #[arg(long, value_name = "MINUTES")]
    slow_receiver: Option<u64>,
    /// List the faults and what they do
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        Faults::NAMES.iter().for_each(|(name, what)| println!("{name:<22}{}", what.trim()));
        return ExitCode::SUCCESS;
    }
    for name in args.faults.iter().chain(&args.without) {
        if name != "none" && !Faults::NAMES.iter().any(|(known, _)| known == name) {
            println!("There is no fault {name:?}; --list says which there are.");
            return ExitCode::from(2);
        }
    }
    let slow_receiver = args.slow_receiver.map(|minutes| Duration::from_secs(60 * minutes));
    let options = Options { faults: args.faults.clone(), without: args.without.clone(), bug: None, slow_receiver };
    match args.seed {
        Some(seed) => one(seed, &args, &options),
        None => many(&args, &options),
    }
}

/// Prints what happens in one seed.
fn one(seed: u64, args: &Args, options: &Options) -> ExitCode {
    let outcome = simulate(seed, options, Keep::All);
    let wanted = |line: &&String| args.only.is_empty() || args.only.iter().any(|text| line.contains(text));
    outcome.lines.iter().filter(wanted).for_each(|line| println!("{line}"));
    println!("trace {:016x}, {:?}", outcome.hash, outcome.stats);
    let Some((rule, text)) = outcome.wrong else {
        println!("seed {seed}: all promises kept");
        return ExitCode::SUCCESS;
    };
    println!("seed {seed} FAILED: {rule}: {text}");
    ExitCode::FAILURE
}

/// Simulates many seeds; prints how it goes, and the first that fails.
#[expect(clippy::disallowed_methods, reason = "how long a campaign takes is the one thing here in real time")]
fn many(args: &Args, options: &Options) -> ExitCode {
    let started = Instant::now();
    let limit = args.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let seconds_told = AtomicU64::new(0);
    let more = |tally: &Tally| {
        let elapsed = started.elapsed();
        if seconds_told.fetch_max(elapsed.as_secs() / 5, Ordering::Relaxed) < elapsed.as_secs() / 5 {
            println!("{:>8} seeds, {:.0} a second", tally.seeds, tally.seeds as f64 / elapsed.as_secs_f64());
        }
        limit.is_none_or(|limit| elapsed < limit)
    };
    let tally = campaign::run(args.seeds.clone(), options, more);
    let rate = tally.seeds as f64 / started.elapsed().as_secs_f64();
    let Some((seed, rule, text)) = tally.failed else {
        println!("{} seeds, each twice with the same bytes, {rate:.0} a second: all promises kept", tally.seeds);
        println!("{:?}", tally.stats);
        return if tally.seeds > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    let outcome = simulate_caught(seed, options, Keep::Tail);
    let skip = outcome.lines.len().saturating_sub(TAIL_LINES);
    outcome.lines.iter().skip(skip).for_each(|line| println!("{line}"));
    println!("\nseed {seed} FAILED after {} seeds: {rule}: {text}", tally.seeds);
    println!("again, with its whole trace: cargo run -p sim -- --seed {seed}{}", repeat(args));
    ExitCode::FAILURE
}

/// The options that decide what a seed does, as they were given.
fn repeat(args: &Args) -> String {
    let option = |name: &str, list: &[String]| match list {
        [] => String::new(),
        list => format!(" --{name} {}", list.join(",")),
    };
    let load = args.slow_receiver.map(|minutes| format!(" --slow-receiver {minutes}")).unwrap_or_default();
    option("faults", &args.faults) + &option("without", &args.without) + &load
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text.split_once("..").ok_or("two numbers are wanted, as in 0..2000")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let range = number(first)?..number(end)?;
    if range.is_empty() { Err("there is no seed in it".to_owned()) } else { Ok(range) }
}
