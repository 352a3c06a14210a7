//! What the API says of orders with a schedule that this node has given.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::{ApiError, Shared, messages};
use crate::store::{ReadError, Reader};
use crate::view::{ScheduleResultView, ScheduleView};

/// Results in a list when nobody says how many.
const LIST_DEFAULT: usize = 50;

/// The most results in a list: each may have an output.
const LIST_MAX: usize = 1000;

/// What may stand behind `/v1/schedules?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SchedulesQuery {
    node: Option<String>,
}

/// What may stand behind `…/results?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResultsQuery {
    limit: Option<usize>,
}

/// `GET /v1/schedules`: orders that stand, oldest first.
pub(super) async fn list(
    State(api): State<Shared>,
    query: Result<Query<SchedulesQuery>, QueryRejection>,
) -> Result<Json<Vec<ScheduleView>>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    look(&api, move |reader| reader.schedules(query.node.as_deref())).await
}

/// `GET /v1/messages/{id}/results`: the newest, the oldest of them first.
pub(super) async fn results(
    State(api): State<Shared>,
    Path(text): Path<String>,
    query: Result<Query<ResultsQuery>, QueryRejection>,
) -> Result<Json<Vec<ScheduleResultView>>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let (id, limit) = (messages::id(&text)?, query.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX));
    look(&api, move |reader| reader.schedule_results(id, limit)).await
}

/// A look into the file, beside the engine.
async fn look<T: Send + 'static>(
    api: &Shared,
    look: impl FnOnce(&Reader) -> Result<Vec<T>, ReadError> + Send + 'static,
) -> Result<Json<Vec<T>>, ApiError> {
    let dir = api.dir.clone();
    let found = tokio::task::spawn_blocking(move || anyhow::Ok(look(&Reader::open(&dir)?)?)).await;
    let found = found.map_err(anyhow::Error::from).flatten();
    found.map(Json).map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")))
}
