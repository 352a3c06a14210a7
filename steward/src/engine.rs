//! The one loop: what has happened goes in, the protocol decides, the store makes it durable, and only then is anything
//! done about it. Nothing else in the program decides about delivery or writes to the store.
//!
//! The loop has a thread of its own. It never waits for a method, a socket or the broker: what it hands out goes into
//! bounded channels, and what does not fit there is dropped, because every effect may be lost and is tried again.

use std::sync::Arc;

use protocol::Event;
use protocol::message::{Message, MessageId};
use protocol::step::Report;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::view::{MessageView, NodeView, ProcessView};

/// Inputs that may wait for the loop; whoever brings more waits (backpressure).
pub(crate) const INPUTS_MAX: usize = 8192;

/// Batches of effects that may wait for a task; more are dropped and tried again by the protocol's timers.
pub(crate) const EFFECT_BATCHES_MAX: usize = 4096;

/// Reports that a slow listener may be behind before it misses some (it then looks at the state again).
pub(crate) const REPORTS_MAX: usize = 8192;

/// What the loop takes in.
#[derive(Debug)]
pub(crate) enum Input {
    /// From the broker, the methods and the results.
    Event(Event),
    /// Messages that somebody here sends: all of them or none. Answered once they are durable.
    Submit(Vec<Message>, oneshot::Sender<Result<Vec<MessageId>, EngineError>>),
    /// Somebody here takes a message back. Answered with the state that it has then.
    Cancel(MessageId, oneshot::Sender<Result<MessageView, EngineError>>),
    /// A look at one message, with what only the loop knows (attempts, next attempt, why it waits).
    Show(MessageId, oneshot::Sender<Result<MessageView, EngineError>>),
    /// A look at messages.
    List(Filter, oneshot::Sender<Result<Vec<MessageView>, EngineError>>),
    /// A look at the nodes.
    Nodes(oneshot::Sender<Result<Vec<NodeView>, EngineError>>),
    /// A look at the lanes.
    Lanes(oneshot::Sender<Result<Vec<ProcessView>, EngineError>>),
    /// Stop: answer what is here, commit, end the loop.
    Stop(oneshot::Sender<()>),
}

/// Which messages to list, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Only to or from this node.
    pub(crate) node: Option<String>,
    /// Only in this state.
    pub(crate) state: Option<String>,
    /// Only accepted at or after this time, in milliseconds since the Unix epoch.
    pub(crate) since_ms: Option<u64>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// Why the engine could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum EngineError {
    /// The store refused; nothing was accepted.
    #[error("{0}")]
    Store(Arc<str>),
    /// There is no such message.
    #[error("no message {0} is known here; `steward messages` lists those that are")]
    Unknown(MessageId),
    /// The node is stopping.
    #[error("the node is stopping; try again when it runs")]
    Stopping,
}

/// The way to the loop, for everybody.
#[derive(Debug, Clone)]
pub(crate) struct EngineHandle {
    /// Inputs.
    pub(crate) inputs: mpsc::Sender<Input>,
    /// Reports of what changed; `subscribe()` for a receiver of one's own.
    pub(crate) reports: broadcast::Sender<Arc<Report>>,
}

impl EngineHandle {
    /// Brings an event to the loop; waits while it is behind. An event for a loop that has ended is of no use to anybody.
    pub(crate) async fn event(&self, event: Event) {
        if self.inputs.send(Input::Event(event)).await.is_err() {
            tracing::trace!("the engine has ended; an event is dropped");
        }
    }

    /// Accepts messages, all or none; returns once they are durable.
    pub(crate) async fn submit(&self, messages: Vec<Message>) -> Result<Vec<MessageId>, EngineError> {
        self.ask(|reply| Input::Submit(messages, reply)).await
    }

    /// Asks the loop something and waits for the answer.
    pub(crate) async fn ask<T>(
        &self,
        input: impl FnOnce(oneshot::Sender<Result<T, EngineError>>) -> Input,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(input(reply)).await.map_err(|_| EngineError::Stopping)?;
        answer.await.map_err(|_| EngineError::Stopping)?
    }
}
