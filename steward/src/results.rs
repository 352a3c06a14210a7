//! Outputs that are too large for a receipt: fetched from the receivers of our messages, and served to the senders of
//! those that ran here. Bytes go between files and the broker and never through the engine, which is told offsets only.
//!
//! Of what has ended, [`Results::receiving`] writes what arrives, [`Results::serving`] sends what others ask for. Neither
//! knows when to ask or when to give up; the core does. What can't be written is logged, and the core's timers ask again.
//!
//! Of what still runs, [`Results::feeding`] shows others what their messages write, and [`Results::following`] asks for what is
//! followed from here ([`Audience`]). The core knows nothing of that: it is a look ahead at what the result will bring.

mod audience;
mod feeding;
mod fetching;
mod following;
mod live_files;
mod serving;

use std::fmt;
use std::sync::Arc;

use protocol::event::Ticket;
use protocol::name::NodeName;
use protocol::step::Effect;
use tokio::sync::{Mutex, mpsc};

use crate::blobs::Blobs;
use crate::broker::wire::live::Follow;
use crate::broker::{Broker, Bulk};
use crate::engine::EngineHandle;
use crate::methods::live::LiveOutputs;
use audience::Want;
pub(crate) use audience::{Attached, Audience, Grown};

/// Pieces and requests for pieces that wait for the results; more are dropped and asked for again.
pub(crate) const BULK_MAX: usize = 256;

/// Requests for pieces that wait to be served; more are dropped and repeated by their senders.
const ASKS_MAX: usize = 256;

/// Wishes to follow an output that wait; more are dropped and repeated.
const WISHES_MAX: usize = 256;

/// Whose message has this number here, and whether it is sealed: only that node may have its output. May block.
pub(crate) type SenderOf = Arc<dyn Fn(Ticket) -> Option<(NodeName, bool)> + Send + Sync>;

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

/// A request for a piece of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ask {
    from: NodeName,
    ticket: Ticket,
    stream: protocol::outcome::Stream,
    offset: u64,
    len: u64,
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

impl Results {
    /// Results that do nothing until their tasks run.
    pub(crate) fn new(wiring: Wiring) -> Self {
        let Wiring { engine, broker, blobs, effects, bulk, sender_of, live } = wiring;
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (wishes, wished) = mpsc::channel(WISHES_MAX);
        let (audience, wanted) = Audience::new();
        let inlet = Mutex::new(Inlet { effects, bulk, wanted });
        let (asked, wished) = (Mutex::new(asked), Mutex::new(wished));
        let inner = Inner { engine, broker, blobs, sender_of, inlet, asks, asked, wishes, wished, live, audience };
        Self(Arc::new(inner))
    }

    /// Those who look on from here.
    pub(crate) fn audience(&self) -> Audience {
        self.0.audience.clone()
    }
}

#[cfg(test)]
mod tests;
