//! What goes along with messages of this node, for their receivers to ask for: it is whole and durable before its message is
//! accepted, and goes when that has ended.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::message::MessageId;
use protocol::outcome::State;
use protocol::report::Report;
use tokio::sync::broadcast::error::RecvError;

use super::Results;
use crate::blobs::{Blobs, Owner};
use crate::engine::{EngineError, Input};

/// Messages with something that goes along with them that have not ended; one more is not accepted.
const CONTENTS_MAX: usize = 4096;

/// Too many are under way.
#[derive(Debug, thiserror::Error)]
#[error("{CONTENTS_MAX} copies from this node are under way; send more when some have ended")]
pub(crate) struct ContentsFull;

/// All that go along. Clones are the same.
#[derive(Clone)]
pub(crate) struct Contents(Arc<Inner>);

struct Inner {
    blobs: Blobs,
    all: Mutex<BTreeMap<MessageId, Content>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Content {
    /// Whether its message is accepted: before that nobody knows it.
    is_accepted: bool,
    /// Bytes that its receiver has said to have.
    moved: u64,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

impl Contents {
    /// None yet: those of the last process are found by [`Results::keeping`].
    pub(crate) fn new(blobs: Blobs) -> Self {
        Self(Arc::new(Inner { blobs, all: Mutex::default() }))
    }

    /// Where they lie.
    pub(crate) fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    /// Room for one more, whose message is not accepted yet. It has to be [accepted](Self::accepted) or [given up](Self::remove).
    pub(crate) fn begin(&self, id: MessageId) -> Result<(), ContentsFull> {
        let mut all = self.all();
        if all.len() >= CONTENTS_MAX {
            return Err(ContentsFull);
        }
        all.insert(id, Content::default());
        Ok(())
    }

    /// Its message is accepted. Nothing is done where that has ended already.
    pub(crate) fn accepted(&self, id: MessageId) {
        if let Some(content) = self.all().get_mut(&id) {
            content.is_accepted = true;
        }
    }

    /// Bytes that the receiver has of what goes along with this message; none if nothing does.
    pub(crate) fn moved(&self, id: MessageId) -> Option<u64> {
        self.all().get(&id).map(|content| content.moved)
    }

    /// The receiver has so much.
    pub(super) fn has(&self, id: MessageId, bytes: u64) {
        if let Some(content) = self.all().get_mut(&id) {
            content.moved = content.moved.max(bytes);
        }
    }

    /// Removes what went along with this message, if anything did. Blocks.
    pub(crate) fn remove(&self, id: MessageId) {
        if self.all().remove(&id).is_none() {
            return;
        }
        if let Err(error) = self.0.blobs.remove(Owner::Content(id)) {
            tracing::warn!(%id, %error, "what went along with a message that has ended stays until the next start");
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<MessageId, Content>> {
        // Every change is a single call, so it is whole even if its holder panicked.
        self.0.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Results {
    /// Removes what went along with messages that have ended, until the node stops.
    pub(crate) async fn keeping(self) -> anyhow::Result<()> {
        // First the ear, then the eye: no end is missed between the two.
        let mut reports = self.0.engine.reports.subscribe();
        let blobs = self.0.blobs.clone();
        let found = tokio::task::spawn_blocking(move || blobs.contents()).await??;
        for id in found {
            self.0.contents.all().entry(id).or_insert(Content { is_accepted: true, moved: 0 });
        }
        self.look().await?;
        loop {
            match reports.recv().await {
                Ok(report) => {
                    if let Report::Out { id, state: State::Final(_), .. } = &*report {
                        self.drop_content(*id).await?;
                    }
                }
                Err(RecvError::Lagged(_)) => self.look().await?,
                Err(RecvError::Closed) => return Ok(()),
            }
        }
    }

    /// Looks at each whether its message has ended.
    async fn look(&self) -> anyhow::Result<()> {
        let accepted = |(id, content): (&MessageId, &Content)| content.is_accepted.then_some(*id);
        let ids: Vec<MessageId> = self.0.contents.all().iter().filter_map(accepted).collect();
        for id in ids {
            let is_over = match self.0.engine.ask(|reply| Input::Show(id, reply)).await {
                Ok(view) => view.finished_at.is_some(),
                Err(error) => matches!(error, EngineError::Unknown(_)),
            };
            if is_over {
                self.drop_content(id).await?;
            }
        }
        Ok(())
    }

    async fn drop_content(&self, id: MessageId) -> anyhow::Result<()> {
        if self.0.contents.moved(id).is_some() {
            let contents = self.0.contents.clone();
            tokio::task::spawn_blocking(move || contents.remove(id)).await?;
        }
        Ok(())
    }
}
