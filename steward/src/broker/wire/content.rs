//! Contents that go along with a message: what its receiver says when it wants a piece (control `want`), and the pieces that it
//! gets: raw bodies with headers on `<to>.DATA.<from>`, told from other pieces by their headers.

use async_nats::HeaderMap;
use async_nats::header::HeaderName;
use bytes::Bytes;
use protocol::message::MessageId;

use super::chunk::{OFFSET, TOTAL, header};
use super::pack::Packer;
use super::{CHUNK_BYTES_MAX, WireError};

const CONTENT: HeaderName = HeaderName::from_static("Steward-Content");

/// The receiver of a message wants a piece of what goes along with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Want {
    /// The message.
    pub(crate) id: MessageId,
    /// From this byte on: all before it is there.
    pub(crate) offset: u64,
    /// At most so many bytes.
    pub(crate) len: u64,
}

/// A piece of what goes along with a message; an empty one of an empty whole says that there is nothing (any more).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The message.
    pub(crate) id: MessageId,
    /// Where the piece begins, in bytes.
    pub(crate) offset: u64,
    /// How long the whole is, in bytes.
    pub(crate) total: u64,
    /// The piece.
    pub(crate) bytes: Bytes,
}

impl Part {
    /// What is said where there is nothing.
    pub(crate) fn none(id: MessageId) -> Self {
        Self { id, offset: 0, total: 0, bytes: Bytes::new() }
    }
}

/// Whether the headers are those of a piece of a content.
pub(crate) fn is_part(headers: Option<&HeaderMap>) -> bool {
    headers.is_some_and(|headers| headers.get(CONTENT).is_some())
}

/// The body and its headers.
pub(crate) fn encode(part: &Part, packer: &mut Packer) -> (Bytes, HeaderMap) {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT, part.id.to_string());
    headers.insert(OFFSET, part.offset.to_string());
    headers.insert(TOTAL, part.total.to_string());
    let body = packer.pack_into(part.bytes.clone(), &mut headers);
    (body, headers)
}

/// Reads a piece. Who sent it stands in the subject; whether anybody wants it is not known here.
pub(crate) fn decode(headers: Option<&HeaderMap>, body: &Bytes, packer: &mut Packer) -> Result<Part, WireError> {
    let id = headers.and_then(|headers| headers.get(CONTENT)).and_then(|id| id.as_str().parse().ok());
    let id = id.ok_or(WireError::Header("Steward-Content"))?;
    let (offset, total) = (header(headers, OFFSET, "Steward-Offset")?, header(headers, TOTAL, "Steward-Total")?);
    let bytes = match packer.unpack(headers, body, CHUNK_BYTES_MAX)? {
        std::borrow::Cow::Borrowed(_) => body.clone(),
        std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let is_within = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= total);
    if !is_within || (bytes.is_empty() && total > 0) {
        return Err(WireError::Value("a piece lies outside of its content"));
    }
    Ok(Part { id, offset, total, bytes })
}
