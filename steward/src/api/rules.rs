//! What the API says about the node's rules. It changes nothing: rules are a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::message::Kind;
use protocol::name::{MethodName, NodeName};
use serde::{Deserialize, Serialize};

use super::{ApiError, Shared};
use crate::security::certificate::Role;
use crate::security::rules::{Decision, Rules, RulesView};
use crate::security::sender::Sender;

/// A message as it might come.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Trial {
    /// Its sender.
    pub(crate) from_node: String,
    /// The sender's role; without one it is what the node knows the name as.
    #[serde(default)]
    pub(crate) role: Option<String>,
    /// The sender's labels.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Its type.
    pub(crate) command_or_event: String,
    /// Its method.
    pub(crate) method: String,
    /// Its data.
    pub(crate) data: Vec<String>,
}

/// What the rules say of it. Field names are a public interface: add, never rename.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrialView {
    /// Whether it would be accepted.
    pub(crate) accepted: bool,
    /// By which rule it is accepted or refused; none where it is refused because none lets it in.
    pub(crate) rule: Option<String>,
    /// What its sender would be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// As which user it would run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// How long it might run, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<f64>,
    /// How much output it might have, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_output: Option<u64>,
}

impl Trial {
    /// What these rules say of it. The error is a reason in words.
    pub(crate) fn by(&self, rules: &Rules) -> Result<TrialView, String> {
        let name = NodeName::new(&self.from_node).map_err(|error| format!("fromNode: {error}"))?;
        let mut sender = Sender::unsigned(name, rules.central());
        if let Some(role) = &self.role {
            sender.role = Role::parse(role)
                .ok_or_else(|| format!("{role:?} is no role; there are node, central and operator"))?;
        }
        sender.labels = Arc::new(self.labels.clone());
        let kind = Kind::parse(&self.command_or_event)
            .ok_or_else(|| format!("{:?} is none of the four types", self.command_or_event))?;
        let method = MethodName::new(&self.method).map_err(|error| format!("method: {error}"))?;
        Ok(match rules.look_up(&sender, kind, &method, Some(&self.data)) {
            Decision::Accept(grant) => TrialView {
                accepted: true,
                rule: Some(grant.rule.to_string()),
                why: None,
                user: grant.limits.user.map(|user| user.to_string()),
                timeout: grant.limits.timeout.map(|limit| limit.as_secs_f64()),
                max_output: grant.limits.max_output,
            },
            Decision::Refuse(refusal) => TrialView {
                accepted: false,
                rule: refusal.rule.map(|rule| rule.to_string()),
                why: Some(refusal.why),
                user: None,
                timeout: None,
                max_output: None,
            },
        })
    }
}

/// `GET /v1/rules`: what holds.
pub(super) async fn view(State(api): State<Shared>) -> Json<RulesView> {
    Json(api.rules.view())
}

/// `POST /v1/rules/try`: what they would say.
pub(super) async fn try_out(State(api): State<Shared>, body: Bytes) -> Result<Json<TrialView>, ApiError> {
    let bad = |why: String| ApiError::new(StatusCode::BAD_REQUEST, why);
    let trial: Trial =
        serde_json::from_slice(&body).map_err(|error| bad(format!("this is no message to try: {error}")))?;
    trial.by(&api.rules).map(Json).map_err(bad)
}
