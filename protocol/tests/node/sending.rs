//! What a sender does with what it has sent when its receiver comes back with another store.

use std::time::Duration;

use protocol::event::{Event, Hello, Occasion};
use protocol::limits::PEERS_MAX;
use protocol::message::{Epoch, Incarnation, MessageId, Options};
use protocol::name::NodeName;
use protocol::outcome::{Final, Outcome, Progress, Stream};
use protocol::step::{Effect, Write};

use crate::harness::{PROCESS, Rig, STORE, other, with_output};

/// The receiver's store after the one that is lost, and the process that has it.
const NEW_STORE: Epoch = Epoch(13);
const NEW_PROCESS: Incarnation = Incarnation(14);

/// The receiver comes back with another store, and is believed.
fn comes_back(rig: &mut Rig) {
    rig.step(Event::NoResponders(other()));
    rig.announce(NEW_STORE, NEW_PROCESS, Occasion::Up);
    rig.answer_probe(NEW_STORE, NEW_PROCESS);
}

/// A receiver that took a message, died before it said so, and came back from a copy: one that was made before its process
/// began does not know that process, however often it was started since and whatever it did; on one that was made later the
/// next process began at a commit that was heard of, whatever has come after it. (Seed 17197285)
#[test]
fn a_copy_is_known_by_the_process_or_the_commits_that_it_lacks() {
    let later = Incarnation(15);
    type Case<'a> = (u64, &'a [(Incarnation, u64)], bool);
    let cases: [Case<'_>; 6] = [
        (7, &[(PROCESS, 5)], true),
        (8, &[(PROCESS, 5)], false),
        (9, &[(PROCESS, 5), (later, 8)], false),
        (99, &[(PROCESS, 5), (later, 7)], true),
        (8, &[], true),
        (99, &[(later, 98)], true),
    ];
    for (commits_at_start, earlier, is_copy) in cases {
        let mut rig = Rig::new();
        rig.submit(1, Options::default());
        rig.answer_probe_with(STORE, PROCESS, 7, &[]);
        assert_eq!(rig.published(), [1]);
        rig.clear();
        rig.step(Event::NoResponders(other()));
        rig.announce(STORE, NEW_PROCESS, Occasion::Up);
        rig.answer_probe_with(STORE, NEW_PROCESS, commits_at_start, earlier);
        let ends: Vec<Final> = rig.results().iter().map(|(_, outcome)| outcome.state).collect();
        let (published, ended) = if is_copy { (vec![], vec![Final::Interrupted]) } else { (vec![1], vec![]) };
        assert_eq!((rig.published(), ends), (published, ended), "at {commits_at_start}, {earlier:?}");
    }
}

/// A second node of the name complains of each message that is meant for the first one, and each question brings what is
/// owed by both: one question at a time, and once they are told apart none for a while. (Seed 18032750)
#[test]
fn a_second_node_of_the_name_is_not_asked_about_for_each_of_its_complaints() {
    let mut rig = Rig::new();
    rig.submit(1, Options::default());
    rig.answer_probe(STORE, PROCESS);
    rig.clear();
    let complain = |rig: &mut Rig| {
        for _ in 0..9 {
            rig.announce(NEW_STORE, NEW_PROCESS, Occasion::Mistaken);
        }
    };
    complain(&mut rig);
    assert_eq!(rig.probes(), 1);
    rig.answer_probe(NEW_STORE, NEW_PROCESS);
    assert_eq!(rig.probes(), 2, "the process that is known is asked whether it lives");
    rig.answer_probe(STORE, PROCESS);
    complain(&mut rig);
    rig.told(NEW_STORE, NEW_PROCESS, Vec::new());
    assert_eq!(rig.probes(), 2);
    rig.pass(Duration::from_secs(2));
    complain(&mut rig);
    assert_eq!(rig.probes(), 3);
}

/// An output goes with the store that has it, and with no other. (Seed 4004146)
#[test]
fn an_output_of_which_the_new_store_has_told_is_not_given_up_with_the_old_one() {
    for told_by_new_store in [false, true] {
        let mut rig = Rig::new();
        rig.submit(1, Options::default());
        rig.answer_probe(STORE, PROCESS);
        rig.told(STORE, PROCESS, vec![(5, 1, Progress::Final(with_output(1000)))]);
        rig.step(Event::NoResponders(other()));
        rig.announce(NEW_STORE, NEW_PROCESS, Occasion::Up);
        if told_by_new_store {
            rig.told(NEW_STORE, NEW_PROCESS, vec![(6, 1, Progress::Final(with_output(1000)))]);
        }
        rig.answer_probe(NEW_STORE, NEW_PROCESS);
        if told_by_new_store {
            assert_eq!(rig.results(), []);
            let asks_for = |ticket| {
                let receive =
                    |(_, effect): &(u64, Effect)| matches!(effect, Effect::Receive { ticket: t, .. } if t.0 == ticket);
                rig.effects.iter().any(receive)
            };
            assert!(asks_for(5) && asks_for(6), "the file is opened again for what the new store has");
            rig.step(Event::Sealed { id: MessageId(1), stream: Stream::Stdout, whole: true });
        }
        let results = rig.results();
        assert_eq!((results.len(), results[0].1.state), (1, Final::Done));
        assert_eq!(results[0].1.stdout.truncated, !told_by_new_store);
    }
}

/// A message that goes out again because its receiver's store is gone has its time, although its attempts to the lost
/// store were all that it had. (Seed 4010261)
#[test]
fn what_goes_out_again_to_a_new_store_has_its_whole_time() {
    let mut rig = Rig::new();
    let options = Options { rerun: true, timeout: Duration::from_secs(3), ..Options::default() };
    for number in 1..=200 {
        rig.submit(number, Options { retries: 1, ..options.clone() });
        if number == 1 {
            rig.answer_probe(STORE, PROCESS);
        }
        rig.told(STORE, PROCESS, vec![(number as u64, number, Progress::Stored)]);
    }
    // One that never gets its receipt: each attempt in vain halves how many may be on their way.
    rig.submit(201, options);
    for _ in 0..2 {
        rig.pass(Duration::from_secs(4));
        rig.answer_probe(STORE, PROCESS);
    }
    rig.clear();
    comes_back(&mut rig);
    let first = rig.published();
    assert!(first.len() < 200, "{} are on their way", first.len());
    // The others wait, and for a moment nobody is there.
    rig.step(Event::NoResponders(other()));
    assert_eq!(rig.results(), [], "given up without an attempt");
    rig.announce(NEW_STORE, NEW_PROCESS, Occasion::Up);
    rig.answer_probe(NEW_STORE, NEW_PROCESS);
    for number in 1..=201 {
        rig.told(NEW_STORE, NEW_PROCESS, vec![(number as u64, number, Progress::Stored)]);
    }
    let mut published = rig.published();
    published.sort_unstable();
    published.dedup();
    assert_eq!((published.len(), rig.results().len()), (201, 0));
}

/// A crowd of names that somebody has made up takes all places of others, and none of those that we send to.
#[test]
fn made_up_names_leave_room_for_those_that_something_is_sent_to() {
    let mut rig = Rig::new();
    let hello = |number: usize| Hello {
        from: NodeName::new(&format!("made-up-{number}")).expect("a good name"),
        epoch: STORE,
        incarnation: PROCESS,
        commits_at_start: 0,
        occasion: Occasion::Up,
        info: "".into(),
    };
    for number in 0..=PEERS_MAX {
        rig.step(Event::Hello(hello(number)));
        rig.clear();
    }
    rig.submit(1, Options::default());
    let rejected = |(_, effect): &(u64, Effect)| matches!(effect, Effect::Rejected(..));
    assert!(!rig.effects.iter().any(rejected), "{:?}", rig.effects);
    rig.answer_probe(STORE, PROCESS);
    assert_eq!(rig.published(), [1]);
}

/// Of what goes out again to a new store, the lost one may have told before; that it had it says nothing any more.
#[test]
fn what_a_lost_store_has_told_does_not_count_for_the_new_one() {
    let mut rig = Rig::new();
    rig.submit(1, Options { rerun: true, ..Options::default() });
    rig.answer_probe(STORE, PROCESS);
    rig.told(STORE, PROCESS, vec![(5, 1, Progress::Stored)]);
    comes_back(&mut rig);
    for late in [Progress::Stored, Progress::Running] {
        rig.clear();
        rig.told(STORE, PROCESS, vec![(5, 1, late)]);
        rig.answer_probe(NEW_STORE, NEW_PROCESS);
        assert_eq!(rig.published(), [1], "it is still to be sent");
    }
    rig.clear();
    rig.told(NEW_STORE, NEW_PROCESS, vec![(1, 1, Progress::Stored)]);
    rig.announce(NEW_STORE, NEW_PROCESS, Occasion::Up);
    assert_eq!(rig.published(), []);
}

/// A sender's store that is an older copy may be told that a message runs whose end was told before; so what runs is asked
/// for, more and more rarely, until its end is known. (Seed 14016963)
#[test]
fn what_runs_is_asked_for_now_and_then() {
    let mut rig = Rig::new();
    rig.submit(1, Options::default());
    rig.answer_probe(STORE, PROCESS);
    rig.clear();
    let mut pass = |minutes: u64| {
        for _ in 0..minutes * 6 {
            rig.told(STORE, PROCESS, vec![(5, 1, Progress::Running)]);
            rig.pass(Duration::from_secs(10));
        }
        let asked = rig.published().len();
        rig.clear();
        asked
    };
    assert_eq!([pass(4), pass(60), pass(600)], [2, 4, 19]);
    let closed = Outcome::bare(Final::Interrupted, Some("closed here before"), rig.wall());
    rig.told(STORE, PROCESS, vec![(0, 1, Progress::Final(closed))]);
    assert_eq!(rig.results()[0].1.state, Final::Interrupted);
    rig.clear();
    rig.pass(Duration::from_secs(7200));
    assert_eq!(rig.published(), []);
}

/// A copy of a store from before the last process, put back at once: it knows nothing of the numbers that were given since,
/// and gives none of them again (ADR 0015).
#[test]
fn a_copy_that_is_put_back_within_a_second_gives_no_number_twice() {
    let numbers = |later: u64| -> Vec<u64> {
        let mut rig = Rig::begun(Duration::from_millis(later));
        // As many as a lane takes in a millisecond.
        for number in 1..=1000 {
            rig.submit(number, Options::default());
        }
        let seq = |(_, write): &(u64, Write)| match write {
            Write::Submit { seq, .. } => Some(seq.0),
            _ => None,
        };
        rig.writes.iter().filter_map(seq).collect()
    };
    let mut last = 0;
    for later in [0, 1, 2, 3, 999, 1000, 7_000_000_000_000] {
        let given = numbers(later);
        assert_eq!(given.len(), 1000);
        assert!(given[0] > last && given.windows(2).all(|pair| pair[0] < pair[1]), "{later} ms later: {given:?}");
        last = given[given.len() - 1];
    }
    assert!(last < 1 << 53, "numbers stay what JSON can say: {last}");
}
