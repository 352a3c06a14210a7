//! What goes in comes out, whatever it is; and what happens when the disk, the file or the process gives up.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use protocol::event::{Facts, Ticket};
use protocol::message::{Body, Epoch, Incarnation, Kind, Message, MessageId, Options, Seq};
use protocol::name::{Lane, MethodName, NodeName};
use protocol::outcome::{Final, Outcome, Output, State};
use protocol::snapshot::{Snapshot, Start};
use protocol::step::{InLaneRow, InState, InboxRow, Moment, OutLaneRow, PeerRow, Write};
use protocol::time::Wall;
use tempfile::TempDir;

mod cursors;
mod errors;
mod evidence;
mod identities;
mod replies;
mod schedules;
mod views;

use super::*;

/// Few cases, because each opens a database; the strategies are small enough for that.
fn few() -> ProptestConfig {
    ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() }
}

pub(super) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(super) fn snapshot(store: &Store) -> Snapshot {
    store.snapshot(&|_| Facts { rerun: false, batch: 1 }).unwrap()
}

pub(super) fn lane(peer: &str) -> Lane {
    Lane {
        peer: NodeName::new(peer).unwrap(),
        kind: Kind::CommandAck,
        method: MethodName::new("ShellCommand").unwrap(),
    }
}

pub(super) fn message(id: u128, to: &str) -> Message {
    Message {
        id: MessageId(id),
        from: NodeName::new("central").unwrap(),
        to: NodeName::new(to).unwrap(),
        kind: Kind::CommandAck,
        method: MethodName::new("ShellCommand").unwrap(),
        body: Arc::from(r#"["echo","hi"]"#),
        options: Options::default(),
        created: Wall(1_000 + u64::try_from(id).unwrap()),
    }
}

pub(super) fn submit(id: u128, to: &str, seq: u64) -> Write {
    Write::Submit { message: message(id, to), seq: Seq(seq) }
}

pub(super) fn end(id: u128, state: Final, finished: u64) -> Write {
    let outcome = Arc::new(Outcome::bare(state, None, Wall(finished)));
    Write::End { id: MessageId(id), attempts: 1, history: Vec::new(), outcome }
}

pub(super) fn out_lane(peer: &str, last: u64) -> Write {
    Write::OutLane(OutLaneRow { lane: lane(peer), last: Seq(last), sent: Seq(0), lost: Seq(0) })
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![0..300u64, any::<u64>(), Just(u64::MAX)]
}

fn walls() -> impl Strategy<Value = Wall> {
    (0..i64::MAX.cast_unsigned()).prop_map(Wall)
}

fn texts() -> impl Strategy<Value = Arc<str>> {
    any::<String>().prop_map(Arc::from)
}

fn nodes() -> impl Strategy<Value = NodeName> {
    "[A-Za-z0-9_-]{1,64}".prop_map(|name| NodeName::new(&name).unwrap())
}

fn methods() -> impl Strategy<Value = MethodName> {
    "[A-Za-z0-9_-]{1,64}".prop_map(|name| MethodName::new(&name).unwrap())
}

fn kinds() -> impl Strategy<Value = Kind> {
    proptest::sample::select(&Kind::ALL[..])
}

fn lanes() -> impl Strategy<Value = Lane> {
    (nodes(), kinds(), methods()).prop_map(|(peer, kind, method)| Lane { peer, kind, method })
}

fn durations() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|ms| Duration::from_millis(u64::from(ms)))
}

fn options() -> impl Strategy<Value = Options> {
    let parts =
        (durations(), any::<u32>(), option::of(durations()), option::of(walls()), any::<bool>(), any::<(bool, bool)>());
    parts.prop_map(|(timeout, retries, method_timeout, deadline, parallel, (rerun, seal))| Options {
        timeout,
        retries,
        method_timeout,
        deadline,
        parallel,
        rerun,
        seal,
        reply: None,
    })
}

fn messages() -> impl Strategy<Value = Message> {
    let parts = (any::<u128>(), nodes(), lanes(), texts(), options(), walls());
    parts.prop_map(|(id, from, lane, body, options, created)| Message {
        id: MessageId(id),
        from,
        to: lane.peer,
        kind: lane.kind,
        method: lane.method,
        body,
        options,
        created,
    })
}

fn outputs() -> impl Strategy<Value = Output> {
    let parts = (numbers(), any::<[u8; 32]>(), any::<bool>(), option::of(texts()));
    parts.prop_map(|(len, hash, truncated, inline)| Output { len, hash, truncated, inline })
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let state = proptest::sample::select(&Final::ALL[..]);
    let ends = (option::of(any::<i32>()), option::of(any::<i32>()), option::of(walls()), walls());
    (state, option::of(texts()), ends, outputs(), outputs()).prop_map(
        |(state, reason, (exit_code, signal, started, finished), stdout, stderr)| Outcome {
            state,
            reason,
            exit_code,
            signal,
            started,
            finished,
            stdout,
            stderr,
            proof: None,
        },
    )
}

fn moments() -> impl Strategy<Value = Moment> {
    let state = prop_oneof![
        Just(State::Queued),
        Just(State::Sent),
        Just(State::Stored),
        Just(State::Running),
        Just(State::Fetching),
        proptest::sample::select(&Final::ALL[..]).prop_map(State::Final),
    ];
    (numbers(), state, option::of(texts())).prop_map(|(at, state, note)| Moment { at: Wall(at), state, note })
}

fn in_states() -> impl Strategy<Value = InState> {
    prop_oneof![
        Just(InState::Stored),
        walls().prop_map(InState::Running),
        outcomes().prop_map(|outcome| InState::Finished(Arc::new(outcome))),
    ]
}

fn inbox_rows() -> impl Strategy<Value = InboxRow> {
    let ticket = 0..i64::MAX.cast_unsigned();
    (ticket, numbers(), numbers(), numbers(), messages(), in_states()).prop_map(
        |(ticket, epoch, seq, prev, message, state)| InboxRow {
            ticket: Ticket(ticket),
            epoch: Epoch(epoch),
            seq: Seq(seq),
            prev: Seq(prev),
            message,
            state,
        },
    )
}

fn in_lane_rows() -> impl Strategy<Value = InLaneRow> {
    (lanes(), numbers(), numbers(), vec((numbers(), numbers()), 0..40)).prop_map(|(lane, epoch, floor, seen)| {
        let seen = seen.into_iter().map(|(first, last)| (Seq(first), Seq(last))).collect();
        InLaneRow { lane, epoch: Epoch(epoch), floor: Seq(floor), seen }
    })
}

fn peer_rows() -> impl Strategy<Value = PeerRow> {
    let known = (option::of(numbers()), numbers(), option::of(numbers()), option::of(walls()));
    (nodes(), known, texts()).prop_map(|(name, (epoch, commits, incarnation, seen), info)| PeerRow {
        name,
        epoch: epoch.map(Epoch),
        commits,
        incarnation: incarnation.map(Incarnation),
        seen,
        info,
    })
}

fn out_lane_rows() -> impl Strategy<Value = OutLaneRow> {
    let number = 0..i64::MAX.cast_unsigned();
    (lanes(), number.clone(), number.clone(), number).prop_map(|(lane, last, sent, lost)| OutLaneRow {
        lane,
        last: Seq(last),
        sent: Seq(sent),
        lost: Seq(lost),
    })
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn the_outbox_gives_back_what_it_was_given(
        message in messages(),
        seq in 1..i64::MAX.cast_unsigned(),
        attempts in any::<u32>(),
        history in vec(moments(), 0..30),
    ) {
        let folder = folder();
        let mut store = Store::open(folder.path()).unwrap();
        let progress = Write::Progress { id: message.id, state: State::Sent, attempts, history: history.clone() };
        store.commit(&[Write::Submit { message: message.clone(), seq: Seq(seq) }, progress]).unwrap();
        drop(store);
        let mut store = Store::open(folder.path()).unwrap();
        let (found, more) = store.load(&message.lane(), Seq(0), 10, 10).unwrap();
        prop_assert!(!more);
        prop_assert_eq!(found.len(), 1);
        prop_assert_eq!(&found[0].message, &message);
        prop_assert_eq!(found[0].seq, Seq(seq));
        prop_assert_eq!(&found[0].history, &history);
        prop_assert_eq!(found[0].attempts, attempts);
        let limited = u64::from(message.options.retries > 0);
        let backlog = snapshot(&store).out_lanes[0].1;
        prop_assert_eq!((backlog.messages, backlog.limited), (1, limited));
        prop_assert_eq!(snapshot(&store).next_deadline, message.options.deadline);
    }

    #[test]
    fn the_inbox_gives_back_what_it_was_given(rows in vec(inbox_rows(), 1..8)) {
        let mut rows = rows;
        rows.sort_by_key(|row| row.ticket);
        rows.dedup_by_key(|row| row.ticket);
        let folder = folder();
        let mut store = Store::open(folder.path()).unwrap();
        store.commit(&rows.iter().cloned().map(Write::Accept).collect::<Vec<_>>()).unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        let reader = Reader::open(folder.path()).unwrap();
        let snapshot = snapshot(&store);
        prop_assert_eq!(snapshot.last_ticket, rows.last().unwrap().ticket.0);
        let nothing: Body = Arc::from("");
        for ((found, _), row) in snapshot.inbox.iter().zip(&rows) {
            let mut bare = row.clone();
            bare.message.body = nothing.clone();
            prop_assert_eq!(found, &bare);
            let message = reader.inbox_message(row.ticket).unwrap();
            prop_assert_eq!(message.as_ref(), Some(&row.message));
        }
        prop_assert_eq!(snapshot.inbox.len(), rows.len());
    }

    #[test]
    fn lanes_and_nodes_come_back_as_they_were(
        out in vec(out_lane_rows(), 0..5),
        incoming in vec(in_lane_rows(), 0..5),
        peers in vec(peer_rows(), 0..5),
    ) {
        let folder = folder();
        let mut store = Store::open(folder.path()).unwrap();
        let writes = out.iter().cloned().map(Write::OutLane);
        let writes = writes.chain(incoming.iter().cloned().map(Write::InLane));
        let writes: Vec<_> = writes.chain(peers.iter().cloned().map(Write::Peer)).collect();
        store.commit(&writes).unwrap();
        drop(store);
        let snapshot = snapshot(&Store::open(folder.path()).unwrap());
        prop_assert_eq!(snapshot.out_lanes.len(), out.len());
        prop_assert_eq!(snapshot.in_lanes.len(), incoming.len());
        prop_assert_eq!(snapshot.peers.len(), peers.len());
        for row in &out {
            prop_assert!(snapshot.out_lanes.iter().any(|(found, _)| found == row));
        }
        for row in &incoming {
            prop_assert!(snapshot.in_lanes.contains(row));
        }
        for row in &peers {
            prop_assert!(snapshot.peers.contains(row));
        }
    }

    #[test]
    fn an_outcome_comes_back_from_the_inbox_after_the_message_was_started(outcome in outcomes(), row in inbox_rows()) {
        let folder = folder();
        let mut store = Store::open(folder.path()).unwrap();
        let ticket = row.ticket;
        store.commit(&[Write::Accept(InboxRow { state: InState::Stored, ..row })]).unwrap();
        store.commit(&[Write::Started { ticket, at: Wall(5) }]).unwrap();
        prop_assert_eq!(&snapshot(&store).inbox[0].0.state, &InState::Running(Wall(5)));
        let outcome = Arc::new(outcome);
        store.commit(&[Write::Ended { ticket, outcome: outcome.clone() }]).unwrap();
        prop_assert_eq!(&snapshot(&store).inbox[0].0.state, &InState::Finished(outcome));
        store.commit(&[Write::Forget(ticket)]).unwrap();
        prop_assert!(snapshot(&store).inbox.is_empty());
        prop_assert_eq!(snapshot(&store).last_ticket, ticket.0);
    }

    #[test]
    fn a_time_line_comes_back_as_it_was(history in vec(moments(), 0..30), noise in vec(any::<u8>(), 0..40)) {
        prop_assert_eq!(history::decode(&history::encode(&history)).unwrap(), history);
        // Whatever is in the file, reading it ends.
        drop(history::decode(&noise));
    }
}

#[test]
fn a_lane_is_read_in_its_order_and_within_limits() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    let writes: Vec<_> = (1..=10).map(|n| submit(100 - n, "ship1", u64::try_from(n).unwrap() * 3)).collect();
    store.commit(&writes).unwrap();
    store.commit(&[submit(200, "ship2", 1), end(98, Final::Done, 5_000), Write::CancelWanted(MessageId(97))]).unwrap();
    let numbers = |found: &[Queued]| found.iter().map(|queued| queued.seq.0).collect::<Vec<_>>();
    let (found, more) = store.load(&lane("ship1"), Seq(0), 3, usize::MAX).unwrap();
    assert_eq!((numbers(&found), more), (vec![3, 9, 12], true), "number 6 has ended");
    assert_eq!(found.iter().map(|queued| queued.cancel).collect::<Vec<_>>(), [false, true, false]);
    let body = found[0].message.body.len();
    let (found, more) = store.load(&lane("ship1"), Seq(12), 100, 2 * body).unwrap();
    assert_eq!((numbers(&found), more), (vec![15, 18], true), "the bytes are limited");
    let (found, more) = store.load(&lane("ship1"), Seq(18), 100, 0).unwrap();
    assert_eq!((numbers(&found), more), (vec![21], true), "the first always fits");
    let (found, more) = store.load(&lane("ship1"), Seq(27), 100, 0).unwrap();
    assert_eq!((numbers(&found), more), (vec![30], false));
    assert_eq!(store.load(&lane("ship3"), Seq(0), 1, 1).unwrap(), (Vec::new(), false));
    let backlog: Vec<_> = snapshot(&store).out_lanes.into_iter().map(|(_, backlog)| backlog.messages).collect();
    assert_eq!(backlog, [9, 1]);
}

#[test]
fn messages_are_found_until_and_after_they_end() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    store.commit(&[submit(1, "ship1", 1), end(1, Final::Failed, 9), submit(2, "ship1", 2)]).unwrap();
    let found = |store: &mut Store, id| store.find(MessageId(id)).unwrap();
    let expected = Found { lane: lane("ship1"), seq: Seq(1), ended: Some(Final::Failed) };
    assert_eq!(found(&mut store, 1), Some(expected.clone()));
    assert_eq!(found(&mut store, 2).unwrap().ended, None);
    assert_eq!(found(&mut store, 3), None);
    // The first end stands, and one for nothing is nothing.
    store.commit(&[end(1, Final::Done, 10), end(77, Final::Done, 10)]).unwrap();
    assert_eq!(found(&mut store, 1), Some(expected));
}

#[test]
fn deadlines_are_swept_in_their_order() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    let due = |id: u128, deadline: u64| {
        let mut message = message(id, "ship1");
        message.options.deadline = Some(Wall(deadline));
        Write::Submit { message, seq: Seq(u64::try_from(id).unwrap()) }
    };
    store.commit(&[due(1, 300), due(2, 100), due(3, 200), due(4, 900), submit(5, "ship1", 5)]).unwrap();
    assert_eq!(snapshot(&store).next_deadline, Some(Wall(100)));
    let ids = |due: Vec<(MessageId, Lane, Seq)>| due.into_iter().map(|(id, ..)| id.0).collect::<Vec<_>>();
    let (found, next) = store.sweep(Wall(300), 10).unwrap();
    assert_eq!((ids(found), next), (vec![2, 3, 1], Some(Wall(900))));
    let (found, next) = store.sweep(Wall(300), 2).unwrap();
    assert_eq!((ids(found), next), (vec![2, 3], Some(Wall(300))));
    store.commit(&[end(2, Final::Expired, 101), end(4, Final::Done, 101)]).unwrap();
    let (found, next) = store.sweep(Wall(1_000), 10).unwrap();
    assert_eq!((ids(found), next), (vec![3, 1], None));
    // What may have been sent is for the receiver to judge.
    let sent = OutLaneRow { lane: lane("ship1"), last: Seq(5), sent: Seq(2), lost: Seq(0) };
    store.commit(&[Write::OutLane(sent)]).unwrap();
    let (found, _) = store.sweep(Wall(1_000), 10).unwrap();
    assert_eq!(ids(found), [3]);
}

#[test]
fn what_a_node_said_of_itself_stays_when_it_says_nothing() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    let row = |seen: u64, info: &str| {
        let name = NodeName::new("ship1").unwrap();
        Write::Peer(PeerRow {
            name,
            epoch: None,
            commits: 0,
            incarnation: None,
            seen: Some(Wall(seen)),
            info: info.into(),
        })
    };
    store.commit(&[row(1, "{}"), row(2, "")]).unwrap();
    store.commit(&[row(3, "")]).unwrap();
    let peer = snapshot(&store).peers.remove(0);
    assert_eq!((peer.seen, &*peer.info), (Some(Wall(3)), "{}"));
}

#[test]
fn an_incoming_lane_of_a_lost_store_goes() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    let row = |epoch: u64| InLaneRow { lane: lane("ship1"), epoch: Epoch(epoch), floor: Seq(1), seen: Vec::new() };
    let drop_lane = |epoch: u64| Write::DropInLane { lane: lane("ship1"), epoch: Epoch(epoch) };
    store
        .commit(&[Write::InLane(row(1)), Write::InLane(row(2)), drop_lane(2), drop_lane(1), Write::InLane(row(1))])
        .unwrap();
    assert_eq!(snapshot(&store).in_lanes, [row(1)]);
    store.commit(&[drop_lane(1)]).unwrap();
    assert_eq!(snapshot(&store).in_lanes, []);
}

#[test]
fn transactions_are_counted_durably_and_the_epoch_stays() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    assert_eq!(store.commits(), 0);
    assert_eq!(store.commit(&[]).unwrap(), 0, "nothing to write is no transaction");
    assert_eq!(store.commit(&[submit(1, "ship1", 1)]).unwrap(), 1);
    assert_eq!(store.commit(&[out_lane("ship1", 1)]).unwrap(), 2);
    let epoch = store.epoch();
    assert!(epoch.0 <= i64::MAX.cast_unsigned());
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!((store.commits(), store.epoch()), (2, epoch));
    let other = tempfile::tempdir().unwrap();
    assert_ne!(Store::open(other.path()).unwrap().epoch(), epoch);
}

#[test]
fn a_store_knows_the_processes_that_began_on_it_and_a_copy_only_those_before() {
    let (folder, copy) = (folder(), tempfile::tempdir().unwrap());
    let mut store = Store::open(folder.path()).unwrap();
    store.begin_process(Incarnation(7)).unwrap();
    store.close();
    std::fs::copy(folder.path().join("steward.db"), copy.path().join("steward.db")).unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    store.begin_process(Incarnation(u64::MAX >> 2)).unwrap();
    assert_eq!(store.commits(), 2, "each start counts");
    drop(store);
    let starts = |folder: &TempDir| snapshot(&Store::open(folder.path()).unwrap()).starts;
    let start = |incarnation, commits| Start { incarnation: Incarnation(incarnation), commits: Some(commits) };
    assert_eq!(starts(&folder), [start(7, 1), start(u64::MAX >> 2, 2)]);
    assert_eq!(starts(&copy), [start(7, 1)]);
}

#[test]
fn of_the_processes_that_began_on_a_store_the_latest_are_remembered() {
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    for incarnation in 1..=9 {
        starts::add(&store.connection, Incarnation(incarnation), incarnation * 10, 4).unwrap();
    }
    let kept = [6, 7, 8, 9].map(|number| Start { incarnation: Incarnation(number), commits: Some(number * 10) });
    assert_eq!(snapshot(&store).starts, kept);
}

#[test]
fn files_are_for_their_owner_only() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    store.commit(&[submit(1, "ship1", 1)]).unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn an_error_leaves_nothing_of_its_batch_behind() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    store.commit(&[submit(1, "ship1", 1)]).unwrap();
    let error = store.commit(&[submit(2, "ship2", 1), submit(1, "ship3", 1)]).unwrap_err();
    assert!(matches!(error, CommitError::Duplicate(MessageId(1))), "{error}");
    let error = store.commit(&[submit(2, "ship2", 1), submit(3, "ship3", u64::MAX)]).unwrap_err();
    assert!(matches!(error, CommitError::Range { .. }), "{error}");
    assert_eq!(store.commits(), 1);
    assert_eq!(snapshot(&store).out_lanes.len(), 1);
    // The numbers of lanes and names that were given in vain are not believed in.
    store.commit(&[submit(2, "ship2", 1), submit(3, "ship3", 1)]).unwrap();
    drop(store);
    let mut store = Store::open(folder.path()).unwrap();
    for peer in ["ship1", "ship2", "ship3"] {
        assert_eq!(store.load(&lane(peer), Seq(0), 9, 9999).unwrap().0.len(), 1, "{peer}");
    }
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    store.commit(&[submit(1, "ship1", 1)]).unwrap();
    let pages = |store: &Store, max: i64| {
        let sql = format!("PRAGMA max_page_count = {max}");
        store.connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    pages(&store, 30);
    let batch: Vec<_> = (2..2_000).map(|n| submit(n, "ship1", u64::try_from(n).unwrap())).collect();
    for _ in 0..2 {
        let error = store.commit(&batch).unwrap_err();
        assert!(matches!(error, CommitError::Full), "{error}");
        assert_eq!(store.commits(), 1);
        assert_eq!(snapshot(&store).out_lanes[0].1.messages, 1);
    }
    store.commit(&[submit(5_000, "ship2", 1)]).unwrap();
    pages(&store, 1_000_000);
    store.commit(&batch).unwrap();
    assert_eq!(snapshot(&store).out_lanes[0].1.messages, 1_999);
}

#[test]
fn what_was_committed_survives_a_process_that_is_killed() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    store.commit(&[submit(1, "ship1", 1), out_lane("ship1", 1)]).unwrap();
    // Neither closed nor carried over into the database file, as after SIGKILL; a copy, as after a power cut.
    let copy = tempfile::tempdir().unwrap();
    for file in ["steward.db", "steward.db-wal"] {
        std::fs::copy(folder.path().join(file), copy.path().join(file)).unwrap();
    }
    std::mem::forget(store);
    let store = Store::open(copy.path()).unwrap();
    assert_eq!(snapshot(&store).out_lanes[0].1.messages, 1);
    assert_eq!(store.commits(), 1);
}

#[test]
fn a_newer_store_is_refused_aloud_and_left_alone() {
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    store.connection.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(store);
    let before = std::fs::read(folder.path().join("steward.db")).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("newer steward"), "{error}");
    assert_eq!(std::fs::read(folder.path().join("steward.db")).unwrap(), before);
}

#[test]
fn a_damaged_or_foreign_file_is_reported_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("steward.db");
    std::fs::write(&path, "this is not a database, but it was somebody's file\n".repeat(200)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains(".recover"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn damage_that_is_met_later_is_told_as_damage() {
    let folder = folder();
    let path = folder.path().join("steward.db");
    let mut store = Store::open(folder.path()).unwrap();
    store.commit(&(1..3_000).map(|n| submit(n, "ship1", u64::try_from(n).unwrap())).collect::<Vec<_>>()).unwrap();
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    let from = 3 * 4096;
    bytes[from..].iter_mut().for_each(|byte| *byte = 0xa5);
    std::fs::write(&path, &bytes).unwrap();
    let told = match Store::open(folder.path()) {
        Err(error) => error.to_string(),
        Ok(mut store) => store.commit(&[submit(9_999, "ship1", 9_999)]).unwrap_err().to_string(),
    };
    assert!(told.contains("damaged"), "{told}");
}

#[test]
fn a_directory_that_is_missing_or_closed_is_named() {
    let folder = folder();
    let error = Store::open(&folder.path().join("nowhere")).unwrap_err();
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(Store::open(&file).is_err());
}

#[test]
fn a_store_that_loses_its_log_is_an_old_copy_and_not_a_new_store() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    let epoch = store.epoch();
    let lane = message(1, "ship1").lane();
    store.commit(&[Write::OutLane(OutLaneRow { lane, last: Seq(1), sent: Seq(0), lost: Seq(0) })]).unwrap();
    assert_eq!(store.commits(), 1);
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("steward.db"), copy.path().join("steward.db")).unwrap();
    let without_log = Store::open(copy.path()).unwrap();
    assert_eq!((without_log.epoch(), without_log.commits()), (epoch, 0));
    store.close();
    let closed = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("steward.db"), closed.path().join("steward.db")).unwrap();
    assert_eq!(Store::open(closed.path()).unwrap().commits(), 1);
}
