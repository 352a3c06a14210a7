//! Who the other nodes are, whether they are there, and with which of their processes we speak.
//!
//! Nothing is sent to a node before it has answered a probe of ours: the answer names its process and its store, and
//! every envelope is addressed to that process. So a restarted node, a restored copy or a second node of the same name
//! can never take what was meant for another. One probe a node, not one attempt a message, is what an absent node costs.

use std::collections::BTreeMap;

use crate::ctx::Ctx;
use crate::event::{Control, Hello, Occasion};
use crate::limits::{
    CONTEST_PAUSE, PEERS_ADDRESSED_MAX, PEERS_INFO_BYTES_MAX, PEERS_MAX, PROBE_TIMEOUT, SUCCESSION_GRACE,
};
use crate::message::{Body, Epoch, Incarnation};
use crate::name::NodeName;
use crate::planted::{Bug, planted};
use crate::retry;
use crate::step::{Effect, PeerRow, Presence, Report, Write};
use crate::time::Mono;
use crate::timers::Timer;

mod life;

/// What we know of one other node.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) row: PeerRow,
    pub(crate) presence: Presence,
    pub(crate) session: Session,
    /// Probes in a row that brought nothing.
    failures: u32,
    /// Whether we listen to its announcements.
    watched: bool,
    /// Whether the process in `row` was seen to be gone since we last spoke with it.
    gone: bool,
    /// When the process that we speak with was last heard of.
    heard_at: Mono,
    /// Until when whoever else uses its name is not asked about: it was, just now.
    contested_until: Mono,
}

/// How far we are in speaking with a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Session {
    /// Not at all; the peer's timer runs if something waits for it.
    None,
    /// Asked who it is, with this nonce.
    Probing(u64),
    /// Somebody with another store claims the name; the process that we know is asked once more.
    Verifying { nonce: u64, candidate: Hello },
    /// It is this process.
    Live(Incarnation),
}

/// What a hello or a timer means for the messages to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// We speak with it (again): what may have been lost on the way is to be sent again.
    Live {
        /// Its store is not the one that we knew: what was sent to that one may have run.
        lost: bool,
    },
}

/// All other nodes that we have heard of or sent to.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    pub(crate) list: Vec<Peer>,
    by_name: BTreeMap<NodeName, usize>,
    /// How many of them are watched, because something waits for them.
    watched: usize,
    /// Bytes of what they say of themselves.
    info_bytes: usize,
}

impl Peers {
    pub(crate) fn new(rows: Vec<PeerRow>) -> Self {
        let mut peers = Self::default();
        for row in rows {
            peers.insert(row);
        }
        peers
    }

    fn insert(&mut self, row: PeerRow) -> usize {
        let index = self.list.len();
        self.by_name.insert(row.name.clone(), index);
        self.info_bytes += row.info.len();
        self.list.push(Peer {
            row,
            presence: Presence::Unknown,
            session: Session::None,
            failures: 0,
            watched: false,
            gone: false,
            heard_at: Mono(0),
            contested_until: Mono(0),
        });
        index
    }

    pub(crate) fn find(&self, name: &NodeName) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The peer with this name, made known if it was not; none where too many are known already.
    pub(crate) fn get(&mut self, name: &NodeName) -> Option<usize> {
        self.get_below(name, PEERS_MAX)
    }

    /// The same for a node that something is sent to from here: others, made up or not, do not take the last places.
    pub(crate) fn get_addressed(&mut self, name: &NodeName) -> Option<usize> {
        self.get_below(name, PEERS_MAX + PEERS_ADDRESSED_MAX)
    }

    fn get_below(&mut self, name: &NodeName, most: usize) -> Option<usize> {
        if let Some(index) = self.find(name) {
            return Some(index);
        }
        if self.list.len() >= most {
            return None;
        }
        Some(self.insert(PeerRow {
            name: name.clone(),
            epoch: None,
            commits: 0,
            incarnation: None,
            seen: None,
            info: Body::from(""),
        }))
    }

    /// The process that we speak with.
    pub(crate) fn live(&self, peer: usize) -> Option<Incarnation> {
        match self.list[peer].session {
            Session::Live(incarnation) => Some(incarnation),
            Session::None | Session::Probing(_) | Session::Verifying { .. } => None,
        }
    }

    /// Whether this process with this store is the one that we know.
    pub(crate) fn is_known(&self, peer: usize, epoch: Epoch, incarnation: Incarnation) -> bool {
        let row = &self.list[peer].row;
        (row.epoch, row.incarnation) == (Some(epoch), Some(incarnation))
    }

    /// Something waits for this peer: asks who it is, unless that is under way.
    pub(crate) fn want(&mut self, peer: usize, ctx: &mut Ctx) {
        if ctx.link && self.list[peer].session == Session::None && !ctx.timers.is_set(Timer::Peer(peer)) {
            self.probe(peer, ctx);
        }
    }

    /// Asks the peer who it is. Until it has answered, nothing is sent to it.
    pub(crate) fn probe(&mut self, peer: usize, ctx: &mut Ctx) {
        let nonce = ctx.rng.next();
        self.list[peer].session = Session::Probing(nonce);
        self.ask(peer, None, nonce, ctx);
        ctx.timers.set(Timer::Peer(peer), ctx.now.mono.after(PROBE_TIMEOUT));
    }

    fn ask(&self, peer: usize, whom: Option<Incarnation>, nonce: u64, ctx: &mut Ctx) {
        let row = &self.list[peer].row;
        ctx.control(&row.name, whom, Control::Probe { nonce, epoch: ctx.me.epoch, known: row.incarnation }, false);
    }

    /// Our own link is gone: we know nothing of anybody any more.
    pub(crate) fn link_down(&mut self, ctx: &mut Ctx) {
        for index in 0..self.list.len() {
            self.list[index].session = Session::None;
            self.list[index].failures = 0;
            ctx.timers.cancel(Timer::Peer(index));
            self.set_presence(index, Presence::Unknown, ctx);
        }
    }

    /// The broker says that nobody listens under the peer's name.
    pub(crate) fn nobody(&mut self, peer: usize, wanted: bool, ctx: &mut Ctx) {
        let this = &mut self.list[peer];
        this.gone = true;
        this.session = Session::None;
        if !matches!(this.presence, Presence::Away(_) | Presence::Stopped(_)) {
            self.set_presence(peer, Presence::Away(ctx.now.wall), ctx);
        }
        self.pause(peer, wanted, ctx);
    }

    /// Waits for an announcement, and for the next try at the latest after a pause that grows.
    fn pause(&mut self, peer: usize, wanted: bool, ctx: &mut Ctx) {
        if !wanted {
            ctx.timers.cancel(Timer::Peer(peer));
            return self.watch(peer, false, ctx);
        }
        self.watch(peer, true, ctx);
        let pause = retry::pause(self.list[peer].failures, self.watched, &mut ctx.rng);
        self.list[peer].failures += 1;
        ctx.timers.set(Timer::Peer(peer), ctx.now.mono.after(pause));
    }

    fn watch(&mut self, peer: usize, on: bool, ctx: &mut Ctx) {
        if self.list[peer].watched != on {
            self.list[peer].watched = on;
            self.watched = if on { self.watched + 1 } else { self.watched - 1 };
            ctx.effect(Effect::Watch(self.list[peer].row.name.clone(), on));
        }
    }

    /// The peer's timer has run out.
    pub(crate) fn timer(&mut self, peer: usize, wanted: bool, ctx: &mut Ctx) -> Change {
        match self.list[peer].session.clone() {
            Session::None if wanted && ctx.link => self.probe(peer, ctx),
            Session::Live(_) if wanted && ctx.link => self.look(peer, ctx),
            Session::None | Session::Live(_) => {}
            Session::Probing(_) => {
                self.list[peer].session = Session::None;
                self.set_presence(peer, Presence::Silent(ctx.now.wall), ctx);
                self.pause(peer, wanted, ctx);
            }
            Session::Verifying { candidate, .. } => return self.adopt(peer, &candidate, true, ctx),
        }
        Change::None
    }

    /// Keeps what a node says of itself, if there is room for it.
    fn describe(&mut self, peer: usize, info: &Body) {
        let row = &mut self.list[peer].row;
        let others = self.info_bytes - row.info.len();
        if !info.is_empty() && others + info.len() <= PEERS_INFO_BYTES_MAX {
            self.info_bytes = others + info.len();
            row.info = info.clone();
        }
    }

    /// The peer has said who it is, asked or by itself.
    pub(crate) fn hello(&mut self, peer: usize, hello: &Hello, wanted: bool, ctx: &mut Ctx) -> Change {
        self.describe(peer, &hello.info);
        let known = self.list[peer].row.incarnation == Some(hello.incarnation);
        let session = self.list[peer].session.clone();
        match (hello.occasion, session) {
            (Occasion::Answer { nonce, since }, Session::Probing(asked)) if nonce == asked => {
                self.answered(peer, hello, since, ctx)
            }
            (Occasion::Answer { nonce, .. }, Session::Verifying { nonce: asked, candidate })
                if nonce == asked && known =>
            {
                self.stay(peer, &candidate, ctx)
            }
            (Occasion::Answer { .. }, _) => Change::None,
            (Occasion::Goodbye, Session::Live(other)) if other != hello.incarnation => Change::None,
            (Occasion::Goodbye, _) => {
                self.list[peer].session = Session::None;
                self.list[peer].gone |= known;
                self.set_presence(peer, Presence::Stopped(ctx.now.wall), ctx);
                self.save(peer, ctx);
                self.pause(peer, wanted, ctx);
                Change::None
            }
            (occasion, Session::Live(live)) if live == hello.incarnation => {
                self.alive(peer, ctx);
                self.save(peer, ctx);
                // After a reconnect of its own, what we sent meanwhile may be gone.
                if occasion == Occasion::Up { Change::Live { lost: false } } else { Change::None }
            }
            (Occasion::Up | Occasion::Mistaken | Occasion::Interval, Session::Verifying { .. }) => Change::None,
            (Occasion::Mistaken, Session::Live(_)) if self.is_contested(peer, ctx) => Change::None,
            // Whoever it is hears the question that is under way: one more for each would bring the more answers.
            (Occasion::Interval | Occasion::Mistaken, Session::Probing(_)) => {
                self.alive(peer, ctx);
                self.save(peer, ctx);
                Change::None
            }
            (Occasion::Up | Occasion::Mistaken | Occasion::Interval, _) => {
                self.alive(peer, ctx);
                self.save(peer, ctx);
                self.list[peer].failures = 0;
                self.list[peer].session = Session::None;
                ctx.timers.cancel(Timer::Peer(peer));
                if wanted && ctx.link {
                    self.probe(peer, ctx);
                }
                Change::None
            }
        }
    }

    /// An answer to our probe: is it the store that we know, or has that one been lost? `since` says at which commit the
    /// process after the one that we spoke with last began on it, if that one did.
    fn answered(&mut self, peer: usize, hello: &Hello, since: Option<u64>, ctx: &mut Ctx) -> Change {
        let this = &self.list[peer];
        let goes_on = match this.row.epoch {
            _ if planted(Bug::LostStoreIgnored) => true,
            None => true,
            Some(epoch) => {
                let same_process = this.row.incarnation == Some(hello.incarnation);
                // A copy from before the process that we know does not know it. On a copy that was made later the next
                // process began at a commit that we have heard of; what it has done since does not count.
                let since = if planted(Bug::OlderCopyPasses) { Some(hello.commits_at_start) } else { since };
                epoch == hello.epoch && (same_process || since.is_some_and(|since| since > this.row.commits))
            }
        };
        if goes_on || this.gone || this.row.incarnation.is_none() {
            return self.adopt(peer, hello, !goes_on, ctx);
        }
        let nonce = ctx.rng.next();
        self.ask(peer, self.list[peer].row.incarnation, nonce, ctx);
        self.list[peer].session = Session::Verifying { nonce, candidate: hello.clone() };
        ctx.timers.set(Timer::Peer(peer), ctx.now.mono.after(SUCCESSION_GRACE));
        Change::None
    }

    /// The process that we know lives: whoever else uses its name is not listened to.
    fn stay(&mut self, peer: usize, other: &Hello, ctx: &mut Ctx) -> Change {
        let Some(known) = self.list[peer].row.incarnation else { return Change::None };
        ctx.report(Report::Conflict { peer: self.list[peer].row.name.clone(), known, other: other.incarnation });
        self.list[peer].session = Session::Live(known);
        self.list[peer].heard_at = ctx.now.mono;
        self.list[peer].contested_until = ctx.now.mono.after(CONTEST_PAUSE);
        ctx.timers.cancel(Timer::Peer(peer));
        self.alive(peer, ctx);
        Change::Live { lost: false }
    }

    /// From now on the node is this process with this store.
    fn adopt(&mut self, peer: usize, hello: &Hello, lost: bool, ctx: &mut Ctx) -> Change {
        let this = &mut self.list[peer];
        this.row.commits = if lost { hello.commits_at_start } else { this.row.commits.max(hello.commits_at_start) };
        this.row.epoch = Some(hello.epoch);
        this.row.incarnation = Some(hello.incarnation);
        this.session = Session::Live(hello.incarnation);
        this.heard_at = ctx.now.mono;
        this.failures = 0;
        this.gone = false;
        ctx.timers.cancel(Timer::Peer(peer));
        self.watch(peer, false, ctx);
        self.alive(peer, ctx);
        self.save(peer, ctx);
        if lost {
            ctx.report(Report::StoreLost { peer: self.list[peer].row.name.clone() });
        }
        Change::Live { lost }
    }

    pub(crate) fn save(&self, peer: usize, ctx: &mut Ctx) {
        ctx.write(Write::Peer(self.list[peer].row.clone()));
    }
}
