//! What comes over the broker, with its subject and its headers: read by the code that reads it in a running node, and
//! then told to the protocol.
//!
//! A frame is text: the subject, headers as `Name: value`, an empty line, the body. Frames are parted by a line `%%`.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::sync::Arc;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use async_nats::{Message, StatusCode};
use bytes::Bytes;
use futures_util::FutureExt as _;
use protocol::event::{Ticket, Verdict};
use protocol::message::{Epoch, Incarnation, Kind, MessageId, Options};
use protocol::name::{MethodName, NodeName};
use protocol::outcome::{Final, Outcome};
use protocol::snapshot::{Identity, Snapshot};
use protocol::step::{Effect, Step};
use protocol::time::{Mono, Now, Wall};
use protocol::{Event, Node};
use tokio::sync::{broadcast, mpsc};

use crate::broker::wire::subject::Channel;
use crate::broker::wire::{self, BODY_BYTES_MAX, CHUNK_BYTES_MAX};
use crate::broker::{Access, Broker, Bulk, Config, LinkBoard, Wiring};
use crate::clock::Clock;
use crate::engine::{EngineHandle, Input};
use crate::forward::Forwards;
use crate::methods::OwnMethods;
use crate::security::admission::Admission;
use crate::security::rules::Rules;
use crate::security::sealing::Policy;
use crate::security::trust::Trust;
use crate::supervise::{Rule, Supervisor};

/// The node that reads.
const ME: &str = "ship1";

/// Its process and its store; the corpus addresses them.
const PROCESS: u64 = 0xbb;
/// See [`PROCESS`].
const STORE: u64 = 0xaa;

/// The message that it has sent to central, so that receipts have something to be for.
const SENT: MessageId = MessageId(0x0193_a5b2_7c1e_7d3a_9b52_5a1f_0e6c_2d10);

/// Between two frames of an input.
const PARTED_BY: &[u8] = b"\n%%\n";

/// Frames of one input; more are passed over.
const FRAMES_MAX: usize = 64;

/// The time between two frames, in milliseconds.
const STEP_MS: u64 = 3_000;

/// What one frame may cost, in writes and effects: an envelope or a body of receipts as full as may be, with an answer
/// for each.
const STEP_MAX: usize = 16 * wire::TICKETS_MAX;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Headers, encoding, subject and chunk of one frame.
pub(super) fn frame(bytes: &[u8]) {
    let message = message(bytes);
    if Channel::parse(&message.subject, ME).is_some() {
        assert_eq!(message.subject.split('.').filter(|part| !part.is_empty()).count(), 3, "{}", message.subject);
    }
    let mut packer = wire::pack::Packer::default();
    if let Ok(body) = packer.unpack_json(message.headers.as_ref(), &message.payload) {
        assert!(body.len() <= BODY_BYTES_MAX);
    }
    if let Ok(chunk) = wire::chunk::decode(message.headers.as_ref(), &message.payload, &mut packer) {
        assert!((1..=CHUNK_BYTES_MAX).contains(&chunk.bytes.len()));
        assert!(chunk.offset + chunk.bytes.len() as u64 <= chunk.total);
        let (body, headers) = wire::chunk::encode(&chunk, &mut packer);
        assert_eq!(wire::chunk::decode(Some(&headers), &body, &mut packer), Ok(chunk));
    }
    if let Ok(piece) = wire::live::decode(message.headers.as_ref(), &message.payload, &mut packer) {
        assert!(piece.run > 0 && piece.bytes.len() <= CHUNK_BYTES_MAX);
        let (body, headers) = wire::live::encode(&piece, &mut packer);
        assert_eq!(wire::live::decode(Some(&headers), &body, &mut packer), Ok(piece));
    }
}

/// A node that gets frame after frame, with some time between them.
pub(super) fn node(bytes: &[u8]) {
    let mut rig = Rig::new();
    for frame in frames(bytes).take(FRAMES_MAX) {
        rig.arrives(message(frame));
    }
}

fn frames(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let all = rest?;
        let at = all.windows(PARTED_BY.len()).position(|window| window == PARTED_BY);
        rest = at.and_then(|at| all.get(at + PARTED_BY.len()..));
        all.get(..at.unwrap_or(all.len()))
    })
}

/// The message that stands in a frame; headers that no client could have read are left out.
pub(super) fn message(frame: &[u8]) -> Message {
    let at = frame.windows(2).position(|window| window == b"\n\n");
    let (head, body) = match at {
        Some(at) => (frame.get(..at), frame.get(at + 2..)),
        None => (Some(frame), None),
    };
    let head = String::from_utf8_lossy(head.unwrap_or_default()).into_owned();
    let mut lines = head.split('\n');
    let subject = lines.next().unwrap_or_default().to_owned();
    let mut headers = HeaderMap::new();
    for (key, value) in lines.filter_map(|line| line.split_once(": ")) {
        if let (Ok(key), Ok(value)) = (HeaderName::from_str(key), HeaderValue::from_str(value)) {
            headers.append(key, value);
        }
    }
    let payload = Bytes::copy_from_slice(body.unwrap_or_default());
    let status = subject.contains(".REPLY.").then_some(StatusCode::NO_RESPONDERS);
    let (length, headers) = (payload.len(), (!headers.is_empty()).then_some(headers));
    let reply = Some(format!("{ME}.NAME.00000000000000cc").into());
    Message { subject: subject.into(), reply, payload, headers, status, description: None, length }
}

/// A node without a disk and without a broker.
struct Rig {
    broker: Broker,
    node: Node,
    inputs: mpsc::Receiver<Input>,
    bulk: mpsc::Receiver<Bulk>,
    packer: wire::pack::Packer,
    now: Now,
    /// Runs that are told as ended with the next frame.
    running: Vec<Ticket>,
}

impl Rig {
    fn new() -> Self {
        let identity = Identity {
            name: name(ME),
            epoch: Epoch(STORE),
            incarnation: Incarnation(PROCESS),
            commits_at_start: 3,
            seed: 7,
        };
        let (inputs, taken) = mpsc::channel(crate::engine::INPUTS_MAX);
        let (bulk, bulk_taken) = mpsc::channel(crate::results::BULK_MAX);
        let broker = broker(identity.clone(), inputs, bulk);
        let now = Now { mono: Mono(1_000), wall: Wall(1_795_363_200_000) };
        let (node, step) = Node::new(now, identity, Snapshot::default());
        let packer = wire::pack::Packer::default();
        let mut rig = Self { broker, node, inputs: taken, bulk: bulk_taken, packer, now, running: Vec::new() };
        rig.note(step);
        rig.step(Event::LinkUp);
        rig.step(Event::Submit(protocol::message::Message {
            id: SENT,
            from: name(ME),
            to: name("central"),
            kind: Kind::CommandAck,
            method: MethodName::new("ShellCommand").unwrap_or_else(|error| panic!("{error}")),
            body: Arc::from(r#"["true"]"#),
            options: Options::default(),
            created: now.wall,
        }));
        rig
    }

    fn arrives(&mut self, message: Message) {
        let watched = BTreeSet::from([name("central"), name("ship2")]);
        let taken = self.broker.take(vec![message], &watched, &mut self.packer).now_or_never();
        assert_eq!(taken, Some(true), "reading waits for something else than the engine");
        while let Ok(input) = self.inputs.try_recv() {
            let Input::Event(event) = input else { panic!("the broker brings events only") };
            self.step(event);
        }
        while let Ok(bulk) = self.bulk.try_recv() {
            if let Bulk::Chunk { chunk, .. } = bulk {
                self.step(Event::Fetched { id: SENT, stream: chunk.stream, have: chunk.offset });
            }
        }
        let ended = std::mem::take(&mut self.running);
        let outcome = || Outcome::bare(Final::Done, None, self.now.wall);
        let ended: Vec<_> = ended.into_iter().map(|ticket| (ticket, outcome())).collect();
        self.step(Event::Finished(ended));
        self.now.mono.0 += STEP_MS;
        self.now.wall.0 += STEP_MS;
        self.step(Event::Tick);
    }

    fn step(&mut self, event: Event) {
        let step = self.node.step(self.now, event);
        self.note(step);
    }

    fn note(&mut self, step: Step) {
        assert!(step.writes.len() <= STEP_MAX && step.effects.len() <= STEP_MAX, "one frame makes too much to do");
        for effect in step.effects {
            if let Effect::Start(runs) = effect {
                self.running.extend(runs.iter().map(|run| run.ticket));
            }
        }
    }
}

fn broker(identity: Identity, inputs: mpsc::Sender<Input>, bulk: mpsc::Sender<Bulk>) -> Broker {
    let admission =
        Admission::new(Rules::standard(identity.name.clone(), name("central"), Vec::new()), OwnMethods::none());
    let trust = Trust::open(identity.name.clone(), name("central"));
    let config = Config {
        address: "127.0.0.1:4222".to_owned(),
        access: Access::default(),
        identity,
        central: name("central"),
        take_over: false,
        host: "here".to_owned(),
        started: Wall(1_000),
        trust,
        seal: Policy::default(),
        link_rate: None,
    };
    let (_, effects) = mpsc::channel(1);
    let wiring = Wiring {
        engine: EngineHandle { inputs, reports: broadcast::Sender::new(1) },
        effects,
        commits: Arc::default(),
        judge: Arc::new(move |from, kind, method, body| -> Verdict { admission.judge(from, kind, method, body) }),
        message_of: Arc::new(|_| None),
        info: Arc::new(|| Arc::from("{}")),
        clock: Clock::start(),
        bulk,
        forwards: Forwards::new(name(ME), Supervisor::new(Rule::NODE)),
        board: LinkBoard::default(),
        traffic: crate::traffic::Traffic::default(),
    };
    Broker::new(config, wiring).unwrap_or_else(|error| panic!("{error}")).0
}
