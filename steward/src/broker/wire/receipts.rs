//! Receipts of one receiver for one sender: the body of `<sender>.ACK.<receiver>`.

use std::borrow::Cow;
use std::sync::Arc;

use async_nats::HeaderMap;
use data_encoding::BASE64URL_NOPAD;
use protocol::event::{Receipts, Ticket};
use protocol::message::{Epoch, Incarnation, Kind, MessageId};
use protocol::name::{MethodName, NodeName};
use protocol::outcome::{Final, Outcome, Output, Progress, Receipt};
use protocol::time::Wall;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::subject::Ends;
use super::text::{self, Hash, Hex64, KindText};
use super::{
    INLINE_BYTES_MAX, ITEMS_MAX, NUMBER_MAX, REASON_BYTES_MAX, VERSION, WALL_MS_MAX, WireError, limit, number,
};
use crate::evidence;
use crate::security::keys::SIGNATURE_BYTES;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeadText<'a> {
    v: u64,
    #[serde(with = "text")]
    from_node: &'a NodeName,
    #[serde(with = "text")]
    to_node: &'a NodeName,
    #[serde(with = "text")]
    to_epoch: Hex64,
    #[serde(with = "text")]
    incarnation: Hex64,
    #[serde(with = "text")]
    epoch: Hex64,
    commits: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptsText<'a> {
    v: u64,
    #[serde(with = "text")]
    from_node: NodeName,
    #[serde(with = "text")]
    to_node: NodeName,
    #[serde(with = "text")]
    to_epoch: Hex64,
    #[serde(with = "text")]
    incarnation: Hex64,
    #[serde(with = "text")]
    epoch: Hex64,
    #[serde(default)]
    commits: u64,
    #[serde(borrow)]
    receipts: Vec<ReceiptText<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReceiptText<'a> {
    ticket: u64,
    #[serde(with = "text")]
    id: MessageId,
    /// `stored`, `running`, or the name of a final state.
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    command_or_event: Option<KindText>,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    method: Option<MethodName>,
    /// BLAKE3 of the `data` of the message, as it stood in its envelope.
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    data_hash: Option<Hash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdout: Option<OutputText<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stderr: Option<OutputText<'a>>,
}

/// Either `text`, the whole output, or `len` and `hash` of what has to be fetched.
#[derive(Default, Serialize, Deserialize)]
struct OutputText<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    len: Option<u64>,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
    #[serde(default, skip_serializing_if = "text::is_false")]
    truncated: bool,
}

/// What a final receipt says of the command that it is for, so that others can see what it is that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Its type.
    pub(crate) kind: Kind,
    /// Its method.
    pub(crate) method: MethodName,
    /// BLAKE3 of its `data`, as JSON text.
    pub(crate) data_hash: [u8; 32],
}

/// Appends the JSON of one receipt.
pub(crate) fn encode_receipt(
    ticket: Ticket,
    receipt: &Receipt,
    subject: Option<&Subject>,
    into: &mut Vec<u8>,
) -> Result<(), WireError> {
    let bare = |state: &'static str| ReceiptText {
        ticket: ticket.0,
        id: receipt.id,
        state: Cow::Borrowed(state),
        command_or_event: subject.map(|subject| KindText(subject.kind)),
        method: subject.map(|subject| subject.method.clone()),
        data_hash: subject.map(|subject| Hash(subject.data_hash)),
        reason: None,
        exit_code: None,
        signal: None,
        started_ms: None,
        finished_ms: None,
        stdout: None,
        stderr: None,
    };
    let text = match &receipt.progress {
        Progress::Stored => bare("stored"),
        Progress::Running => bare("running"),
        Progress::Final(outcome) => ReceiptText {
            reason: outcome.reason.as_deref().map(|reason| cut(reason, REASON_BYTES_MAX).into()),
            exit_code: outcome.exit_code,
            signal: outcome.signal,
            started_ms: outcome.started.map(|at| at.0.min(WALL_MS_MAX)),
            finished_ms: Some(outcome.finished.0.min(WALL_MS_MAX)),
            stdout: output_text(&outcome.stdout),
            stderr: output_text(&outcome.stderr),
            ..bare(outcome.state.as_str())
        },
    };
    serde_json::to_writer(into, &text).map_err(|error| WireError::Json(error.to_string()))
}

/// Who tells, for [`encode`].
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    /// The receiver.
    pub(crate) from: NodeName,
    /// The process that tells.
    pub(crate) incarnation: Incarnation,
    /// Its store.
    pub(crate) epoch: Epoch,
    /// How far that store is.
    pub(crate) commits: u64,
}

/// The whole body around `receipts`, the JSON of receipts with commas between them.
pub(crate) fn encode(teller: &Teller, to: &NodeName, to_epoch: Epoch, receipts: &[u8]) -> Result<Vec<u8>, WireError> {
    let head = HeadText {
        v: VERSION,
        from_node: &teller.from,
        to_node: to,
        to_epoch: Hex64(to_epoch.0),
        incarnation: Hex64(teller.incarnation.0),
        epoch: Hex64(teller.epoch.0),
        commits: teller.commits,
    };
    around(&head, "receipts", receipts)
}

/// The JSON object `head` with one more field: a list whose parts are JSON already.
pub(super) fn around(head: &impl Serialize, field: &str, parts: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut body = Vec::with_capacity(parts.len() + 384);
    serde_json::to_writer(&mut body, head).map_err(|error| WireError::Json(error.to_string()))?;
    body.pop();
    body.extend_from_slice(b",\"");
    body.extend_from_slice(field.as_bytes());
    body.extend_from_slice(b"\":[");
    body.extend_from_slice(parts);
    body.extend_from_slice(b"]}");
    Ok(body)
}

/// Reads the body that came from `from` to the node `me`.
pub(crate) fn decode(body: &[u8], me: &NodeName, from: &str) -> Result<Receipts, WireError> {
    let text: ReceiptsText<'_> = super::parse(body)?;
    super::check_head(text.v, &text.from_node, &text.to_node, &Ends { to: me.as_str(), from: Some(from) })?;
    limit("the number of receipts", text.receipts.len(), ITEMS_MAX)?;
    Ok(Receipts {
        sealed: false,
        from: text.from_node,
        to: Epoch(number("toEpoch", text.to_epoch.0, NUMBER_MAX)?),
        incarnation: Incarnation(number("incarnation", text.incarnation.0, NUMBER_MAX)?),
        epoch: Epoch(number("epoch", text.epoch.0, NUMBER_MAX)?),
        commits: number("commits", text.commits, NUMBER_MAX)?,
        receipts: text.receipts.into_iter().map(receipt).collect::<Result<Vec<_>, _>>()?,
    })
}

/// Reads one receipt by itself, with what it says of the command that it is for.
pub(crate) fn decode_receipt(text: &str) -> Result<(Receipt, Option<Subject>), WireError> {
    let text: ReceiptText<'_> = super::parse(text.as_bytes())?;
    let subject = match (text.command_or_event, &text.method, text.data_hash) {
        (Some(kind), Some(method), Some(hash)) => {
            Some(Subject { kind: kind.0, method: method.clone(), data_hash: hash.0 })
        }
        _ => None,
    };
    Ok((receipt(text)?.1, subject))
}

/// The signature over the receipts, if there is one that can be read.
pub(crate) fn proof(headers: Option<&HeaderMap>) -> Option<[u8; SIGNATURE_BYTES]> {
    let text = headers?.get(evidence::HEADER)?;
    BASE64URL_NOPAD.decode(text.as_str().as_bytes()).ok()?.try_into().ok()
}

/// The JSON of each receipt in a body, as it stands there. An error where [`decode`] has one, too.
pub(crate) fn texts(body: &[u8]) -> Result<Vec<&str>, WireError> {
    #[derive(Deserialize)]
    struct Texts<'a> {
        #[serde(borrow)]
        receipts: Vec<&'a RawValue>,
    }
    let texts: Texts<'_> = super::parse(body)?;
    limit("the number of receipts", texts.receipts.len(), ITEMS_MAX)?;
    Ok(texts.receipts.into_iter().map(RawValue::get).collect())
}

fn receipt(text: ReceiptText<'_>) -> Result<(Ticket, Receipt), WireError> {
    let ticket = Ticket(number("ticket", text.ticket, NUMBER_MAX)?);
    let id = text.id;
    let progress = match text.state.as_ref() {
        "stored" => Progress::Stored,
        "running" => Progress::Running,
        _ => Progress::Final(outcome(text)?),
    };
    Ok((ticket, Receipt { id, progress }))
}

fn outcome(text: ReceiptText<'_>) -> Result<Outcome, WireError> {
    let state = match Final::parse(&text.state) {
        Some(Final::Sent | Final::Undeliverable) => {
            return Err(WireError::Value("a receiver can't end a message in a state that only its sender knows"));
        }
        Some(state) => state,
        None => return Err(WireError::Value("the state of a receipt is unknown")),
    };
    if let Some(reason) = &text.reason {
        limit("the reason", reason.len(), REASON_BYTES_MAX)?;
    }
    let inline = |output: &Option<OutputText<'_>>| {
        output.as_ref().and_then(|output| output.text.as_ref()).map_or(0, |text| text.len())
    };
    limit("the output in a receipt", inline(&text.stdout) + inline(&text.stderr), INLINE_BYTES_MAX)?;
    Ok(Outcome {
        state,
        reason: text.reason.as_deref().map(Arc::from),
        exit_code: text.exit_code,
        signal: text.signal,
        started: text.started_ms.map(|ms| number("startedMs", ms, WALL_MS_MAX).map(Wall)).transpose()?,
        finished: Wall(number("finishedMs", text.finished_ms.unwrap_or(0), WALL_MS_MAX)?),
        stdout: output(text.stdout)?,
        stderr: output(text.stderr)?,
        proof: None,
    })
}

fn output_text(output: &Output) -> Option<OutputText<'_>> {
    if output.len == 0 {
        return output.truncated.then(|| OutputText { truncated: true, ..OutputText::default() });
    }
    Some(match &output.inline {
        // Its length and hash are worked out again by whoever reads it.
        Some(text) => {
            OutputText { text: Some(text.as_ref().into()), truncated: output.truncated, len: None, hash: None }
        }
        None => {
            OutputText { text: None, len: Some(output.len), hash: Some(Hash(output.hash)), truncated: output.truncated }
        }
    })
}

fn output(text: Option<OutputText<'_>>) -> Result<Output, WireError> {
    let text = text.unwrap_or_default();
    let truncated = text.truncated;
    if let Some(inline) = text.text.as_deref().filter(|inline| !inline.is_empty()) {
        let hash = *blake3::hash(inline.as_bytes()).as_bytes();
        return Ok(Output { len: inline.len() as u64, hash, truncated, inline: Some(Arc::from(inline)) });
    }
    match number("len", text.len.unwrap_or(0), NUMBER_MAX)? {
        0 => Ok(Output { truncated, ..Output::default() }),
        len => {
            let hash = text.hash.ok_or(WireError::Value("an output that has to be fetched has no hash"))?;
            Ok(Output { len, hash: hash.0, truncated, inline: None })
        }
    }
}

/// `text`, cut to `bytes_max` at the end of a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
