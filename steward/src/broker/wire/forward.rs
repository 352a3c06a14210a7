//! Forwarded TCP connections: what two nodes tell each other of those of one `PortForward` message, on `<to>.DATA.<from>`, told
//! from pieces of outputs by its header. A body is a line of JSON, the head, and behind it the bytes of all its frames.

use async_nats::HeaderMap;
use async_nats::header::HeaderName;
use bytes::Bytes;
use protocol::message::MessageId;
use serde::{Deserialize, Serialize};

use super::pack::Packer;
use super::text::{self, Hex64};
use super::{CHUNK_BYTES_MAX, NUMBER_MAX, VERSION, WireError, limit, number};

const FORWARD: HeaderName = HeaderName::from_static("Steward-Forward");

/// Connections of which one publish may tell.
pub(crate) const FRAMES_MAX: usize = 512;

/// The longest head, in bytes.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// The longest reason of a reset, in bytes.
pub(crate) const REASON_BYTES_MAX: usize = 300;

/// Which of the two nodes says it; a node may forward to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Side {
    /// The one that has sent the message.
    Sender,
    /// The one that runs it.
    Receiver,
}

impl Side {
    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

/// All that goes in one publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle {
    /// The message.
    pub(crate) id: MessageId,
    /// Who says it.
    pub(crate) side: Side,
    /// The receiver's run of the message: a random number, never 0.
    pub(crate) run: u64,
    /// The sender's answer to that run, a random number; 0 as long as it is not known.
    pub(crate) greeting: u64,
    /// The forward is over, and why.
    pub(crate) over: Option<String>,
    /// What there is to say of connections.
    pub(crate) frames: Vec<Frame>,
}

/// What there is to say of one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Which one. The lowest 7 bits are its place, and the rest grows with each connection in that place.
    pub(crate) connection: u64,
    /// It is new: whoever gets this connects.
    pub(crate) open: bool,
    /// Where its bytes begin, counted from the beginning of this direction.
    pub(crate) offset: u64,
    /// Bytes that were read.
    pub(crate) bytes: Bytes,
    /// Behind these bytes this direction has ended; that counts as one byte more.
    pub(crate) end: bool,
    /// All up to here has arrived.
    pub(crate) have: u64,
    /// Up to here there is room.
    pub(crate) room: u64,
    /// What was sent beyond `have` is lost.
    pub(crate) again: bool,
    /// So much was sent: say how much of it has arrived. 0: it is not asked.
    pub(crate) sent: u64,
    /// The connection was broken off, and why; said until the other side says that it is gone.
    pub(crate) reset: Option<String>,
    /// It is not here, or not any more.
    pub(crate) gone: bool,
}

#[derive(Serialize, Deserialize)]
struct HeadText {
    v: u64,
    side: Side,
    #[serde(with = "text")]
    run: Hex64,
    #[serde(with = "text::option", default, skip_serializing_if = "Option::is_none")]
    greeting: Option<Hex64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    over: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    frames: Vec<FrameText>,
}

#[derive(Serialize, Deserialize)]
struct FrameText {
    connection: u64,
    #[serde(default, skip_serializing_if = "text::is_false")]
    open: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    length: u64,
    #[serde(default, skip_serializing_if = "text::is_false")]
    end: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    have: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    room: u64,
    #[serde(default, skip_serializing_if = "text::is_false")]
    again: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    sent: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reset: Option<String>,
    #[serde(default, skip_serializing_if = "text::is_false")]
    gone: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Whether the headers are those of forwarded connections.
pub(crate) fn is_bundle(headers: Option<&HeaderMap>) -> bool {
    headers.is_some_and(|headers| headers.get(FORWARD).is_some())
}

/// The body and its headers.
pub(crate) fn encode(bundle: &Bundle, packer: &mut Packer) -> Result<(Bytes, HeaderMap), WireError> {
    let frames = bundle.frames.iter().map(|frame| FrameText {
        connection: frame.connection,
        open: frame.open,
        offset: frame.offset,
        length: frame.bytes.len() as u64,
        end: frame.end,
        have: frame.have,
        room: frame.room,
        again: frame.again,
        sent: frame.sent,
        reset: frame.reset.clone(),
        gone: frame.gone,
    });
    let head = HeadText {
        v: VERSION,
        side: bundle.side,
        run: Hex64(bundle.run),
        greeting: (bundle.greeting > 0).then_some(Hex64(bundle.greeting)),
        over: bundle.over.clone(),
        frames: frames.collect(),
    };
    let mut body = serde_json::to_vec(&head).map_err(|error| WireError::Json(error.to_string()))?;
    body.push(b'\n');
    bundle.frames.iter().for_each(|frame| body.extend_from_slice(&frame.bytes));
    let mut headers = HeaderMap::new();
    headers.insert(FORWARD, bundle.id.to_string());
    let body = packer.pack_into(body.into(), &mut headers);
    Ok((body, headers))
}

/// Reads a bundle. Who sent it stands in the subject; whether there is such a forward is not known here.
pub(crate) fn decode(headers: Option<&HeaderMap>, body: &Bytes, packer: &mut Packer) -> Result<Bundle, WireError> {
    let id = headers.and_then(|headers| headers.get(FORWARD)).map(|value| value.as_str());
    let id = id.and_then(|id| id.parse::<MessageId>().ok()).ok_or(WireError::Header("Steward-Forward"))?;
    let body = match packer.unpack(headers, body, HEAD_BYTES_MAX + CHUNK_BYTES_MAX)? {
        std::borrow::Cow::Borrowed(_) => body.clone(),
        std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let head_end = body.iter().take(HEAD_BYTES_MAX).position(|byte| *byte == b'\n');
    let head_end = head_end.ok_or(WireError::Value("a forward's body has no line with its head"))?;
    let head: HeadText = super::parse(&body[..head_end])?;
    if head.v != VERSION {
        return Err(WireError::Version(head.v));
    }
    limit("the number of frames", head.frames.len(), FRAMES_MAX)?;
    let mut rest = body.slice(head_end + 1..);
    limit("the bytes of the frames", rest.len(), CHUNK_BYTES_MAX)?;
    let mut frames = Vec::with_capacity(head.frames.len());
    for text in head.frames {
        let length = usize::try_from(text.length).ok().filter(|length| *length <= rest.len());
        let length = length.ok_or(WireError::Value("a frame is longer than its body"))?;
        frames.push(frame(text, rest.split_to(length))?);
    }
    if !rest.is_empty() {
        return Err(WireError::Value("bytes stand behind the last frame"));
    }
    let greeting = head.greeting.map_or(0, |greeting| greeting.0);
    number("run", head.run.0, NUMBER_MAX)?;
    number("greeting", greeting, NUMBER_MAX)?;
    if head.run.0 == 0 {
        return Err(WireError::Value("a forward's run is 0"));
    }
    let over = head.over.map(reason).transpose()?;
    Ok(Bundle { id, side: head.side, run: head.run.0, greeting, over, frames })
}

fn frame(text: FrameText, bytes: Bytes) -> Result<Frame, WireError> {
    let counted = |name, value: u64| number(name, value, NUMBER_MAX / 2);
    Ok(Frame {
        connection: counted("connection", text.connection)?,
        open: text.open,
        offset: counted("offset", text.offset)?,
        bytes,
        end: text.end,
        have: counted("have", text.have)?,
        room: counted("room", text.room)?,
        again: text.again,
        sent: counted("sent", text.sent)?,
        reset: text.reset.map(reason).transpose()?,
        gone: text.gone,
    })
}

fn reason(text: String) -> Result<String, WireError> {
    limit("the reason", text.len(), REASON_BYTES_MAX)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Bundle {
        let full = Frame {
            connection: 300,
            open: true,
            offset: 7,
            bytes: Bytes::from_static(b"\n{}\n"),
            end: true,
            have: 5,
            room: 99,
            again: true,
            sent: 11,
            reset: None,
            gone: false,
        };
        let reset = Frame { connection: 1, reset: Some("refused".to_owned()), ..Frame::default() };
        let gone = Frame { connection: 2, gone: true, ..Frame::default() };
        let long = Frame { connection: 3, bytes: vec![b'a'; 5000].into(), ..Frame::default() };
        let (id, over) = (MessageId(77), Some("done".to_owned()));
        Bundle { id, side: Side::Receiver, run: 3, greeting: 4, over, frames: vec![full, reset, gone, long] }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut packer = Packer::default();
        let empty = Bundle { greeting: 0, over: None, frames: Vec::new(), side: Side::Sender, ..bundle() };
        for bundle in [bundle(), empty] {
            let (body, headers) = encode(&bundle, &mut packer).unwrap();
            assert!(is_bundle(Some(&headers)));
            assert_eq!(decode(Some(&headers), &body, &mut packer), Ok(bundle));
        }
        assert!(!is_bundle(None) && !is_bundle(Some(&HeaderMap::new())));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut packer = Packer::default();
        let mut headers = HeaderMap::new();
        headers.insert(FORWARD, MessageId(77).to_string());
        let mut decode = |body: &str| decode(Some(&headers), &Bytes::from(body.to_owned()), &mut packer);
        let head = r#"{"v":1,"side":"sender","run":"0000000000000003""#;
        assert!(decode(&format!("{head}}}\n")).is_ok());
        for bad in [
            String::new(),
            format!("{head}}}"),
            format!("{head}}}\nx"),
            format!("{head},\"frames\":[{{\"connection\":1,\"length\":2}}]}}\nx"),
            format!("{head},\"frames\":[{{\"connection\":{}}}]}}\n", u64::MAX),
            format!("{head},\"frames\":[{{\"connection\":-1}}]}}\n"),
            format!("{head},\"over\":\"{}\"}}\n", "x".repeat(REASON_BYTES_MAX + 1)),
            head.replace("\"v\":1", "\"v\":2") + "}\n",
            head.replace('3', "0") + "}\n",
            head.replace("sender", "nobody") + "}\n",
            format!("{head},\"frames\":[{}]}}\n", vec!["{\"connection\":1}"; FRAMES_MAX + 1].join(",")),
        ] {
            assert!(decode(&bad).is_err(), "{bad}");
        }
    }
}
