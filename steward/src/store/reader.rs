//! Looking into the store without writing: for the command line, the API, and whoever serves outputs. Works beside the
//! node that writes and when no node runs.
//!
//! Each call is one short read transaction, because an open one keeps the write-ahead log from being carried over.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use protocol::event::Ticket;
use protocol::message::{Message, MessageId};
use protocol::name::NodeName;
use protocol::outcome::{Outcome, Output, Stream};
use protocol::step::{InState, PeerRow};
use rusqlite::Connection;

use super::cursors::{self, CursorName};
use super::error::{OpenError, ReadError};
use super::errors::{self, ErrorFilter};
use super::evidence::Kept;
use super::names::Interned;
use super::outbox::Found;
use super::replies::{self, Due};
use super::schedules::{self, OrderRow};
use super::show::StoredOutput;
use super::{evidence, identities, inbox, list, out_lanes, outbox, peers, schema, show};
use crate::blobs::{Blobs, Owner};
use crate::engine::Filter;
use crate::methods;
use crate::replies::Spec;
use crate::view::{ErrorView, MessageView, ScheduleResultView, ScheduleView};

/// A connection that reads. Calls block for as long as a look into the file takes.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Mutex<Connection>,
    blobs: Blobs,
}

/// What a receiver has to know to give out an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobOwner {
    /// The only one who may have it.
    pub(crate) sender: NodeName,
    /// The message.
    pub(crate) id: MessageId,
    /// Whether it came sealed.
    pub(crate) sealed: bool,
    /// Whether it is a file that is copied, and how many bytes of it may go in a second.
    pub(crate) is_copy: bool,
    /// See `is_copy`.
    pub(crate) rate: Option<u64>,
    /// Its standard output.
    pub(crate) stdout: Output,
    /// Its standard error.
    pub(crate) stderr: Output,
}

impl Reader {
    /// Opens the store in `dir` for reading. There must be one.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        Ok(Self { connection: Mutex::new(schema::open_reader(dir)?), blobs: Blobs::new(dir) })
    }

    /// Runs `read` in one transaction, so that it sees one state of the store.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, ReadError>) -> Result<T, ReadError> {
        // A panic in another reader leaves the connection as it was: reading changes nothing.
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.unchecked_transaction()?;
        let found = read(&transaction)?;
        transaction.finish()?;
        Ok(found)
    }

    /// Messages of the outbox and the inbox, newest first. Output and history are left out. The state of what is not
    /// final is the one that was written down last.
    pub(crate) fn list(&self, filter: &Filter) -> Result<Vec<MessageView>, ReadError> {
        self.read(|connection| list::list(connection, filter))
    }

    /// A message of the outbox or the inbox with all that is stored of it. Outputs of up to
    /// [`SHOW_BYTES_MAX`](show::SHOW_BYTES_MAX) are in it; for longer ones see [`Reader::output`].
    pub(crate) fn show(&self, id: MessageId) -> Result<Option<MessageView>, ReadError> {
        self.read(|connection| show::show(connection, &self.blobs, id))
    }

    /// How far somebody is that reads an endless source.
    pub(crate) fn cursor(&self, name: &CursorName) -> Result<Option<String>, ReadError> {
        self.read(|connection| cursors::get(connection, name))
    }

    /// A message of the outbox with what its receiver has signed of its end.
    pub(crate) fn evidence(&self, id: MessageId) -> Result<Option<Kept>, ReadError> {
        self.read(|connection| evidence::get(connection, id))
    }

    /// An output of a message that has ended; none if it has not, or is not known here.
    pub(crate) fn output(&self, id: MessageId, stream: Stream) -> Result<Option<StoredOutput>, ReadError> {
        self.read(|connection| show::output(connection, &self.blobs, id, stream))
    }

    /// What was about to be appended to a file when somebody wrote that down last.
    pub(crate) fn replies_marked(&self) -> Result<Vec<Due>, ReadError> {
        self.read(replies::marked)
    }

    /// At most `limit` results with which something is to be done, behind this row.
    pub(crate) fn replies_due(&self, after: i64, limit: usize) -> Result<Vec<Due>, ReadError> {
        self.read(|connection| replies::due(connection, after, limit))
    }

    /// One output of a result of an order, by the number of what is to be done with it.
    pub(crate) fn result_output(&self, reply: i64, stream: Stream) -> Result<Option<Vec<u8>>, ReadError> {
        self.read(|connection| schedules::output(connection, reply, stream))
    }

    /// The row of an order with a schedule that was given to this node.
    pub(crate) fn order(&self, id: MessageId, to: &NodeName) -> Result<Option<OrderRow>, ReadError> {
        self.read(|connection| schedules::order(connection, id, to))
    }

    /// Orders with a schedule that stand: those given to one node, or all; oldest first.
    pub(crate) fn schedules(&self, node: Option<&str>) -> Result<Vec<ScheduleView>, ReadError> {
        self.read(|connection| schedules::list(connection, node))
    }

    /// The newest results of an order, the oldest of them first.
    pub(crate) fn schedule_results(&self, id: MessageId, limit: usize) -> Result<Vec<ScheduleResultView>, ReadError> {
        self.read(|connection| schedules::results(connection, id, limit))
    }

    /// The newest errors of nodes that match, as they came in.
    pub(crate) fn errors(&self, filter: &ErrorFilter) -> Result<Vec<ErrorView>, ReadError> {
        self.read(|connection| errors::list(connection, filter))
    }

    /// The certificate with this key, of those that others have shown.
    pub(crate) fn certificate_of_key(&self, key: &str) -> Result<Option<String>, ReadError> {
        self.read(|connection| identities::by_key(connection, key))
    }

    /// The newest certificate of this name that was shown.
    pub(crate) fn certificate_of(&self, name: &NodeName) -> Result<Option<String>, ReadError> {
        self.read(|connection| identities::by_name(connection, name.as_str()))
    }

    /// Of how many names there is a certificate.
    pub(crate) fn certificates(&self) -> Result<usize, ReadError> {
        self.read(identities::count)
    }

    /// What is known of other nodes, by name.
    pub(crate) fn peers(&self) -> Result<Vec<PeerRow>, ReadError> {
        self.read(|connection| Ok(peers::read(connection, &mut Interned::default())?))
    }

    /// Nodes to which something is not final, and how many messages. Counts in an index: 0.1 s for a million.
    pub(crate) fn outstanding(&self) -> Result<Vec<(NodeName, u64)>, ReadError> {
        let lanes = self.read(|connection| Ok(out_lanes::read(connection, &mut Interned::default())?))?;
        let mut nodes = std::collections::BTreeMap::new();
        for (row, backlog) in lanes {
            if backlog.messages > 0 {
                *nodes.entry(row.lane.peer).or_insert(0) += backlog.messages;
            }
        }
        Ok(nodes.into_iter().collect())
    }

    /// Where a message of the outbox is, and whether it has ended.
    pub(crate) fn sent(&self, id: MessageId) -> Result<Option<Found>, ReadError> {
        self.read(|connection| outbox::find(connection, id))
    }

    /// What is to be done with the result of a message of the outbox, if it says something about it.
    pub(crate) fn reply_spec(&self, id: MessageId) -> Result<Option<Spec>, ReadError> {
        self.read(|connection| replies::spec(connection, id))
    }

    /// A message of the inbox, with its body.
    pub(crate) fn inbox_message(&self, ticket: Ticket) -> Result<Option<Message>, ReadError> {
        self.read(|connection| Ok(inbox::get(connection, ticket)?.map(|row| row.message)))
    }

    /// Who may have the outputs of a message of the inbox that has ended, and what they are.
    pub(crate) fn blob_owner(&self, ticket: Ticket) -> Result<Option<BlobOwner>, ReadError> {
        let row = self.read(|connection| inbox::get(connection, ticket))?;
        Ok(row.and_then(|row| match row.state {
            InState::Stored | InState::Running(_) => None,
            InState::Finished(outcome) => {
                let Outcome { stdout, stderr, .. } = &*outcome;
                let (stdout, stderr) = (stdout.clone(), stderr.clone());
                let (sender, id, sealed) = (row.message.from, row.message.id, row.message.options.seal);
                let is_copy = row.message.method.as_str() == methods::COPY_FILE;
                let data = is_copy.then(|| methods::data(&row.message.body).ok()).flatten();
                let rate = data.and_then(|data| methods::copy_file::rate_of(&data));
                Some(BlobOwner { sender, id, sealed, is_copy, rate, stdout, stderr })
            }
        }))
    }

    /// For which node what goes along with a message of the outbox is, and whether it is sealed; none once it has ended.
    pub(crate) fn content_owner(&self, id: MessageId) -> Result<Option<(NodeName, bool)>, ReadError> {
        let view = self.show(id)?.filter(|view| view.finished_at.is_none());
        Ok(view.and_then(|view| Some((NodeName::new(&view.to_node).ok()?, view.sealed))))
    }

    /// Whether files of this owner are still of use; for [`Blobs::remove_leftovers`].
    pub(crate) fn is_known(&self, owner: Owner) -> Result<bool, ReadError> {
        self.read(|connection| match owner {
            Owner::Out(id) => Ok(outbox::find(connection, id)?.is_some()),
            Owner::In(ticket) => Ok(inbox::get(connection, ticket)?.is_some()),
            Owner::Content(id) => {
                Ok(show::show(connection, &self.blobs, id)?.is_some_and(|view| view.finished_at.is_none()))
            }
            Owner::Copy(ticket) => {
                Ok(inbox::get(connection, ticket)?.is_some_and(|row| !matches!(row.state, InState::Finished(_))))
            }
        })
    }
}
