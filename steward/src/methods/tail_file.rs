//! Follows files on a node as `tail -F` does, and brings their lines here, each once (R24). It goes on until it is cancelled.
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["/var/log/syslog"], "commandOrEvent": "CommandACK", "method": "TailFile" },
//!   { "toNode": "ship1", "data": ["/var/log/app/*.log", "from=start", "match=ERROR|WARN", "not=healthz", "rate=100"],
//!     "commandOrEvent": "CommandACK", "method": "TailFile", "replyMethod": "fileAppend", "directory": "apps", "fileName": "ship1.log" } ]
//! ```
//!
//! `data[0]` is the absolute path of a file, or a pattern for several: `*`, `?`, `[a-z]`, `[!a-z]` in any of its names, `\` before a character that
//! is meant as it is. Each further item is an option, `name=value`:
//!
//! | option | default | |
//! | --- | --- | --- |
//! | `from` | `end` | where to begin in files that are there already: at their `end`, or at their `start`; one that comes later is read from its start |
//! | `match` | | only lines in which this regular expression is found; given more than once, any of them |
//! | `not` | | no lines in which this one is found; any number of times |
//! | `rate` | | so many lines a second at most, of all its files together; a mark says how many were left out. Time in which they could not be sent counts |
//! | `lineMax` | `64KiB` | of a longer line the beginning, and a mark that says how much is left out |
//! | `links` | `refuse` | `follow`: a file may be a symbolic link. Folders on the way may always be |
//!
//! * `steward tail ship1:/var/log/syslog` sends such a message and shows the lines; `steward cancel ID` ends one.
//! * The lines lie on the node that asked, in `tails/NODE/PATH` below its directory, or, with `replyMethod` `fileAppend`, in
//!   `tails/DIRECTORY/FILENAME`. Only its user can read them. Nothing there is removed: move a file away at any time, and a new one is begun.
//! * **No line is lost or comes twice**, whatever is restarted: how far a file was read is kept in the transaction that accepts its
//!   lines for sending. While the link is away at most 16 messages of up to 128 KiB wait; then nothing more is read, and the file itself is the buffer.
//! * **Rotation**: a file that is renamed is read to its end, also one that was renamed while the node was away, if it is still in its folder,
//!   and so are those that came and went in between (`x.log.2`, `x.log.1`, `x.log-20261123`). One that is emptied is read from its
//!   beginning; if it was copied before (`copytruncate`), what was not read yet is read in the copy. A file that is not there is waited for.
//! * What was gone before it could be read (compressed, removed, moved elsewhere) is lost, and a mark in its place says so and, as far as it is known, how much.
//!   Marks are lines of their own: `[steward: 120 lines left out: more than 100 a second]`.
//! * A line travels when its end is written. Bytes that are no text come as they are. An editor that writes a file anew makes another file of it, which is
//!   read from its start.
//! * Up to 64 files a message, and 16 such messages on a node. The files are read as the node's own user, so a rule with `user` refuses this. A
//!   rule can name the path: `method = "TailFile"`, `firstWord = "/var/log/app/x.log"`.
//! * The lines come back as `EventACK` of the same name, which are taken from the node that was asked for them and from no other. `data[0]` of those is an
//!   object with `order` (the id of the message that asked), `file` (its path there) and, if `data[1]`, the lines, is not text as it is, `base64` (`true`).

mod ask;
mod feed;
mod follower;
mod identity;
mod lines;
pub(crate) mod pattern;
mod receive;
mod rotation;
mod watch;

use self::ask::Ask;
use self::receive::Lines;
use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};

const NAME: &str = "TailFile";

/// See the module's text.
pub(crate) struct TailFile;

/// What a message of this method is.
pub(crate) enum Part {
    /// It asks for lines.
    Ask(Ask),
    /// It brings some.
    Lines(Lines),
}

impl Method for TailFile {
    const NAME: &'static str = "TailFile";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = true;
    const STANDING: bool = true;
    type Args = Part;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        Ask::parse(data).map(Part::Ask)
    }

    fn parse_event(data: &[String]) -> Result<Self::Args, String> {
        Lines::parse(data).map(Part::Lines)
    }

    async fn run(part: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        match part {
            Part::Ask(ask) => feed::follow(ask, ctx).await,
            Part::Lines(lines) => receive::receive(lines, ctx).await,
        }
    }
}

#[cfg(test)]
mod tests;
