//! Says that the node is there (R16). Nodes send it to central by themselves, as an event that wants no answer. Sent as
//! a command it is a ping with an answer: one line with the node's name, its version and since when it is up.
//!
//! ```json
//! [ { "toNode": "ship1", "data": [], "commandOrEvent": "CommandACK", "method": "SayHello" } ]
//! ```
//!
//! `data` is not looked at: what a node says of itself in its own hellos is read by the registry of nodes.

use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::clock;

/// See the module's text.
pub(crate) struct SayHello;

impl Method for SayHello {
    const NAME: &'static str = "SayHello";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = true;
    type Args = ();

    fn parse(_data: &[String]) -> Result<Self::Args, String> {
        Ok(())
    }

    async fn run((): Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let hello = format!(
            "hello, I'm {}, steward {}, up since {}\n",
            ctx.node(),
            env!("CARGO_PKG_VERSION"),
            clock::rfc3339(ctx.node_started())
        );
        ctx.answer(&hello).await;
        Ok(Ending::DONE)
    }
}
