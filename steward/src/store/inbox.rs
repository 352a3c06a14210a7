//! What this node has accepted from others, until its sender has confirmed the result.

use std::sync::Arc;

use protocol::event::Ticket;
use protocol::message::{Body, Epoch, Message};
use protocol::step::{InState, InboxRow};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{
    RUNNING, STORED, bad, bind_outcome, bits, final_code, final_state, id, id_bytes, kind, kind_code, millis, options,
    options_columns, ordered, outcome, ticket, unbits, wall,
};
use super::error::{CommitError, ReadError};
use super::names::{Interned, Names};

/// What a batch does to one message of the inbox, all of it at once.
#[derive(Debug, Default)]
pub(super) struct Change<'a> {
    /// It is new.
    pub(super) accept: Option<&'a InboxRow>,
    /// Its latest state.
    pub(super) state: Option<InState>,
    /// It goes.
    pub(super) forget: bool,
}

impl Change<'_> {
    /// Whether it does not run any more.
    pub(super) fn has_ended(&self) -> bool {
        self.forget || matches!(self.state, Some(InState::Finished(_)))
    }
}

/// Makes the change. What comes and goes in one batch leaves no trace.
pub(super) fn apply(
    connection: &Connection,
    names: &mut Names,
    ticket: Ticket,
    change: &Change<'_>,
) -> Result<(), CommitError> {
    let key = ordered("ticket", ticket.0)?;
    if change.forget {
        if change.accept.is_none() {
            connection.prepare_cached("DELETE FROM inbox WHERE ticket = ?1")?.execute([key])?;
        }
        return Ok(());
    }
    let Some(row) = change.accept else {
        return Ok(change.state.iter().try_for_each(|state| put_state(connection, key, state))?);
    };
    let state = change.state.as_ref().unwrap_or(&row.state);
    insert(connection, names, key, row, state)?;
    if matches!(state, InState::Finished(_)) {
        put_state(connection, key, state)?;
    }
    Ok(())
}

/// Adds a message that is not finished; most are started in the batch that brings them.
fn insert(
    connection: &Connection,
    names: &mut Names,
    key: i64,
    row: &InboxRow,
    state: &InState,
) -> Result<(), CommitError> {
    let (state, started) = match state {
        InState::Running(at) => (RUNNING, Some(millis(*at))),
        InState::Stored | InState::Finished(_) => (STORED, None),
    };
    let message = &row.message;
    let (sender, receiver) = (names.id(connection, message.from.as_str())?, names.id(connection, message.to.as_str())?);
    let method = names.id(connection, message.method.as_str())?;
    let (timeout, retries, method_timeout, deadline, flags) = options_columns(&message.options);
    let mut statement = connection.prepare_cached(
        "INSERT INTO inbox (ticket, id, epoch, seq, prev, sender, receiver, kind, method, state, created, timeout_ms,
             retries, method_timeout_ms, deadline, flags, body, started)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?17, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?18)",
    )?;
    statement.raw_bind_parameter(1, key)?;
    statement.raw_bind_parameter(2, id_bytes(message.id))?;
    statement.raw_bind_parameter(3, bits(row.epoch.0))?;
    statement.raw_bind_parameter(4, bits(row.seq.0))?;
    statement.raw_bind_parameter(5, bits(row.prev.0))?;
    statement.raw_bind_parameter(6, sender)?;
    statement.raw_bind_parameter(7, receiver)?;
    statement.raw_bind_parameter(8, kind_code(message.kind))?;
    statement.raw_bind_parameter(9, method)?;
    statement.raw_bind_parameter(10, millis(message.created))?;
    statement.raw_bind_parameter(11, timeout)?;
    statement.raw_bind_parameter(12, retries)?;
    statement.raw_bind_parameter(13, method_timeout)?;
    statement.raw_bind_parameter(14, deadline)?;
    statement.raw_bind_parameter(15, flags)?;
    statement.raw_bind_parameter(16, &*message.body)?;
    statement.raw_bind_parameter(17, state)?;
    statement.raw_bind_parameter(18, started)?;
    statement.raw_execute()?;
    Ok(())
}

fn put_state(connection: &Connection, key: i64, state: &InState) -> rusqlite::Result<()> {
    match state {
        InState::Stored => {
            connection.prepare_cached("UPDATE inbox SET state = 1 WHERE ticket = ?1")?.execute([key])?;
        }
        InState::Running(at) => {
            let mut statement =
                connection.prepare_cached("UPDATE inbox SET state = 2, started = ?2 WHERE ticket = ?1")?;
            statement.execute(params![key, millis(*at)])?;
        }
        InState::Finished(outcome) => {
            let mut statement = connection.prepare_cached(
                "UPDATE inbox SET state = ?2, reason = ?3, exit_code = ?4, signal = ?5, started = ?6, finished = ?7,
                     out_len = ?8, out_hash = ?9, out_cut = ?10, out_text = ?11,
                     err_len = ?12, err_hash = ?13, err_cut = ?14, err_text = ?15
                 WHERE ticket = ?1",
            )?;
            statement.raw_bind_parameter(1, key)?;
            statement.raw_bind_parameter(2, final_code(outcome.state))?;
            bind_outcome(&mut statement, 3, outcome)?;
            statement.raw_execute()?;
        }
    }
    Ok(())
}

/// The columns that [`inbox_row`] reads, without `body`.
pub(super) const COLUMNS: &str = "i.ticket, i.id, i.epoch, i.seq, i.prev, s.name, r.name, i.kind, m.name, i.state,
    i.created, i.timeout_ms, i.retries, i.method_timeout_ms, i.deadline, i.flags, i.reason, i.exit_code, i.signal,
    i.started, i.finished, i.out_len, i.out_hash, i.out_cut, i.out_text, i.err_len, i.err_hash, i.err_cut, i.err_text";

/// Where the columns come from.
pub(super) const FROM: &str = "FROM inbox i JOIN names s ON s.id = i.sender JOIN names r ON r.id = i.receiver
    JOIN names m ON m.id = i.method";

/// The number of [`COLUMNS`], and the place of a `body` after them.
pub(super) const BODY_AT: usize = 29;

/// A row of the inbox, with the body that it is given.
pub(super) fn inbox_row(row: &Row<'_>, names: &mut Interned, body: Body) -> rusqlite::Result<InboxRow> {
    let message = Message {
        id: id(row, 1)?,
        from: names.node(row, 5)?,
        to: names.node(row, 6)?,
        kind: kind(row, 7)?,
        method: names.method(row, 8)?,
        created: wall(row, 10)?,
        options: options(row, 11)?,
        body,
    };
    let state = match row.get(9)? {
        STORED => InState::Stored,
        RUNNING => InState::Running(wall(row, 19)?),
        code => {
            let ended = final_state(code)
                .ok_or_else(|| bad(9, rusqlite::types::Type::Integer, format!("{code} is no state of the inbox")))?;
            InState::Finished(Arc::new(outcome(row, 16, ended)?))
        }
    };
    Ok(InboxRow {
        ticket: ticket(row, 0)?,
        epoch: Epoch(unbits(row.get(2)?)),
        seq: protocol::message::Seq(unbits(row.get(3)?)),
        prev: protocol::message::Seq(unbits(row.get(4)?)),
        message,
        state,
    })
}

/// The whole inbox in order of tickets, without bodies.
pub(super) fn read(connection: &Connection, names: &mut Interned) -> rusqlite::Result<Vec<InboxRow>> {
    let nothing: Body = Arc::from("");
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} {FROM} ORDER BY i.ticket"))?;
    let rows = statement.query_map([], |row| inbox_row(row, names, nothing.clone()))?;
    rows.collect()
}

/// One row of the inbox, whole.
pub(super) fn get(connection: &Connection, ticket: Ticket) -> Result<Option<InboxRow>, ReadError> {
    let Ok(key) = i64::try_from(ticket.0) else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS}, i.body {FROM} WHERE i.ticket = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut names = Interned::default();
    let row = statement.query_row([key], |row| inbox_row(row, &mut names, row.get(BODY_AT)?));
    Ok(row.optional()?)
}
