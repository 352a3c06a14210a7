//! The writes of one transaction, ordered by table. Later rows of one lane, node or inbox message replace earlier ones
//! before they touch SQLite: a batch of a thousand messages of one lane writes the lane once.

use std::collections::{BTreeMap, HashMap};

use protocol::message::Epoch;
use protocol::name::{Lane, NodeName};
use protocol::step::{InLaneRow, InState, OutLaneRow, PeerRow, Write};

use super::inbox::Change;

/// See the module. Borrows from the writes.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    /// `Submit`, `Progress`, `CancelWanted` and `End`, in their order.
    pub(super) outbox: Vec<&'a Write>,
    /// By ticket.
    pub(super) inbox: BTreeMap<protocol::event::Ticket, Change<'a>>,
    /// The last row of each.
    pub(super) out_lanes: HashMap<&'a Lane, &'a OutLaneRow>,
    /// The last row of each; none where it goes.
    pub(super) in_lanes: HashMap<(&'a Lane, Epoch), Option<&'a InLaneRow>>,
    /// The last row of each, and the last that said something of itself.
    pub(super) peers: HashMap<&'a NodeName, (&'a PeerRow, Option<&'a PeerRow>)>,
}

impl<'a> Batch<'a> {
    /// Sorts the writes.
    pub(super) fn new(writes: &'a [Write]) -> Self {
        let mut batch = Self::default();
        for write in writes {
            batch.add(write);
        }
        batch
    }

    fn add(&mut self, write: &'a Write) {
        match write {
            Write::Submit { .. } | Write::Progress { .. } | Write::CancelWanted(_) | Write::End { .. } => {
                self.outbox.push(write);
            }
            Write::OutLane(row) => {
                self.out_lanes.insert(&row.lane, row);
            }
            Write::Peer(row) => {
                let entry = self.peers.entry(&row.name).or_insert((row, None));
                entry.0 = row;
                if !row.info.is_empty() {
                    entry.1 = Some(row);
                }
            }
            Write::Accept(row) => self.inbox.entry(row.ticket).or_default().accept = Some(row),
            Write::Started { ticket, at } => {
                self.inbox.entry(*ticket).or_default().state = Some(InState::Running(*at));
            }
            Write::Ended { ticket, outcome } => {
                self.inbox.entry(*ticket).or_default().state = Some(InState::Finished(outcome.clone()));
            }
            Write::Forget(ticket) => self.inbox.entry(*ticket).or_default().forget = true,
            Write::InLane(row) => {
                self.in_lanes.insert((&row.lane, row.epoch), Some(row));
            }
            Write::DropInLane { lane, epoch } => {
                self.in_lanes.insert((lane, *epoch), None);
            }
        }
    }
}
