//! One line of the audit log: how it is written, how it is read, and the hash that binds it to the one before.
//!
//! The hash is that of the line's text up to `,"hash":`, which holds the hash of the line before as `prev`. So each
//! line is bound to all before it, and an altered one is found by itself.

use protocol::message::Kind;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{By, Data, Head, Record};
use crate::clock::rfc3339;

/// What stands between a line's content and its hash.
const HASH_KEY: &str = ",\"hash\":\"";

/// The longest line, in bytes. Data is longer by six times at most, where all of it has to be escaped.
pub(super) const LINE_BYTES_MAX: usize = 128 * 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    n: u64,
    at: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_begins: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<By>,
    prev: &'a str,
}

/// A line as it is read. Field names are a public interface: add, never rename.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LineView {
    /// Its number; each is one more than the one before.
    pub(crate) n: u64,
    /// When it was written down, by this node's clock.
    pub(crate) at: String,
    /// What it tells.
    pub(crate) event: String,
    /// The message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// Its sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// Its receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Its type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    /// Its method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    /// The rule that let it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The hash of the line before.
    pub(crate) prev: String,
    /// Its own hash.
    pub(crate) hash: String,
    /// Whatever else stands there.
    #[serde(flatten)]
    pub(crate) rest: serde_json::Map<String, serde_json::Value>,
}

/// Writes a record behind the line `head`, and is the line's number and hash.
pub(super) fn put(buffer: &mut Vec<u8>, record: &Record, head: &Head) -> serde_json::Result<Head> {
    let n = head.n + 1;
    let compact;
    let mut line = Line {
        n,
        at: rfc3339(record.at),
        event: record.event,
        id: record.id.map(|id| id.to_string()),
        from: record.from.as_ref().map(protocol::name::NodeName::as_str),
        to: record.to.as_ref().map(protocol::name::NodeName::as_str),
        kind: record.kind.map(Kind::as_str),
        method: record.method.as_ref().map(protocol::name::MethodName::as_str),
        data: None,
        data_begins: None,
        data_hash: None,
        data_bytes: None,
        rule: record.rule.as_deref(),
        user: record.user.as_deref(),
        state: record.state.map(protocol::outcome::Final::as_str),
        exit_code: record.exit_code,
        signal: record.signal,
        reason: record.reason.as_deref(),
        count: record.count,
        about: record.about.as_deref().map(serde_json::from_str).transpose()?,
        by: record.by,
        prev: &head.hash,
    };
    match &record.data {
        None => {}
        Some(Data::Whole(text)) => {
            // White space between values may hold line ends, and what is no JSON is a text.
            let value = serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::from(&**text));
            compact = serde_json::value::to_raw_value(&value)?;
            line.data = Some(&compact);
        }
        Some(Data::Hash(hash, bytes, begins)) => {
            line.data_hash = Some(blake3::Hash::from_bytes(*hash).to_hex().to_string());
            (line.data_bytes, line.data_begins) = (Some(*bytes), begins.as_deref());
        }
    }
    let start = buffer.len();
    serde_json::to_writer(&mut *buffer, &line)?;
    // The brace that closes the object comes behind the hash.
    buffer.pop();
    let hash = blake3::hash(&buffer[start..]).to_hex().to_string();
    buffer.extend_from_slice(HASH_KEY.as_bytes());
    buffer.extend_from_slice(hash.as_bytes());
    buffer.extend_from_slice(b"\"}\n");
    Ok(Head { n, hash })
}

/// Reads a line, without its end. The error says in words why it is none, or was altered.
pub(super) fn read(text: &[u8]) -> Result<LineView, String> {
    let view: LineView =
        serde_json::from_slice(text).map_err(|error| format!("it is no line of an audit log: {error}"))?;
    let key = HASH_KEY.as_bytes();
    let at = text.windows(key.len()).rposition(|window| window == key).ok_or("it has no hash at its end")?;
    let content = &text[..at];
    if text[at + key.len()..] != format!("{}\"}}", view.hash).into_bytes() {
        return Err("its hash does not stand at its end".to_owned());
    }
    if blake3::hash(content).to_hex().as_str() != view.hash {
        return Err("it was altered: its hash is not that of its text".to_owned());
    }
    Ok(view)
}
