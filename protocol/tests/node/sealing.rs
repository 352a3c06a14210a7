//! What asks to be sealed is so in everything that is said about it, on both sides; nothing else is.

use std::time::Duration;

use protocol::event::{Control, Event, Item, Receipts, Ticket};
use protocol::message::{Kind, MessageId, Options, Seq};
use protocol::name::Lane;
use protocol::outcome::{Final, Outcome, Output, Progress, Receipt, Stream};
use protocol::step::Effect;
use protocol::time::Wall;

use crate::harness::{OWN_PROCESS, OWN_STORE, PROCESS, Rig, STORE, method, other};

fn sealed() -> Options {
    Options { seal: true, ..Options::default() }
}

fn item(seq: u64, seal: bool) -> Item {
    let options = Options { seal, ..Options::default() };
    let (id, prev) = (MessageId(u128::from(seq)), Seq(seq - 1));
    Item { id, seq: Seq(seq), prev, body: "[]".into(), options, created: Wall(0) }
}

/// Of each receipt so far its message, and whether it is to be sealed.
fn receipts(rig: &Rig) -> Vec<(u128, bool)> {
    let told = |(_, effect): &(u64, Effect)| match effect {
        Effect::Receipt { receipt, seal, .. } => Some((receipt.id.0, *seal)),
        _ => None,
    };
    rig.effects.iter().filter_map(told).collect()
}

/// Whether the last control of a kind is to be sealed.
fn last(rig: &Rig, wanted: impl Fn(&Control) -> bool) -> Option<bool> {
    rig.effects.iter().rev().find_map(|(_, effect)| match effect {
        Effect::Control { control, seal, .. } if wanted(control) => Some(*seal),
        _ => None,
    })
}

fn of_both(told: &[(u128, bool)]) {
    assert!(told.iter().any(|(id, _)| *id == 1) && told.iter().any(|(id, _)| *id == 2), "{told:?}");
    assert!(told.iter().all(|(id, seal)| *seal == (*id == 2)), "{told:?}");
}

#[test]
fn receipts_are_sealed_as_their_message_came_also_after_a_restart() {
    let mut rig = Rig::new();
    rig.arrive(vec![item(1, false), item(2, true)]);
    rig.finish(1);
    rig.finish(2);
    of_both(&receipts(&rig));
    // They come again, and are asked for again.
    rig.effects.clear();
    rig.pass(Duration::from_secs(120));
    rig.arrive(vec![item(1, false), item(2, true)]);
    of_both(&receipts(&rig));
    rig.effects.clear();
    rig.restart();
    rig.finish(1);
    rig.finish(2);
    rig.pass(Duration::from_secs(120));
    of_both(&receipts(&rig));
    // What is closed here is answered as it came.
    rig.hear(Control::Confirm(vec![Ticket(1), Ticket(2)]));
    rig.effects.clear();
    rig.arrive(vec![item(1, false), item(2, true)]);
    of_both(&receipts(&rig));
}

#[test]
fn a_cancellation_of_what_never_came_is_answered_as_it_came() {
    for sealed in [true, false] {
        let mut rig = Rig::new();
        let (epoch, kind, method, id) = (STORE, Kind::CommandAck, method(), MessageId(1));
        let control = Control::Cancel { epoch, kind, method, id, seq: Seq(1), prev: Seq(0) };
        rig.step(Event::Control { from: other(), to: Some(OWN_PROCESS), control, sealed });
        assert_eq!(receipts(&rig), [(1, sealed)]);
    }
}

#[test]
fn what_a_sender_says_of_a_message_is_sealed_as_it_is() {
    for options in [sealed(), Options::default()] {
        let (mut rig, seal) = (Rig::new(), options.seal);
        rig.submit(1, options.clone());
        rig.submit(2, options);
        rig.answer_probe(STORE, PROCESS);
        let bulk = Output { len: 100_000, ..Output::default() };
        let ended = Outcome { stdout: bulk, ..Outcome::bare(Final::Done, None, rig.wall()) };
        rig.told(STORE, PROCESS, vec![(1, 1, Progress::Final(ended))]);
        rig.step(Event::Fetched { id: MessageId(1), stream: Stream::Stdout, have: 0 });
        assert_eq!(last(&rig, |control| matches!(control, Control::Ask { .. })), Some(seal));
        rig.step(Event::Fetched { id: MessageId(1), stream: Stream::Stdout, have: 100_000 });
        rig.step(Event::Sealed { id: MessageId(1), stream: Stream::Stdout, whole: true });
        assert_eq!(last(&rig, |control| matches!(control, Control::Confirm(_))), Some(seal));
        let seq = rig.effects.iter().find_map(|(_, effect)| match effect {
            Effect::Publish { item, .. } if item.id == MessageId(2) => Some(item.seq),
            _ => None,
        });
        let lane = Lane { peer: other(), kind: Kind::CommandAck, method: method() };
        rig.step(Event::Cancel { id: MessageId(2), lane, seq: seq.expect("it was published") });
        assert_eq!(last(&rig, |control| matches!(control, Control::Cancel { .. })), Some(seal));
        // Who is asked who he is may not know us.
        assert_eq!(last(&rig, |control| matches!(control, Control::Probe { .. })), Some(false));
    }
}

/// A confirmation of receipts names their messages, so it is as they are.
#[test]
fn receipts_are_confirmed_as_they_came() {
    for seal in [true, false] {
        let mut rig = Rig::new();
        rig.submit(1, Options::default());
        rig.answer_probe(STORE, PROCESS);
        let progress = Progress::Final(Outcome::bare(Final::Done, None, rig.wall()));
        let receipts = vec![(Ticket(1), Receipt { id: MessageId(1), progress })];
        let (from, to, incarnation, epoch) = (other(), OWN_STORE, PROCESS, STORE);
        rig.step(Event::Receipts(Receipts { from, to, incarnation, epoch, commits: 1, receipts, sealed: seal }));
        assert_eq!(last(&rig, |control| matches!(control, Control::Confirm(_))), Some(seal));
    }
}
