//! Messages that have ended stay for a while and up to a size, then they go, oldest first, a few at a time, so that the
//! engine never waits for it; errors of nodes stay for the same while. What is not final is never touched.

use std::time::Duration;

use protocol::message::MessageId;
use protocol::time::Wall;
use rusqlite::{Connection, TransactionBehavior};

use super::columns::{OPEN, id, maybe_wall, wall};
use super::error::CommitError;
use super::{errors, evidence, meta, replies, schedules};
use crate::methods::COPY_FILE;

/// Messages that one step looks at and removes at most.
const STEP_MESSAGES: usize = 500;

/// Empty pages that the file may keep for what comes next (16 MiB); more are given back to the file system.
const FREE_PAGES_KEPT: u64 = 4096;

/// Pages that one step gives back at most.
const STEP_PAGES: u32 = 128;

/// What stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// How long a message stays after it has ended.
    pub(crate) keep: Duration,
    /// How large the store and its outputs may become before what has ended goes earlier, in bytes. What is not final
    /// counts, but stays.
    pub(crate) bytes_max: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep: Duration::from_secs(30 * 24 * 3600), bytes_max: 4 * 1024 * 1024 * 1024 }
    }
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pruned {
    /// Messages that were removed.
    pub(crate) messages: usize,
    /// Those among them whose outputs lie in files, which can go now.
    pub(crate) outputs: Vec<MessageId>,
    /// Whether another step has something to do at once.
    pub(crate) more: bool,
}

/// How far the cleaning has come.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// The last row that this round has looked at.
    after: i64,
}

/// A message that has ended.
struct Ended {
    row: i64,
    id: MessageId,
    created: Wall,
    finished: Option<Wall>,
    is_bulk: bool,
}

impl Cleaner {
    /// One step. See [`Store::prune`](super::Store::prune).
    pub(super) fn step(
        &mut self,
        connection: &mut Connection,
        retention: &Retention,
        now: Wall,
    ) -> Result<Pruned, CommitError> {
        let keep = u64::try_from(retention.keep.as_millis()).unwrap_or(u64::MAX);
        let cutoff = Wall(now.0.saturating_sub(keep));
        let is_over = size(connection)? > retention.bytes_max;
        let seen = ended(connection, if is_over { 0 } else { self.after })?;
        let goes = |message: &&Ended| is_over || message.finished.is_some_and(|at| at <= cutoff);
        let going: Vec<&Ended> = seen.iter().filter(goes).collect();
        if !going.is_empty() {
            remove(connection, &going)?;
        }
        // A message ends after it was made, and rows are in the order of their making: behind one that is too young
        // all are. A round that has come to the end begins again with the next step.
        let is_last = seen.len() < STEP_MESSAGES || seen.last().is_some_and(|last| last.created > cutoff);
        if !is_over {
            self.after = if is_last { 0 } else { seen.last().map_or(0, |last| last.row) };
        }
        let is_full_step = is_over && seen.len() == STEP_MESSAGES;
        let outputs = going.iter().filter(|message| message.is_bulk).map(|message| message.id).collect();
        let messages = going.len();
        let has_old_errors = errors::prune(connection, cutoff)?;
        // Of an order that stands, results are all that can go.
        let has_old_results = schedules::prune(connection, if is_over { None } else { Some(cutoff) })?;
        let gives_back = give_back(connection)?;
        let more = is_full_step || (!is_over && !is_last) || has_old_errors || has_old_results || gives_back;
        Ok(Pruned { messages, outputs, more })
    }
}

/// Bytes of the file that are in use, and of the outputs beside it.
fn size(connection: &Connection) -> rusqlite::Result<u64> {
    let pages = pragma(connection, "page_count")?.saturating_sub(pragma(connection, "freelist_count")?);
    // Added up as a float: lengths are what receivers say, and no sum of them may be an error.
    // A file that was copied goes when it is in its place; one large one must not take all else with it.
    let sql = format!(
        "SELECT total(max(coalesce(out_len, 0), 0) + max(coalesce(err_len, 0), 0)) FROM progress p
         WHERE ((out_len IS NOT NULL AND out_text IS NULL) OR (err_len IS NOT NULL AND err_text IS NULL))
             AND NOT EXISTS (SELECT 1 FROM outbox o CROSS JOIN out_lanes l ON l.id = o.lane
                 WHERE o.row = p.row AND l.method = '{COPY_FILE}')"
    );
    let outputs: f64 = connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
    Ok((pages * pragma(connection, "page_size")?).saturating_add(outputs as u64))
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    connection.prepare_cached(&format!("PRAGMA {name}"))?.query_row([], |row| super::columns::unsigned(row, 0))
}

/// The oldest messages behind this row that have ended.
fn ended(connection: &Connection, after: i64) -> rusqlite::Result<Vec<Ended>> {
    let sql = format!(
        "SELECT p.row, o.id, o.created, p.finished,
             (p.out_len IS NOT NULL AND p.out_text IS NULL) OR (p.err_len IS NOT NULL AND p.err_text IS NULL)
         FROM progress p CROSS JOIN outbox o ON o.row = p.row
         WHERE p.row > ?1 AND p.state > {OPEN} AND p.row NOT IN (SELECT row FROM replies WHERE state = {})
         ORDER BY p.row LIMIT {STEP_MESSAGES}",
        replies::DUE
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([after], |row| {
        Ok(Ended {
            row: row.get(0)?,
            id: id(row, 1)?,
            created: wall(row, 2)?,
            finished: maybe_wall(row, 3)?,
            is_bulk: row.get(4)?,
        })
    })?;
    rows.collect()
}

fn remove(connection: &mut Connection, going: &[&Ended]) -> Result<(), CommitError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut outbox = transaction.prepare_cached("DELETE FROM outbox WHERE row = ?1")?;
        let mut progress = transaction.prepare_cached("DELETE FROM progress WHERE row = ?1")?;
        for message in going {
            outbox.execute([message.row])?;
            progress.execute([message.row])?;
            evidence::remove(&transaction, message.row)?;
            replies::remove(&transaction, message.row)?;
            schedules::remove(&transaction, message.row)?;
        }
    }
    meta::count(&transaction, 0)?;
    Ok(transaction.commit()?)
}

/// Gives a few empty pages back to the file system, if there are many. Says whether there are still too many.
fn give_back(connection: &Connection) -> rusqlite::Result<bool> {
    if pragma(connection, "freelist_count")? <= FREE_PAGES_KEPT {
        return Ok(false);
    }
    // Each row that is stepped over gives back one page.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({STEP_PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(pragma(connection, "freelist_count")? > FREE_PAGES_KEPT)
}
