//! What goes wrong in this node goes to the central error log, as messages like any other: kept while the link is away,
//! and delivered in order. What is told, and what is only counted, is decided in `troubles.rs`.

use std::time::Duration;

use protocol::message::Kind;
use protocol::name::{Lane, MethodName, NodeName};
use tokio_util::sync::CancellationToken;

use crate::engine::{EngineHandle, Input};
use crate::intake::{Intake, IntakeError, MessageInput};
use crate::troubles::{ERROR_LOG, Troubles};

/// Errors that may be on their way to the central error log. While there are more, no further message is made of any;
/// they are summed up, and the sum is told when there is room again.
const WAITING_MAX: u64 = 1000;

/// The pause before it is looked again whether there is room.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The pause before an error is queued that could not be.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Sends errors to the central error log. Clones send the same ones, so only one may run at a time.
#[derive(Clone)]
pub(super) struct Reporter {
    intake: Intake,
    engine: EngineHandle,
    troubles: Troubles,
    lane: Lane,
}

impl Reporter {
    /// One that sends to this node.
    pub(super) fn new(
        intake: Intake,
        engine: EngineHandle,
        troubles: Troubles,
        to: NodeName,
    ) -> Result<Self, protocol::name::NameError> {
        let lane = Lane { peer: to, kind: Kind::EventAck, method: MethodName::new(ERROR_LOG)? };
        Ok(Self { intake, engine, troubles, lane })
    }

    /// Sends until the node stops.
    pub(super) async fn run(self, end: CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                // An error is the first one until it is queued, so none is lost where this ends.
                () = self.send() => self.troubles.pop(),
            }
        }
    }

    /// Queues the next error, once there is one and room for it: one that tells of a full disk has to wait for its end.
    async fn send(&self) {
        let message = MessageInput {
            to_node: self.lane.peer.to_string(),
            data: vec![self.troubles.first().await],
            command_or_event: self.lane.kind.as_str().to_owned(),
            method: self.lane.method.to_string(),
            // For ever, whatever holds for other messages: nobody looks after these.
            retries: Some(0),
            ..MessageInput::default()
        };
        while self.engine.ask(|reply| Input::Waiting(self.lane.clone(), reply)).await.unwrap_or(0) >= WAITING_MAX {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        loop {
            match self.intake.submit(vec![message.clone()]).await {
                Ok(_) => return,
                Err(IntakeError::Invalid(faults)) => {
                    return tracing::warn!(lane = %self.lane, ?faults, "an error can't be sent to the error log");
                }
                Err(IntakeError::Engine { .. }) => tokio::time::sleep(TRY_AGAIN).await,
            }
        }
    }
}
