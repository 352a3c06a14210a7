//! What receipts mean for the outbox: which message is how far, whose output is to be fetched, what can be confirmed.

use std::sync::Arc;

use super::Node;
use crate::event::{Control, Receipts, Ticket};
use crate::fetch::Source;
use crate::message::{Incarnation, MessageId, Seq};
use crate::outcome::{Final, Outcome, Progress, Receipt, State};
use crate::planted::{Bug, planted};
use crate::step::Effect;

/// Who tells, and the number under which he has the message.
type Told = (Incarnation, Ticket);

impl Node {
    pub(super) fn receipts(&mut self, receipts: Receipts) {
        let Receipts { from, to, incarnation, epoch, commits, receipts, sealed: seal } = receipts;
        if to != self.ctx.me.epoch {
            return;
        }
        // A store that is an old copy may not know the node any more that still owes it a result.
        let Some(peer) = self.peers.get(&from) else { return };
        self.peers.heard(peer, epoch, incarnation, commits, &mut self.ctx);
        let is_known = self.peers.is_known(peer, epoch, incarnation);
        let writes_before = self.ctx.step.writes.len();
        let (mut confirm, mut touched) = (Vec::new(), Vec::new());
        for (ticket, receipt) in receipts {
            if let Some((lane, over)) = self.receipt(peer, is_known, (incarnation, ticket), receipt) {
                if over && ticket != Ticket(0) {
                    confirm.push(ticket);
                }
                if let Some(lane) = lane.filter(|lane| !touched.contains(lane)) {
                    touched.push(lane);
                }
            }
        }
        if !confirm.is_empty() {
            let control = Control::Confirm(confirm);
            self.ctx.effect(Effect::Control { to: from, incarnation: Some(incarnation), control, seal });
        }
        for lane in touched {
            self.pump(lane);
        }
        if self.ctx.step.writes.len() > writes_before {
            self.peers.save(peer, &mut self.ctx);
        }
    }

    /// Answers with the message's lane, and whether the receiver can forget the message; none where it is not known
    /// whether the message is still open. `is_known`: from the process that we know.
    fn receipt(&mut self, peer: usize, is_known: bool, told: Told, receipt: Receipt) -> Option<(Option<usize>, bool)> {
        let oldest = || self.outbox.index.values().next().copied().filter(|_| planted(Bug::ReceiptForAnother));
        let Some((lane, seq)) = oldest().or_else(|| self.outbox.index.get(&receipt.id).copied()) else {
            // Not open in any window: it has ended, unless a part of our lanes is on disk only.
            return self.outbox.whole(peer).then_some((None, true));
        };
        if self.outbox.lanes[lane].peer != peer {
            return None;
        }
        match receipt.progress {
            // What another process had may be gone with its store, and one that is newer says it again when it is asked.
            Progress::Stored | Progress::Running if !is_known => return None,
            Progress::Stored => self.outbox.acked(lane, seq, State::Stored, &mut self.ctx),
            Progress::Running => self.outbox.acked(lane, seq, State::Running, &mut self.ctx),
            Progress::Final(outcome) => {
                return Some((Some(lane), self.final_receipt(lane, seq, told, outcome)));
            }
        }
        Some((Some(lane), false))
    }

    /// Whether the result is complete here.
    fn final_receipt(&mut self, lane: usize, seq: Seq, (incarnation, ticket): Told, outcome: Outcome) -> bool {
        let outcome = Arc::new(outcome);
        if !outcome.stdout.is_bulk() && !outcome.stderr.is_bulk() {
            self.outbox.end(lane, seq, outcome, &mut self.ctx);
            return true;
        }
        self.outbox.fetching(lane, seq, &mut self.ctx);
        let this = &self.outbox.lanes[lane];
        let Some(outgoing) = this.window.get(&seq) else { return false };
        let (id, peer, name) = (outgoing.message.id, this.peer, this.row.lane.peer.clone());
        let seal = outgoing.message.options.seal;
        let source = Source { peer, name, incarnation, ticket, seal };
        self.fetches.start(id, source, outcome, self.peers.live(peer), &mut self.ctx);
        false
    }

    /// The broker will never take a message: there is no use in trying again.
    pub(super) fn unsendable(&mut self, id: MessageId, why: &str) {
        let Some((lane, seq)) = self.outbox.index.get(&id).copied() else { return };
        let outcome = Outcome::bare(Final::Undeliverable, Some(why), self.ctx.now.wall);
        self.outbox.end(lane, seq, Arc::new(outcome), &mut self.ctx);
        self.pump(lane);
    }

    /// The output of a message is here, or given up: the message has ended.
    pub(super) fn end_fetched(&mut self, id: MessageId, peer: usize, source: Option<&Source>, outcome: Arc<Outcome>) {
        let Some((lane, seq)) = self.outbox.index.get(&id).copied() else { return };
        self.outbox.end(lane, seq, outcome, &mut self.ctx);
        if let (Some(Source { ticket, seal, .. }), Some(live)) = (source, self.peers.live(peer)) {
            let to = self.outbox.lanes[lane].row.lane.peer.clone();
            let control = Control::Confirm(vec![*ticket]);
            self.ctx.effect(Effect::Control { to, incarnation: Some(live), control, seal: *seal });
        }
        self.pump(lane);
    }
}
