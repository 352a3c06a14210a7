//! What a world is made of, worked out from its seed alone.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::dice::Dice;
use crate::faults::Fault;
use crate::orders::Order;
use crate::submit::{Submission, Way};

/// What holds for all worlds of a campaign.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// The program that is put to the test.
    pub(crate) steward: PathBuf,
    /// Whether it was built with switches.
    pub(crate) has_switches: bool,
    /// A bug that is planted into it, to see that it is noticed.
    pub(crate) bug: Option<String>,
    /// Nodes beside central.
    pub(crate) nodes: usize,
    /// Messages that are handed in.
    pub(crate) messages: usize,
    /// How long faults strike.
    pub(crate) duration: Duration,
    /// How long everything may take to come to its end once nothing is wrong any more.
    pub(crate) settle: Duration,
    /// Faults that are allowed to.
    pub(crate) faults: Vec<&'static Fault>,
    /// Whether all of them strike in each world; otherwise a seed chooses some.
    pub(crate) all: bool,
    /// How the nodes trust each other; otherwise a seed chooses.
    pub(crate) trust: Option<Trust>,
    /// Whether the folder of a world is kept even if nothing was wrong.
    pub(crate) keep: bool,
}

/// How the nodes of a world trust each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Trust {
    /// Everybody on the broker is believed
    Open,
    /// They are members of a fleet: they sign what they send
    Signed,
    /// They sign and seal it
    Sealed,
}

impl Display for Trust {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Signed => "signed",
            Self::Sealed => "sealed",
        })
    }
}

/// What happens in one world, as far as a seed can decide it.
pub(crate) struct Plan {
    pub(crate) orders: Vec<Order>,
    pub(crate) submissions: Vec<Submission>,
    /// Which fault strikes when, and its dice.
    pub(crate) strikes: Vec<(Duration, &'static Fault, Dice)>,
    /// The faults that may strike in this world.
    pub(crate) faults: Vec<&'static Fault>,
    /// How its nodes trust each other.
    pub(crate) trust: Trust,
    /// For whatever else has to be chosen.
    pub(crate) dice: Dice,
}

/// How often a fault strikes in a world, at most.
const STRIKES_MAX: u64 = 3;

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64, terms: &Terms) -> Self {
        let mut dice = Dice::of(seed, 1);
        let machines = terms.nodes + 1;
        let mut order_dice = dice.fork();
        let mut orders: Vec<Order> =
            (0..terms.messages).map(|number| Order::thrown(number, machines, &mut order_dice)).collect();
        let submissions = submissions(&orders, terms.duration, &mut dice.fork());
        let faults = chosen(seed, terms, &mut dice.fork());
        let mut strike_dice = dice.fork();
        let mut strikes = Vec::new();
        for fault in &faults {
            for _ in 0..strike_dice.between(1, STRIKES_MAX) {
                let at = strike_dice.millis(100, terms.duration.as_millis() as u64);
                strikes.push((at, *fault, strike_dice.fork()));
            }
        }
        // Dice of its own, so that it changes nothing else about a seed.
        let of_seed = Dice::of(seed, 2).pick(&[Trust::Open, Trust::Open, Trust::Signed, Trust::Sealed]);
        let trust = terms.trust.unwrap_or(of_seed);
        let mut slow_dice = Dice::of(seed, 3);
        orders.iter_mut().for_each(|order| order.slow_down(&mut slow_dice));
        let mut repeat_dice = Dice::of(seed, 4);
        orders.iter_mut().for_each(|order| order.repeat(&mut repeat_dice));
        Self { orders, submissions, strikes, faults, trust, dice }
    }
}

/// The faults of a world: in turn one of all, so that none is left out, and some others with it.
fn chosen(seed: u64, terms: &Terms, dice: &mut Dice) -> Vec<&'static Fault> {
    if terms.all || terms.faults.len() < 2 {
        return terms.faults.clone();
    }
    let first = (seed % terms.faults.len() as u64) as usize;
    let others = dice.pick(&[0, 1, 1, 2, 3, 4, 6, 9]).min(terms.faults.len() - 1);
    let mut left: Vec<&'static Fault> = terms.faults.clone();
    let mut faults = vec![left.remove(first)];
    for _ in 0..others {
        faults.push(left.remove(dice.index(left.len())));
    }
    faults
}

/// Orders in groups, spread over the time in which faults strike; those of a group have the same sender.
fn submissions(orders: &[Order], duration: Duration, dice: &mut Dice) -> Vec<Submission> {
    let mut submissions: Vec<Submission> = Vec::new();
    let mut left: Vec<usize> = (0..orders.len()).collect();
    while let Some(first) = left.first().copied() {
        let from = orders[first].from;
        let most = dice.pick(&[1, 1, 2, 5, 12]);
        let group: Vec<usize> = left.iter().copied().filter(|order| orders[*order].from == from).take(most).collect();
        left.retain(|order| !group.contains(order));
        let at = dice.millis(0, duration.as_millis() as u64 * 9 / 10);
        // What is taken back has to have an id that we know.
        let has_cancel = group.iter().any(|order| orders[*order].cancel_after.is_some());
        let way = match dice.throw(100) {
            0..35 if !has_cancel => Way::File,
            35..50 if !has_cancel => Way::Spool,
            _ => Way::Socket,
        };
        submissions.push(Submission { at, way, from, orders: group });
    }
    submissions.sort_by_key(|submission| submission.at);
    submissions
}
