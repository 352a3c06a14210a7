//! What is to be done with the results of messages of the outbox: one row for each that says something about it, with the
//! number of its row there. It becomes due in the transaction that writes the message's end.

use protocol::message::MessageId;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::columns::{bits, id, id_bytes, unbits};
use super::error::{CommitError, ReadError};
use crate::replies::Spec;
use crate::view::ReplyView;

/// The message has not ended.
const WAITS: i64 = 1;
/// It has, and it is to be done.
pub(super) const DUE: i64 = 2;
/// It is done.
const DONE: i64 = 3;
/// It can never be done.
const GIVEN_UP: i64 = 4;
/// It is done with each result of an order with a schedule.
const EACH: i64 = 5;

/// A file to which something is about to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Which file it is.
    pub(crate) inode: u64,
    /// How long it was before, in bytes.
    pub(crate) len: u64,
}

/// Whose result it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// The message's own.
    Message,
    /// That of a run of the order that the message is, with this number.
    Run(u64),
}

/// Something that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// Its row.
    pub(crate) row: i64,
    /// The message.
    pub(crate) id: MessageId,
    /// Which of its results.
    pub(crate) of: Of,
    /// What; none if that can't be read.
    pub(crate) spec: Option<Spec>,
    /// Whether there is a result.
    pub(crate) has_result: bool,
    /// What was about to be appended to.
    pub(crate) mark: Option<Mark>,
    /// What was said of it last.
    pub(crate) note: Option<String>,
}

/// How it goes on with what was due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It can't be done now, and why.
    Trouble(String),
    /// It is about to be appended.
    Marked(Mark),
    /// Nothing was appended, and why.
    Unmarked(String),
    /// It is done.
    Done,
    /// There is nothing to do, or it can never be done, and why.
    GivenUp(String),
}

/// See [`Progress`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The row.
    pub(crate) row: i64,
    /// How far it is.
    pub(crate) progress: Progress,
}

/// Notes what is to be done with the result of the message in this row, or with each result if it is an order.
pub(super) fn add(connection: &Connection, row: i64, spec: &str, is_order: bool) -> rusqlite::Result<()> {
    let sql = "INSERT INTO replies (row, spec, state) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![row, spec, if is_order { EACH } else { WAITS }]).map(drop)
}

/// What is to be done with each result of the order in this row.
pub(super) fn of_order(connection: &Connection, row: i64) -> rusqlite::Result<Option<Spec>> {
    let sql = "SELECT spec FROM replies WHERE row = ?1 AND state = ?2";
    let spec = connection.prepare_cached(sql)?.query_row([row, EACH], |row| row.get::<_, String>(0)).optional()?;
    Ok(spec.and_then(|spec| Spec::read(&spec)))
}

/// Notes what is to be done with a result that is here.
pub(super) fn add_due(connection: &Connection, row: i64, spec: &Spec) -> rusqlite::Result<()> {
    let text = spec.text().map_err(|why| rusqlite::Error::ToSqlConversionFailure(why.into()))?;
    let sql = "INSERT INTO replies (row, spec, state) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![row, text, DUE]).map(drop)
}

/// Whether anything waits or is due.
pub(super) fn is_any_open(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM replies WHERE state < 3)", [], |row| row.get(0))
}

/// What is to be done with the result of this message, if that was said and can be read.
pub(super) fn spec(connection: &Connection, message: MessageId) -> Result<Option<Spec>, ReadError> {
    let sql = "SELECT r.spec FROM outbox o CROSS JOIN replies r ON r.row = o.row WHERE o.id = ?1";
    let text =
        connection.prepare_cached(sql)?.query_row([id_bytes(message)], |row| row.get::<_, String>(0)).optional()?;
    Ok(text.and_then(|text| Spec::read(&text)))
}

/// The message in this row ends: what waits for it is due. Says what that is.
pub(super) fn ended(connection: &Connection, row: i64) -> rusqlite::Result<Option<Spec>> {
    let sql = "UPDATE replies SET state = ?2 WHERE row = ?1 AND state = ?3 RETURNING spec";
    let spec =
        connection.prepare_cached(sql)?.query_row([row, DUE, WAITS], |row| row.get::<_, String>(0)).optional()?;
    Ok(spec.and_then(|spec| Spec::read(&spec)))
}

/// Writes down how far it is with these, in one transaction.
pub(super) fn step(connection: &mut Connection, steps: &[Step]) -> Result<(), CommitError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for Step { row, progress } in steps {
        let sql = "UPDATE replies SET state = ?2, note = ?3, inode = ?4, len = ?5 WHERE row = ?1";
        let mut put = transaction.prepare_cached(sql)?;
        match progress {
            Progress::Trouble(why) => {
                transaction.prepare_cached("UPDATE replies SET note = ?2 WHERE row = ?1")?.execute(params![row, why])?
            }
            Progress::Marked(Mark { inode, len }) => {
                put.execute(params![row, DUE, Option::<String>::None, bits(*inode), bits(*len)])?
            }
            Progress::Unmarked(why) => put.execute(params![row, DUE, why, None::<i64>, None::<i64>])?,
            Progress::Done => put.execute(params![row, DONE, None::<String>, None::<i64>, None::<i64>])?,
            Progress::GivenUp(why) => put.execute(params![row, GIVEN_UP, why, None::<i64>, None::<i64>])?,
        };
    }
    Ok(transaction.commit()?)
}

/// What is due. A message has a result if it has come to its own end (done, failed, timed out) or has written something; so has
/// a run of an order, which has a row of its own.
const COLUMNS: &str = "SELECT r.row, o.id, r.spec, coalesce(s.state, o.state) IN (11, 12, 13)
        OR coalesce(p.out_len, nullif(length(s.out), 0)) IS NOT NULL OR coalesce(p.err_len, nullif(length(s.err), 0)) IS NOT NULL,
    r.inode, r.len, r.note, s.run
    FROM replies r LEFT JOIN schedule_results s ON s.row = r.row - (1 << 62)
        CROSS JOIN outbox o ON o.row = coalesce(s.of, r.row) LEFT JOIN progress p ON p.row = r.row";

/// What was about to be appended when its process ended.
pub(super) fn marked(connection: &Connection) -> Result<Vec<Due>, ReadError> {
    let sql = format!("{COLUMNS} WHERE r.state = {DUE} AND r.inode IS NOT NULL ORDER BY r.row");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([], due_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What is due behind this row, in the order in which its messages were accepted, and results of orders in which they came.
pub(super) fn due(connection: &Connection, after: i64, limit: usize) -> Result<Vec<Due>, ReadError> {
    let sql = format!("{COLUMNS} WHERE r.state = {DUE} AND r.row > ?1 ORDER BY r.row LIMIT {limit}");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([after], due_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn due_row(row: &Row<'_>) -> rusqlite::Result<Due> {
    let (inode, len): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
    Ok(Due {
        row: row.get(0)?,
        id: id(row, 1)?,
        of: row.get::<_, Option<i64>>(7)?.map_or(Of::Message, |run| Of::Run(unbits(run))),
        spec: Spec::read(&row.get::<_, String>(2)?),
        has_result: row.get(3)?,
        mark: inode.zip(len).map(|(inode, len)| Mark { inode: unbits(inode), len: unbits(len) }),
        note: row.get(6)?,
    })
}

/// How far it is, in a word.
pub(super) fn state_word(state: i64) -> &'static str {
    match state {
        WAITS => "waiting",
        DUE => "due",
        DONE => "done",
        EACH => "each",
        _ => "given-up",
    }
}

/// What is done with the result of a message, for people.
pub(super) fn view(connection: &Connection, message: MessageId) -> rusqlite::Result<Option<ReplyView>> {
    let sql = "SELECT r.spec, r.state, r.note FROM replies r CROSS JOIN outbox o ON o.row = r.row WHERE o.id = ?1";
    let found = connection.prepare_cached(sql)?.query_row([id_bytes(message)], |row| {
        let spec = Spec::read(&row.get::<_, String>(0)?);
        let state = state_word(row.get(1)?);
        let method = spec.as_ref().map_or_else(|| "?".to_owned(), |spec| spec.reply_method.clone());
        Ok(ReplyView { method, file: spec.and_then(|spec| spec.file()), state: state.to_owned(), note: row.get(2)? })
    });
    found.optional()
}

/// Forgets what was to be done.
pub(super) fn remove(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM replies WHERE row = ?1")?.execute([row]).map(drop)
}
