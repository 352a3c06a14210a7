//! The reference: what everybody who watches a fleet from outside knows of each message, and what must be true of it.
//! Small and slow-witted on purpose: it has no idea how delivery works, only what it promises.
//!
//! What is checked as it happens stands in `starts.rs`, `ends.rs` and `receiving.rs`; the exceptions that are allowed
//! stand in `excuses.rs`, all of them.

mod ends;
mod excuses;
mod receiving;
mod starts;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::event::{Facts, Ticket};
use protocol::message::{Epoch, Incarnation, Kind, Message, MessageId, Seq};
use protocol::outcome::{Outcome, State};
use protocol::step::{InState, OutLaneRow, Report, Write};
use protocol::time::Wall;

use crate::disk::{Disk, Tables};
use crate::plan::MessagePlan;

/// What is not as it was promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The promise that is broken, in two or three words.
    pub(crate) rule: &'static str,
    /// What happened.
    pub(crate) text: String,
}

impl Wrong {
    pub(crate) fn new(rule: &'static str, text: impl Into<String>) -> Self {
        Self { rule, text: text.into() }
    }
}

pub(crate) type Verdict = Result<(), Wrong>;

/// One life of one store: it ends when the store is gone or replaced by an older copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lineage(usize);

/// What is known of a life of a store.
#[derive(Debug)]
struct Life {
    /// The index of its node's name.
    name: usize,
    /// Whether it is over: what it knew since its last copy is gone.
    over: bool,
    /// Whether another node uses its name.
    contested: bool,
    /// Whether it may give numbers a second time: an old copy, and a clock that went back.
    gives_twice: bool,
}

/// One run of a message's method.
#[derive(Debug)]
struct Ran {
    number: u64,
    lineage: Lineage,
    host: usize,
    /// Whether it is over: it ended, or its process did.
    over: bool,
    outcome: Option<Arc<Outcome>>,
}

/// All that is known of one message.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) plan: MessagePlan,
    pub(crate) message: Message,
    /// The life of the store that has it in its outbox, and its number there.
    kept_by: Option<(Lineage, Epoch, Seq)>,
    /// Whether whoever sent it was told that it is accepted.
    told: bool,
    /// Whether its outbox is gone, by a fault that is allowed to take it.
    pub(crate) forfeited: bool,
    /// Whether its outbox was replaced by an older copy.
    rolled_back: bool,
    /// Whether it was final there, and is not in the copy: its receiver may have heard that it is closed.
    reopened: bool,
    pub(crate) cancel_asked: bool,
    /// When whoever took it back was told that it is seen to.
    pub(crate) taken_back: Option<u64>,
    /// Pieces of its output that were damaged on their way.
    pub(crate) damaged: u32,
    submitted_at: u64,
    publishes: u32,
    last_publish: u64,
    sent_to: Vec<Lineage>,
    accepted_by: Vec<Lineage>,
    started_on: Vec<Lineage>,
    runs: Vec<Ran>,
    /// The processes that ran it without a record.
    unrecorded: Vec<(usize, u32)>,
    /// How it ended for each store that had it.
    ends: Vec<(Lineage, Arc<Outcome>)>,
    /// Stores that were copied before it ended there, and came back so.
    revived_on: Vec<Lineage>,
    /// How it ended for its sender.
    outcome: Option<Arc<Outcome>>,
}

/// A lane of one sender's store: its messages in the order of their numbers.
#[derive(Debug, Default)]
struct LaneStory {
    order: Vec<usize>,
    /// The highest number that may have been sent, as the store has it.
    sent: Seq,
    /// For each receiver's store, how many messages of the order are known to have started, and to have ended.
    passed: BTreeMap<Lineage, (usize, usize)>,
}

type LaneKey = (Epoch, usize, Kind, usize);

/// Everything that the simulation knows of its messages.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) stories: Vec<Story>,
    lives: Vec<Life>,
    lanes: BTreeMap<LaneKey, LaneStory>,
    incarnations: BTreeMap<Incarnation, Lineage>,
    tickets: BTreeMap<(Lineage, Ticket), usize>,
    facts: Vec<Facts>,
    refused: Vec<Vec<usize>>,
    /// Messages that are in an outbox and not final.
    pub(crate) open: usize,
    /// Whether a clock has gone back.
    pub(crate) clocks_go_back: bool,
    /// Runs that are under way: machine and message.
    live: Vec<(usize, usize)>,
}

impl Model {
    pub(crate) fn new(plan: &crate::plan::Plan, messages: Vec<Message>) -> Self {
        let story = |(plan, message): (&MessagePlan, Message)| Story {
            plan: plan.clone(),
            message,
            kept_by: None,
            told: false,
            forfeited: false,
            rolled_back: false,
            reopened: false,
            cancel_asked: false,
            taken_back: None,
            damaged: 0,
            submitted_at: 0,
            publishes: 0,
            last_publish: 0,
            sent_to: Vec::new(),
            accepted_by: Vec::new(),
            started_on: Vec::new(),
            runs: Vec::new(),
            unrecorded: Vec::new(),
            ends: Vec::new(),
            revived_on: Vec::new(),
            outcome: None,
        };
        Self {
            stories: plan.messages.iter().zip(messages).map(story).collect(),
            facts: plan.methods.iter().map(|method| method.facts).collect(),
            refused: plan.methods.iter().map(|method| method.refused_from.clone()).collect(),
            ..Self::default()
        }
    }

    /// A machine has a new store.
    pub(crate) fn new_life(&mut self, name: usize, contested: bool) -> Lineage {
        self.lives.push(Life { name, over: false, contested, gives_twice: false });
        Lineage(self.lives.len() - 1)
    }

    /// The number of a message, which every id has in its lowest bits.
    pub(crate) fn number(&self, id: MessageId) -> usize {
        (id.0 as u32 as usize).min(self.stories.len() - 1)
    }

    fn life(&self, lineage: Lineage) -> &Life {
        &self.lives[lineage.0]
    }

    fn lane_key(&self, number: usize) -> Option<LaneKey> {
        let story = &self.stories[number];
        story.kept_by.map(|(_, epoch, _)| (epoch, story.plan.to, story.plan.kind, story.plan.method))
    }

    /// Whether running it once more is harmless, as its sender or its method says.
    fn may_rerun(&self, number: usize) -> bool {
        let story = &self.stories[number];
        story.message.options.rerun || self.facts[story.plan.method].rerun
    }

    /// Somebody sends a message now: it gets its times.
    pub(crate) fn offered(&mut self, number: usize, now: u64, wall: Wall) -> Message {
        let story = &mut self.stories[number];
        story.submitted_at = now;
        story.message.created = wall;
        story.message.options.deadline = story.plan.deadline.map(|after| Wall(wall.0 + after));
        story.message.clone()
    }

    /// A process starts with the store of this life; nothing that was accepted may be missing.
    pub(crate) fn starts(&mut self, incarnation: Incarnation, lineage: Lineage, tables: &Tables) -> Verdict {
        self.incarnations.insert(incarnation, lineage);
        for (number, story) in self.stories.iter().enumerate() {
            if !story.told || story.forfeited || story.kept_by.map(|(kept, ..)| kept) != Some(lineage) {
                continue;
            }
            let Some(row) = tables.outbox.get(&story.message.id) else {
                return Err(Wrong::new("accepted is lost", format!("#{number} was accepted and is not in the store")));
            };
            if row.outcome != story.outcome {
                let text = format!("#{number} was {:?} and is {:?} in the store", story.outcome, row.outcome);
                return Err(Wrong::new("one final state", text));
            }
        }
        Ok(())
    }

    /// A store that is an old copy goes on with numbers that may have been given already.
    pub(crate) fn gives_twice(&mut self, lineage: Lineage) {
        self.lives[lineage.0].gives_twice = true;
    }

    /// A process dies, and with it what it runs, and how that ended which has not written that down.
    pub(crate) fn crashes(&mut self, host: usize) {
        self.live.retain(|(at, _)| *at != host);
        for story in &mut self.stories {
            for ran in story.runs.iter_mut().filter(|ran| ran.host == host) {
                ran.over = true;
                if !story.ends.iter().any(|(lineage, _)| *lineage == ran.lineage) {
                    ran.outcome = None;
                }
            }
        }
    }

    /// A store is gone; returns the life of the one that takes its place.
    pub(crate) fn store_lost(&mut self, lineage: Lineage) -> Lineage {
        let Life { name, contested, .. } = *self.life(lineage);
        self.lives[lineage.0].over = true;
        for story in &mut self.stories {
            if story.kept_by.is_some_and(|(kept, ..)| kept == lineage) {
                self.open -= usize::from(story.outcome.is_none() && !story.forfeited);
                story.forfeited = true;
            }
        }
        self.new_life(name, contested)
    }

    /// A machine does not come back: what it still had to send is not waited for.
    pub(crate) fn retired(&mut self, lineage: Lineage) {
        for story in &mut self.stories {
            if story.kept_by.is_some_and(|(kept, ..)| kept == lineage) && story.outcome.is_none() && !story.forfeited {
                story.forfeited = true;
                self.open -= 1;
            }
        }
    }

    /// A store is replaced by an older copy of it; returns the life that begins with the copy.
    pub(crate) fn store_restored(&mut self, lineage: Lineage, copy: &Tables) -> Lineage {
        let Life { name, contested, .. } = *self.life(lineage);
        self.lives[lineage.0].over = true;
        let life = self.new_life(name, contested);
        // What had ended may be open again.
        self.lanes.values_mut().for_each(|lane| lane.passed.clear());
        for number in 0..self.stories.len() {
            let story = &mut self.stories[number];
            let Some((_, epoch, seq)) = story.kept_by.filter(|(kept, ..)| *kept == lineage) else { continue };
            let was_open = story.outcome.is_none() && !story.forfeited;
            story.rolled_back = true;
            story.taken_back = None;
            match copy.outbox.get(&story.message.id) {
                Some(row) => {
                    story.kept_by = Some((life, epoch, seq));
                    story.reopened |= story.outcome.is_some() && row.outcome.is_none();
                    story.outcome.clone_from(&row.outcome);
                }
                None => story.forfeited = true,
            }
            let is_open = story.outcome.is_none() && !story.forfeited;
            self.open = self.open + usize::from(is_open) - usize::from(was_open);
        }
        for (ticket, row) in &copy.inbox {
            let number = self.number(row.message.id);
            self.tickets.insert((life, *ticket), number);
            let story = &mut self.stories[number];
            story.accepted_by.push(life);
            match &row.state {
                InState::Finished(outcome) => story.ends.push((life, outcome.clone())),
                InState::Running(_) => {
                    story.started_on.push(life);
                    story.revived_on.push(life);
                }
                InState::Stored => story.revived_on.push(life),
            }
        }
        life
    }

    /// Whoever sent a message is told that it is accepted.
    pub(crate) fn told(&mut self, id: MessageId, tables: &Tables) -> Verdict {
        let number = self.number(id);
        self.stories[number].told = true;
        if tables.outbox.contains_key(&id) {
            return Ok(());
        }
        Err(Wrong::new("accepted before durable", format!("#{number} is accepted and not in the store")))
    }

    /// A write is durable now.
    pub(crate) fn durable(&mut self, now: u64, lineage: Lineage, disk: &Disk, write: &Write) -> Verdict {
        match write {
            Write::Submit { message, seq } => self.submitted(message, *seq, lineage, disk.tables.epoch),
            Write::End { id, attempts, outcome, .. } => self.ended_at_sender(now, *id, *attempts, outcome, disk),
            Write::Accept(row) => self.accepted(lineage, row),
            Write::Started { ticket, at } => self.start_written(lineage, *ticket, *at),
            Write::Ended { ticket, outcome } => self.ended_at_receiver(lineage, *ticket, outcome),
            Write::Forget(ticket) => self.forgotten(lineage, *ticket),
            Write::InLane(row) => Self::check_ranges(row),
            Write::OutLane(row) => {
                self.note_sent(disk.tables.epoch, row);
                Ok(())
            }
            Write::Progress { .. } | Write::CancelWanted(_) | Write::Peer(_) | Write::DropInLane { .. } => Ok(()),
        }
    }

    fn note_sent(&mut self, epoch: Epoch, row: &OutLaneRow) {
        // A lane is known once a message of it is; its name says which it is.
        let lane = self.lanes.iter_mut().find(|((known, to, kind, method), _)| {
            let names = (row.lane.peer.as_str(), row.lane.method.as_str());
            *known == epoch && *kind == row.lane.kind && names == (&*format!("n{to}"), &*format!("m{method}"))
        });
        if let Some((_, lane)) = lane {
            lane.sent = row.sent;
        }
    }

    fn submitted(&mut self, message: &Message, seq: Seq, lineage: Lineage, epoch: Epoch) -> Verdict {
        let number = self.number(message.id);
        let story = &mut self.stories[number];
        if story.message != *message {
            return Err(Wrong::new("message changed", format!("#{number} is stored as {message:?}")));
        }
        story.kept_by = Some((lineage, epoch, seq));
        self.open += 1;
        let Some(key) = self.lane_key(number) else { return Ok(()) };
        let stories = &self.stories;
        let lane = self.lanes.entry(key).or_default();
        // A number may come back only where the store that gave it first was replaced by an older copy.
        let before = lane.order.len();
        lane.order.retain(|other| !(stories[*other].forfeited && stories[*other].rolled_back));
        if lane.order.len() < before {
            lane.passed.clear();
        }
        let last = lane.order.last().and_then(|last| stories[*last].kept_by).map(|(.., last)| last);
        lane.order.push(number);
        if last.is_some_and(|last| last >= seq) {
            return Err(Wrong::new("lane order", format!("#{number} has number {} after {last:?}", seq.0)));
        }
        Ok(())
    }

    /// What people hear has to be what is so.
    pub(crate) fn reported(&self, report: &Report) -> Verdict {
        let Report::Out { id, state: State::Final(state), .. } = report else { return Ok(()) };
        let number = self.number(*id);
        let known = self.stories[number].outcome.as_ref().map(|outcome| outcome.state);
        if known == Some(*state) {
            return Ok(());
        }
        Err(Wrong::new("report", format!("#{number} is reported {state} and stored as {known:?}")))
    }

    /// Whether the message has ended for its sender.
    pub(crate) fn is_final(&self, number: usize) -> bool {
        self.stories[number].outcome.is_some()
    }

    /// Messages that are in an outbox and not final, for the report of a failure.
    pub(crate) fn open_numbers(&self) -> Vec<usize> {
        let open = |story: &Story| story.kept_by.is_some() && story.outcome.is_none() && !story.forfeited;
        (0..self.stories.len()).filter(|number| open(&self.stories[*number])).collect()
    }
}
