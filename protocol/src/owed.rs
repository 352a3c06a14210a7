//! Final receipts that their senders have not confirmed. They are repeated until they are: when the sender shows itself,
//! when our link comes back, and after a pause that grows.

use std::collections::{BTreeMap, BTreeSet};

use crate::ctx::Ctx;
use crate::event::Ticket;
use crate::limits::{BACKOFF_MAX, CONFIRM_TIMEOUT, RECEIPTS_UNCONFIRMED_MAX};
use crate::message::Epoch;
use crate::name::NodeName;
use crate::planted::{Bug, planted};
use crate::retry::doubled;
use crate::timers::Timer;

/// What is owed to one store of one sender.
#[derive(Debug)]
struct Account {
    /// Told, not confirmed.
    told: BTreeSet<Ticket>,
    /// Not told yet: too many are on their way, or we have just started.
    untold: BTreeSet<Ticket>,
    /// Repetitions in a row that brought nothing.
    failures: u32,
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
        let (told, untold) = (BTreeSet::new(), BTreeSet::new());
        let account = Account { told, untold, failures: 0 };
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
        if !ctx.timers.is_set(Timer::Owed(index)) {
            ctx.timers.set(Timer::Owed(index), ctx.now.mono.after(CONFIRM_TIMEOUT));
        }
        if !ctx.link || account.told.len() >= RECEIPTS_UNCONFIRMED_MAX {
            account.untold.insert(ticket);
            return false;
        }
        account.told.insert(ticket);
        true
    }

    /// A result is confirmed.
    pub(crate) fn confirmed(&mut self, sender: &NodeName, epoch: Epoch, ticket: Ticket, ctx: &mut Ctx) {
        let Some(index) = self.by_sender.get(&(sender.clone(), epoch)).copied() else { return };
        let account = &mut self.accounts[index];
        account.told.remove(&ticket);
        account.untold.remove(&ticket);
        account.failures = 0;
        if account.told.is_empty() && account.untold.is_empty() {
            ctx.timers.cancel(Timer::Owed(index));
        } else if account.told.is_empty() {
            // Everything that was on its way has arrived: the next ones needn't wait.
            ctx.timers.set(Timer::Owed(index), ctx.now.mono);
        } else {
            ctx.timers.set(Timer::Owed(index), ctx.now.mono.after(CONFIRM_TIMEOUT));
        }
    }

    /// The sender has shown itself: everything is told again.
    pub(crate) fn shown(&mut self, sender: &NodeName, epoch: Epoch, ctx: &mut Ctx) -> Vec<Ticket> {
        let Some(index) = self.by_sender.get(&(sender.clone(), epoch)).copied() else { return Vec::new() };
        self.accounts[index].failures = 0;
        self.repeat(index, ctx)
    }

    /// Our link is back: everybody is told again.
    pub(crate) fn link_up(&mut self, ctx: &mut Ctx) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        for index in 0..self.accounts.len() {
            self.accounts[index].failures = 0;
            tickets.extend(self.repeat(index, ctx));
        }
        tickets
    }

    /// No confirmation came: what is to be told again.
    pub(crate) fn timer(&mut self, index: usize, ctx: &mut Ctx) -> Vec<Ticket> {
        if !self.accounts[index].told.is_empty() {
            self.accounts[index].failures += 1;
        }
        self.repeat(index, ctx)
    }

    fn repeat(&mut self, index: usize, ctx: &mut Ctx) -> Vec<Ticket> {
        let account = &mut self.accounts[index];
        if !ctx.link || planted(Bug::ReceiptsNotRepeated) {
            return Vec::new();
        }
        while account.told.len() < RECEIPTS_UNCONFIRMED_MAX {
            let Some(ticket) = account.untold.pop_first() else { break };
            account.told.insert(ticket);
        }
        if account.told.is_empty() {
            return Vec::new();
        }
        let pause = ctx.rng.jitter(doubled(CONFIRM_TIMEOUT, account.failures, BACKOFF_MAX));
        ctx.timers.set(Timer::Owed(index), ctx.now.mono.after(pause));
        account.told.iter().copied().collect()
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

    /// How many results are not confirmed.
    pub(crate) fn count(&self) -> usize {
        self.accounts.iter().map(|account| account.told.len() + account.untold.len()).sum()
    }
}
