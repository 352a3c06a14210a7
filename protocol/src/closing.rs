//! What a receiver keeps of senders whose store it may never hear of again, and of messages that never came: room is
//! limited, and what is closed stays closed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ctx::Ctx;
use crate::event::{Facts, Item, Ticket};
use crate::inbox::{InKey, Inbox, Incoming};
use crate::limits::{
    EPOCHS_PER_SENDER_MAX, FORGOTTEN_EPOCHS_MAX, FORGOTTEN_EPOCHS_PER_SENDER_MAX, INBOX_LANE_MESSAGES_MAX,
    INBOX_LANES_MAX, INBOX_LANES_PER_SENDER_MAX,
};
use crate::message::{Body, Epoch, Message, MessageId, Options, Seq};
use crate::name::{Lane, NodeName};
use crate::outcome::{Final, Outcome, Progress, Receipt};
use crate::seen::Seen;
use crate::step::{Effect, InState, InboxRow, Report, Write};

/// Stores of senders that were forgotten for lack of room since this process began. What came from them may have run, and
/// may be played again by whoever has recorded it. It need not be durable: everything was addressed to this process.
#[derive(Debug, Default)]
pub(crate) struct ForgottenEpochs(BTreeSet<(NodeName, Epoch)>);

impl ForgottenEpochs {
    fn contains(&self, from: &NodeName, epoch: Epoch) -> bool {
        self.0.contains(&(from.clone(), epoch))
    }

    /// Whether one more of this sender can be remembered.
    fn has_room(&self, from: &NodeName) -> bool {
        let of_sender = self.0.range((from.clone(), Epoch(0))..=(from.clone(), Epoch(u64::MAX)));
        self.0.len() < FORGOTTEN_EPOCHS_MAX && of_sender.count() < FORGOTTEN_EPOCHS_PER_SENDER_MAX
    }
}

impl Inbox {
    /// Whether these messages, which are for no lane that is known, are not for a new one either.
    pub(crate) fn turns_away(&mut self, key: &InKey, items: &[Item], ctx: &mut Ctx) -> bool {
        if self.forgotten_epochs.contains(&key.0.peer, key.1) {
            for item in items {
                of_forgotten_epoch(key, item.id, item.options.seal, ctx);
            }
            return true;
        }
        let is_full = !self.room_for_lane(&key.0.peer, key.1, ctx);
        if is_full {
            ctx.report(Report::Dropped { peer: key.0.peer.clone(), why: "too many lanes or stores of this node" });
        }
        is_full
    }

    /// Whether a new lane of this sender may be kept; makes room by forgetting the oldest store of the sender.
    fn room_for_lane(&mut self, from: &NodeName, epoch: Epoch, ctx: &mut Ctx) -> bool {
        let of_sender = self.lanes.range(first_key(from)..).take_while(|((lane, _), _)| lane.peer == *from);
        let mut tickets: BTreeMap<Epoch, u64> = BTreeMap::new();
        let mut same = 0;
        for ((_, other), lane) in of_sender {
            let newest = lane.entries.values().map(|incoming| incoming.ticket.0).max().unwrap_or(0);
            let kept = tickets.entry(*other).or_default();
            *kept = newest.max(*kept);
            same += usize::from(*other == epoch);
        }
        if same >= INBOX_LANES_PER_SENDER_MAX || self.lanes.len() >= INBOX_LANES_MAX {
            return false;
        }
        if tickets.contains_key(&epoch) || tickets.len() < EPOCHS_PER_SENDER_MAX {
            return true;
        }
        if !self.forgotten_epochs.has_room(from) {
            return false;
        }
        // The store whose messages were here longest ago is the least likely to come back.
        let Some((oldest, _)) = tickets.into_iter().min_by_key(|(_, newest)| *newest) else { return true };
        self.forget_epoch(from, oldest, ctx);
        true
    }

    fn forget_epoch(&mut self, from: &NodeName, epoch: Epoch, ctx: &mut Ctx) {
        let of_sender = self.lanes.range(first_key(from)..).take_while(|((lane, _), _)| lane.peer == *from);
        let keys: Vec<InKey> =
            of_sender.filter(|((_, other), _)| *other == epoch).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(lane) = self.lanes.remove(&key) else { continue };
            self.waiting -= lane.waiting.len();
            self.running -= lane.running;
            for incoming in lane.entries.into_values() {
                self.tickets.remove(&incoming.ticket);
                self.quota.remove(from, incoming.bytes);
                self.deadlines.remove(&incoming);
                if !incoming.stored {
                    self.held -= incoming.message.body.len();
                }
                ctx.write(Write::Forget(incoming.ticket));
                ctx.effect(Effect::Discard(incoming.ticket));
            }
            self.extra -= lane.running.saturating_sub(1);
            self.held_back.remove(&key);
            ctx.write(Write::DropInLane { lane: key.0, epoch: key.1 });
        }
        self.owed.drop_epoch(from, epoch, ctx);
        self.forgotten_epochs.0.insert((from.clone(), epoch));
    }

    /// The sender wants a message not to start that never arrived here: its number is closed, and the sender is told.
    pub(crate) fn cancel_unknown(
        &mut self,
        key: &InKey,
        (seq, prev): (Seq, Seq),
        id: MessageId,
        seal: bool,
        ctx: &mut Ctx,
    ) {
        if self.lanes.get(key).is_some_and(|lane| lane.seen.contains(seq)) {
            return forgotten(key, id, seal, ctx);
        }
        if self.forgotten_epochs.contains(&key.0.peer, key.1) {
            return of_forgotten_epoch(key, id, seal, ctx);
        }
        let full = self.lanes.get(key).is_some_and(|lane| lane.entries.len() >= INBOX_LANE_MESSAGES_MAX);
        let known = self.lanes.contains_key(key);
        let full = full || !self.quota.has_room(&key.0.peer, 0);
        if full || (!known && !self.room_for_lane(&key.0.peer, key.1, ctx)) {
            return ctx.report(Report::Dropped { peer: key.0.peer.clone(), why: "no room for a cancellation" });
        }
        if !known {
            self.insert_lane(key.clone(), Seen::new(Seq(0), &[]));
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let message = Message {
            id,
            from: key.0.peer.clone(),
            to: ctx.me.name.clone(),
            kind: key.0.kind,
            method: key.0.method.clone(),
            body: Body::from("[]"),
            options: Options { seal, ..Options::default() },
            created: ctx.now.wall,
        };
        let outcome = Arc::new(Outcome::bare(Final::Cancelled, Some("cancelled before it arrived"), ctx.now.wall));
        let (epoch, state) = (key.1, InState::Finished(outcome.clone()));
        ctx.write(Write::Accept(InboxRow { ticket, epoch, seq, prev, message: message.clone(), state: state.clone() }));
        let facts = Facts { rerun: false, batch: 1 };
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.close_gap(prev, seq);
        }
        self.place(key, seq, Incoming { ticket, message, facts, state, again: false, stored: true, bytes: 0 });
        ctx.report(Report::In { id, lane: key.0.clone(), outcome, sealed: seal });
        self.owe(key, ticket, ctx);
        self.start(key, ctx);
    }
}

/// A message that was closed before comes again: its sender's store is an old copy. It never runs again.
pub(crate) fn forgotten(key: &InKey, id: MessageId, seal: bool, ctx: &mut Ctx) {
    let reason = "it was closed here before: it had ended, or its sender had given it up; it is not run again";
    closed(key, id, reason, seal, ctx);
}

/// A message that may have run and is not known here any more.
fn closed(key: &InKey, id: MessageId, reason: &str, seal: bool, ctx: &mut Ctx) {
    let progress = Progress::Final(Outcome::bare(Final::Interrupted, Some(reason), ctx.now.wall));
    let receipt = Receipt { id, progress };
    let (to, kind) = (key.0.peer.clone(), key.0.kind);
    ctx.effect(Effect::Receipt { to, epoch: key.1, kind, ticket: Ticket(0), receipt, seal });
}

/// A message comes from a store that is forgotten here: it may have run, so it never does again.
fn of_forgotten_epoch(key: &InKey, id: MessageId, seal: bool, ctx: &mut Ctx) {
    let reason = "its sender has had many other stores since the one that it comes from, which is forgotten here; whether it \
                  ran is unknown, so it is not run again";
    closed(key, id, reason, seal, ctx);
}

/// Below every lane of this node.
fn first_key(from: &NodeName) -> InKey {
    (Lane::first(from), Epoch(0))
}
