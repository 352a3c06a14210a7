//! Gives a node a set of rules that the fleet has signed (R13). `steward rules push FILE --node NODE` sends it.
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJ9.x"], "commandOrEvent": "CommandACK", "method": "OpRulesApply" } ]
//! ```
//!
//! `data[0]` is the set, as `steward rules push` makes it: the text of a file of rules with a version, signed by the fleet
//! key. From then on the node accepts what its own rules accept (`rules.toml`) and these as well: they only take away. The answer
//! is one JSON object with `version` and `rules`, how many there are.
//!
//! The message is `refused`, with the reason, where the node belongs to no fleet, the fleet has not signed it, or a newer
//! version is there already; the same set once more is `done`. Who may send it is up to the node's own rules alone: a node
//! that does not want the fleet's rules has a rule that refuses `OpRulesApply`, and rules of the fleet that refuse everything can still be
//! replaced.

use protocol::outcome::Final;
use serde::Serialize;

use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::security::rules::{PushedError, TOKEN_BYTES_MAX};

/// See the module's text.
pub(crate) struct OpRulesApply;

/// The answer.
#[derive(Debug, Serialize)]
struct Applied {
    version: u64,
    rules: usize,
}

impl Method for OpRulesApply {
    const NAME: &'static str = "OpRulesApply";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = false;
    /// The set as it is signed.
    type Args = String;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        match data {
            [token] if !token.is_empty() && token.len() <= TOKEN_BYTES_MAX => Ok(token.clone()),
            _ => Err("data is not one set of rules; `steward rules push` makes and sends it".to_owned()),
        }
    }

    async fn run(token: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let rules = ctx.rules().clone();
        let applied = tokio::task::spawn_blocking(move || rules.apply(&token)).await;
        match applied.map_err(|error| MethodError(error.to_string()))? {
            Ok(pushed) => ctx.answer_json(&[Applied { version: pushed.version, rules: pushed.rules() }]).await,
            Err(PushedError::File(error)) => Err(MethodError(error.to_string())),
            Err(error) => Ok(Ending::because(Final::Refused, error.to_string())),
        }
    }
}
