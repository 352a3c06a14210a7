//! The processes that began on this store. A copy of the store from before a process does not know it: that is how other
//! nodes tell a copy from the store.

use protocol::message::Incarnation;
use rusqlite::Connection;

use super::columns::{bits, unbits};

/// Adds a process that begins now. Only the latest `keep` are kept.
pub(super) fn add(connection: &Connection, incarnation: Incarnation, keep: usize) -> rusqlite::Result<()> {
    connection.execute("INSERT INTO starts (incarnation) VALUES (?1)", [bits(incarnation.0)])?;
    let latest = connection.last_insert_rowid();
    connection.execute("DELETE FROM starts WHERE number <= ?1", [latest.saturating_sub_unsigned(keep as u64)])?;
    Ok(())
}

/// Reads them, the oldest first.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Vec<Incarnation>> {
    let mut statement = connection.prepare("SELECT incarnation FROM starts ORDER BY number")?;
    let rows = statement.query_map([], |row| row.get(0).map(unbits).map(Incarnation))?;
    rows.collect()
}
