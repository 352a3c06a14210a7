//! What the API does for copies of files: the content comes in as the body of a request, is made durable, and its message is
//! accepted then.

use std::io;

use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use futures_util::StreamExt as _;
use protocol::message::{Kind, MessageId};
use serde::{Deserialize, Serialize};

use super::socket::Peer;
use super::{ApiError, Shared};
use crate::audit::By;
use crate::blobs::{Owner, Writing};
use crate::engine::{Input, little_room};
use crate::intake::{Fault, IntakeError, MessageInput, ids};
use crate::methods;

/// Bytes that are gathered before they are written.
const BLOCK_BYTES: usize = 1024 * 1024;

/// What may stand behind `/v1/copies?`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CopyQuery {
    /// The node.
    to: String,
    /// Where the copy goes there.
    path: String,
    /// What it is called where that is a folder.
    name: Option<String>,
    /// In octal digits.
    mode: String,
    /// In seconds since 1970.
    modified: String,
    /// Bytes a second.
    rate: Option<u64>,
    /// What comes is what the file has beside the version with this hash.
    base: Option<String>,
    /// Then the length and the hash of the whole file.
    bytes: Option<u64>,
    /// See `bytes`.
    blake3: Option<String>,
    #[serde(default)]
    seal: bool,
}

/// The answer: the message is accepted.
#[derive(Debug, Serialize)]
pub(super) struct Sent {
    id: String,
}

impl CopyQuery {
    /// The message that brings so many bytes with this hash.
    fn message(&self, bytes: u64, hash: &blake3::Hash) -> MessageInput {
        let mut data = vec!["put".to_owned(), self.path.clone()];
        data.extend(self.name.as_ref().map(|name| format!("name={name}")));
        match (&self.base, self.bytes, &self.blake3) {
            (Some(base), Some(whole), Some(whole_hash)) => {
                data.extend([format!("bytes={whole}"), format!("blake3={whole_hash}"), format!("base={base}")]);
                data.extend([format!("deltaBytes={bytes}"), format!("deltaBlake3={}", hash.to_hex())]);
            }
            _ => data.extend([format!("bytes={bytes}"), format!("blake3={}", hash.to_hex())]),
        }
        data.extend([format!("mode={}", self.mode), format!("modified={}", self.modified)]);
        data.extend(self.rate.map(|rate| format!("rate={rate}")));
        MessageInput {
            to_node: self.to.clone(),
            data,
            command_or_event: "CommandACK".to_owned(),
            method: methods::COPY_FILE.to_owned(),
            method_timeout: Some(0.0),
            parallel: Some(true),
            seal: self.seal.then_some(true),
            ..MessageInput::default()
        }
    }
}

/// `POST /v1/copies`: the content of a file, for a node.
pub(super) async fn send(
    State(api): State<Shared>,
    query: Result<Query<CopyQuery>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Json<Sent>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    // Whoever sends much hears at once what makes no sense.
    check(&api, query.message(0, &blake3::hash(b"")))?;
    let by = request.extensions().get::<Peer>().copied().map(By::from);
    let id = ids::next();
    let full = |error: crate::results::ContentsFull| ApiError::new(StatusCode::TOO_MANY_REQUESTS, error.to_string());
    api.contents.begin(id).map_err(full)?;
    let sent = accept(&api, &query, id, request, by).await;
    match &sent {
        Ok(()) => api.contents.accepted(id),
        Err(_) => {
            let contents = api.contents.clone();
            tokio::task::spawn_blocking(move || contents.remove(id)).await.map_err(failed)?;
        }
    }
    sent.map(|()| Json(Sent { id: id.to_string() }))
}

/// `POST /v1/copies/{id}/placed`: what a copy has brought is in its place, and goes here.
pub(super) async fn placed(State(api): State<Shared>, Path(text): Path<String>) -> Result<StatusCode, ApiError> {
    let id = super::messages::id(&text)?;
    let view = api.engine.ask(|reply| Input::Show(id, reply)).await?;
    if view.method != methods::COPY_FILE || view.finished_at.is_none() {
        return Err(ApiError::new(StatusCode::CONFLICT, format!("message {id} is no copy that has ended")));
    }
    let blobs = api.blobs.clone();
    let removed = tokio::task::spawn_blocking(move || blobs.remove(Owner::Out(id))).await.map_err(failed)?;
    removed.map_err(full).map(|()| StatusCode::NO_CONTENT)
}

fn check(api: &Shared, message: MessageInput) -> Result<(), ApiError> {
    let data = methods::check(Kind::CommandAck, &message.method, &message.data);
    let checked = data.and_then(|()| message.check(api.intake.defaults(), |_| MessageId(0)).map(drop));
    checked.map_err(|error| IntakeError::Invalid(vec![Fault { index: 0, error }]).into())
}

async fn accept(
    api: &Shared,
    query: &CopyQuery,
    id: MessageId,
    request: Request,
    by: Option<By>,
) -> Result<(), ApiError> {
    let (bytes, hash) = keep(api, id, request).await?;
    let message = query.message(bytes, &blake3::Hash::from(hash)).check(api.intake.defaults(), |_| id);
    let messages = message.map_err(|error| IntakeError::Invalid(vec![Fault { index: 0, error }]))?;
    api.intake.submit_checked(messages, by).await?;
    Ok(())
}

/// Writes the content down. Returns its length and hash once it is durable.
async fn keep(api: &Shared, id: MessageId, request: Request) -> Result<(u64, [u8; 32]), ApiError> {
    let blobs = api.contents.blobs().clone();
    let mut writing =
        tokio::task::spawn_blocking(move || blobs.write_content(id)).await.map_err(failed)?.map_err(full)?;
    let mut body = request.into_body().into_data_stream();
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    while let Some(bytes) = body.next().await {
        let cut = |_| ApiError::new(StatusCode::BAD_REQUEST, "the content did not come to its end");
        block.extend_from_slice(&bytes.map_err(cut)?);
        if block.len() >= BLOCK_BYTES {
            (writing, block) = write(api, writing, block).await?;
        }
    }
    (writing, _) = write(api, writing, block).await?;
    let kept = tokio::task::spawn_blocking(move || writing.finish()).await.map_err(failed)?;
    kept.map_err(full)
}

async fn write(api: &Shared, mut writing: Writing, mut block: Vec<u8>) -> Result<(Writing, Vec<u8>), ApiError> {
    let dir = api.contents.blobs().dir().to_owned();
    let written = tokio::task::spawn_blocking(move || {
        if let Some(why) = little_room(&dir) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        writing.append(&block)?;
        block.clear();
        Ok((writing, block))
    });
    written.await.map_err(failed)?.map_err(full)
}

fn full(error: io::Error) -> ApiError {
    ApiError::new(StatusCode::INSUFFICIENT_STORAGE, format!("the content can't be kept: {error}"))
}

fn failed(error: tokio::task::JoinError) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
