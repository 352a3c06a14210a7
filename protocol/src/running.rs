//! When a message of the inbox starts, and how it ends. In its lane's order; at most once; written down before.

use std::sync::Arc;

use crate::ctx::Ctx;
use crate::event::{Envelope, Item, Ticket, Verdict};
use crate::inbox::{InKey, InLane, Inbox};
use crate::limits::{NACK_LANES_MAX, RUNNING_PER_LANE_MAX, RUNNING_PER_NODE_MAX, STUCK_TOLD_MAX};
use crate::message::{Body, Message, MessageId, Seq};
use crate::name::Lane;
use crate::outcome::{Final, Outcome, Progress, Receipt};
use crate::planted::{Bug, planted};
use crate::step::{Effect, InState, Report, Run, Write};

/// What the first waiting message of a lane may do now.
enum Next {
    /// Nothing: it waits for another of its lane to end, or there is none.
    Wait,
    /// Nothing: it waits for another of its lane that has not come.
    Gap(Ticket),
    /// The node runs too many: it starts when one of them has ended.
    HeldBack,
    /// Its deadline has passed.
    Expired(Seq),
    /// These start, one after the other.
    Start(Vec<Seq>),
}

impl InLane {
    fn next(&mut self, extra: usize, ctx: &Ctx) -> Next {
        let Some(first) = self.waiting.first().copied() else { return Next::Wait };
        if !self.in_order(first) {
            return self.entries.get(&first).map_or(Next::Wait, |incoming| Next::Gap(incoming.ticket));
        }
        let Some(incoming) = self.entries.get(&first) else { return Next::Wait };
        let options = &incoming.message.options;
        if (!options.parallel && self.running > 0) || self.running >= RUNNING_PER_LANE_MAX {
            return Next::Wait;
        }
        if incoming.is_late(ctx) {
            return Next::Expired(first);
        }
        if self.running > 0 && extra >= RUNNING_PER_NODE_MAX {
            return Next::HeldBack;
        }
        let mut batch = vec![first];
        if !options.parallel && !incoming.again {
            let mut before = first;
            for seq in self.waiting.iter().skip(1).take(incoming.facts.batch.saturating_sub(1)) {
                let Some(next) = self.entries.get(seq) else { break };
                if !self.follows(before, *seq) || next.message.options.parallel || next.again || next.is_late(ctx) {
                    break;
                }
                batch.push(*seq);
                before = *seq;
            }
        }
        Next::Start(batch)
    }
}

impl Inbox {
    /// Starts everything in a lane that may start now.
    pub(crate) fn start(&mut self, key: &InKey, ctx: &mut Ctx) {
        while !self.stopping {
            let Some(lane) = self.lanes.get_mut(key) else { return };
            let next = lane.next(self.extra, ctx);
            let stuck = if let Next::Gap(ticket) = next { Some(ticket) } else { None };
            if lane.stuck != stuck {
                self.stuck(key, stuck, ctx);
                continue;
            }
            match next {
                Next::Wait | Next::Gap(_) => return,
                Next::HeldBack => {
                    self.held_back.insert(key.clone());
                    return;
                }
                Next::Expired(seq) => {
                    let Some(ticket) = lane.entries.get(&seq).map(|incoming| incoming.ticket) else { return };
                    self.expire(ticket, ctx);
                }
                Next::Start(batch) => self.run(key, &batch, ctx),
            }
        }
    }

    /// Another message is the lane's first that waits for one that has not come, or none is. Its receipt is owed like a
    /// final one: a sender that is an old copy of itself, or has closed the message while our store was away, does not
    /// know it any more and would never bring what is missing; it answers with a confirmation, and the message is closed
    /// here, too.
    fn stuck(&mut self, key: &InKey, stuck: Option<Ticket>, ctx: &mut Ctx) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let before = std::mem::replace(&mut lane.stuck, stuck);
        if let Some(before) = before.filter(|before| !self.has_ended(*before)) {
            self.owed.confirmed(&key.0.peer, key.1, before, ctx);
        }
        if let Some(ticket) = stuck {
            self.owed.owe(&key.0.peer, key.1, ticket, ctx);
        }
        if before.is_some_and(|before| !self.tickets.contains_key(&before)) {
            self.tell_waiting(key, ctx);
        }
    }

    /// The sender did not know the lane's first message any more, so it hardly knows the next ones: they are told of
    /// together, instead of each when the one before it has been answered.
    fn tell_waiting(&self, key: &InKey, ctx: &mut Ctx) {
        let Some(lane) = self.lanes.get(key) else { return };
        let waiting = lane.waiting.iter().take(STUCK_TOLD_MAX).filter_map(|seq| lane.entries.get(seq));
        let tickets: Vec<Ticket> = waiting.map(|incoming| incoming.ticket).collect();
        tickets.into_iter().for_each(|ticket| self.tell(ticket, ctx));
    }

    fn has_ended(&self, ticket: Ticket) -> bool {
        let place = self.tickets.get(&ticket).and_then(|(key, seq)| self.lanes.get(key)?.entries.get(seq));
        place.is_some_and(|incoming| matches!(incoming.state, InState::Finished(_)))
    }

    fn run(&mut self, key: &InKey, batch: &[Seq], ctx: &mut Ctx) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let mut runs = Vec::with_capacity(batch.len());
        for seq in batch {
            let Some(incoming) = lane.entries.get_mut(seq) else { continue };
            self.waiting -= usize::from(lane.waiting.remove(seq));
            self.running += 1;
            self.deadlines.remove(incoming);
            self.extra += usize::from(lane.running > 0);
            lane.running += 1;
            incoming.state = InState::Running(ctx.now.wall);
            ctx.write(Write::Started { ticket: incoming.ticket, at: ctx.now.wall });
            let message = incoming.message.clone();
            if !incoming.stored {
                self.held -= message.body.len();
                incoming.message.body = Body::from("");
            }
            let receipt = Receipt { id: message.id, progress: Progress::Running };
            let (to, epoch, kind, ticket) = (key.0.peer.clone(), key.1, key.0.kind, incoming.ticket);
            ctx.effect(Effect::Receipt { to, epoch, kind, ticket, receipt, seal: message.options.seal });
            let (limit, facts, again) = (message.options.method_timeout, incoming.facts, incoming.again);
            runs.push(Run { ticket, message, limit, facts, again, stored: incoming.stored });
            incoming.stored = true;
        }
        ctx.effect(Effect::Start(runs));
    }

    /// Methods have ended: their results are kept until they are confirmed, and what waited for them starts.
    pub(crate) fn finished(&mut self, ended: Vec<(Ticket, Outcome)>, ctx: &mut Ctx) {
        let mut touched: Vec<InKey> = Vec::new();
        for (ticket, outcome) in ended {
            let Some((key, _)) = self.tickets.get(&ticket).cloned() else { continue };
            self.finish(ticket, outcome, ctx);
            if touched.last() != Some(&key) {
                touched.push(key);
            }
        }
        for key in touched {
            self.start(&key, ctx);
        }
        while self.extra < RUNNING_PER_NODE_MAX {
            let Some(key) = self.held_back.pop_first() else { break };
            self.start(&key, ctx);
        }
    }

    /// A message of the inbox has ended.
    pub(crate) fn finish(&mut self, ticket: Ticket, outcome: Outcome, ctx: &mut Ctx) {
        let Some((key, seq)) = self.tickets.get(&ticket).cloned() else { return };
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let Some(incoming) = lane.entries.get_mut(&seq) else { return };
        match incoming.state {
            InState::Finished(_) => return,
            InState::Running(_) => {
                lane.running -= 1;
                self.running -= 1;
                self.extra -= usize::from(lane.running > 0);
            }
            InState::Stored => {
                self.waiting -= usize::from(lane.waiting.remove(&seq));
                self.deadlines.remove(incoming);
                if !incoming.stored {
                    self.held -= incoming.message.body.len();
                    incoming.message.body = Body::from("");
                    incoming.stored = true;
                }
            }
        }
        let outcome = Arc::new(outcome);
        incoming.state = InState::Finished(outcome.clone());
        let (id, sealed) = (incoming.message.id, incoming.message.options.seal);
        ctx.write(Write::Ended { ticket, outcome: outcome.clone() });
        ctx.report(Report::In { id, lane: key.0.clone(), outcome, sealed });
        self.owe(&key, ticket, ctx);
        if planted(Bug::ResultDroppedBeforeConfirm) {
            self.confirm(&[ticket], ctx);
        }
    }

    /// A result is due to its sender: told now, unless too many are on their way, and again until it is confirmed.
    pub(crate) fn owe(&mut self, key: &InKey, ticket: Ticket, ctx: &mut Ctx) {
        if self.owed.owe(&key.0.peer, key.1, ticket, ctx) {
            self.tell(ticket, ctx);
        }
    }

    /// NACK messages: run without a record, in the order in which they come; a copy of one that was there is dropped.
    pub(crate) fn unrecorded(&mut self, envelope: Envelope, verdicts: Vec<Verdict>, ctx: &mut Ctx) {
        let Envelope { from, epoch, kind, method, items, .. } = envelope;
        let key = (Lane { peer: from.clone(), kind, method: method.clone() }, epoch);
        if self.nack_last.len() >= NACK_LANES_MAX && !self.nack_last.contains_key(&key) {
            self.nack_last.clear();
        }
        let last = self.nack_last.entry(key).or_default();
        for (item, verdict) in items.into_iter().zip(verdicts) {
            if item.seq <= *last {
                continue;
            }
            *last = item.seq;
            let Verdict::Accept(facts) = verdict else {
                ctx.report(Report::Dropped { peer: from.clone(), why: "a NACK message is not allowed here" });
                continue;
            };
            let (to, method) = (ctx.me.name.clone(), method.clone());
            let Item { id, body, options, created, .. } = item;
            let limit = options.method_timeout;
            let message = Message { id, from: from.clone(), to, kind, method, body, options, created };
            let run = Run { ticket: Ticket(0), message, limit, facts, again: false, stored: false };
            ctx.effect(Effect::StartUnrecorded { from: from.clone(), run });
        }
    }

    /// The sender wants this message not to start, or to stop.
    pub(crate) fn cancel(&mut self, key: &InKey, seq: Seq, prev: Seq, id: MessageId, seal: bool, ctx: &mut Ctx) {
        let Some(lane) = self.lanes.get_mut(key).filter(|lane| lane.entries.contains_key(&seq)) else {
            return self.cancel_unknown(key, (seq, prev), id, seal, ctx);
        };
        if lane.close_gap(prev, seq) && lane.waits_for_others() {
            ctx.write(lane.row());
        }
        let Some(incoming) = lane.entries.get(&seq) else { return };
        let ticket = incoming.ticket;
        match incoming.state {
            InState::Stored if planted(Bug::CancellationLeavesWaiting) => self.tell(ticket, ctx),
            InState::Stored => {
                let reason = match incoming.again {
                    false => "cancelled before it started",
                    true => "cancelled before it ran again; the node had stopped while it ran",
                };
                self.finish(ticket, Outcome::bare(Final::Cancelled, Some(reason), ctx.now.wall), ctx);
            }
            InState::Running(_) => ctx.effect(Effect::Kill(ticket)),
            InState::Finished(_) => self.tell(ticket, ctx),
        }
        self.start(key, ctx);
    }
}
