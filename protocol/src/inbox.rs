//! What this node has accepted from others: its incoming lanes, and in each what waits, runs, or has ended and is not
//! confirmed. What is confirmed is forgotten, all but its place in the lane's order, so that it never runs again.
//!
//! Starting and ending stand in `running.rs`, repeating final receipts in `owed.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::closing::{ForgottenEpochs, forgotten};
use crate::ctx::Ctx;
use crate::event::{Envelope, Facts, Item, Ticket, Verdict};
use crate::expiring::Deadlines;
use crate::limits::{INBOX_BODIES_BYTES_MAX, INBOX_LANE_MESSAGES_MAX, SEEN_RANGES_MAX};
use crate::message::{Body, Epoch, Message, Seq};
use crate::name::{Lane, NodeName};
use crate::outcome::{Final, Outcome, Progress, Receipt};
use crate::owed::Owed;
use crate::planted::{Bug, planted};
use crate::quota::Quota;
use crate::seen::Seen;
use crate::snapshot::Snapshot;
use crate::step::{Effect, InLaneRow, InState, InboxRow, Report, Write};

/// A message of the inbox, without its body unless that is held for a quick start.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) ticket: Ticket,
    pub(crate) message: Message,
    pub(crate) facts: Facts,
    pub(crate) state: InState,
    /// Whether it may have been started before.
    pub(crate) again: bool,
    /// Whether the body has to be read from the store.
    pub(crate) stored: bool,
    /// Bytes of the body as it came, for its sender's share.
    pub(crate) bytes: usize,
}

impl Incoming {
    /// Whether files of its output may lie here; a run that a crash has ended may have left some.
    fn may_have_files(&self) -> bool {
        match &self.state {
            InState::Finished(outcome) => self.again || outcome.may_have_files(),
            InState::Stored | InState::Running(_) => self.again,
        }
    }
}

/// All messages from one store of one node with the same type and method.
#[derive(Debug)]
pub(crate) struct InLane {
    pub(crate) lane: Lane,
    pub(crate) epoch: Epoch,
    pub(crate) seen: Seen,
    pub(crate) entries: BTreeMap<Seq, Incoming>,
    /// Those that are not started.
    pub(crate) waiting: BTreeSet<Seq>,
    /// How many run.
    pub(crate) running: usize,
    /// Everything below is accounted for; see `order.rs`.
    pub(crate) ready: Seq,
    /// The first that waits, where it waits for one that has not come: its receipt is owed.
    pub(crate) stuck: Option<Ticket>,
}

impl InLane {
    pub(crate) fn row(&self) -> Write {
        let (lane, epoch) = (self.lane.clone(), self.epoch);
        Write::InLane(InLaneRow { lane, epoch, floor: self.seen.floor(), seen: self.seen.rows() })
    }
}

/// A lane and the sender's store that it belongs to.
pub(crate) type InKey = (Lane, Epoch);

/// All incoming lanes.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) lanes: BTreeMap<InKey, InLane>,
    pub(crate) tickets: BTreeMap<Ticket, (InKey, Seq)>,
    pub(crate) last_ticket: u64,
    /// What each sender has here.
    pub(crate) quota: Quota,
    /// Bytes of bodies that are held.
    pub(crate) held: usize,
    /// Messages that are not started.
    pub(crate) waiting: usize,
    /// Messages that run, and those of them beyond the first of their lane.
    pub(crate) running: usize,
    /// See `running`.
    pub(crate) extra: usize,
    /// Lanes that could start more if the node did not run so many already.
    pub(crate) held_back: BTreeSet<InKey>,
    /// Final receipts that are not confirmed.
    pub(crate) owed: Owed,
    /// Deadlines of what waits.
    pub(crate) deadlines: Deadlines,
    /// Whether this process is about to stop, so that nothing may start.
    pub(crate) stopping: bool,
    /// The last number of each NACK lane, in memory only: a copy of a message is dropped while this process lives.
    pub(crate) nack_last: BTreeMap<InKey, Seq>,
    pub(crate) forgotten_epochs: ForgottenEpochs,
}

impl Inbox {
    /// The inbox as the last process left it. What that one had started is told as interrupted, unless a rerun is
    /// harmless.
    pub(crate) fn new(snapshot: &mut Snapshot, ctx: &mut Ctx) -> Self {
        let mut inbox = Self { last_ticket: snapshot.last_ticket, ..Self::default() };
        for row in snapshot.in_lanes.drain(..) {
            let seen = Seen::new(row.floor, &row.seen);
            inbox.insert_lane((row.lane, row.epoch), seen);
        }
        for (row, facts) in snapshot.inbox.drain(..) {
            inbox.restore(row, facts, ctx);
        }
        inbox.deadlines.arm(ctx);
        inbox
    }

    pub(crate) fn insert_lane(&mut self, key: InKey, seen: Seen) {
        let (lane, epoch) = key.clone();
        let (entries, waiting) = (BTreeMap::new(), BTreeSet::new());
        self.lanes.insert(key, InLane { lane, epoch, seen, entries, waiting, running: 0, ready: Seq(1), stuck: None });
    }

    fn restore(&mut self, row: InboxRow, facts: Facts, ctx: &mut Ctx) {
        let from = row.message.from.clone();
        let lane = Lane { peer: from.clone(), kind: row.message.kind, method: row.message.method.clone() };
        let key = (lane, row.epoch);
        if !self.lanes.contains_key(&key) {
            self.insert_lane(key.clone(), Seen::new(Seq(0), &[]));
        }
        let again = matches!(row.state, InState::Running(_));
        let state = match row.state {
            InState::Running(_) if facts.rerun || row.message.options.rerun || planted(Bug::InterruptedRunsAgain) => {
                InState::Stored
            }
            InState::Running(started) => {
                let reason = "the node stopped while it ran; how far it came is unknown, so it is not run again";
                let mut outcome = Outcome::bare(Final::Interrupted, Some(reason), ctx.now.wall);
                outcome.started = Some(started);
                let outcome = Arc::new(outcome);
                ctx.write(Write::Ended { ticket: row.ticket, outcome: outcome.clone() });
                let (id, lane, sealed) = (row.message.id, key.0.clone(), row.message.options.seal);
                ctx.report(Report::In { id, lane, outcome: outcome.clone(), sealed });
                InState::Finished(outcome)
            }
            state @ (InState::Stored | InState::Finished(_)) => state,
        };
        if matches!(state, InState::Finished(_)) {
            self.owed.add(&from, row.epoch, row.ticket);
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.close_gap(row.prev, row.seq);
        }
        let mut message = row.message;
        message.body = Body::from("");
        let incoming = Incoming { ticket: row.ticket, message, facts, state, again, stored: true, bytes: 0 };
        self.place(&key, row.seq, incoming);
    }

    pub(crate) fn place(&mut self, key: &InKey, seq: Seq, incoming: Incoming) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        if incoming.state == InState::Stored {
            self.waiting += usize::from(lane.waiting.insert(seq));
            self.deadlines.add(&incoming);
        }
        if !incoming.stored {
            self.held += incoming.message.body.len();
        }
        self.quota.add(&key.0.peer, incoming.bytes);
        self.tickets.insert(incoming.ticket, (key.clone(), seq));
        lane.entries.insert(seq, incoming);
    }

    /// Messages have arrived. Answers with the lane, if it is one of ours now.
    pub(crate) fn arrive(&mut self, envelope: Envelope, verdicts: Vec<Verdict>, ctx: &mut Ctx) -> Option<InKey> {
        let Envelope { from, epoch, kind, method, floor, items, .. } = envelope;
        let key = (Lane { peer: from, kind, method }, epoch);
        if !self.lanes.contains_key(&key) {
            if self.turns_away(&key, &items, ctx) {
                return None;
            }
            self.insert_lane(key.clone(), Seen::new(Seq(0), &[]));
        }
        self.settle(&key, Seq(0), floor, ctx);
        let mut news = false;
        if let Some(lane) = self.lanes.get_mut(&key) {
            news = floor > lane.seen.floor();
            lane.seen.raise(floor);
        }
        for (item, verdict) in items.into_iter().zip(verdicts) {
            news |= self.arrived(&key, item, verdict, ctx);
        }
        self.deadlines.arm(ctx);
        // Whoever waits for his turn needs this news after a restart, too: nobody will bring it again.
        if let Some(lane) = self.lanes.get_mut(&key).filter(|_| news)
            && lane.waits_for_others()
        {
            ctx.write(lane.row());
        }
        Some(key)
    }

    /// Answers whether the message said something about others that is nowhere else.
    fn arrived(&mut self, key: &InKey, item: Item, verdict: Verdict, ctx: &mut Ctx) -> bool {
        self.settle(key, item.prev, item.seq, ctx);
        let Some(lane) = self.lanes.get_mut(key) else { return false };
        let news = lane.close_gap(item.prev, item.seq);
        if let Some(known) = lane.entries.get(&item.seq) {
            let ticket = known.ticket;
            self.tell(ticket, ctx);
        } else if lane.seen.contains(item.seq) {
            forgotten(key, item.id, item.options.seal, ctx);
        } else if lane.entries.len() >= INBOX_LANE_MESSAGES_MAX || lane.seen.len() >= SEEN_RANGES_MAX {
            ctx.report(Report::Dropped { peer: key.0.peer.clone(), why: "the lane is full" });
        } else if !self.quota.has_room(&key.0.peer, item.body.len()) {
            ctx.report(Report::Dropped { peer: key.0.peer.clone(), why: "too much is here already" });
        } else {
            self.accept(key, item, verdict, ctx);
        }
        news
    }

    /// Takes a message on: from here on it is ours to bring to an end.
    fn accept(&mut self, key: &InKey, item: Item, verdict: Verdict, ctx: &mut Ctx) {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let message = Message {
            id: item.id,
            from: key.0.peer.clone(),
            to: ctx.me.name.clone(),
            kind: key.0.kind,
            method: key.0.method.clone(),
            body: item.body,
            options: item.options,
            created: item.created,
        };
        let (facts, state) = match verdict {
            Verdict::Accept(facts) => (facts, InState::Stored),
            Verdict::Refuse(reason) => {
                let outcome = Outcome::bare(Final::Refused, Some(&reason), ctx.now.wall);
                (Facts { rerun: false, batch: 1 }, InState::Finished(Arc::new(outcome)))
            }
        };
        let (epoch, seq, prev) = (key.1, item.seq, item.prev);
        ctx.write(Write::Accept(InboxRow { ticket, epoch, seq, prev, message: message.clone(), state: state.clone() }));
        let finished = match &state {
            InState::Finished(outcome) => Some(outcome.clone()),
            InState::Stored | InState::Running(_) => None,
        };
        let bytes = message.body.len();
        let mut incoming = Incoming { ticket, message, facts, state, again: false, stored: false, bytes };
        if finished.is_some() || self.held + incoming.message.body.len() > INBOX_BODIES_BYTES_MAX {
            incoming.message.body = Body::from("");
            incoming.stored = true;
        }
        let (id, sealed) = (incoming.message.id, incoming.message.options.seal);
        self.place(key, seq, incoming);
        match finished {
            Some(outcome) => {
                ctx.report(Report::In { id, lane: key.0.clone(), outcome, sealed });
                self.owe(key, ticket, ctx);
            }
            None => self.tell(ticket, ctx),
        }
    }

    /// The sender says that nothing between `after` and `before` (both excluded) will come, or is final on its side.
    fn settle(&mut self, key: &InKey, after: Seq, before: Seq, ctx: &mut Ctx) {
        let Some(lane) = self.lanes.get(key) else { return };
        if before <= after.next() {
            return;
        }
        let over = lane.entries.range(after.next()..before);
        let over = over.filter(|(_, incoming)| !matches!(incoming.state, InState::Running(_)));
        let tickets: Vec<Ticket> = over.map(|(_, incoming)| incoming.ticket).collect();
        if !tickets.is_empty() {
            self.confirm(&tickets, ctx);
        }
    }

    /// The sender has these results, or has closed these messages: what does not run is forgotten.
    pub(crate) fn confirm(&mut self, tickets: &[Ticket], ctx: &mut Ctx) -> BTreeSet<InKey> {
        let mut touched = BTreeSet::new();
        for ticket in tickets {
            let Some((key, seq)) = self.tickets.get(ticket).cloned() else { continue };
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let runs = lane.entries.get(&seq).is_none_or(|incoming| matches!(incoming.state, InState::Running(_)));
            if runs {
                continue;
            }
            let removed = lane.entries.remove(&seq);
            if let Some(incoming) = &removed {
                self.held -= if incoming.stored { 0 } else { incoming.message.body.len() };
                self.quota.remove(&key.0.peer, incoming.bytes);
                self.deadlines.remove(incoming);
            }
            self.waiting -= usize::from(lane.waiting.remove(&seq));
            lane.seen.insert(seq, seq);
            self.tickets.remove(ticket);
            self.owed.confirmed(&key.0.peer, key.1, *ticket, ctx);
            ctx.write(Write::Forget(*ticket));
            if removed.is_some_and(|incoming| incoming.may_have_files()) {
                ctx.effect(Effect::Discard(*ticket));
            }
            touched.insert(key);
        }
        for key in &touched {
            if let Some(lane) = self.lanes.get(key)
                && !planted(Bug::DedupInMemoryOnly)
            {
                ctx.write(lane.row());
            }
        }
        touched
    }

    /// As [`Inbox::confirm`], for numbers that another node names: it may close its own messages only.
    pub(crate) fn confirm_from(&mut self, from: &NodeName, tickets: &[Ticket], ctx: &mut Ctx) -> BTreeSet<InKey> {
        let own = |ticket: &&Ticket| self.tickets.get(ticket).is_some_and(|(key, _)| key.0.peer == *from);
        let tickets: Vec<Ticket> = tickets.iter().filter(own).copied().collect();
        self.confirm(&tickets, ctx)
    }

    /// Tells the sender how far the message is.
    pub(crate) fn tell(&self, ticket: Ticket, ctx: &mut Ctx) {
        let Some((key, seq)) = self.tickets.get(&ticket) else { return };
        let Some(incoming) = self.lanes.get(key).and_then(|lane| lane.entries.get(seq)) else { return };
        let progress = match &incoming.state {
            InState::Stored => Progress::Stored,
            InState::Running(_) => Progress::Running,
            InState::Finished(outcome) => Progress::Final(Outcome::clone(outcome)),
        };
        let receipt = Receipt { id: incoming.message.id, progress };
        let (to, kind, seal) = (key.0.peer.clone(), key.0.kind, incoming.message.options.seal);
        ctx.effect(Effect::Receipt { to, epoch: key.1, kind, ticket, receipt, seal });
    }
}
