//! Outputs of commands that run here, for those who follow them: how much each has written, and a way to ask for it
//! where it still lies in memory. It knows nothing of who follows, and costs a command next to nothing while nobody does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use protocol::event::Ticket;
use protocol::message::{Message, MessageId};
use protocol::name::NodeName;
use protocol::outcome::Stream;
use protocol::time::Wall;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::broker::wire::live::index;

/// Questions to one stream of a run that may wait; there is one asker.
const ASKS_MAX: usize = 4;

/// How long a stream may take to answer: it may wait for the disk.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What a message is known by here: two senders may give the same id.
pub(crate) type Key = (NodeName, MessageId);

/// All outputs that are being written. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct LiveOutputs(Arc<Inner>);

#[derive(Default)]
struct Inner {
    all: Mutex<BTreeMap<Key, Arc<LiveOutput>>>,
    /// Whether anybody follows any of them; nobody is told of news otherwise.
    followed: AtomicBool,
    news: Notify,
}

/// What a run writes, while it does.
#[derive(Debug)]
pub(crate) struct LiveOutput {
    /// Our number for its message.
    pub(crate) ticket: Ticket,
    /// The run: when it started, in milliseconds since 1970.
    pub(crate) run: u64,
    /// Whether its message came sealed.
    pub(crate) sealed: bool,
    lengths: [AtomicU64; 2],
    asks: [mpsc::Sender<Ask>; 2],
}

/// A question for what follows the byte `from`.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) from: u64,
    pub(super) len: usize,
    pub(super) reply: oneshot::Sender<Kept>,
}

/// Where a piece of an output is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    /// In its file, which has so many bytes.
    InFile(u64),
    /// Here.
    Here(Bytes),
}

impl fmt::Debug for LiveOutputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveOutputs").finish_non_exhaustive()
    }
}

impl LiveOutputs {
    /// A run begins to write.
    pub(super) fn begin(&self, message: &Message, ticket: Ticket, started: Wall) -> Live {
        let (to_stdout, stdout) = mpsc::channel(ASKS_MAX);
        let (to_stderr, stderr) = mpsc::channel(ASKS_MAX);
        let output = Arc::new(LiveOutput {
            ticket,
            // 0 stands for none on the wire.
            run: started.0.max(1),
            sealed: message.options.seal,
            lengths: [AtomicU64::new(0), AtomicU64::new(0)],
            asks: [to_stdout, to_stderr],
        });
        let key = (message.from.clone(), message.id);
        self.all().insert(key.clone(), Arc::clone(&output));
        self.news();
        let view = |stream, asks| View { outputs: self.clone(), output: Arc::clone(&output), stream, asks };
        let views = [view(Stream::Stdout, stdout), view(Stream::Stderr, stderr)];
        Live { views, place: OnAir { outputs: self.clone(), key, output } }
    }

    /// The output of a message that runs.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<LiveOutput>> {
        self.all().get(key).cloned()
    }

    /// Whether a message with this id runs here that is somebody else's.
    pub(crate) fn is_of_another(&self, (sender, id): &Key) -> bool {
        self.all().keys().any(|(from, known)| known == id && from != sender)
    }

    /// Whether to tell of news from now on.
    pub(crate) fn follow(&self, followed: bool) {
        self.0.followed.store(followed, Ordering::Relaxed);
    }

    /// Returns when something was written that somebody may follow, or a run has begun.
    pub(crate) async fn changed(&self) {
        self.0.news.notified().await;
    }

    fn news(&self) {
        if self.0.followed.load(Ordering::Relaxed) {
            self.0.news.notify_one();
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<LiveOutput>>> {
        // Every change of the map is a single call, so it is whole even if its holder panicked.
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LiveOutput {
    /// How many bytes each stream has so far: those that are kept, whatever else was written.
    pub(crate) fn lengths(&self) -> [u64; 2] {
        [self.lengths[0].load(Ordering::Relaxed), self.lengths[1].load(Ordering::Relaxed)]
    }

    /// Asks for up to `len` bytes from byte `from` on. None: the run has ended, or its disk hangs.
    pub(crate) async fn ask(&self, stream: Stream, from: u64, len: usize) -> Option<Kept> {
        let (reply, answer) = oneshot::channel();
        self.asks[index(stream)].try_send(Ask { from, len, reply }).ok()?;
        tokio::time::timeout(ANSWER_LIMIT, answer).await.ok()?.ok()
    }
}

/// A run's own end of its output.
#[derive(Debug)]
pub(super) struct Live {
    /// Of standard output and standard error.
    pub(super) views: [View; 2],
    /// To be dropped when nothing more is written.
    pub(super) place: OnAir,
}

/// One stream of a run, as those see it who follow it.
#[derive(Debug)]
pub(super) struct View {
    outputs: LiveOutputs,
    output: Arc<LiveOutput>,
    stream: Stream,
    asks: mpsc::Receiver<Ask>,
}

impl View {
    /// So many bytes of it are kept now.
    pub(super) fn has(&self, bytes: u64) {
        self.output.lengths[index(self.stream)].store(bytes, Ordering::Relaxed);
        self.outputs.news();
    }

    /// The next question.
    pub(super) async fn asked(&mut self) -> Option<Ask> {
        self.asks.recv().await
    }
}

/// A run's place among those that can be followed; given up when it is dropped.
#[derive(Debug)]
pub(super) struct OnAir {
    outputs: LiveOutputs,
    key: Key,
    output: Arc<LiveOutput>,
}

impl Drop for OnAir {
    fn drop(&mut self) {
        let mut all = self.outputs.all();
        if all.get(&self.key).is_some_and(|output| Arc::ptr_eq(output, &self.output)) {
            all.remove(&self.key);
        }
    }
}
