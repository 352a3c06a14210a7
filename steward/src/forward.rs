//! TCP connections through the messages' path: `steward forward` and the method `PortForward`.
//!
//! ```text
//! program ⇄ socket ⇄ pump ⇄ stream ⇄ bundles on <to>.DATA.<from> ⇄ stream ⇄ pump ⇄ socket ⇄ service
//! ```
//! A forward is a message that runs: its receiver decides by its rules whether it may, and it is over when the message is. What
//! its connections carry passes the engine and the store by, as the bytes of outputs do: it is kept in memory until it has
//! arrived, so a link that is cut only takes longer, and a node that dies takes its connections with it.
//!
//! [`stream`] has one connection, [`session`] all of a forward, [`pump`] moves bytes between sockets and streams, [`sending`]
//! says to other nodes what there is to say, and [`listening`] takes connections in. Who may forward what is decided by the
//! rules and nowhere here.

pub(crate) mod ask;
mod listening;
pub(crate) mod place;
mod pump;
mod sending;
mod session;
mod stream;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::message::MessageId;
use protocol::name::NodeName;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch};

use self::ask::{Ask, Does};
use self::session::State;
use crate::broker::wire::forward::{Bundle, Side};
use crate::clock::Clock;
use crate::supervise::Supervisor;
use crate::view::ProcessView;

pub(crate) use self::listening::bind;
pub(crate) use self::session::Tally;

/// Forwards of a node at the same time, those of others and its own; one more is refused.
pub(crate) const SESSIONS_MAX: usize = 64;

/// Connections of a node at the same time, of all forwards together: half a MiB each at most. One more waits where it is taken
/// in, and is broken off where it would be made.
pub(crate) const CONNECTIONS_MAX: usize = 256;

/// Forwards that others speak of and that are not here, of which they wait to be told; more are told later.
const STRAYS_MAX: usize = 64;

/// Notes on connections that somebody may read; older ones are passed over.
const NOTES_MAX: usize = 16;

/// Says whether a forward may go on: the rules may have changed since it began.
pub(crate) type Allowed = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What a forward is known by on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    peer: NodeName,
    id: MessageId,
    /// Which of the two nodes this is.
    side: Side,
}

/// All forwards of a node. Clones are the same.
#[derive(Clone)]
pub(crate) struct Forwards(Arc<Inner>);

struct Inner {
    me: NodeName,
    clock: Clock,
    supervisor: Supervisor,
    sessions: Mutex<BTreeMap<Key, Arc<Session>>>,
    /// Forwards that are not here, with the run that was spoken of, and whether that was sealed.
    strays: Mutex<Vec<(Key, u64, bool)>>,
    wake: Notify,
    seats: Arc<Semaphore>,
    /// What forwards had counted that are over.
    past: Mutex<Tally>,
    /// What was said and not believed, or was for nobody here.
    refused: AtomicU64,
}

/// A forward, on one of its nodes.
struct Session {
    key: Key,
    seal: bool,
    ask: Ask,
    /// What is connected to, where connections end here; none where they begin.
    target: Option<place::Place>,
    allowed: Allowed,
    state: Mutex<State>,
    /// Becomes the reason for which it is over, where that is not decided here.
    over: watch::Sender<Option<Arc<str>>>,
    /// There may be somebody to connect to, or a place for one more connection.
    free: Notify,
    notes: broadcast::Sender<Arc<str>>,
    /// Whether the other node is there and has begun.
    met: watch::Sender<bool>,
}

/// What begins.
pub(crate) struct Begin {
    /// The other node.
    pub(crate) peer: NodeName,
    /// The message.
    pub(crate) id: MessageId,
    /// Which of the two nodes this is.
    pub(crate) side: Side,
    /// Whether the message came sealed, or goes so.
    pub(crate) seal: bool,
    /// What it asks for.
    pub(crate) ask: Ask,
    /// What this node connects to, where it is the sender of the message and the other one listens.
    pub(crate) target: Option<place::Place>,
    /// Asked before each connection.
    pub(crate) allowed: Allowed,
}

impl fmt::Debug for Forwards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwards").field("me", &self.0.me).finish_non_exhaustive()
    }
}

impl Forwards {
    /// None yet; nothing is said of them before [`Self::sending`] runs.
    pub(crate) fn new(me: NodeName, supervisor: Supervisor) -> Self {
        Self(Arc::new(Inner {
            me,
            clock: Clock::start(),
            supervisor,
            sessions: Mutex::default(),
            strays: Mutex::default(),
            wake: Notify::new(),
            seats: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            past: Mutex::default(),
            refused: AtomicU64::new(0),
        }))
    }

    /// A forward begins here, for as long as what is returned is kept.
    pub(crate) fn begin(&self, begin: Begin) -> Result<Forward, String> {
        let Begin { peer, id, side, seal, ask, target, allowed } = begin;
        let opens = (side == Side::Sender) == (ask.does == Does::Connect);
        let target = if opens { None } else { Some(target.unwrap_or_else(|| ask.place.clone())) };
        let state = State::new(side, opens, ask.hold, random(), self.0.clock.elapsed());
        let key = Key { peer, id, side };
        let session = Arc::new(Session {
            key: key.clone(),
            seal,
            ask,
            target,
            allowed,
            state: Mutex::new(state),
            over: watch::Sender::new(None),
            free: Notify::new(),
            notes: broadcast::Sender::new(NOTES_MAX),
            met: watch::Sender::new(false),
        });
        let mut sessions = self.sessions();
        if sessions.len() >= SESSIONS_MAX {
            return Err(format!("{} has {SESSIONS_MAX} forwards already, and no room for one more", self.0.me));
        }
        sessions.insert(key, Arc::clone(&session));
        drop(sessions);
        self.0.wake.notify_one();
        Ok(Forward { forwards: self.clone(), session })
    }

    /// Takes what another node says of a forward; who it is has been verified.
    pub(crate) fn take(&self, from: NodeName, sealed: bool, bundle: Bundle) {
        let key = Key { peer: from, id: bundle.id, side: bundle.side.other() };
        let found = self.sessions().get(&key).cloned();
        let Some(session) = found else { return self.stray(key, &bundle, sealed) };
        if session.seal && !sealed {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Some(why) = bundle.over {
            let is_ours = key.side == Side::Receiver && session.state().run() == bundle.run;
            if is_ours {
                session.end(format!("{}: {why}", session.key.peer));
            }
            return;
        }
        let (opened, complaint, is_met) = {
            let mut state = session.state();
            (state.hear(self.0.clock.elapsed(), bundle, random), state.take_complaint(), state.is_met())
        };
        session.met.send_if_modified(|met| std::mem::replace(met, is_met) != is_met);
        if let Some(why) = complaint {
            session.note(format!("a connection was broken off by {}: {why}", session.key.peer));
        }
        session.free.notify_one();
        self.0.wake.notify_one();
        for opened in opened {
            let conn = Conn::new(self, &session, opened, None);
            self.spawn(&session, pump::connect(conn));
        }
    }

    /// A node that runs a forward of which nothing is known here is told so: the process that wanted it is gone.
    fn stray(&self, key: Key, bundle: &Bundle, sealed: bool) {
        let mut strays = self.strays();
        let is_new = strays.iter().all(|(known, ..)| *known != key);
        if key.side == Side::Sender && bundle.over.is_none() && is_new && strays.len() < STRAYS_MAX {
            strays.push((key, bundle.run, sealed));
            self.0.wake.notify_one();
        }
    }

    fn spawn(&self, session: &Session, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.0.supervisor.token();
        self.0.supervisor.once(format!("forward {}", session.key.id), async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// How many there are, and what all of them have counted since the start.
    pub(crate) fn counts(&self) -> (u64, Tally) {
        let sessions = self.sessions();
        let past = *self.0.past.lock().unwrap_or_else(PoisonError::into_inner);
        let add = |sum: Tally, session: &Arc<Session>| sum.and(session.state().tally());
        (sessions.len() as u64, sessions.values().fold(past, add))
    }

    /// What has come for none of them, or was not sealed although it has to be.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Each of them, as people see it.
    pub(crate) fn list(&self) -> Vec<ProcessView> {
        self.sessions().values().map(|session| session.view()).collect()
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Session>>> {
        // Every change of the map is a single call, so it is whole even if its holder panicked.
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strays(&self) -> MutexGuard<'_, Vec<(Key, u64, bool)>> {
        self.0.strays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Session>> {
        self.sessions().values().cloned().collect()
    }
}

impl Session {
    fn state(&self) -> MutexGuard<'_, State> {
        // What a panic may leave half done is a connection, whose bytes then do not fit and break it off.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, why: String) {
        self.over.send_if_modified(|over| {
            let is_first = over.is_none();
            if is_first {
                *over = Some(Arc::from(why));
            }
            is_first
        });
    }

    fn note(&self, note: String) {
        // Nobody may read them.
        let _read: bool = self.notes.send(Arc::from(note)).is_ok();
    }

    fn view(&self) -> ProcessView {
        let (tally, is_met) = {
            let state = self.state();
            (state.tally(), state.is_met())
        };
        let Key { peer, side, .. } = &self.key;
        let does = self.ask.does.as_str();
        let name = match side {
            Side::Sender => format!("{peer} {does} {}", self.ask.place),
            Side::Receiver => format!("{does} {} for {peer}", self.ask.place),
        };
        let note = format!(
            "{} of {} connections are open, {} bytes sent, {} received; {}",
            tally.open, tally.connections, tally.sent, tally.received, self.key.id
        );
        let state = if is_met { "open" } else { "waiting" };
        let (kind, state, messages) = ("forward".to_owned(), state.to_owned(), 0);
        ProcessView { kind, name, state, messages, restarts: 0, note: Some(note) }
    }
}

/// A forward that has begun here. When it is dropped, its connections are broken off.
pub(crate) struct Forward {
    forwards: Forwards,
    session: Arc<Session>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        let tally = {
            let mut state = self.session.state();
            state.break_all();
            state.tally()
        };
        let mut sessions = self.forwards.sessions();
        if sessions.get(&self.session.key).is_some_and(|known| Arc::ptr_eq(known, &self.session)) {
            sessions.remove(&self.session.key);
            let mut past = self.forwards.0.past.lock().unwrap_or_else(PoisonError::into_inner);
            *past = past.and(tally);
        }
    }
}

impl Forward {
    /// Returns why it is over, where somebody else has decided that.
    pub(crate) async fn over(&self) -> Arc<str> {
        let mut over = self.session.over.subscribe();
        // The session is there as long as this is, so the wait can't fail.
        let over = over.wait_for(Option::is_some).await.ok().and_then(|over| over.clone());
        over.unwrap_or_else(|| Arc::from("it is over"))
    }

    /// What there is to be said of single connections.
    pub(crate) fn notes(&self) -> broadcast::Receiver<Arc<str>> {
        self.session.notes.subscribe()
    }

    /// What it has counted.
    pub(crate) fn tally(&self) -> Tally {
        self.session.state().tally()
    }

    /// Changes when that does.
    pub(crate) fn met(&self) -> watch::Receiver<bool> {
        self.session.met.subscribe()
    }

    /// Whether the other node is there and has begun.
    pub(crate) fn is_open(&self) -> bool {
        self.session.state().is_met()
    }
}

/// A connection of a forward, as its task has it. Dropped before its end, it is broken off.
struct Conn {
    forwards: Forwards,
    session: Arc<Session>,
    number: u64,
    bell: Arc<session::Bell>,
    seat: Option<OwnedSemaphorePermit>,
    is_over: bool,
}

impl Conn {
    fn new(
        forwards: &Forwards,
        session: &Arc<Session>,
        opened: session::Opened,
        seat: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let (forwards, session) = (forwards.clone(), Arc::clone(session));
        Self { forwards, session, number: opened.number, bell: opened.bell, seat, is_over: false }
    }

    fn now(&self) -> Duration {
        self.forwards.0.clock.elapsed()
    }

    fn changed(&self) {
        self.forwards.0.wake.notify_one();
    }

    /// It is broken off here, and the other node is told why.
    fn broke(mut self, why: &str) {
        self.is_over = true;
        tracing::debug!(id = %self.session.key.id, connection = self.number, why, "a forwarded connection is broken off");
        self.session.state().broke(self.now(), self.number, why);
        self.changed();
    }

    /// It has come to its end.
    fn over(mut self) {
        self.is_over = true;
        self.changed();
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        drop(self.seat.take());
        if !self.is_over {
            self.session.state().broke(self.now(), self.number, "it was given up");
        }
        self.session.free.notify_one();
        self.changed();
    }
}

impl Tally {
    fn and(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            open: self.open + other.open,
            sent: self.sent + other.sent,
            received: self.received + other.received,
        }
    }
}

/// A random number that nobody can guess.
fn random() -> u64 {
    u64::try_from(uuid::Uuid::now_v7().as_u128() & u128::from(u64::MAX >> 2)).unwrap_or(1)
}

#[cfg(test)]
mod tests;
