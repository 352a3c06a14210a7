//! What is due because time has passed, each kind of timer for its machine.

use super::Node;
use crate::limits::WALL_RECHECK;
use crate::step::Effect;
use crate::timers::Timer;

impl Node {
    pub(super) fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Lane(lane) => {
                let in_vain = self.outbox.lane_timer(lane, &mut self.ctx);
                let peer = self.outbox.lanes[lane].peer;
                // One question to the node instead of a copy of every message: the answer brings the rest.
                if in_vain && self.peers.live(peer).is_some() && self.outbox.lanes[lane].wants_ack() {
                    self.peers.probe(peer, &mut self.ctx);
                }
                self.pump(lane);
            }
            Timer::Peer(peer) => {
                let wanted = self.wanted(peer);
                self.nudge(peer);
                let change = self.peers.timer(peer, wanted, &mut self.ctx);
                self.changed(peer, change);
            }
            Timer::Owed(account) => {
                let tickets = self.inbox.owed.timer(account, &mut self.ctx);
                self.tell(&tickets);
            }
            Timer::Fetch(id) => {
                let live = self.fetching_from(id);
                self.fetches.timer(id, live, &mut self.ctx);
                if let Some(peer) = self.fetches.all.get(&id).map(|fetch| fetch.source.peer) {
                    self.peers.want(peer, &mut self.ctx);
                }
            }
            Timer::Deadline => {
                if self.next_deadline.is_some_and(|deadline| deadline <= self.ctx.now.wall) {
                    self.ctx.effect(Effect::Sweep(self.ctx.now.wall));
                    self.ctx.timers.set(Timer::Deadline, self.ctx.now.mono.after(WALL_RECHECK));
                } else {
                    self.arm_deadline();
                }
            }
            Timer::Waiting => self.inbox.expire_late(&mut self.ctx),
            Timer::Progress => self.outbox.write_progress(&mut self.ctx),
        }
    }

    /// Looks after the lanes whose first message is at the peer: it may wait there for one that we have closed.
    fn nudge(&mut self, peer: usize) {
        let Some(live) = self.peers.live(peer) else { return };
        let lanes: Vec<usize> = self.outbox.owing.get(&peer).into_iter().flatten().copied().collect();
        for lane in lanes {
            if self.outbox.nudge(lane, live, &mut self.ctx) {
                self.pump(lane);
            }
        }
    }
}
