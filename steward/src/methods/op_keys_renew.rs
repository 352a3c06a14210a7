//! Has the node that receives it renew its keys (R18, R19). `steward rotate --node NODE` sends it, and so does `steward rotate --all`.
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"], "commandOrEvent": "CommandACK", "method": "OpKeysRenew" } ]
//! ```
//!
//! `data[0]` is the public key that is to go; without it, it is whichever the node has. The node makes new keys, has central vouch for
//! them, connects with them, and answers once central has seen that: one JSON object with `key`, `serial` and `since`. The old key is
//! good until then, and revoked from then on. A node that has another key already has nothing to do and says so in the same way, so
//! the message may come twice, and after a month.
//!
//! Where it can't be done yet, because central or the broker does not take the new keys, the message is `failed` with the reason; the node keeps the keys that
//! it has and goes on trying by itself. `steward ps --node NODE` shows how far it is.

use std::time::Duration;

use protocol::outcome::Final;

use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::enrol::renewal::{CURRENT, NoRenewal, Renewal};
use crate::security::keys::{KeyKind, PublicKey};
use crate::view::KeysView;

/// How long the answer waits for the end; the renewal itself goes on.
const LIMIT: Duration = Duration::from_secs(300);

/// See the module's text.
pub(crate) struct OpKeysRenew;

impl Method for OpKeysRenew {
    const NAME: &'static str = "OpKeysRenew";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = false;
    /// The key that is to go.
    type Args = Option<String>;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        match data {
            [] => Ok(None),
            [key] if PublicKey::parse(key, KeyKind::User).is_ok() => Ok(Some(key.clone())),
            _ => Err("data is not one public key of a node (U…), and not empty".to_owned()),
        }
    }

    async fn run(key: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Some(renewal) = ctx.renewal().cloned() else {
            return Ok(Ending::because(Final::Refused, NoRenewal::NoIdentity.to_string()));
        };
        let key = key.unwrap_or_else(|| renewal.view().key);
        let renewed = tokio::select! {
            renewed = tokio::time::timeout(LIMIT, renewed(&renewal, &key)) => renewed,
            stop = ctx.stopped() => return Ok(stop.ending()),
        };
        match renewed {
            Ok(Ok(view)) => ctx.answer_json(&[view]).await,
            Ok(Err(why)) => Err(MethodError(why)),
            Err(_) => Err(MethodError(format!(
                "the keys were not renewed within {} s; the node goes on by itself, and its old keys stay good until then: {}",
                LIMIT.as_secs(),
                renewal.view().note.unwrap_or_default()
            ))),
        }
    }
}

/// Waits until this key has gone; an error says why that does not happen for now.
async fn renewed(renewal: &Renewal, key: &str) -> Result<KeysView, String> {
    let mut changes = renewal.changes();
    renewal.want(Some(key));
    loop {
        let view = changes.borrow_and_update().clone();
        match view.state.as_str() {
            CURRENT if view.key != key => return Ok(view),
            "refused" | "fell-back" => return Err(view.note.unwrap_or_default()),
            _ => {}
        }
        if changes.changed().await.is_err() {
            return Err("the node stops; it goes on at its next start".to_owned());
        }
    }
}
