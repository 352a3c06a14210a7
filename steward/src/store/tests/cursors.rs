//! A cursor is durable with what was read up to it, and goes with its run.

use std::sync::Arc;

use protocol::event::Ticket;
use protocol::message::MessageId;
use protocol::outcome::{Final, Outcome};
use protocol::step::Write;
use protocol::time::Wall;

use super::super::*;

fn cursor(name: CursorName, text: &str) -> Cursor {
    Cursor { name, text: text.to_owned() }
}

#[test]
fn a_cursor_is_kept_with_its_messages_or_neither_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (run, task) = (CursorName::Run(Ticket(7)), CursorName::Task("syslog"));
    store.commit_with(&[super::submit(1, "ship1", 1)], &[cursor(run, "10"), cursor(task, "a")]).unwrap();
    store.commit_with(&[], &[cursor(run, "20")]).unwrap();
    // The same message twice can't be: nothing of the transaction stays.
    assert!(store.commit_with(&[super::submit(1, "ship1", 2)], &[cursor(run, "30"), cursor(task, "b")]).is_err());
    drop(store);
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.cursor(&run).unwrap().as_deref(), Some("20"));
    assert_eq!(reader.cursor(&task).unwrap().as_deref(), Some("a"));
    assert_eq!(reader.cursor(&CursorName::Run(Ticket(8))).unwrap(), None);
}

#[test]
fn the_cursor_of_a_run_goes_with_its_end_and_no_other_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let names = [1, 2, 3].map(|ticket| CursorName::Run(Ticket(ticket)));
    store.commit_with(&[], &names.map(|name| cursor(name, "x"))).unwrap();
    drop(store);
    let mut store = Store::open(dir.path()).unwrap();
    let outcome = Arc::new(Outcome::bare(Final::Cancelled, None, Wall(5)));
    store.commit(&[Write::Ended { ticket: Ticket(1), outcome }, Write::Forget(Ticket(3))]).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let left = names.map(|name| reader.cursor(&name).unwrap().is_some());
    assert_eq!(left, [false, true, false]);
    assert!(store.find(MessageId(1)).unwrap().is_none());
}
