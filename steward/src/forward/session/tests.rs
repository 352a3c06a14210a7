//! Two nodes and one forward between them, without sockets.

use bytes::Bytes;

use super::*;
use protocol::message::MessageId;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const HOLD: Duration = Duration::from_secs(600);

fn sender(opens: bool) -> State {
    State::new(Side::Sender, opens, HOLD, 0, at(0))
}

fn receiver(opens: bool, run: u64) -> State {
    State::new(Side::Receiver, opens, HOLD, run, at(0))
}

/// What one has to say.
fn words(state: &mut State, now: Duration) -> Vec<Bundle> {
    let side = state.side;
    let next = || {
        let (run, greeting, frames) = state.next(now, 100_000)?;
        Some(Bundle { id: MessageId(1), side, run, greeting, over: None, frames })
    };
    std::iter::from_fn(next).take(100).collect()
}

/// Each says what it has to say until there is nothing; all that was said, and what the second one was to connect.
fn talk(one: &mut State, two: &mut State, now: Duration) -> (Vec<Bundle>, Vec<Opened>) {
    let (mut said, mut opened) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        for bundle in words(one, now) {
            said.push(bundle.clone());
            opened.extend(two.hear(now, bundle, || 22));
        }
        for bundle in words(two, now) {
            said.push(bundle.clone());
            opened.extend(one.hear(now, bundle, || 21));
        }
    }
    (said, opened)
}

/// Both know of each other.
fn met() -> (State, State) {
    let (mut here, mut there) = (sender(true), receiver(false, 7));
    talk(&mut here, &mut there, at(0));
    assert!(here.is_met() && there.is_met());
    assert_eq!((here.run, here.greeting, there.greeting), (7, 21, 21));
    (here, there)
}

#[test]
fn nothing_is_opened_before_both_know_of_each_other() {
    let (mut here, mut there) = (sender(true), receiver(false, 7));
    assert!(here.open().is_none() && !here.has_place());
    assert_eq!(words(&mut here, at(0)), []);
    assert_eq!(here.due(), Duration::MAX);
    talk(&mut here, &mut there, at(0));
    assert!(here.has_place() && here.open().is_some());
    assert!(there.open().is_none(), "connections begin at the other side");
}

#[test]
fn what_was_said_in_another_run_or_by_somebody_who_only_listened_counts_for_nothing() {
    let (mut here, mut there) = (sender(false), receiver(true, 7));
    talk(&mut there, &mut here, at(0));
    let opened = there.open().unwrap();
    there.push(at(0), opened.number, b"open the door");
    let (recorded, connections) = talk(&mut there, &mut here, at(0));
    assert_eq!(connections.len(), 1);
    // All of it once more, as it was said.
    let replay = |state: &mut State| -> usize {
        let bundles = recorded.iter().filter(|bundle| bundle.side == Side::Receiver).cloned();
        bundles.map(|bundle| state.hear(at(1), bundle, || 99).len()).sum()
    };
    assert_eq!(replay(&mut here), 0);
    // The node runs it anew, and what it had said before comes once more.
    let mut anew = receiver(true, 8);
    talk(&mut anew, &mut here, at(2));
    assert_eq!((here.run, replay(&mut here), here.connections.len()), (8, 0, 0));
    talk(&mut anew, &mut here, at(3));
    assert!(here.is_met() && here.run == 8, "a recording does not bring the old run back");
    // And for a process that wants something else.
    let mut other = sender(false);
    assert_eq!((replay(&mut other), other.is_met()), (0, false));
}

#[test]
fn a_run_that_begins_anew_breaks_off_what_was_connected_and_takes_more() {
    let (mut here, mut there) = met();
    let opened = here.open().unwrap();
    assert_eq!(talk(&mut here, &mut there, at(0)).1.len(), 1);
    let mut anew = receiver(false, 8);
    talk(&mut here, &mut anew, at(20_000));
    assert!(opened.bell.broken.is_cancelled() && here.read_room(opened.number).is_none());
    assert!(here.open().is_some());
    assert_eq!(talk(&mut here, &mut anew, at(20_001)).1.len(), 1);
}

#[test]
fn a_connection_that_is_broken_off_is_so_at_both_ends_however_often_that_is_lost() {
    let (mut here, mut there) = met();
    let opened = here.open().unwrap();
    let (_, connected) = talk(&mut here, &mut there, at(0));
    there.broke(at(10), connected[0].number, "nobody listens");
    // Said, and lost.
    assert_eq!(words(&mut there, at(10))[0].frames[0].reset.as_deref(), Some("nobody listens"));
    assert!(words(&mut there, at(11)).is_empty());
    talk(&mut here, &mut there, at(1500));
    assert!(opened.bell.broken.is_cancelled());
    assert_eq!(here.take_complaint().as_deref(), Some("nobody listens"));
    assert_eq!((here.connections.len(), there.connections.len()), (0, 0));
    // The place is taken again, by another number.
    let next = here.open().unwrap();
    assert_eq!(next.number, opened.number + PLACES as u64);
    assert_eq!(talk(&mut here, &mut there, at(1600)).1.len(), 1);
}

#[test]
fn a_connection_that_has_come_to_its_end_leaves_nothing_behind() {
    let (mut here, mut there) = met();
    for round in 0..300 {
        let opened = here.open().unwrap();
        let now = at(10 * round);
        here.push(now, opened.number, b"ping");
        here.finish(now, opened.number);
        let (_, connected) = talk(&mut here, &mut there, now);
        assert_eq!(connected.len(), 1);
        let number = connected[0].number;
        assert_eq!(there.take(number, 9), Some(Taken::Bytes(b"ping".to_vec())));
        assert_eq!(there.take(number, 9), Some(Taken::End));
        there.passed_end(number);
        there.finish(now, number);
        talk(&mut here, &mut there, now);
        assert_eq!(here.take(number, 9), Some(Taken::End));
        here.passed_end(number);
        talk(&mut here, &mut there, now);
        assert_eq!((here.connections.len(), there.connections.len()), (0, 0), "{round}");
    }
    assert_eq!(here.tally().connections, 300);
}

#[test]
fn the_last_word_on_an_end_may_be_lost() {
    let (mut here, mut there) = met();
    let number = here.open().unwrap().number;
    here.finish(at(0), number);
    talk(&mut here, &mut there, at(0));
    assert_eq!(there.take(number, 9), Some(Taken::End));
    there.passed_end(number);
    there.finish(at(0), number);
    let end = words(&mut there, at(0));
    end.into_iter().for_each(|bundle| drop(here.hear(at(0), bundle, || 1)));
    assert_eq!(here.take(number, 9), Some(Taken::End));
    here.passed_end(number);
    // It says that it has all, which is lost, and forgets the connection.
    drop(words(&mut here, at(1)));
    assert_eq!((here.connections.len(), there.connections.len()), (0, 1));
    talk(&mut here, &mut there, at(30_000));
    assert_eq!((here.connections.len(), there.connections.len()), (0, 0));
}

#[test]
fn there_are_so_many_places_and_so_many_bytes_under_way() {
    let (mut here, mut there) = met();
    let opened: Vec<Opened> = std::iter::from_fn(|| here.open()).collect();
    assert_eq!((opened.len(), here.has_place()), (PLACES, false));
    for connection in &opened {
        let room = here.read_room(connection.number).unwrap();
        here.push(at(0), connection.number, &vec![1; room]);
    }
    let said = words(&mut here, at(0));
    let bytes: usize = said.iter().flat_map(|bundle| &bundle.frames).map(|frame| frame.bytes.len()).sum();
    assert_eq!(bytes as u64, AHEAD_MAX);
    assert!(here.due() > at(0), "it waits until some of it has arrived");
    let connected: usize = said.into_iter().map(|bundle| there.hear(at(0), bundle, || 1).len()).sum();
    assert_eq!(connected, PLACES);
}

#[test]
fn what_makes_no_sense_breaks_its_connection_off_and_no_other() {
    let (mut here, mut there) = met();
    let (first, second) = (here.open().unwrap(), here.open().unwrap());
    talk(&mut here, &mut there, at(0));
    let frame = |connection: u64, have: u64| Frame { connection, have, ..Frame::default() };
    let bundle = |frame: Frame| Bundle {
        id: MessageId(1),
        side: Side::Sender,
        run: 7,
        greeting: 21,
        over: None,
        frames: vec![frame],
    };
    there.hear(at(1), bundle(frame(first.number, 9)), || 1);
    // Numbers that were never given, and bytes for nobody.
    for number in [0, 1 << 40, first.number + 1 + PLACES as u64] {
        let bytes = Bytes::from_static(b"x");
        assert!(there.hear(at(1), bundle(Frame { bytes, ..frame(number, 0) }), || 1).is_empty());
    }
    talk(&mut here, &mut there, at(1));
    assert!(first.bell.broken.is_cancelled() && !second.bell.broken.is_cancelled());
    // What is opened anew in the same place takes the place of what was there.
    let anew = Frame { open: true, ..frame(second.number + PLACES as u64, 0) };
    assert_eq!(there.hear(at(2), bundle(anew.clone()), || 1).len(), 1);
    assert_eq!(there.hear(at(2), bundle(anew), || 1).len(), 0, "it is there already");
    let old = Frame { open: true, ..frame(second.number, 0) };
    assert_eq!(there.hear(at(2), bundle(old), || 1).len(), 0, "it is older");
}

#[test]
fn silence_is_held_for_as_long_as_was_said() {
    let (here, there) = met();
    assert!(!here.is_silent(HOLD - at(1)) && !there.is_silent(HOLD - at(1)));
    assert!(here.is_silent(HOLD) && there.is_silent(HOLD));
    // A node that has not begun is waited for as long as the message is; one that runs it does not wait for nobody.
    assert!(!sender(true).is_silent(2 * HOLD) && receiver(false, 1).is_silent(HOLD));
}
