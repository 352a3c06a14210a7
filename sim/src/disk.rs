//! A machine's disk: the store's tables and the files of outputs. It does with a batch of writes what SQLite does: all
//! of it or nothing, and durable when the commit returns. It knows nothing of what the rows mean.

pub(crate) mod files;
pub(crate) mod reading;

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::event::Ticket;
use protocol::message::{Epoch, Incarnation, Message, MessageId, Seq};
use protocol::name::{Lane, NodeName};
use protocol::outcome::Outcome;
use protocol::snapshot::Start;
use protocol::step::{InLaneRow, InState, InboxRow, Moment, OutLaneRow, PeerRow, Write};

use self::files::Files;

/// What is lost with the machine that has it.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    /// What a reader sees.
    pub(crate) tables: Tables,
    /// The outputs.
    pub(crate) files: Files,
    /// A batch that is being made durable: after a crash it is there as a whole or not at all.
    pending: Option<Vec<Write>>,
    /// What a power loss leaves, where the shell was planted not to sync.
    synced: Option<Box<Tables>>,
}

/// The rows.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    /// The identity of the store.
    pub(crate) epoch: Epoch,
    /// The processes that began on it.
    pub(crate) starts: Vec<Start>,
    /// Transactions so far.
    pub(crate) commits: u64,
    /// The last ticket that was given.
    pub(crate) last_ticket: u64,
    /// Messages that this node sends.
    pub(crate) outbox: BTreeMap<MessageId, OutRow>,
    /// Those of them that are not final.
    pub(crate) open: BTreeMap<Lane, BTreeMap<Seq, MessageId>>,
    /// Outgoing lanes.
    pub(crate) out_lanes: BTreeMap<Lane, OutLaneRow>,
    /// Other nodes.
    pub(crate) peers: BTreeMap<NodeName, PeerRow>,
    /// Messages that this node has accepted.
    pub(crate) inbox: BTreeMap<Ticket, InboxRow>,
    /// Incoming lanes.
    pub(crate) in_lanes: BTreeMap<(Lane, Epoch), InLaneRow>,
}

/// A message that this node sends.
#[derive(Debug, Clone)]
pub(crate) struct OutRow {
    pub(crate) message: Message,
    pub(crate) seq: Seq,
    pub(crate) attempts: u32,
    pub(crate) cancel: bool,
    pub(crate) history: Vec<Moment>,
    pub(crate) outcome: Option<Arc<Outcome>>,
}

impl Disk {
    /// An empty one.
    pub(crate) fn new(epoch: Epoch) -> Self {
        let tables = Tables {
            epoch,
            starts: Vec::new(),
            commits: 0,
            last_ticket: 0,
            outbox: BTreeMap::new(),
            open: BTreeMap::new(),
            out_lanes: BTreeMap::new(),
            peers: BTreeMap::new(),
            inbox: BTreeMap::new(),
            in_lanes: BTreeMap::new(),
        };
        Self { tables, files: Files::default(), pending: None, synced: None }
    }

    /// A process starts: durable before it says that it is there.
    pub(crate) fn begin_process(&mut self, incarnation: Incarnation) {
        self.tables.commits += 1;
        self.tables.starts.push(Start { incarnation, commits: Some(self.tables.commits) });
    }

    /// The batch is on its way to the disk.
    pub(crate) fn begin(&mut self, writes: Vec<Write>) {
        self.pending = Some(writes);
    }

    /// The batch on its way is durable; returns it. An error is a write that a store can't do.
    pub(crate) fn commit(&mut self) -> Result<Vec<Write>, String> {
        let writes = self.pending.take().unwrap_or_default();
        self.tables.commits += 1;
        for write in &writes {
            self.tables.apply(write)?;
        }
        Ok(writes)
    }

    /// A shell that does not sync: what was committed is safe from a kill, not from a power loss.
    pub(crate) fn forget_to_sync(&mut self, now: u64) {
        if self.synced.is_none() || now.is_multiple_of(4) {
            self.synced = Some(Box::new(self.tables.clone()));
        }
    }

    /// A copy that was put aside holds what was committed then, and nothing that was on its way.
    pub(crate) fn copy(&self) -> Self {
        Self { tables: self.tables.clone(), files: self.files.clone(), pending: None, synced: None }
    }

    /// The process dies, or the whole machine. `lucky` says whether a batch on its way has made it; it is returned then.
    pub(crate) fn crash(&mut self, power_loss: bool, lucky: bool) -> Result<Option<Vec<Write>>, String> {
        let made_it = if lucky && self.pending.is_some() { Some(self.commit()?) } else { None };
        self.pending = None;
        if power_loss {
            self.files.lose_unsynced();
            if let Some(synced) = self.synced.take() {
                self.tables = *synced;
            }
        }
        Ok(made_it)
    }
}

impl Tables {
    fn apply(&mut self, write: &Write) -> Result<(), String> {
        match write {
            Write::Submit { message, seq } => self.submit(message, *seq)?,
            Write::Progress { id, attempts, history, .. } => {
                let row = self.out_row(*id)?;
                row.attempts = *attempts;
                row.history.clone_from(history);
            }
            Write::CancelWanted(id) => self.out_row(*id)?.cancel = true,
            Write::End { id, attempts, outcome, .. } => self.end(*id, *attempts, outcome)?,
            Write::OutLane(row) => drop(self.out_lanes.insert(row.lane.clone(), row.clone())),
            Write::Peer(row) => {
                let mut row = row.clone();
                if let Some(known) = self.peers.get(&row.name).filter(|_| row.info.is_empty()) {
                    row.info = known.info.clone();
                }
                self.peers.insert(row.name.clone(), row);
            }
            Write::Accept(row) => {
                self.last_ticket = self.last_ticket.max(row.ticket.0);
                if self.inbox.insert(row.ticket, row.clone()).is_some() {
                    return Err(format!("ticket {} is given twice", row.ticket.0));
                }
            }
            Write::Started { ticket, at } => self.in_row(*ticket)?.state = InState::Running(*at),
            Write::Ended { ticket, outcome } => self.in_row(*ticket)?.state = InState::Finished(outcome.clone()),
            Write::Forget(ticket) => {
                self.in_row(*ticket)?;
                self.inbox.remove(ticket);
            }
            Write::InLane(row) => drop(self.in_lanes.insert((row.lane.clone(), row.epoch), row.clone())),
            Write::DropInLane { lane, epoch } => drop(self.in_lanes.remove(&(lane.clone(), *epoch))),
        }
        Ok(())
    }

    fn submit(&mut self, message: &Message, seq: Seq) -> Result<(), String> {
        let row =
            OutRow { message: message.clone(), seq, attempts: 0, cancel: false, history: Vec::new(), outcome: None };
        if self.outbox.insert(message.id, row).is_some() {
            return Err(format!("message {} is submitted twice", message.id));
        }
        if self.open.entry(message.lane()).or_default().insert(seq, message.id).is_some() {
            return Err(format!("number {} of {} is given twice", seq.0, message.lane()));
        }
        Ok(())
    }

    fn end(&mut self, id: MessageId, attempts: u32, outcome: &Arc<Outcome>) -> Result<(), String> {
        let row = self.out_row(id)?;
        if let Some(known) = &row.outcome {
            return Err(format!("message {id} ends as {} and was {} already", outcome.state, known.state));
        }
        row.attempts = attempts;
        row.outcome = Some(outcome.clone());
        let (lane, seq) = (row.message.lane(), row.seq);
        if let Some(open) = self.open.get_mut(&lane) {
            open.remove(&seq);
        }
        Ok(())
    }

    fn out_row(&mut self, id: MessageId) -> Result<&mut OutRow, String> {
        self.outbox.get_mut(&id).ok_or_else(|| format!("there is no message {id} in the outbox"))
    }

    fn in_row(&mut self, ticket: Ticket) -> Result<&mut InboxRow, String> {
        self.inbox.get_mut(&ticket).ok_or_else(|| format!("there is no message under ticket {} in the inbox", ticket.0))
    }
}
