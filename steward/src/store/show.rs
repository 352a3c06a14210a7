//! A row as people see it.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use protocol::event::Ticket;
use protocol::message::{Body, MessageId};
use protocol::outcome::{Outcome, Output, State, Stream};
use protocol::step::{InState, InboxRow, Moment};
use protocol::time::Wall;
use rusqlite::{Connection, OptionalExtension, Row};

use super::columns::{OPEN, bad, final_state, id, id_bytes, is_sealed, kind, outcome, state, wall};
use super::error::ReadError;
use super::progress::history;
use super::{inbox, replies};
use crate::blobs::{Blobs, Owner};
use crate::clock::rfc3339;
use crate::own_file;
use crate::view::{MessageView, MomentView};

/// The longest output that is shown together with its message, in bytes.
pub(crate) const SHOW_BYTES_MAX: u64 = 1024 * 1024;

/// The columns that [`out_view`] reads.
pub(super) const OUT_COLUMNS: &str = "o.id, n.name, l.peer, l.kind, l.method, o.state, p.state, p.attempts, o.created,
    p.reason, p.exit_code, p.signal, p.started, p.finished, p.out_len, p.out_hash, p.out_cut, p.out_text, p.err_len,
    p.err_hash, p.err_cut, p.err_text, o.body, p.history, o.flags, p.wire_out,
    p.wire_in";

/// Where they come from.
pub(super) const OUT_FROM: &str = "FROM outbox o CROSS JOIN out_lanes l ON l.id = o.lane
    CROSS JOIN names n ON n.id = o.sender LEFT JOIN progress p ON p.row = o.row";

const OUTCOME_AT: usize = 9;
const BODY_AT: usize = 22;
const HISTORY_AT: usize = 23;
const FLAGS_AT: usize = 24;
const WIRE_AT: usize = 25;

/// Whether output and history are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// As in a list.
    Line,
    /// As for one message.
    All,
}

/// What a stream of a message holds, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredOutput {
    /// Bytes that were kept.
    pub(crate) len: u64,
    /// Whether more than that was written.
    pub(crate) truncated: bool,
    /// Their BLAKE3 hash.
    pub(crate) hash: [u8; 32],
    /// Where they are.
    pub(crate) place: Place,
}

/// Where the bytes of an output are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here.
    Inline(Arc<str>),
    /// In this file.
    File(PathBuf),
}

/// A message of the outbox, or else of the inbox.
pub(super) fn show(connection: &Connection, blobs: &Blobs, id: MessageId) -> Result<Option<MessageView>, ReadError> {
    let sql = format!("SELECT {OUT_COLUMNS} {OUT_FROM} WHERE o.id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([id_bytes(id)], |row| {
        let mut view = out_view(row, Detail::All)?;
        if let Some(outcome) = out_outcome(row)? {
            add_output(&mut view, blobs, Owner::Out(id), &outcome);
        }
        Ok(view)
    });
    if let Some(mut view) = found.optional()? {
        view.reply = replies::view(connection, id)?;
        return Ok(Some(view));
    }
    let Some(row) = in_row(connection, id)? else { return Ok(None) };
    let mut view = in_view(&row, Detail::All);
    if let InState::Finished(outcome) = &row.state {
        add_output(&mut view, blobs, Owner::In(row.ticket), outcome);
    }
    Ok(Some(view))
}

/// One output of a message that has ended.
pub(super) fn output(
    connection: &Connection,
    blobs: &Blobs,
    id: MessageId,
    stream: Stream,
) -> Result<Option<StoredOutput>, ReadError> {
    let sql = format!("SELECT {OUT_COLUMNS} {OUT_FROM} WHERE o.id = ?1");
    let found = connection.prepare_cached(&sql)?.query_row([id_bytes(id)], out_outcome).optional()?;
    if let Some(outcome) = found {
        return Ok(outcome.map(|outcome| place(blobs, Owner::Out(id), stream, outcome.stream(stream))));
    }
    Ok(in_row(connection, id)?.and_then(|row| match row.state {
        InState::Stored | InState::Running(_) => None,
        InState::Finished(outcome) => Some(place(blobs, Owner::In(row.ticket), stream, outcome.stream(stream))),
    }))
}

fn place(blobs: &Blobs, owner: Owner, stream: Stream, output: &Output) -> StoredOutput {
    let place = match &output.inline {
        Some(text) => Place::Inline(text.clone()),
        None if output.len == 0 => Place::Inline("".into()),
        None => Place::File(blobs.path(owner, stream)),
    };
    StoredOutput { len: output.len, truncated: output.truncated, hash: output.hash, place }
}

/// The inbox is short, so that it has no index for this rare question.
fn in_row(connection: &Connection, id: MessageId) -> Result<Option<InboxRow>, ReadError> {
    let mut statement = connection.prepare_cached("SELECT ticket FROM inbox WHERE id = ?1")?;
    let ticket = statement.query_row([id_bytes(id)], |row| super::columns::ticket(row, 0)).optional()?;
    ticket.map_or(Ok(None), |ticket: Ticket| inbox::get(connection, ticket))
}

fn out_outcome(row: &Row<'_>) -> rusqlite::Result<Option<Outcome>> {
    final_state(row.get(5)?).map(|state| outcome(row, OUTCOME_AT, state)).transpose()
}

/// A row of [`OUT_COLUMNS`].
pub(super) fn out_view(row: &Row<'_>, detail: Detail) -> rusqlite::Result<MessageView> {
    let code: i64 =
        if row.get::<_, i64>(5)? == OPEN { row.get::<_, Option<i64>>(6)?.unwrap_or(1) } else { row.get(5)? };
    let integer = rusqlite::types::Type::Integer;
    let state = state(code).ok_or_else(|| bad(5, integer, format!("{code} is no state of a message")))?;
    let created = wall(row, 8)?;
    let mut view = MessageView {
        id: id(row, 0)?.to_string(),
        from_node: row.get(1)?,
        to_node: row.get(2)?,
        command_or_event: kind(row, 3)?.as_str().to_owned(),
        method: row.get(4)?,
        data: data(&row.get::<_, Body>(BODY_AT)?),
        state: state.as_str().to_owned(),
        attempts: row.get::<_, Option<u32>>(7)?.unwrap_or(0),
        sealed: is_sealed(row.get(FLAGS_AT)?),
        wire_out_bytes: wire(row, WIRE_AT)?,
        wire_in_bytes: wire(row, WIRE_AT + 1)?,
        ..blank(created)
    };
    if let Some(outcome) = out_outcome(row)? {
        ended(&mut view, &outcome);
    }
    if detail == Detail::All {
        let mut moments = history(row, HISTORY_AT)?;
        if moments.is_empty() {
            moments.push(Moment { at: created, state: State::Queued, note: None });
        }
        view.history = moments.iter().map(moment).collect();
    }
    Ok(view)
}

/// Bytes on the link, where any were counted.
fn wire(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(at)?.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0))
}

/// A message of the inbox.
pub(super) fn in_view(row: &InboxRow, detail: Detail) -> MessageView {
    let message = &row.message;
    let state = match &row.state {
        InState::Stored => State::Stored,
        InState::Running(_) => State::Running,
        InState::Finished(outcome) => State::Final(outcome.state),
    };
    let mut view = MessageView {
        id: message.id.to_string(),
        from_node: message.from.to_string(),
        to_node: message.to.to_string(),
        command_or_event: message.kind.as_str().to_owned(),
        method: message.method.to_string(),
        data: data(&message.body),
        state: state.as_str().to_owned(),
        sealed: message.options.seal,
        ..blank(message.created)
    };
    let mut moments = Vec::new();
    match &row.state {
        InState::Stored => {}
        InState::Running(at) => moments.push(Moment { at: *at, state: State::Running, note: None }),
        InState::Finished(outcome) => {
            ended(&mut view, outcome);
            moments.extend(outcome.started.map(|at| Moment { at, state: State::Running, note: None }));
            moments.push(Moment { at: outcome.finished, state, note: None });
        }
    }
    if detail == Detail::All {
        view.history = moments.iter().map(moment).collect();
    }
    view
}

fn blank(created: Wall) -> MessageView {
    MessageView {
        id: String::new(),
        from_node: String::new(),
        to_node: String::new(),
        command_or_event: String::new(),
        method: String::new(),
        data: Vec::new(),
        state: String::new(),
        reason: None,
        attempts: 0,
        next_attempt_at: None,
        created_at: rfc3339(created),
        started_at: None,
        finished_at: None,
        run_ms: None,
        exit_code: None,
        signal: None,
        stdout: None,
        stderr: None,
        stdout_bytes: 0,
        stderr_bytes: 0,
        moved_bytes: None,
        truncated: false,
        sealed: false,
        wire_out_bytes: None,
        wire_in_bytes: None,
        reply: None,
        history: Vec::new(),
    }
}

fn ended(view: &mut MessageView, outcome: &Outcome) {
    view.reason = outcome.reason.as_deref().map(str::to_owned);
    view.started_at = outcome.started.map(rfc3339);
    view.finished_at = Some(rfc3339(outcome.finished));
    view.run_ms = outcome.started.map(|started| outcome.finished.0.saturating_sub(started.0));
    view.exit_code = outcome.exit_code;
    view.signal = outcome.signal;
    view.stdout_bytes = outcome.stdout.len;
    view.stderr_bytes = outcome.stderr.len;
    view.truncated = outcome.stdout.truncated || outcome.stderr.truncated;
}

fn moment(moment: &Moment) -> MomentView {
    let note = moment.note.as_deref().map(str::to_owned);
    MomentView { at: rfc3339(moment.at), state: moment.state.as_str().to_owned(), note }
}

fn add_output(view: &mut MessageView, blobs: &Blobs, owner: Owner, outcome: &Outcome) {
    let text = |stream| shown(&place(blobs, owner, stream, outcome.stream(stream)));
    view.stdout = text(Stream::Stdout);
    view.stderr = text(Stream::Stderr);
}

/// The text of an output that is not too long. One whose file is gone is absent; its length still tells of it.
fn shown(output: &StoredOutput) -> Option<String> {
    match &output.place {
        Place::Inline(text) => Some(text.to_string()),
        Place::File(_) if output.len > SHOW_BYTES_MAX => None,
        Place::File(path) => {
            let mut bytes = Vec::new();
            match own_file::read(path).and_then(|file| file.take(SHOW_BYTES_MAX).read_to_end(&mut bytes)) {
                Ok(_) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                Err(error) => {
                    tracing::debug!(%error, path = %path.display(), "an output can't be read");
                    None
                }
            }
        }
    }
}

/// The strings of a body. One that is something else is shown as it is.
fn data(body: &str) -> Vec<String> {
    serde_json::from_str(body).unwrap_or_else(|_| vec![body.to_owned()])
}
