//! How a message of the outbox ends: by its receiver's final receipt, or by a decision that is made here.

use std::sync::Arc;

use crate::ctx::Ctx;
use crate::event::Queued;
use crate::message::{MessageId, Seq};
use crate::outbox::{Outbox, Outgoing};
use crate::outcome::{Final, Outcome, State};
use crate::planted::{Bug, planted};
use crate::progress::push;
use crate::step::{Moment, Report, Write};

/// What came of a cancellation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// The message has ended, or was not there.
    Over,
    /// It may be with its receiver: the receiver is asked to stop it.
    Asked,
}

impl Outbox {
    /// Ends a message of the window.
    pub(crate) fn end(&mut self, lane: usize, seq: Seq, outcome: Arc<Outcome>, ctx: &mut Ctx) {
        let this = &mut self.lanes[lane];
        let Some(mut outgoing) = this.take(seq) else { return };
        if !decided_by_receiver(&outgoing, &outcome) && seq <= this.row.sent {
            // The receiver may wait for this number before it starts the next one: that one is sent once more, and
            // says that this one won't come; as soon as it has a receipt, if it is on its way.
            let next = this.window.range(seq..).next().map(|(next, outgoing)| (*next, outgoing.state.clone()));
            match next {
                Some((next, State::Stored)) => this.send_again(next),
                Some((next, State::Sent)) if !this.queue.contains(&next) => this.again = Some(next),
                _ => {}
            }
        }
        let id = outgoing.message.id;
        self.index.remove(&id);
        self.dirty.remove(&id);
        let mut history = std::mem::take(&mut outgoing.history);
        let state = State::Final(outcome.state);
        push(&mut history, Moment { at: ctx.now.wall, state: state.clone(), note: outcome.reason.clone() });
        ctx.write(Write::End { id, attempts: outgoing.attempts, history, outcome: outcome.clone() });
        let (key, attempts, sealed) = (this.row.lane.clone(), outgoing.attempts, outgoing.message.options.seal);
        ctx.report(Report::Out { id, lane: key, state, attempts, outcome: Some(outcome), sealed });
        self.note_open(lane);
    }

    /// Ends a message that is not in the window, only on disk.
    fn end_on_disk(&mut self, lane: usize, id: MessageId, attempts: u32, outcome: Outcome, ctx: &mut Ctx) {
        let outcome = Arc::new(outcome);
        let state = State::Final(outcome.state);
        ctx.write(Write::End { id, attempts, history: Vec::new(), outcome: outcome.clone() });
        let key = self.lanes[lane].row.lane.clone();
        // It ended here, so nothing of it is in its outcome.
        ctx.report(Report::Out { id, lane: key, state, attempts, outcome: Some(outcome), sealed: false });
        self.note_open(lane);
    }

    /// The operator takes a message back.
    pub(crate) fn cancel(&mut self, lane: usize, seq: Seq, id: MessageId, ctx: &mut Ctx) -> Cancel {
        let this = &mut self.lanes[lane];
        let never_sent = seq > this.row.sent;
        let bare = Outcome::bare(Final::Cancelled, Some("cancelled before it was sent"), ctx.now.wall);
        let nobody_answers = !this.wants_ack();
        if let Some(outgoing) = this.window.get_mut(&seq) {
            // A NACK message that is on its way to the broker can't be called back; one that waits can.
            if nobody_answers && !this.queue.contains(&seq) {
                return Cancel::Over;
            }
            if never_sent || nobody_answers {
                self.end(lane, seq, Arc::new(bare), ctx);
                return Cancel::Over;
            }
            if outgoing.cancel || outgoing.state == State::Fetching {
                return Cancel::Over;
            }
            outgoing.cancel = true;
            outgoing.due = ctx.now.mono;
            if outgoing.state == State::Sent && this.queue.insert(seq) {
                this.unacked -= 1;
            }
            this.queue.insert(seq);
            want_back(id, ctx);
            self.note(lane, seq, State::Sent, Some("cancellation asked for"), ctx);
            return Cancel::Asked;
        }
        if !this.is_behind(seq) {
            return Cancel::Over;
        }
        if this.loading.is_some() {
            this.cancel_on_load.insert(seq);
        } else if never_sent {
            self.end_behind(lane, seq, id, bare, ctx);
            return Cancel::Over;
        }
        want_back(id, ctx);
        Cancel::Asked
    }

    /// The deadline of a message has passed. Only what was never sent is judged here; the rest is for the receiver.
    /// Answers whether it has to be asked again, because the message is on its way from the store.
    pub(crate) fn expire(&mut self, lane: usize, seq: Seq, id: MessageId, ctx: &mut Ctx) -> bool {
        let this = &mut self.lanes[lane];
        if seq <= this.row.sent {
            return false;
        }
        let reason = format!("its deadline passed before {} could have it", this.row.lane.peer);
        let outcome = Outcome::bare(Final::Expired, Some(&reason), ctx.now.wall);
        if this.window.contains_key(&seq) {
            self.end(lane, seq, Arc::new(outcome), ctx);
        } else if this.loading.is_some() {
            return true;
        } else if this.is_behind(seq) {
            self.end_behind(lane, seq, id, outcome, ctx);
        }
        false
    }

    /// Ends a message that waits behind the window and was never sent.
    fn end_behind(&mut self, lane: usize, seq: Seq, id: MessageId, outcome: Outcome, ctx: &mut Ctx) {
        let this = &mut self.lanes[lane];
        this.behind.messages -= 1;
        this.ended_behind.insert(seq, seq);
        self.end_on_disk(lane, id, 0, outcome, ctx);
    }

    /// Messages that were just loaded ended with their receiver's store.
    pub(crate) fn bury(&mut self, lane: usize, dead: Vec<Queued>, ctx: &mut Ctx) {
        for queued in dead {
            let outcome = self.lost_outcome(lane, ctx);
            self.end_on_disk(lane, queued.message.id, queued.attempts, outcome, ctx);
        }
    }

    /// Messages that were just loaded and whose cancellation was asked for, and that no receiver can have a say in.
    pub(crate) fn end_cancelled(&mut self, lane: usize, ctx: &mut Ctx) {
        let this = &self.lanes[lane];
        let from = if this.wants_ack() { this.row.sent.next() } else { Seq(0) };
        let unsent = this.window.range(from..);
        let cancelled: Vec<Seq> = unsent.filter(|(_, outgoing)| outgoing.cancel).map(|(seq, _)| *seq).collect();
        for seq in cancelled {
            let outcome = Outcome::bare(Final::Cancelled, Some("cancelled before it was sent"), ctx.now.wall);
            self.end(lane, seq, Arc::new(outcome), ctx);
        }
    }

    /// NACK messages with these numbers were handed to the broker; there is nothing more to hear of them. What was
    /// published before and got lost on its way to the broker is not among them.
    pub(crate) fn handed_over(&mut self, lane: usize, seqs: &[Seq], ctx: &mut Ctx) {
        for seq in seqs {
            let this = &self.lanes[lane];
            let sent = this.window.get(seq).is_some_and(|outgoing| outgoing.state == State::Sent);
            if sent && !this.queue.contains(seq) && !this.wants_ack() {
                self.end(lane, *seq, Arc::new(Outcome::bare(Final::Sent, None, ctx.now.wall)), ctx);
            }
        }
    }

    fn lost_outcome(&self, lane: usize, ctx: &Ctx) -> Outcome {
        let reason = format!(
            "{} came back with another store; whether it ran there is unknown, so it is not run again",
            self.lanes[lane].row.lane.peer
        );
        Outcome::bare(Final::Interrupted, Some(&reason), ctx.now.wall)
    }

    /// The receiver's store is gone: what was sent to it and has not ended may have run. Answers with the messages whose
    /// output was being fetched; how they ended is known.
    pub(crate) fn lost(&mut self, peer: usize, ctx: &mut Ctx) -> Vec<MessageId> {
        let mut fetching = Vec::new();
        for lane in 0..self.lanes.len() {
            let this = &mut self.lanes[lane];
            if this.peer != peer || !this.wants_ack() {
                continue;
            }
            this.row.lost = this.row.sent;
            ctx.write(Write::OutLane(this.row.clone()));
            let sent: Vec<Seq> = this.window.range(..=this.row.sent).map(|(seq, _)| *seq).collect();
            for seq in sent {
                let this = &mut self.lanes[lane];
                let Some(outgoing) = this.window.get_mut(&seq) else { continue };
                if outgoing.state == State::Fetching {
                    fetching.push(outgoing.message.id);
                } else if outgoing.message.options.rerun {
                    if this.queue.insert(seq) && outgoing.state == State::Sent {
                        this.unacked -= 1;
                    }
                    outgoing.taken = false;
                    // What was sent to the lost store was an attempt like any other; this one has its whole time.
                    let timeout = outgoing.message.options.timeout;
                    outgoing.due = if outgoing.limited() { ctx.now.mono.after(timeout) } else { ctx.now.mono };
                    self.note(lane, seq, State::Queued, Some("its receiver's store is gone"), ctx);
                } else {
                    let outcome = self.lost_outcome(lane, ctx);
                    self.end(lane, seq, Arc::new(outcome), ctx);
                }
            }
        }
        fetching
    }
}

/// Writes down that the operator wants a message back.
fn want_back(id: MessageId, ctx: &mut Ctx) {
    if !planted(Bug::CancellationInMemoryOnly) {
        ctx.write(Write::CancelWanted(id));
    }
}

/// Whether the receiver knows by itself that the message has ended: then its lane needs no word of ours to go on.
fn decided_by_receiver(outgoing: &Outgoing, outcome: &Outcome) -> bool {
    outgoing.state == State::Fetching || !matches!(outcome.state, Final::Undeliverable | Final::Sent)
}
