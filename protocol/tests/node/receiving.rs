//! What a receiver does with what it has accepted: its receipts, its order, its deadlines.

use std::time::Duration;

use protocol::event::{Control, Ticket};
use protocol::outcome::Progress;

use crate::harness::{Rig, item};

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

/// One after the other: the first of many that wait behind gaps is told, and closing it brings up the next.
#[test]
fn several_that_wait_are_closed_one_after_the_other() {
    let mut rig = Rig::new();
    rig.arrive(vec![item(2, 1), item(4, 3), item(6, 5)]);
    rig.pass(Duration::from_secs(7));
    assert_eq!((rig.receipts(1).len(), rig.receipts(2).len(), rig.receipts(3).len()), (2, 1, 1));
    rig.hear(Control::Confirm(vec![Ticket(1)]));
    rig.clear();
    rig.pass(Duration::from_secs(7));
    assert_eq!((rig.receipts(2).len(), rig.receipts(3).len()), (1, 0));
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
