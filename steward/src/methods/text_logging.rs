//! Appends the lines in `data` to `textlogging.log` in the directory of the node that receives them (R21).
//!
//! ```json
//! [ { "toNode": "central", "data": ["some message sent from a ship for testing\n"], "commandOrEvent": "EventACK", "method": "TextLogging" } ]
//! ```
//!
//! Each item of `data` is written as it is. A line break is added to an item that does not end with one, because
//! otherwise it would run together with the next; an empty item is an empty line.
//!
//! A message is acknowledged once its lines are on the disk, and its lines are in the file exactly once, also when the
//! node is killed in the middle. You may move the file away at any time; a new one is begun. Lines of a `NACK` message
//! are written once or not at all.

use super::append::Log;
use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};

/// Messages of a lane that one write and one sync take.
pub(super) const BATCH: usize = 512;

/// Its file. Rotating it is left to the operator, who may want to keep it all.
pub(super) const LOG: Log = Log { name: "textlogging", rotate_at: None };

/// See the module's text.
pub(crate) struct TextLogging;

impl Method for TextLogging {
    const NAME: &'static str = "TextLogging";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = true;
    const BATCH: usize = BATCH;
    type Args = Vec<u8>;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        if data.is_empty() {
            return Err("data is empty; give the lines to append".to_owned());
        }
        let mut lines = Vec::with_capacity(data.iter().map(|item| item.len() + 1).sum());
        for item in data {
            lines.extend_from_slice(item.as_bytes());
            if !item.ends_with('\n') {
                lines.push(b'\n');
            }
        }
        Ok(lines)
    }

    fn join(batch: &mut Self::Args, next: Self::Args) {
        batch.extend(next);
    }

    async fn run(lines: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        ctx.append_text(lines).await
    }
}
