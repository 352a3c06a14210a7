//! What every answer has that goes on while a message is followed: JSON lines, and an ear for what concerns the message.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, StreamExt as _};
use protocol::message::MessageId;
use protocol::step::Report;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// The answer that gives each of these as a line of JSON, as it comes.
pub(super) fn json_lines(views: impl Stream<Item = impl Serialize> + Send + 'static) -> Response {
    let lines = views.map(|view| serde_json::to_string(&view).map(|line| line + "\n"));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// What was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Something about the message.
    Message,
    /// Something about its node.
    Presence,
}

/// Returns when something was reported that concerns a message. None when the node stops.
pub(super) async fn heard(
    reports: &mut broadcast::Receiver<Arc<Report>>,
    message: MessageId,
    to: &str,
) -> Option<Heard> {
    loop {
        match reports.recv().await {
            Ok(report) => match &*report {
                Report::Out { id, .. } if *id == message => return Some(Heard::Message),
                Report::Presence { peer, .. } | Report::StoreLost { peer } if peer.as_str() == to => {
                    return Some(Heard::Presence);
                }
                Report::Out { .. }
                | Report::Presence { .. }
                | Report::StoreLost { .. }
                | Report::In { .. }
                | Report::Conflict { .. }
                | Report::Dropped { .. } => {}
            },
            Err(RecvError::Lagged(_)) => return Some(Heard::Message),
            Err(RecvError::Closed) => return None,
        }
    }
}
