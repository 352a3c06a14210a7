//! What is known of a message of the outbox beyond that it was accepted: state, attempts, time line, and how it ended.
//! One row a message, with the number of its row in the outbox; none while there is nothing to tell.

use protocol::outcome::{Outcome, State};
use protocol::step::Moment;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::columns::{OUTCOME_COLUMNS, bad, bind_outcome, final_code, state_code};
use super::history::{decode, encode};

/// The statement that [`end`] needs.
pub(super) const END: &str =
    "INSERT OR REPLACE INTO progress (row, state, attempts, history, reason, exit_code, signal,
    started, finished, out_len, out_hash, out_cut, out_text, err_len, err_hash, err_cut, err_text)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";

/// Where the columns of the outcome begin in [`END`].
const OUTCOME_FROM: usize = 17 + 1 - OUTCOME_COLUMNS;

/// Writes how a message ended. An empty history keeps the stored one and adds the end to it.
pub(super) fn end(
    connection: &Connection,
    statement: &mut Statement<'_>,
    row: i64,
    (attempts, history): (u32, &[Moment]),
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
    statement.raw_execute()?;
    Ok(())
}

/// Writes how far a message has come.
pub(super) fn put(
    connection: &Connection,
    row: i64,
    state: &State,
    attempts: u32,
    moments: &[Moment],
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO progress (row, state, attempts, history) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![row, state_code(state), attempts, encode(moments)])?;
    Ok(())
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
