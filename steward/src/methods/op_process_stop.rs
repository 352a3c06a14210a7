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
//! The message is `refused`, with the reason, for what must not be stopped from another node: what messages need to be
//! brought to their end, and the link to the broker, since nobody could start it again. A lane is no task; its
//! messages are taken back with `steward cancel`. Mind that messages with different methods do not wait for each other:
//! wait for the answer before you send the start.

use protocol::outcome::Final;

use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::supervise::{ControlError, Whence};
use crate::view::ProcessView;

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
        answer(process, ctx).await
    }
}

/// The name of one process.
pub(super) fn one_name(data: &[String]) -> Result<String, String> {
    match data {
        [name] if !name.is_empty() => Ok(name.clone()),
        _ => Err(r#"data is not one name of a process, e.g. ["inmsg.txt"]"#.to_owned()),
    }
}

/// How the process is now, or why nothing was done. A refusal is an answer, and no error of this node.
pub(super) async fn answer(
    process: Result<ProcessView, ControlError>,
    ctx: &mut MethodCtx<'_>,
) -> Result<Ending, MethodError> {
    match process {
        Ok(process) => ctx.answer_json(&[process]).await,
        Err(error @ (ControlError::Refused(_) | ControlError::Unknown { .. })) => {
            Ok(Ending::because(Final::Refused, error.to_string()))
        }
        Err(error @ ControlError::Late(_)) => Err(MethodError(error.to_string())),
    }
}
