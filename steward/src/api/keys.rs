//! What the API says and does about the keys of the node.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::{ApiError, Shared};
use crate::enrol::renewal::{NoRenewal, Renewal};
use crate::view::KeysView;

/// `GET /v1/keys`: how they are.
pub(super) async fn view(State(api): State<Shared>) -> Result<Json<KeysView>, ApiError> {
    Ok(Json(renewal(&api)?.view()))
}

/// `POST /v1/keys/renew`: begins to renew them; the answer is how they were.
pub(super) async fn renew(State(api): State<Shared>) -> Result<Json<KeysView>, ApiError> {
    Ok(Json(renewal(&api)?.want(None)))
}

fn renewal(api: &Shared) -> Result<&Renewal, ApiError> {
    let none = || ApiError::new(StatusCode::CONFLICT, NoRenewal::NoIdentity.to_string());
    api.renewal.as_ref().ok_or_else(none)
}
