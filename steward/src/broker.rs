//! The way to the NATS server and back: what the core wants told goes out, what arrives becomes events.
//!
//! Three tasks that share nothing but a [`Broker`]: [`Broker::link`] keeps the connection and says whether it works,
//! [`Broker::incoming`] reads, [`Broker::outgoing`] publishes. None of them decides about delivery, and nothing here
//! counts as proof of it: a publish that succeeded has reached a queue, no more. While the link is down, what should go
//! out is dropped, because the core tries again once it hears [`Event::LinkUp`](protocol::Event::LinkUp).

pub(crate) mod access;
mod arrived;
mod aside;
mod backlog;
mod batch;
mod budget;
mod bulk;
mod counters;
mod denied;
mod dictionaries;
mod ears;
mod echo;
mod incoming;
mod link;
mod name_check;
mod noise;
mod outgoing;
pub(crate) mod prover;
mod publish;
mod seen;
mod state;
mod window;
pub(crate) mod wire;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, ServerAddr};
use protocol::event::{Hello, Item, Occasion, Verdict};
use protocol::message::{Kind, MessageId, Options, Seq};
use protocol::name::{Lane, MethodName, NodeName};
use protocol::snapshot::Identity;
use protocol::step::Effect;
use protocol::time::Wall;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::engine::EngineHandle;
use crate::forward::Forwards;
use crate::security::sealing::Policy;
use crate::security::sender::Sender;
use crate::security::trust::Trust;
use crate::traffic::Traffic;

pub(crate) use access::Access;
use access::KeyUsed;
pub(crate) use aside::Aside;
use budget::Budget;
pub(crate) use bulk::Bulk;
pub(crate) use counters::Counters;
pub(crate) use denied::{Action, Denied};
use dictionaries::Dictionaries;
use echo::Echoes;
pub(crate) use name_check::NameCheck;
pub(crate) use noise::Noise;
use prover::MessageOf;
pub(crate) use publish::Sent;
pub(crate) use state::{LinkBoard, LinkState};
pub(crate) use window::Window;
use wire::namesake::Who;

/// How long one call of the client may take. It only has to reach a queue.
const CALL: Duration = Duration::from_secs(5);

/// Judges a message that has arrived: sender, type, method, data.
pub(crate) type Judge = Arc<dyn Fn(&Sender, Kind, &MethodName, &str) -> Verdict + Send + Sync>;

/// What this node says of itself, as the text of a JSON object.
pub(crate) type Info = Arc<dyn Fn() -> Arc<str> + Send + Sync>;

/// What the broker needs to know.
#[derive(Clone)]
pub(crate) struct Config {
    /// One or more servers, with commas between them. May hold a login, so it is never logged.
    pub(crate) address: String,
    /// How it gets in there.
    pub(crate) access: Access,
    /// Who this process is.
    pub(crate) identity: Identity,
    /// The node that hears announcements as messages (R16).
    pub(crate) central: NodeName,
    /// Whether a process that has our name is to stop.
    pub(crate) take_over: bool,
    /// The host, for a process that wants our name.
    pub(crate) host: String,
    /// When this process started.
    pub(crate) started: Wall,
    /// Whom it believes.
    pub(crate) trust: Trust,
    /// What it seals that does not ask for it, and what it takes.
    pub(crate) seal: Policy,
    /// How much it may send, in bits a second; none is without limit.
    pub(crate) link_rate: Option<u64>,
}

/// What the broker is connected to inside the process.
pub(crate) struct Wiring {
    /// Where events go.
    pub(crate) engine: EngineHandle,
    /// Where effects come from: `Publish`, `Receipt`, `Control`, `Announce`, `Watch`; others are passed over.
    pub(crate) effects: mpsc::Receiver<Vec<Effect>>,
    /// How far the store is; the engine raises it after each commit.
    pub(crate) commits: Arc<AtomicU64>,
    /// Admission.
    pub(crate) judge: Judge,
    /// What has come in and is not closed.
    pub(crate) message_of: MessageOf,
    /// What this node says of itself.
    pub(crate) info: Info,
    /// The clock.
    pub(crate) clock: Clock,
    /// Where pieces of outputs and requests for them go.
    pub(crate) bulk: mpsc::Sender<Bulk>,
    /// Where what is said of forwarded connections goes.
    pub(crate) forwards: Forwards,
    /// Where it is written how the link is.
    pub(crate) board: LinkBoard,
    /// Where the bytes on the link are counted.
    pub(crate) traffic: Traffic,
}

/// Why there can be no broker at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokerError {
    /// The address makes no sense.
    #[error("the broker address makes no sense: {why}; an example is 127.0.0.1:4222")]
    Address {
        /// Why. The address itself may hold a password.
        why: String,
    },
}

/// A connection, numbered from 1.
#[derive(Clone)]
struct Line {
    number: u64,
    client: Client,
}

/// The handle that the three tasks and everybody else share.
#[derive(Clone)]
pub(crate) struct Broker(Arc<Inner>);

struct Inner {
    config: Config,
    servers: Vec<ServerAddr>,
    /// The servers as they may be logged: without a login.
    address: String,
    engine: EngineHandle,
    /// Held by the publishing task for as long as it runs; a restarted one goes on where it was.
    effects: tokio::sync::Mutex<mpsc::Receiver<Vec<Effect>>>,
    commits: Arc<AtomicU64>,
    judge: Judge,
    message_of: MessageOf,
    info: Info,
    clock: Clock,
    bulk: mpsc::Sender<Bulk>,
    forwards: Forwards,
    counters: Counters,
    traffic: Traffic,
    dictionaries: Dictionaries,
    budget: Budget,
    board: LinkBoard,
    noise: Noise,
    echoes: Echoes,
    /// The connection, once the name is ours.
    line: watch::Sender<Option<Line>>,
    /// The number of the connection on which we listen.
    listening: watch::Sender<u64>,
    /// Between `LinkUp` and `LinkDown`.
    up: AtomicBool,
    /// How often that has begun.
    ups: watch::Sender<u64>,
    /// Somebody found out that the link is dead.
    stuck: Notify,
    /// The login has changed: the connection is to be made anew.
    renewed: Notify,
    /// With which key we have logged in.
    key_used: KeyUsed,
    /// The reading task waits for the engine, so an echo that is late says nothing about the link.
    reader_waits: AtomicBool,
    /// Bytes of messages that the engine may not have taken yet.
    queued_bytes: AtomicUsize,
    /// Whose announcements we listen to.
    watched: watch::Sender<BTreeSet<NodeName>>,
    name_checked: Mutex<Option<oneshot::Sender<NameCheck>>>,
    displaced: watch::Sender<Option<Who>>,
    finish: mpsc::Sender<oneshot::Sender<()>>,
    finish_asked: tokio::sync::Mutex<mpsc::Receiver<oneshot::Sender<()>>>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("address", &self.0.address).finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker that does nothing until its three tasks run. The receiver tells once whether the name is ours.
    pub(crate) fn new(config: Config, wiring: Wiring) -> Result<(Self, oneshot::Receiver<NameCheck>), BrokerError> {
        let servers = parse_servers(&config.address)?;
        let (name_checked, outcome) = oneshot::channel();
        let (finish, finish_asked) = mpsc::channel(1);
        let echoes = Echoes::new(config.identity.incarnation);
        let Wiring { engine, effects, commits, judge, message_of, info, clock, bulk, forwards, board, traffic } =
            wiring;
        if let Some(why) = config.access.plain_secret(&servers) {
            tracing::warn!("{why}");
        }
        let budget = Budget::new(config.link_rate, clock);
        let inner = Inner {
            config,
            address: shown(&servers),
            servers,
            engine,
            effects: tokio::sync::Mutex::new(effects),
            commits,
            judge,
            message_of,
            info,
            noise: Noise::new(clock),
            clock,
            bulk,
            forwards,
            counters: Counters::default(),
            traffic,
            dictionaries: Dictionaries::default(),
            budget,
            board,
            echoes,
            line: watch::Sender::new(None),
            listening: watch::Sender::new(0),
            up: AtomicBool::new(false),
            ups: watch::Sender::new(0),
            stuck: Notify::new(),
            renewed: Notify::new(),
            key_used: KeyUsed::default(),
            reader_waits: AtomicBool::new(false),
            queued_bytes: AtomicUsize::new(0),
            watched: watch::Sender::new(BTreeSet::new()),
            name_checked: Mutex::new(Some(name_checked)),
            displaced: watch::Sender::new(None),
            finish,
            finish_asked: tokio::sync::Mutex::new(finish_asked),
        };
        Ok((Self(Arc::new(inner)), outcome))
    }

    /// Whether the broker can be reached and our subscription is in place.
    pub(crate) fn is_up(&self) -> bool {
        self.0.up.load(Ordering::Acquire)
    }

    /// The servers, as they may be shown: without a login.
    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    /// What was counted.
    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// The bytes on the link.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }

    /// Becomes `Some` when another process has taken the name over: this one has to stop.
    pub(crate) fn displaced(&self) -> watch::Receiver<Option<Who>> {
        self.0.displaced.subscribe()
    }

    /// Says goodbye, and returns once everything up to it has reached the broker; false if that took longer than
    /// `limit` or the link is down.
    pub(crate) async fn goodbye(&self, limit: Duration) -> bool {
        let (gone, answer) = oneshot::channel();
        let leave = async { self.0.finish.send(gone).await.is_ok() && answer.await.is_ok() };
        tokio::time::timeout(limit, leave).await.unwrap_or(false)
    }

    fn me(&self) -> &NodeName {
        &self.0.config.identity.name
    }

    /// Connections that are forwarded through it.
    pub(crate) fn forwards(&self) -> &Forwards {
        &self.0.forwards
    }

    /// Whom this node believes.
    pub(crate) fn trust(&self) -> &Trust {
        &self.0.config.trust
    }

    fn client(&self) -> Option<Client> {
        self.0.line.borrow().as_ref().map(|line| line.client.clone())
    }

    /// Who we are, for announcements.
    fn hello(&self, occasion: Occasion) -> Hello {
        let Identity { name, epoch, incarnation, commits_at_start, seed: _ } = &self.0.config.identity;
        let mut info = (self.0.info)();
        if info.len() > wire::INFO_BYTES_MAX || serde_json::from_str::<serde::de::IgnoredAny>(&info).is_err() {
            if self.0.noise.worth_a_line("own info", name.as_str()) {
                tracing::error!(bytes = info.len(), "what this node says of itself is too long or no JSON; left out");
            }
            info = Arc::from("");
        }
        Hello {
            from: name.clone(),
            epoch: *epoch,
            incarnation: *incarnation,
            commits_at_start: *commits_at_start,
            occasion,
            info,
        }
    }

    /// Notes that something from `peer` was dropped.
    fn refuse(&self, kind: &'static str, peer: &str, why: &dyn fmt::Display) {
        self.0.counters.refused.one();
        if self.0.noise.worth_a_line(kind, peer) {
            let peer: String = peer.chars().take(64).flat_map(char::escape_default).collect();
            tracing::warn!(peer, %why, "something that arrived was dropped (further ones this minute are only counted)");
        }
    }

    /// Tells whoever started the node whether the name is free; false: that was told before.
    fn told_name(&self, outcome: NameCheck) -> bool {
        let sender = self.0.name_checked.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(sender) = sender else { return false };
        if sender.send(outcome).is_err() {
            tracing::debug!("nobody waits to hear whether the name is free");
        }
        true
    }
}

fn parse_servers(address: &str) -> Result<Vec<ServerAddr>, BrokerError> {
    let wrong = |why: String| BrokerError::Address { why };
    let parts = address.split(',').map(str::trim).filter(|part| !part.is_empty());
    let servers: Result<Vec<ServerAddr>, _> = parts.map(str::parse).collect();
    match servers {
        Ok(servers) if servers.is_empty() => Err(wrong("it is empty".to_owned())),
        Ok(servers) => Ok(servers),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Hosts and ports, and nothing that is secret.
fn shown(servers: &[ServerAddr]) -> String {
    let shown: Vec<String> = servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
    shown.join(",")
}

/// The lane of announcements as messages (R16).
fn say_hello(to: &NodeName) -> Option<Lane> {
    let method = MethodName::new(SAY_HELLO).ok()?;
    Some(Lane { peer: to.clone(), kind: Kind::EventNack, method })
}

/// The method of announcements as messages.
const SAY_HELLO: &str = "SayHello";

/// An announcement as a message. It never enters an outbox, so its number means nothing.
fn unnumbered(body: Arc<str>) -> Item {
    let options = Options::default();
    let created = crate::clock::wall();
    let id = MessageId(uuid::Uuid::now_v7().as_u128());
    Item { id, seq: Seq(1), prev: Seq(0), body, options, created }
}

#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
mod tests;
