//! The processes that began on this store. A copy of the store from before a process does not know it: that is how other
//! nodes tell a copy from the store.

use protocol::message::Incarnation;
use protocol::snapshot::Start;
use rusqlite::Connection;

use super::columns::{bits, unbits};

/// Adds a process that begins now, with the commit counter at which it does. Only the latest `keep` are kept.
pub(super) fn add(
    connection: &Connection,
    incarnation: Incarnation,
    commits: u64,
    keep: usize,
) -> rusqlite::Result<()> {
    let row = [bits(incarnation.0), bits(commits)];
    connection.execute("INSERT INTO starts (incarnation, commits) VALUES (?1, ?2)", row)?;
    let latest = connection.last_insert_rowid();
    connection.execute("DELETE FROM starts WHERE number <= ?1", [latest.saturating_sub_unsigned(keep as u64)])?;
    Ok(())
}

/// Reads them, the oldest first.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Vec<Start>> {
    let mut statement = connection.prepare("SELECT incarnation, commits FROM starts ORDER BY number")?;
    let rows = statement.query_map([], |row| {
        let (incarnation, commits) = (row.get(0).map(unbits)?, row.get::<_, Option<i64>>(1)?.map(unbits));
        Ok(Start { incarnation: Incarnation(incarnation), commits })
    })?;
    rows.collect()
}
