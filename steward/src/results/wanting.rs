//! What messages that run here want of what goes along with them: each has a place where its pieces come in, and asks for the
//! next ones from where it is. It knows nothing of what becomes of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};

use protocol::message::{Message, MessageId};
use protocol::name::NodeName;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use super::Results;
use crate::broker::Window;
use crate::broker::wire::content::{Part, Want};

/// Messages whose content comes in at the same time; others wait.
const WANTED_MAX: usize = 16;

/// Pieces of one content that wait to be written; more are dropped, and asked for again.
const PARTS_MAX: usize = 64;

/// Questions that wait to be sent; whoever asks waits then.
const QUESTIONS_MAX: usize = 64;

/// What a message is known by here: two senders may give the same id.
type Key = (NodeName, MessageId);

/// All that is wanted. Clones are the same.
#[derive(Clone)]
pub(crate) struct Wants(Arc<Inner>);

struct Inner {
    places: StdMutex<BTreeMap<Key, mpsc::Sender<Came>>>,
    room: Arc<Semaphore>,
    questions: mpsc::Sender<Question>,
    asked: Mutex<mpsc::Receiver<Question>>,
}

struct Question {
    to: NodeName,
    seal: bool,
    want: Want,
}

/// What comes in for a message.
#[derive(Debug)]
pub(crate) enum Came {
    /// A piece.
    Part(Part),
    /// There is a new link: what was asked for and is not here has to be asked for again.
    Link,
}

/// The place where the content of one message comes in.
pub(crate) struct Wanted {
    key: Key,
    seal: bool,
    parts: mpsc::Receiver<Came>,
    wants: Wants,
    _room: OwnedSemaphorePermit,
}

impl fmt::Debug for Wants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wants").finish_non_exhaustive()
    }
}

impl Default for Wants {
    fn default() -> Self {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let (places, room) = (StdMutex::default(), Arc::new(Semaphore::new(WANTED_MAX)));
        Self(Arc::new(Inner { places, room, questions, asked: Mutex::new(asked) }))
    }
}

impl Wants {
    /// A place for what goes along with this message, once there is room for one. None: the node stops.
    pub(crate) async fn open(&self, message: &Message) -> Option<Wanted> {
        let room = Arc::clone(&self.0.room).acquire_owned().await.ok()?;
        let (place, parts) = mpsc::channel(PARTS_MAX);
        let key = (message.from.clone(), message.id);
        self.places().insert(key.clone(), place);
        Some(Wanted { key, seal: message.options.seal, parts, wants: self.clone(), _room: room })
    }

    /// Hands a piece to whoever waits for it. False: it is dropped.
    pub(super) fn give(&self, from: NodeName, part: Part) -> bool {
        let key = (from, part.id);
        self.places().get(&key).is_some_and(|place| place.try_send(Came::Part(part)).is_ok())
    }

    /// Tells all that there is a new link.
    fn link_up(&self) {
        for place in self.places().values() {
            // Who has no room for that has pieces to write, and asks again behind them.
            let _room: bool = place.try_send(Came::Link).is_ok();
        }
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<Key, mpsc::Sender<Came>>> {
        // Every change is a single call, so it is whole even if its holder panicked.
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    /// Asks for the bytes from `offset` on, `len` at most.
    pub(crate) async fn ask(&self, offset: u64, len: u64) {
        let (to, id) = self.key.clone();
        let question = Question { to, seal: self.seal, want: Want { id, offset, len } };
        // Nobody takes it any more when the node stops; then this is stopped as well.
        self.wants.0.questions.send(question).await.unwrap_or_default();
    }

    /// What comes next. None: the node stops.
    pub(crate) async fn came(&mut self) -> Option<Came> {
        self.parts.recv().await
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.wants.places().remove(&self.key);
    }
}

impl Results {
    /// Asks the senders of messages for what goes along with them, until the node stops.
    pub(crate) async fn wanting(self) -> anyhow::Result<()> {
        let mut asked = self.0.wants.0.asked.lock().await;
        let (mut ups, mut window) = (self.0.broker.ups(), Window::default());
        loop {
            let Question { to, seal, want } = tokio::select! {
                up = ups.changed() => match up {
                    Ok(()) => {
                        self.0.wants.link_up();
                        continue;
                    }
                    Err(_) => return Ok(()),
                },
                question = asked.recv() => match question {
                    Some(question) => question,
                    None => return Ok(()),
                },
            };
            let sent = self.0.broker.send_want(&to, seal, &want, &mut window).await;
            tracing::trace!(%to, id = %want.id, offset = want.offset, ?sent, "asked for what goes along with a message");
        }
    }
}
