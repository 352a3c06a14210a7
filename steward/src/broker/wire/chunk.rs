//! Pieces of outputs: raw bodies with headers on `<to>.DATA.<from>`.

use async_nats::HeaderMap;
use async_nats::header::HeaderName;
use bytes::Bytes;
use protocol::event::Ticket;
use protocol::outcome::Stream;

use super::pack::Packer;
use super::{CHUNK_BYTES_MAX, NUMBER_MAX, WireError};

const TICKET: HeaderName = HeaderName::from_static("Steward-Ticket");
pub(super) const STREAM: HeaderName = HeaderName::from_static("Steward-Stream");
pub(super) const OFFSET: HeaderName = HeaderName::from_static("Steward-Offset");
pub(super) const TOTAL: HeaderName = HeaderName::from_static("Steward-Total");

/// A piece of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The receiver's number for the message.
    pub(crate) ticket: Ticket,
    /// Which of its streams.
    pub(crate) stream: Stream,
    /// Where the piece begins, in bytes.
    pub(crate) offset: u64,
    /// How long the whole output is, in bytes.
    pub(crate) total: u64,
    /// The piece.
    pub(crate) bytes: Bytes,
}

/// The body and its headers.
pub(crate) fn encode(chunk: &Chunk, packer: &mut Packer) -> (Bytes, HeaderMap) {
    let mut headers = HeaderMap::new();
    headers.insert(TICKET, chunk.ticket.0.to_string());
    headers.insert(STREAM, chunk.stream.as_str());
    headers.insert(OFFSET, chunk.offset.to_string());
    headers.insert(TOTAL, chunk.total.to_string());
    let body = packer.pack_into(chunk.bytes.clone(), &mut headers);
    (body, headers)
}

/// Reads a piece. Who sent it stands in the subject; whether it was asked for is not known here.
pub(crate) fn decode(headers: Option<&HeaderMap>, body: &Bytes, packer: &mut Packer) -> Result<Chunk, WireError> {
    let ticket = Ticket(header(headers, TICKET, "Steward-Ticket")?);
    let offset = header(headers, OFFSET, "Steward-Offset")?;
    let total = header(headers, TOTAL, "Steward-Total")?;
    let stream = stream(headers)?;
    let bytes = match packer.unpack(headers, body, CHUNK_BYTES_MAX)? {
        std::borrow::Cow::Borrowed(_) => body.clone(),
        std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
    };
    if bytes.is_empty() || offset.checked_add(bytes.len() as u64).is_none_or(|end| end > total) {
        return Err(WireError::Value("a piece lies outside of its output"));
    }
    Ok(Chunk { ticket, stream, offset, total, bytes })
}

/// The stream that a piece is of.
pub(super) fn stream(headers: Option<&HeaderMap>) -> Result<Stream, WireError> {
    let stream = headers.and_then(|headers| headers.get(STREAM)).ok_or(WireError::Header("Steward-Stream"))?;
    super::control::stream(stream.as_str())
}

/// A number of a header.
pub(super) fn header(headers: Option<&HeaderMap>, name: HeaderName, text: &'static str) -> Result<u64, WireError> {
    let value = headers.and_then(|headers| headers.get(name)).map(|value| value.as_str());
    let digits = value.filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse::<u64>().ok()).filter(|number| *number <= NUMBER_MAX);
    number.ok_or(WireError::Header(text))
}
