//! The broker against a real nats-server.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use protocol::Event;
use protocol::event::{Control, Item, Occasion, Ticket};
use protocol::message::{Incarnation, Kind, MessageId, Options, Seq};
use protocol::name::{Lane, MethodName};
use protocol::outcome::{Progress, Receipt};
use protocol::step::Effect;
use protocol::time::Wall;

use super::NameCheck;
use super::harness::{Edge, NatsServer, PATIENCE, counting_link, node, slow_link, wait_for};
use super::wire::pack::Packer;
use crate::clock::Clock;

fn lane(peer: &str, kind: Kind) -> Lane {
    Lane { peer: node(peer), kind, method: MethodName::new("TextLogging").unwrap() }
}

fn publish(lane: &Lane, to: u64, seq: u64, text: &str) -> Effect {
    let options = Options::default();
    let body: Arc<str> = Arc::from(serde_json::to_string(&[text]).unwrap());
    let id = MessageId(u128::from(seq));
    let item = Item { id, seq: Seq(seq), prev: Seq(seq - 1), body, options, created: Wall(1) };
    Effect::Publish { lane: lane.clone(), to: Some(Incarnation(to)), floor: Seq(1), item }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_receipts_go_both_ways() {
    let server = NatsServer::start();
    let mut central = Edge::new(&server.address(), "central", 1);
    let mut ship = Edge::new(&server.address(), "ship1", 2);
    assert_eq!(central.name().await, NameCheck::Free);
    central.up().await;
    ship.up().await;
    let lane = lane("ship1", Kind::EventAck);
    central.perform((1..=2000).map(|seq| publish(&lane, 2, seq, "some message\n")).collect()).await;
    let mut seqs = Vec::new();
    while seqs.len() < 2000 {
        let Event::Envelope(envelope, verdicts) = ship.next().await else { continue };
        assert_eq!((envelope.from.as_str(), envelope.to), ("central", Some(Incarnation(2))));
        assert_eq!(verdicts.len(), envelope.items.len());
        seqs.extend(envelope.items.iter().map(|item| item.seq.0));
    }
    assert_eq!(seqs, (1..=2000).collect::<Vec<_>>());

    let receipt = Receipt { id: MessageId(1), progress: Progress::Stored };
    let epoch = protocol::message::Epoch(1);
    let (to, kind, ticket) = (node("central"), Kind::CommandAck, Ticket(4));
    ship.perform(vec![Effect::Receipt { to, epoch, kind, ticket, receipt, seal: false }]).await;
    let receipts = central
        .until(|event| match event {
            Event::Receipts(receipts) => Some(receipts.clone()),
            _ => None,
        })
        .await;
    assert_eq!((receipts.from.as_str(), receipts.commits, receipts.to), ("ship1", 9, epoch));
    assert_eq!(receipts.receipts[0].0, Ticket(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_node_is_told_at_once() {
    let server = NatsServer::start();
    let mut central = Edge::new(&server.address(), "central", 1);
    central.up().await;
    central.perform(vec![publish(&lane("ship1", Kind::EventAck), 2, 1, "x")]).await;
    let absent = central
        .until(|event| match event {
            Event::NoResponders(peer) => Some(peer.clone()),
            _ => None,
        })
        .await;
    assert_eq!(absent, node("ship1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nack_messages_are_handed_over_and_a_broker_restart_is_survived() {
    let mut server = NatsServer::start();
    let mut central = Edge::new(&server.address(), "central", 1);
    central.up().await;
    let lane = lane("ship1", Kind::EventNack);
    let nack = |seq| publish(&lane, 2, seq, "x");
    central.perform(vec![nack(1), nack(2)]).await;
    let handed = |event: &Event| match event {
        Event::HandedOver { lane, seqs } => seqs.last().map(|last| (lane.clone(), *last)),
        _ => None,
    };
    assert_eq!(central.until(handed).await, (lane.clone(), Seq(2)));

    server.kill();
    central.until(|event| (*event == Event::LinkDown).then_some(())).await;
    // What is published now is dropped: nothing may be told as handed over.
    central.perform(vec![nack(3)]).await;
    wait_for("the drop", || central.broker.counters().dropped.get() == 1).await;
    server.run();
    let up = |event: &Event| {
        assert!(handed(event).is_none(), "what was dropped was not handed over");
        (*event == Event::LinkUp).then_some(())
    };
    central.until(up).await;
    central.perform(vec![nack(3)]).await;
    assert_eq!(central.until(handed).await, (lane.clone(), Seq(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_without_a_broker_and_works_when_it_comes() {
    let mut server = NatsServer::start();
    server.kill();
    let mut central = Edge::new(&server.address(), "central", 1);
    central.perform(vec![publish(&lane("central", Kind::EventAck), 1, 1, "lost")]).await;
    wait_for("the drop", || central.broker.counters().dropped.get() == 1).await;
    server.run();
    central.up().await;
    central.perform(vec![publish(&lane("central", Kind::EventAck), 1, 2, "to myself")]).await;
    let seq = central.until(|event| match event {
        Event::Envelope(envelope, _) => Some(envelope.items[0].seq),
        _ => None,
    });
    assert_eq!(seq.await, Seq(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_open_and_dead_is_noticed() {
    let server = NatsServer::start();
    let mut central = Edge::new(&server.address(), "central", 1);
    central.up().await;
    server.freeze(true);
    // Nothing is said on the connection: only the heartbeat can tell.
    central.until(|event| (*event == Event::LinkDown).then_some(())).await;
    server.freeze(false);
    central.up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_with_the_name_is_refused_or_takes_over() {
    let server = NatsServer::start();
    let mut first = Edge::new(&server.address(), "ship1", 1);
    first.up().await;
    let mut second = Edge::new(&server.address(), "ship1", 2);
    let NameCheck::Taken(other) = second.name().await else { panic!("the name is taken") };
    assert_eq!((other.host.as_str(), other.pid, other.started), ("here", std::process::id(), Wall(1000)));
    assert!(!second.broker.is_up());
    assert!(first.broker.displaced().borrow().is_none());

    let mut third = Edge::with(&server.address(), "ship1", 3, true);
    let mut displaced = first.broker.displaced();
    let told = displaced.wait_for(Option::is_some);
    assert!(tokio::time::timeout(PATIENCE, told).await.unwrap().unwrap().is_some());
    drop(first);
    assert!(matches!(third.name().await, NameCheck::TakenOver(_)));
    third.up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_namesake_holds_the_name_for_a_second_only() {
    let server = NatsServer::start();
    let silent = server.client().await;
    let _ears = silent.subscribe("ship1.>").await.unwrap();
    silent.flush().await.unwrap();
    let mut ship = Edge::new(&server.address(), "ship1", 1);
    assert_eq!(ship.name().await, NameCheck::Silent);
    ship.up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_reach_watchers_and_central_and_the_goodbye_leaves() {
    let server = NatsServer::start();
    let mut central = Edge::new(&server.address(), "central", 1);
    let mut ship = Edge::new(&server.address(), "ship1", 2);
    let mut other = Edge::new(&server.address(), "ship2", 3);
    central.up().await;
    ship.up().await;
    other.up().await;
    other.perform(vec![Effect::Watch(node("ship1"), true)]).await;
    let hello = |event: &Event| match event {
        Event::Hello(hello) => Some(hello.clone()),
        _ => None,
    };
    // The subscription is on its way; announcements repeat until it is there.
    let heard = tokio::time::timeout(PATIENCE, async {
        loop {
            ship.perform(vec![Effect::Announce(Occasion::Up)]).await;
            if let Ok(hello) = tokio::time::timeout(Duration::from_millis(50), other.until(hello)).await {
                return hello;
            }
        }
    });
    let heard = heard.await.unwrap();
    assert_eq!((heard.from.as_str(), heard.incarnation), ("ship1", Incarnation(2)));
    assert_eq!(&*heard.info, r#"{"version":"test"}"#);
    assert_eq!(central.until(hello).await.occasion, Occasion::Up);
    assert!(ship.broker.goodbye(PATIENCE).await);
    let goodbye = |event: &Event| hello(event).filter(|hello| hello.occasion == Occasion::Goodbye);
    assert_eq!(central.until(goodbye).await.commits_at_start, 3);
    assert_eq!(other.until(goodbye).await.from, node("ship1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_fleet_is_watched_with_one_subscription() {
    let server = NatsServer::start();
    let mut central = Edge::new(&server.address(), "central", 1);
    let mut ship = Edge::new(&server.address(), "ship7", 2);
    central.up().await;
    ship.up().await;
    central.perform((0..200).map(|number| Effect::Watch(node(&format!("ship{number}")), true)).collect()).await;
    let mut hellos = 0;
    while hellos < 2 {
        // One arrives as an event for central, the other on the subscription; both say the same.
        ship.perform(vec![Effect::Announce(Occasion::Interval)]).await;
        let next = tokio::time::timeout(Duration::from_millis(50), central.next()).await;
        if matches!(next, Ok(Event::Hello(hello)) if hello.from == node("ship7")) {
            hellos += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_strangers_send_the_broker_goes_on() {
    let server = NatsServer::start();
    let mut ship = Edge::new(&server.address(), "ship1", 1);
    ship.up().await;
    let stranger = server.client().await;
    let mut sent = 0;
    for subject in [
        "ship1.CommandACK.ShellCommand",
        "ship1.EventNACK.SayHello",
        "ship1.ACK.central",
        "ship1.CTL.central",
        "ship1.CTL.ship1",
        "ship1.DATA.central",
        "ship1.ACK.cen\u{e4}tral",
        "ship1.nonsense",
        "ship1.commandack.x",
        "ship1.ECHO.x",
        "ship1.REPLY.central",
        "ship1.NAME.x",
    ] {
        for body in ["", "\u{0}\u{1}\u{2}\u{3}", "[]", "{}", "{\"v\":2}", "null", &"[".repeat(100_000)] {
            stranger.publish(subject, body.to_owned().into()).await.unwrap();
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Steward-Encoding", "zstd");
            headers.insert("Steward-Ticket", "18446744073709551615");
            stranger.publish_with_headers(subject, headers, body.to_owned().into()).await.unwrap();
            sent += 2;
        }
    }
    stranger.flush().await.unwrap();
    wait_for("everything is read", || ship.broker.counters().received.get() > sent).await;
    assert!(ship.broker.counters().refused.get() > 100);
    ship.perform(vec![publish(&lane("ship1", Kind::EventAck), 1, 1, "still here")]).await;
    ship.until(|event| matches!(event, Event::Envelope(..)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_max_payload_is_kept_to() {
    let server = NatsServer::start_with("max_payload: 8192");
    let mut ship = Edge::new(&server.address(), "ship1", 1);
    ship.up().await;
    let lane = lane("ship1", Kind::EventAck);
    let text = |seq: u64| blake3::hash(&seq.to_le_bytes()).to_hex().repeat(10);
    ship.perform((1..=100).map(|seq| publish(&lane, 1, seq, &text(seq))).collect()).await;
    let mut items = 0;
    while items < 100 {
        if let Event::Envelope(envelope, _) = ship.next().await {
            items += envelope.items.len();
        }
    }
    let long: String = (0..2000).map(text).collect();
    ship.perform(vec![publish(&lane, 1, 101, &long)]).await;
    let why = ship.until(|event| match event {
        Event::Unsendable { why, .. } => Some(why.clone()),
        _ => None,
    });
    let why = why.await;
    assert!(why.contains("8128"), "{why}");
    assert!(ship.broker.is_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_forbids_is_counted() {
    let server = NatsServer::start_with(
        "authorization { users: [ { user: a, password: a, permissions: { publish: { deny: \"ship2.>\" } } } ] }",
    );
    let mut ship = Edge::new(&format!("nats://a:a@{}", server.address()), "ship1", 1);
    ship.up().await;
    ship.perform(vec![publish(&lane("ship2", Kind::EventAck), 1, 1, "x")]).await;
    wait_for("the error", || ship.broker.counters().server_errors.get() > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn controls_reach_the_process_that_is_meant() {
    let server = NatsServer::start();
    let mut central = Edge::new(&server.address(), "central", 1);
    let mut ship = Edge::new(&server.address(), "ship1", 2);
    central.up().await;
    ship.up().await;
    let control = Control::Confirm((1..=10_000).map(Ticket).collect());
    central
        .perform(vec![Effect::Control { to: node("ship1"), incarnation: Some(Incarnation(2)), control, seal: false }])
        .await;
    let mut confirmed = 0;
    while confirmed < 10_000 {
        if let Event::Control { from, to, control: Control::Confirm(tickets), sealed: false } = ship.next().await {
            assert_eq!((from, to), (node("central"), Some(Incarnation(2))));
            confirmed += tickets.len();
        }
    }
}

/// A megabyte that takes half a minute: with all of it in the queues of the client and the kernel, the heartbeat behind it would be
/// late, the link rebuilt, and nothing would ever arrive.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_is_not_flooded() {
    let server = NatsServer::start();
    let mut central = Edge::new(&slow_link(server.address(), 36 * 1024).await, "central", 1);
    let mut ship = Edge::new(&server.address(), "ship1", 2);
    central.up().await;
    ship.up().await;
    let lane = lane("ship1", Kind::EventAck);
    let mut noise = vec![0; 6 * 1024];
    for first in (1..=200).step_by(10) {
        let batch = (first..first + 10).map(|seq: u64| {
            blake3::Hasher::new().update(&seq.to_le_bytes()).finalize_xof().fill(&mut noise);
            // 64 kinds of letters: compression takes a quarter of it at most.
            let text: String = noise.iter().map(|byte| char::from(b'0' + byte % 64)).collect();
            publish(&lane, 2, seq, &text)
        });
        central.perform(batch.collect()).await;
    }
    let mut seqs = Vec::new();
    while seqs.len() < 200 {
        if let Event::Envelope(envelope, _) = ship.next().await {
            seqs.extend(envelope.items.iter().map(|item| item.seq.0));
        }
    }
    assert_eq!(seqs, (1..=200).collect::<Vec<_>>());
    assert_eq!(central.broker.counters().echoes_missed.get(), 0);
    assert_eq!(central.broker.counters().connects.get(), 1);
}

/// Not a test: how fast the hot path is. Run with
/// `cargo test --release -p steward --bin steward -- --ignored --nocapture hot_path`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn hot_path() {
    let server = NatsServer::start();
    let mut central = Edge::new(&server.address(), "central", 1);
    let mut ship = Edge::new(&server.address(), "ship1", 2);
    central.up().await;
    ship.up().await;
    let text = "x".repeat(200);
    let count = 400_000_u64;
    for lanes in [1_u64, 20, 50_000] {
        let clock = Clock::start();
        let effects = central.effects.clone();
        let text = text.clone();
        let all: Vec<Lane> = (0..lanes)
            .map(|number| Lane {
                method: MethodName::new(&format!("M{number}")).unwrap(),
                ..lane("ship1", Kind::EventAck)
            })
            .collect();
        let sender = tokio::spawn(async move {
            for first in (1..=count).step_by(200) {
                let batch =
                    (first..first + 200).map(|seq| publish(&all[(seq % lanes) as usize], 2, seq, &text)).collect();
                effects.send(batch).await.unwrap();
            }
        });
        let mut received = 0;
        while received < count {
            if let Event::Envelope(envelope, _) = ship.next().await {
                received += envelope.items.len() as u64;
            }
        }
        sender.await.unwrap();
        let seconds = clock.elapsed().as_secs_f64();
        println!("{lanes} lanes: {:.0} messages/s, {:.2} s", count as f64 / seconds, seconds);
    }
    let watcher = server.client().await;
    let mut ears = watcher.subscribe("ship1.EventACK.>").await.unwrap();
    watcher.flush().await.unwrap();
    central.perform(vec![publish(&lane("ship1", Kind::EventAck), 2, count + 1, &text)]).await;
    let seen = ears.next().await.unwrap();
    println!("one message of 200 bytes: {} bytes on the wire", seen.payload.len());
}

/// What is counted is what really goes over the link: a line between node and broker counts it, too.
#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_on_the_link_are_counted_as_they_are() {
    let server = NatsServer::start();
    let (address, passed) = counting_link(server.address()).await;
    let mut central = Edge::new(&address, "central", 1);
    let mut ship = Edge::new(&server.address(), "ship1", 2);
    central.up().await;
    ship.up().await;
    let traffic = central.broker.traffic().clone();
    let sum = || {
        let classes = traffic.classes();
        let out: u64 = classes.iter().map(|(_, bytes)| bytes.out).sum();
        (out, classes.iter().map(|(_, bytes)| bytes.inward).sum::<u64>())
    };
    let look = || [passed[0].load(Ordering::Relaxed), passed[1].load(Ordering::Relaxed)];
    let (counted_before, before) = (sum(), look());
    let lane = lane("ship1", Kind::EventAck);
    // One after the other, so that no two share a publish.
    for seq in 1..=100 {
        central
            .perform(vec![publish(&lane, 2, seq, &format!("{seq} {}\n", "x".repeat(usize::try_from(seq).unwrap())))])
            .await;
        ship.until(|event| matches!(event, Event::Envelope(..)).then_some(())).await;
        let receipt = Receipt { id: MessageId(u128::from(seq)), progress: Progress::Stored };
        let (to, kind, epoch) = (node("central"), Kind::EventAck, protocol::message::Epoch(1));
        ship.perform(vec![Effect::Receipt { to, epoch, kind, ticket: Ticket(seq), receipt, seal: false }]).await;
        central.until(|event| matches!(event, Event::Receipts(_)).then_some(())).await;
    }
    let (counted, after) = (sum(), look());
    let (out, real_out) = (counted.0 - counted_before.0, after[0] - before[0]);
    let (inward, real_in) = (counted.1 - counted_before.1, after[1] - before[1]);
    assert!(out > 100 * 300 && inward > 100 * 200, "{out} out, {inward} in");
    // A ping and its answer may have passed meanwhile; the echo of a heartbeat is counted, and may be on its way.
    assert!(out.abs_diff(real_out) < 200, "{out} counted, {real_out} passed");
    assert!(inward.abs_diff(real_in) < 400, "{inward} counted, {real_in} passed");
    let of = |seq: u64| traffic.message(MessageId(u128::from(seq)));
    let all = (1..=100).map(|seq| of(seq).out).sum::<u64>();
    assert!(all <= out && all > out * 9 / 10, "{all} of {out} belong to messages");
    assert!(of(100).out > of(1).out + 90);
}

/// An older node says nothing of a dictionary, and gets bodies that it can read; so does one that does not answer any more.
#[tokio::test(flavor = "multi_thread")]
async fn short_bodies_are_packed_with_the_dictionary_only_for_who_knows_it() {
    let server = NatsServer::start();
    let mut central = Edge::new(&server.address(), "central", 1);
    central.up().await;
    let client = server.client().await;
    let mut to_ship = client.subscribe("ship1.EventACK.*").await.unwrap();
    client.flush().await.unwrap();
    let lane = lane("ship1", Kind::EventAck);
    let probe = |dictionary: &str| {
        let head = r#""v":1,"fromNode":"ship1","toNode":"central","control":"probe""#;
        format!(r#"{{{head},"nonce":"0000000000000007","epoch":"0000000000000005"{dictionary}}}"#)
    };
    // What the ship says next, whether what it gets is packed then, and how often it hears of central without a word.
    let known = r#","dictionary":1"#;
    for (seq, says, is_packed) in [(1, "", false), (2, known, true), (3, "", false), (4, known, true)] {
        client.publish("central.CTL.ship1", probe(says).into()).await.unwrap();
        client.flush().await.unwrap();
        central.until(|event| matches!(event, Event::Control { .. } | Event::Asked { .. }).then_some(())).await;
        central.perform(vec![publish(&lane, 2, seq, "some message\n")]).await;
        let message = tokio::time::timeout(PATIENCE, to_ship.next()).await.unwrap().unwrap();
        assert_eq!(message.payload.starts_with(b"{"), !is_packed, "{says}");
        assert!(message.headers.is_none());
        let body = Packer::default().unpack_json(None, &message.payload).unwrap().into_owned();
        assert!(String::from_utf8(body).unwrap().contains("some message"));
        assert!(is_packed == (message.payload.len() < 150), "{} bytes", message.payload.len());
    }
    let mut plain = 0;
    for seq in 5..105 {
        central.perform(vec![publish(&lane, 2, seq, "nobody answers\n")]).await;
        let message = tokio::time::timeout(PATIENCE, to_ship.next()).await.unwrap().unwrap();
        plain += usize::from(message.payload.starts_with(b"{"));
    }
    assert!((30..50).contains(&plain), "{plain} of a hundred without an answer were plain");
}
