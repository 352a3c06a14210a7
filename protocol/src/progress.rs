//! How far a message of the outbox has come: its time line, and when that is written down.

use std::sync::Arc;

use crate::ctx::Ctx;
use crate::limits::{HISTORY_MAX, PROGRESS_DELAY};
use crate::message::Seq;
use crate::outbox::Outbox;
use crate::outcome::State;
use crate::step::{Moment, Report, Write};
use crate::timers::Timer;

impl Outbox {
    /// Notes a change of state in the message's history, and that it should be written down if it lasts.
    pub(crate) fn note(&mut self, lane: usize, seq: Seq, state: State, note: Option<&str>, ctx: &mut Ctx) {
        let this = &mut self.lanes[lane];
        let Some(outgoing) = this.window.get_mut(&seq) else { return };
        outgoing.state = state.clone();
        push(&mut outgoing.history, Moment { at: ctx.now.wall, state: state.clone(), note: note.map(Arc::from) });
        outgoing.dirty = true;
        self.dirty.insert(outgoing.message.id);
        if !ctx.timers.is_set(Timer::Progress) {
            ctx.timers.set(Timer::Progress, ctx.now.mono.after(PROGRESS_DELAY));
        }
        let (id, attempts, sealed) = (outgoing.message.id, outgoing.attempts, outgoing.message.options.seal);
        let lane = this.row.lane.clone();
        ctx.report(Report::Out { id, lane, state, attempts, outcome: None, sealed });
    }

    /// Writes down how far messages have come that did not end meanwhile.
    pub(crate) fn write_progress(&mut self, ctx: &mut Ctx) {
        for id in std::mem::take(&mut self.dirty) {
            if let Some((lane, seq)) = self.index.get(&id).copied() {
                self.write_progress_of(lane, seq, ctx);
            }
        }
    }

    /// Writes down how far a message has come.
    pub(crate) fn write_progress_of(&mut self, lane: usize, seq: Seq, ctx: &mut Ctx) {
        let Some(outgoing) = self.lanes[lane].window.get_mut(&seq) else { return };
        outgoing.dirty = false;
        let (id, state, attempts) = (outgoing.message.id, outgoing.state.clone(), outgoing.attempts);
        let history = outgoing.history.clone();
        ctx.write(Write::Progress { id, state, attempts, history });
    }
}

/// Adds to a history; when it is full, the second oldest entry goes, so that the first one stays.
pub(crate) fn push(history: &mut Vec<Moment>, moment: Moment) {
    if history.len() >= HISTORY_MAX {
        history.remove(1);
    }
    history.push(moment);
}
