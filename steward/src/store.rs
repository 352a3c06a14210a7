//! What must survive: accepted messages, how they ended, each lane's place, and what is known of other nodes. One SQLite
//! file, `steward.db`, in the node's directory; big outputs lie beside it (`blobs.rs`).
//!
//! [`Store`] owns the one connection that writes and belongs to the engine's thread. Everybody else looks through a
//! [`Reader`]. It never decides about delivery: it writes what `protocol` says, all of a batch or nothing.

mod batch;
mod columns;
mod cursors;
mod error;
mod errors;
mod evidence;
mod history;
mod identities;
mod in_lanes;
mod inbox;
mod list;
pub(crate) mod measure;
mod meta;
mod names;
mod out_lanes;
mod outbox;
mod peers;
mod progress;
mod prune;
pub(crate) mod reader;
mod replies;
mod schedules;
mod schema;
pub(crate) mod show;
mod starts;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use protocol::event::{Facts, Queued};
use protocol::limits::STARTS_MAX;
use protocol::message::{Epoch, Incarnation, Message, MessageId, Seq};
use protocol::name::Lane;
use protocol::outcome::Outcome;
use protocol::snapshot::Snapshot;
use protocol::step::{Moment, Write};
use protocol::time::Wall;
use rusqlite::{Connection, Statement, TransactionBehavior};

pub(crate) use self::cursors::{CURSOR_BYTES_MAX, Cursor, CursorName};
pub(crate) use self::error::{CommitError, OpenError, ReadError};
pub(crate) use self::errors::{ERROR_BYTES_MAX, ErrorFilter, ErrorRow};
pub(crate) use self::evidence::{Kept, Signed};
pub(crate) use self::identities::IdentityRow;
pub(crate) use self::outbox::{Due, Found};
pub(crate) use self::prune::{Pruned, Retention};
pub(crate) use self::reader::Reader;
pub(crate) use self::replies::{Due as DueReply, Mark, Of as ReplyOf, Progress as ReplyProgress, Step as ReplyStep};
pub(crate) use self::schedules::{OrderRow, ResultRow};
pub(crate) use self::show::Place;

use crate::crash_points::{self, Point, reach};
use crate::methods::SCHEDULE;

use self::batch::Batch;
use self::meta::Meta;
use self::names::{Interned, Names};
use self::out_lanes::OutLanes;
use self::prune::Cleaner;
use crate::traffic::{Bytes, Traffic};

/// What is kept beside the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// An error of a node.
    Error(ErrorRow),
    /// How far it is with what is to be done with a result.
    Reply(ReplyStep),
    /// What a node has told of an order with a schedule.
    Result(Box<ResultRow>),
}

/// The connection that writes. Used by the engine's thread only.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    connection: Connection,
    meta: Meta,
    names: Names,
    lanes: OutLanes,
    cleaner: Cleaner,
    replies: Replies,
    cursors: cursors::Runs,
    traffic: Traffic,
}

/// What is known of results with which something is to be done, so that nobody looks for them where there are none.
#[derive(Debug, Clone, Copy, Default)]
struct Replies {
    /// Whether there may be one that has not become due.
    any: bool,
    /// Whether one has become due since somebody asked.
    due: bool,
}

impl Store {
    /// Opens the store in `dir`, makes it where there is none, and brings an older one up to date. What can't be used
    /// (damaged, of a newer steward, of another program) is reported and left as it is.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let connection = schema::open_writer(dir, meta::new_epoch())?;
        let meta = meta::read(&connection)
            .map_err(|error| OpenError::Damaged { path: dir.join(schema::FILE), why: error.to_string() })?;
        let any = replies::is_any_open(&connection)
            .map_err(|error| OpenError::Damaged { path: dir.join(schema::FILE), why: error.to_string() })?;
        let cursors = cursors::Runs::read(&connection)
            .map_err(|error| OpenError::Damaged { path: dir.join(schema::FILE), why: error.to_string() })?;
        Ok(Self {
            dir: dir.to_owned(),
            cursors,
            replies: Replies { any, due: any },
            connection,
            meta,
            names: Names::default(),
            lanes: OutLanes::default(),
            cleaner: Cleaner::default(),
            traffic: Traffic::default(),
        })
    }

    /// Has the bytes of each message on the link written down with how far it is.
    #[must_use]
    pub(crate) fn counting(self, traffic: Traffic) -> Self {
        Self { traffic, ..self }
    }

    /// The identity of this store: random, made with it, at most 63 bits.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.meta.epoch)
    }

    /// How many transactions this store has seen.
    pub(crate) fn commits(&self) -> u64 {
        self.meta.commits
    }

    /// Writes down that a process begins on this store, so that an older copy of it can be told from it. An error leaves
    /// nothing.
    pub(crate) fn begin_process(&mut self, incarnation: Incarnation) -> Result<(), CommitError> {
        let counted =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
                starts::add(&transaction, incarnation, self.meta.commits + 1, STARTS_MAX)?;
                meta::count(&transaction, 0)?;
                transaction.commit()
            });
        counted.map_err(|error| self.explain(error.into()))?;
        self.meta.commits += 1;
        Ok(())
    }

    /// Everything that a process needs to know to go on where the last one stopped. `facts` is asked with each message of
    /// the inbox, without its body. Bodies of the outbox and the inbox stay on disk.
    pub(crate) fn snapshot(&self, facts: &dyn Fn(&Message) -> Facts) -> Result<Snapshot, ReadError> {
        let mut names = Interned::default();
        let inbox = inbox::read(&self.connection, &mut names)?;
        Ok(Snapshot {
            out_lanes: out_lanes::read(&self.connection, &mut names)?,
            next_deadline: outbox::next_deadline(&self.connection)?,
            peers: peers::read(&self.connection, &mut names)?,
            in_lanes: in_lanes::read(&self.connection, &mut names)?,
            inbox: inbox.into_iter().map(|row| (facts(&row.message), row)).map(|(facts, row)| (row, facts)).collect(),
            last_ticket: self.meta.last_ticket,
            starts: starts::read(&self.connection)?,
        })
    }

    /// Makes the writes durable in one transaction and returns the number of transactions so far. After an error nothing
    /// of the batch is in the store, and the same batch can be tried again. No writes, no transaction.
    pub(crate) fn commit(&mut self, writes: &[Write]) -> Result<u64, CommitError> {
        self.commit_with(writes, &[])
    }

    /// The same, with how far those are whose reading brought them.
    pub(crate) fn commit_with(&mut self, writes: &[Write], cursors: &[Cursor]) -> Result<u64, CommitError> {
        if writes.is_empty() && cursors.is_empty() {
            return Ok(self.meta.commits);
        }
        reach(Point::BeforeCommit);
        let bytes = self.traffic.take(writes);
        match self.transact((writes, &bytes), cursors) {
            Ok(last_ticket) => {
                reach(Point::AfterCommit);
                self.names.keep();
                self.lanes.keep();
                self.meta.commits += 1;
                for write in writes {
                    if let Write::Ended { ticket, .. } | Write::Forget(ticket) = write {
                        self.cursors.forget(*ticket);
                    }
                }
                self.meta.last_ticket = self.meta.last_ticket.max(last_ticket);
                Ok(self.meta.commits)
            }
            Err(error) => {
                self.traffic.give_back(writes, bytes);
                self.names.forget();
                self.lanes.forget();
                Err(self.explain(error))
            }
        }
    }

    /// One transaction; it is rolled back when it is dropped before its commit. Returns the highest ticket in it.
    fn transact(&mut self, (writes, bytes): (&[Write], &[Bytes]), cursors: &[Cursor]) -> Result<u64, CommitError> {
        let batch = Batch::new(writes);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write_outbox(&transaction, &mut self.names, &mut self.lanes, &mut self.replies, (&batch.outbox, bytes))?;
        for row in batch.out_lanes.values() {
            self.lanes.put(&transaction, row)?;
        }
        self.cursors.put(&transaction, cursors)?;
        let mut last_ticket = 0;
        for (ticket, change) in &batch.inbox {
            inbox::apply(&transaction, &mut self.names, *ticket, change)?;
            if change.has_ended() {
                self.cursors.ended(&transaction, *ticket)?;
            }
            if change.accept.is_some() {
                last_ticket = last_ticket.max(ticket.0);
            }
        }
        for ((lane, epoch), row) in &batch.in_lanes {
            match row {
                Some(row) => in_lanes::put(&transaction, row)?,
                None => in_lanes::remove(&transaction, lane, *epoch)?,
            }
        }
        for (row, spoke) in batch.peers.values() {
            peers::put(&transaction, row, spoke.map_or("", |spoke| &spoke.info))?;
        }
        meta::count(&transaction, columns::ordered("ticket", last_ticket)?)?;
        crash_points::sync();
        transaction.commit()?;
        Ok(last_ticket)
    }

    /// Makes durable what no message depends on, in transactions of its own. Noting something twice changes nothing.
    pub(crate) fn note(&mut self, notes: Vec<Note>) -> Result<(), CommitError> {
        let (mut errors, mut steps, mut results) = (Vec::new(), Vec::new(), Vec::new());
        for note in notes {
            match note {
                Note::Error(row) => errors.push(row),
                Note::Reply(step) => steps.push(step),
                Note::Result(row) => results.push(*row),
            }
        }
        if !steps.is_empty() {
            replies::step(&mut self.connection, &steps).map_err(|error| self.explain(error))?;
        }
        if !results.is_empty() {
            let due = schedules::add(&mut self.connection, &results).map_err(|error| self.explain(error))?;
            self.replies.due |= due;
        }
        if !errors.is_empty() {
            errors::add(&mut self.connection, &errors).map_err(|error| self.explain(error))?;
        }
        Ok(())
    }

    /// Whether something that is to be done with a result has become due since this was asked last.
    pub(crate) fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.replies.due)
    }

    /// Makes durable whose keys these are, in one transaction; an older certificate never replaces a newer one.
    pub(crate) fn identify(&mut self, rows: &[IdentityRow]) -> Result<(), CommitError> {
        if rows.is_empty() {
            return Ok(());
        }
        identities::put(&mut self.connection, rows).map_err(|error| self.explain(error))
    }

    /// SQLite tells a full quota and a full file system during a sync as a mere I/O error: trying to write tells which.
    fn explain(&self, error: CommitError) -> CommitError {
        match error {
            CommitError::Sqlite(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure) && is_full(&self.dir) =>
            {
                CommitError::Full
            }
            other => other,
        }
    }

    /// Leaves everything in the one file, for whoever copies it while no node runs. Nothing is lost if it fails.
    pub(crate) fn close(self) {
        if let Err(error) = schema::checkpoint(&self.connection) {
            tracing::debug!(%error, "the store's log is left beside it");
        }
    }

    /// The next messages of an outgoing lane that are not final, in order of their numbers, above `after`: at most
    /// `messages`, and not more than `bytes` of bodies beyond the first. Also says whether the lane has more.
    pub(crate) fn load(
        &mut self,
        lane: &Lane,
        after: Seq,
        messages: usize,
        bytes: usize,
    ) -> Result<(Vec<Queued>, bool), ReadError> {
        match self.lanes.find(&self.connection, lane)? {
            Some(id) => outbox::load(&self.connection, (lane, id), after, (messages, bytes)),
            None => Ok((Vec::new(), false)),
        }
    }

    /// At most `limit` messages of the outbox that are not final, whose number is above their lane's `sent` (the others are
    /// for the receiver to judge) and whose deadline is not after `until`, the earliest first; and the deadline of the next
    /// one after them.
    pub(crate) fn sweep(&mut self, until: Wall, limit: usize) -> Result<Due, ReadError> {
        outbox::sweep(&self.connection, until, limit)
    }

    /// Where a message of the outbox is.
    pub(crate) fn find(&mut self, id: MessageId) -> Result<Option<Found>, ReadError> {
        outbox::find(&self.connection, id)
    }

    /// Those of `ids` that are in the outbox. Asked for each message that comes in, so it looks into one index only, and
    /// locks the store once for all of them.
    pub(crate) fn known(&mut self, ids: &[MessageId]) -> Result<HashSet<MessageId>, ReadError> {
        let look = self.connection.transaction()?;
        let mut known = HashSet::new();
        {
            let mut statement = look.prepare_cached(outbox::ROW)?;
            for id in ids {
                if outbox::row_of(&mut statement, *id)?.is_some() {
                    known.insert(*id);
                }
            }
        }
        look.finish()?;
        Ok(known)
    }

    /// One short step of removing messages that ended long ago or are too many. What it removed is durable; the outputs
    /// that it names can go then.
    pub(crate) fn prune(&mut self, retention: &Retention, now: Wall) -> Result<Pruned, CommitError> {
        let pruned = self.cleaner.step(&mut self.connection, retention, now);
        match pruned {
            Ok(pruned) => {
                self.meta.commits += u64::from(pruned.messages > 0);
                Ok(pruned)
            }
            Err(error) => Err(self.explain(error)),
        }
    }
}

fn write_outbox(
    connection: &Connection,
    names: &mut Names,
    lanes: &mut OutLanes,
    replies: &mut Replies,
    (writes, bytes): (&[&Write], &[Bytes]),
) -> Result<(), CommitError> {
    let mut bytes = bytes.iter().copied();
    if writes.is_empty() {
        return Ok(());
    }
    let mut insert = connection.prepare_cached(outbox::INSERT)?;
    let mut row_of = connection.prepare_cached(outbox::ROW)?;
    let mut end = connection.prepare_cached(outbox::END)?;
    let mut put = connection.prepare_cached(progress::END)?;
    for write in writes {
        match write {
            Write::Submit { message, seq } => {
                let lane = lanes.id(connection, &message.lane())?;
                let sender = names.id(connection, message.from.as_str())?;
                outbox::insert(&mut insert, message, *seq, lane, sender)?;
                if let Some(spec) = &message.options.reply {
                    let is_order = message.method.as_str() == SCHEDULE;
                    replies::add(connection, connection.last_insert_rowid(), spec, is_order)?;
                    replies.any |= !is_order;
                }
            }
            Write::End { id, attempts, history, outcome } => {
                let bytes = bytes.next().unwrap_or_default();
                let row = outbox::row_of(&mut row_of, *id)?;
                if let Some(row) = row
                    && outbox::end(&mut end, row, outcome.state)?
                {
                    let told = (*attempts, &**history, bytes);
                    write_end(connection, replies, &mut put, row, told, outcome)?;
                }
            }
            Write::Progress { id, state, attempts, history } => {
                let bytes = bytes.next().unwrap_or_default();
                if let Some(row) = outbox::row_of(&mut row_of, *id)?
                    && outbox::is_open(connection, row)?
                {
                    progress::put(connection, row, state, (*attempts, history, bytes))?;
                }
            }
            Write::CancelWanted(id) => {
                if let Some(row) = outbox::row_of(&mut row_of, *id)? {
                    outbox::cancel(connection, row)?;
                }
            }
            // The batch has sorted these into their own tables.
            Write::OutLane(_)
            | Write::Peer(_)
            | Write::Accept(_)
            | Write::Started { .. }
            | Write::Ended { .. }
            | Write::Forget(_)
            | Write::InLane(_)
            | Write::DropInLane { .. } => {}
        }
    }
    Ok(())
}

/// Writes how a message ended, and what comes of that.
fn write_end(
    connection: &Connection,
    replies: &mut Replies,
    put: &mut Statement<'_>,
    row: i64,
    told: (u32, &[Moment], Bytes),
    outcome: &Outcome,
) -> Result<(), CommitError> {
    let reply = if replies.any { replies::ended(connection, row)? } else { None };
    replies.due |= reply.is_some();
    let bare;
    let outcome = match reply.is_some_and(|spec| spec.drops()) {
        true => {
            bare = outcome.without_output();
            &bare
        }
        false => outcome,
    };
    progress::end(connection, put, row, told, outcome)?;
    if let Some(proof) = &outcome.proof {
        evidence::put(connection, row, proof)?;
    }
    Ok(())
}

/// Whether there is no room for even a small file.
fn is_full(dir: &Path) -> bool {
    let probe = dir.join(".room");
    let tried = std::fs::File::create(&probe)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &[0; 64 * 1024]).and_then(|()| file.sync_all()));
    if let Err(error) = std::fs::remove_file(&probe) {
        tracing::debug!(%error, "the probe for room could not be removed");
    }
    let full = |error: &std::io::Error| {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(error.kind(), StorageFull | QuotaExceeded)
    };
    tried.is_err_and(|error| full(&error))
}
