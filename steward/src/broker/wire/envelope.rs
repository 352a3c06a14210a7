//! Messages of one lane: the body of `<to>.<type>.<method>`.

use std::sync::Arc;
use std::time::Duration;

use protocol::event::{Envelope, Item};
use protocol::message::{Epoch, Incarnation, Kind, MessageId, Options, Seq};
use protocol::name::{Lane, MethodName, NodeName};
use protocol::time::Wall;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::subject::Ends;
use super::text::{self, Hex64, KindText};
use super::{
    DATA_BYTES_MAX, DURATION_MS_MAX, ITEMS_MAX, NUMBER_MAX, VERSION, WALL_MS_MAX, WireError, limit, millis, number,
};

/// The seed's default (R10); a message that has it does not carry it.
const TIMEOUT_MS_DEFAULT: u64 = 10_000;

/// What stands before the messages.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeadText<'a> {
    v: u64,
    #[serde(with = "text")]
    from_node: &'a NodeName,
    #[serde(with = "text")]
    to_node: &'a NodeName,
    #[serde(with = "text")]
    command_or_event: KindText,
    #[serde(with = "text")]
    method: &'a MethodName,
    #[serde(with = "text")]
    epoch: Hex64,
    #[serde(with = "text::option", skip_serializing_if = "Option::is_none")]
    to_incarnation: Option<Hex64>,
    floor: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeText<'a> {
    v: u64,
    #[serde(with = "text")]
    from_node: NodeName,
    #[serde(with = "text")]
    to_node: NodeName,
    #[serde(with = "text")]
    command_or_event: KindText,
    #[serde(with = "text")]
    method: MethodName,
    #[serde(with = "text")]
    epoch: Hex64,
    #[serde(with = "text::option", default)]
    to_incarnation: Option<Hex64>,
    #[serde(default)]
    floor: u64,
    #[serde(borrow)]
    items: Vec<ItemText<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemText<'a> {
    #[serde(with = "text")]
    id: MessageId,
    seq: u64,
    /// Absent where it is the number right before `seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prev: Option<u64>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    created_ms: u64,
    #[serde(default = "timeout_default", skip_serializing_if = "is_timeout_default")]
    timeout_ms: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    retries: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method_timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "text::is_false")]
    parallel: bool,
    #[serde(default, skip_serializing_if = "text::is_false")]
    rerun: bool,
}

fn timeout_default() -> u64 {
    TIMEOUT_MS_DEFAULT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_timeout_default(timeout: &u64) -> bool {
    *timeout == TIMEOUT_MS_DEFAULT
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(retries: &u32) -> bool {
    *retries == 0
}

/// Appends the JSON of one message. An error is a body that is no array of strings: nobody would take it.
pub(crate) fn encode_item(item: &Item, into: &mut Vec<u8>) -> Result<(), WireError> {
    let data: &RawValue = serde_json::from_str(&item.body).map_err(|error| WireError::Json(error.to_string()))?;
    if !text::is_array_of_strings(data.get()) {
        return Err(WireError::Value("data is no array of strings"));
    }
    // Whether it is sealed is said by the box around all of them.
    let Options { timeout, retries, method_timeout, deadline, parallel, rerun, seal: _, reply: _ } = item.options;
    let item = ItemText {
        id: item.id,
        seq: item.seq.0,
        prev: (item.prev.next() != item.seq).then_some(item.prev.0),
        data: Some(data),
        created_ms: item.created.0,
        timeout_ms: millis(timeout),
        retries,
        method_timeout_ms: method_timeout.map(millis),
        deadline_ms: deadline.map(|deadline| deadline.0.min(WALL_MS_MAX)),
        parallel,
        rerun,
    };
    serde_json::to_writer(into, &item).map_err(|error| WireError::Json(error.to_string()))
}

/// The whole body around `items`, the JSON of messages with commas between them.
pub(crate) fn encode(
    from: &NodeName,
    epoch: Epoch,
    lane: &Lane,
    to: Option<Incarnation>,
    floor: Seq,
    items: &[u8],
) -> Result<Vec<u8>, WireError> {
    let head = HeadText {
        v: VERSION,
        from_node: from,
        to_node: &lane.peer,
        command_or_event: KindText(lane.kind),
        method: &lane.method,
        epoch: Hex64(epoch.0),
        to_incarnation: to.map(|to| Hex64(to.0)),
        floor: floor.0,
    };
    super::receipts::around(&head, "items", items)
}

/// Reads the body that came on the subject of `kind` and `method` at the node `me`.
pub(crate) fn decode(body: &[u8], me: &NodeName, kind: Kind, method: &str) -> Result<Envelope, WireError> {
    let envelope: EnvelopeText<'_> = super::parse(body)?;
    super::check_head(envelope.v, &envelope.from_node, &envelope.to_node, &Ends { to: me.as_str(), from: None })?;
    if envelope.command_or_event.0 != kind {
        return Err(WireError::Mismatch("commandOrEvent"));
    }
    if envelope.method.as_str() != method {
        return Err(WireError::Mismatch("method"));
    }
    limit("the number of messages", envelope.items.len(), ITEMS_MAX)?;
    let items = envelope.items.into_iter().map(item).collect::<Result<Vec<Item>, _>>()?;
    if !items.is_sorted_by(|a, b| a.seq < b.seq) {
        return Err(WireError::Value("the messages are not in the order of their numbers"));
    }
    Ok(Envelope {
        from: envelope.from_node,
        epoch: Epoch(number("epoch", envelope.epoch.0, NUMBER_MAX)?),
        to: incarnation(envelope.to_incarnation)?,
        kind,
        method: envelope.method,
        floor: Seq(number("floor", envelope.floor, NUMBER_MAX)?),
        items,
    })
}

fn item(item: ItemText<'_>) -> Result<Item, WireError> {
    let body: Arc<str> = match item.data {
        None => Arc::from("[]"),
        Some(data) if text::is_array_of_strings(data.get()) => {
            limit("data", data.get().len(), DATA_BYTES_MAX)?;
            Arc::from(data.get())
        }
        Some(_) => return Err(WireError::Value("data is no array of strings")),
    };
    let seq = number("seq", item.seq, NUMBER_MAX)?;
    let prev = item.prev.unwrap_or(seq.saturating_sub(1));
    if prev >= seq {
        return Err(WireError::Value("prev is not below seq"));
    }
    let method_timeout = item.method_timeout_ms.map(|ms| number("methodTimeoutMs", ms, DURATION_MS_MAX)).transpose()?;
    Ok(Item {
        id: item.id,
        seq: Seq(seq),
        prev: Seq(prev),
        body,
        options: Options {
            timeout: Duration::from_millis(number("timeoutMs", item.timeout_ms, DURATION_MS_MAX)?),
            retries: item.retries,
            method_timeout: method_timeout.map(Duration::from_millis),
            deadline: item.deadline_ms.map(|ms| number("deadlineMs", ms, WALL_MS_MAX).map(Wall)).transpose()?,
            parallel: item.parallel,
            rerun: item.rerun,
            seal: false,
            reply: None,
        },
        created: Wall(number("createdMs", item.created_ms, WALL_MS_MAX)?),
    })
}

/// An incarnation that a store can keep.
pub(super) fn incarnation(hex: Option<Hex64>) -> Result<Option<Incarnation>, WireError> {
    hex.map(|hex| number("incarnation", hex.0, NUMBER_MAX).map(Incarnation)).transpose()
}
