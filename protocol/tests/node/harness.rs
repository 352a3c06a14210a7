//! One node without a world: events go in, time passes when it is told to, and what the node wants done is kept.

use std::sync::Arc;
use std::time::Duration;

use protocol::event::{Control, Envelope, Event, Facts, Hello, Item, Occasion, Receipts, Ticket, Verdict};
use protocol::message::{Epoch, Incarnation, Kind, Message, MessageId, Options, Seq};
use protocol::name::{MethodName, NodeName};
use protocol::outcome::{Final, Outcome, Output, Progress, Receipt};
use protocol::snapshot::{Identity, Snapshot};
use protocol::step::{Effect, InboxRow, Write};
use protocol::time::{Mono, Now, Wall};
use protocol::{Node, Step};

/// The store of the node under test.
pub(crate) const OWN_STORE: Epoch = Epoch(1);
/// The process of the node under test.
pub(crate) const OWN_PROCESS: Incarnation = Incarnation(2);
/// The store of the other node.
pub(crate) const STORE: Epoch = Epoch(3);
/// The process of the other node.
pub(crate) const PROCESS: Incarnation = Incarnation(4);

/// The other node.
pub(crate) fn other() -> NodeName {
    NodeName::new("other").expect("a good name")
}

/// A method's name.
pub(crate) fn method() -> MethodName {
    MethodName::new("m").expect("a good name")
}

/// A node that is connected, what it wrote, and what it wanted done, each with its time in milliseconds.
pub(crate) struct Rig {
    node: Node,
    now: u64,
    /// How far its wall clock is ahead.
    ahead: u64,
    pub(crate) writes: Vec<(u64, Write)>,
    pub(crate) effects: Vec<(u64, Effect)>,
}

impl Rig {
    /// A node with an empty store.
    pub(crate) fn new() -> Self {
        Self::begun(Duration::ZERO)
    }

    /// The same, begun so much later.
    pub(crate) fn begun(later: Duration) -> Self {
        let ahead = later.as_millis() as u64;
        let name = NodeName::new("own").expect("a good name");
        let identity = Identity { name, epoch: OWN_STORE, incarnation: OWN_PROCESS, commits_at_start: 0, seed: 7 };
        let (node, step) = Node::new(at(0, ahead), identity, Snapshot::default());
        let mut rig = Self { node, now: 0, ahead, writes: Vec::new(), effects: Vec::new() };
        rig.keep(step);
        rig.step(Event::LinkUp);
        rig
    }

    /// The node's wall clock.
    pub(crate) fn wall(&self) -> Wall {
        at(self.now, self.ahead).wall
    }

    /// The wall clock jumps ahead.
    pub(crate) fn clock_jumps(&mut self, by: Duration) {
        self.ahead += by.as_millis() as u64;
    }

    /// The process stops, and the next one takes up the inbox as it was written.
    pub(crate) fn restart(&mut self) {
        let mut inbox: Vec<(InboxRow, Facts)> = Vec::new();
        let mut in_lanes = Vec::new();
        for (_, write) in &self.writes {
            match write {
                Write::Accept(row) => inbox.push((row.clone(), Facts { rerun: false, batch: 1 })),
                Write::InLane(row) => in_lanes = vec![row.clone()],
                _ => {}
            }
        }
        let snapshot = Snapshot { last_ticket: inbox.len() as u64, inbox, in_lanes, ..Snapshot::default() };
        let name = NodeName::new("own").expect("a good name");
        let identity = Identity { name, epoch: OWN_STORE, incarnation: OWN_PROCESS, commits_at_start: 0, seed: 8 };
        let (node, step) = Node::new(at(self.now, self.ahead), identity, snapshot);
        self.node = node;
        self.keep(step);
        self.step(Event::LinkUp);
    }

    fn keep(&mut self, step: Step) {
        let now = self.now;
        self.writes.extend(step.writes.into_iter().map(|write| (now, write)));
        self.effects.extend(step.effects.into_iter().map(|effect| (now, effect)));
    }

    /// Something happens now.
    pub(crate) fn step(&mut self, event: Event) {
        let step = self.node.step(at(self.now, self.ahead), event);
        self.keep(step);
    }

    /// Time passes, and the node's timers run out on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time.as_millis() as u64;
        while let Some(wake) = self.node.wake_at().filter(|wake| wake.0 <= until) {
            self.now = wake.0.max(self.now);
            self.step(Event::Tick);
        }
        self.now = until;
    }

    /// Forgets what was written and wanted up to now.
    pub(crate) fn clear(&mut self) {
        self.writes.clear();
        self.effects.clear();
    }

    // As a receiver.

    /// Messages arrive from the other node.
    pub(crate) fn arrive(&mut self, items: Vec<Item>) {
        self.arrive_from(STORE, items);
    }

    /// The same from another store of it.
    pub(crate) fn arrive_from(&mut self, epoch: Epoch, items: Vec<Item>) {
        let verdicts = vec![Verdict::Accept(Facts { rerun: false, batch: 1 }); items.len()];
        let (kind, to, method) = (Kind::CommandAck, Some(OWN_PROCESS), method());
        let envelope = Envelope { from: other(), epoch, to, kind, method, floor: Seq(1), items };
        self.step(Event::Envelope(envelope, verdicts));
    }

    /// The other node says something about the delivery.
    pub(crate) fn hear(&mut self, control: Control) {
        self.step(Event::Control { from: other(), to: Some(OWN_PROCESS), control, sealed: false });
    }

    /// A method has ended well.
    pub(crate) fn finish(&mut self, ticket: u64) {
        self.step(Event::Finished(vec![(Ticket(ticket), Outcome::bare(Final::Done, None, self.wall()))]));
    }

    /// The receipts that went out for a message, each with its time and what it said.
    pub(crate) fn receipts(&self, ticket: u64) -> Vec<(u64, Progress)> {
        let of_ticket = |(at, effect): &(u64, Effect)| match effect {
            Effect::Receipt { ticket: told, receipt, .. } if *told == Ticket(ticket) => {
                Some((*at, receipt.progress.clone()))
            }
            _ => None,
        };
        self.effects.iter().filter_map(of_ticket).collect()
    }

    /// The messages that were started, by their tickets, in order.
    pub(crate) fn started(&self) -> Vec<u64> {
        let runs = |(_, effect): &(u64, Effect)| match effect {
            Effect::Start(runs) => runs.iter().map(|run| run.ticket.0).collect(),
            _ => Vec::new(),
        };
        self.effects.iter().flat_map(runs).collect()
    }

    /// The messages of the inbox that are forgotten.
    pub(crate) fn forgotten(&self) -> Vec<u64> {
        let forget = |(_, write): &(u64, Write)| match write {
            Write::Forget(ticket) => Some(ticket.0),
            _ => None,
        };
        self.writes.iter().filter_map(forget).collect()
    }

    /// The messages of the inbox that have ended, with their times and final states.
    pub(crate) fn ended(&self) -> Vec<(u64, u64, Final)> {
        let end = |(at, write): &(u64, Write)| match write {
            Write::Ended { ticket, outcome } => Some((*at, ticket.0, outcome.state)),
            _ => None,
        };
        self.writes.iter().filter_map(end).collect()
    }

    // As a sender.

    /// Somebody sends a message to the other node.
    pub(crate) fn submit(&mut self, number: u128, options: Options) {
        let from = NodeName::new("own").expect("a good name");
        let (kind, body, created) = (Kind::CommandAck, "[]".into(), self.wall());
        let id = MessageId(number);
        self.step(Event::Submit(Message { id, from, to: other(), kind, method: method(), body, options, created }));
    }

    /// The other node answers the last probe as this process with this store.
    pub(crate) fn answer_probe(&mut self, epoch: Epoch, incarnation: Incarnation) {
        self.answer_probe_with(epoch, incarnation, 0, &[]);
    }

    /// As above; its store had so many commits when it started, and these processes began on it before, at these commits.
    pub(crate) fn answer_probe_with(
        &mut self,
        epoch: Epoch,
        incarnation: Incarnation,
        commits_at_start: u64,
        earlier: &[(Incarnation, u64)],
    ) {
        let probe = self.effects.iter().rev().find_map(|(_, effect)| match effect {
            Effect::Control { control: Control::Probe { nonce, known, .. }, .. } => Some((*nonce, *known)),
            _ => None,
        });
        let (nonce, known) = probe.expect("a probe was sent");
        let starts = [earlier, &[(incarnation, commits_at_start)]].concat();
        let since = match known {
            None => Some(commits_at_start),
            Some(known) => {
                let at = starts.iter().position(|(start, _)| *start == known);
                at.map(|at| starts.get(at + 1).unwrap_or(&starts[at]).1)
            }
        };
        let occasion = Occasion::Answer { nonce, since };
        let hello = Hello { from: other(), epoch, incarnation, commits_at_start, occasion, info: "".into() };
        self.step(Event::Control { from: other(), to: None, control: Control::Hello(hello), sealed: false });
    }

    /// The other node announces itself as this process with this store.
    pub(crate) fn announce(&mut self, epoch: Epoch, incarnation: Incarnation, occasion: Occasion) {
        let from = other();
        self.step(Event::Hello(Hello { from, epoch, incarnation, commits_at_start: 0, occasion, info: "{}".into() }));
    }

    /// Receipts come from this process with this store.
    pub(crate) fn told(&mut self, epoch: Epoch, incarnation: Incarnation, told: Vec<(u64, u128, Progress)>) {
        let receipt = |(ticket, id, progress)| (Ticket(ticket), Receipt { id: MessageId(id), progress });
        let receipts = told.into_iter().map(receipt).collect();
        let (from, to) = (other(), OWN_STORE);
        self.step(Event::Receipts(Receipts { from, to, incarnation, epoch, commits: 1, receipts, sealed: false }));
    }

    /// How many probes went out.
    pub(crate) fn probes(&self) -> usize {
        let is_probe = |effect: &Effect| matches!(effect, Effect::Control { control: Control::Probe { .. }, .. });
        self.effects.iter().filter(|(_, effect)| is_probe(effect)).count()
    }

    /// The messages that were published, by their ids, in order.
    pub(crate) fn published(&self) -> Vec<u128> {
        let publish = |(_, effect): &(u64, Effect)| match effect {
            Effect::Publish { item, .. } => Some(item.id.0),
            _ => None,
        };
        self.effects.iter().filter_map(publish).collect()
    }

    /// How messages of the outbox have ended, with their ids.
    pub(crate) fn results(&self) -> Vec<(u128, Arc<Outcome>)> {
        let end = |(_, write): &(u64, Write)| match write {
            Write::End { id, outcome, .. } => Some((id.0, outcome.clone())),
            _ => None,
        };
        self.writes.iter().filter_map(end).collect()
    }
}

fn at(ms: u64, ahead: u64) -> Now {
    Now { mono: Mono(ms), wall: Wall(1_790_000_000_000 + ms + ahead) }
}

/// A message on the wire: its number, and the one before it.
pub(crate) fn item(seq: u64, prev: u64) -> Item {
    Item {
        id: MessageId(u128::from(seq)),
        seq: Seq(seq),
        prev: Seq(prev),
        body: "[]".into(),
        options: Options::default(),
        created: Wall(0),
    }
}

/// A message that ended well and wrote so many bytes, which have to be fetched.
pub(crate) fn with_output(len: u64) -> Outcome {
    let stdout = Output { len, hash: [9; 32], truncated: false, inline: None };
    Outcome { stdout, ..Outcome::bare(Final::Done, None, Wall(0)) }
}
