//! What a sender does about messages that are at their receiver and have not ended, each time that it looks after that
//! receiver: a receiver that has lost its word for us, or waits for one of ours, says so only when it is asked.

use crate::ctx::Ctx;
use crate::limits::{RUNNING_LOOKS_MAX, RUNNING_PER_LANE_MAX};
use crate::message::{Incarnation, Seq};
use crate::outbox::Outbox;
use crate::outcome::State;
use crate::sending::item;
use crate::step::Effect;

/// The first message of a lane, at its receiver, as it was found when the receiver was looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) first: Seq,
    /// Whether it runs there.
    pub(crate) runs: bool,
    /// How often it was found so before.
    pub(crate) times: u32,
}

impl Outbox {
    /// Looks after a lane whose first message is at its receiver. If it has not started since the last look, it goes out
    /// once more, with what we know now of those before it; true then. What runs is asked for, more and more rarely: the
    /// receiver may have told its end to a process that was here before us, whose store was newer than ours.
    pub(crate) fn nudge(&mut self, lane: usize, live: Incarnation, ctx: &mut Ctx) -> bool {
        let this = &mut self.lanes[lane];
        let now = this.window.first_key_value().and_then(|(seq, first)| match first.state {
            State::Stored => Some(Look { first: *seq, runs: false, times: 0 }),
            State::Running => Some(Look { first: *seq, runs: true, times: 0 }),
            State::Queued | State::Sent | State::Fetching | State::Final(_) => None,
        });
        let same = |look: &Look, before: Look| (look.first, look.runs) == (before.first, before.runs);
        let now = now.map(|look| match this.looked {
            Some(before) if same(&look, before) => Look { times: before.times.saturating_add(1), ..look },
            Some(_) | None => look,
        });
        this.looked = now;
        match now {
            Some(Look { runs: true, times, .. }) => {
                let is_due = times > 1 && (times.is_power_of_two() || times % RUNNING_LOOKS_MAX == 0);
                if is_due {
                    self.ask_after_running(lane, live, ctx);
                }
                false
            }
            Some(Look { first, runs: false, times }) if times > 0 => {
                this.send_again(first);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Sends what runs once more, as a question: the receiver answers with how far it is, and never runs it again.
    fn ask_after_running(&self, lane: usize, live: Incarnation, ctx: &mut Ctx) {
        let this = &self.lanes[lane];
        let running = this.window.iter().filter(|(_, outgoing)| outgoing.state == State::Running);
        for (seq, outgoing) in running.take(RUNNING_PER_LANE_MAX) {
            let item = item(*seq, this.before(*seq), outgoing);
            ctx.effect(Effect::Publish { lane: this.row.lane.clone(), to: Some(live), floor: this.floor(), item });
        }
    }
}
