//! The other side: lines of a file that a node follows for us come as events, and go to a file here. They are taken from
//! the very node that was asked for them, for as long as it is known here that it was.

use std::sync::Arc;
use std::time::Duration;

use protocol::message::{Kind, MessageId};
use protocol::outcome::Final;
use serde::{Deserialize, Serialize};

use super::super::{Ending, MethodCtx, MethodError};
use crate::intake::input::DATA_BYTES_MAX;
use crate::store::ReadError;
use crate::tails::{AppendError, names};

/// How soon what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Lines of one file, on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lines {
    /// The message that asked for them.
    pub(super) order: MessageId,
    /// The path of the file on its node.
    pub(super) file: String,
    pub(super) bytes: Vec<u8>,
}

/// The first item of the data; the lines are the second.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    order: String,
    file: String,
    /// The lines are no text, or longer as one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    base64: bool,
}

impl Lines {
    /// As data of a message.
    pub(super) fn data(self) -> Result<Vec<String>, String> {
        let Self { order, file, bytes } = self;
        let (text, base64) = match String::from_utf8(bytes) {
            Ok(text) if escaped_bytes(&text) + file.len() * 6 + 200 <= DATA_BYTES_MAX => (text, false),
            Ok(text) => (data_encoding::BASE64.encode(text.as_bytes()), true),
            Err(error) => (data_encoding::BASE64.encode(error.as_bytes()), true),
        };
        let head = Head { order: order.to_string(), file, base64 };
        Ok(vec![serde_json::to_string(&head).map_err(|error| error.to_string())?, text])
    }

    /// Understands the data of a message, or says why it makes no sense.
    pub(super) fn parse(data: &[String]) -> Result<Self, String> {
        let [head, text] = data else {
            return Err(
                "as an event it carries lines of a file: an object that says of which, and the lines".to_owned()
            );
        };
        let head: Head = serde_json::from_str(head).map_err(|error| format!("data[0]: {error}"))?;
        let order = head.order.parse().map_err(|error| format!("data[0]: order: {error}"))?;
        let bytes = match head.base64 {
            true => data_encoding::BASE64.decode(text.as_bytes()).map_err(|error| format!("data[1]: {error}"))?,
            false => text.clone().into_bytes(),
        };
        Ok(Self { order, file: head.file, bytes })
    }
}

/// How long a text is in JSON.
fn escaped_bytes(text: &str) -> usize {
    let long = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    };
    text.chars().map(long).sum()
}

/// Puts lines where they belong.
pub(super) async fn receive(lines: Lines, ctx: &MethodCtx<'_>) -> Result<Ending, MethodError> {
    let Some(message) = ctx.runs().first().map(|run| &run.message) else { return Ok(Ending::DONE) };
    let (reader, order) = (Arc::clone(ctx.reader()), lines.order);
    let look = move || Ok::<_, ReadError>((reader.sent(order)?, reader.reply_spec(order)?));
    let looked = tokio::task::spawn_blocking(look).await.map_err(|error| MethodError(error.to_string()))?;
    let (sent, spec) = looked.map_err(|error| MethodError(format!("the order can't be looked up: {error}")))?;
    let is_ours = sent.is_some_and(|sent| {
        let lane = &sent.lane;
        lane.peer == message.from && lane.kind == Kind::CommandAck && lane.method.as_str() == super::NAME
    });
    if !is_ours {
        let why = format!("nothing is known here of a tail {order} that {} was asked for", message.from);
        return Ok(Ending::because(Final::Refused, why));
    }
    let place = spec.and_then(|spec| spec.file()).unwrap_or_else(|| names::place(&message.from, &lines.file));
    let mut told = None;
    loop {
        match ctx.tails().append(message.id, place.clone(), lines.bytes.clone()).await {
            Ok(()) => return Ok(Ending::DONE),
            Err(AppendError::Never(why)) => return Err(MethodError(why)),
            Err(AppendError::Later(why)) => {
                if told.as_ref() != Some(&why) {
                    tracing::warn!(file = place, why, "lines of another node can't be written; it is tried again");
                }
                told = Some(why);
            }
        }
        tokio::select! {
            why = ctx.stopped() => return Ok(why.ending()),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_travel_as_they_are_whatever_they_hold() {
        for bytes in [b"a line\n".to_vec(), b"\xff\0\n".to_vec(), vec![7; 128 * 1024], vec![b'"'; 128 * 1024]] {
            let lines = Lines { order: MessageId(7), file: "/var/log/\u{fc}\n".to_owned(), bytes };
            let data = lines.clone().data().unwrap();
            assert!(serde_json::to_string(&data).unwrap().len() <= DATA_BYTES_MAX);
            assert_eq!(Lines::parse(&data).unwrap(), lines);
        }
        for (data, reason) in [
            (&["{}"][..], "carries lines of a file"),
            (&["{}", ""], "missing field"),
            (&[r#"{"order":"x","file":"/x"}"#, ""], "order"),
            (&[r#"{"order":"0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b","file":"/x","more":1}"#, ""], "unknown field"),
            (&[r#"{"order":"0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b","file":"/x","base64":true}"#, "!"], "data[1]"),
        ] {
            let data: Vec<String> = data.iter().map(|&item| item.to_owned()).collect();
            let said = Lines::parse(&data).unwrap_err();
            assert!(said.contains(reason), "{data:?}: {said}");
        }
    }
}
