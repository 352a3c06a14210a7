//! Appends errors to `errorlog.log` in the directory of the node that receives them, one line for each item of `data`:
//! the time at which it was sent, the node that sent it, the text. Nodes send their errors to central by themselves.
//!
//! ```json
//! [ { "toNode": "central", "data": ["the disk is full"], "commandOrEvent": "EventACK", "method": "ErrorLog" } ]
//! ```
//!
//! Line breaks and other control characters in a text are escaped (`\n`), so that an item is one line whatever it
//! holds. The file is rotated at 16 MiB; four older ones are kept (`errorlog.log.1` is the youngest). A message is
//! acknowledged once its lines are on the disk; they are there exactly once, also when the node is killed in the middle.

use super::append::Log;
use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::clock;

/// Messages of a lane that one write and one sync take.
const BATCH: usize = 512;

/// Its file, rotated at so many bytes.
pub(super) const LOG: Log = Log { name: "errorlog", rotate_at: Some(16 << 20) };

/// See the module's text.
pub(crate) struct ErrorLog;

impl Method for ErrorLog {
    const NAME: &'static str = "ErrorLog";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = true;
    const BATCH: usize = BATCH;
    /// The texts, message by message.
    type Args = Vec<Vec<String>>;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        if data.is_empty() {
            return Err("data is empty; give the errors to log".to_owned());
        }
        Ok(vec![data.to_vec()])
    }

    fn join(batch: &mut Self::Args, next: Self::Args) {
        batch.extend(next);
    }

    async fn run(texts: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let mut lines = Vec::new();
        for (run, texts) in ctx.runs().iter().zip(&texts) {
            let head = format!("{} {} ", clock::rfc3339(run.message.created), run.message.from);
            for text in texts {
                lines.extend_from_slice(head.as_bytes());
                for character in text.trim_end_matches(['\r', '\n']).chars() {
                    if character.is_control() && character != '\t' {
                        lines.extend(character.escape_default().map(|escaped| escaped as u8));
                    } else {
                        lines.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
                lines.push(b'\n');
            }
        }
        ctx.append_error(lines).await
    }
}
