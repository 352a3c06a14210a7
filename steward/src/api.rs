//! The HTTP API on `steward.sock`, which the command line uses; JSON in and out.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /v1/messages` with an array of messages | `{"ids": […]}` once they are durable; 422 with `errors` by message if one makes no sense, and then none is accepted |
//! | `GET /v1/messages?node&state&since&limit` | messages, newest first |
//! | `GET /v1/messages/{id}` | a message with its history and the beginning of its output |
//! | `GET /v1/messages/{id}/stdout`, `…/stderr` | the output as it is; 409 while it is not here |
//! | `GET /v1/messages/{id}/output?follow&stream&run&stdout&stderr&tail` | what it has written so far as JSON lines, and with `follow=true` what it writes until it has ended. The last line has a `state`. `run`, `stdout` and `stderr` say what is known already: go on there; `tail`: begin with so many lines |
//! | `GET /v1/messages/{id}/events` | the message as a JSON line, now and after each change, until it has ended |
//! | `POST /v1/messages/{id}/cancel` | the message, taken back |
//! | `POST /v1/copies?to&path&name&mode&modified&rate&seal` with the content of a file (or, with `&base&bytes&blake3`, with what it has beside an older version) | `{"id": "…"}` of the message that brings it to its place on that node, once both are durable |
//! | `POST /v1/copies/{id}/placed` | nothing; what the copy has brought is in its place, and what lies here of it goes |
//! | `GET /v1/messages/{id}/results?limit` | what the runs of an order with a schedule have brought: the newest, the oldest of them first |
//! | `GET /v1/schedules?node` | orders with a schedule that were given here and stand |
//! | `GET /v1/nodes` | what is known of other nodes |
//! | `GET /v1/ps` | lanes and tasks |
//! | `POST /v1/ps/stop`, `…/start` with `{"name": "…"}` | the task, once it has stopped or runs; 409 for what must not be stopped |
//! | `GET /v1/errors?node&since&limit` | the newest errors of nodes, as they came in |
//! | `GET /v1/methods` | what the node here can do, and which files of `methods.d/` can't be used |
//! | `GET /v1/rules` | the rules that hold, and whether the file is what holds |
//! | `POST /v1/rules/try` with a message as it might come | what the rules say of it; nothing is sent or run |
//! | `POST /v1/forward` with `{"toNode", "listen", "target", …}` | how a forwarded port is as JSON lines, for as long as somebody reads them. The last line has a `state` |
//! | `GET /v1/keys` | the keys of a node of a fleet, and how far their renewal is; 409 for any other node |
//! | `POST /v1/keys/renew` | the same; the renewal has begun, or goes on |
//! | `GET /v1/info` | this node |
//!
//! The requests about messages are answered on a port as well, if there is one (`port.rs`).
//!
//! An error is `{"error": "…"}`: 400 and 422 for what makes no sense, 404 for what isn't there, 503 while the node stops,
//! 429 while as many messages are outstanding as may be, 507 when the disk is full. Of many messages the first may have been
//! accepted before that; then their `ids` stand beside the error.

pub(crate) mod client;
mod copies;
mod errors;
mod following;
pub(crate) mod forward;
mod keys;
mod live;
mod messages;
mod port;
pub(crate) mod processes;
pub(crate) mod rules;
mod schedules;
pub(crate) mod serve;
pub(crate) mod socket;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use protocol::message::MessageId;
use protocol::outcome::State as MessageState;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::blobs::Blobs;
use crate::broker::LinkBoard;
use crate::engine::{EngineError, EngineHandle, Input};
use crate::enrol::renewal::Renewal;
use crate::forward::Forwards;
use crate::intake::{Fault, Intake, IntakeError};
use crate::processes::Processes;
use crate::results::{Audience, Contents};
use crate::security::rules::Rules;
use crate::supervise::{ControlError, Supervisor};
use crate::syslog::Desk;
use crate::view::{MessageView, MethodView, NodeView};

/// The largest request body, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The largest body of a request that names a process, in bytes.
const NAME_BODY_BYTES_MAX: usize = 4096;

/// All request bodies that are read at the same time, in KiB; more wait. Bodies up to [`SMALL_BODY_BYTES_MAX`] do not count.
const BODIES_KIB_MAX: usize = 128 * 1024;

/// A body of so many bytes never waits for others: whoever announces large ones and sends nothing holds up no ordinary message.
const SMALL_BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a request body may take.
const BODY_LIMIT: Duration = Duration::from_secs(60);

/// How often a message that is followed is looked at even if nothing is reported.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What the socket allows.
const LIMITS: serve::Limits =
    serve::Limits { connections: 256, idle: Duration::from_secs(60), stall: Duration::from_secs(60) };

/// This node, as `GET /v1/info` shows it. Field names are a public interface: add, never rename.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InfoView {
    /// Its name.
    pub(crate) node: String,
    /// The version of steward.
    pub(crate) version: String,
    /// Its process.
    pub(crate) pid: u32,
    /// When the process started.
    pub(crate) started_at: String,
    /// The broker's addresses.
    pub(crate) broker: Vec<String>,
    /// `up` or `down`.
    pub(crate) link: String,
    /// How it is in one word, as `ps` has it.
    #[serde(default)]
    pub(crate) link_state: String,
    /// What that means and what to do, where there is something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) link_note: Option<String>,
    /// Its directory.
    pub(crate) dir: String,
    /// Where it can be given messages over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<String>,
    /// Where its metrics can be read.
    pub(crate) metrics: Option<String>,
    /// Where its profiles can be read.
    pub(crate) profiling: Option<String>,
}

/// What the API needs of the node.
#[derive(Clone)]
pub(crate) struct Api {
    /// Where messages go.
    pub(crate) intake: Intake,
    /// Who knows about messages, nodes and lanes.
    pub(crate) engine: EngineHandle,
    /// Who knows about tasks.
    pub(crate) supervisor: Supervisor,
    /// How the link is.
    pub(crate) link: LinkBoard,
    /// What the node accepts.
    pub(crate) rules: Rules,
    /// What it does with syslog.
    pub(crate) syslog: Desk,
    /// How its keys are renewed; none without an identity.
    pub(crate) renewal: Option<Renewal>,
    /// Connections that are forwarded.
    pub(crate) forwards: Forwards,
    /// Who looks on while messages run.
    pub(crate) audience: Audience,
    /// What goes along with messages.
    pub(crate) contents: Contents,
    /// The node's directory.
    pub(crate) dir: PathBuf,
    /// What the node is at this moment.
    pub(crate) info: Arc<dyn Fn() -> InfoView + Send + Sync>,
}

/// What the handlers share.
type Shared = Arc<Inner>;

struct Inner {
    intake: Intake,
    engine: EngineHandle,
    supervisor: Supervisor,
    processes: Processes,
    link: LinkBoard,
    rules: Rules,
    renewal: Option<Renewal>,
    forwards: Forwards,
    audience: Audience,
    contents: Contents,
    dir: PathBuf,
    blobs: Blobs,
    info: Arc<dyn Fn() -> InfoView + Send + Sync>,
    bodies_kib: Semaphore,
}

impl Inner {
    /// One message, with all that is known of why it waits.
    async fn message(&self, id: MessageId) -> Result<MessageView, ApiError> {
        let mut view = self.engine.ask(|reply| Input::Show(id, reply)).await?;
        self.explain(&mut view);
        if view.state == MessageState::Fetching.as_str() {
            let blobs = self.blobs.clone();
            view.moved_bytes = tokio::task::spawn_blocking(move || blobs.fetched(id)).await.ok();
        } else if view.finished_at.is_none() {
            view.moved_bytes = self.contents.moved(id);
        }
        Ok(view)
    }

    /// Adds to a message that has not left what the broker says about it, which nobody but the link knows.
    fn explain(&self, view: &mut MessageView) {
        let me = self.intake.defaults().from.as_str();
        if view.finished_at.is_some() || view.from_node != me || !matches!(view.state.as_str(), "queued" | "sent") {
            return;
        }
        let denials = self.link.denials();
        if let Some(denied) = denials.of_lane(me, &view.to_node, &view.command_or_event, &view.method) {
            let advice = denied.advice();
            view.reason = Some(view.reason.take().map_or(advice.clone(), |reason| format!("{reason}; {advice}")));
        }
    }
}

impl Api {
    /// Serves on `steward.sock` in the node's directory until the end.
    pub(crate) async fn run(self, end: CancellationToken) -> anyhow::Result<()> {
        let (socket, listener) = socket::listen(&self.dir).await?;
        let supervisor = self.supervisor.clone();
        serve::serve(socket::OfOurs(listener), self.router(), LIMITS, "api connection", &supervisor, end).await;
        drop(socket);
        Ok(())
    }

    /// What the handlers of one server share.
    fn shared(self) -> Shared {
        let Self { intake, engine, supervisor, link, rules, syslog, renewal, forwards, audience, contents, dir, info } =
            self;
        let (blobs, bodies_kib) = (Blobs::new(&dir), Semaphore::new(BODIES_KIB_MAX));
        let processes =
            Processes::new(engine.clone(), supervisor.clone(), link.clone(), rules.clone(), renewal.clone(), &dir)
                .beside(&syslog)
                .forwarding(&forwards);
        Arc::new(Inner {
            intake,
            engine,
            supervisor,
            processes,
            link,
            rules,
            renewal,
            forwards,
            audience,
            contents,
            dir,
            blobs,
            info,
            bodies_kib,
        })
    }

    fn router(self) -> Router {
        messages::routes()
            .route("/v1/copies", post(copies::send))
            .route("/v1/copies/{id}/placed", post(copies::placed))
            .route("/v1/nodes", get(nodes))
            .route("/v1/ps", get(processes::list))
            .route("/v1/ps/stop", post(processes::stop))
            .route("/v1/ps/start", post(processes::start))
            .route("/v1/errors", get(errors::list))
            .route("/v1/methods", get(methods))
            .route("/v1/schedules", get(schedules::list))
            .route("/v1/messages/{id}/results", get(schedules::results))
            .route("/v1/rules", get(rules::view))
            .route("/v1/rules/try", post(rules::try_out))
            .route("/v1/forward", post(forward::open))
            .route("/v1/keys", get(keys::view))
            .route("/v1/keys/renew", post(keys::renew))
            .route("/v1/info", get(info_view))
            .fallback(messages::unknown)
            .with_state(self.shared())
    }
}

/// The body of a request, of at most so many bytes.
async fn body(request: Request, bytes_max: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        let text = format!("the request has more than {bytes_max} bytes; send less at once");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    if length(&request).is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_LIMIT, axum::body::to_bytes(request.into_body(), bytes_max)).await {
        Ok(body) => body.map_err(|_| too_large()),
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the request did not come to its end")),
    }
}

/// How long the body of a request is, as far as it says so.
fn length(request: &Request) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn nodes(State(api): State<Shared>) -> Result<Json<Vec<NodeView>>, ApiError> {
    Ok(Json(api.engine.ask(Input::Nodes).await?))
}

async fn methods(State(api): State<Shared>) -> Json<Vec<MethodView>> {
    Json(api.intake.defaults().own.views())
}

async fn info_view(State(api): State<Shared>) -> Json<InfoView> {
    Json((api.info)())
}

/// Why a request brought nothing.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    error: String,
    errors: Vec<Fault>,
    /// What was accepted before the error.
    ids: Vec<String>,
}

impl ApiError {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), errors: Vec::new(), ids: Vec::new() }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let status = if matches!(error, EngineError::Unknown(_)) {
            StatusCode::NOT_FOUND
        } else if matches!(error, EngineError::Stopping) {
            StatusCode::SERVICE_UNAVAILABLE
        } else if matches!(error, EngineError::Store(_)) {
            StatusCode::INSUFFICIENT_STORAGE
        } else if matches!(error, EngineError::Outstanding(_)) {
            StatusCode::TOO_MANY_REQUESTS
        } else {
            StatusCode::CONFLICT
        };
        Self::new(status, error.to_string())
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let status = match error {
            ControlError::Unknown { .. } => StatusCode::NOT_FOUND,
            ControlError::Refused(_) => StatusCode::CONFLICT,
            ControlError::Late(_) => StatusCode::GATEWAY_TIMEOUT,
        };
        Self::new(status, error.to_string())
    }
}

impl From<IntakeError> for ApiError {
    fn from(error: IntakeError) -> Self {
        let text = error.to_string();
        match error {
            IntakeError::Invalid(errors) => Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, text) },
            IntakeError::Engine { accepted, error } if accepted.is_empty() => error.into(),
            IntakeError::Engine { accepted, error } => {
                let ids = accepted.iter().map(ToString::to_string).collect();
                Self { error: text, ids, ..Self::from(error) }
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct No {
            error: String,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            errors: Vec<Fault>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            ids: Vec<String>,
        }
        (self.status, Json(No { error: self.error, errors: self.errors, ids: self.ids })).into_response()
    }
}

#[cfg(test)]
mod tests;
