//! Copies a file of the node that receives the message to the node that sends it, or the other way round. `steward cp` sends it.
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["get", "/var/log/engine.log"], "commandOrEvent": "CommandACK", "method": "CopyFile", "parallel": true },
//!   { "toNode": "ship1", "data": ["get", "/etc/motd", "limit=64KiB", "as=body"], "commandOrEvent": "CommandACK", "method": "CopyFile",
//!     "replyMethod": "file", "fileName": "motd" } ]
//! ```
//!
//! `data[0]` says what is to be done, `data[1]` is the path on the node: an absolute one, or one below the folder `files` in the node's directory. It has no
//! `.`, `..` or empty part, so that a rule sees what it lets in. Each further item is an option, `name=value`.
//!
//! **`get`**: the content of the file is the standard output, byte for byte; the standard error is an object with `path`, `bytes`, `blake3`, `mode`
//! (octal) and `modified` (seconds since 1970). `limit=64MiB`: fail where the file is longer; `as=body`: the content alone, without that object;
//! `rate=512KiB`: so many bytes a second travel at most (of `put`, too).
//!
//! * The content is taken at the node first, so that it is that of one moment: the file system shares the blocks where it can (`FICLONE`; then it costs neither
//!   time nor room), elsewhere they are copied, up to three times if somebody writes the file meanwhile; then the reason says so, and the last try is the
//!   result. What is appended meanwhile is not waited for.
//! * It comes back as any long output does: in pieces, each asked for from where the last one ended, whatever is restarted meanwhile, and the
//!   BLAKE3 hash decides.
//!
//! **`put`**: what goes along with the message becomes the file, with `bytes=` and `blake3=` of its content, its `mode=` (octal), and its time `modified=`
//! (seconds since 1970, nine places behind the point). Where the path is a folder, it is called `name=` in it. Only `steward cp` (and `POST /v1/copies`) can send
//! a content along; without one the message fails.
//!
//! * The content is durable at the sender before the message is accepted, and stays there until the message has ended. The node asks for it piece by piece, each
//!   time from where it is, whatever is restarted meanwhile, and checks the hash of the whole. Then it gets its name in one go: whoever looks finds the
//!   old file or the new one. A file that is there already, with this very content, does not travel.
//! * The folder has to be there. A link in the place of the file is replaced, not followed.
//!
//! **`list`**: what lies in a folder and below it, one JSON object a line, each folder before what is in it: `path` (from the folder on), `kind` (`file`, `folder`,
//! `link`, or `other` for what can't be copied, with `why`), `bytes`, `mode`, `modified`, and `to` of a link, which is not followed. **`make`**: folders and links as such
//! objects, one in each further item, are made where they are missing; a folder with a link in its place is refused. With `name=` before them
//! they are made in the folder of that name in the one that the path names, which is made as well; the output says where. `steward cp -r` sends both.
//!
//! **`chunks`**: of which chunks the file there consists (FastCDC), as one object with the `blake3` of the whole, for whoever wants to send only what a newer version has
//! beside it; empty where there is none of at least 128 KiB. `get` takes such a list as `have=` and answers with the difference (`"delta": true`); `put` takes a difference with the
//! `base=` that it is to, `deltaBytes=` and `deltaBlake3=`. The hash of the whole decides in the end. `steward cp` does that by itself, and copies the whole where the older version is
//! another one by then.
//!
//! Of all:
//!
//! * The message is `failed`, with the reason, where there is no such file, where it may not be read, where it is a folder or no regular file, and where the node's disk has no
//!   room for it. A file is whole or not there at all: neither `--max-output` nor a rule's `maxOutput` cuts it; the latter refuses a longer one.
//! * What is the node's own (its identity, its rules, its store) is not copied, but the folder `files`.
//! * Files are read and written as the node's user. Where a rule names another `user`, the message is refused.
//! * A rule with `firstWord = "get"` lets files be read and none written; `regex = ["get", '/var/log/.*', "..."]` those of a folder only. Links on the node
//!   lead where they lead.
//! * A file may take as long as it takes: `steward cp` sends `"methodTimeout": 0` and `"parallel": true`.

mod get;
mod list;
mod order;
mod put;

use super::as_user::Account;
use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use order::Order;
use protocol::outcome::Final;

/// See the module's text.
pub(crate) struct CopyFile;

impl Method for CopyFile {
    const NAME: &'static str = "CopyFile";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = false;
    type Args = Order;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        Order::parse(data)
    }

    async fn run(order: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        if let Some(why) = ctx.user().and_then(not_ours) {
            return Ok(Ending::because(Final::Refused, why));
        }
        match order {
            Order::Get(get) => get.run(ctx).await,
            Order::Put(put) => put.run(ctx).await,
            Order::List(list) => list.run(ctx).await,
            Order::Chunks(chunks) => chunks.run(ctx).await,
            Order::Make(make) => make.run(ctx).await,
        }
    }
}

/// Why nothing is done as the user that a rule names; none where that is the node's own.
fn not_ours(user: &str) -> Option<String> {
    match Account::find(user) {
        Ok(account) if account.is_ours() => None,
        Ok(_) => Some(format!(
            "the rule that lets it in names the user {user}, and files are copied as the node's own user only; have a \
             program copy it, which runs as that user"
        )),
        Err(why) => Some(why),
    }
}

pub(crate) use order::rate_of;

#[cfg(test)]
mod tests;
