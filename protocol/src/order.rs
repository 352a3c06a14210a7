//! Whose turn it is in an incoming lane. A message may start when every number below its own is accounted for: started
//! here, seen to end, or known never to come. Each message brings the number before it, which closes the gap between the
//! two; so the chain holds over messages that ended out of their turn and are forgotten long since.

use crate::inbox::InLane;
use crate::message::Seq;
use crate::planted::{Bug, planted};
use crate::step::InState;

impl InLane {
    /// Takes in that nothing between the two (both excluded) will ever come. Answers whether that was news.
    pub(crate) fn close_gap(&mut self, after: Seq, before: Seq) -> bool {
        if before <= after.next() {
            return false;
        }
        let last = Seq(before.0 - 1);
        let known = self.seen.covers(after.next(), last);
        self.seen.insert(after.next(), last);
        !known
    }

    /// Whether everything that has to start before this message has started.
    pub(crate) fn in_order(&mut self, seq: Seq) -> bool {
        if planted(Bug::OrderIgnored) {
            return true;
        }
        while self.ready < seq
            && let Some(next) = self.past(self.ready)
        {
            self.ready = next;
        }
        self.ready >= seq
    }

    /// Whether nothing has to start between `before`, which starts now, and `seq`.
    pub(crate) fn follows(&self, before: Seq, seq: Seq) -> bool {
        let mut at = before.next();
        while at < seq {
            match self.past(at) {
                Some(next) => at = next,
                None => return false,
            }
        }
        true
    }

    /// The number after those that are accounted for from `seq` on; none if `seq` itself is not.
    fn past(&self, seq: Seq) -> Option<Seq> {
        if let Some(last) = self.seen.range_end(seq) {
            return Some(last.next());
        }
        let started = self.entries.get(&seq).is_some_and(|incoming| incoming.state != InState::Stored);
        started.then(|| seq.next())
    }

    /// Whether something waits here for messages that have not come.
    pub(crate) fn waits_for_others(&mut self) -> bool {
        self.waiting.first().copied().is_some_and(|first| !self.in_order(first))
            || self.waiting.last().copied().is_some_and(|last| !self.follows(self.ready, last))
    }
}
