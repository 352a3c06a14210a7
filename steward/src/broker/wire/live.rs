//! Outputs while they are written: what the sender of a message says when it wants to see its output, and the pieces
//! that it gets: raw bodies with headers on `<to>.DATA.<from>`, told from pieces that are fetched by their headers.

use async_nats::HeaderMap;
use async_nats::header::HeaderName;
use bytes::Bytes;
use protocol::message::MessageId;
use protocol::outcome::Stream;

use super::chunk::{OFFSET, STREAM, header, stream};
use super::pack::Packer;
use super::{CHUNK_BYTES_MAX, NUMBER_MAX, WireError};

const MESSAGE: HeaderName = HeaderName::from_static("Steward-Message");
const RUN: HeaderName = HeaderName::from_static("Steward-Run");
const LENGTHS: HeaderName = HeaderName::from_static("Steward-Lengths");

/// The sender of a message wants to see its output while it is written. It holds for a while, and is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Follow {
    /// The message.
    pub(crate) id: MessageId,
    /// The run whose output is here: its start in milliseconds since 1970, by its node's clock. 0: of none.
    pub(crate) run: u64,
    /// Bytes of standard output and of standard error that are here.
    pub(crate) have: [u64; 2],
    /// What was sent beyond that is lost.
    pub(crate) again: bool,
    /// Nobody looks on any more.
    pub(crate) stop: bool,
}

/// A piece of an output that is being written; an empty one says only how long the output is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The message.
    pub(crate) id: MessageId,
    /// The run that writes it, see [`Follow::run`]; never 0.
    pub(crate) run: u64,
    /// Which of its streams.
    pub(crate) stream: Stream,
    /// Where the piece begins, in bytes.
    pub(crate) offset: u64,
    /// How many bytes of standard output and of standard error there are so far.
    pub(crate) lengths: [u64; 2],
    /// The piece.
    pub(crate) bytes: Bytes,
}

/// The place of a stream in a pair.
pub(crate) fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// Whether the headers are those of a piece of an output that is being written.
pub(crate) fn is_piece(headers: Option<&HeaderMap>) -> bool {
    headers.is_some_and(|headers| headers.get(MESSAGE).is_some())
}

/// The body and its headers.
pub(crate) fn encode(piece: &Piece, packer: &mut Packer) -> (Bytes, HeaderMap) {
    let mut headers = HeaderMap::new();
    headers.insert(MESSAGE, piece.id.to_string());
    headers.insert(RUN, piece.run.to_string());
    headers.insert(STREAM, piece.stream.as_str());
    headers.insert(OFFSET, piece.offset.to_string());
    headers.insert(LENGTHS, format!("{} {}", piece.lengths[0], piece.lengths[1]));
    let body = packer.pack_into(piece.bytes.clone(), &mut headers);
    (body, headers)
}

/// Reads a piece. Who sent it stands in the subject; whether anybody wants it is not known here.
pub(crate) fn decode(headers: Option<&HeaderMap>, body: &Bytes, packer: &mut Packer) -> Result<Piece, WireError> {
    let text = |name| headers.and_then(|headers| headers.get(name)).map(async_nats::HeaderValue::as_str);
    let id = text(MESSAGE).and_then(|id| id.parse().ok()).ok_or(WireError::Header("Steward-Message"))?;
    let run = header(headers, RUN, "Steward-Run")?;
    let (stream, offset) = (stream(headers)?, header(headers, OFFSET, "Steward-Offset")?);
    let lengths = text(LENGTHS).and_then(pair).ok_or(WireError::Header("Steward-Lengths"))?;
    let bytes = match packer.unpack(headers, body, CHUNK_BYTES_MAX)? {
        std::borrow::Cow::Borrowed(_) => body.clone(),
        std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let is_within = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= lengths[index(stream)]);
    if run == 0 || !is_within {
        return Err(WireError::Value("a piece lies outside of its output"));
    }
    Ok(Piece { id, run, stream, offset, lengths, bytes })
}

/// Two numbers with a space between them.
fn pair(text: &str) -> Option<[u64; 2]> {
    let (stdout, stderr) = text.split_once(' ')?;
    let digits = |text: &str| {
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())??;
        (number <= NUMBER_MAX).then_some(number)
    };
    Some([digits(stdout)?, digits(stderr)?])
}
