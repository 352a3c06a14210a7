//! How a message of the outbox gets to its receiver: published when the receiver is there, again when no receipt comes,
//! until a receipt says that it is stored. A late end is no reason to send again: after the first receipt the message is
//! the receiver's.

use std::sync::Arc;

use crate::ctx::Ctx;
use crate::event::{Control, Item};
use crate::limits::WINDOW_MESSAGES_MAX;
use crate::message::{Incarnation, Message, Seq};
use crate::outbox::{Outbox, Outgoing};
use crate::outcome::{Final, Outcome, State};
use crate::planted::{Bug, planted};
use crate::retry;
use crate::step::{Effect, Write};
use crate::timers::Timer;

impl Outbox {
    /// Publishes what may be published of a lane now, and asks the store for more where that is of use.
    pub(crate) fn pump(&mut self, lane: usize, live: Option<Incarnation>, ctx: &mut Ctx) {
        let ready = ctx.link && (live.is_some() || !self.lanes[lane].wants_ack());
        if ready {
            self.publish(lane, live, ctx);
        } else if ctx.link {
            self.open_slots(lane, ctx);
        }
        if ready || (ctx.link && self.lanes[lane].behind.limited > 0) {
            self.load(lane, ctx);
        }
    }

    fn publish(&mut self, lane: usize, live: Option<Incarnation>, ctx: &mut Ctx) {
        let this = &self.lanes[lane];
        if let Some(until) = this.pace.hold(this.queue.len(), ctx.now.mono) {
            return ctx.timers.set_earlier(Timer::Lane(lane), until);
        }
        let sent_before = self.lanes[lane].row.sent;
        let mut outgoing = Vec::new();
        while self.lanes[lane].unacked < self.lanes[lane].unacked_max {
            let Some(seq) = self.lanes[lane].queue.pop_first() else { break };
            outgoing.push(self.attempt(lane, seq, live, ctx));
        }
        let this = &mut self.lanes[lane];
        this.pace.sent(outgoing.len(), ctx.now.mono);
        if this.row.sent > sent_before {
            ctx.write(Write::OutLane(this.row.clone()));
        }
        for effect in outgoing.into_iter().flatten() {
            ctx.effect(effect);
        }
    }

    /// Starts an attempt; answers with what is to be published.
    fn attempt(&mut self, lane: usize, seq: Seq, live: Option<Incarnation>, ctx: &mut Ctx) -> Option<Effect> {
        let this = &mut self.lanes[lane];
        let floor = if planted(Bug::FloorTooHigh) { this.row.last } else { this.floor() };
        let prev = this.before(seq);
        let outgoing = this.window.get_mut(&seq)?;
        let slot_open = outgoing.limited() && outgoing.due > ctx.now.mono;
        if !slot_open {
            outgoing.attempts = outgoing.attempts.saturating_add(1);
        }
        // An attempt that began while the receiver was away has its whole time once the message is out.
        let timeout = outgoing.message.options.timeout;
        let unlimited = !outgoing.limited();
        let patience = if unlimited { retry::patience(timeout, outgoing.attempts, &mut ctx.rng) } else { timeout };
        outgoing.due = ctx.now.mono.after(patience);
        this.unacked += 1;
        ctx.timers.set_earlier(Timer::Lane(lane), outgoing.due);
        let (key, id) = (this.row.lane.clone(), outgoing.message.id);
        let effect = if outgoing.cancel {
            let (epoch, kind, method) = (ctx.me.epoch, key.kind, key.method.clone());
            let control = Control::Cancel { epoch, kind, method, id, seq, prev };
            let seal = outgoing.message.options.seal;
            Effect::Control { to: key.peer.clone(), incarnation: live, control, seal }
        } else {
            this.row.sent = this.row.sent.max(seq);
            let to = live.filter(|_| key.kind.wants_ack());
            Effect::Publish { lane: key, to, floor, item: item(seq, prev, outgoing) }
        };
        let note = match (outgoing.cancel, outgoing.attempts) {
            (true, _) => Some("cancellation sent".to_owned()),
            (false, 1) => None,
            (false, attempts) => Some(format!("attempt {attempts}")),
        };
        self.note(lane, seq, State::Sent, note.as_deref(), ctx);
        Some(effect)
    }

    /// The receiver is not there, but the broker is: attempts of messages that have a limited number of them pass.
    fn open_slots(&mut self, lane: usize, ctx: &mut Ctx) {
        let this = &mut self.lanes[lane];
        for seq in &this.queue {
            let Some(outgoing) = this.window.get_mut(seq).filter(|outgoing| outgoing.limited()) else { continue };
            if outgoing.attempts == 0 {
                outgoing.attempts = 1;
                outgoing.due = ctx.now.mono.after(outgoing.message.options.timeout);
            }
            ctx.timers.set_earlier(Timer::Lane(lane), outgoing.due);
        }
    }

    /// The lane's timer has run out: attempts that brought nothing are over. Answers whether any was on its way, so that
    /// the receiver should be asked whether it is there.
    pub(crate) fn lane_timer(&mut self, lane: usize, ctx: &mut Ctx) -> bool {
        let now = ctx.now.mono;
        let this = &mut self.lanes[lane];
        let (mut over, mut next, mut in_vain) = (Vec::new(), None, false);
        for (seq, outgoing) in &mut this.window {
            let on_its_way = outgoing.state == State::Sent && !this.queue.contains(seq);
            let waits = outgoing.limited() && outgoing.attempts > 0 && this.queue.contains(seq);
            if !on_its_way && !waits {
                continue;
            }
            if outgoing.due > now {
                next = Some(next.map_or(outgoing.due, |next| outgoing.due.min(next)));
                continue;
            }
            if !ctx.link {
                // Without a link of our own nothing is tried, so nothing is used up.
                outgoing.due = now.after(outgoing.message.options.timeout);
                next = Some(next.map_or(outgoing.due, |next| outgoing.due.min(next)));
                continue;
            }
            in_vain |= on_its_way;
            if on_its_way {
                if planted(Bug::NoRetry) {
                    continue;
                }
                this.unacked -= 1;
                this.queue.insert(*seq);
            }
            if outgoing.limited() && outgoing.attempts >= outgoing.message.options.retries {
                over.push(*seq);
            } else if waits {
                outgoing.attempts += 1;
                outgoing.due = now.after(outgoing.message.options.timeout);
                next = Some(next.map_or(outgoing.due, |next| outgoing.due.min(next)));
            }
        }
        if in_vain {
            this.unacked_max = (this.unacked_max / 2).max(1);
        }
        if let Some(next) = next {
            ctx.timers.set_earlier(Timer::Lane(lane), next);
        }
        for seq in over {
            self.give_up(lane, seq, ctx);
        }
        in_vain
    }

    /// The last attempt of a message was in vain.
    fn give_up(&mut self, lane: usize, seq: Seq, ctx: &mut Ctx) {
        let this = &self.lanes[lane];
        let Some(outgoing) = this.window.get(&seq) else { return };
        let (attempts, peer) = (outgoing.attempts, &this.row.lane.peer);
        let reason = if seq <= this.row.sent {
            format!("no receipt from {peer} after {attempts} attempts; it may have arrived all the same")
        } else {
            format!("{peer} was not there during {attempts} attempts; it was never sent")
        };
        let outcome = Outcome::bare(Final::Undeliverable, Some(&reason), ctx.now.wall);
        self.end(lane, seq, Arc::new(outcome), ctx);
    }

    /// Speaks with the receiver again: whatever has no receipt may be lost and goes out again, oldest first.
    pub(crate) fn resume(&mut self, lane: usize, ctx: &mut Ctx) {
        let this = &mut self.lanes[lane];
        for (seq, outgoing) in &mut this.window {
            if outgoing.state == State::Sent && this.queue.insert(*seq) {
                this.unacked -= 1;
                if !outgoing.limited() {
                    outgoing.due = ctx.now.mono;
                }
            }
        }
    }

    /// The receiver has the message on disk, or runs it.
    pub(crate) fn acked(&mut self, lane: usize, seq: Seq, state: State, ctx: &mut Ctx) {
        let this = &mut self.lanes[lane];
        let Some(outgoing) = this.window.get_mut(&seq) else { return };
        let cancelling = outgoing.cancel && state != State::Fetching && !planted(Bug::CancellationNotRepeated);
        if cancelling || outgoing.state == state || outgoing.state == State::Fetching {
            return;
        }
        if outgoing.state == State::Running && state == State::Stored {
            return;
        }
        if !this.queue.remove(&seq) && outgoing.state == State::Sent {
            this.unacked -= 1;
        }
        this.unacked_max = (this.unacked_max + 1).min(WINDOW_MESSAGES_MAX);
        let first_word = outgoing.limited();
        outgoing.taken = true;
        let again = state == State::Stored && this.again.take_if(|again| *again == seq).is_some();
        self.note(lane, seq, state, None, ctx);
        if again {
            self.lanes[lane].send_again(seq);
        }
        if first_word {
            // Without this, a restart would go on counting attempts, and give up what is running.
            self.write_progress_of(lane, seq, ctx);
        }
    }
}

/// The message as it goes on the wire.
pub(crate) fn item(seq: Seq, prev: Seq, outgoing: &Outgoing) -> Item {
    let Message { id, body, options, created, .. } = outgoing.message.clone();
    Item { id, seq, prev, body, options, created }
}
