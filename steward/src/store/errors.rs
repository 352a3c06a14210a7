//! The errors of all nodes, as they came in (R15): the table behind `steward errors`. Beside it the same errors stand in
//! `errorlog.log`, which is rotated by size; here the newest stay, up to a number and for as long as messages do.

use protocol::message::MessageId;
use protocol::time::Wall;
use rusqlite::{Connection, TransactionBehavior, params};

use super::columns::{id, id_bytes, millis, wall};
use super::error::{CommitError, ReadError};
use crate::clock::rfc3339;
use crate::view::ErrorView;

/// Errors that are kept; the oldest go when there are more.
pub(crate) const ERRORS_KEPT_MAX: i64 = 50_000;

/// Bytes of the text of an error that are kept; the whole of it stands in `errorlog.log`.
pub(crate) const ERROR_BYTES_MAX: usize = 2048;

/// Errors that one step of cleaning up removes at most.
const STEP_ERRORS: usize = 500;

/// An error of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorRow {
    /// The message that brought it, and its place among the errors in that message.
    pub(crate) id: MessageId,
    /// See `id`.
    pub(crate) item: u32,
    /// The node that it is about.
    pub(crate) node: String,
    /// When that node told it, by its own clock.
    pub(crate) at: Wall,
    /// When it came in here.
    pub(crate) received: Wall,
    /// What went wrong.
    pub(crate) text: String,
}

/// Which errors to list: the newest ones that match.
#[derive(Debug, Clone, Default)]
pub(crate) struct ErrorFilter {
    /// Only of this node.
    pub(crate) node: Option<String>,
    /// Only those that came in at or after this time, in milliseconds since the Unix epoch.
    pub(crate) since_ms: Option<u64>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// Adds errors, in one transaction; one that is there already is left as it is, so that a message that is handled again
/// after a crash doubles nothing. The oldest beyond [`ERRORS_KEPT_MAX`] go.
pub(super) fn add(connection: &mut Connection, rows: &[ErrorRow]) -> Result<(), CommitError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO errors (id, item, node, at, received, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
        )?;
        for row in rows {
            let text = cut(&row.text);
            insert.execute(params![
                id_bytes(row.id),
                row.item,
                row.node,
                millis(row.at),
                millis(row.received),
                text
            ])?;
        }
        let sql = "DELETE FROM errors WHERE row <= (SELECT max(row) FROM errors) - ?1";
        transaction.prepare_cached(sql)?.execute([ERRORS_KEPT_MAX])?;
    }
    Ok(transaction.commit()?)
}

/// Removes a few of those that came in at or before this time, the oldest first. Says whether there may be more.
pub(super) fn prune(connection: &Connection, cutoff: Wall) -> rusqlite::Result<bool> {
    let sql = format!(
        "DELETE FROM errors WHERE row IN
             (SELECT row FROM (SELECT row, received FROM errors ORDER BY row LIMIT {STEP_ERRORS}) WHERE received <= ?1)"
    );
    let removed = connection.prepare_cached(&sql)?.execute([millis(cutoff)])?;
    Ok(removed == STEP_ERRORS)
}

/// The newest that match, the oldest of them first: as they came in.
pub(super) fn list(connection: &Connection, filter: &ErrorFilter) -> Result<Vec<ErrorView>, ReadError> {
    let sql = "SELECT id, node, at, received, text FROM errors
         WHERE received >= ?1 AND (?2 IS NULL OR node = ?2) ORDER BY row DESC LIMIT ?3";
    let since = filter.since_ms.map_or(i64::MIN, |since| millis(Wall(since)));
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![since, filter.node, limit], |row| {
        Ok(ErrorView {
            at: rfc3339(wall(row, 2)?),
            received_at: rfc3339(wall(row, 3)?),
            node: row.get(1)?,
            text: row.get(4)?,
            id: id(row, 0)?.to_string(),
        })
    })?;
    let mut errors = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    errors.reverse();
    Ok(errors)
}

fn cut(text: &str) -> String {
    if text.len() <= ERROR_BYTES_MAX {
        return text.to_owned();
    }
    format!("{} …", &text[..text.floor_char_boundary(ERROR_BYTES_MAX)])
}
