//! Pauses an order with a schedule on the node that receives it, has it go on, or lists the orders there. `steward schedules
//! pause ID` and `steward schedules resume ID` send it.
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["list"], "commandOrEvent": "CommandACK", "method": "OpSchedule" } ]
//! ```
//!
//! `data` is `["pause", ID]`, `["resume", ID]` or `["list"]`. Only the node that has given an order can pause or see it. The answer is
//! the order as it is then, as one JSON object a line. It is `done` once that is on the node's disk, so an order that is paused
//! stays so after a crash. What runs at that moment goes on to its end; what was due while an order was paused is not made up for.
//!
//! To end an order for good, cancel its message (`steward schedules remove ID`).

use protocol::message::MessageId;
use protocol::outcome::Final;

use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};

/// See the module's text.
pub(crate) struct OpSchedule;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To pause the order, or to have it go on.
    Pause(MessageId, bool),
    /// To see the orders.
    List,
}

impl Method for OpSchedule {
    const NAME: &'static str = "OpSchedule";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = false;
    type Args = Wish;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        let words: Vec<&str> = data.iter().map(String::as_str).collect();
        let id = |id: &str| id.parse().map_err(|_| format!("{id:?} is no id of a message"));
        match words.as_slice() {
            ["pause", order] => Ok(Wish::Pause(id(order)?, true)),
            ["resume", order] => Ok(Wish::Pause(id(order)?, false)),
            ["list"] => Ok(Wish::List),
            _ => Err(r#"data is none of ["pause", ID], ["resume", ID] and ["list"]"#.to_owned()),
        }
    }

    async fn run(wish: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Some(from) = ctx.runs().first().map(|run| run.message.from.clone()) else { return Ok(Ending::DONE) };
        let board = ctx.orders().clone();
        match wish {
            Wish::List => ctx.answer_json(&board.list(&from).await).await,
            Wish::Pause(id, pause) => match board.pause(&from, id, pause).await {
                Ok(order) => ctx.answer_json(&[order]).await,
                Err(why) => Ok(Ending::because(Final::Refused, why)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_order_is_named_or_none() {
        let parse =
            |words: &[&str]| OpSchedule::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let (text, id) = ("0193a5b2-7c1e-7d3a-9b52-5a1f0e6c2d10", MessageId(0x0193_a5b2_7c1e_7d3a_9b52_5a1f_0e6c_2d10));
        assert_eq!(parse(&["pause", text]), Ok(Wish::Pause(id, true)));
        assert_eq!(parse(&["resume", text]), Ok(Wish::Pause(id, false)));
        assert_eq!(parse(&["list"]), Ok(Wish::List));
        for words in [&[][..], &["pause"], &["list", text], &["stop", text], &["pause", text, text]] {
            assert!(parse(words).unwrap_err().contains("none of"), "{words:?}");
        }
        assert!(parse(&["pause", "x"]).unwrap_err().contains("no id"));
    }
}
