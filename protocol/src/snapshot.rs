//! What the store gives back when a process starts.

use crate::event::Facts;
use crate::message::{Epoch, Incarnation};
use crate::name::NodeName;
use crate::step::{InLaneRow, InboxRow, OutLaneRow, PeerRow};
use crate::time::Wall;

/// Who this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node's name.
    pub name: NodeName,
    /// Its store.
    pub epoch: Epoch,
    /// This process.
    pub incarnation: Incarnation,
    /// The store's commit counter when the process started.
    pub commits_at_start: u64,
    /// Where the node's own choices (jitter, nonces) come from.
    pub seed: u64,
}

/// Everything that has to be known to go on where the last process stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Outgoing lanes, each with whether it has messages that are not final.
    pub out_lanes: Vec<(OutLaneRow, Backlog)>,
    /// The earliest deadline of a message of the outbox that is not final.
    pub next_deadline: Option<Wall>,
    /// Other nodes.
    pub peers: Vec<PeerRow>,
    /// Incoming lanes.
    pub in_lanes: Vec<InLaneRow>,
    /// The inbox, in order of its tickets, with what is known of each message's method. Bodies may be left empty.
    pub inbox: Vec<(InboxRow, Facts)>,
    /// The last ticket that was given.
    pub last_ticket: u64,
    /// The processes that began on this store, this one included: the latest
    /// [`STARTS_MAX`](crate::limits::STARTS_MAX) of them.
    pub starts: Vec<Start>,
}

/// A process that began on a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The process.
    pub incarnation: Incarnation,
    /// The store's commit counter when it began, that start counted; none where an older steward did not write it down.
    pub commits: Option<u64>,
}

/// What waits on disk in an outgoing lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that are not final.
    pub messages: u64,
    /// How many of them have a limited number of attempts.
    pub limited: u64,
}
