//! What people are shown, also while a node writes and when none runs; and what goes after a while.

use protocol::outcome::Stream;

use super::*;
use crate::blobs::{Blobs, Owner};
use crate::engine::Filter;
use crate::store::reader::Reader;
use crate::store::show::Place;
use crate::view::MessageView;

fn newest(limit: usize) -> Filter {
    Filter { limit, ..Filter::default() }
}

fn ids(views: &[MessageView]) -> Vec<u128> {
    views.iter().map(|view| view.id.parse::<MessageId>().unwrap().0).collect()
}

fn accept(ticket: u64, id: u128, state: InState) -> Write {
    let mut message = message(id, "central");
    if id > 8 {
        message.from = NodeName::new("ship9").unwrap();
    }
    Write::Accept(InboxRow { ticket: Ticket(ticket), epoch: Epoch(1), seq: Seq(1), prev: Seq(0), message, state })
}

fn progress(id: u128, state: State) -> Write {
    Write::Progress { id: MessageId(id), state, attempts: 1, history: Vec::new() }
}

/// A message of a node that uses an id of ours.
fn mistaken_id(ticket: u64, id: u128) -> Write {
    let mut message = message(id, "central");
    message.from = NodeName::new("ship9").unwrap();
    let state = InState::Stored;
    Write::Accept(InboxRow { ticket: Ticket(ticket), epoch: Epoch(1), seq: Seq(2), prev: Seq(0), message, state })
}

/// Messages 1 to 8: odd ones to ship1, even ones to ship2; 1 and 2 are done, 3 failed, 4 runs, 5 was sent.
fn fleet(dir: &Path) -> Store {
    let mut store = Store::open(dir).unwrap();
    let to = |id: u128| if id % 2 == 1 { "ship1" } else { "ship2" };
    let mut writes: Vec<_> = (1..=8).map(|id| submit(id, to(id), u64::try_from(id).unwrap())).collect();
    writes.extend([end(1, Final::Done, 10), end(2, Final::Done, 10), end(3, Final::Failed, 10)]);
    writes.extend([progress(4, State::Running), progress(5, State::Sent)]);
    store.commit(&writes).unwrap();
    store
}

#[test]
fn the_newest_come_first_and_match() {
    let folder = folder();
    let store = fleet(folder.path());
    let check = |reader: &Reader| {
        let found = |filter: Filter| ids(&reader.list(&filter).unwrap());
        let node = |node: &str| Filter { node: Some(node.into()), ..newest(50) };
        let state = |state: &str| Filter { state: Some(state.into()), ..newest(50) };
        assert_eq!(found(newest(3)), [8, 7, 6]);
        assert_eq!(found(newest(0)), []);
        assert_eq!(found(node("ship1")), [7, 5, 3, 1]);
        assert_eq!(found(Filter { limit: 2, ..node("ship2") }), [8, 6]);
        assert_eq!(found(node("central")), [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(found(node("nobody")), []);
        assert_eq!(found(state("done")), [2, 1]);
        assert_eq!(found(state("failed")), [3]);
        assert_eq!(found(state("queued")), [8, 7, 6]);
        assert_eq!(found(Filter { limit: 2, ..state("queued") }), [8, 7]);
        assert_eq!(found(state("running")), [4]);
        assert_eq!(found(state("sent")), [5]);
        assert_eq!(found(state("lost")), []);
        assert_eq!(found(Filter { node: Some("ship2".into()), ..state("done") }), [2]);
        assert_eq!(found(Filter { node: Some("ship2".into()), ..state("sent") }), []);
        assert_eq!(found(Filter { since_ms: Some(1_006), ..newest(50) }), [8, 7, 6]);
        assert_eq!(found(Filter { since_ms: Some(1_006), ..node("ship1") }), [7]);
        assert_eq!(
            reader.outstanding().unwrap(),
            [("ship1", 2), ("ship2", 3)].map(|(node, n)| (NodeName::new(node).unwrap(), n))
        );
    };
    // Beside a node that writes, and without one.
    let reader = Reader::open(folder.path()).unwrap();
    check(&reader);
    drop(store);
    check(&reader);
    drop(reader);
    check(&Reader::open(folder.path()).unwrap());
}

#[test]
fn a_reader_sees_what_was_just_committed_and_never_writes() {
    let folder = folder();
    assert!(matches!(Reader::open(folder.path()), Err(OpenError::Missing(_))));
    let mut store = Store::open(folder.path()).unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    for id in 1..20 {
        store.commit(&[submit(id, "ship1", u64::try_from(id).unwrap())]).unwrap();
        assert_eq!(ids(&reader.list(&newest(1)).unwrap()), [id]);
    }
    // As after SIGKILL: nobody closed the write-ahead log.
    std::mem::forget(store);
    let other = Reader::open(folder.path()).unwrap();
    assert_eq!(ids(&other.list(&newest(1)).unwrap()), [19]);
}

#[test]
fn what_waits_in_the_inbox_is_listed_too() {
    let folder = folder();
    let mut store = fleet(folder.path());
    let outcome = Arc::new(Outcome::bare(Final::TimedOut, Some("too slow"), Wall(3_000)));
    store
        .commit(&[
            accept(1, 20, InState::Stored),
            accept(2, 21, InState::Running(Wall(2_000))),
            accept(3, 22, InState::Finished(outcome)),
            // Sent to itself: the outbox knows more of it.
            accept(4, 8, InState::Stored),
        ])
        .unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(ids(&reader.list(&newest(5)).unwrap()), [22, 21, 20, 8, 7]);
    let timed_out = Filter { state: Some("timed_out".into()), ..newest(5) };
    let found = reader.list(&timed_out).unwrap();
    assert_eq!((ids(&found), found[0].reason.as_deref()), (vec![22], Some("too slow")));
    assert_eq!(ids(&reader.list(&Filter { node: Some("ship9".into()), ..newest(5) }).unwrap()), [22, 21, 20]);
    store.commit(&[mistaken_id(5, 7)]).unwrap();
    let both = reader.list(&newest(6)).unwrap().into_iter().filter(|view| ids(std::slice::from_ref(view)) == [7]);
    let mut senders: Vec<String> = both.map(|view| view.from_node).collect();
    senders.sort();
    assert_eq!(senders, ["central", "ship9"], "one id, two messages: neither hides the other");
    let shown = reader.show(MessageId(21)).unwrap().unwrap();
    assert_eq!((shown.from_node.as_str(), shown.state.as_str(), shown.history.len()), ("ship9", "running", 1));
}

#[test]
fn a_message_is_shown_with_all_that_is_known() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    let mut outcome = Outcome::bare(Final::Failed, Some("exit code 3"), Wall(5_000));
    outcome.exit_code = Some(3);
    outcome.started = Some(Wall(4_000));
    outcome.stdout = Output { len: 3, hash: [1; 32], truncated: false, inline: Some("hi\n".into()) };
    outcome.stderr = Output { len: 6, hash: [2; 32], truncated: true, inline: None };
    let note = |at, state, note: Option<&str>| Moment { at: Wall(at), state, note: note.map(Arc::from) };
    let history = vec![note(1_001, State::Queued, None), note(1_500, State::Sent, Some("attempt 1"))];
    let ended = Write::End { id: MessageId(1), attempts: 4, history: Vec::new(), outcome: Arc::new(outcome) };
    let reader = Reader::open(folder.path()).unwrap();
    store
        .commit(&[
            submit(1, "ship1", 1),
            Write::Progress { id: MessageId(1), state: State::Sent, attempts: 1, history },
        ])
        .unwrap();
    assert_eq!(reader.show(MessageId(1)).unwrap().unwrap().state, "sent");
    assert_eq!(reader.output(MessageId(1), Stream::Stdout).unwrap(), None);
    store.commit(&[ended]).unwrap();
    let blobs = Blobs::open(folder.path()).unwrap();
    blobs.fetch(MessageId(1), Stream::Stderr).unwrap().append(0, b"oh \xff no").unwrap();

    let view = reader.show(MessageId(1)).unwrap().unwrap();
    assert_eq!(view.stderr, None, "half an output is not shown as a whole one");
    let hash = blake3::hash(b"oh \xff no");
    blobs.fetch(MessageId(1), Stream::Stderr).unwrap().seal(hash.as_bytes()).unwrap();
    let view = reader.show(MessageId(1)).unwrap().unwrap();
    assert_eq!(view.data, ["echo", "hi"]);
    assert_eq!((view.stdout.as_deref(), view.stderr.as_deref()), (Some("hi\n"), Some("oh \u{fffd} no")));
    assert_eq!((view.state.as_str(), view.exit_code, view.run_ms, view.attempts), ("failed", Some(3), Some(1_000), 4));
    assert_eq!((view.stdout_bytes, view.stderr_bytes, view.truncated), (3, 6, true));
    assert_eq!(view.finished_at.as_deref(), Some("1970-01-01T00:00:05.000Z"));
    // The end came without a history: what was known is kept, and the end is added.
    let states: Vec<_> = view.history.iter().map(|moment| moment.state.as_str()).collect();
    assert_eq!(states, ["queued", "sent", "failed"]);
    let line = reader.list(&newest(1)).unwrap().remove(0);
    assert_eq!((line.stdout, line.history.len(), line.exit_code), (None, 0, Some(3)));
    let stderr = reader.output(MessageId(1), Stream::Stderr).unwrap().unwrap();
    assert_eq!((stderr.len, stderr.truncated), (6, true));
    assert_eq!(stderr.place, Place::File(blobs.path(Owner::Out(MessageId(1)), Stream::Stderr)));
    assert_eq!(reader.show(MessageId(2)).unwrap(), None);
}

#[test]
fn an_output_is_given_to_its_sender_only() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    let mut outcome = Outcome::bare(Final::Done, None, Wall(3_000));
    outcome.stdout = Output { len: 9, hash: [7; 32], truncated: false, inline: None };
    store.commit(&[accept(1, 20, InState::Running(Wall(1))), accept(2, 21, InState::Stored)]).unwrap();
    store.commit(&[Write::Ended { ticket: Ticket(1), outcome: Arc::new(outcome.clone()) }]).unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    let owner = reader.blob_owner(Ticket(1)).unwrap().unwrap();
    assert_eq!((owner.sender.as_str(), owner.id, owner.stdout), ("ship9", MessageId(20), outcome.stdout));
    assert_eq!(reader.blob_owner(Ticket(2)).unwrap(), None);
    assert_eq!(reader.inbox_message(Ticket(2)).unwrap().unwrap().id, MessageId(21));
    assert!(reader.is_known(Owner::In(Ticket(2))).unwrap());
    assert!(!reader.is_known(Owner::In(Ticket(3))).unwrap());
    assert!(!reader.is_known(Owner::Out(MessageId(20))).unwrap());
}

fn retention(keep_ms: u64, bytes_max: u64) -> Retention {
    Retention { keep: Duration::from_millis(keep_ms), bytes_max }
}

#[test]
fn what_ended_long_ago_goes_and_nothing_else() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    // Made at 1001, 1002, …; odd ones end at 10,000, every fourth at 90,000, the others never.
    let mut writes: Vec<_> = (1..=3_000).map(|n| submit(n, "ship1", u64::try_from(n).unwrap())).collect();
    writes.extend((1..=3_000).step_by(2).map(|n| end(n, Final::Done, 10_000)));
    writes.extend((4..=3_000).step_by(4).map(|n| end(n, Final::Done, 90_000)));
    store.commit(&writes).unwrap();
    let keep = retention(20_000, u64::MAX);
    let round = |store: &mut Store, now: u64| {
        let (mut messages, mut steps) = (0, 0);
        loop {
            let pruned = store.prune(&keep, Wall(now)).unwrap();
            assert!(pruned.messages <= 500);
            messages += pruned.messages;
            steps += 1;
            if !pruned.more {
                return (messages, steps);
            }
        }
    };
    assert_eq!(round(&mut store, 20_500), (0, 1), "behind what is too young all are");
    assert_eq!(round(&mut store, 29_000), (0, 5), "2,250 have ended");
    let commits = store.commits();
    assert_eq!(round(&mut store, 50_000), (1_500, 5));
    let count = |store: &Store, table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        store.connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((count(&store, "outbox"), count(&store, "progress")), (1_500, 750));
    assert_eq!(snapshot(&store).out_lanes[0].1.messages, 750);
    let seen = store.commits();
    assert!(seen > commits);
    drop(store);
    let mut store = Store::open(folder.path()).unwrap();
    assert_eq!(store.commits(), seen);
    // The next round finds what has become old since.
    assert_eq!(round(&mut store, 200_000), (750, 2));
    assert_eq!(count(&store, "outbox"), 750);
}

#[test]
fn what_is_too_much_goes_oldest_first() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    let big = |id: u128| {
        let message = Message { body: format!("[\"{}\"]", "x".repeat(20_000)).into(), ..message(id, "ship1") };
        Write::Submit { message, seq: Seq(u64::try_from(id).unwrap()) }
    };
    let mut writes: Vec<_> = (1..=2_000).map(big).collect();
    writes.extend((2..=2_000).map(|n| end(n, Final::Done, 10_000)));
    let mut outcome = Outcome::bare(Final::Done, None, Wall(3_000));
    outcome.stderr = Output { len: 9, hash: [7; 32], truncated: false, inline: None };
    writes.push(big(2_001));
    writes.push(Write::End { id: MessageId(2_001), attempts: 1, history: Vec::new(), outcome: Arc::new(outcome) });
    store.commit(&writes).unwrap();
    let size = || std::fs::metadata(folder.path().join("steward.db")).unwrap().len();
    let keep = retention(u64::MAX, 10_000_000);
    let first = store.prune(&keep, Wall(11_000)).unwrap();
    assert_eq!((first.messages, first.more), (500, true));
    let mut outputs = Vec::new();
    let mut left = 2_000;
    while left > 0 {
        let pruned = store.prune(&keep, Wall(11_000)).unwrap();
        outputs.extend(pruned.outputs);
        if !pruned.more {
            break;
        }
        left -= 1;
    }
    let reader = Reader::open(folder.path()).unwrap();
    let found = ids(&reader.list(&newest(5_000)).unwrap());
    assert!(found.len() < 502 && found.contains(&1), "{} are left", found.len());
    assert!(outputs.is_empty() || outputs == [MessageId(2_001)]);
    store.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    assert!(size() < 30_000_000, "{} bytes are given back to the file system", size());
}

#[test]
fn a_length_that_a_receiver_made_up_stops_nothing() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    for id in 1..=3 {
        let mut outcome = Outcome::bare(Final::Done, None, Wall(3_000));
        outcome.stdout = Output { len: i64::MAX.cast_unsigned(), hash: [7; 32], truncated: false, inline: None };
        let ended = Write::End { id: MessageId(id), attempts: 1, history: Vec::new(), outcome: Arc::new(outcome) };
        store.commit(&[submit(id, "ship1", 1), ended]).unwrap();
    }
    let pruned = store.prune(&retention(u64::MAX, 1_000_000), Wall(4_000)).unwrap();
    assert_eq!(pruned.outputs, [MessageId(1), MessageId(2), MessageId(3)]);
}
