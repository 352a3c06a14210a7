//! What is known of a message of the outbox beyond that it was accepted: state, attempts, time line, and how it ended.
//! One row a message, with the number of its row in the outbox; none while there is nothing to tell.

use protocol::outcome::{Outcome, State};
use protocol::step::Moment;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::columns::{OUTCOME_COLUMNS, bad, bind_outcome, final_code, state_code};
use super::history::{decode, encode};
use crate::traffic::Bytes;

/// The statement that [`end`] needs.
pub(super) const END: &str = "INSERT INTO progress (row, state, attempts, history, reason, exit_code, signal,
    started, finished, out_len, out_hash, out_cut, out_text, err_len, err_hash, err_cut, err_text, wire_out, wire_in)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)
    ON CONFLICT (row) DO UPDATE SET state = excluded.state, attempts = excluded.attempts, history = excluded.history,
    reason = excluded.reason, exit_code = excluded.exit_code, signal = excluded.signal, started = excluded.started,
    finished = excluded.finished, out_len = excluded.out_len, out_hash = excluded.out_hash, out_cut = excluded.out_cut,
    out_text = excluded.out_text, err_len = excluded.err_len, err_hash = excluded.err_hash, err_cut = excluded.err_cut,
    err_text = excluded.err_text, wire_out = excluded.wire_out + ifnull(wire_out, 0),
    wire_in = excluded.wire_in + ifnull(wire_in, 0)";

/// Where the columns of the outcome begin in [`END`].
const OUTCOME_FROM: usize = 17 + 1 - OUTCOME_COLUMNS;

/// Where the bytes on the link are in [`END`]; what was written before is added.
const WIRE_FROM: usize = 18;

/// Writes how a message ended. An empty history keeps the stored one and adds the end to it.
pub(super) fn end(
    connection: &Connection,
    statement: &mut Statement<'_>,
    row: i64,
    (attempts, history, bytes): (u32, &[Moment], Bytes),
    outcome: &Outcome,
) -> rusqlite::Result<()> {
    let history = if history.is_empty() {
        let mut stored = stored_history(connection, row)?;
        stored.push(Moment { at: outcome.finished, state: State::Final(outcome.state), note: None });
        encode(&stored)
    } else {
        encode(history)
    };
    statement.raw_bind_parameter(1, row)?;
    statement.raw_bind_parameter(2, final_code(outcome.state))?;
    statement.raw_bind_parameter(3, attempts)?;
    statement.raw_bind_parameter(4, history)?;
    bind_outcome(statement, OUTCOME_FROM, outcome)?;
    statement.raw_bind_parameter(WIRE_FROM, stored(bytes.out))?;
    statement.raw_bind_parameter(WIRE_FROM + 1, stored(bytes.inward))?;
    statement.raw_execute()?;
    Ok(())
}

/// Writes how far a message has come.
pub(super) fn put(
    connection: &Connection,
    row: i64,
    state: &State,
    (attempts, moments, bytes): (u32, &[Moment], Bytes),
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO progress (row, state, attempts, history, wire_out, wire_in) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (row) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
        history = excluded.history, wire_out = excluded.wire_out + ifnull(wire_out, 0),
        wire_in = excluded.wire_in + ifnull(wire_in, 0)";
    let (out, inward) = (stored(bytes.out), stored(bytes.inward));
    let values = params![row, state_code(state), attempts, encode(moments), out, inward];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// As SQLite keeps it; so many bytes nobody sends.
fn stored(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX / 2)
}

fn stored_history(connection: &Connection, row: i64) -> rusqlite::Result<Vec<Moment>> {
    let mut statement = connection.prepare_cached("SELECT history FROM progress WHERE row = ?1")?;
    Ok(statement.query_row([row], |row| history(row, 0)).optional()?.unwrap_or_default())
}

/// A column with a time line.
pub(super) fn history(row: &Row<'_>, at: usize) -> rusqlite::Result<Vec<Moment>> {
    let bytes = row.get_ref(at)?.as_blob_or_null().map_err(|error| bad(at, Type::Blob, error))?;
    decode(bytes.unwrap_or_default()).ok_or_else(|| bad(at, Type::Blob, "the history can't be read"))
}
