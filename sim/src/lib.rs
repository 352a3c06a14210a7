//! Proves steward's protocol: a whole fleet in one thread, in virtual time, with faults by name and rate, and beside it a
//! reference that knows only what was promised. A seed decides everything, so a failure is a number.
//!
//! It has no copy of the rules that it tests: nodes are [`protocol::Node`], and around them is what the real shell does.
//!
//! In reading order:
#![forbid(unsafe_code)]

// What a seed decides.
mod rng;

pub mod faults;

mod plan;

mod script;

mod load;

// The world and what lives in it.
mod world;

mod mischief;

mod network;

mod host;

mod disk;

// One process: the loop, and the tasks around it.
mod process;

mod sending;

mod runner;

mod results;

// What must be true.
mod model;

mod settling;

// What people see.
mod trace;

mod show;

pub mod bug;

pub mod campaign;

use std::time::Duration;

use bug::Bug;
use faults::Faults;
use plan::Plan;
use world::World;

pub use trace::Keep;
pub use world::Stats;

/// What to simulate.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these faults, where there are any.
    pub faults: Vec<String>,
    /// Every fault but these.
    pub without: Vec<String>,
    /// A bug that is planted on purpose.
    pub bug: Option<Bug>,
    /// In place of what the seed would do: a receiver that is slower than its sender, who sends for so long. No faults but
    /// those that are named.
    pub slow_receiver: Option<Duration>,
}

/// What came of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was not as promised: the rule, and what happened.
    pub wrong: Option<(&'static str, String)>,
    /// The hash of the trace's bytes.
    pub hash: u64,
    /// The lines of the trace that were kept.
    pub lines: Vec<String>,
    /// What happened, in numbers.
    pub stats: Stats,
}

/// Simulates one seed.
pub fn simulate(seed: u64, options: &Options, keep: Keep) -> Outcome {
    let narrow = |faults: &mut Faults| {
        if !options.faults.is_empty() {
            faults.narrow(&options.faults, false);
        }
        faults.narrow(&options.without, true);
    };
    let plan = match options.slow_receiver {
        None => Plan::new(seed, narrow),
        Some(sending) => {
            let mut faults = if options.faults.is_empty() { Faults::default() } else { Faults::all() };
            narrow(&mut faults);
            Plan::slow_receiver(seed, sending, faults)
        }
    };
    plant(options.bug);
    let mut world = World::new(seed, plan, options.bug, keep);
    world.run();
    plant(None);
    let trace = world.trace.into_inner();
    Outcome {
        wrong: world.wrong.map(|wrong| (wrong.rule, wrong.text)),
        hash: trace.hash(),
        stats: world.stats,
        lines: trace.into_lines(),
    }
}

/// Plants the protocol's share of a bug into the nodes of this thread, or none.
#[cfg(feature = "planted-bugs")]
fn plant(bug: Option<Bug>) {
    protocol::planted::plant(match bug {
        Some(Bug::Protocol(bug)) => Some(bug),
        Some(Bug::EffectsBeforeCommit | Bug::NothingSynced) | None => None,
    });
}

/// Without the feature, the protocol has no bugs to plant.
#[cfg(not(feature = "planted-bugs"))]
fn plant(_: Option<Bug>) {}

/// As [`simulate`]; a panic is something that is wrong, and leaves no trace.
pub fn simulate_caught(seed: u64, options: &Options, keep: Keep) -> Outcome {
    let run = std::panic::AssertUnwindSafe(|| simulate(seed, options, keep));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text =
            panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref().map(|text: &&str| (*text).into()));
        let wrong = Some(("a panic", text.unwrap_or_default()));
        Outcome { wrong, hash: 0, lines: Vec::new(), stats: Stats::default() }
    })
}

/// Simulates one seed twice; something is wrong, too, if the traces differ.
pub fn check(seed: u64, options: &Options) -> Outcome {
    let first = simulate_caught(seed, options, Keep::Hash);
    let mut second = simulate_caught(seed, options, Keep::Hash);
    if second.wrong.is_none() && first != second {
        let text = format!("the traces of two runs have the hashes {:x} and {:x}", first.hash, second.hash);
        second.wrong = Some(("same seed, same bytes", text));
    }
    second
}
