//! Follows one message through the node's event stream until it has ended, across stops of the node: the message is
//! kept there, so the way to it is looked for until it is back.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::api::client::{Client, ClientError};
use crate::cli::show::has_ended;
use crate::view::{MessageView, NodeView};

/// The first and the longest pause between looks for a node that has stopped.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// See [`PAUSE_FIRST`].
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// When it is first asked who is away, and how often after that.
const PRESENCE_FIRST: Duration = Duration::from_millis(300);
/// See [`PRESENCE_FIRST`].
const PRESENCE_INTERVAL: Duration = Duration::from_secs(2);

/// What is new.
#[derive(Debug)]
pub(super) enum Update {
    /// The message at this place has changed.
    Message(usize, Box<MessageView>),
    /// What is known of other nodes.
    Presence(Vec<NodeView>),
    /// The node here has stopped.
    Gone,
    /// The node here is back.
    Back,
    /// The message at this place can't be followed any further.
    Failed(usize, ClientError),
}

/// Tells of every change of a message until it has ended. The receiver going away ends it too.
pub(super) async fn message(client: Client, place: usize, id: String, updates: mpsc::Sender<Update>) {
    let mut pause = PAUSE_FIRST;
    let mut is_gone = false;
    loop {
        match events(&client, place, &id, &updates, &mut is_gone).await {
            Ok(true) => return,
            Err(error) if !error.is_passing() => {
                tell(&updates, Update::Failed(place, error)).await;
                return;
            }
            Ok(false) | Err(_) => {}
        }
        if !is_gone {
            is_gone = true;
            pause = PAUSE_FIRST;
            if !tell(&updates, Update::Gone).await {
                return;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// One stream of events. Whether the message has ended, or just the stream.
async fn events(
    client: &Client,
    place: usize,
    id: &str,
    updates: &mpsc::Sender<Update>,
    is_gone: &mut bool,
) -> Result<bool, ClientError> {
    let mut events = client.stream(&format!("/v1/messages/{id}/events")).await?;
    while let Some(view) = events.line::<MessageView>().await? {
        if std::mem::take(is_gone) && !tell(updates, Update::Back).await {
            return Ok(true);
        }
        let is_end = has_ended(&view);
        if !tell(updates, Update::Message(place, Box::new(view))).await || is_end {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells now and then who is away, for as long as somebody listens. A node that doesn't answer is noticed elsewhere.
pub(super) async fn presence(client: Client, node: Option<String>, updates: mpsc::Sender<Update>) {
    let path = match node {
        Some(node) => format!("/v1/nodes?node={node}"),
        None => "/v1/nodes".to_owned(),
    };
    let mut pause = PRESENCE_FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = PRESENCE_INTERVAL;
        if let Ok(nodes) = client.get(&path).await
            && !tell(&updates, Update::Presence(nodes)).await
        {
            return;
        }
    }
}

/// Whether anybody listens still.
async fn tell(updates: &mpsc::Sender<Update>, update: Update) -> bool {
    updates.send(update).await.is_ok()
}
