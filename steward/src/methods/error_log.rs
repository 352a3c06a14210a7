//! Keeps errors on the node that receives them: in `errorlog.log` in its directory, one line for each item of `data` (the
//! time at which it was sent, the node that sent it, the text), and in the table that `steward errors` shows. Nodes send
//! their errors to central by themselves, and sum up a storm of them.
//!
//! ```json
//! [ { "toNode": "central", "data": ["the disk is full"], "commandOrEvent": "EventACK", "method": "ErrorLog" } ]
//! ```
//!
//! Line breaks and other control characters in a text are escaped (`\n`), so that an item is one line whatever it
//! holds. The file is rotated at 16 MiB; four older ones are kept (`errorlog.log.1` is the youngest). The table keeps the
//! newest 50,000, for as long as messages (`--keep`); of a message it has the first 64 errors, and of each 2 KiB. A
//! message is acknowledged once both are on the disk; each error is there exactly once, also when the node is killed in
//! the middle.

use super::append::Log;
use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::clock;
use crate::store::{ERROR_BYTES_MAX, ErrorRow};

/// Messages of a lane that one write and one sync take.
const BATCH: usize = 512;

/// Errors of one message that stand in the table.
const ROWS_MAX: usize = 64;

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
        let (mut lines, mut rows) = (Vec::new(), Vec::new());
        let received = clock::wall();
        for (run, texts) in ctx.runs().iter().zip(&texts) {
            let (node, at) = (&run.message.from, run.message.created);
            let head = format!("{} {node} ", clock::rfc3339(at));
            for text in texts {
                lines.extend_from_slice(head.as_bytes());
                lines.extend_from_slice(plain(text).as_bytes());
                lines.push(b'\n');
            }
            let row = |(item, text): (u32, String)| ErrorRow {
                id: run.message.id,
                item,
                node: node.to_string(),
                at,
                received,
                text,
            };
            rows.extend((0..).zip(shown(texts)).map(row));
        }
        // First the table: a row that is there is not doubled when the message runs again, and a line is cut off then.
        ctx.note_errors(rows).await?;
        ctx.append_error(lines).await
    }
}

/// A text without its last line breaks, and with its other control characters escaped.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.trim_end_matches(['\r', '\n']).chars() {
        if character.is_control() && character != '\t' {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// What the table has of the errors of one message.
fn shown(texts: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = texts.iter().take(ROWS_MAX).map(|text| plain(&text[..end(text)])).collect();
    if texts.len() > ROWS_MAX {
        shown.push(format!("and {} more errors in this message: see errorlog.log", texts.len() - ROWS_MAX));
    }
    shown
}

/// Where the part of a text ends that the table may need.
fn end(text: &str) -> usize {
    text.floor_char_boundary(ERROR_BYTES_MAX + 1)
}
