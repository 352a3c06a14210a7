//! Proofs of life, and what is done where none comes.
//!
//! A node that has our message on disk owes us a word only when the message ends, which may take days. If its store is
//! lost meanwhile, nobody there knows that it owes us anything: so we ask now and then, for as long as something of ours
//! is there.

use super::{Peers, Session};
use crate::ctx::Ctx;
use crate::limits::LOOK_AFTER;
use crate::message::{Epoch, Incarnation};
use crate::step::{Presence, Report};
use crate::timers::Timer;

impl Peers {
    /// Something of ours is at this peer: it is looked after.
    pub(crate) fn look_after(&mut self, peer: usize, ctx: &mut Ctx) {
        if matches!(self.list[peer].session, Session::Live(_)) && !ctx.timers.is_set(Timer::Peer(peer)) {
            let pause = ctx.rng.jitter(LOOK_AFTER);
            ctx.timers.set(Timer::Peer(peer), ctx.now.mono.after(pause));
        }
    }

    /// Asks a peer with which we speak whether it is still the same, unless it was heard of just now.
    pub(super) fn look(&mut self, peer: usize, ctx: &mut Ctx) {
        if ctx.now.mono.since(self.list[peer].heard_at) < LOOK_AFTER / 2 {
            self.look_after(peer, ctx);
        } else {
            self.probe(peer, ctx);
        }
    }

    /// The peer's store is at least so far. An old copy of it will have a lower counter.
    pub(crate) fn heard(&mut self, peer: usize, epoch: Epoch, incarnation: Incarnation, commits: u64, ctx: &mut Ctx) {
        let this = &mut self.list[peer];
        if this.row.epoch == Some(epoch) && this.row.incarnation == Some(incarnation) {
            this.row.commits = this.row.commits.max(commits);
            this.heard_at = ctx.now.mono;
        } else if matches!(this.session, Session::Live(_)) && !self.is_contested(peer, ctx) {
            // Somebody else speaks in its name: who is there now?
            self.probe(peer, ctx);
        }
        self.alive(peer, ctx);
    }

    /// Whether it was found out just now that two processes use the peer's name, and that the one we speak with lives. Each
    /// word of the other one would be a reason to ask again, and each answer brings what is owed to us.
    pub(super) fn is_contested(&self, peer: usize, ctx: &Ctx) -> bool {
        ctx.now.mono < self.list[peer].contested_until
    }

    /// The peer has sent something by itself: if we were waiting for it to come back, we wait no longer.
    pub(crate) fn stirred(&mut self, peer: usize, wanted: bool, ctx: &mut Ctx) {
        self.alive(peer, ctx);
        if wanted && self.list[peer].session == Session::None {
            self.list[peer].failures = 0;
            ctx.timers.cancel(Timer::Peer(peer));
            self.want(peer, ctx);
        }
    }

    /// A proof of life.
    pub(crate) fn alive(&mut self, peer: usize, ctx: &mut Ctx) {
        self.list[peer].row.seen = Some(ctx.now.wall);
        self.set_presence(peer, Presence::Online(ctx.now.wall), ctx);
    }

    pub(super) fn set_presence(&mut self, peer: usize, presence: Presence, ctx: &mut Ctx) {
        let this = &mut self.list[peer];
        let changed = std::mem::discriminant(&this.presence) != std::mem::discriminant(&presence);
        if changed || matches!(presence, Presence::Online(_)) {
            this.presence = presence;
        }
        if changed {
            ctx.report(Report::Presence { peer: this.row.name.clone(), presence });
        }
    }
}
