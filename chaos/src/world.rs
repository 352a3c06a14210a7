//! One world: a broker and nodes as real processes, each node with a line of its own to the broker, orders that are handed
//! in, and faults that strike when the seed says so. Then everything is mended, and the audit looks at what is left.

mod disk;
pub(crate) mod guests;
mod keep;
mod machine;
pub(crate) mod members;
mod run;
mod setup;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use crate::copier::Copied;
use crate::dice::Dice;
use crate::faults::{Fault, Struck};
use crate::harness::{Fleet, Process};
use crate::onlooker::Seen;
use crate::orders::{Effects, Order};
use crate::payload::Payload;
use crate::tailer::Tailed;
use crate::tape::Tape;
use crate::timer::Timer;

use guests::Guest;
pub(crate) use machine::{Machine, Past};
use members::Papers;
pub(crate) use run::{Outcome, run};
pub(crate) use setup::{Terms, Trust};

/// Something that is done to a world at some point of its time.
type Action = Box<dyn FnOnce(&mut World<'_>)>;

/// An action that is planned.
struct Planned {
    at: Duration,
    /// Of two at the same time, the one that was planned first comes first.
    number: u64,
    action: Action,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    /// The earliest is the greatest, which is what a heap gives out first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// See the module.
pub(crate) struct World<'f> {
    pub(crate) fleet: &'f Fleet,
    /// Central first, then the ships.
    pub(crate) machines: Vec<Machine<'f>>,
    pub(crate) orders: Vec<Order>,
    pub(crate) effects: Effects,
    pub(crate) payload: Payload,
    pub(crate) timer: Timer,
    /// How long this process has stood still itself, and presumably everything else with it.
    pub(crate) stood_still: Duration,
    /// Faults strike until then.
    pub(crate) until: Duration,
    /// How often each fault has struck.
    pub(crate) struck: BTreeMap<&'static str, u64>,
    /// Faults that can't be had here, and why.
    pub(crate) skipped: BTreeMap<&'static str, String>,
    /// What was done and seen, a line each.
    pub(crate) chronicle: Vec<String>,
    /// What was found wrong before the audit.
    pub(crate) wrong: Vec<String>,
    /// What those saw who looked on while commands ran.
    pub(crate) seen: Vec<Seen>,
    /// What became of the log that was followed.
    pub(crate) tailed: Tailed,
    /// What became of files that were copied.
    pub(crate) copied: Vec<Copied>,
    /// Whether the program has switches.
    pub(crate) has_switches: bool,
    /// How many faults strike in this world.
    pub(crate) faults: usize,
    /// Whether the broker is gone or going, and comes back.
    pub(crate) broker_away: bool,
    /// What was heard at the broker, if somebody wants to know.
    pub(crate) tape: Option<Tape>,
    /// What its nodes carry, if they are members of a fleet.
    pub(crate) papers: Option<Papers>,
    /// What somebody has the command line do meanwhile.
    pub(crate) errands: Vec<Process>,
    guests: Vec<Guest<'f>>,
    planned: BinaryHeap<Planned>,
    plans: u64,
}

impl<'f> World<'f> {
    /// Does something after a while.
    pub(crate) fn later(&mut self, pause: Duration, action: impl FnOnce(&mut World<'_>) + 'static) {
        self.at(self.timer.elapsed() + pause, action);
    }

    /// Does something at this point.
    pub(crate) fn at(&mut self, at: Duration, action: impl FnOnce(&mut World<'_>) + 'static) {
        self.plans += 1;
        self.planned.push(Planned { at, number: self.plans, action: Box::new(action) });
    }

    /// A line for whoever has to understand a failure.
    pub(crate) fn tell(&mut self, line: impl std::fmt::Display) {
        self.chronicle.push(format!("{:8.3} {line}", self.timer.elapsed().as_secs_f64()));
    }

    /// Has a fault strike.
    pub(crate) fn strike(&mut self, fault: &'static Fault, dice: &mut Dice) {
        match (fault.strike)(self, dice) {
            Ok(Struck::Now(what)) => {
                self.count(fault.name);
                self.tell(format_args!("{}: {what}", fault.name));
            }
            Ok(Struck::Armed(what)) => self.tell(format_args!("{} is to strike: {what}", fault.name)),
            Err(why) => self.tell(format_args!("{} does not strike: {why}", fault.name)),
        }
    }

    /// A fault has struck.
    pub(crate) fn count(&mut self, fault: &'static str) {
        *self.struck.entry(fault).or_default() += 1;
    }

    /// One of the ships.
    pub(crate) fn a_ship(&self, dice: &mut Dice) -> usize {
        1 + dice.index(self.machines.len() - 1)
    }

    /// Any of the machines.
    pub(crate) fn any(&self, dice: &mut Dice) -> usize {
        dice.index(self.machines.len())
    }

    /// How long a trouble lasts at most.
    pub(crate) fn short(&self, dice: &mut Dice) -> Duration {
        dice.millis(50, 2000)
    }
}
