//! What this node owes to others: every message that it has accepted, until long after it has ended.
//!
//! A row is written once; afterwards only `state` and `cancel` change. How far the message has come is in `progress`.

use protocol::event::Queued;
use protocol::message::{Message, MessageId, Seq};
use protocol::name::Lane;
use protocol::outcome::Final;
use protocol::time::Wall;
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::columns::{
    OPEN, final_code, final_state, id, id_bytes, maybe_wall, millis, options, options_columns, ordered, seq, wall,
};
use super::error::{CommitError, ReadError};
use super::names::Interned;
use super::progress::history;

/// Where a message of the outbox is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its lane.
    pub(crate) lane: Lane,
    /// Its number there.
    pub(crate) seq: Seq,
    /// Its final state, if it has ended.
    pub(crate) ended: Option<Final>,
}

/// Messages whose deadline has passed, and the earliest deadline of the others.
pub(crate) type Due = (Vec<(MessageId, Lane, Seq)>, Option<Wall>);

/// The statement that [`insert`] needs.
pub(super) const INSERT: &str =
    "INSERT INTO outbox (id, lane, seq, state, cancel, sender, created, timeout_ms, retries,
    method_timeout_ms, deadline, flags, body) VALUES (?1, ?2, ?3, 10, 0, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

/// Adds a message; `lane` and `sender` are their numbers.
pub(super) fn insert(
    statement: &mut Statement<'_>,
    message: &Message,
    seq: Seq,
    lane: i64,
    sender: i64,
) -> Result<(), CommitError> {
    let (timeout, retries, method_timeout, deadline, flags) = options_columns(&message.options);
    statement.raw_bind_parameter(1, id_bytes(message.id))?;
    statement.raw_bind_parameter(2, lane)?;
    statement.raw_bind_parameter(3, ordered("lane number", seq.0)?)?;
    statement.raw_bind_parameter(4, sender)?;
    statement.raw_bind_parameter(5, millis(message.created))?;
    statement.raw_bind_parameter(6, timeout)?;
    statement.raw_bind_parameter(7, retries)?;
    statement.raw_bind_parameter(8, method_timeout)?;
    statement.raw_bind_parameter(9, deadline)?;
    statement.raw_bind_parameter(10, flags)?;
    statement.raw_bind_parameter(11, &*message.body)?;
    match statement.raw_execute() {
        Ok(_) => Ok(()),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
            Err(CommitError::Duplicate(message.id))
        }
        Err(error) => Err(error.into()),
    }
}

/// The statement that [`row_of`] needs. It looks into the index only.
pub(super) const ROW: &str = "SELECT row FROM outbox WHERE id = ?1";

/// The row of a message that is in the outbox.
pub(super) fn row_of(statement: &mut Statement<'_>, message: MessageId) -> rusqlite::Result<Option<i64>> {
    statement.query_row([id_bytes(message)], |row| row.get(0)).optional()
}

/// The statement that [`end`] needs.
pub(super) const END: &str = "UPDATE outbox SET state = ?2 WHERE row = ?1 AND state = 10";

/// Marks a message as ended. Says whether it was not before: the first end stands.
pub(super) fn end(statement: &mut Statement<'_>, row: i64, state: Final) -> rusqlite::Result<bool> {
    statement.execute(params![row, final_code(state)]).map(|changed| changed > 0)
}

/// Whether the message in this row is open.
pub(super) fn is_open(connection: &Connection, row: i64) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("SELECT state FROM outbox WHERE row = ?1")?;
    let state: Option<i64> = statement.query_row([row], |row| row.get(0)).optional()?;
    Ok(state == Some(OPEN))
}

/// Notes that its cancellation is wanted.
pub(super) fn cancel(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE outbox SET cancel = 1 WHERE row = ?1")?.execute([row])?;
    Ok(())
}

/// The next messages of a lane that are not final, in order; see [`Effect::Load`](protocol::step::Effect::Load).
pub(super) fn load(
    connection: &Connection,
    (lane, lane_id): (&Lane, i64),
    after: Seq,
    (messages_max, bytes_max): (usize, usize),
) -> Result<(Vec<Queued>, bool), ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT o.id, o.seq, o.cancel, n.name, o.created, o.timeout_ms, o.retries, o.method_timeout_ms, o.deadline,
             o.flags, p.attempts, p.history, o.body
         FROM outbox o CROSS JOIN names n ON n.id = o.sender LEFT JOIN progress p ON p.row = o.row
         WHERE o.lane = ?1 AND o.state = 10 AND o.seq > ?2 ORDER BY o.seq",
    )?;
    // Behind the largest number there is nothing.
    let after = i64::try_from(after.0).unwrap_or(i64::MAX);
    let mut rows = statement.query([lane_id, after])?;
    let (mut found, mut bytes, mut names) = (Vec::new(), 0usize, Interned::default());
    while let Some(row) = rows.next()? {
        if found.len() >= messages_max {
            return Ok((found, true));
        }
        let queued = queued(row, lane, &mut names)?;
        bytes = bytes.saturating_add(queued.message.body.len());
        if bytes > bytes_max && !found.is_empty() {
            return Ok((found, true));
        }
        found.push(queued);
    }
    Ok((found, false))
}

fn queued(row: &Row<'_>, lane: &Lane, names: &mut Interned) -> rusqlite::Result<Queued> {
    let message = Message {
        id: id(row, 0)?,
        from: names.node(row, 3)?,
        to: lane.peer.clone(),
        kind: lane.kind,
        method: lane.method.clone(),
        created: wall(row, 4)?,
        options: options(row, 5)?,
        body: row.get(12)?,
    };
    let attempts: Option<u32> = row.get(10)?;
    Ok(Queued {
        message,
        seq: seq(row, 1)?,
        attempts: attempts.unwrap_or(0),
        cancel: row.get(2)?,
        history: history(row, 11)?,
    })
}

/// Messages that are neither final nor sent and whose deadline is not after `until`, the earliest first, and the deadline
/// of the next.
pub(super) fn sweep(connection: &Connection, until: Wall, limit: usize) -> Result<Due, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT o.id, o.seq, l.peer, l.kind, l.method, o.deadline FROM outbox o CROSS JOIN out_lanes l ON l.id = o.lane
         WHERE o.state = 10 AND o.deadline IS NOT NULL AND o.seq > l.sent ORDER BY o.deadline",
    )?;
    let (mut due, mut names) = (Vec::new(), Interned::default());
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let deadline = wall(row, 5)?;
        if deadline > until || due.len() >= limit {
            return Ok((due, Some(deadline)));
        }
        due.push((id(row, 0)?, names.lane(row, 2)?, seq(row, 1)?));
    }
    Ok((due, None))
}

/// The earliest deadline of what is not final.
pub(super) fn next_deadline(connection: &Connection) -> rusqlite::Result<Option<Wall>> {
    let sql = "SELECT min(deadline) FROM outbox WHERE state = 10 AND deadline IS NOT NULL";
    connection.query_row(sql, [], |row| maybe_wall(row, 0))
}

/// Where a message is.
pub(super) fn find(connection: &Connection, message: MessageId) -> Result<Option<Found>, ReadError> {
    let mut statement = connection.prepare_cached(
        "SELECT l.peer, l.kind, l.method, o.seq, o.state FROM outbox o CROSS JOIN out_lanes l ON l.id = o.lane
         WHERE o.id = ?1",
    )?;
    let mut names = Interned::default();
    let found = statement.query_row([id_bytes(message)], |row| {
        Ok(Found { lane: names.lane(row, 0)?, seq: seq(row, 3)?, ended: final_state(row.get(4)?) })
    });
    Ok(found.optional()?)
}
