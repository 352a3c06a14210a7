//! Lists the processes of the node that receives it: its lanes, and the tasks that it is made of (R14). `steward ps --node
//! NODE` sends it and prints a table.
//!
//! ```json
//! [ { "toNode": "ship1", "data": [], "commandOrEvent": "CommandACK", "method": "OpProcessList" } ]
//! ```
//!
//! The answer is one JSON object a line, as `steward ps --json` prints them: `kind` (`out` and `in` for lanes, `task`),
//! `name`, `state`, `messages`, `restarts` and `note`. A task is `running`; `restarting` after a failure; `down` when it has
//! failed too often; `stopped` when somebody has stopped it; `ended` when there is nothing left for it to do.

use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};

/// See the module's text.
pub(crate) struct OpProcessList;

impl Method for OpProcessList {
    const NAME: &'static str = "OpProcessList";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = false;
    type Args = ();

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        if data.is_empty() { Ok(()) } else { Err("data is not empty; it lists all processes".to_owned()) }
    }

    async fn run((): Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let processes = ctx.processes().list().await.map_err(|error| MethodError(error.to_string()))?;
        ctx.answer_json(&processes).await
    }
}
