//! What was told of an order is there once, the newest of it counts, and it goes with its order, or by itself when it is old.

use std::time::Duration;

use protocol::message::{MessageId, Options, Seq};
use protocol::name::{MethodName, NodeName};
use protocol::outcome::{Final, Outcome, Stream};
use protocol::step::Write;
use protocol::time::Wall;

use super::super::*;
use super::message;
use crate::methods::SCHEDULE;
use crate::methods::schedule::told::{Received, RunTold, Told};

fn order(id: u128, reply: Option<&str>) -> Write {
    let reply = reply.map(|how| format!(r#"{{"replyMethod":"{how}","directory":"a","fileName":"b"}}"#).into());
    let method = MethodName::new(SCHEDULE).unwrap();
    let body = r#"["{\"every\":\"5m\"}","ShellCommand","df","-h"]"#.into();
    let message = Message { method, body, options: Options { reply, ..Options::default() }, ..message(id, "ship1") };
    Write::Submit { message, seq: Seq(u64::try_from(id).unwrap()) }
}

fn ends(id: u128, state: Final) -> Write {
    let outcome = std::sync::Arc::new(Outcome::bare(state, None, Wall(5_000)));
    Write::End { id: MessageId(id), attempts: 1, history: Vec::new(), outcome }
}

fn given(reader: &Reader, id: u128, to: &str) -> Option<OrderRow> {
    reader.order(MessageId(id), &NodeName::new(to).unwrap()).unwrap()
}

/// What is told of an order: its `serial`, and a run with its output.
fn told(order: OrderRow, serial: u64, run: Option<(u64, &[u8])>) -> Note {
    let run_told = run.map(|(number, _)| RunTold {
        number,
        due_ms: 10 * number,
        started_ms: 10 * number + 1,
        finished_ms: 10 * number + 2,
        state: "failed".to_owned(),
        reason: Some("why".to_owned()),
        exit_code: Some(3),
        signal: None,
        truncated: true,
        base64: [false; 2],
    });
    let told = Told {
        v: 1,
        order: String::new(),
        serial,
        at_ms: serial,
        next_ms: Some(serial * 100),
        runs: serial,
        missed: 2 * serial,
        paused: serial == 3,
        run: run_told,
    };
    let written = [run.map(|(_, out)| out.to_vec()).unwrap_or_default(), b"err".to_vec()];
    let state = run.map(|_| Final::Failed);
    let result = Received { order: MessageId(1), told, state, written };
    Note::Result(Box::new(ResultRow { order, received: Wall(1_000 * serial), result }))
}

#[test]
fn a_result_is_there_once_and_the_newest_word_of_its_order_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    store.commit(&[order(1, Some("fileAppend")), order(2, None), super::submit(3, "ship1", 3)]).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let (one, two) = (given(&reader, 1, "ship1").unwrap(), given(&reader, 2, "ship1").unwrap());
    assert!(given(&reader, 1, "ship2").is_none() && given(&reader, 3, "ship1").is_none(), "of another, and no order");
    store
        .note(vec![told(one, 1, Some((1, b"\xff\0out"))), told(one, 3, Some((2, b"two"))), told(one, 2, None)])
        .unwrap();
    assert!(store.take_due());
    store.note(vec![told(one, 9, Some((1, b"again"))), told(two, 1, None)]).unwrap();
    assert!(!store.take_due(), "what is there already is not due once more");
    let orders = reader.schedules(Some("ship1")).unwrap();
    let seen: Vec<_> =
        orders.iter().map(|order| (order.runs, order.missed, order.paused, order.data.join(" "))).collect();
    assert_eq!(seen, [(9, 18, false, "df -h".to_owned()), (1, 2, false, "df -h".to_owned())]);
    assert_eq!((orders[0].schedule.as_str(), orders[0].last_state.as_deref()), ("every 5m", Some("failed")));
    assert!(reader.schedules(Some("ship2")).unwrap().is_empty());
    let results = reader.schedule_results(MessageId(1), 9).unwrap();
    let seen: Vec<_> = results.iter().map(|result| (result.run, result.stdout_bytes, &*result.stdout)).collect();
    assert_eq!(seen, [(1, 5, "\u{fffd}\0out"), (2, 3, "two")]);
    assert_eq!((results[0].exit_code, results[0].truncated, results[0].reply.as_deref()), (Some(3), true, Some("due")));
    assert_eq!(reader.schedule_results(MessageId(1), 1).unwrap()[0].run, 2, "the newest");
    let due = reader.replies_due(0, 9).unwrap();
    let seen: Vec<_> = due.iter().map(|due| (due.id.0, due.of, due.has_result)).collect();
    assert_eq!(seen, [(1, ReplyOf::Run(1), true), (1, ReplyOf::Run(2), true)]);
    assert_eq!(reader.result_output(due[0].row, Stream::Stdout).unwrap().unwrap(), b"\xff\0out");
    assert_eq!(reader.result_output(due[1].row, Stream::Stderr).unwrap().unwrap(), b"err");
    // The order itself has no result, and what is taken back may still be told of; what ended otherwise may not.
    store.commit(&[ends(1, Final::Cancelled), ends(2, Final::Interrupted)]).unwrap();
    assert!(!store.take_due() && given(&reader, 1, "ship1").is_some() && given(&reader, 2, "ship1").is_none());
    assert!(reader.schedules(None).unwrap().is_empty());
}

#[test]
fn what_is_not_kept_leaves_its_state_and_what_is_old_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    store.commit(&[order(1, Some("none")), order(2, Some("file"))]).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let (one, two) = (given(&reader, 1, "ship1").unwrap(), given(&reader, 2, "ship1").unwrap());
    store.note((1..=300).map(|run| told(one, run, Some((run, b"gone")))).collect()).unwrap();
    assert!(!store.take_due());
    let first = &reader.schedule_results(MessageId(1), 1000).unwrap()[0];
    assert_eq!((first.state.as_str(), first.stdout_bytes, &first.reply), ("failed", 0, &None));
    store.note(vec![told(two, 1, Some((1, b"kept")))]).unwrap();
    let retention = Retention { keep: Duration::from_secs(100), ..Retention::default() };
    let left = |id: u128| reader.schedule_results(MessageId(id), 1000).unwrap().len();
    while store.prune(&retention, Wall(200_000)).unwrap().more {}
    assert_eq!((left(1), left(2)), (200, 1), "those of the first 100 seconds go, unless something is still to be done");
    let row = reader.replies_due(0, 9).unwrap()[0].row;
    store.note(vec![Note::Reply(ReplyStep { row, progress: ReplyProgress::Done })]).unwrap();
    assert_eq!(reader.schedule_results(MessageId(2), 9).unwrap()[0].reply.as_deref(), Some("done"));
    while store.prune(&retention, Wall(200_000)).unwrap().more {}
    assert_eq!((left(1), left(2)), (200, 0));
    store.commit(&[ends(1, Final::Cancelled)]).unwrap();
    while store.prune(&retention, Wall(200_000)).unwrap().more {}
    assert_eq!(left(1), 0, "an order takes its results with it");
    let rows = |table: &str| -> i64 {
        store.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!((rows("schedule_results"), rows("schedules"), rows("replies")), (0, 1, 1));
}
