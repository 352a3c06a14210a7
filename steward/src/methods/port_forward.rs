//! Passes TCP connections on between two nodes, through whatever lies between them: `steward forward` sends it, and is the
//! other end.
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["connect", "localhost:80"], "commandOrEvent": "CommandACK", "method": "PortForward" },
//!   { "toNode": "ship1", "data": ["listen", "127.0.0.1:8080", "hold=1h"], "commandOrEvent": "CommandACK", "method": "PortForward" } ]
//! ```
//!
//! `steward forward 8080 ship1:localhost:80` sends the first one: connections to port 8080 here come out at port 80 of `ship1` itself, or of
//! any host that it reaches. `steward forward -R 8080 ship1:localhost:3000` sends one like the second: `ship1` listens, and its
//! connections come out here, at port 3000. Sent in any other way, nobody is at the other end, and it ends at once.
//!
//! * `data[0]` is `connect`, and `data[1]` the host and port that the node connects to, or `listen`, and `data[1]` the address and port on which it listens.
//!   `hold=DURATION` (1 s to 24 h, 10 minutes if it is not given) is how long connections outlast that nothing is heard of the other node.
//! * **No node takes it from anybody, central and the node itself included, unless a rule of its own names the place**: with
//!   `forward = ["localhost:80"]` or `listen = ["127.0.0.1:8080"]`, see [rules.md](rules.md#forwarded-ports). The rules are asked again before
//!   each connection. What `steward forward` connects to on its own side is up to whoever runs it.
//! * It carries up to 128 connections at the same time, each with 256 KiB under way in each direction at most: a reader that is slow stops
//!   the writer. One direction can end before the other. More connections wait to be taken in.
//! * A link that is cut, or a broker that is started anew, breaks nothing off: what has not arrived is sent again, each byte comes once and in
//!   order. A node that dies breaks its connections off, on both sides: a program sees a reset, and never an early end.
//! * If nothing listens at the target, the connection is broken off, and `steward forward` says why.
//! * The message runs until `steward forward` ends, or somebody cancels it; then what is open is broken off. If the node is started anew it
//!   goes on, with new connections. Its result says how many connections and bytes there were.
//! * Everything is signed as messages are, and sealed where the message is (`--seal`, or the node's policy). It is TCP only.

use std::sync::Arc;

use protocol::message::Kind;
use protocol::outcome::Final;
use serde_json::json;

use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::forward::ask::{Ask, Does};
use crate::forward::{self, Tally};

/// See the module's text.
pub(crate) struct PortForward;

impl Method for PortForward {
    const NAME: &'static str = "PortForward";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = false;
    const STANDING: bool = true;
    type Args = Ask;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        Ask::parse(data)
    }

    async fn run(ask: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Some(message) = ctx.runs().first().map(|run| run.message.clone()) else { return Ok(Ending::DONE) };
        if message.kind != Kind::CommandAck {
            return Ok(Ending::because(
                Final::Refused,
                "a forward goes on as long as its message, so send it as CommandACK",
            ));
        }
        let forward = ctx.forward(&message, ask.clone()).map_err(MethodError)?;
        let listener = match ask.does {
            Does::Listen => Some(forward::bind(&ask.place).await.map_err(MethodError)?),
            Does::Connect => None,
        };
        let listening = async {
            match &listener {
                Some(listener) => forward.listen(listener).await,
                None => std::future::pending().await,
            }
        };
        let ending = tokio::select! {
            why = ctx.stopped() => why.ending(),
            why = forward.over() => Ending::because(Final::Failed, why),
            why = listening => Ending::because(Final::Refused, Arc::from(why)),
        };
        let Tally { connections, sent, received, .. } = forward.tally();
        drop(forward);
        let summary = json!({ "connections": connections, "bytesSent": sent, "bytesReceived": received });
        ctx.answer(&format!("{summary}\n")).await;
        Ok(ending)
    }
}
