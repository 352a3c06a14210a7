//! What the outside was told, from the bytes that went through the sockets: whatever a node has said once must be true
//! for ever, also after the next power cut.
//!
//! It reads the HTTP answers of the socket and what is published to the broker; `docs/wire.md` says what that looks like.

use std::collections::BTreeMap;

use serde_json::Value;

use super::trace::{Inode, Moment, Op, Trace, What};

/// Something that a node has said.
#[derive(Debug)]
pub(super) struct Said {
    /// Before this, nobody had heard it.
    pub(super) moment: Moment,
    pub(super) node: String,
    pub(super) fact: Fact,
}

/// See [`Said`].
#[derive(Debug)]
pub(super) enum Fact {
    /// To whoever submitted it: this message is accepted.
    Accepted(String),
    /// To whoever asked: this is how a message is, and whether it has ended.
    Shown { id: String, state: String, ended: bool },
    /// To another node: here is a message, with this number in its lane.
    Published { id: String, lane: String, seq: u64 },
    /// To another node: the messages of a lane with numbers between these two have ended, and can be forgotten.
    Closed { lane: String, after: u64, before: u64 },
    /// To a message's sender: this is how it is. `ticket` is the receiver's number for it.
    Receipt { ticket: u64, id: String, state: String, outputs: Vec<Bulk> },
    /// To another node: the results with these tickets are stored here, and can be forgotten.
    Confirmed { to: String, tickets: Vec<u64> },
}

/// An output that the receiver keeps until its sender has it.
#[derive(Debug)]
pub(super) struct Bulk {
    pub(super) stream: &'static str,
    pub(super) len: u64,
    pub(super) hash: String,
}

/// What a node has taken out of its `inmsg.txt`: whoever wrote it there sees that it is accepted.
#[derive(Debug)]
pub(super) struct Taken {
    /// Before this, it still stood there.
    pub(super) moment: Moment,
    /// All that the node had read of it until then.
    pub(super) text: String,
}

/// What went out through one connection.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    /// Where the bytes of each write end, and when it began.
    pieces: Vec<(usize, Moment)>,
}

impl Stream {
    /// When the byte before this place went out.
    fn moment(&self, end: usize) -> Moment {
        self.pieces.iter().find(|(to, _)| *to >= end).map_or(Moment::MAX, |(_, moment)| *moment)
    }
}

/// Everything that was said, in order.
pub(super) fn said(trace: &Trace) -> Vec<Said> {
    let mut streams: BTreeMap<(&str, usize), Stream> = BTreeMap::new();
    for Op { begin, node, what, .. } in &trace.ops {
        let What::Sent { connection, bytes } = what else { continue };
        let stream = streams.entry((node, *connection)).or_default();
        stream.bytes.extend_from_slice(bytes);
        stream.pieces.push((stream.bytes.len(), *begin));
    }
    let mut all = Vec::new();
    for ((node, _), stream) in &streams {
        let mut tell = |moment, fact| all.push(Said { moment, node: (*node).to_owned(), fact });
        if stream.bytes.starts_with(b"HTTP/") {
            answer(node, stream, &mut tell);
        } else if stream.bytes.starts_with(b"CONNECT ") {
            published(stream, &mut tell);
        }
    }
    all.sort_by_key(|said| said.moment);
    all
}

/// The one answer of a connection to the socket.
fn answer(node: &str, stream: &Stream, tell: &mut impl FnMut(Moment, Fact)) {
    let Some(head) = stream.bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return };
    let Ok(body) = serde_json::from_slice::<Value>(&stream.bytes[head + 4..]) else { return };
    let moment = stream.moment(stream.bytes.len());
    for id in body["ids"].as_array().into_iter().flatten() {
        tell(moment, Fact::Accepted(text(id)));
    }
    let shown: &[Value] = body.as_array().map_or(std::slice::from_ref(&body), Vec::as_slice);
    // What is in the inbox may be forgotten later.
    for message in shown.iter().filter(|message| message["id"].is_string() && message["fromNode"] == node) {
        let (id, state) = (text(&message["id"]), text(&message["state"]));
        tell(moment, Fact::Shown { id, state, ended: message["finishedAt"].is_string() });
    }
}

/// What a node has published, in the protocol of NATS.
fn published(stream: &Stream, tell: &mut impl FnMut(Moment, Fact)) {
    let mut at = 0;
    while let Some(end) = stream.bytes[at..].windows(2).position(|two| two == b"\r\n") {
        let line = String::from_utf8_lossy(&stream.bytes[at..at + end]).into_owned();
        at += end + 2;
        let words: Vec<&str> = line.split(' ').collect();
        let number = |back: usize| words[words.len() - back].parse::<usize>().unwrap();
        let (head, len) = match words[0] {
            "PUB" => (0, number(1)),
            "HPUB" => (number(2), number(1)),
            _ => continue,
        };
        let Some(payload) = stream.bytes.get(at..at + len) else { return };
        at += len + 2;
        if let Some(body) = body(&payload[head..]) {
            let moment = stream.moment(at);
            facts(words[1], &body).into_iter().for_each(|fact| tell(moment, fact));
        }
    }
}

/// What `node` has taken out of the file with this name, which only others write.
pub(super) fn taken(trace: &Trace, node: &str, file: &str) -> Vec<Taken> {
    let mut names: BTreeMap<&str, Inode> = BTreeMap::new();
    let (mut written, mut read): (BTreeMap<Inode, Vec<u8>>, BTreeMap<Inode, u64>) = Default::default();
    let mut all = Vec::new();
    for op in &trace.ops {
        match &op.what {
            What::Link { folder, name, inode } if *folder == trace.dirs[node] => {
                names.insert(name, *inode);
            }
            What::Exchange { folder, one, other } if *folder == trace.dirs[node] => {
                let (Some(first), Some(second)) = (names.get(&**one).copied(), names.get(&**other).copied()) else {
                    continue;
                };
                names.extend([(one.as_str(), second), (other.as_str(), first)]);
                if let Some((_, gone)) = [(one, first), (other, second)].into_iter().find(|(name, _)| *name == file) {
                    let to = usize::try_from(read.get(&gone).copied().unwrap_or(0)).unwrap();
                    let text = written.get(&gone).map_or(&[][..], |text| &text[..to]);
                    all.push(Taken { moment: op.begin, text: String::from_utf8_lossy(text).into_owned() });
                }
            }
            What::Write { inode, bytes, .. } if op.node != node => {
                written.entry(*inode).or_default().extend_from_slice(bytes);
            }
            What::Read { inode, to } if op.node == node => {
                let read = read.entry(*inode).or_default();
                *read = (*read).max(*to);
            }
            _ => {}
        }
    }
    all
}

fn body(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(&crate::harness::try_unpacked(body)?).ok()
}

fn facts(subject: &str, body: &Value) -> Vec<Fact> {
    let list = |key: &str| body[key].as_array().into_iter().flatten();
    match subject.split('.').nth(1) {
        Some("ACK") => list("receipts").map(receipt).collect(),
        Some("CTL") if body["control"] == "confirm" => {
            let tickets = list("tickets").map(|ticket| ticket.as_u64().unwrap()).collect();
            vec![Fact::Confirmed { to: text(&body["toNode"]), tickets }]
        }
        Some("CommandACK" | "EventACK") => messages(subject, body),
        _ => Vec::new(),
    }
}

/// What messages say, of themselves and of those before them.
fn messages(subject: &str, body: &Value) -> Vec<Fact> {
    let lane = || subject.to_owned();
    let mut facts = vec![Fact::Closed { lane: lane(), after: 0, before: body["floor"].as_u64().unwrap_or(0) }];
    for item in body["items"].as_array().into_iter().flatten() {
        let seq = item["seq"].as_u64().unwrap();
        let after = item["prev"].as_u64().unwrap_or(seq - 1);
        facts.push(Fact::Closed { lane: lane(), after, before: seq });
        facts.push(Fact::Published { id: text(&item["id"]), lane: lane(), seq });
    }
    facts
}

fn receipt(receipt: &Value) -> Fact {
    let outputs = ["stdout", "stderr"].into_iter().filter_map(|stream| {
        let (len, hash) = (receipt[stream]["len"].as_u64()?, text(&receipt[stream]["hash"]));
        Some(Bulk { stream, len, hash })
    });
    Fact::Receipt {
        ticket: receipt["ticket"].as_u64().unwrap_or(0),
        id: text(&receipt["id"]),
        state: text(&receipt["state"]),
        outputs: outputs.collect(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
