//! Waits for the message of a copy to end, across stops of the node here.

use std::time::Duration;

use super::meter::{Line, Meter};
use crate::api::client::{Client, ClientError};
use crate::cli::show::has_ended;
use crate::view::MessageView;

/// The first and the longest pause between looks at a message: what is short is over soon.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// See [`PAUSE_FIRST`].
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// The message once it has ended.
pub(super) async fn ended(client: &Client, id: &str, line: Line, meter: &Meter) -> anyhow::Result<MessageView> {
    let mut pause = PAUSE_FIRST;
    loop {
        match client.get::<MessageView>(&format!("/v1/messages/{id}")).await {
            Ok(view) if has_ended(&view) => {
                meter.ended(line, &view);
                return Ok(view);
            }
            Ok(view) => meter.seen(line, view),
            Err(error) if error.is_passing() => meter.gone(),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Waits a little for a node that is not there.
pub(super) async fn pause(meter: &Meter) {
    meter.gone();
    tokio::time::sleep(PAUSE_MAX).await;
}

/// Asks until the node is there to answer.
pub(super) async fn again<T>(meter: &Meter, ask: impl AsyncFn() -> Result<T, ClientError>) -> Result<T, ClientError> {
    loop {
        match ask().await {
            Err(error) if error.is_passing() => pause(meter).await,
            answer => return answer,
        }
    }
}
