//! What a receiver does with what it has accepted: its receipts, its order, its deadlines.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::event::{Control, Event, Item, Occasion, Ticket};
use protocol::limits::{
    EPOCHS_PER_SENDER_MAX, FORGOTTEN_EPOCHS_PER_SENDER_MAX, INBOX_LANE_MESSAGES_MAX, SWEEP_MESSAGES_MAX, SWEEP_PAUSE,
    WALL_RECHECK,
};
use protocol::message::{Epoch, Options};
use protocol::outcome::{Final, Progress};
use protocol::step::{Effect, Report};
use protocol::time::Wall;

use crate::harness::{Rig, item, other};

const MINUTE: Duration = Duration::from_secs(60);

/// What waits for a message that never comes would stay for ever, if its sender did not know of it any more.
#[test]
fn a_message_behind_one_that_never_came_is_told_until_its_sender_answers() {
    let mut rig = Rig::new();
    rig.arrive(vec![item(2, 1)]);
    rig.pass(10 * MINUTE);
    let told = rig.receipts(1);
    assert!(told.iter().all(|(_, progress)| *progress == Progress::Stored), "{told:?}");
    assert!((8..=20).contains(&told.len()), "with a pause that grows to a minute: {told:?}");
    assert!(told[1..].windows(2).all(|pair| pair[1].0 - pair[0].0 >= 4_000), "no storm: {told:?}");
    assert_eq!(rig.forgotten(), [], "a sender that is merely away may still bring what is missing");

    rig.clear();
    rig.hear(Control::Confirm(vec![Ticket(1)]));
    assert_eq!(rig.forgotten(), [1]);
    rig.pass(10 * MINUTE);
    assert_eq!(rig.receipts(1), []);
    assert_eq!(rig.started(), [], "what its sender has closed is not started");
}

/// The first of many that wait behind gaps is told; once its sender has closed it, all the others are asked about at once, and
/// the next one is told again until it is answered. (Seed 18186303: one by one, each took its five seconds.)
#[test]
fn once_one_that_waits_is_closed_the_others_are_asked_about_together() {
    let mut rig = Rig::new();
    rig.arrive(vec![item(2, 1), item(4, 3), item(6, 5)]);
    rig.pass(Duration::from_secs(7));
    assert_eq!((rig.receipts(1).len(), rig.receipts(2).len(), rig.receipts(3).len()), (2, 1, 1));
    rig.clear();
    rig.hear(Control::Confirm(vec![Ticket(1)]));
    assert_eq!((rig.receipts(2).len(), rig.receipts(3).len()), (1, 1));
    rig.clear();
    rig.pass(Duration::from_secs(7));
    assert_eq!((rig.receipts(2).len(), rig.receipts(3).len()), (1, 0));
    rig.hear(Control::Confirm(vec![Ticket(2), Ticket(3)]));
    assert_eq!(rig.forgotten(), [2, 3]);
}

/// The receipts end with the gap: a message that runs for an hour is not told of all the time.
#[test]
fn once_the_missing_message_is_there_nothing_more_is_told_of_the_one_behind_it() {
    let mut rig = Rig::new();
    rig.arrive(vec![item(2, 1)]);
    rig.pass(Duration::from_secs(1));
    rig.arrive(vec![item(1, 0)]);
    rig.finish(2);
    assert_eq!(rig.started(), [2, 1], "in the order of their numbers");
    rig.hear(Control::Confirm(vec![Ticket(2)]));
    rig.clear();
    rig.pass(10 * MINUTE);
    assert_eq!(rig.receipts(1), []);
}

/// A confirmation says nothing of other results: one that was lost on its way comes again, however busy its sender is.
#[test]
fn a_result_is_repeated_while_others_are_confirmed_all_the_time() {
    let mut rig = Rig::new();
    rig.arrive(vec![item(1, 0)]);
    rig.finish(1);
    rig.clear();
    for seq in 2..40 {
        rig.arrive(vec![item(seq, seq - 1)]);
        rig.finish(seq);
        rig.pass(Duration::from_secs(1));
        rig.hear(Control::Confirm(vec![Ticket(seq)]));
    }
    assert!(rig.receipts(1).len() >= 2, "{:?}", rig.receipts(1));
}

/// A message of the wire with a deadline, so many seconds from now.
fn until(rig: &Rig, seq: u64, seconds: u64) -> Item {
    let deadline = Some(Wall(rig.wall().0 + seconds * 1000));
    Item { options: Options { deadline, ..Options::default() }, ..item(seq, seq - 1) }
}

/// A message ends at its deadline, and not when the one before it lets go.
#[test]
fn what_waits_behind_one_that_hangs_expires_at_its_deadline() {
    let mut rig = Rig::new();
    rig.arrive(vec![item(1, 0), until(&rig, 2, 20), until(&rig, 3, 5), item(4, 3)]);
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.ended(), [(5_001, 3, Final::Expired), (20_001, 2, Final::Expired)]);
    assert!(matches!(rig.receipts(3)[1], (5_001, Progress::Final(_))), "its sender is told at once");
    rig.finish(1);
    assert_eq!(rig.started(), [1, 4]);
}

/// Neither a gap nor a restart keeps a message beyond its deadline.
#[test]
fn what_waits_for_one_that_has_not_come_expires_at_its_deadline() {
    let mut rig = Rig::new();
    rig.arrive(vec![until(&rig, 2, 5)]);
    rig.pass(Duration::from_secs(4));
    rig.restart();
    rig.pass(Duration::from_secs(4));
    assert_eq!(rig.ended(), [(5_001, 1, Final::Expired)]);
    rig.hear(Control::Confirm(vec![Ticket(1)]));
    rig.arrive(vec![item(1, 0), item(3, 2)]);
    rig.finish(2);
    assert_eq!(rig.started(), [2, 3]);
}

/// A clock that jumps is noticed although nothing happens.
#[test]
fn a_clock_that_jumps_over_a_deadline_is_noticed() {
    let mut rig = Rig::new();
    rig.arrive(vec![item(1, 0), until(&rig, 2, 3600)]);
    rig.clock_jumps(Duration::from_secs(3700));
    rig.pass(WALL_RECHECK);
    assert_eq!(rig.ended().len(), 1, "{:?}", rig.ended());
}

/// Many deadlines at once are not one long step.
#[test]
fn many_that_expire_at_once_do_so_in_steps() {
    let mut rig = Rig::new();
    let count = INBOX_LANE_MESSAGES_MAX as u64;
    rig.arrive((1..=count).map(|seq| if seq == 1 { item(1, 0) } else { until(&rig, seq, 5) }).collect());
    rig.pass(Duration::from_millis(5_001));
    assert_eq!(rig.ended().len(), SWEEP_MESSAGES_MAX);
    rig.pass(SWEEP_PAUSE);
    assert_eq!(rig.ended().len() as u64, count - 1);
}

/// What is told at different times is repeated together, at first after seconds, then once a minute.
#[test]
fn results_for_a_sender_that_is_away_are_repeated_together() {
    let mut rig = Rig::new();
    for seq in 1..=200 {
        rig.arrive(vec![item(seq, seq - 1)]);
        rig.finish(seq);
        rig.pass(Duration::from_millis(50));
    }
    rig.clear();
    rig.pass(10 * MINUTE);
    let times: BTreeSet<u64> = (1..=200).flat_map(|ticket| rig.receipts(ticket)).map(|(at, _)| at).collect();
    assert!((10..=60).contains(&times.len()), "{} publishes", times.len());
    for ticket in [1, 100, 200] {
        let told = rig.receipts(ticket);
        assert!((9..=18).contains(&told.len()), "ticket {ticket}: {told:?}");
        assert!(told[1].0 < 40_000, "not at once with the longest pause: {told:?}");
    }
}

/// What may be a recording: its answer goes to whoever it was recorded from, and nothing else comes of it.
#[test]
fn a_question_that_may_be_old_is_answered_and_is_no_sign_of_life() {
    let mut rig = Rig::new();
    rig.arrive(vec![item(1, 0)]);
    rig.finish(1);
    rig.clear();
    rig.step(Event::Asked { from: other(), nonce: 77, known: None });
    let answers = |(_, effect): &(u64, Effect)| match effect {
        Effect::Control { to, control: Control::Hello(hello), .. } => {
            *to == other() && hello.occasion == Occasion::Answer { nonce: 77, since: Some(0) }
        }
        _ => false,
    };
    assert_eq!(rig.effects.len(), 1, "{:?}", rig.effects);
    assert!(rig.effects.iter().all(answers), "{:?}", rig.effects);
    assert!(rig.writes.is_empty(), "{:?}", rig.writes);
}

/// A sender that loses its store again and again, while this process lives: the stores that are forgotten for lack of room are
/// those of which somebody may have a recording. Played again, it runs nothing, and it drives no other store out.
#[test]
fn what_came_from_a_store_that_is_forgotten_never_runs_again() {
    let mut rig = Rig::new();
    let stores = 4 * EPOCHS_PER_SENDER_MAX as u64;
    // In no order, as they are drawn.
    let store = |number: u64| Epoch(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut ticket = 0;
    for number in 1..=stores {
        rig.arrive_from(store(number), vec![item(1, 0)]);
        ticket += 1;
        rig.finish(ticket);
        rig.hear(Control::Confirm(vec![Ticket(ticket)]));
    }
    assert_eq!(rig.started().len() as u64, stores, "a new store is believed as often as it is new");
    rig.clear();
    for _ in 0..2 {
        for number in 1..=stores {
            rig.arrive_from(store(number), vec![item(1, 0)]);
        }
    }
    assert_eq!(rig.started(), [], "played again");
    // Whoever has put back a copy of such a store is told, and does not wait for ever.
    let told = rig.receipts(0);
    assert_eq!(told.len() as u64, 2 * stores);
    let is_interrupted =
        |progress: &Progress| matches!(progress, Progress::Final(outcome) if outcome.state == Final::Interrupted);
    assert!(told.iter().all(|(_, progress)| is_interrupted(progress)), "{told:?}");
    rig.clear();
    let forgotten = Control::Cancel {
        epoch: store(1),
        kind: protocol::message::Kind::CommandAck,
        method: crate::harness::method(),
        id: item(9, 8).id,
        seq: item(9, 8).seq,
        prev: item(9, 8).prev,
    };
    rig.hear(forgotten);
    assert_eq!(rig.started(), []);
    rig.arrive_from(store(stores), vec![item(2, 1)]);
    assert_eq!(rig.started().len(), 1, "the store that is there goes on");
}

/// What is remembered of forgotten stores has an end: then a sender with yet another new store is not heard.
#[test]
fn a_sender_with_new_stores_without_end_is_not_heard_any_more() {
    let mut rig = Rig::new();
    let most = (EPOCHS_PER_SENDER_MAX + FORGOTTEN_EPOCHS_PER_SENDER_MAX) as u64;
    for number in 1..=most + 10 {
        rig.arrive_from(Epoch(number), vec![item(1, 0)]);
        rig.finish(number);
        rig.hear(Control::Confirm(vec![Ticket(number)]));
    }
    assert_eq!(rig.started().len() as u64, most);
    let full = |(_, effect): &&(u64, Effect)| matches!(effect, Effect::Report(Report::Dropped { .. }));
    assert_eq!(rig.effects.iter().filter(full).count(), 10);
}
