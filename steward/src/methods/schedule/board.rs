//! The orders that stand on this node, for whoever wants to look at one or to pause it. It keeps nothing: an order itself
//! writes down what it was told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::message::MessageId;
use protocol::name::NodeName;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Orders of one node; more are refused.
pub(crate) const ORDERS_MAX: usize = 1024;

/// Runs of all orders that go on at the same time; more wait for their turn.
const RUNS_AT_ONCE_MAX: usize = 64;

/// Questions to one order that may wait.
const ASKS_MAX: usize = 8;

/// How long an order may take to answer: what it is told has to be on the disk.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// An order, by its sender and its id: two senders may give the same id.
pub(super) type Key = (NodeName, MessageId);

/// What an order is asked.
#[derive(Debug)]
pub(super) struct Ask {
    /// Whether it is to be paused from now on, or not; none to leave it as it is.
    pub(super) pause: Option<bool>,
    pub(super) reply: oneshot::Sender<OrderView>,
}

/// An order, as its node shows it. Times are RFC 3339 in UTC. Field names are a public interface: add, never rename.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderView {
    /// The message that is the order.
    pub(crate) id: String,
    /// Who has given it.
    pub(crate) from_node: String,
    /// When it runs.
    pub(crate) schedule: String,
    /// What it runs.
    pub(crate) method: String,
    /// Whether it is paused.
    pub(crate) paused: bool,
    /// When it is due next.
    pub(crate) next_at: Option<String>,
    /// Runs that have begun.
    pub(crate) runs: u64,
    /// Those of them that go on.
    pub(crate) running: usize,
    /// Runs that were left out.
    pub(crate) missed: u64,
}

/// All orders of the node. Clones are the same.
#[derive(Clone)]
pub(crate) struct Board(Arc<Inner>);

struct Inner {
    orders: Mutex<BTreeMap<Key, mpsc::Sender<Ask>>>,
    room: Arc<Semaphore>,
}

impl Default for Board {
    fn default() -> Self {
        Self(Arc::new(Inner { orders: Mutex::default(), room: Arc::new(Semaphore::new(RUNS_AT_ONCE_MAX)) }))
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

/// An order's place on the board; given up when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    board: Board,
    key: Key,
    pub(super) asks: mpsc::Receiver<Ask>,
}

impl Board {
    /// Puts an order on the board; none if there are too many.
    pub(super) fn put(&self, key: Key) -> Option<Place> {
        let (ask, asks) = mpsc::channel(ASKS_MAX);
        let mut orders = self.orders();
        if orders.len() >= ORDERS_MAX {
            return None;
        }
        orders.insert(key.clone(), ask);
        Some(Place { board: self.clone(), key, asks })
    }

    /// What limits how many runs go on at the same time.
    pub(super) fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.room)
    }

    /// Pauses an order of this sender, or has it go on. The error says why that can't be, in words for the sender.
    pub(crate) async fn pause(&self, from: &NodeName, id: MessageId, pause: bool) -> Result<OrderView, String> {
        let asked = self.orders().get(&(from.clone(), id)).cloned();
        let Some(asked) = asked else {
            return Err(format!("no order {id} of {from} stands here: it has ended, or has not come yet"));
        };
        ask(&asked, Some(pause)).await.ok_or_else(|| {
            format!("order {id} does not answer: it is ending, or its node's disk is full; ask again in a while")
        })
    }

    /// The orders of this sender. One that does not answer is left out.
    pub(crate) async fn list(&self, from: &NodeName) -> Vec<OrderView> {
        let of_sender = |(key, asked): (&Key, &mpsc::Sender<Ask>)| (key.0 == *from).then(|| asked.clone());
        let asked: Vec<_> = self.orders().iter().filter_map(of_sender).collect();
        let answers = asked.iter().map(|asked| ask(asked, None));
        futures_util::future::join_all(answers).await.into_iter().flatten().collect()
    }

    fn orders(&self) -> MutexGuard<'_, BTreeMap<Key, mpsc::Sender<Ask>>> {
        // Every change of the map is a single call, so it is whole even if its holder panicked.
        self.0.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(asked: &mpsc::Sender<Ask>, pause: Option<bool>) -> Option<OrderView> {
    let (reply, answer) = oneshot::channel();
    asked.try_send(Ask { pause, reply }).ok()?;
    tokio::time::timeout(ANSWER_LIMIT, answer).await.ok()?.ok()
}

impl Drop for Place {
    fn drop(&mut self) {
        self.board.orders().remove(&self.key);
    }
}
