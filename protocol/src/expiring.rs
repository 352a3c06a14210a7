//! Deadlines of messages that wait in the inbox. A message ends when its deadline passes, wherever it waits in its lane:
//! behind one that hangs, or behind one that has not come.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ctx::Ctx;
use crate::event::Ticket;
use crate::inbox::{InKey, Inbox, Incoming};
use crate::limits::{SWEEP_MESSAGES_MAX, SWEEP_PAUSE, WALL_RECHECK};
use crate::outbox::until;
use crate::outcome::{Final, Outcome};
use crate::planted::{Bug, planted};
use crate::time::Wall;
use crate::timers::Timer;

/// The deadlines of all that wait.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(BTreeSet<(Wall, Ticket)>);

impl Deadlines {
    /// A message waits.
    pub(crate) fn add(&mut self, incoming: &Incoming) {
        if let Some(deadline) = incoming.message.options.deadline {
            self.0.insert((deadline, incoming.ticket));
        }
    }

    /// A message waits no longer.
    pub(crate) fn remove(&mut self, incoming: &Incoming) {
        if let Some(deadline) = incoming.message.options.deadline {
            self.0.remove(&(deadline, incoming.ticket));
        }
    }

    /// Comes back when the earliest has passed; sooner than that to see a clock that has jumped.
    pub(crate) fn arm(&self, ctx: &mut Ctx) {
        if let Some((deadline, _)) = self.0.first() {
            // At its deadline a message may still start.
            let wait = until(ctx.now.wall, *deadline) + Duration::from_millis(1);
            ctx.timers.set_earlier(Timer::Waiting, ctx.now.mono.after(wait.min(WALL_RECHECK)));
        }
    }

    fn pop_late(&mut self, ctx: &Ctx) -> Option<Ticket> {
        let (deadline, ticket) = *self.0.first()?;
        if !is_late(deadline, ctx) || planted(Bug::ExpiredAtItsTurn) {
            return None;
        }
        self.0.pop_first();
        Some(ticket)
    }
}

impl Incoming {
    /// Whether it may not be started any more.
    pub(crate) fn is_late(&self, ctx: &Ctx) -> bool {
        self.message.options.deadline.is_some_and(|deadline| is_late(deadline, ctx))
    }
}

fn is_late(deadline: Wall, ctx: &Ctx) -> bool {
    deadline < ctx.now.wall && !planted(Bug::DeadlineIgnored)
}

impl Inbox {
    /// Ends what waits and whose deadline has passed, at most so many at once.
    pub(crate) fn expire_late(&mut self, ctx: &mut Ctx) {
        let mut touched: BTreeSet<InKey> = BTreeSet::new();
        let mut left = SWEEP_MESSAGES_MAX;
        while left > 0
            && let Some(ticket) = self.deadlines.pop_late(ctx)
        {
            left -= 1;
            if let Some((key, _)) = self.tickets.get(&ticket) {
                touched.insert(key.clone());
            }
            self.expire(ticket, ctx);
        }
        for key in touched {
            self.start(&key, ctx);
        }
        if left == 0 {
            ctx.timers.set(Timer::Waiting, ctx.now.mono.after(SWEEP_PAUSE));
        } else {
            self.deadlines.arm(ctx);
        }
    }

    /// The deadline of a message that waits has passed.
    pub(crate) fn expire(&mut self, ticket: Ticket, ctx: &mut Ctx) {
        let Some((key, seq)) = self.tickets.get(&ticket) else { return };
        let Some(incoming) = self.lanes.get(key).and_then(|lane| lane.entries.get(seq)) else { return };
        let (state, reason) = match incoming.again {
            false => (Final::Expired, "its deadline passed before its turn came"),
            true => {
                (Final::Interrupted, "the node stopped while it ran, and its deadline passed before it could run again")
            }
        };
        self.finish(ticket, Outcome::bare(state, Some(reason), ctx.now.wall), ctx);
    }
}
