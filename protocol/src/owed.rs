//! Receipts that their senders have to answer: final ones, until they are confirmed, and those of messages that wait for
//! one that has not come, until it comes. They are repeated: when the sender shows itself, when our link comes back, and
//! after a pause that grows. Each waits for its own answer; that others are answered meanwhile says nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ctx::Ctx;
use crate::event::Ticket;
use crate::limits::{BACKOFF_MAX, CONFIRM_TIMEOUT, RECEIPTS_UNCONFIRMED_MAX};
use crate::message::Epoch;
use crate::name::NodeName;
use crate::planted::{Bug, planted};
use crate::retry::doubled;
use crate::time::Mono;
use crate::timers::Timer;

/// What is owed to one store of one sender.
#[derive(Debug)]
struct Account {
    /// Told, not confirmed; and when each is told again.
    told: BTreeMap<Ticket, Mono>,
    /// Not told yet: too many are on their way, or we have just started.
    untold: BTreeSet<Ticket>,
    /// Rounds of repetitions in a row that brought nothing.
    failures: u32,
    /// When the last round is over: whatever is repeated until then belongs to it.
    round: Mono,
}

impl Account {
    /// The sender is there, or may be: the pauses begin anew.
    fn begin(&mut self) {
        self.failures = 0;
        self.round = Mono(0);
    }

    /// The pause before the next repetition, before jitter.
    fn pause(&self) -> Duration {
        doubled(CONFIRM_TIMEOUT, self.failures, BACKOFF_MAX)
    }
}

/// What is owed to all.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    accounts: Vec<Account>,
    by_sender: BTreeMap<(NodeName, Epoch), usize>,
    /// Places of stores that are forgotten.
    free: Vec<usize>,
}

impl Owed {
    fn account(&mut self, sender: &NodeName, epoch: Epoch) -> usize {
        if let Some(index) = self.by_sender.get(&(sender.clone(), epoch)) {
            return *index;
        }
        let (told, untold) = (BTreeMap::new(), BTreeSet::new());
        let account = Account { told, untold, failures: 0, round: Mono(0) };
        let index = self.free.pop().unwrap_or(self.accounts.len());
        match self.accounts.get_mut(index) {
            Some(place) => *place = account,
            None => self.accounts.push(account),
        }
        self.by_sender.insert((sender.clone(), epoch), index);
        index
    }

    /// Notes a result that an earlier process left.
    pub(crate) fn add(&mut self, sender: &NodeName, epoch: Epoch, ticket: Ticket) {
        let account = self.account(sender, epoch);
        self.accounts[account].untold.insert(ticket);
    }

    /// Notes a result; answers whether it may be told now.
    pub(crate) fn owe(&mut self, sender: &NodeName, epoch: Epoch, ticket: Ticket, ctx: &mut Ctx) -> bool {
        let index = self.account(sender, epoch);
        let account = &mut self.accounts[index];
        let again = ctx.now.mono.after(CONFIRM_TIMEOUT);
        if !ctx.timers.is_set(Timer::Owed(index)) {
            ctx.timers.set(Timer::Owed(index), again);
        }
        if !ctx.link || account.told.len() >= RECEIPTS_UNCONFIRMED_MAX {
            account.untold.insert(ticket);
            return false;
        }
        account.told.insert(ticket, again);
        true
    }

    /// A result is confirmed.
    pub(crate) fn confirmed(&mut self, sender: &NodeName, epoch: Epoch, ticket: Ticket, ctx: &mut Ctx) {
        let Some(index) = self.by_sender.get(&(sender.clone(), epoch)).copied() else { return };
        let account = &mut self.accounts[index];
        account.told.remove(&ticket);
        account.untold.remove(&ticket);
        let silent = account.failures > 0;
        account.begin();
        if account.told.is_empty() && account.untold.is_empty() {
            ctx.timers.cancel(Timer::Owed(index));
        } else if account.told.is_empty() {
            // Everything that was on its way has arrived: the next ones needn't wait.
            ctx.timers.set(Timer::Owed(index), ctx.now.mono);
        } else if silent {
            // The sender answers again: what else it has not answered needn't wait for the end of a long pause.
            let soon = ctx.now.mono.after(CONFIRM_TIMEOUT);
            account.told.values_mut().for_each(|again| *again = soon.min(*again));
            ctx.timers.set_earlier(Timer::Owed(index), soon);
        }
    }

    /// The sender has shown itself: everything is told again.
    pub(crate) fn shown(&mut self, sender: &NodeName, epoch: Epoch, ctx: &mut Ctx) -> Vec<Ticket> {
        let Some(index) = self.by_sender.get(&(sender.clone(), epoch)).copied() else { return Vec::new() };
        self.accounts[index].begin();
        self.repeat(index, true, ctx)
    }

    /// Our link is back: everybody is told again.
    pub(crate) fn link_up(&mut self, ctx: &mut Ctx) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        for index in 0..self.accounts.len() {
            self.accounts[index].begin();
            tickets.extend(self.repeat(index, true, ctx));
        }
        tickets
    }

    /// The time of some is over: what is to be told again, or at last.
    pub(crate) fn timer(&mut self, index: usize, ctx: &mut Ctx) -> Vec<Ticket> {
        let account = &mut self.accounts[index];
        if account.told.values().any(|again| *again <= ctx.now.mono) && account.round <= ctx.now.mono {
            account.failures += 1;
            // Less than the pause, which has its jitter.
            account.round = ctx.now.mono.after(account.pause() / 2);
        }
        self.repeat(index, false, ctx)
    }

    /// What is told again now: all of it, or that whose time is over.
    fn repeat(&mut self, index: usize, all: bool, ctx: &mut Ctx) -> Vec<Ticket> {
        let account = &mut self.accounts[index];
        if !ctx.link || planted(Bug::ReceiptsNotRepeated) {
            return Vec::new();
        }
        while account.told.len() < RECEIPTS_UNCONFIRMED_MAX {
            let Some(ticket) = account.untold.pop_first() else { break };
            account.told.insert(ticket, ctx.now.mono);
        }
        let Some(mut next) = account.told.values().min().copied() else { return Vec::new() };
        let mut tickets = Vec::new();
        if all || next <= ctx.now.mono {
            let again_at = ctx.now.mono.after(ctx.rng.jitter(account.pause()));
            // What would be told a moment later goes along: one publish instead of one for each.
            let along = ctx.now.mono.after(CONFIRM_TIMEOUT / 2);
            next = again_at;
            for (ticket, again) in &mut account.told {
                if all || *again <= along {
                    *again = again_at;
                    tickets.push(*ticket);
                }
                next = next.min(*again);
            }
        }
        ctx.timers.set(Timer::Owed(index), next);
        tickets
    }

    /// The sender has nothing to say about this store of its any more.
    pub(crate) fn drop_epoch(&mut self, sender: &NodeName, epoch: Epoch, ctx: &mut Ctx) {
        if let Some(index) = self.by_sender.remove(&(sender.clone(), epoch)) {
            self.accounts[index].told.clear();
            self.accounts[index].untold.clear();
            ctx.timers.cancel(Timer::Owed(index));
            self.free.push(index);
        }
    }

    /// How many are not answered.
    pub(crate) fn count(&self) -> usize {
        self.accounts.iter().map(|account| account.told.len() + account.untold.len()).sum()
    }
}
