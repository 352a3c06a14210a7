//! What is to be done with a result becomes due with the end, stays with its message until it is done, and goes with it.

use std::sync::Arc;
use std::time::Duration;

use protocol::message::{MessageId, Options, Seq};
use protocol::outcome::{Final, Outcome, Output};
use protocol::step::Write;
use protocol::time::Wall;

use super::super::*;
use super::message;

fn replying(id: u128, how: &str) -> Write {
    let reply = Some(format!(r#"{{"replyMethod":"{how}","directory":"a","fileName":"b"}}"#).into());
    let message = Message { options: Options { reply, ..Options::default() }, ..message(id, "ship1") };
    Write::Submit { message, seq: Seq(u64::try_from(id).unwrap()) }
}

fn ends(id: u128, state: Final, text: &str) -> Write {
    let inline = (!text.is_empty()).then(|| text.into());
    let stdout = Output { len: text.len() as u64, hash: [1; 32], truncated: false, inline };
    let outcome = Outcome { stdout, ..Outcome::bare(state, None, Wall(5_000)) };
    Write::End { id: MessageId(id), attempts: 1, history: Vec::new(), outcome: Arc::new(outcome) }
}

#[test]
fn a_result_is_due_with_the_end_and_its_message_stays_until_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    store.commit(&[super::submit(9, "ship1", 9)]).unwrap();
    store.commit(&[replying(1, "file"), replying(2, "fileAppend"), replying(3, "none"), replying(4, "file")]).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    assert!(!store.take_due() && reader.replies_due(0, 9).unwrap().is_empty());
    store
        .commit(&[
            ends(9, Final::Done, "x"),
            ends(1, Final::Done, ""),
            ends(2, Final::Interrupted, ""),
            ends(3, Final::Done, "gone"),
        ])
        .unwrap();
    assert!(store.take_due() && !store.take_due());
    let due = reader.replies_due(0, 9).unwrap();
    let seen: Vec<_> = due.iter().map(|due| (due.id.0, due.has_result, due.mark)).collect();
    assert_eq!(seen, [(1, true, None), (2, false, None), (3, true, None)]);
    assert_eq!(reader.replies_due(due[1].row, 9).unwrap().len(), 1);
    let kept = reader.show(MessageId(3)).unwrap().unwrap();
    assert_eq!((kept.state.as_str(), kept.stdout.as_deref(), kept.stdout_bytes), ("done", Some(""), 0));
    let view = |id| reader.show(MessageId(id)).unwrap().unwrap().reply;
    assert_eq!(view(9), None);
    assert_eq!(view(4).unwrap().state, "waiting");

    // The first end stands: what is done is not due again.
    let mark = Mark { inode: u64::MAX, len: 7 };
    let step = |row, progress| Note::Reply(ReplyStep { row, progress });
    store.note(vec![step(due[0].row, ReplyProgress::Done), step(due[1].row, ReplyProgress::Marked(mark))]).unwrap();
    store.commit(&[ends(1, Final::Failed, "again")]).unwrap();
    assert_eq!(reader.replies_marked().unwrap(), [DueReply { mark: Some(mark), ..due[1].clone() }]);
    assert_eq!(view(1).unwrap().state, "done");

    drop(store);
    let mut store = Store::open(dir.path()).unwrap();
    assert!(store.take_due(), "a new process looks for what is due");
    let retention = Retention { keep: Duration::ZERO, ..Retention::default() };
    store.prune(&retention, Wall(1_000_000)).unwrap();
    assert!(view(2).is_some() && reader.show(MessageId(1)).unwrap().is_none(), "only what is done goes");
    store
        .note(vec![
            step(due[1].row, ReplyProgress::Unmarked("full".to_owned())),
            step(due[2].row, ReplyProgress::GivenUp("why".to_owned())),
        ])
        .unwrap();
    assert!(reader.replies_marked().unwrap().is_empty());
    assert_eq!(view(2).unwrap().note.as_deref(), Some("full"));
    store.note(vec![step(due[1].row, ReplyProgress::Done)]).unwrap();
    store.prune(&retention, Wall(1_000_000)).unwrap();
    let left: i64 = store.connection.query_row("SELECT count(*) FROM replies", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1, "the one that has not ended");
}
