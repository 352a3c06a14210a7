//! Outputs that are too large for a receipt: fetched from the receivers of our messages, and served to the senders of
//! those that ran here. Bytes go between files and the broker and never through the engine, which is told offsets only.
//!
//! Of what has ended, [`Results::receiving`] writes what arrives, [`Results::serving`] sends what others ask for. Neither
//! knows when to ask or when to give up; the core does. What can't be written is logged, and the core's timers ask again.
//!
//! What goes along with a message ([`Contents`]) travels the other way: its receiver asks for it ([`Wants`]), [`Results::wanting`]
//! sends what it asks, and [`Results::serving`] on the sender answers.
//!
//! Of what still runs, [`Results::feeding`] shows others what their messages write, and [`Results::following`] asks for what is
//! followed from here ([`Audience`]). The core knows nothing of that: it is a look ahead at what the result will bring.

mod audience;
mod contents;
mod feeding;
mod fetching;
mod following;
mod live_files;
mod serving;
mod wanting;

use std::fmt;
use std::sync::Arc;

use protocol::event::Ticket;
use protocol::message::MessageId;
use protocol::name::NodeName;
use protocol::step::Effect;
use tokio::sync::{Mutex, mpsc};

use crate::blobs::Blobs;
use crate::broker::wire::live::Follow;
use crate::broker::{Broker, Bulk};
use crate::engine::EngineHandle;
use crate::methods::live::LiveOutputs;
use crate::traffic::Class;
use audience::Want;
pub(crate) use audience::{Attached, Audience, Grown};
pub(crate) use contents::{Contents, ContentsFull};
pub(crate) use wanting::{Came, Wanted, Wants};

/// Pieces and requests for pieces that wait for the results; more are dropped and asked for again.
pub(crate) const BULK_MAX: usize = 256;

/// Requests for pieces that wait to be served; more are dropped and repeated by their senders.
const ASKS_MAX: usize = 256;

/// Wishes to follow an output that wait; more are dropped and repeated.
const WISHES_MAX: usize = 256;

/// Who may have something, and how it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entitled {
    /// The only node that may.
    pub(crate) node: NodeName,
    /// Whether it is for nobody else to read.
    pub(crate) seal: bool,
    /// Bytes of it that may go in a second.
    pub(crate) rate: Option<u64>,
    /// What it is on the link.
    pub(crate) class: Class,
}

/// Who may have the output of the message with this number here. May block.
pub(crate) type SenderOf = Arc<dyn Fn(Ticket) -> Option<Entitled> + Send + Sync>;

/// Who may have what goes along with this message; none once it has ended. May block.
pub(crate) type ReceiverOf = Arc<dyn Fn(MessageId) -> anyhow::Result<Option<Entitled>> + Send + Sync>;

/// What the results are connected to.
pub(crate) struct Wiring {
    /// Where events go.
    pub(crate) engine: EngineHandle,
    /// The way out.
    pub(crate) broker: Broker,
    /// Where the files lie.
    pub(crate) blobs: Blobs,
    /// `Receive`, `Seal`, `Discard`; others are passed over.
    pub(crate) effects: mpsc::Receiver<Vec<Effect>>,
    /// What the broker brings.
    pub(crate) bulk: mpsc::Receiver<Bulk>,
    /// Who may have what.
    pub(crate) sender_of: SenderOf,
    /// The same for contents.
    pub(crate) receiver_of: ReceiverOf,
    /// What goes along with messages of this node.
    pub(crate) contents: Contents,
    /// What messages that run here want of what goes along with them.
    pub(crate) wants: Wants,
    /// What is being written here.
    pub(crate) live: LiveOutputs,
}

/// The handle that all tasks share.
#[derive(Clone)]
pub(crate) struct Results(Arc<Inner>);

struct Inner {
    engine: EngineHandle,
    broker: Broker,
    blobs: Blobs,
    sender_of: SenderOf,
    receiver_of: ReceiverOf,
    contents: Contents,
    wants: Wants,
    /// Held by the task that reads them for as long as it runs; a restarted one goes on where it was.
    inlet: Mutex<Inlet>,
    asks: mpsc::Sender<Ask>,
    asked: Mutex<mpsc::Receiver<Ask>>,
    wishes: mpsc::Sender<Wish>,
    wished: Mutex<mpsc::Receiver<Wish>>,
    live: LiveOutputs,
    audience: Audience,
}

struct Inlet {
    effects: mpsc::Receiver<Vec<Effect>>,
    bulk: mpsc::Receiver<Bulk>,
    wanted: mpsc::Receiver<Want>,
}

/// A wish to see an output while it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    from: NodeName,
    follow: Follow,
}

/// A request for a piece of something.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ask {
    from: NodeName,
    what: What,
    offset: u64,
    len: u64,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// An output of a message of the one who asks.
    Output(Ticket, protocol::outcome::Stream),
    /// What goes along with a message for the one who asks.
    Content(MessageId),
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

impl Results {
    /// Results that do nothing until their tasks run.
    pub(crate) fn new(wiring: Wiring) -> Self {
        let Wiring { engine, broker, blobs, effects, bulk, sender_of, receiver_of, contents, wants, live } = wiring;
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (wishes, wished) = mpsc::channel(WISHES_MAX);
        let (audience, wanted) = Audience::new();
        let inlet = Mutex::new(Inlet { effects, bulk, wanted });
        let (asked, wished) = (Mutex::new(asked), Mutex::new(wished));
        Self(Arc::new(Inner {
            engine,
            broker,
            blobs,
            sender_of,
            receiver_of,
            contents,
            wants,
            inlet,
            asks,
            asked,
            wishes,
            wished,
            live,
            audience,
        }))
    }

    /// Those who look on from here.
    pub(crate) fn audience(&self) -> Audience {
        self.0.audience.clone()
    }
}

#[cfg(test)]
mod tests;
