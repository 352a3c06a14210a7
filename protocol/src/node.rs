//! One steward instance, as a state machine. This file only routes: each event goes to the machine that it is for, and
//! what one machine's answer means for another is passed on. The machines decide.

use crate::ctx::Ctx;
use crate::event::{Control, Envelope, Event, Hello, Occasion, Ticket, Verdict};
use crate::fetch::Fetches;
use crate::inbox::{InKey, Inbox};
use crate::limits::WALL_RECHECK;
use crate::message::{Incarnation, MessageId, Seq};
use crate::name::{Lane, NodeName};
use crate::outbox::{Outbox, until};
use crate::planted::{Bug, planted};
use crate::presence::{Change, Peers};
use crate::snapshot::{Identity, Snapshot, Start};
use crate::step::{Effect, Report, Step};
use crate::time::{Mono, Now, Wall};
use crate::timers::Timer;

mod due;

mod receipts;

/// One steward instance.
///
/// [`Node::new`] takes over what the last process left; [`Node::step`] takes in what happens and gives out what is to be
/// written and done; [`Node::wake_at`] says when to come back without anything having happened. The caller makes the
/// writes of a step durable before it performs any effect of it.
#[derive(Debug)]
pub struct Node {
    pub(crate) ctx: Ctx,
    pub(crate) peers: Peers,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) fetches: Fetches,
    pub(crate) next_deadline: Option<Wall>,
    /// The processes that began on our store.
    starts: Vec<Start>,
}

impl Node {
    /// Goes on where the last process stopped. The step holds what that needs written and done.
    pub fn new(now: Now, identity: Identity, mut snapshot: Snapshot) -> (Self, Step) {
        let mut ctx = Ctx::new(now, identity);
        let mut peers = Peers::new(std::mem::take(&mut snapshot.peers));
        let outbox = Outbox::new(now.wall, &mut snapshot, &mut peers);
        let inbox = Inbox::new(&mut snapshot, &mut ctx);
        let (fetches, next_deadline) = (Fetches::default(), snapshot.next_deadline);
        let mut node = Self { ctx, peers, outbox, inbox, fetches, next_deadline, starts: snapshot.starts };
        let keys: Vec<InKey> = node.inbox.lanes.keys().cloned().collect();
        for key in keys {
            node.inbox.start(&key, &mut node.ctx);
        }
        node.arm_deadline();
        let step = std::mem::take(&mut node.ctx.step);
        (node, step)
    }

    /// When to come back with [`Event::Tick`] at the latest.
    pub fn wake_at(&self) -> Option<Mono> {
        self.ctx.timers.next()
    }

    /// Takes in what has happened; gives out what is to be written, and then done.
    pub fn step(&mut self, now: Now, event: Event) -> Step {
        self.ctx.now = now;
        match event {
            Event::Tick => {}
            Event::Stopping => self.inbox.stopping = true,
            Event::LinkUp => self.link_up(),
            Event::LinkDown => self.link_down(),
            Event::Submit(message) => self.submit(message),
            Event::Cancel { id, lane, seq } => {
                if let Some(lane) = self.outbox.by_lane.get(&lane).copied() {
                    self.outbox.cancel(lane, seq, id, &mut self.ctx);
                    self.pump(lane);
                }
            }
            Event::Loaded { lane, messages, more } => {
                if let Some(lane) = self.outbox.by_lane.get(&lane).copied() {
                    let dead = self.outbox.loaded(lane, messages, more, self.ctx.now.mono);
                    self.outbox.bury(lane, dead, &mut self.ctx);
                    self.outbox.end_cancelled(lane, &mut self.ctx);
                    self.outbox.note_open(lane);
                    self.pump(lane);
                }
            }
            Event::Swept { due, next } => self.swept(due, next),
            Event::Envelope(envelope, verdicts) => self.envelope(envelope, verdicts),
            Event::Receipts(receipts) => self.receipts(receipts),
            Event::Asked { from, nonce, known } => self.answer(&from, nonce, known),
            Event::Control { from, to, control, sealed } => self.control(&from, to, control, sealed),
            Event::Hello(hello) => self.hello(&hello),
            Event::NoResponders(name) => {
                if let Some(peer) = self.peers.find(&name) {
                    let wanted = self.wanted(peer);
                    self.peers.nobody(peer, wanted, &mut self.ctx);
                    self.pump_peer(peer);
                }
            }
            Event::HandedOver { lane, seqs } => self.handed_over(&lane, &seqs),
            Event::Unsendable { id, why } => self.unsendable(id, &why),
            Event::Finished(ended) => self.inbox.finished(ended, &mut self.ctx),
            Event::Fetched { id, stream, have } => {
                let live = self.fetching_from(id);
                self.fetches.have(id, stream, have, live, &mut self.ctx);
            }
            Event::Sealed { id, stream, whole } => {
                if let Some((fetch, outcome)) = self.fetches.sealed(id, stream, whole, &mut self.ctx) {
                    self.end_fetched(id, fetch.source.peer, Some(&fetch.source), outcome);
                }
            }
        }
        while let Some(timer) = self.ctx.timers.pop(self.ctx.now.mono) {
            self.timer(timer);
        }
        std::mem::take(&mut self.ctx.step)
    }

    /// Whether something here waits for the peer.
    fn wanted(&self, peer: usize) -> bool {
        self.outbox.owes(peer) || self.fetches.wants(peer)
    }

    fn fetching_from(&self, id: MessageId) -> Option<Incarnation> {
        self.peers.live(self.fetches.all.get(&id)?.source.peer)
    }

    fn tell(&mut self, tickets: &[Ticket]) {
        for ticket in tickets {
            self.inbox.tell(*ticket, &mut self.ctx);
        }
    }

    fn pump(&mut self, lane: usize) {
        let peer = self.outbox.lanes[lane].peer;
        let live = self.peers.live(peer);
        self.outbox.pump(lane, live, &mut self.ctx);
        if self.outbox.owes(peer) {
            match live {
                None => self.peers.want(peer, &mut self.ctx),
                Some(_) => self.peers.look_after(peer, &mut self.ctx),
            }
        }
    }

    fn pump_peer(&mut self, peer: usize) {
        let lanes: Vec<usize> = self.outbox.owing.get(&peer).into_iter().flatten().copied().collect();
        for lane in lanes {
            self.pump(lane);
        }
    }

    fn link_up(&mut self) {
        self.ctx.link = true;
        self.ctx.effect(Effect::Announce(Occasion::Up));
        let owing: Vec<usize> = self.outbox.owing.keys().copied().collect();
        for peer in owing {
            self.peers.want(peer, &mut self.ctx);
            self.pump_peer(peer);
        }
        for lane in self.outbox.nack_open.clone() {
            self.pump(lane);
        }
        let tickets = self.inbox.owed.link_up(&mut self.ctx);
        self.tell(&tickets);
    }

    fn link_down(&mut self) {
        self.ctx.link = false;
        self.peers.link_down(&mut self.ctx);
        self.fetches.link_down();
        for lane in self.outbox.nack_open.clone() {
            self.outbox.resume(lane, &mut self.ctx);
        }
    }

    fn submit(&mut self, message: crate::message::Message) {
        let Some(peer) = self.peers.get_addressed(&message.to) else {
            return self.ctx.effect(Effect::Rejected(message.id, "too many nodes are known already"));
        };
        if let Some(deadline) = message.options.deadline {
            self.next_deadline = Some(self.next_deadline.map_or(deadline, |next| next.min(deadline)));
            self.arm_deadline();
        }
        let live = self.peers.live(peer).is_some();
        let lane = self.outbox.submit(message, peer, live, &mut self.ctx);
        self.pump(lane);
    }

    fn arm_deadline(&mut self) {
        if let Some(deadline) = self.next_deadline {
            let wait = until(self.ctx.now.wall, deadline).min(WALL_RECHECK);
            self.ctx.timers.set(Timer::Deadline, self.ctx.now.mono.after(wait));
        }
    }

    fn swept(&mut self, due: Vec<(MessageId, Lane, Seq)>, mut next: Option<Wall>) {
        for (id, lane, seq) in due {
            if let Some(lane) = self.outbox.by_lane.get(&lane).copied() {
                if self.outbox.expire(lane, seq, id, &mut self.ctx) {
                    next = Some(self.ctx.now.wall);
                }
                self.pump(lane);
            }
        }
        self.next_deadline = next;
        self.ctx.timers.cancel(Timer::Deadline);
        if next.is_some_and(|next| next <= self.ctx.now.wall) {
            self.ctx.timers.set(Timer::Deadline, self.ctx.now.mono.after(crate::limits::SWEEP_PAUSE));
        } else {
            self.arm_deadline();
        }
    }

    fn envelope(&mut self, envelope: Envelope, verdicts: Vec<Verdict>) {
        let from = envelope.from.clone();
        if !envelope.kind.wants_ack() {
            return self.inbox.unrecorded(envelope, verdicts, &mut self.ctx);
        }
        if envelope.to != Some(self.ctx.me.incarnation) && !planted(Bug::IncarnationIgnored) {
            return self.mistaken(&from);
        }
        let Some(peer) = self.peers.get(&from) else {
            return self.ctx.report(Report::Dropped { peer: from, why: "too many nodes" });
        };
        self.peers.alive(peer, &mut self.ctx);
        if let Some(key) = self.inbox.arrive(envelope, verdicts, &mut self.ctx) {
            self.inbox.start(&key, &mut self.ctx);
        }
    }

    /// Something was meant for another process with our name: its sender should ask who is here now.
    fn mistaken(&mut self, from: &NodeName) {
        let control = Control::Hello(self.introduce(Occasion::Mistaken));
        self.ctx.effect(Effect::Control { to: from.clone(), incarnation: None, control, seal: false });
    }

    fn introduce(&self, occasion: Occasion) -> Hello {
        Hello {
            from: self.ctx.me.name.clone(),
            epoch: self.ctx.me.epoch,
            incarnation: self.ctx.me.incarnation,
            commits_at_start: self.ctx.me.commits_at_start,
            occasion,
            info: "".into(),
        }
    }

    /// Answers a probe.
    fn answer(&mut self, from: &NodeName, nonce: u64, known: Option<Incarnation>) {
        let at_start = self.ctx.me.commits_at_start;
        let since = match known.map(|known| self.starts.iter().position(|start| start.incarnation == known)) {
            None => Some(at_start),
            Some(None) => None,
            Some(Some(at)) => Some(self.starts.get(at + 1).and_then(|next| next.commits).unwrap_or(at_start)),
        };
        let control = Control::Hello(self.introduce(Occasion::Answer { nonce, since }));
        self.ctx.effect(Effect::Control { to: from.clone(), incarnation: None, control, seal: false });
    }

    fn control(&mut self, from: &NodeName, to: Option<Incarnation>, control: Control, sealed: bool) {
        let Some(peer) = self.peers.get(from) else {
            return self.ctx.effect(Effect::Report(Report::Dropped { peer: from.clone(), why: "too many nodes" }));
        };
        if to.is_some_and(|to| to != self.ctx.me.incarnation) {
            // A probe for another process is that one's to answer; everything else is a mistake to be told.
            if !matches!(control, Control::Probe { .. } | Control::Hello(_)) {
                self.mistaken(from);
            }
            return;
        }
        match control {
            Control::Probe { nonce, epoch, known } => {
                self.answer(from, nonce, known);
                let tickets = self.inbox.owed.shown(from, epoch, &mut self.ctx);
                self.tell(&tickets);
            }
            Control::Hello(hello) if hello.from == *from => return self.hello(&hello),
            Control::Hello(_) => {}
            Control::Confirm(tickets) => {
                let touched = self.inbox.confirm_from(from, &tickets, &mut self.ctx);
                for key in touched {
                    self.inbox.start(&key, &mut self.ctx);
                }
            }
            Control::Cancel { epoch, kind, method, id, seq, prev } => {
                let key = (Lane { peer: from.clone(), kind, method }, epoch);
                self.inbox.cancel(&key, seq, prev, id, sealed, &mut self.ctx);
            }
            // The bytes are the shell's business.
            Control::Ask { .. } => {}
        }
        let wanted = self.wanted(peer);
        self.peers.stirred(peer, wanted, &mut self.ctx);
    }

    fn hello(&mut self, hello: &Hello) {
        let Some(peer) = self.peers.get(&hello.from) else {
            return self.ctx.report(Report::Dropped { peer: hello.from.clone(), why: "too many nodes" });
        };
        if hello.occasion == Occasion::Up {
            self.fetches.link_lost(peer);
        }
        let wanted = self.wanted(peer);
        let change = self.peers.hello(peer, hello, wanted, &mut self.ctx);
        self.changed(peer, change);
        if matches!(hello.occasion, Occasion::Up | Occasion::Interval) {
            let tickets = self.inbox.owed.shown(&hello.from, hello.epoch, &mut self.ctx);
            self.tell(&tickets);
        }
    }

    /// What a change of a peer means for what waits for it.
    fn changed(&mut self, peer: usize, change: Change) {
        let Change::Live { lost } = change else { return };
        if lost {
            for id in self.outbox.lost(peer, &mut self.ctx) {
                if let Some(outcome) = self.fetches.lost(id, self.peers.live(peer), &mut self.ctx) {
                    self.end_fetched(id, peer, None, outcome);
                }
            }
        }
        self.fetches.resume(peer, self.peers.live(peer), &mut self.ctx);
        let lanes: Vec<usize> = self.outbox.owing.get(&peer).into_iter().flatten().copied().collect();
        for lane in lanes {
            self.outbox.resume(lane, &mut self.ctx);
            self.pump(lane);
        }
    }

    fn handed_over(&mut self, lane: &Lane, seqs: &[Seq]) {
        let Some(lane) = self.outbox.by_lane.get(lane).copied() else { return };
        self.outbox.handed_over(lane, seqs, &mut self.ctx);
        self.pump(lane);
    }
}
