//! What the writer keeps, sums up and loses.

use super::*;

fn state(dir: &std::path::Path) -> State {
    let (chain, _) = Chain::open(dir).unwrap();
    State::new(chain)
}

fn records(event: &'static str, count: u64, at_ms: u64) -> Vec<Record> {
    (0..count).map(|_| Record { at: protocol::time::Wall(at_ms), event, ..Record::default() }).collect()
}

fn events(dir: &std::path::Path) -> Vec<(String, Option<u64>)> {
    let view = |line: Result<_, _>| {
        let (_, _, view): (_, _, super::super::LineView) = Result::<_, super::super::read::Broken>::unwrap(line);
        (view.event, view.rest.get("count").and_then(serde_json::Value::as_u64))
    };
    super::super::lines(dir).map(view).collect()
}

#[test]
fn a_flood_of_refusals_pushes_nothing_out() {
    let dir = tempfile::tempdir().unwrap();
    let now = clock::wall().0;
    let (state, written, lost) = state(dir.path()).write(records("refused", REFUSALS_MAX + 7, now), false);
    assert_eq!((written, lost), (REFUSALS_MAX, 0));
    let (_, written, _) = state.write(records("refused", 1, now + REFUSALS_SPAN_MS), false);
    assert_eq!(written, 2);
    let told = events(dir.path());
    assert_eq!(told[told.len() - 2..], [("summed".to_owned(), Some(7)), ("refused".to_owned(), None)]);
}

#[tokio::test]
async fn what_nobody_waits_for_goes_out_together_and_what_somebody_waits_for_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let settings = super::super::Settings { scope: Scope::All, data: super::super::DataForm::Full };
    let (audit, mut waiting) = Audit::new(protocol::name::NodeName::new("ship1").unwrap(), settings);
    let writer = Writer::new(audit.clone(), dir.path().to_owned(), Waiting(tokio::sync::mpsc::channel(1).1));
    let end = CancellationToken::new();
    for record in records("sent", 3, 1) {
        audit.add(record);
    }
    let mut group = Vec::new();
    writer.gather(&mut waiting, &mut group, &end).await;
    assert_eq!((group.len(), audit.shared.queued.load(Ordering::Relaxed)), (3, 0));
    // Somebody who waits ends the gathering, whatever the clock says.
    audit.add(Record::default());
    let (written, _answer) = tokio::sync::oneshot::channel();
    let mut group = Vec::new();
    let more = async {
        tokio::task::yield_now().await;
        assert!(audit.hand_over(records("started", 2, 1), Wait::Written(written)));
    };
    tokio::join!(writer.gather(&mut waiting, &mut group, &end), more);
    assert_eq!(group.iter().map(|entry| entry.records.len()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(audit.shared.queued.load(Ordering::Relaxed), 0);
}

#[test]
fn lines_without_room_are_counted_and_all_that_has_room_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let settings = super::super::Settings { scope: Scope::All, data: super::super::DataForm::Full };
    let (audit, mut waiting) = Audit::new(protocol::name::NodeName::new("ship1").unwrap(), settings);
    assert!(audit.hand_over(records("sent", QUEUE_MAX as u64, 1), Wait::Nobody));
    assert!(!audit.hand_over(records("sent", 2, 1), Wait::Nobody));
    assert_eq!(audit.take_lost(), 2);
    let records = waiting.0.try_recv().unwrap().records;
    assert_eq!(state(dir.path()).write(records, false).1, QUEUE_MAX as u64);
}

#[test]
fn what_a_full_disk_does_not_take_is_kept_and_what_is_beyond_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = state(dir.path());
    state.chain.fill_disk(true);
    let (mut state, written, lost) = state.write(records("sent", KEPT_MAX as u64 + 5, 1), false);
    assert_eq!((written, lost), (0, 5));
    assert!(state.is_failing);
    state.chain.fill_disk(false);
    let (state, written, _) = state.write(Vec::new(), true);
    assert_eq!((written, state.is_failing), (KEPT_MAX as u64, false));
    let (_, written, _) = state.write(Vec::new(), true);
    assert_eq!(written, 1);
    assert_eq!(events(dir.path()).last(), Some(&("lost".to_owned(), Some(5))));
    assert!(super::super::verify(dir.path(), None).is_ok());
}

#[test]
fn whoever_keeps_a_line_is_told_when_it_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = state(dir.path());
    let (waits, mut told) = oneshot::channel();
    state.owed.push(waits);
    state.chain.fill_disk(true);
    let (mut state, ..) = state.write(records("invited", 1, 1), true);
    assert!(state.is_failing && told.try_recv().is_err());
    state.chain.fill_disk(false);
    let (state, ..) = state.write(Vec::new(), false);
    assert!(state.chain.is_dirty && told.try_recv().is_err());
    let (state, ..) = state.write(Vec::new(), true);
    assert!(!state.chain.is_dirty && told.try_recv().is_ok());
    assert_eq!(events(dir.path()).len(), 1);
}

#[test]
fn what_was_done_to_a_fleet_stays_where_it_is_while_there_is_no_room_for_it() {
    let settings = |scope| super::super::Settings { scope, data: super::super::DataForm::Full };
    let name = protocol::name::NodeName::new("central").unwrap();
    let (audit, mut waiting) = Audit::new(name.clone(), settings(Scope::Commands));
    let act = || super::super::Act {
        at: protocol::time::Wall(1),
        deed: super::super::Deed::Invited,
        node: None,
        reason: None,
        about: serde_json::json!({}),
        by: None,
    };
    assert!(audit.hand_over(records("sent", QUEUE_MAX as u64, 1), Wait::Nobody));
    assert!(audit.acts(vec![act()]).is_none());
    assert_eq!(audit.take_lost(), 0);
    audit.shared.queued.store(0, Ordering::Relaxed);
    audit.shared.is_failing.store(true, Ordering::Relaxed);
    assert!(audit.acts(vec![act()]).is_none());
    audit.shared.is_failing.store(false, Ordering::Relaxed);
    waiting.0.try_recv().unwrap();
    let mut told = audit.acts(vec![act()]).unwrap();
    assert!(told.try_recv().is_err());
    assert_eq!(waiting.0.try_recv().unwrap().records[0].event, "invited");
    let (nothing, _waiting) = Audit::new(name, settings(Scope::Nothing));
    assert!(nothing.acts(vec![act()]).unwrap().try_recv().is_ok());
}
