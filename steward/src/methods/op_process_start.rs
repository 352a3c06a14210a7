//! Starts a task of the node that receives it that was stopped (`OpProcessStop`) or is down (R14). `steward start-process
//! NAME --node NODE` sends it.
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["inmsg.txt"], "commandOrEvent": "CommandACK", "method": "OpProcessStart" } ]
//! ```
//!
//! `data[0]` is the name, as `OpProcessList` gives it. The message is `done` once the task runs; its answer is how the
//! task is then, as one JSON object. One that runs already is left alone. A task that was down has all its tries again.

use super::op_process_stop::{answer, one_name};
use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};

/// See the module's text.
pub(crate) struct OpProcessStart;

impl Method for OpProcessStart {
    const NAME: &'static str = "OpProcessStart";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = false;
    /// The name.
    type Args = String;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        one_name(data)
    }

    async fn run(name: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let process = ctx.processes().start(&name).await;
        answer(process, ctx).await
    }
}
