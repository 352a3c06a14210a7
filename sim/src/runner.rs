//! The runner of a shell: methods that take their time, end well or badly, hang or are killed. It does what it is told
//! and reports each end once, if its process lives to see it.

use std::sync::Arc;

use protocol::Event;
use protocol::event::Ticket;
use protocol::outcome::{Outcome, Stream};
use protocol::step::Run as Order;
use protocol::time::Wall;

use crate::script::{Content, Ending, HANGS_MS};
use crate::world::{Happening, World};

/// Messages that run without a record at the same time; more are dropped.
const UNRECORDED_MAX: usize = 64;

/// A method that runs.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// The message.
    pub(crate) story: usize,
    /// The receiver's number for it; none where there is no record.
    pub(crate) ticket: Option<Ticket>,
    /// Its number in a batch: one that has others before it starts when they have ended.
    pub(crate) started: Wall,
    ending: Ending,
    limit: Option<std::time::Duration>,
    /// The runs of the same batch behind it.
    behind: Vec<u64>,
}

impl World {
    /// Runs messages, one after the other.
    pub(crate) fn run_methods(&mut self, host: usize, orders: Vec<Order>) {
        let orders = orders.into_iter().map(|order| self.with_body(host, order)).collect::<Vec<_>>();
        let batch: Vec<usize> = orders.iter().map(|order| self.model.number(order.message.id)).collect();
        let started = self.hosts[host].wall(self.now);
        let mut numbers = Vec::new();
        for order in &orders {
            self.stats.runs += 1;
            let number = self.stats.runs;
            self.note_started(host, order, &batch, number);
            let story = self.model.number(order.message.id);
            let ticket = Some(order.ticket);
            let run = Run { story, ticket, started, ending: Ending::Itself, limit: order.limit, behind: Vec::new() };
            let Some(process) = &mut self.hosts[host].process else { return };
            process.runs.insert(number, run);
            numbers.push(number);
        }
        let Some((&first, behind)) = numbers.split_first() else {
            return self.fail("empty batch", "a method is to be run on no message".to_owned());
        };
        if let Some(run) = self.hosts[host].process.as_mut().and_then(|process| process.runs.get_mut(&first)) {
            run.behind = behind.to_vec();
        }
        self.set_out(host, first);
    }

    /// Runs a message of which nothing is kept.
    pub(crate) fn run_unrecorded(&mut self, host: usize, order: Order) {
        let story = self.model.number(order.message.id);
        let started = self.hosts[host].wall(self.now);
        self.note_unrecorded(host, &order);
        let Some(process) = &mut self.hosts[host].process else { return };
        if process.runs.values().filter(|run| run.ticket.is_none()).count() >= UNRECORDED_MAX {
            return;
        }
        self.stats.runs += 1;
        let run = Run { story, ticket: None, started, ending: Ending::Itself, limit: order.limit, behind: Vec::new() };
        process.runs.insert(self.stats.runs, run);
        self.set_out(host, self.stats.runs);
    }

    /// Puts the body back that was left on disk.
    fn with_body(&mut self, host: usize, mut order: Order) -> Order {
        if order.stored
            && let Some(row) = self.hosts[host].disk.tables.inbox.get(&order.ticket)
        {
            order.message.body = row.message.body.clone();
        }
        order
    }

    /// The next run of a batch begins.
    fn set_out(&mut self, host: usize, number: u64) {
        let machine = &mut self.hosts[host];
        let (now, wall, generation) = (self.now, machine.wall(self.now), machine.generation);
        let Some(run) = machine.process.as_mut().and_then(|process| process.runs.get_mut(&number)) else { return };
        run.started = wall;
        let (duration, ending) = self.model.stories[run.story].plan.script.end(run.limit);
        run.ending = ending;
        let at = duration.map_or(now.max(self.plan.faults_until) + HANGS_MS, |duration| now + duration);
        self.schedule(at, Happening::RunEnds(host, generation, number));
    }

    /// A run comes to its end: by itself, by its limit, or because somebody took the message back.
    pub(crate) fn run_ends(&mut self, host: usize, generation: u32, number: u64) {
        let machine = &mut self.hosts[host];
        if machine.generation != generation {
            return;
        }
        let finished = machine.wall(self.now);
        let Some(run) = machine.process.as_mut().and_then(|process| process.runs.remove(&number)) else { return };
        let story = &self.model.stories[run.story];
        let outcome = story.plan.script.outcome(number, run.ending, run.started, finished);
        self.trace(host, format_args!("ends    #{} run {number} {}", run.story, outcome.state));
        if let Some(ticket) = run.ticket {
            self.keep_output(host, ticket, number, &outcome);
            self.model.ran(run.story, number, host, Arc::new(outcome.clone()));
            self.bring(host, Event::Finished(vec![(ticket, outcome)]));
        }
        if let Some((&next, behind)) = run.behind.split_first() {
            if let Some(run) = self.hosts[host].process.as_mut().and_then(|process| process.runs.get_mut(&next)) {
                run.behind = behind.to_vec();
            }
            self.set_out(host, next);
        }
    }

    /// Writes what is too long for a receipt to disk, before anybody hears of it.
    fn keep_output(&mut self, host: usize, ticket: Ticket, number: u64, outcome: &Outcome) {
        for stream in Stream::ALL {
            let output = outcome.stream(stream);
            if output.is_bulk() {
                let content = Content::of(number, stream);
                self.hosts[host].disk.files.kept.insert((ticket, stream), (content, output.len));
            }
        }
    }

    /// Stops a run, if it still runs.
    pub(crate) fn kill(&mut self, host: usize, ticket: Ticket) {
        let delay = self.rng.below(20);
        let machine = &mut self.hosts[host];
        let generation = machine.generation;
        let Some(process) = &mut machine.process else { return };
        let Some((&number, run)) = process.runs.iter_mut().find(|(_, run)| run.ticket == Some(ticket)) else { return };
        run.ending = Ending::Killed;
        // One that waits behind others of its batch ends without having begun.
        let waits_behind = process.runs.iter().find(|(_, run)| run.behind.contains(&number)).map(|(first, _)| *first);
        if let Some(run) = waits_behind.and_then(|first| process.runs.get_mut(&first)) {
            run.behind.retain(|behind| *behind != number);
        }
        self.trace(host, format_args!("kills   ticket {}", ticket.0));
        self.schedule(self.now + delay, Happening::RunEnds(host, generation, number));
    }
}
