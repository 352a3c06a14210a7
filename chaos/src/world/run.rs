//! A world from its beginning to its audit.

use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::machine::{Machine, Switches};
use super::members::Papers;
use super::setup::{Plan, Terms, Trust};
use super::{Planned, World};
use crate::audit::{self, Audited};
use crate::copier::{self, Copied};
use crate::harness::{Fleet, Port};
use crate::ledger::Ledger;
use crate::link::Link;
use crate::onlooker::{self, Seen};
use crate::orders::Effects;
use crate::payload::Payload;
use crate::submit::{Submission, Submitter};
use crate::tailer::{self, Tailed};
use crate::timer::Timer;

/// How often the world is looked after.
const TICK: Duration = Duration::from_millis(10);

/// More than this between two looks is time in which we did not run ourselves.
const STOOD_STILL: Duration = Duration::from_millis(500);

/// The pause between two looks at what is still open, and how much is told of it.
const LOOK_PAUSE: Duration = Duration::from_millis(40);
/// See [`LOOK_PAUSE`].
const OPEN_CHARS: usize = 200;

/// What became of a world.
pub(crate) struct Outcome {
    /// How often each fault has struck.
    pub(crate) struck: BTreeMap<&'static str, u64>,
    /// Faults that can't be had on this machine, and why.
    pub(crate) skipped: BTreeMap<&'static str, String>,
    /// What the audit counted and found.
    pub(crate) audited: Audited,
    /// What was done and seen.
    pub(crate) chronicle: Vec<String>,
    /// How long it took in all, and until everything had come to its end after the faults.
    pub(crate) took: Duration,
    /// See `took`.
    pub(crate) settled_in: Duration,
    /// The folder, if it was kept.
    pub(crate) kept: Option<PathBuf>,
}

/// Has those who hand in give up, also if the world ends in a panic: it ends only when they do.
struct GivingUp<'a>(&'a AtomicBool);

impl Drop for GivingUp<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs the world of a seed. An error is a world that could not be set up.
pub(crate) fn run(seed: u64, terms: &Terms) -> anyhow::Result<Outcome> {
    let timer = Timer::start();
    let plan = Plan::of(seed, terms);
    let mut fleet = Fleet::of(&terms.steward);
    fleet.broker.start();
    let submissions = plan.submissions.clone();
    let mut outcome = {
        let mut world = World::begin(&fleet, plan, terms)?;
        let messages: Vec<(Value, Option<Duration>)> = {
            let names: Vec<String> = world.machines.iter().map(|machine| machine.name.clone()).collect();
            let message = |order: &crate::orders::Order| order.message(&names, &world.effects, &world.payload);
            world.orders.iter().map(|order| (message(order), order.cancel_after)).collect()
        };
        let (ledger, given_up) = (Ledger::new(messages.len()), AtomicBool::new(false));
        std::thread::scope(|scope| -> anyhow::Result<Outcome> {
            let submitters: Vec<_> = (0..world.machines.len())
                .map(|from| {
                    let of_it = |submission: &&Submission| submission.from == from;
                    let submitter = Submitter {
                        dir: world.machines[from].node.dir().to_owned(),
                        submissions: submissions.iter().filter(of_it).cloned().collect(),
                        messages: &messages,
                        ledger: &ledger,
                        timer: world.timer,
                        given_up: &given_up,
                    };
                    scope.spawn(|| submitter.run())
                })
                .collect();
            let onlookers = onlooker::of(&world, &ledger, &given_up);
            let onlookers: Vec<_> = onlookers.into_iter().map(|one| scope.spawn(|| one.run())).collect();
            let tailer = tailer::of(&world, seed, &given_up);
            let tailer = scope.spawn(|| tailer.run());
            let giving_up = GivingUp(&given_up);
            let copiers = copier::of(seed, &world, terms.duration, &given_up)?;
            let copiers: Vec<_> = copiers.into_iter().map(|one| scope.spawn(|| one.run())).collect();
            world.live();
            let mended_at = world.timer.elapsed();
            let is_handed_in = || submitters.iter().all(|one| one.is_finished()) && tailer.is_finished();
            let is_over = || is_handed_in() && copiers.iter().all(|copier| copier.is_finished());
            let settled = world.settle(terms.settle, is_over);
            drop(giving_up);
            for submitter in submitters {
                world.joined("whoever hands in", submitter.join());
            }
            world.seen = onlookers.into_iter().map(|one| one.join().unwrap_or_else(|_| Seen::lost())).collect();
            world.tailed = world.joined("whoever writes a log", tailer.join()).unwrap_or_default();
            world.copied = copiers.into_iter().map(|one| one.join().unwrap_or_else(|_| Copied::lost())).collect();
            let settled_in = world.timer.elapsed().saturating_sub(mended_at);
            let audited = audit::audit(&mut world, &submissions, &ledger.all(), settled);
            Ok(Outcome {
                struck: std::mem::take(&mut world.struck),
                skipped: std::mem::take(&mut world.skipped),
                audited,
                chronicle: std::mem::take(&mut world.chronicle),
                took: timer.elapsed(),
                settled_in,
                kept: None,
            })
        })?
    };
    if terms.keep || !outcome.audited.wrong.is_empty() {
        fleet.keep_dir();
        outcome.kept = Some(fleet.dir().to_owned());
        std::fs::write(fleet.dir().join("chronicle.txt"), outcome.chronicle.join("\n") + "\n")?;
    }
    Ok(outcome)
}

impl<'f> World<'f> {
    /// What came of somebody who did something meanwhile. What went wrong is written down.
    fn joined<T, E: Display>(&mut self, who: &str, joined: std::thread::Result<Result<T, E>>) -> Option<T> {
        let why = match joined {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it has panicked".to_owned(),
        };
        self.wrong.push(format!("{who}: {why}"));
        None
    }

    /// Starts everything and plans the strikes.
    fn begin(fleet: &'f Fleet, mut plan: Plan, terms: &Terms) -> anyhow::Result<Self> {
        let ships = (1..=terms.nodes).map(|index| format!("ship{index}"));
        let names: Vec<String> = std::iter::once("central".to_owned()).chain(ships).collect();
        let papers = (plan.trust != Trust::Open).then(|| Papers::issue(fleet, &names)).transpose()?;
        let mut machines = Vec::new();
        for name in names {
            let (link, metrics) = (Link::lay(fleet.broker.address().parse()?)?, Port::reserve());
            let broker = format!("--broker-address={}", link.address());
            let prom = format!("--prom-host-and-port={}", metrics.address());
            let seal = (plan.trust == Trust::Sealed).then_some("--seal");
            let flags = [&broker, &prom, "--stop-limit=1"].into_iter().chain(seal).collect::<Vec<_>>();
            let mut node = fleet.absent(&name, &flags);
            let switches = Switches::at(fleet.dir().join(format!("{name}.switches")), terms.bug.as_ref());
            node.set_variable("STEWARD_SWITCHES", &switches.path().display().to_string());
            machines.push(Machine::new(node, name, link, metrics, switches));
        }
        let mut world = World {
            fleet,
            machines,
            orders: std::mem::take(&mut plan.orders),
            effects: Effects::make(fleet.dir())?,
            payload: Payload::make(fleet.dir(), &mut plan.dice)?,
            timer: Timer::start(),
            stood_still: Duration::ZERO,
            until: terms.duration,
            struck: BTreeMap::new(),
            skipped: BTreeMap::new(),
            chronicle: Vec::new(),
            wrong: Vec::new(),
            seen: Vec::new(),
            tailed: Tailed::default(),
            copied: Vec::new(),
            has_switches: terms.has_switches,
            faults: plan.faults.len(),
            broker_away: false,
            tape: None,
            papers,
            errands: Vec::new(),
            guests: Vec::new(),
            planned: BinaryHeap::new(),
            plans: 0,
        };
        for fault in &plan.faults {
            if let Err(why) = (fault.prepare)(&mut world, &mut plan.dice) {
                world.skipped.insert(fault.name, why);
            }
        }
        // Only now are directories where they stay: some are on disks of their own.
        for machine in &world.machines {
            world.give_papers(&machine.name, machine.node.dir())?;
        }
        world.tell(format_args!("the nodes trust each other like this: {}", plan.trust));
        world.timer = Timer::start();
        world.machines.iter_mut().for_each(Machine::launch);
        for (at, fault, mut dice) in plan.strikes {
            if !world.skipped.contains_key(fault.name) {
                world.at(at, move |world| world.strike(fault, &mut dice));
            }
        }
        Ok(world)
    }

    /// Lives through the time in which faults strike, and mends everything.
    fn live(&mut self) {
        while self.timer.elapsed() < self.until {
            self.tick();
        }
        self.tell("the faults are over");
        // What is planned for later ends troubles that are ended here and now.
        self.planned.clear();
        self.mend();
    }

    /// Does what is due, and looks after the machines.
    fn tick(&mut self) {
        let next = self.timer.elapsed() + TICK;
        while self.planned.peek().is_some_and(|planned| planned.at <= self.timer.elapsed()) {
            if let Some(Planned { action, .. }) = self.planned.pop() {
                action(self);
            }
        }
        self.keep_guests();
        self.keep_machines();
        let begun = self.timer.elapsed();
        self.timer.wait_until(next);
        let late = self.timer.elapsed().saturating_sub(next.max(begun));
        self.stood_still += if late > STOOD_STILL { late } else { Duration::ZERO };
    }

    /// Ends every trouble.
    fn mend(&mut self) {
        self.dismiss_guests();
        self.fleet.broker.signal(Signal::CONT);
        if self.broker_away {
            self.stop_broker();
            self.fleet.broker.start();
        }
        for machine in &mut self.machines {
            machine.mend();
        }
    }

    /// Waits until everything has come to its end; what has not, if the time is over.
    fn settle(&mut self, limit: Duration, mut handed_in: impl FnMut() -> bool) -> Result<(), String> {
        let (mut last, mut waited, mut before) = (String::new(), Duration::ZERO, self.timer.elapsed());
        loop {
            self.tick();
            // A machine that has stood still meanwhile, and we with it, is no slow node.
            waited += self.timer.elapsed().saturating_sub(before).min(STOOD_STILL);
            before = self.timer.elapsed();
            let open = match (self.is_among_itself(), handed_in()) {
                (true, true) => {
                    audit::take_back(self);
                    audit::what_is_open(self)
                }
                (_, false) => Some("not everything is handed in".to_owned()),
                (false, true) => Some("a guest has not left".to_owned()),
            };
            match open {
                None => return Ok(()),
                Some(open) if waited > limit => return Err(open),
                Some(open) => {
                    let short: String = open.chars().take(OPEN_CHARS).collect();
                    if short != last {
                        self.tell(format_args!("open: {short}"));
                        last = short;
                    }
                    self.timer.wait_until(self.timer.elapsed() + LOOK_PAUSE);
                }
            }
        }
    }
}
