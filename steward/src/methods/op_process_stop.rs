//! Stops a task of the node that receives it, until somebody starts it again (`OpProcessStart`) or the node restarts (R14).
//! `steward stop-process NAME --node NODE` sends it.
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["inmsg.txt"], "commandOrEvent": "CommandACK", "method": "OpProcessStop" } ]
//! ```
//!
//! `data[0]` is the name, as `OpProcessList` gives it. The message is `done` once the task has stopped; its answer is how
//! the task is then, as one JSON object. One that has stopped already stays as it is. Nothing is lost by a stop: what a
//! task has accepted is on disk, and what it would have taken in waits.
//!
//! The message is `failed`, with the reason, for what must not be stopped from another node: what messages need to be
//! brought to their end, and the link to the broker, since nobody could start it again. A lane is no task; its
//! messages are taken back with `steward cancel`. Mind that messages with different methods do not wait for each other:
//! wait for the answer before you send the start.

use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::supervise::Whence;

/// See the module's text.
pub(crate) struct OpProcessStop;

impl Method for OpProcessStop {
    const NAME: &'static str = "OpProcessStop";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = false;
    /// The name.
    type Args = String;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        one_name(data)
    }

    async fn run(name: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let process = ctx.processes().stop(&name, Whence::Afar).await;
        ctx.answer_json(&[process.map_err(|error| MethodError(error.to_string()))?]).await
    }
}

/// The name of one process.
pub(super) fn one_name(data: &[String]) -> Result<String, String> {
    match data {
        [name] if !name.is_empty() => Ok(name.clone()),
        _ => Err(r#"data is not one name of a process, e.g. ["inmsg.txt"]"#.to_owned()),
    }
}
