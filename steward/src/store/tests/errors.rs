//! The table of errors: what goes in comes out in its order, once, and not without a limit.

use super::*;
use crate::store::errors::{ERRORS_KEPT_MAX, ErrorFilter, ErrorRow};
use crate::store::reader::Reader;
use crate::view::ErrorView;

fn error(id: u128, item: u32, node: &str, received: u64) -> ErrorRow {
    let text = format!("error {id}.{item}");
    ErrorRow { id: MessageId(id), item, node: node.to_owned(), at: Wall(7), received: Wall(received), text }
}

/// Notes errors.
fn note(store: &mut Store, errors: &[ErrorRow]) {
    store.note(errors.iter().cloned().map(crate::store::Note::Error).collect()).unwrap();
}

fn texts(errors: &[ErrorView]) -> Vec<&str> {
    errors.iter().map(|error| &*error.text).collect()
}

fn all() -> ErrorFilter {
    ErrorFilter { limit: 1_000_000, ..ErrorFilter::default() }
}

#[test]
fn errors_come_out_as_they_came_in_and_each_of_them_once() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    note(&mut store, &[error(5, 0, "ship1", 100), error(5, 1, "ship1", 100), error(3, 0, "ship2", 200)]);
    // The message is handled again after a crash, and one of another node has the same id.
    note(&mut store, &[error(5, 0, "ship1", 300), error(5, 1, "ship1", 300), error(5, 0, "ship2", 300)]);
    note(&mut store, &[]);
    let reader = Reader::open(folder.path()).unwrap();
    let found = reader.errors(&all()).unwrap();
    assert_eq!(texts(&found), ["error 5.0", "error 5.1", "error 3.0", "error 5.0"]);
    let first = ErrorView {
        at: "1970-01-01T00:00:00.007Z".into(),
        received_at: "1970-01-01T00:00:00.100Z".into(),
        node: "ship1".into(),
        text: "error 5.0".into(),
        id: MessageId(5).to_string(),
    };
    assert_eq!(found[0], first);
    let of_ship2 = ErrorFilter { node: Some("ship2".into()), ..all() };
    assert_eq!(texts(&reader.errors(&of_ship2).unwrap()), ["error 3.0", "error 5.0"]);
    let late = ErrorFilter { since_ms: Some(200), ..all() };
    assert_eq!(texts(&reader.errors(&late).unwrap()), ["error 3.0", "error 5.0"]);
    let newest = ErrorFilter { limit: 1, ..all() };
    assert_eq!(texts(&reader.errors(&newest).unwrap()), ["error 5.0"]);
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn whatever_the_error_is(id: u128, item: u32, node in any::<String>(), at in walls(), text in any::<String>()) {
        let folder = folder();
        let mut store = Store::open(folder.path()).unwrap();
        let at = Wall(at.0 % 253_402_300_799_999);
        note(&mut store, &[ErrorRow { id: MessageId(id), item, node: node.clone(), at, received: at, text: text.clone() }]);
        let found = Reader::open(folder.path()).unwrap().errors(&all()).unwrap().remove(0);
        prop_assert_eq!((found.node, found.at, found.id), (node, crate::clock::rfc3339(at), MessageId(id).to_string()));
        prop_assert!(found.text == text || (text.len() > 2048 && text.starts_with(found.text.trim_end_matches(" …"))));
    }
}

#[test]
fn the_oldest_go_by_number_and_by_age_and_long_texts_are_cut() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    let many: Vec<ErrorRow> = (0..51_000).map(|id| error(id, 0, "ship1", u64::try_from(id).unwrap())).collect();
    for part in many.chunks(10_000) {
        note(&mut store, part);
    }
    let reader = Reader::open(folder.path()).unwrap();
    let found = reader.errors(&all()).unwrap();
    assert_eq!((found.len(), &*found[0].text), (usize::try_from(ERRORS_KEPT_MAX).unwrap(), "error 1000.0"));
    let retention = Retention { keep: Duration::from_millis(1000), bytes_max: u64::MAX };
    while store.prune(&retention, Wall(3500)).unwrap().more {}
    let found = reader.errors(&all()).unwrap();
    assert_eq!(&*found[0].text, "error 2501.0", "what came in until 2500 is older than may be");
    note(&mut store, &[ErrorRow { text: "ä".repeat(10_000), ..error(60_000, 0, "ship1", 1) }]);
    let last = reader.errors(&ErrorFilter { limit: 1, ..all() }).unwrap().remove(0);
    assert!(last.text.ends_with('…') && last.text.len() < 2100, "{}", last.text.len());
}

/// A store of the version before there were errors.
#[test]
fn a_store_without_errors_gets_room_for_them_and_keeps_what_it_has() {
    let folder = folder();
    let mut store = Store::open(folder.path()).unwrap();
    store.commit(&[submit(1, "ship1", 1), out_lane("ship1", 1)]).unwrap();
    let (epoch, commits) = (store.epoch(), store.commits());
    let first = "'meta', 'names', 'out_lanes', 'outbox', 'progress', 'inbox', 'in_lanes', 'peers'";
    let later = format!("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ({first})");
    let tables = |connection: &Connection| -> rusqlite::Result<Vec<String>> {
        connection.prepare(&later)?.query_map([], |row| row.get(0))?.collect()
    };
    let later = tables(&store.connection).unwrap();
    for table in later {
        store.connection.execute_batch(&format!("DROP TABLE {table}")).unwrap();
    }
    for column in ["wire_out", "wire_in"] {
        store.connection.execute_batch(&format!("ALTER TABLE progress DROP COLUMN {column}")).unwrap();
    }
    store.connection.execute_batch("PRAGMA user_version = 1").unwrap();
    drop(store);
    let error_of_reader = Reader::open(folder.path()).unwrap_err();
    assert!(matches!(error_of_reader, OpenError::Older { found: 1, .. }), "{error_of_reader}");
    let mut store = Store::open(folder.path()).unwrap();
    assert_eq!((store.epoch(), store.commits()), (epoch, commits));
    note(&mut store, &[error(1, 0, "ship1", 1)]);
    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(reader.errors(&all()).unwrap().len(), 1);
    let newest = crate::engine::Filter { limit: 10, ..crate::engine::Filter::default() };
    assert_eq!(reader.list(&newest).unwrap().len(), 1);
}
