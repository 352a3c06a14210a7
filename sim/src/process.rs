//! One process: the loop around a node, as `steward/src/engine.rs` has it. What has happened goes in, several events to
//! a batch; the batch is made durable; only then is anything done about it. It may die between any two of these.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::event::Ticket;
use protocol::limits::SWEEP_MESSAGES_MAX;
use protocol::snapshot::Identity;
use protocol::step::{Effect, Write};
use protocol::{Event, Node};

use crate::bug::Bug;
use crate::host::Host;
use crate::results::Download;
use crate::runner::Run;
use crate::world::{Happening, World};

/// Turns without an end at one point in time, after which a node is said to spin.
const SPINS_MAX: u32 = 50;

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) node: Node,
    pub(crate) identity: Identity,
    /// Its monotonic clock when the simulation began.
    pub(crate) mono_base: u64,
    /// What it has not taken in yet.
    pub(crate) inputs: VecDeque<Input>,
    pub(crate) phase: Phase,
    /// When its last batch was taken in.
    pub(crate) batch_at: u64,
    /// When it looks at its inputs or its timers next.
    pub(crate) turn_at: Option<u64>,
    /// Turns for nothing but a timer, since the time last moved.
    pub(crate) spins: u32,
    /// The messages that its batch takes back: whoever asked for that is told when it is durable.
    pub(crate) takes_back: Vec<usize>,
    /// The nodes whose announcements it listens to.
    pub(crate) watches: BTreeSet<usize>,
    /// What it runs, by the number of the run.
    pub(crate) runs: BTreeMap<u64, Run>,
    /// What it fetches.
    pub(crate) downloads: Vec<Download>,
}

/// What a process may take in.
#[derive(Debug)]
pub(crate) enum Input {
    Event(Event),
    /// Somebody sends these messages: all of them or none.
    Submit(Vec<usize>),
    /// Somebody takes this message back.
    Cancel(usize),
}

/// Where the loop is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// It waits for something to happen.
    Idle,
    /// A batch is on its way to the disk; this is to be done after that.
    Committing(Vec<Effect>),
}

impl World {
    /// Something has happened that a process has to hear of.
    pub(crate) fn bring_input(&mut self, host: usize, input: Input) {
        if let Some(process) = &mut self.hosts[host].process {
            process.inputs.push_back(input);
            self.plan_turn(host);
        }
    }

    /// Sees to it that a process goes on when it has something to do.
    fn plan_turn(&mut self, host: usize) {
        let now = self.now;
        let Host { process: Some(process), generation, frozen_until, .. } = &mut self.hosts[host] else { return };
        if !matches!(process.phase, Phase::Idle) {
            return;
        }
        let wanted = if process.inputs.is_empty() {
            process.node.wake_at().map(|wake| wake.0.saturating_sub(process.mono_base).max(now))
        } else {
            Some(now)
        };
        let Some(at) = wanted.map(|at| at.max(*frozen_until)) else { return };
        if process.turn_at.is_none_or(|planned| at < planned) {
            process.turn_at = Some(at);
            let generation = *generation;
            self.schedule(at, Happening::Turn(host, generation));
        }
    }

    /// A process takes in what has happened.
    pub(crate) fn turn(&mut self, host: usize, generation: u32) {
        let now = self.now;
        let machine = &mut self.hosts[host];
        let Some(process) = machine.process.as_mut().filter(|_| machine.generation == generation) else { return };
        if process.turn_at != Some(now) || !matches!(process.phase, Phase::Idle) {
            return;
        }
        process.turn_at = None;
        process.batch_at = now;
        if machine.frozen_until > now {
            self.plan_turn(host);
            return;
        }
        let clocks = self.clocks(host);
        let (mut writes, mut effects) = (Vec::new(), Vec::new());
        let mut taken = 0;
        let tick_first = self.rng.coin();
        if tick_first {
            taken += self.tick(host, &mut writes, &mut effects);
        }
        for _ in 0..self.plan.inputs_per_batch {
            let Some(input) = self.hosts[host].process.as_mut().and_then(|process| process.inputs.pop_front()) else {
                break;
            };
            taken += 1;
            for event in self.events(host, input) {
                let Some(process) = &mut self.hosts[host].process else { return };
                let step = process.node.step(clocks, event);
                writes.extend(step.writes);
                effects.extend(step.effects);
            }
        }
        if !tick_first {
            taken += self.tick(host, &mut writes, &mut effects);
        }
        let Some(process) = &mut self.hosts[host].process else { return };
        process.spins = if taken == 0 { process.spins + 1 } else { 0 };
        if process.spins > SPINS_MAX {
            self.fail("spinning", format!("{} wakes up for nothing, again and again", self.hosts[host].label));
        }
        self.stats.batches += 1;
        self.inspect(host);
        self.begin_commit(host, writes, effects);
    }

    /// Lets a node look at its timers, if one is due or at random; returns how many were.
    fn tick(&mut self, host: usize, writes: &mut Vec<Write>, effects: &mut Vec<Effect>) -> usize {
        let clocks = self.clocks(host);
        let needless = self.rng.below(16) == 0;
        let Some(process) = &mut self.hosts[host].process else { return 0 };
        let due = process.node.wake_at().is_some_and(|wake| wake <= clocks.mono);
        if !due && !needless {
            return 0;
        }
        let step = process.node.step(clocks, Event::Tick);
        writes.extend(step.writes);
        effects.extend(step.effects);
        usize::from(due && process.node.wake_at().is_none_or(|wake| wake > clocks.mono))
    }

    /// What an input is to the node.
    fn events(&mut self, host: usize, input: Input) -> Vec<Event> {
        match input {
            Input::Event(event) => vec![event],
            Input::Submit(numbers) => {
                let wall = self.hosts[host].wall(self.now);
                numbers.into_iter().map(|number| Event::Submit(self.model.offered(number, self.now, wall))).collect()
            }
            Input::Cancel(number) => {
                let id = self.model.stories[number].message.id;
                let Some(row) = self.hosts[host].disk.tables.outbox.get(&id) else { return Vec::new() };
                if row.outcome.is_some() {
                    return Vec::new();
                }
                self.model.stories[number].cancel_asked = true;
                let lane = row.message.lane();
                let seq = row.seq;
                if let Some(process) = &mut self.hosts[host].process {
                    process.takes_back.push(number);
                }
                vec![Event::Cancel { id, lane, seq }]
            }
        }
    }

    /// A batch goes to the disk, if there is anything to write.
    pub(crate) fn begin_commit(&mut self, host: usize, writes: Vec<Write>, effects: Vec<Effect>) {
        let Some(process) = &mut self.hosts[host].process else { return };
        if writes.is_empty() {
            self.note_taken_back(host);
            self.perform(host, effects);
            self.plan_turn(host);
            return;
        }
        let early = self.bug == Some(Bug::EffectsBeforeCommit);
        process.phase = Phase::Committing(if early { Vec::new() } else { effects.clone() });
        let generation = self.hosts[host].generation;
        self.hosts[host].disk.begin(writes);
        if early {
            self.perform(host, effects);
        }
        let slow = self.strikes(host) && self.rng.chance(self.plan.faults.slow_disk);
        let delay = if slow { self.rng.between(50, 1_000) } else { self.rng.below(3) };
        self.schedule(self.now + delay, Happening::Commit(host, generation));
    }

    /// A batch is on the disk, or can't be.
    pub(crate) fn commit(&mut self, host: usize, generation: u32) {
        let troubled = self.strikes(host);
        let machine = &mut self.hosts[host];
        let Some(process) = machine.process.as_mut().filter(|_| machine.generation == generation) else { return };
        if machine.disk_full_until > self.now {
            // The engine keeps the batch and takes nothing in until there is room; what is submitted is refused.
            let at = self.now + 200;
            self.schedule(at, Happening::Commit(host, generation));
            return;
        }
        if machine.frozen_until > self.now {
            let at = machine.frozen_until;
            self.schedule(at, Happening::Commit(host, generation));
            return;
        }
        if troubled && self.rng.chance(self.plan.faults.crash_before_commit) {
            self.crash(host, "before its commit");
            self.comes_back(host);
            return;
        }
        let Phase::Committing(effects) = std::mem::replace(&mut process.phase, Phase::Idle) else { return };
        if self.bug == Some(Bug::NothingSynced) {
            machine.disk.forget_to_sync(self.now);
        }
        match machine.disk.commit() {
            Ok(writes) => self.note_durable(host, &writes),
            Err(wrong) => return self.fail("store", wrong),
        }
        self.note_taken_back(host);
        if troubled && self.rng.chance(self.plan.faults.crash_after_commit) {
            self.crash(host, "after its commit");
            self.comes_back(host);
            return;
        }
        let runs = effects.iter().any(|effect| matches!(effect, Effect::Start(_)));
        self.perform(host, effects);
        if troubled && runs && self.rng.chance(self.plan.faults.store_swapped) && self.swap_store(host) {
            return;
        }
        self.plan_turn(host);
    }

    /// Does what a batch wants done, now that it is durable. Each task has a queue of its own, which may be full.
    fn perform(&mut self, host: usize, mut effects: Vec<Effect>) {
        let troubled = self.strikes(host);
        let cut = troubled && !effects.is_empty() && self.rng.chance(self.plan.faults.crash_between_effects);
        if cut {
            effects.truncate(self.rng.index(effects.len()));
        }
        let broker_full = troubled && self.rng.chance(self.plan.faults.queue_full);
        let results_full = troubled && self.rng.chance(self.plan.faults.queue_full);
        if broker_full || results_full {
            self.trace(host, format_args!("drops   {}", if broker_full { "packets" } else { "fetches" }));
        }
        let mut outgoing: Vec<Effect> = Vec::new();
        let mut told: BTreeMap<Ticket, usize> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::Accepted(id) => self.note_told(host, id),
                Effect::Rejected(id, why) => self.fail("rejected", format!("#{} {why}", self.model.number(id))),
                Effect::Report(report) => self.note_report(host, &report),
                Effect::Load { lane, after, messages, bytes } => {
                    let answer = self.hosts[host].disk.tables.load(&lane, after, messages, bytes);
                    self.answer(host, answer);
                }
                Effect::Sweep(until) => {
                    let answer = self.hosts[host].disk.tables.sweep(until, SWEEP_MESSAGES_MAX);
                    self.answer(host, answer);
                }
                Effect::Start(runs) => self.run_methods(host, runs),
                Effect::StartUnrecorded { run, .. } => self.run_unrecorded(host, run),
                Effect::Kill(ticket) => self.kill(host, ticket),
                Effect::Receive { id, stream, from, ticket, len } => {
                    if !results_full {
                        self.receive(host, id, stream, &from, ticket, len);
                    }
                }
                Effect::Seal { id, stream, hash } => {
                    if !results_full {
                        self.seal(host, id, stream, hash);
                    }
                }
                Effect::Discard(ticket) => {
                    if !results_full {
                        self.discard(host, ticket);
                    }
                }
                // Of several receipts for one message, the last says it all.
                Effect::Receipt { ticket, .. } if ticket != Ticket(0) && told.contains_key(&ticket) => {
                    outgoing[told[&ticket]] = effect;
                }
                other @ (Effect::Publish { .. }
                | Effect::Receipt { .. }
                | Effect::Control { .. }
                | Effect::Announce(_)
                | Effect::Watch(..)) => {
                    if let Effect::Receipt { ticket, .. } = &other {
                        told.insert(*ticket, outgoing.len());
                    }
                    outgoing.push(other);
                }
            }
        }
        if !broker_full {
            self.send(host, outgoing);
        }
        if cut {
            self.crash(host, "between its effects");
            self.comes_back(host);
        }
    }

    /// The store's answer comes before anything else that has happened: the engine asks it itself.
    fn answer(&mut self, host: usize, answer: Event) {
        if let Some(process) = &mut self.hosts[host].process {
            process.inputs.push_front(Input::Event(answer));
        }
    }

    /// A process that stood still goes on.
    pub(crate) fn wake(&mut self, host: usize) {
        if let Some(process) = &mut self.hosts[host].process {
            process.turn_at = None;
        }
        self.plan_turn(host);
    }
}
