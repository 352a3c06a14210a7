//! Outgoing lanes: which numbers were given, and the integer that stands for a lane in the outbox.

use std::collections::HashMap;

use protocol::name::Lane;
use protocol::snapshot::Backlog;
use protocol::step::OutLaneRow;
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{kind_code, ordered, seq, unsigned};
use super::error::CommitError;
use super::names::Interned;

/// The numbers of the lanes that this process has met. It remembers only what is durable.
#[derive(Debug, Default)]
pub(super) struct OutLanes {
    ids: HashMap<Lane, i64>,
    fresh: Vec<Lane>,
}

impl OutLanes {
    /// The number of a lane that has one.
    pub(super) fn find(&mut self, connection: &Connection, lane: &Lane) -> rusqlite::Result<Option<i64>> {
        if let Some(id) = self.ids.get(lane) {
            return Ok(Some(*id));
        }
        let sql = "SELECT id FROM out_lanes WHERE peer = ?1 AND kind = ?2 AND method = ?3";
        let mut statement = connection.prepare_cached(sql)?;
        let key = params![lane.peer.as_str(), kind_code(lane.kind), lane.method.as_str()];
        let found = statement.query_row(key, |row| row.get(0)).optional()?;
        if let Some(id) = found {
            self.ids.insert(lane.clone(), id);
        }
        Ok(found)
    }

    /// The number of a lane, a new one if it has none.
    pub(super) fn id(&mut self, connection: &Connection, lane: &Lane) -> rusqlite::Result<i64> {
        if let Some(id) = self.find(connection, lane)? {
            return Ok(id);
        }
        let sql = "INSERT INTO out_lanes (peer, kind, method, last, sent, lost) VALUES (?1, ?2, ?3, 0, 0, 0)";
        let key = params![lane.peer.as_str(), kind_code(lane.kind), lane.method.as_str()];
        connection.prepare_cached(sql)?.execute(key)?;
        let id = connection.last_insert_rowid();
        self.ids.insert(lane.clone(), id);
        self.fresh.push(lane.clone());
        Ok(id)
    }

    /// Replaces the row of a lane.
    pub(super) fn put(&mut self, connection: &Connection, row: &OutLaneRow) -> Result<(), CommitError> {
        let id = self.id(connection, &row.lane)?;
        let (last, sent) = (ordered("lane number", row.last.0)?, ordered("lane number", row.sent.0)?);
        let lost = ordered("lane number", row.lost.0)?;
        let mut update =
            connection.prepare_cached("UPDATE out_lanes SET last = ?2, sent = ?3, lost = ?4 WHERE id = ?1")?;
        update.execute(params![id, last, sent, lost])?;
        Ok(())
    }

    /// New numbers of this batch are durable.
    pub(super) fn keep(&mut self) {
        self.fresh.clear();
    }

    /// New numbers of this batch are not.
    pub(super) fn forget(&mut self) {
        for lane in self.fresh.drain(..) {
            self.ids.remove(&lane);
        }
    }
}

/// All lanes, each with what waits in it. Counts in an index, without reading a message.
pub(super) fn read(connection: &Connection, names: &mut Interned) -> rusqlite::Result<Vec<(OutLaneRow, Backlog)>> {
    let mut statement = connection.prepare(
        "SELECT peer, kind, method, last, sent, lost,
             (SELECT count(*) FROM outbox WHERE lane = out_lanes.id AND state = 10),
             (SELECT count(*) FROM outbox WHERE lane = out_lanes.id AND state = 10 AND retries > 0)
         FROM out_lanes",
    )?;
    let lanes = statement.query_map([], |row| {
        let lane = names.lane(row, 0)?;
        let lane = OutLaneRow { lane, last: seq(row, 3)?, sent: seq(row, 4)?, lost: seq(row, 5)? };
        Ok((lane, Backlog { messages: unsigned(row, 6)?, limited: unsigned(row, 7)? }))
    })?;
    lanes.collect()
}
