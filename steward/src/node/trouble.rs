//! What goes wrong in this node's own tasks goes to the central error log, as a message like any other: kept while the
//! link is away, and delivered in order.

use protocol::message::Kind;
use protocol::name::NodeName;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::intake::{Intake, MessageInput};
use crate::supervise::Alarm;

/// Sends every alarm to the error log on `to`, until the node stops.
pub(super) async fn report(
    mut alarms: broadcast::Receiver<Alarm>,
    intake: Intake,
    to: NodeName,
    end: CancellationToken,
) {
    loop {
        let text = tokio::select! {
            () = end.cancelled() => return,
            alarm = alarms.recv() => match alarm {
                Ok(alarm) => alarm.to_string(),
                Err(RecvError::Lagged(missed)) => format!("and {missed} more errors that came too fast to be told"),
                Err(RecvError::Closed) => return,
            },
        };
        tracing::error!(error = %text, "something went wrong in this node");
        let message = MessageInput {
            to_node: to.to_string(),
            data: vec![text],
            command_or_event: Kind::EventAck.as_str().to_owned(),
            method: "ErrorLog".to_owned(),
            ..MessageInput::default()
        };
        if let Err(error) = intake.submit(vec![message]).await {
            tracing::warn!(%to, %error, "the error could not be queued for the error log");
        }
    }
}
