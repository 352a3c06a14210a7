//! Takes what a node tells of an order with a schedule that it was given by this one: how the order is, and how each run of it ended.
//! Nodes send it by themselves; `steward schedules` shows it.
//!
//! ```json
//! [ { "toNode": "central", "commandOrEvent": "EventACK", "method": "ScheduleResult",
//!     "data": ["{\"v\":1,\"order\":\"0193a5b2-7c1e-7d3a-9b52-5a1f0e6c2d10\",\"serial\":1,\"atMs\":1795363200000,\"nextMs\":1795363260000,\"runs\":0,\"missed\":0}"] } ]
//! ```
//!
//! * It is taken only from the node to which this one has sent the order, and `refused` from any other: nobody can tell of what he was not asked for.
//!   A node whose results are refused so ends the order: its sender does not know it any more, and nobody could take it back.
//! * Each result is kept once, by its order and its number, however often it comes and wherever this node is killed. It stays for as long as
//!   messages that have ended (`--keep`, `--keep-size`), and goes with its order.
//! * What the order says of its results (`replyMethod`) is done with each of them, in the transaction that keeps it and after it.

use protocol::outcome::Final;

use super::schedule::told::{self, NO_SUCH_ORDER, Received};
use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::clock;
use crate::store::ResultRow;

/// See the module's text.
pub(crate) struct ScheduleResult;

impl Method for ScheduleResult {
    const NAME: &'static str = "ScheduleResult";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = true;
    type Args = Received;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        told::read(data)
    }

    async fn run(received: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Some(from) = ctx.runs().first().map(|run| run.message.from.clone()) else { return Ok(Ending::DONE) };
        let Some(order) = ctx.order_given(received.order, &from).await? else {
            let order = received.order;
            let why =
                format!("{NO_SUCH_ORDER}: this node has given {from} no order {order} that stands or was taken back");
            return Ok(Ending::because(Final::Refused, why));
        };
        ctx.note_result(ResultRow { order, received: clock::wall(), result: received }).await?;
        Ok(Ending::DONE)
    }
}
