//! What the API says about the errors of nodes.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::messages::since;
use super::{ApiError, Shared};
use crate::store::{ErrorFilter, Reader};
use crate::view::ErrorView;

/// Errors in a list when nobody says how many.
const LIST_DEFAULT: usize = 50;

/// What may stand behind `/v1/errors?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorsQuery {
    node: Option<String>,
    since: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/errors`: the newest, the oldest of them first.
pub(super) async fn list(
    State(api): State<Shared>,
    query: Result<Query<ErrorsQuery>, QueryRejection>,
) -> Result<Json<Vec<ErrorView>>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let filter = ErrorFilter {
        node: query.node,
        since_ms: query.since.as_deref().map(since).transpose()?,
        limit: query.limit.unwrap_or(LIST_DEFAULT),
    };
    let dir = api.dir.clone();
    // A look into the file, beside the engine.
    let look = tokio::task::spawn_blocking(move || anyhow::Ok(Reader::open(&dir)?.errors(&filter)?));
    let found = look.await.map_err(anyhow::Error::from).flatten();
    found.map(Json).map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")))
}
