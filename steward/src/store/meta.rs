//! The one row about the store itself: its identity, how often it was written, and the last ticket it has given.

use rusqlite::{Connection, Row};

use super::columns::unbits;

/// The row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    /// Made with the store, random, at most 63 bits.
    pub(super) epoch: u64,
    /// One more with each transaction.
    pub(super) commits: u64,
    /// Tickets are never given twice, also when the inbox is empty.
    pub(super) last_ticket: u64,
}

fn meta(row: &Row<'_>) -> rusqlite::Result<Meta> {
    Ok(Meta { epoch: unbits(row.get(0)?), commits: unbits(row.get(1)?), last_ticket: unbits(row.get(2)?) })
}

/// Reads it.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Meta> {
    connection.query_row("SELECT epoch, commits, last_ticket FROM meta", [], meta)
}

/// Counts a transaction, within it. `last_ticket` is the highest of the batch, or 0.
pub(super) fn count(connection: &Connection, last_ticket: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE meta SET commits = commits + 1, last_ticket = max(last_ticket, ?1) WHERE id = 1";
    connection.prepare_cached(sql)?.execute([last_ticket])?;
    Ok(())
}

/// An identity for a new store: what the operating system gives as randomness to each process, and the time.
pub(super) fn new_epoch() -> i64 {
    use std::hash::BuildHasher;
    let random = std::collections::hash_map::RandomState::new().hash_one(uuid::Uuid::now_v7().as_u128());
    (unbits_mask(random)).max(1)
}

fn unbits_mask(value: u64) -> i64 {
    (value & i64::MAX.cast_unsigned()).cast_signed()
}
