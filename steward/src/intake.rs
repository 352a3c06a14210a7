//! The one way in: whatever brings messages (`inmsg.txt`, `messages.d/`, `startup/`, the socket, the node itself) ends in [`Intake::submit`] or
//! [`Intake::submit_checked`], which returns once the messages are durable.
//!
//! It never sends: what is accepted waits in the outbox for the engine.

pub(crate) mod document;
mod holders;
pub(crate) mod ids;
pub(crate) mod inmsg;
pub(crate) mod input;
mod rejected;
pub(crate) mod split;
pub(crate) mod spool;
pub(crate) mod startup;
mod taken;

use std::sync::Arc;
use std::time::Duration;

use protocol::message::{Message, MessageId};
use protocol::name::NodeName;

use crate::audit::{Audit, By};
use crate::engine::{EngineError, EngineHandle};
use crate::methods::OwnMethods;
use crate::security::sealing::Policy;
use crate::store::{CURSOR_BYTES_MAX, Cursor};

pub(crate) use input::MessageInput;

/// The most messages that are handed to the engine at once.
pub(crate) const CHUNK_MESSAGES_MAX: usize = 1000;

/// The most bytes of `data` that are handed to the engine at once; a single message always fits.
pub(crate) const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The most messages of one request: a list of nodes is short, and what it asks for is not.
pub(crate) const REQUEST_MESSAGES_MAX: usize = 1_000_000;

/// The most faults of one request that are listed.
const FAULTS_MAX: usize = 100;

/// What a message has that doesn't say otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    /// This node.
    pub(crate) from: NodeName,
    /// How long to wait for a first receipt.
    pub(crate) timeout: Duration,
    /// How many attempts; 0 is without limit.
    pub(crate) retries: u32,
    /// How long a method may run; `None` is without limit.
    pub(crate) method_timeout: Option<Duration>,
    /// Whether commands for other nodes are accepted. Where the broker takes none from this node, they would wait for ever.
    pub(crate) may_command: bool,
    /// Whether this node has the keys to seal.
    pub(crate) may_seal: bool,
    /// What is sealed that does not ask for it.
    pub(crate) seal: Policy,
    /// The node's own methods, to which results may go.
    pub(crate) own: OwnMethods,
}

impl Defaults {
    /// The seed's defaults (R10).
    #[cfg(test)]
    pub(crate) fn new(from: NodeName) -> Self {
        Self {
            from,
            timeout: Duration::from_secs(10),
            retries: 0,
            method_timeout: None,
            may_command: true,
            may_seal: true,
            seal: Policy::default(),
            own: OwnMethods::none(),
        }
    }
}

/// Takes messages in.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    engine: EngineHandle,
    defaults: Arc<Defaults>,
    /// Takes down who gave what.
    audit: Option<Audit>,
}

/// What is wrong with one message of a request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Fault {
    /// Its place in the request, counted from 0.
    pub(crate) index: usize,
    /// Why it is refused, and what to do about it.
    pub(crate) error: String,
}

/// Why messages were not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum IntakeError {
    /// Some of them make no sense. None was accepted.
    #[error("{} of the messages can't be sent; the first is message {}: {}", .0.len(), .0.first().map_or(0, |fault| fault.index), .0.first().map_or("", |fault| &fault.error))]
    Invalid(Vec<Fault>),
    /// The engine did not take the rest. The first ones were accepted.
    #[error("{error}{}", before(accepted))]
    Engine {
        /// The ids of those that were accepted, in order.
        accepted: Vec<MessageId>,
        /// Why it took no more.
        error: EngineError,
    },
}

/// How many were accepted before an error, if any.
fn before(accepted: &[MessageId]) -> String {
    match accepted.len() {
        0 => String::new(),
        many => format!(" (the first {many} messages were accepted before that)"),
    }
}

impl Intake {
    /// An intake for this node.
    pub(crate) fn new(engine: EngineHandle, defaults: Defaults) -> Self {
        Self { engine, defaults: Arc::new(defaults), audit: None }
    }

    /// With an audit log beside it.
    pub(crate) fn beside(self, audit: Audit) -> Self {
        Self { audit: Some(audit), ..self }
    }

    /// What a message has that doesn't say otherwise.
    pub(crate) fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// Accepts messages of the node itself; returns their ids once they are durable. If one makes no sense, none is
    /// accepted.
    pub(crate) async fn submit(&self, inputs: Vec<MessageInput>) -> Result<Vec<MessageId>, IntakeError> {
        self.submit_read(inputs.into_iter().map(Ok).collect(), None).await
    }

    /// The same for messages that somebody has given, of which some could not even be read, with the reason.
    pub(crate) async fn submit_read(
        &self,
        inputs: Vec<Result<MessageInput, String>>,
        by: Option<By>,
    ) -> Result<Vec<MessageId>, IntakeError> {
        let mut messages = Vec::with_capacity(inputs.len());
        let mut faults = Vec::new();
        for (index, input) in inputs.into_iter().enumerate() {
            match input.and_then(|input| input.check(&self.defaults, |_| ids::next())) {
                Ok(more) if messages.len() + more.len() > REQUEST_MESSAGES_MAX => {
                    let error = format!("more than {REQUEST_MESSAGES_MAX} messages are asked for; send less at once");
                    faults.push(Fault { index, error });
                    break;
                }
                Ok(more) => messages.extend(more),
                Err(error) if faults.len() < FAULTS_MAX => faults.push(Fault { index, error }),
                Err(_) => break,
            }
        }
        if !faults.is_empty() {
            return Err(IntakeError::Invalid(faults));
        }
        self.submit_checked(messages, by).await
    }

    /// Accepts messages that are checked and have their ids. An id that was accepted before is not accepted twice: the
    /// engine knows it.
    pub(crate) async fn submit_checked(
        &self,
        messages: Vec<Message>,
        by: Option<By>,
    ) -> Result<Vec<MessageId>, IntakeError> {
        let mut accepted = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let mut chunk = Vec::new();
            let mut bytes = 0;
            while let Some(message) = messages.next_if(|message| {
                chunk.is_empty() || (chunk.len() < CHUNK_MESSAGES_MAX && bytes + message.body.len() <= CHUNK_BYTES_MAX)
            }) {
                bytes += message.body.len();
                chunk.push(message);
            }
            match self.hand_over(chunk, by).await {
                Ok(ids) => accepted.extend(ids),
                Err(error) => return Err(IntakeError::Engine { accepted, error }),
            }
        }
        Ok(accepted)
    }

    /// Messages of the node itself, checked and with their ids. If one makes no sense, there are none.
    pub(crate) fn prepare(&self, inputs: Vec<MessageInput>) -> Result<Vec<Message>, IntakeError> {
        let mut messages = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.into_iter().enumerate() {
            let checked = input.check(&self.defaults, |_| ids::next());
            messages.extend(checked.map_err(|error| IntakeError::Invalid(vec![Fault { index, error }]))?);
        }
        Ok(messages)
    }

    /// Accepts messages of the node itself, at most [`CHUNK_MESSAGES_MAX`] and [`CHUNK_BYTES_MAX`] of `data`, and keeps how
    /// far whoever gives them is, in one transaction: all of it or nothing. There may be no messages. After an error of the
    /// engine it may be so all the same, later: whoever tries again does so with the very same messages, whose ids the engine knows.
    pub(crate) async fn keep(&self, messages: Vec<Message>, cursor: Cursor) -> Result<Vec<MessageId>, IntakeError> {
        let bytes: usize = messages.iter().map(|message| message.body.len()).sum();
        if messages.len() > CHUNK_MESSAGES_MAX || bytes > CHUNK_BYTES_MAX || cursor.text.len() > CURSOR_BYTES_MAX {
            let (many, long) = (messages.len(), cursor.text.len());
            let error = format!(
                "{many} messages with {bytes} bytes and a cursor of {long} bytes are too much for one transaction"
            );
            return Err(IntakeError::Invalid(vec![Fault { index: 0, error }]));
        }
        let kept = self.engine.keep(messages, cursor).await;
        kept.map_err(|error| IntakeError::Engine { accepted: Vec::new(), error })
    }

    async fn hand_over(&self, chunk: Vec<Message>, by: Option<By>) -> Result<Vec<MessageId>, EngineError> {
        let Some((audit, by)) = self.audit.as_ref().zip(by) else { return self.engine.submit(chunk).await };
        let ids: Vec<MessageId> = chunk.iter().map(|message| message.id).collect();
        audit.brought(&chunk, by);
        let taken = self.engine.submit(chunk).await;
        audit.was_answered(ids.into_iter());
        taken
    }
}

#[cfg(test)]
pub(crate) mod tests;
