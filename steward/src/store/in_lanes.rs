//! Incoming lanes: what must never run again. One row a lane and store of its sender.

use protocol::message::{Epoch, Seq};
use protocol::name::Lane;
use protocol::step::InLaneRow;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::columns::{bad, bits, kind_code, unbits};
use super::history::{put_varint, take_varint};
use super::names::Interned;

/// Replaces the row of a lane.
pub(super) fn put(connection: &Connection, row: &InLaneRow) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO in_lanes (peer, epoch, kind, method, floor, seen) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET floor = excluded.floor, seen = excluded.seen",
    )?;
    let lane = &row.lane;
    statement.execute(params![
        lane.peer.as_str(),
        bits(row.epoch.0),
        kind_code(lane.kind),
        lane.method.as_str(),
        bits(row.floor.0),
        encode(row.floor, &row.seen),
    ])?;
    Ok(())
}

/// Removes the row of a lane.
pub(super) fn remove(connection: &Connection, lane: &Lane, epoch: Epoch) -> rusqlite::Result<()> {
    let sql = "DELETE FROM in_lanes WHERE peer = ?1 AND epoch = ?2 AND kind = ?3 AND method = ?4";
    let key = params![lane.peer.as_str(), bits(epoch.0), kind_code(lane.kind), lane.method.as_str()];
    connection.prepare_cached(sql)?.execute(key)?;
    Ok(())
}

/// All of them.
pub(super) fn read(connection: &Connection, names: &mut Interned) -> rusqlite::Result<Vec<InLaneRow>> {
    let mut statement = connection.prepare("SELECT peer, kind, method, epoch, floor, seen FROM in_lanes")?;
    let rows = statement.query_map([], |row| in_lane(row, names))?;
    rows.collect()
}

fn in_lane(row: &Row<'_>, names: &mut Interned) -> rusqlite::Result<InLaneRow> {
    let floor = Seq(unbits(row.get(4)?));
    let bytes = row.get_ref(5)?.as_blob().map_err(|error| bad(5, Type::Blob, error))?;
    let seen = decode(floor, bytes).ok_or_else(|| bad(5, Type::Blob, "what was seen of a lane can't be read"))?;
    Ok(InLaneRow { lane: names.lane(row, 0)?, epoch: Epoch(unbits(row.get(3)?)), floor, seen })
}

/// Ranges as differences, each to the number before it and the first to the floor: two bytes for most.
fn encode(floor: Seq, seen: &[(Seq, Seq)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(seen.len() * 2);
    let mut before = floor.0;
    for (first, last) in seen {
        put_varint(&mut bytes, first.0.wrapping_sub(before));
        put_varint(&mut bytes, last.0.wrapping_sub(first.0));
        before = last.0;
    }
    bytes
}

/// See [`encode`].
fn decode(floor: Seq, mut bytes: &[u8]) -> Option<Vec<(Seq, Seq)>> {
    let mut seen = Vec::new();
    let mut before = floor.0;
    while !bytes.is_empty() {
        let first = before.wrapping_add(take_varint(&mut bytes)?);
        let last = first.wrapping_add(take_varint(&mut bytes)?);
        seen.push((Seq(first), Seq(last)));
        before = last;
    }
    Some(seen)
}
