//! Asks another node something with a message, as `steward send` would, and reads the objects of its answer. For verbs
//! with `--node`.

use anyhow::Context as _;
use protocol::message::Kind;
use protocol::name::NodeName;
use serde::de::DeserializeOwned;

use super::exit::{self, Exit};
use super::output;
use super::send::{results, submit};
use crate::api::client::Client;
use crate::clock;
use crate::intake::MessageInput;

/// What the node answers, one object a line; an exit code if it did not come to that, which has been told then. The
/// message is one like any other: for a node that is away it waits until it comes, and Ctrl-C leaves it queued.
pub(super) async fn ask<T: DeserializeOwned>(
    client: &Client,
    node: &NodeName,
    method: &str,
    data: Vec<String>,
) -> anyhow::Result<Result<Vec<T>, Exit>> {
    let message = MessageInput {
        to_node: node.to_string(),
        data,
        command_or_event: Kind::CommandAck.as_str().to_owned(),
        method: method.to_owned(),
        ..MessageInput::default()
    };
    // The wall clock may be set back a little in the meantime.
    let since_ms = clock::wall().0.saturating_sub(60_000);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut ids = tokio::select! {
        ids = submit(client, std::slice::from_ref(&message)) => ids?,
        _ = &mut interrupt => {
            output::note("the node had not answered: whether it has the message is shown by `steward messages`");
            return Ok(Err(Exit(exit::CTRL_C)));
        }
    };
    let id = ids.pop().context("the node has accepted no message")?;
    let (exit, text) = results::collect(client, (node.to_string(), id), since_ms, interrupt.as_mut()).await?;
    if exit != Exit::OK {
        return Ok(Err(exit));
    }
    let objects: Result<Vec<T>, _> = text.lines().map(serde_json::from_str).collect();
    let why = || format!("the answer of {node} can't be read; is steward there of another version?");
    Ok(Ok(objects.with_context(why)?))
}
