//! What is known of other nodes.

use protocol::message::{Epoch, Incarnation};
use protocol::step::PeerRow;
use rusqlite::{Connection, params};

use super::columns::{bits, maybe_wall, millis, unbits};
use super::names::Interned;

/// Replaces the row of a node, with what it says of itself; an empty `info` keeps what it said before.
pub(super) fn put(connection: &Connection, row: &PeerRow, info: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO peers (name, epoch, commits, incarnation, seen, info) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET epoch = excluded.epoch, commits = excluded.commits,
             incarnation = excluded.incarnation, seen = excluded.seen,
             info = CASE excluded.info WHEN '' THEN info ELSE excluded.info END",
    )?;
    statement.execute(params![
        row.name.as_str(),
        row.epoch.map(|epoch| bits(epoch.0)),
        bits(row.commits),
        row.incarnation.map(|incarnation| bits(incarnation.0)),
        row.seen.map(millis),
        info,
    ])?;
    Ok(())
}

/// All of them, by name.
pub(super) fn read(connection: &Connection, names: &mut Interned) -> rusqlite::Result<Vec<PeerRow>> {
    let sql = "SELECT name, epoch, commits, incarnation, seen, info FROM peers ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(PeerRow {
            name: names.node(row, 0)?,
            epoch: row.get::<_, Option<i64>>(1)?.map(|epoch| Epoch(unbits(epoch))),
            commits: unbits(row.get(2)?),
            incarnation: row.get::<_, Option<i64>>(3)?.map(|incarnation| Incarnation(unbits(incarnation))),
            seen: maybe_wall(row, 4)?,
            info: row.get(5)?,
        })
    })?;
    rows.collect()
}
