//! What the API says and does about the node's processes.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{ApiError, NAME_BODY_BYTES_MAX, Shared, body};
use crate::supervise::Whence;
use crate::view::ProcessView;

/// Which process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    /// Its name, as the list has it.
    pub(crate) name: String,
}

/// `GET /v1/ps`: all of them.
pub(super) async fn list(State(api): State<Shared>) -> Result<Json<Vec<ProcessView>>, ApiError> {
    Ok(Json(api.processes.list().await?))
}

/// `POST /v1/ps/stop`: stops a task; the answer is how it is then.
pub(super) async fn stop(State(api): State<Shared>, request: Request) -> Result<Json<ProcessView>, ApiError> {
    Ok(Json(api.processes.stop(&named(request).await?, Whence::Here).await?))
}

/// `POST /v1/ps/start`: starts a task; the answer is how it is then.
pub(super) async fn start(State(api): State<Shared>, request: Request) -> Result<Json<ProcessView>, ApiError> {
    Ok(Json(api.processes.start(&named(request).await?).await?))
}

async fn named(request: Request) -> Result<String, ApiError> {
    let named: Named = serde_json::from_slice(&body(request, NAME_BODY_BYTES_MAX).await?)
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, format!("the request names no process: {error}")))?;
    Ok(named.name)
}
