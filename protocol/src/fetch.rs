//! How an output that is too large for a receipt comes back: asked for piece by piece, each ask saying how much is here
//! already. So a transfer goes on where it stopped, whoever was restarted meanwhile. The bytes themselves never pass
//! here; the shell writes them to a file and tells how long it is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::ctx::Ctx;
use crate::event::{Control, Ticket};
use crate::limits::{FETCH_BYTES_MAX, FETCH_BYTES_START, FETCH_TIMEOUT, FETCH_TRIES_MAX, FETCHES_MAX};
use crate::message::{Incarnation, MessageId};
use crate::name::NodeName;
use crate::outcome::{Outcome, Stream};
use crate::step::Effect;
use crate::time::Mono;
use crate::timers::Timer;

/// Below this many milliseconds for a piece, the next one is twice as large.
const QUICK_MS: u64 = 1000;

/// One result whose output is on its way.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) source: Source,
    pub(crate) outcome: Arc<Outcome>,
    /// The stream that is being fetched.
    stream: Stream,
    /// Bytes of it that are here; none until the file is open.
    have: Option<u64>,
    /// The end of the piece that was asked for.
    asked_to: u64,
    /// The size of the next piece.
    piece: u64,
    /// When the last piece was asked for.
    since: Mono,
    /// Whom it was asked of; none if nobody could be asked when it was time to.
    asked: Option<Incarnation>,
    /// How often the hash did not match.
    broken: u32,
    /// Whether it is among those under way.
    active: bool,
}

/// Who has an output.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) peer: usize,
    pub(crate) name: NodeName,
    /// The process that told of it last.
    pub(crate) incarnation: Incarnation,
    pub(crate) ticket: Ticket,
    /// Whether what is said about it is sealed.
    pub(crate) seal: bool,
}

/// All results whose output is on its way.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    pub(crate) all: BTreeMap<MessageId, Fetch>,
    /// Those that wait until one that is under way has ended.
    waiting: VecDeque<MessageId>,
    active: usize,
}

impl Fetches {
    /// Whether any output of this peer is on its way.
    pub(crate) fn wants(&self, peer: usize) -> bool {
        self.all.values().any(|fetch| fetch.source.peer == peer)
    }

    /// Starts to fetch the output of a message from a process that has told of it. If that is under way, only notes who
    /// else has it: the process that we speak with is the one to ask.
    pub(crate) fn start(
        &mut self,
        id: MessageId,
        source: Source,
        outcome: Arc<Outcome>,
        live: Option<Incarnation>,
        ctx: &mut Ctx,
    ) {
        if let Some(fetch) = self.all.get_mut(&id) {
            let better = Some(source.incarnation) == live || Some(fetch.source.incarnation) != live;
            if fetch.outcome == outcome && better {
                fetch.turn_to(id, source, ctx);
            }
            return;
        }
        let stream = if outcome.stdout.is_bulk() { Stream::Stdout } else { Stream::Stderr };
        let fetch = Fetch {
            source,
            outcome,
            stream,
            have: None,
            asked_to: 0,
            piece: FETCH_BYTES_START,
            since: ctx.now.mono,
            asked: None,
            broken: 0,
            active: false,
        };
        self.all.insert(id, fetch);
        self.waiting.push_back(id);
        self.fill(ctx);
    }

    /// Starts what waits, as far as there is room.
    fn fill(&mut self, ctx: &mut Ctx) {
        while self.active < FETCHES_MAX {
            let Some(id) = self.waiting.pop_front() else { return };
            let Some(fetch) = self.all.get_mut(&id) else { continue };
            fetch.active = true;
            self.active += 1;
            fetch.open(id, ctx);
        }
    }

    /// So much of the stream is here now.
    pub(crate) fn have(&mut self, id: MessageId, stream: Stream, have: u64, live: Option<Incarnation>, ctx: &mut Ctx) {
        let Some(fetch) = self.all.get_mut(&id) else { return };
        if fetch.stream != stream || !fetch.active {
            return;
        }
        let progress = fetch.have.is_none_or(|before| have > before);
        fetch.have = Some(have);
        if progress {
            ctx.timers.set(Timer::Fetch(id), ctx.now.mono.after(FETCH_TIMEOUT));
        }
        if have >= fetch.outcome.stream(stream).len {
            let hash = fetch.outcome.stream(stream).hash;
            ctx.effect(Effect::Seal { id, stream, hash });
        } else if have >= fetch.asked_to {
            if fetch.asked_to > 0 && ctx.now.mono.0 - fetch.since.0 < QUICK_MS {
                fetch.piece = (fetch.piece * 2).min(FETCH_BYTES_MAX);
            }
            fetch.ask(live, ctx);
        }
    }

    /// Nothing came for a while: asks again, for less; opens the file again, should that have been lost.
    pub(crate) fn timer(&mut self, id: MessageId, live: Option<Incarnation>, ctx: &mut Ctx) {
        let Some(fetch) = self.all.get_mut(&id) else { return };
        ctx.timers.set(Timer::Fetch(id), ctx.now.mono.after(FETCH_TIMEOUT));
        if live.is_some() {
            fetch.piece = (fetch.piece / 2).max(FETCH_BYTES_START / 4);
            fetch.asked_to = 0;
            fetch.have = None;
            fetch.open(id, ctx);
        } else {
            fetch.asked = None;
        }
    }

    /// Our link is gone, and with it what was on its way.
    pub(crate) fn link_down(&mut self) {
        self.all.values_mut().for_each(|fetch| fetch.asked = None);
    }

    /// The peer has a new link: what was on its way from it is gone.
    pub(crate) fn link_lost(&mut self, peer: usize) {
        let from_peer = self.all.values_mut().filter(|fetch| fetch.source.peer == peer);
        from_peer.for_each(|fetch| fetch.asked = None);
    }

    /// We speak with the peer again: what could not be asked for, or was asked of a process that is gone, is asked for now.
    pub(crate) fn resume(&mut self, peer: usize, live: Option<Incarnation>, ctx: &mut Ctx) {
        let in_vain =
            self.all.values_mut().filter(|fetch| fetch.source.peer == peer && fetch.active && fetch.asked != live);
        let is_short =
            |fetch: &&mut Fetch| fetch.have.is_some_and(|have| have < fetch.outcome.stream(fetch.stream).len);
        for fetch in in_vain.filter(is_short) {
            fetch.ask(live, ctx);
        }
    }

    /// A stream is whole, or its hash does not match. Answers with the outcome once all streams are here.
    pub(crate) fn sealed(
        &mut self,
        id: MessageId,
        stream: Stream,
        whole: bool,
        ctx: &mut Ctx,
    ) -> Option<(Fetch, Arc<Outcome>)> {
        let fetch = self.all.get_mut(&id).filter(|fetch| fetch.stream == stream && fetch.active)?;
        fetch.have = None;
        fetch.asked_to = 0;
        if !whole {
            fetch.broken += 1;
            if fetch.broken >= FETCH_TRIES_MAX {
                return self.give_up(id, "its output could not be fetched whole: the hash never matched", ctx);
            }
            fetch.open(id, ctx);
            return None;
        }
        if stream == Stream::Stdout && fetch.outcome.stderr.is_bulk() {
            fetch.stream = Stream::Stderr;
            fetch.open(id, ctx);
            return None;
        }
        let fetch = self.remove(id, ctx)?;
        let outcome = fetch.outcome.clone();
        Some((fetch, outcome))
    }

    /// The peer is another store now: the output of this message went with the old one, unless it is the new one's.
    pub(crate) fn lost(&mut self, id: MessageId, live: Option<Incarnation>, ctx: &mut Ctx) -> Option<Arc<Outcome>> {
        self.all.get(&id).filter(|fetch| Some(fetch.source.incarnation) != live)?;
        let (_, outcome) = self.give_up(id, "its output was lost with the node's store", ctx)?;
        Some(outcome)
    }

    /// The output can't be had any more; how the message ended is known all the same.
    pub(crate) fn give_up(&mut self, id: MessageId, why: &str, ctx: &mut Ctx) -> Option<(Fetch, Arc<Outcome>)> {
        let fetch = self.remove(id, ctx)?;
        let mut outcome = Outcome::clone(&fetch.outcome);
        for output in [&mut outcome.stdout, &mut outcome.stderr] {
            if output.is_bulk() {
                *output = crate::outcome::Output { truncated: true, ..Default::default() };
            }
        }
        outcome.reason = Some(Arc::from(match &outcome.reason {
            Some(reason) => format!("{reason}; {why}"),
            None => why.to_owned(),
        }));
        Some((fetch, Arc::new(outcome)))
    }

    fn remove(&mut self, id: MessageId, ctx: &mut Ctx) -> Option<Fetch> {
        let fetch = self.all.remove(&id)?;
        ctx.timers.cancel(Timer::Fetch(id));
        if fetch.active {
            self.active -= 1;
        }
        self.fill(ctx);
        Some(fetch)
    }
}

impl Fetch {
    /// Goes on with what another process has of the same output.
    fn turn_to(&mut self, id: MessageId, source: Source, ctx: &mut Ctx) {
        let same = self.source.ticket == source.ticket;
        self.source = source;
        if self.active && !same {
            self.have = None;
            self.asked_to = 0;
            self.open(id, ctx);
        }
    }

    fn open(&mut self, id: MessageId, ctx: &mut Ctx) {
        let (stream, from, ticket) = (self.stream, self.source.name.clone(), self.source.ticket);
        let len = self.outcome.stream(stream).len;
        ctx.effect(Effect::Receive { id, stream, from, ticket, len });
        ctx.timers.set(Timer::Fetch(id), ctx.now.mono.after(FETCH_TIMEOUT));
    }

    fn ask(&mut self, live: Option<Incarnation>, ctx: &mut Ctx) {
        let (ticket, stream) = (self.source.ticket, self.stream);
        let offset = self.have.unwrap_or(0);
        let len = self.piece.min(self.outcome.stream(stream).len - offset);
        self.asked_to = offset + len;
        self.since = ctx.now.mono;
        self.asked = live;
        if live.is_some() {
            ctx.control(&self.source.name, live, Control::Ask { ticket, stream, offset, len }, self.source.seal);
        }
    }
}
