//! What the API says and does about messages.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router, response};
use futures_util::stream;
use protocol::message::MessageId;
use protocol::outcome::{Final, State as MessageState, Stream};
use protocol::step::Report;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::AsyncReadExt as _;
use tokio::sync::broadcast;

use super::following::{heard, json_lines};
use super::socket::Peer;
use super::{ApiError, BODY_BYTES_MAX, LOOK_AGAIN, SMALL_BODY_BYTES_MAX, Shared, body, length};
use crate::audit::By;
use crate::blobs::Owner;
use crate::engine::{EngineError, Filter, Input};
use crate::intake::MessageInput;
use crate::view::MessageView;

/// Messages in a list when nobody says how many, and at most.
const LIST_DEFAULT: usize = 50;
/// See [`LIST_DEFAULT`].
const LIST_MAX: usize = 100_000;

/// Bytes of each stream that stand in the JSON of a message. The whole of it can be read at `…/stdout` and `…/stderr`.
const OUTPUT_TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes of an output that are read at once.
const BLOCK_BYTES: usize = 128 * 1024;

/// The answer to messages that are accepted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Accepted {
    /// In the order of the request.
    pub(crate) ids: Vec<String>,
}

/// The requests about messages.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/messages", get(list).post(send))
        .route("/v1/messages/{id}", get(show))
        .route("/v1/messages/{id}/events", get(events))
        .route("/v1/messages/{id}/output", get(super::live::output))
        .route("/v1/messages/{id}/cancel", post(cancel))
        .route("/v1/messages/{id}/{stream}", get(output))
}

/// `POST /v1/messages`: an array of messages, or one.
async fn send(State(api): State<Shared>, request: Request) -> Result<Json<Accepted>, ApiError> {
    let length = length(&request).unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
    // The bodies of all requests together have a limit as well.
    let kib = if length <= SMALL_BODY_BYTES_MAX { 0 } else { u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX) };
    let room = api.bodies_kib.acquire_many(kib).await.map_err(|_| ApiError::from(EngineError::Stopping))?;
    let at_port = request.extensions().get::<SocketAddr>().map(|from| By::Port { from: *from });
    let by = request.extensions().get::<Peer>().copied().map(By::from).or(at_port);
    let body = body(request, BODY_BYTES_MAX).await?;
    let inputs = read(&body)?;
    drop(body);
    let ids = api.intake.submit_read(inputs, by).await?;
    drop(room);
    Ok(Json(Accepted { ids: ids.iter().map(MessageId::to_string).collect() }))
}

fn read(body: &[u8]) -> Result<Vec<Result<MessageInput, String>>, ApiError> {
    let one = |text: &RawValue| serde_json::from_str::<MessageInput>(text.get()).map_err(|error| error.to_string());
    let bad = |error: serde_json::Error| {
        ApiError::new(StatusCode::BAD_REQUEST, format!("the request is no JSON array of messages: {error}"))
    };
    if body.trim_ascii_start().starts_with(b"{") {
        return Ok(vec![one(serde_json::from_slice(body).map_err(bad)?)]);
    }
    let texts: Vec<&RawValue> = serde_json::from_slice(body).map_err(bad)?;
    Ok(texts.into_iter().map(one).collect())
}

/// What may stand behind `/v1/messages?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    node: Option<String>,
    state: Option<String>,
    since: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/messages`: newest first.
async fn list(
    State(api): State<Shared>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Vec<MessageView>>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    if let Some(state) = query.state.as_deref().filter(|state| !is_state(state)) {
        let states = states().join(", ");
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            format!("no state is called {state:?}; there are {states}"),
        ));
    }
    let filter = Filter {
        node: query.node,
        state: query.state,
        since_ms: query.since.as_deref().map(since).transpose()?,
        limit: query.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX),
    };
    let mut views = api.engine.ask(|reply| Input::List(filter, reply)).await?;
    views.iter_mut().for_each(|view| api.explain(view));
    Ok(Json(views))
}

fn states() -> Vec<&'static str> {
    use MessageState::{Fetching, Queued, Running, Stored};
    let open = [Queued, Stored, Running, Fetching];
    open.iter().map(MessageState::as_str).chain(Final::ALL.into_iter().map(Final::as_str)).collect()
}

fn is_state(text: &str) -> bool {
    states().contains(&text)
}

/// RFC 3339, or milliseconds since the Unix epoch.
pub(super) fn since(text: &str) -> Result<u64, ApiError> {
    let bad = || {
        let text = format!("since={text:?} is no time; write it as 2026-11-22T10:42:00Z");
        ApiError::new(StatusCode::BAD_REQUEST, text)
    };
    match text.parse() {
        Ok(millis) => Ok(millis),
        Err(_) => {
            let time: jiff::Timestamp = text.parse().map_err(|_| bad())?;
            u64::try_from(time.as_millisecond()).map_err(|_| bad())
        }
    }
}

pub(super) fn id(text: &str) -> Result<MessageId, ApiError> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        ApiError::new(StatusCode::BAD_REQUEST, format!("{shown:?} is no message id; ids are UUIDs"))
    })
}

/// `GET /v1/messages/{id}`: with history and the beginning of the output.
async fn show(State(api): State<Shared>, Path(text): Path<String>) -> Result<Json<MessageView>, ApiError> {
    let id = id(&text)?;
    let mut view = api.message(id).await?;
    if view.stdout.is_none() && view.stdout_bytes > 0 {
        view.stdout = beginning(&api, id, Stream::Stdout).await;
    }
    if view.stderr.is_none() && view.stderr_bytes > 0 {
        view.stderr = beginning(&api, id, Stream::Stderr).await;
    }
    Ok(Json(view))
}

async fn beginning(api: &Shared, id: MessageId, stream: Stream) -> Option<String> {
    let file = open_output(api, id, stream).await?;
    let mut bytes = Vec::new();
    match file.take(OUTPUT_TEXT_BYTES_MAX).read_to_end(&mut bytes).await {
        Ok(_) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => {
            tracing::warn!(%id, stream = stream.as_str(), %error, "an output can't be read");
            None
        }
    }
}

/// The file with a fetched output, once all of it is there and its hash is right.
pub(super) async fn open_output(api: &Shared, id: MessageId, stream: Stream) -> Option<tokio::fs::File> {
    let blobs = api.blobs.clone();
    let open = tokio::task::spawn_blocking(move || blobs.open_whole(Owner::Out(id), stream));
    open.await.ok()?.ok().map(tokio::fs::File::from_std)
}

/// `GET /v1/messages/{id}/stdout` and `…/stderr`: the bytes as they are.
async fn output(State(api): State<Shared>, Path((text, stream)): Path<(String, String)>) -> Result<Response, ApiError> {
    let id = id(&text)?;
    let Some(stream) = Stream::ALL.into_iter().find(|known| known.as_str() == stream) else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "a message has stdout, stderr and events"));
    };
    let view = api.engine.ask(|reply| Input::Show(id, reply)).await?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    if let Some(file) = open_output(&api, id, stream).await {
        return Ok((kind, Body::from_stream(blocks(file))).into_response());
    }
    let (inline, length) = match stream {
        Stream::Stdout => (view.stdout, view.stdout_bytes),
        Stream::Stderr => (view.stderr, view.stderr_bytes),
    };
    match inline {
        Some(text) => Ok((kind, text).into_response()),
        None if length == 0 => Ok((kind, "").into_response()),
        None => {
            let text = format!("the output ({length} bytes) is not here: the message is {}", view.state);
            Err(ApiError::new(StatusCode::CONFLICT, text))
        }
    }
}

fn blocks(file: tokio::fs::File) -> impl futures_util::Stream<Item = std::io::Result<bytes::Bytes>> {
    stream::try_unfold(file, |mut file| async move {
        let mut block = bytes::BytesMut::with_capacity(BLOCK_BYTES);
        let count = file.read_buf(&mut block).await?;
        Ok((count > 0).then(|| (block.freeze(), file)))
    })
}

/// `POST /v1/messages/{id}/cancel`: takes it back; the answer is the state that it has then.
async fn cancel(State(api): State<Shared>, Path(text): Path<String>) -> Result<Json<MessageView>, ApiError> {
    let id = id(&text)?;
    Ok(Json(api.engine.ask(|reply| Input::Cancel(id, reply)).await?))
}

/// `GET /v1/messages/{id}/events`: the message as a line of JSON, now and after each change, until it has ended.
async fn events(State(api): State<Shared>, Path(text): Path<String>) -> Result<Response, ApiError> {
    let id = id(&text)?;
    // First the ear, then the eye: no change is missed between the two.
    let reports = api.engine.reports.subscribe();
    let view = api.message(id).await?;
    let follow = Follow { api, id, reports, last: None, next: Some(view) };
    let lines = stream::unfold(follow, |mut follow| async move { Some((follow.line().await?, follow)) });
    Ok(json_lines(lines))
}

struct Follow {
    api: Shared,
    id: MessageId,
    reports: broadcast::Receiver<Arc<Report>>,
    last: Option<MessageView>,
    next: Option<MessageView>,
}

impl Follow {
    /// The next line; `None` at the end.
    async fn line(&mut self) -> Option<MessageView> {
        if self.last.as_ref().is_some_and(|last| last.finished_at.is_some()) {
            return None;
        }
        loop {
            let view = match self.next.take() {
                Some(view) => view,
                None => {
                    self.change().await?;
                    self.api.message(self.id).await.ok()?
                }
            };
            if self.last.as_ref() != Some(&view) {
                self.last = Some(view.clone());
                return Some(view);
            }
        }
    }

    /// Waits until the message may have changed. `None` when the node stops.
    async fn change(&mut self) -> Option<()> {
        let end = self.api.supervisor.token();
        let to = self.last.as_ref().map_or("", |view| &view.to_node);
        tokio::select! {
            () = end.cancelled() => None,
            // What a message waits for changes without a report about the message.
            () = tokio::time::sleep(LOOK_AGAIN) => Some(()),
            heard = heard(&mut self.reports, self.id, to) => heard.map(drop),
        }
    }
}

/// Anything else.
pub(super) async fn unknown() -> response::Response {
    ApiError::new(StatusCode::NOT_FOUND, "there is no such path; see /v1/info").into_response()
}
