//! What a batch of effects becomes, without a broker.

use std::sync::Arc;

use protocol::message::{Kind, Options};
use protocol::name::MethodName;
use protocol::outcome::Progress;
use protocol::time::Wall;

use super::super::wire;
use super::*;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn lane(peer: &str, kind: Kind) -> Lane {
    Lane { peer: node(peer), kind, method: MethodName::new("TextLogging").unwrap() }
}

fn batcher() -> Batcher {
    let teller = Teller { from: node("central"), incarnation: Incarnation(5), epoch: Epoch(6), commits: 0 };
    Batcher::new(teller, node("central"))
}

const SIZES: Sizes = Sizes { payload_max: 1024 * 1024, group_max: 64 * 1024 };

fn publish(lane: &Lane, seq: u64, floor: u64, bytes: usize) -> Effect {
    let options = Options {
        timeout: std::time::Duration::from_secs(10),
        retries: 0,
        method_timeout: None,
        deadline: None,
        parallel: false,
        rerun: false,
        seal: false,
        reply: None,
    };
    // Text that no compression makes much smaller.
    let noise: String = blake3::Hasher::new()
        .update(&seq.to_le_bytes())
        .finalize_xof()
        .fill_to(bytes.div_ceil(2))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let body: Arc<str> = Arc::from(serde_json::to_string(&[noise]).unwrap());
    let (id, seq, prev) = (MessageId(u128::from(seq)), Seq(seq), Seq(seq - 1));
    let item = Item { id, seq, prev, body, options, created: Wall(1) };
    Effect::Publish { lane: lane.clone(), to: Some(Incarnation(9)), floor: Seq(floor), item }
}

trait Fill {
    fn fill_to(self, bytes: usize) -> Vec<u8>;
}

impl Fill for blake3::OutputReader {
    fn fill_to(mut self, bytes: usize) -> Vec<u8> {
        let mut filled = vec![0; bytes];
        self.fill(&mut filled);
        filled
    }
}

fn hello(occasion: Occasion) -> Hello {
    Hello {
        from: node("central"),
        epoch: Epoch(6),
        incarnation: Incarnation(5),
        commits_at_start: 0,
        occasion,
        info: Arc::from("{}"),
    }
}

fn batch(effects: Vec<Effect>, sizes: Sizes) -> Batch {
    batcher().batch(effects, 77, sizes, &hello)
}

fn envelope(publish: &Publish, lane: &Lane) -> protocol::event::Envelope {
    let Outgoing { subject, headers, body, .. } = &publish.outgoing;
    assert_eq!(*subject, lane.to_string());
    let mut packer = Packer::default();
    let body = packer.unpack_json(headers.as_ref(), body).unwrap();
    wire::envelope::decode(&body, &lane.peer, lane.kind, lane.method.as_str()).unwrap()
}

#[test]
fn lanes_that_alternate_still_share_envelopes_and_keep_their_order() {
    let (a, b) = (lane("ship1", Kind::EventAck), lane("ship2", Kind::EventAck));
    let effects = (1..=600).flat_map(|seq| [publish(&a, seq, seq / 2, 8), publish(&b, seq, 0, 8)]).collect();
    let batch = batch(effects, Sizes { group_max: usize::MAX, ..SIZES });
    assert_eq!(batch.publishes.len(), 4, "512 and 88 of each lane");
    for lane in [&a, &b] {
        let of_lane = batch.publishes.iter().filter(|publish| publish.outgoing.subject == lane.to_string());
        let envelopes: Vec<_> = of_lane.map(|publish| envelope(publish, lane)).collect();
        let seqs: Vec<u64> = envelopes.iter().flat_map(|envelope| &envelope.items).map(|item| item.seq.0).collect();
        assert_eq!(seqs, (1..=600).collect::<Vec<_>>());
    }
    assert_eq!(envelope(&batch.publishes[0], &a).floor, Seq(256), "the newest of the group");
    assert_eq!(batch.publishes[0].outgoing.reply.as_deref(), Some("central.REPLY.ship1"));
}

#[test]
fn nothing_is_longer_than_the_broker_takes_and_a_message_that_is_alone_too_long_is_named() {
    let lane = lane("ship1", Kind::EventAck);
    let sizes = Sizes { payload_max: 16 * 1024, group_max: usize::MAX };
    let effects = (1..=40).map(|seq| publish(&lane, seq, 0, if seq == 20 { 60_000 } else { 3000 })).collect();
    let batch = batch(effects, sizes);
    assert!(batch.publishes.iter().all(|publish| publish.outgoing.body.len() < sizes.payload_max));
    let sent: usize = batch.publishes.iter().map(|publish| publish.items).sum();
    assert_eq!(sent, 39);
    assert!(batch.publishes.len() < 20, "{}", batch.publishes.len());
    assert_eq!(batch.unsendable.len(), 1);
    assert_eq!(batch.unsendable[0].id, Some(MessageId(20)));
}

#[test]
fn a_message_that_is_sent_again_behind_later_ones_gets_its_own_envelope() {
    let lane = lane("ship1", Kind::EventAck);
    let batch = batch(vec![publish(&lane, 2, 0, 8), publish(&lane, 1, 0, 8), publish(&lane, 3, 0, 8)], SIZES);
    let seqs: Vec<Vec<u64>> = batch
        .publishes
        .iter()
        .map(|publish| envelope(publish, &lane).items.iter().map(|item| item.seq.0).collect())
        .collect();
    assert_eq!(seqs, [vec![2], vec![1, 3]]);
}

#[test]
fn nack_messages_are_told_to_be_handed_over_one_by_one() {
    let lane = lane("ship1", Kind::EventNack);
    let batch = batch((1..=3).map(|seq| publish(&lane, seq, 0, 8)).collect(), SIZES);
    assert_eq!(batch.publishes.len(), 1);
    assert_eq!(batch.publishes[0].handed, Some((lane, vec![Seq(1), Seq(2), Seq(3)])));
}

#[test]
fn receipts_and_confirmations_for_one_node_share_a_body() {
    let mut effects = Vec::new();
    for ticket in 1..=5 {
        let id = MessageId(u128::from(ticket));
        let receipt = Receipt { id, progress: Progress::Stored };
        effects.push(Effect::Receipt {
            to: node("ship1"),
            epoch: Epoch(3),
            kind: Kind::CommandAck,
            ticket: Ticket(ticket),
            receipt,
            seal: false,
        });
        let control = Control::Confirm(vec![Ticket(ticket)]);
        effects.push(Effect::Control { to: node("ship2"), incarnation: Some(Incarnation(4)), control, seal: false });
    }
    let batch = batch(effects, SIZES);
    assert_eq!(batch.publishes.len(), 2);
    let outgoing = &batch.publishes[0].outgoing;
    assert_eq!(outgoing.subject, "ship1.ACK.central");
    let body = Packer::default().unpack_json(outgoing.headers.as_ref(), &outgoing.body).unwrap().into_owned();
    let receipts = wire::receipts::decode(&body, &node("ship1"), "central").unwrap();
    assert_eq!((receipts.receipts.len(), receipts.commits, receipts.to), (5, 77, Epoch(3)));
    let outgoing = &batch.publishes[1].outgoing;
    let told = wire::control::decode(&outgoing.body, &node("ship2"), "central").unwrap();
    let tickets = (1..=5).map(Ticket).collect();
    let control = Control::Confirm(tickets);
    assert_eq!(told, wire::control::Told::Control { from: node("central"), to: Some(Incarnation(4)), control });
}

#[test]
fn a_body_that_is_no_data_is_named_and_harms_no_other() {
    let lane = lane("ship1", Kind::EventAck);
    let Effect::Publish { mut item, to, floor, .. } = publish(&lane, 1, 0, 8) else { unreachable!() };
    item.body = Arc::from("[1");
    let broken = Effect::Publish { lane: lane.clone(), to, floor, item };
    let batch = batch(vec![broken, publish(&lane, 2, 0, 8)], SIZES);
    assert_eq!(batch.unsendable.len(), 1);
    assert_eq!(envelope(&batch.publishes[0], &lane).items.len(), 1);
}

#[test]
fn an_announcement_goes_to_watchers_and_to_central() {
    let teller = Teller { from: node("ship1"), incarnation: Incarnation(5), epoch: Epoch(6), commits: 0 };
    let mut batcher = Batcher::new(teller, node("central"));
    let hello = |occasion| Hello { from: node("ship1"), ..hello(occasion) };
    let batch = batcher.batch([Effect::Announce(Occasion::Up)], 0, SIZES, &hello);
    let subjects: Vec<&str> = batch.publishes.iter().map(|publish| publish.outgoing.subject.as_str()).collect();
    assert_eq!(subjects, ["$STEWARD.hello.ship1", "central.EventNACK.SayHello"]);
    let lane = super::super::say_hello(&node("central")).unwrap();
    let envelope = envelope(&batch.publishes[1], &lane);
    assert_eq!(wire::hello::decode_data(&envelope.items[0].body, "ship1"), Some(hello(Occasion::Up)));
}

/// One that is to be sealed seals the whole body that it is in, and no other; what finds others is never sealed.
#[test]
fn a_body_is_sealed_whole_or_not_at_all() {
    let (with, without) = (lane("ship1", Kind::EventAck), lane("ship2", Kind::EventAck));
    let mut effects = vec![publish(&with, 1, 0, 8), publish(&with, 2, 0, 8), publish(&without, 1, 0, 8)];
    if let Some(Effect::Publish { item, .. }) = effects.get_mut(1) {
        item.options.seal = true;
    }
    let to = |name| (node(name), Some(Incarnation(4)));
    for (name, seal, tickets) in [("ship1", false, 1), ("ship1", true, 2), ("ship2", false, 3)] {
        let ((to, incarnation), control) = (to(name), Control::Confirm(vec![Ticket(tickets)]));
        effects.push(Effect::Control { to, incarnation, control, seal });
    }
    let (probed, incarnation) = to("ship1");
    let control = Control::Probe { nonce: 1, epoch: Epoch(3), known: None };
    effects.push(Effect::Control { to: probed, incarnation, control, seal: true });
    effects.push(Effect::Announce(Occasion::Up));
    let made = batch(effects, SIZES);
    let found: Vec<(&str, Option<&str>, bool)> = made
        .publishes
        .iter()
        .map(|publish| &publish.outgoing)
        .map(|outgoing| (&*outgoing.subject, outgoing.to.as_ref().map(NodeName::as_str), outgoing.seal))
        .collect();
    let expected = [
        ("ship1.EventACK.TextLogging", Some("ship1"), true),
        ("ship2.EventACK.TextLogging", Some("ship2"), false),
        ("ship1.CTL.central", Some("ship1"), true),
        ("ship2.CTL.central", Some("ship2"), false),
        ("ship1.CTL.central", None, false),
        ("$STEWARD.hello.central", None, false),
    ];
    for publish in expected {
        assert!(found.contains(&publish), "{publish:?} in {found:?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:?}");
}
