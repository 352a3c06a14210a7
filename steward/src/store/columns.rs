//! How single values stand in columns: the codes of states and types, times, options, and what there is to say of an end.
//! Codes are in files for ever: add, never change.

use std::sync::Arc;
use std::time::Duration;

use protocol::event::Ticket;
use protocol::message::{Kind, MessageId, Options, Seq};
use protocol::outcome::{Final, Outcome, Output, State};
use protocol::time::Wall;
use rusqlite::types::Type;
use rusqlite::{Row, Statement};

use super::error::CommitError;

/// `outbox.state` of what is not final. Final states are 11 to 19, so that all of them take one byte.
pub(super) const OPEN: i64 = 10;

/// `inbox.state` of what has not been started; see [`RUNNING`]. What has ended has the code of its final state.
pub(super) const STORED: i64 = 1;
/// `inbox.state` of what was started and has not ended.
pub(super) const RUNNING: i64 = 2;

/// The columns that [`bind_outcome`] and [`outcome`] know, in their order.
pub(super) const OUTCOME_COLUMNS: usize = 13;

/// `flags`: may start without waiting for those before it.
const PARALLEL: i64 = 1;
/// `flags`: harmless to run again.
const RERUN: i64 = 2;
/// A flag in the options.
const SEAL: i64 = 4;

/// An id as it is stored: 16 bytes that sort like the id.
pub(super) fn id_bytes(id: MessageId) -> [u8; 16] {
    id.0.to_be_bytes()
}

/// See [`id_bytes`].
pub(super) fn id(row: &Row<'_>, at: usize) -> rusqlite::Result<MessageId> {
    row.get::<_, [u8; 16]>(at).map(|bytes| MessageId(u128::from_be_bytes(bytes)))
}

/// A number whose order does not matter in SQL, bit by bit: whatever a peer says of itself can be stored.
pub(super) fn bits(value: u64) -> i64 {
    value.cast_signed()
}

/// See [`bits`].
pub(super) fn unbits(value: i64) -> u64 {
    value.cast_unsigned()
}

/// A number of our own, whose order matters in SQL.
pub(super) fn ordered(what: &'static str, value: u64) -> Result<i64, CommitError> {
    i64::try_from(value).map_err(|_| CommitError::Range { what, value })
}

/// See [`ordered`].
pub(super) fn seq(row: &Row<'_>, at: usize) -> rusqlite::Result<Seq> {
    unsigned(row, at).map(Seq)
}

/// See [`ordered`].
pub(super) fn ticket(row: &Row<'_>, at: usize) -> rusqlite::Result<Ticket> {
    unsigned(row, at).map(Ticket)
}

/// A column that is never negative.
pub(super) fn unsigned(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(at)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, value))
}

/// A time in milliseconds. One that is 292 million years away is brought nearer.
pub(super) fn millis(at: Wall) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// See [`millis`].
pub(super) fn wall(row: &Row<'_>, at: usize) -> rusqlite::Result<Wall> {
    unsigned(row, at).map(Wall)
}

/// See [`millis`].
pub(super) fn maybe_wall(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Wall>> {
    let value: Option<i64> = row.get(at)?;
    value.map(|_| wall(row, at)).transpose()
}

/// A duration in milliseconds, rounded up so that a short one does not become none.
fn duration(duration: Duration) -> i64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// The options as columns: timeout, retries, method timeout, deadline, flags.
pub(super) fn options_columns(options: &Options) -> (i64, u32, Option<i64>, Option<i64>, i64) {
    let flags = if options.parallel { PARALLEL } else { 0 } | if options.rerun { RERUN } else { 0 };
    let flags = flags | if options.seal { SEAL } else { 0 };
    let method_timeout = options.method_timeout.map(duration);
    (duration(options.timeout), options.retries, method_timeout, options.deadline.map(millis), flags)
}

/// Whether these flags are those of a message that is sealed.
pub(super) fn is_sealed(flags: i64) -> bool {
    flags & SEAL != 0
}

/// See [`options_columns`]; the first of the five columns is `at`.
pub(super) fn options(row: &Row<'_>, at: usize) -> rusqlite::Result<Options> {
    let method_timeout: Option<i64> = row.get(at + 2)?;
    let flags: i64 = row.get(at + 4)?;
    Ok(Options {
        timeout: Duration::from_millis(unsigned(row, at)?),
        retries: row.get(at + 1)?,
        method_timeout: method_timeout.map(|_| unsigned(row, at + 2)).transpose()?.map(Duration::from_millis),
        deadline: maybe_wall(row, at + 3)?,
        parallel: flags & PARALLEL != 0,
        rerun: flags & RERUN != 0,
        seal: is_sealed(flags),
        // It lies in a table of its own, and nobody who reads messages here needs it.
        reply: None,
    })
}

/// The code of a type.
pub(super) fn kind_code(kind: Kind) -> i64 {
    match kind {
        Kind::CommandAck => 1,
        Kind::CommandNack => 2,
        Kind::EventAck => 3,
        Kind::EventNack => 4,
    }
}

/// See [`kind_code`].
pub(super) fn kind(row: &Row<'_>, at: usize) -> rusqlite::Result<Kind> {
    let code: i64 = row.get(at)?;
    let found = Kind::ALL.into_iter().find(|kind| kind_code(*kind) == code);
    found.ok_or(rusqlite::Error::IntegralValueOutOfRange(at, code))
}

/// The code of a final state.
pub(super) fn final_code(state: Final) -> i64 {
    match state {
        Final::Done => 11,
        Final::Failed => 12,
        Final::TimedOut => 13,
        Final::Refused => 14,
        Final::Expired => 15,
        Final::Interrupted => 16,
        Final::Cancelled => 17,
        Final::Undeliverable => 18,
        Final::Sent => 19,
    }
}

/// The final state with this code; none for anything else.
pub(super) fn final_state(code: i64) -> Option<Final> {
    Final::ALL.into_iter().find(|state| final_code(*state) == code)
}

/// The code of a state: below 10 what is not final.
pub(super) fn state_code(state: &State) -> i64 {
    match state {
        State::Queued => 1,
        State::Sent => 2,
        State::Stored => 3,
        State::Running => 4,
        State::Fetching => 5,
        State::Final(state) => final_code(*state),
    }
}

/// The state with this code.
pub(super) fn state(code: i64) -> Option<State> {
    match code {
        1 => Some(State::Queued),
        2 => Some(State::Sent),
        3 => Some(State::Stored),
        4 => Some(State::Running),
        5 => Some(State::Fetching),
        other => final_state(other).map(State::Final),
    }
}

/// A column whose content can't be what we wrote.
pub(super) fn bad(at: usize, kind: Type, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, kind, why.into())
}

/// Binds how a message ended; the first of its [`OUTCOME_COLUMNS`] parameters is `at`. Nothing to say takes no room.
pub(super) fn bind_outcome(statement: &mut Statement<'_>, at: usize, outcome: &Outcome) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(at, outcome.reason.as_deref())?;
    statement.raw_bind_parameter(at + 1, outcome.exit_code)?;
    statement.raw_bind_parameter(at + 2, outcome.signal)?;
    statement.raw_bind_parameter(at + 3, outcome.started.map(millis))?;
    statement.raw_bind_parameter(at + 4, millis(outcome.finished))?;
    bind_output(statement, at + 5, &outcome.stdout)?;
    bind_output(statement, at + 9, &outcome.stderr)
}

fn bind_output(statement: &mut Statement<'_>, at: usize, output: &Output) -> rusqlite::Result<()> {
    let hash = (output.hash != [0; 32]).then_some(&output.hash[..]);
    statement.raw_bind_parameter(at, (output.len > 0).then_some(bits(output.len)))?;
    statement.raw_bind_parameter(at + 1, hash)?;
    statement.raw_bind_parameter(at + 2, output.truncated.then_some(1))?;
    statement.raw_bind_parameter(at + 3, output.inline.as_deref())
}

/// How a message ended; the first of its [`OUTCOME_COLUMNS`] columns is `at`.
pub(super) fn outcome(row: &Row<'_>, at: usize, state: Final) -> rusqlite::Result<Outcome> {
    Ok(Outcome {
        state,
        reason: text(row, at)?,
        exit_code: row.get(at + 1)?,
        signal: row.get(at + 2)?,
        started: maybe_wall(row, at + 3)?,
        finished: wall(row, at + 4)?,
        stdout: output(row, at + 5)?,
        stderr: output(row, at + 9)?,
        proof: None,
    })
}

/// What was written to one stream; the first of its four columns is `at`.
pub(super) fn output(row: &Row<'_>, at: usize) -> rusqlite::Result<Output> {
    Ok(Output {
        len: unbits(row.get::<_, Option<i64>>(at)?.unwrap_or(0)),
        hash: row.get::<_, Option<[u8; 32]>>(at + 1)?.unwrap_or([0; 32]),
        truncated: row.get::<_, Option<i64>>(at + 2)?.is_some(),
        inline: text(row, at + 3)?,
    })
}

/// Text that may be missing.
pub(super) fn text(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Arc<str>>> {
    let value = row.get_ref(at)?.as_str_or_null().map_err(|error| bad(at, Type::Text, error))?;
    Ok(value.map(Arc::from))
}
