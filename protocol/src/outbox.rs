//! What this node still owes to others: its outgoing lanes, and of each the messages that are next.
//!
//! A lane holds its first messages that are not final (its window) in memory, up to a limit; what is behind them waits
//! on disk. The window is always a whole prefix: every message up to `loaded_to` that is not final is in it, so its
//! first number is the lane's floor.
//!
//! Sending stands in `sending.rs`, ending in `ending.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ctx::Ctx;
use crate::event::Queued;
use crate::limits::{
    ABSENT_BYTES_MAX, ABSENT_MESSAGES_MAX, UNACKED_MESSAGES_START, WINDOW_BYTES_MAX, WINDOW_MESSAGES_MAX,
};
use crate::looking::Look;
use crate::message::{Message, MessageId, Seq};
use crate::name::{Lane, NodeName};
use crate::outcome::State;
use crate::pace::Pace;
use crate::planted::{Bug, planted};
use crate::presence::Peers;
use crate::seen::Seen;
use crate::snapshot::{Backlog, Snapshot};
use crate::step::{Effect, Moment, OutLaneRow, Report, Write};
use crate::time::{Mono, Wall};

/// A message of the window.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) message: Message,
    pub(crate) state: State,
    pub(crate) attempts: u32,
    /// When the current attempt will have been in vain.
    pub(crate) due: Mono,
    /// Whether the operator wants it back; then cancellations are sent in place of the message.
    pub(crate) cancel: bool,
    /// Whether its receiver has said that it has it: it is the receiver's then, and no attempts are counted any more.
    pub(crate) taken: bool,
    pub(crate) history: Vec<Moment>,
    /// Whether there is progress that was not written down.
    pub(crate) dirty: bool,
}

impl Outgoing {
    /// Whether its attempts are counted against a limit. A cancellation is repeated for as long as it takes, and so is
    /// what the receiver has: nobody but the receiver can say how that ends.
    pub(crate) fn limited(&self) -> bool {
        self.message.options.retries > 0 && !self.cancel && !self.taken
    }
}

/// All messages to one node with the same type and method.
#[derive(Debug)]
pub(crate) struct OutLane {
    pub(crate) row: OutLaneRow,
    /// The receiver, among the peers.
    pub(crate) peer: usize,
    /// Boxed: a map makes room for eleven at once, and a lane to a node that is not there holds two.
    pub(crate) window: BTreeMap<Seq, Box<Outgoing>>,
    /// Bytes of the bodies in the window.
    pub(crate) bytes: usize,
    /// The messages of the window that wait to be published.
    pub(crate) queue: BTreeSet<Seq>,
    /// Every message up to here that is not final is in the window.
    pub(crate) loaded_to: Seq,
    /// Messages behind the window that are not final.
    pub(crate) behind: Backlog,
    /// Whether the store was asked for more, and how many were submitted meanwhile.
    pub(crate) loading: Option<Backlog>,
    /// Messages behind the window that have ended: the store may not have heard of it yet.
    pub(crate) ended_behind: Seen,
    /// Messages that were cancelled while the store was asked for them.
    pub(crate) cancel_on_load: BTreeSet<Seq>,
    /// This one goes out again when it has a receipt: what was said with it about those before it has changed.
    pub(crate) again: Option<Seq>,
    /// How the lane's first message was when it was last looked after.
    pub(crate) looked: Option<Look>,
    /// Published, no receipt yet.
    pub(crate) unacked: usize,
    /// How many may be so.
    pub(crate) unacked_max: usize,
    /// When it was last published, and whether the next ones wait for more to go with them.
    pub(crate) pace: Pace,
}

impl OutLane {
    fn new(row: OutLaneRow, peer: usize, behind: Backlog) -> Self {
        Self {
            loaded_to: if behind.messages == 0 { row.last } else { Seq(0) },
            row,
            peer,
            window: BTreeMap::new(),
            bytes: 0,
            queue: BTreeSet::new(),
            behind,
            loading: None,
            ended_behind: Seen::new(Seq(0), &[]),
            cancel_on_load: BTreeSet::new(),
            again: None,
            looked: None,
            unacked: 0,
            unacked_max: UNACKED_MESSAGES_START,
            pace: Pace::default(),
        }
    }

    /// Whether anything of it is not final.
    pub(crate) fn open(&self) -> bool {
        !self.window.is_empty() || self.behind.messages > 0
    }

    /// Whether a message waits behind the window, as far as this process knows: what has ended in this very batch may
    /// still be open for whoever looks into the store.
    pub(crate) fn is_behind(&self, seq: Seq) -> bool {
        seq > self.loaded_to && self.behind.messages > 0 && !self.ended_behind.contains(seq)
    }

    /// Whether one more may be held. A message always fits into an empty window.
    fn has_room(&self, there: bool) -> bool {
        let (messages, bytes) = match there {
            true => (WINDOW_MESSAGES_MAX, WINDOW_BYTES_MAX),
            false => (ABSENT_MESSAGES_MAX, ABSENT_BYTES_MAX),
        };
        self.window.len() < messages && self.bytes < bytes
    }

    pub(crate) fn floor(&self) -> Seq {
        self.window.first_key_value().map_or(self.loaded_to.next(), |(seq, _)| *seq)
    }

    /// The number before `seq` that is not final; 0 if there is none.
    pub(crate) fn before(&self, seq: Seq) -> Seq {
        self.window.range(..seq).next_back().map_or(Seq(0), |(before, _)| *before)
    }

    /// Takes a message out of the window.
    pub(crate) fn take(&mut self, seq: Seq) -> Option<Outgoing> {
        let outgoing = self.window.remove(&seq)?;
        self.bytes -= outgoing.message.body.len();
        if !self.queue.remove(&seq) && outgoing.state == State::Sent {
            self.unacked -= 1;
        }
        Some(*outgoing)
    }

    /// Sends a message once more that its receiver has, so that the receiver learns what has come of those before it.
    pub(crate) fn send_again(&mut self, seq: Seq) {
        if let Some(outgoing) = self.window.get_mut(&seq) {
            outgoing.state = State::Sent;
            self.queue.insert(seq);
        }
    }

    pub(crate) fn wants_ack(&self) -> bool {
        self.row.lane.kind.wants_ack()
    }
}

/// All outgoing lanes.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) lanes: Vec<OutLane>,
    pub(crate) by_lane: BTreeMap<Lane, usize>,
    /// Where each message of a window is.
    pub(crate) index: BTreeMap<MessageId, (usize, Seq)>,
    /// For each peer, its lanes that want acknowledgement and are open.
    pub(crate) owing: BTreeMap<usize, BTreeSet<usize>>,
    /// Open lanes of NACK types: they need no answer, only a link.
    pub(crate) nack_open: BTreeSet<usize>,
    /// Messages with progress that was not written down.
    pub(crate) dirty: BTreeSet<MessageId>,
    /// No number below this is given in this run, so that a store restored from an old copy gives none twice.
    numbers_from: Seq,
}

impl Outbox {
    /// The lanes as the last process left them. Numbers go on from the clock's milliseconds × 2^10 or from the last that was
    /// given, whichever is higher; they stay below 2^53 until the year 2248.
    pub(crate) fn new(now: Wall, snapshot: &mut Snapshot, peers: &mut Peers) -> Self {
        let mut outbox = Self { numbers_from: Seq(now.0 << 10), ..Self::default() };
        for (row, behind) in snapshot.out_lanes.drain(..) {
            let Some(peer) = peers.get_addressed(&row.lane.peer) else { continue };
            let lane = outbox.lanes.len();
            outbox.by_lane.insert(row.lane.clone(), lane);
            outbox.lanes.push(OutLane::new(row, peer, behind));
            outbox.note_open(lane);
        }
        outbox
    }

    /// Whether something waits for this peer to answer.
    pub(crate) fn owes(&self, peer: usize) -> bool {
        self.owing.contains_key(&peer)
    }

    /// Keeps the lists of open lanes right.
    pub(crate) fn note_open(&mut self, lane: usize) {
        let this = &self.lanes[lane];
        let (open, peer) = (this.open(), this.peer);
        if !this.wants_ack() {
            if open {
                self.nack_open.insert(lane)
            } else {
                self.nack_open.remove(&lane)
            };
        } else if open {
            self.owing.entry(peer).or_default().insert(lane);
        } else if let Some(lanes) = self.owing.get_mut(&peer) {
            lanes.remove(&lane);
            if lanes.is_empty() {
                self.owing.remove(&peer);
            }
        }
    }

    fn lane_for(&mut self, lane: &Lane, peer: usize) -> usize {
        if let Some(index) = self.by_lane.get(lane) {
            return *index;
        }
        let index = self.lanes.len();
        let row = OutLaneRow { lane: lane.clone(), last: Seq(0), sent: Seq(0), lost: Seq(0) };
        self.by_lane.insert(lane.clone(), index);
        self.lanes.push(OutLane::new(row, peer, Backlog::default()));
        index
    }

    /// Takes a message on; answers on which lane. `live`: we speak with its receiver.
    pub(crate) fn submit(&mut self, message: Message, peer: usize, live: bool, ctx: &mut Ctx) -> usize {
        let lane = self.lane_for(&message.lane(), peer);
        let this = &mut self.lanes[lane];
        let seq = this.row.last.next().max(self.numbers_from);
        this.row.last = seq;
        let (id, sealed, limited) = (message.id, message.options.seal, u64::from(message.options.retries > 0));
        ctx.write(Write::Submit { message: message.clone(), seq });
        ctx.write(Write::OutLane(this.row.clone()));
        ctx.effect(Effect::Accepted(id));
        let (lane_key, state) = (this.row.lane.clone(), State::Queued);
        ctx.report(Report::Out { id, lane: lane_key, state, attempts: 0, outcome: None, sealed });
        let there = if this.wants_ack() { live } else { ctx.link };
        if this.behind.messages == 0 && this.loading.is_none() && this.has_room(there) {
            this.loaded_to = seq;
            let queued = Queued { message, seq, attempts: 0, cancel: false, history: Vec::new() };
            self.admit(lane, queued, ctx.now.mono);
        } else {
            let meanwhile = this.loading.iter_mut();
            for count in meanwhile.chain([&mut this.behind]) {
                count.messages += 1;
                count.limited += limited;
            }
        }
        self.note_open(lane);
        lane
    }

    /// Puts a message into its lane's window.
    fn admit(&mut self, lane: usize, queued: Queued, now: Mono) {
        let Queued { message, seq, attempts, cancel, mut history } = queued;
        let this = &mut self.lanes[lane];
        this.bytes += message.body.len();
        this.queue.insert(seq);
        self.index.insert(message.id, (lane, seq));
        if history.is_empty() {
            history.push(Moment { at: message.created, state: State::Queued, note: None });
        }
        // How far it had come when it was last neither queued nor tried again.
        let last = history.iter().rev().map(|moment| &moment.state).find(|state| **state != State::Sent);
        let taken = last.is_some_and(|state| *state != State::Queued);
        // The attempt that the last process began may not have had its time.
        let due = if attempts > 0 { now.after(message.options.timeout) } else { Mono(0) };
        let state = State::Queued;
        let outgoing = Outgoing { message, state, attempts, due, cancel, taken, history, dirty: false };
        this.window.insert(seq, Box::new(outgoing));
    }

    /// Asks the store for more of a lane, where there is more and room for it.
    pub(crate) fn load(&mut self, lane: usize, ctx: &mut Ctx) {
        let this = &mut self.lanes[lane];
        let low = this.window.len() <= WINDOW_MESSAGES_MAX / 2 && this.bytes <= WINDOW_BYTES_MAX / 2;
        if this.behind.messages == 0 || this.loading.is_some() || !low || planted(Bug::BacklogForgotten) {
            return;
        }
        this.loading = Some(Backlog::default());
        ctx.effect(Effect::Load {
            lane: this.row.lane.clone(),
            after: this.loaded_to,
            messages: WINDOW_MESSAGES_MAX - this.window.len(),
            bytes: WINDOW_BYTES_MAX - this.bytes,
        });
    }

    /// The store's answer. Answers with what of it is not to be sent at all: lost with its receiver's store.
    pub(crate) fn loaded(&mut self, lane: usize, messages: Vec<Queued>, more: bool, now: Mono) -> Vec<Queued> {
        let this = &mut self.lanes[lane];
        let Some(meanwhile) = this.loading.take() else { return Vec::new() };
        let limited = messages.iter().filter(|queued| queued.message.options.retries > 0).count() as u64;
        this.behind.messages = this.behind.messages.saturating_sub(messages.len() as u64);
        this.behind.limited = this.behind.limited.saturating_sub(limited);
        if !more {
            this.behind = meanwhile;
        } else if this.behind.messages == 0 {
            this.behind.messages = 1;
        }
        if let Some(last) = messages.last() {
            this.loaded_to = last.seq;
            this.ended_behind.raise(last.seq.next());
        }
        let (lost, cancelled) = (this.row.lost, std::mem::take(&mut this.cancel_on_load));
        let mut dead = Vec::new();
        for mut queued in messages {
            queued.cancel |= cancelled.contains(&queued.seq);
            if queued.seq <= lost && !queued.message.options.rerun {
                dead.push(queued);
            } else {
                self.admit(lane, queued, now);
            }
        }
        dead
    }

    /// Whether all that is open for this peer is in memory.
    pub(crate) fn whole(&self, peer: usize) -> bool {
        let mut lanes = self.owing.get(&peer).into_iter().flatten().map(|lane| &self.lanes[*lane]);
        lanes.all(|lane| lane.behind.messages == 0 && lane.loading.is_none()) || planted(Bug::ConfirmedUnseen)
    }

    /// The receiver is done with a message; its output is on its way.
    pub(crate) fn fetching(&mut self, lane: usize, seq: Seq, ctx: &mut Ctx) {
        self.acked(lane, seq, State::Fetching, ctx);
    }

    /// Messages to one node that are not final.
    pub(crate) fn count(&self, peer: &NodeName) -> u64 {
        let lanes = self.by_lane.range(Lane::first(peer)..).take_while(|(lane, _)| lane.peer == *peer);
        let lanes = lanes.map(|(_, lane)| &self.lanes[*lane]);
        lanes.map(|lane| lane.window.len() as u64 + lane.behind.messages).sum()
    }
}

/// How long from `now` until `deadline`, by the wall clock; zero if it has passed.
pub(crate) fn until(now: Wall, deadline: Wall) -> Duration {
    Duration::from_millis(deadline.0.saturating_sub(now.0))
}
