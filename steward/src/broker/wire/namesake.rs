//! Whether a name is taken: the question is a control on `<me>.CTL.<me>`, the answer a body on `<me>.NAME.<mark>`.

use std::borrow::Cow;

use protocol::message::Incarnation;
use protocol::name::NodeName;
use protocol::time::Wall;
use serde::{Deserialize, Serialize};

use super::text::{self, Hex64};
use super::{NUMBER_MAX, VERSION, WALL_MS_MAX, WireError, limit, number};

/// The question of a process that wants to have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who {
    /// The process that asks.
    pub(crate) incarnation: Incarnation,
    /// Whether the one that has the name is to stop.
    pub(crate) take_over: bool,
}

/// The process that has the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namesake {
    /// The process.
    pub(crate) incarnation: Incarnation,
    /// The host on which it runs.
    pub(crate) host: String,
    /// Its process number there.
    pub(crate) pid: u32,
    /// When it started, by its clock.
    pub(crate) started: Wall,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamesakeText<'a> {
    v: u64,
    #[serde(with = "text")]
    from_node: NodeName,
    #[serde(with = "text")]
    incarnation: Hex64,
    #[serde(borrow, default)]
    host: Cow<'a, str>,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    started_ms: u64,
}

/// The longest host name that is shown, in bytes.
const HOST_BYTES_MAX: usize = 255;

/// The answer of the process that has the name `me`.
pub(crate) fn encode(me: &NodeName, namesake: &Namesake) -> Result<Vec<u8>, WireError> {
    let text = NamesakeText {
        v: VERSION,
        from_node: me.clone(),
        incarnation: Hex64(namesake.incarnation.0),
        host: Cow::Borrowed(&namesake.host),
        pid: namesake.pid,
        started_ms: namesake.started.0,
    };
    serde_json::to_vec(&text).map_err(|error| WireError::Json(error.to_string()))
}

/// Reads the answer.
pub(crate) fn decode(body: &[u8], me: &NodeName) -> Result<Namesake, WireError> {
    let text: NamesakeText<'_> = super::parse(body)?;
    if text.v != VERSION {
        return Err(WireError::Version(text.v));
    }
    if text.from_node != *me {
        return Err(WireError::Mismatch("fromNode"));
    }
    limit("the host name", text.host.len(), HOST_BYTES_MAX)?;
    Ok(Namesake {
        incarnation: Incarnation(number("incarnation", text.incarnation.0, NUMBER_MAX)?),
        host: text.host.into_owned(),
        pid: text.pid,
        started: Wall(number("startedMs", text.started_ms, WALL_MS_MAX)?),
    })
}
