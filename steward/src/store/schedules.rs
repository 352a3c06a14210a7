//! What nodes have told of orders with a schedule that they were given by this one: how each order is (`schedules`, one row each),
//! and how each run of it ended (`schedule_results`). An order is a message of the outbox; the number of its row there stands for it.
//!
//! A result is added once, whatever comes again. Where its order says what becomes of results, that is due from the same
//! transaction on: it has a row among the replies, whose number is that of the result and [`RESULTS`].

use protocol::message::MessageId;
use protocol::name::NodeName;
use protocol::outcome::{Final, Stream};
use protocol::time::Wall;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};

use super::columns::{bits, final_code, final_state, id, id_bytes, maybe_wall, millis, unbits, wall};
use super::error::{CommitError, ReadError};
use super::replies;
use crate::clock::rfc3339;
use crate::methods::SCHEDULE;
use crate::methods::schedule::told::{Received, RunTold};
use crate::methods::schedule::words;
use crate::view::{ScheduleResultView, ScheduleView};

/// Added to the number of a result, it is that of what is to be done with it. Numbers of messages are below.
pub(super) const RESULTS: i64 = 1 << 62;

/// Results that one step of cleaning up removes at most.
const STEP_RESULTS: usize = 200;

/// Bytes of an output that are shown in a list.
const SHOWN_BYTES_MAX: usize = 64 * 1024;

/// The row of an order in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OrderRow(i64);

/// What a node has told of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResultRow {
    /// The order.
    pub(crate) order: OrderRow,
    /// When it came in here.
    pub(crate) received: Wall,
    /// What was told.
    pub(crate) result: Received,
}

/// The row of an order that was given to this node and stands, or was taken back; none if there is none.
pub(super) fn order(connection: &Connection, message: MessageId, to: &NodeName) -> Result<Option<OrderRow>, ReadError> {
    let sql = "SELECT o.row FROM outbox o CROSS JOIN out_lanes l ON l.id = o.lane WHERE o.id = ?1 AND l.peer = ?2 AND l.method = ?3
         AND o.state IN (10, 17)";
    let found =
        connection.prepare_cached(sql)?.query_row(params![id_bytes(message), to.as_str(), SCHEDULE], |row| row.get(0));
    Ok(found.optional()?.map(OrderRow))
}

/// Adds what was told, in one transaction. Says whether something is to be done with a result.
pub(super) fn add(connection: &mut Connection, rows: &[ResultRow]) -> Result<bool, CommitError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut due = false;
    for row in rows {
        let sql = "SELECT EXISTS (SELECT 1 FROM outbox WHERE row = ?1)";
        // It has gone between the question and the answer.
        if !transaction.prepare_cached(sql)?.query_row([row.order.0], |row| row.get::<_, bool>(0))? {
            continue;
        }
        put_order(&transaction, row)?;
        if let (Some(run), Some(state)) = (&row.result.told.run, row.result.state) {
            due |= add_result(&transaction, row, run, state)?;
        }
    }
    transaction.commit()?;
    Ok(due)
}

/// What is older than what is known changes nothing.
fn put_order(connection: &Connection, ResultRow { order, received, result }: &ResultRow) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO schedules (row, serial, received, next, runs, missed, paused) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (row) DO UPDATE SET serial = excluded.serial, received = excluded.received, next = excluded.next,
             runs = excluded.runs, missed = excluded.missed, paused = excluded.paused WHERE excluded.serial > serial";
    let told = &result.told;
    let (runs, missed, next) = (bits(told.runs), bits(told.missed), told.next_ms.map(|next| millis(Wall(next))));
    let serial = millis(Wall(told.serial));
    connection
        .prepare_cached(sql)?
        .execute(params![order.0, serial, millis(*received), next, runs, missed, told.paused])
        .map(drop)
}

fn add_result(connection: &Connection, row: &ResultRow, run: &RunTold, state: Final) -> rusqlite::Result<bool> {
    let spec = replies::of_order(connection, row.order.0)?;
    let drops = spec.as_ref().is_some_and(|spec| spec.drops());
    let [out, err] = &row.result.written;
    let kept = |written| if drops { None } else { Some(written) };
    let sql = "INSERT INTO schedule_results (of, run, due, started, finished, received, state, reason, exit_code, signal, cut, out, err)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT DO NOTHING";
    let added = connection.prepare_cached(sql)?.execute(params![
        row.order.0,
        bits(run.number),
        millis(Wall(run.due_ms)),
        millis(Wall(run.started_ms)),
        millis(Wall(run.finished_ms)),
        millis(row.received),
        final_code(state),
        run.reason,
        run.exit_code,
        run.signal,
        run.truncated,
        kept(out),
        kept(err),
    ])?;
    let Some(spec) = spec.filter(|spec| added > 0 && !spec.drops()) else { return Ok(false) };
    replies::add_due(connection, RESULTS + connection.last_insert_rowid(), &spec)?;
    Ok(true)
}

/// One output of a result, by the number of what is to be done with it.
pub(super) fn output(connection: &Connection, reply: i64, stream: Stream) -> Result<Option<Vec<u8>>, ReadError> {
    let sql = match stream {
        Stream::Stdout => "SELECT out FROM schedule_results WHERE row = ?1",
        Stream::Stderr => "SELECT err FROM schedule_results WHERE row = ?1",
    };
    let found = connection.prepare_cached(sql)?.query_row([reply - RESULTS], |row| row.get::<_, Option<Vec<u8>>>(0));
    Ok(found.optional()?.flatten())
}

/// Orders, oldest first: those to one node, or all.
pub(super) fn list(connection: &Connection, node: Option<&str>) -> Result<Vec<ScheduleView>, ReadError> {
    let sql = "SELECT o.id, l.peer, o.state, o.body, o.created, s.received, s.next, s.runs, s.missed, s.paused,
             (SELECT state FROM schedule_results r WHERE r.of = o.row ORDER BY run DESC LIMIT 1),
             (SELECT finished FROM schedule_results r WHERE r.of = o.row ORDER BY run DESC LIMIT 1), p.state
         FROM out_lanes l CROSS JOIN outbox o ON o.lane = l.id LEFT JOIN schedules s ON s.row = o.row
             LEFT JOIN progress p ON p.row = o.row
         WHERE l.method = ?1 AND l.kind = 1 AND (?2 IS NULL OR l.peer = ?2) AND o.state = 10 ORDER BY o.row";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![SCHEDULE, node], |row| {
        let data: Vec<String> = serde_json::from_str(&row.get::<_, String>(3)?).unwrap_or_default();
        let last: Option<i64> = row.get(10)?;
        let number = |at: usize| Ok::<_, rusqlite::Error>(unbits(row.get::<_, Option<i64>>(at)?.unwrap_or(0)));
        let code: i64 = row.get::<_, Option<i64>>(12)?.unwrap_or(1);
        Ok(ScheduleView {
            id: id(row, 0)?.to_string(),
            node: row.get(1)?,
            state: super::columns::state(code).map_or("queued", |state| state.as_str()).to_owned(),
            schedule: words(&data),
            method: data.get(1).cloned().unwrap_or_default(),
            data: data.into_iter().skip(2).collect(),
            created_at: rfc3339(wall(row, 4)?),
            told_at: maybe_wall(row, 5)?.map(rfc3339),
            next_at: maybe_wall(row, 6)?.map(rfc3339),
            runs: number(7)?,
            missed: number(8)?,
            paused: row.get::<_, Option<bool>>(9)?.unwrap_or(false),
            last_state: last.and_then(final_state).map(|state| state.as_str().to_owned()),
            last_at: maybe_wall(row, 11)?.map(rfc3339),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The newest results of an order, the oldest of them first.
pub(super) fn results(
    connection: &Connection,
    order: MessageId,
    limit: usize,
) -> Result<Vec<ScheduleResultView>, ReadError> {
    let sql = "SELECT r.run, r.due, r.started, r.finished, r.received, r.state, r.reason, r.exit_code, r.signal, r.cut, r.out, r.err,
             p.state, p.note
         FROM outbox o CROSS JOIN schedule_results r ON r.of = o.row LEFT JOIN replies p ON p.row = r.row + ?2
         WHERE o.id = ?1 ORDER BY r.run DESC LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![id_bytes(order), RESULTS, limit], result_view)?;
    let mut results = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    results.reverse();
    Ok(results)
}

fn result_view(row: &Row<'_>) -> rusqlite::Result<ScheduleResultView> {
    let output = |at: usize| -> rusqlite::Result<(u64, String)> {
        let bytes: Vec<u8> = row.get::<_, Option<Vec<u8>>>(at)?.unwrap_or_default();
        let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
        Ok((bytes.len() as u64, String::from_utf8_lossy(shown).into_owned()))
    };
    let ((stdout_bytes, stdout), (stderr_bytes, stderr)) = (output(10)?, output(11)?);
    Ok(ScheduleResultView {
        run: unbits(row.get(0)?),
        due_at: rfc3339(wall(row, 1)?),
        started_at: rfc3339(wall(row, 2)?),
        finished_at: rfc3339(wall(row, 3)?),
        received_at: rfc3339(wall(row, 4)?),
        state: final_state(row.get(5)?).map_or("failed", Final::as_str).to_owned(),
        reason: row.get(6)?,
        exit_code: row.get(7)?,
        signal: row.get(8)?,
        truncated: row.get(9)?,
        stdout,
        stderr,
        stdout_bytes,
        stderr_bytes,
        reply: row.get::<_, Option<i64>>(12)?.map(|state| replies::state_word(state).to_owned()),
        reply_note: row.get(13)?,
    })
}

/// Forgets an order and its results.
pub(super) fn remove(connection: &Connection, order: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM schedules WHERE row = ?1")?.execute([order])?;
    let sql = "DELETE FROM replies WHERE row IN (SELECT row + ?2 FROM schedule_results WHERE of = ?1)";
    connection.prepare_cached(sql)?.execute([order, RESULTS])?;
    connection.prepare_cached("DELETE FROM schedule_results WHERE of = ?1")?.execute([order]).map(drop)
}

/// Removes a few results that came in at or before this time, the oldest first; without a time, the oldest. One with which
/// something is still to be done stays. Says whether there may be more.
pub(super) fn prune(connection: &mut Connection, cutoff: Option<Wall>) -> Result<bool, CommitError> {
    let oldest = format!(
        "SELECT row FROM schedule_results r WHERE received <= ?1
             AND NOT EXISTS (SELECT 1 FROM replies p WHERE p.row = r.row + {RESULTS} AND p.state = {}) ORDER BY row LIMIT {STEP_RESULTS}",
        replies::DUE
    );
    let cutoff = cutoff.map_or(i64::MAX, millis);
    let rows =
        connection.prepare_cached(&oldest)?.query_map([cutoff], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    if rows.is_empty() {
        return Ok(false);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for row in &rows {
        transaction.prepare_cached("DELETE FROM schedule_results WHERE row = ?1")?.execute([row])?;
        replies::remove(&transaction, RESULTS + row)?;
    }
    transaction.commit()?;
    Ok(rows.len() == STEP_RESULTS)
}
