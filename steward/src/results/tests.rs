//! Outputs between two nodes' edges over a real nats-server.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::Event;
use protocol::event::{Control, Ticket};
use protocol::message::{Incarnation, MessageId};
use protocol::outcome::Stream;
use protocol::step::Effect;
use tokio::sync::mpsc;

use super::{Contents, Entitled, Results, Wants, Wiring};
use crate::blobs::{Blobs, Owner};
use crate::broker::harness::{Edge, NatsServer, node, wait_for};
use crate::methods::live::LiveOutputs;
use crate::traffic::Class;

/// An edge with results and a folder of its own.
struct Side {
    edge: Edge,
    results: mpsc::Sender<Vec<Effect>>,
    blobs: Blobs,
    _dir: tempfile::TempDir,
    tasks: [tokio::task::JoinHandle<anyhow::Result<()>>; 2],
}

impl Drop for Side {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

fn entitled(name: &str) -> Entitled {
    Entitled { node: node(name), seal: false, rate: None, class: Class::Outputs }
}

/// All odd tickets are messages of `central`.
fn side(server: &NatsServer, name: &str, incarnation: u64) -> Side {
    let mut edge = Edge::new(&server.address(), name, incarnation);
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path()).unwrap();
    let (results, effects) = mpsc::channel(64);
    let made = Results::new(Wiring {
        engine: edge.engine.clone(),
        broker: edge.broker.clone(),
        blobs: blobs.clone(),
        effects,
        bulk: edge.bulk.take().unwrap(),
        live: LiveOutputs::default(),
        receiver_of: Arc::new(|id| Ok((id.0 % 2 == 1).then(|| entitled("ship1")))),
        contents: Contents::new(blobs.clone()),
        wants: Wants::default(),
        sender_of: Arc::new(|ticket| Some(entitled(if ticket.0 % 2 == 1 { "central" } else { "other" }))),
    });
    let tasks = [tokio::spawn(made.clone().receiving()), tokio::spawn(made.serving())];
    Side { edge, results, blobs, _dir: dir, tasks }
}

/// Bytes that differ everywhere, half of them easy to compress.
fn output(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    for block in bytes.chunks_mut(2000) {
        let half = block.len() / 2;
        block[..half].fill(b'a');
    }
    bytes
}

fn keep(side: &Side, ticket: u64, stream: Stream, bytes: &[u8]) -> [u8; 32] {
    let mut writing = side.blobs.write(Ticket(ticket), stream).unwrap();
    writing.append(bytes).unwrap();
    writing.finish().unwrap().1
}

fn receive(id: u128, ticket: u64, len: usize) -> Effect {
    let (id, stream, from, ticket) = (MessageId(id), Stream::Stdout, node("ship1"), Ticket(ticket));
    Effect::Receive { id, stream, from, ticket, len: len as u64 }
}

fn ask(ticket: u64, offset: u64, len: u64) -> Effect {
    let control = Control::Ask { ticket: Ticket(ticket), stream: Stream::Stdout, offset, len };
    Effect::Control { to: node("ship1"), incarnation: Some(Incarnation(2)), control, seal: false }
}

/// Does what the core does: asks for piece after piece until everything is here, and seals it.
async fn fetch_all(central: &mut Side, wanted: &BTreeMap<u128, (u64, usize, [u8; 32])>, piece: u64) {
    for (id, (ticket, len, _)) in wanted {
        central.results.send(vec![receive(*id, *ticket, *len)]).await.unwrap();
    }
    let mut asked: BTreeMap<u128, u64> = BTreeMap::new();
    let mut sealed = 0;
    while sealed < wanted.len() {
        match central.edge.next().await {
            Event::Fetched { id, have, .. } => {
                let (ticket, len, hash) = wanted[&id.0];
                if have == len as u64 {
                    let seal = Effect::Seal { id, stream: Stream::Stdout, hash };
                    central.results.send(vec![seal]).await.unwrap();
                } else if have >= asked.get(&id.0).copied().unwrap_or(0) {
                    asked.insert(id.0, (have + piece).min(len as u64));
                    central.edge.perform(vec![ask(ticket, have, piece)]).await;
                }
            }
            Event::Sealed { id, whole, .. } => {
                assert!(whole, "{id}");
                sealed += 1;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_outputs_come_back_whole_at_the_same_time() {
    let server = NatsServer::start();
    let (mut central, mut ship) = (side(&server, "central", 1), side(&server, "ship1", 2));
    central.edge.up().await;
    ship.edge.up().await;
    let mut wanted = BTreeMap::new();
    for number in 0..20_u64 {
        let len = if number == 0 { 10_000_000 } else { 300_000 + usize::try_from(number).unwrap() };
        let ticket = 2 * number + 1;
        let hash = keep(&ship, ticket, Stream::Stdout, &output(number, len));
        wanted.insert(u128::from(number), (ticket, len, hash));
    }
    fetch_all(&mut central, &wanted, 1024 * 1024).await;
    for (id, (_, len, _)) in &wanted {
        let path = central.blobs.path(Owner::Out(MessageId(*id)), Stream::Stdout);
        assert!(std::fs::read(path).unwrap() == output(u64::try_from(*id).unwrap(), *len), "{id}");
    }
    ship.results.send(vec![Effect::Discard(Ticket(1))]).await.unwrap();
    let path = ship.blobs.path(Owner::In(Ticket(1)), Stream::Stdout);
    wait_for("the discard", || !path.exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_goes_on_where_a_restart_of_its_reader_stopped_it() {
    let server = NatsServer::start();
    let (mut central, mut ship) = (side(&server, "central", 1), side(&server, "ship1", 2));
    central.edge.up().await;
    ship.edge.up().await;
    let bytes = output(1, 500_000);
    let hash = keep(&ship, 1, Stream::Stdout, &bytes);
    // What an earlier process has written.
    central.blobs.fetch(MessageId(1), Stream::Stdout).unwrap().append(0, &bytes[..123_456]).unwrap();
    let sent_before = ship.edge.broker.counters().published_bytes.get();
    fetch_all(&mut central, &BTreeMap::from([(1, (1, bytes.len(), hash))]), 65_536).await;
    assert!(std::fs::read(central.blobs.path(Owner::Out(MessageId(1)), Stream::Stdout)).unwrap() == bytes);
    assert_eq!(sent_before, ship.edge.broker.counters().published_bytes.get(), "pieces are no messages");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_goes_to_its_sender_only_and_a_wrong_one_is_thrown_away() {
    let server = NatsServer::start();
    let (mut central, mut ship) = (side(&server, "central", 1), side(&server, "ship1", 2));
    central.edge.up().await;
    ship.edge.up().await;
    keep(&ship, 2, Stream::Stdout, b"not central's");
    let hash = keep(&ship, 3, Stream::Stdout, b"central's");
    let refused = ship.edge.broker.counters().refused.get();
    central.results.send(vec![receive(2, 2, 13), receive(3, 3, 9)]).await.unwrap();
    central.edge.perform(vec![ask(2, 0, 100), ask(3, 0, 100)]).await;
    let fetched = |wanted: u64| {
        move |event: &Event| match event {
            Event::Fetched { id, have, .. } if *have == wanted => Some(*id),
            _ => None,
        }
    };
    assert_eq!(central.edge.until(fetched(9)).await, MessageId(3));
    assert_eq!(ship.edge.broker.counters().refused.get(), refused + 1);

    let seal = |hash| Effect::Seal { id: MessageId(3), stream: Stream::Stdout, hash };
    let sealed = |event: &Event| match event {
        Event::Sealed { whole, .. } => Some(*whole),
        _ => None,
    };
    central.results.send(vec![seal([7; 32])]).await.unwrap();
    assert!(!central.edge.until(sealed).await);
    central.results.send(vec![receive(3, 3, 9)]).await.unwrap();
    assert_eq!(central.edge.until(fetched(0)).await, MessageId(3));
    central.edge.perform(vec![ask(3, 0, 100)]).await;
    central.edge.until(fetched(9)).await;
    central.results.send(vec![seal(hash)]).await.unwrap();
    assert!(central.edge.until(sealed).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_that_nobody_asked_for_are_dropped() {
    let server = NatsServer::start();
    let mut central = side(&server, "central", 1);
    central.edge.up().await;
    central.results.send(vec![receive(3, 3, 9)]).await.unwrap();
    central.edge.until(|event| matches!(event, Event::Fetched { have: 0, .. }).then_some(())).await;
    let stranger = server.client().await;
    let send = async |from: &str, offset: &str, body: &'static str| {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Steward-Ticket", "3");
        headers.insert("Steward-Stream", "stdout");
        headers.insert("Steward-Offset", offset);
        headers.insert("Steward-Total", "9");
        stranger.publish_with_headers(format!("central.DATA.{from}"), headers, body.into()).await.unwrap();
    };
    send("ship2", "0", "wrong").await;
    send("ship1", "1", "gap").await;
    send("ship1", "5", "longer").await;
    send("ship1", "0", "central's").await;
    central.edge.until(|event| matches!(event, Event::Fetched { have: 9, .. }).then_some(())).await;
}
