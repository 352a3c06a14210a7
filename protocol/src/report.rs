//! What people and metrics hear of.

use std::sync::Arc;

use crate::message::{Incarnation, MessageId};
use crate::name::{Lane, NodeName};
use crate::outcome::{Outcome, State};
use crate::time::Wall;

/// A change that people and metrics want to hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A message that this node sends has reached a state.
    Out {
        /// The message.
        id: MessageId,
        /// Its lane.
        lane: Lane,
        /// The state.
        state: State,
        /// How often it was sent.
        attempts: u32,
        /// How it ended, if it has.
        outcome: Option<Arc<Outcome>>,
        /// Whether its data and its output are for its sender and its receiver alone to read.
        sealed: bool,
    },
    /// A message that this node received has ended.
    In {
        /// The message.
        id: MessageId,
        /// Its lane; the peer is the sender.
        lane: Lane,
        /// How it ended.
        outcome: Arc<Outcome>,
        /// As in `Out`.
        sealed: bool,
    },
    /// What is known of another node has changed.
    Presence {
        /// The node.
        peer: NodeName,
        /// What is known now.
        presence: Presence,
    },
    /// Two live processes have the same name.
    Conflict {
        /// The name.
        peer: NodeName,
        /// The process that goes on.
        known: Incarnation,
        /// The one that is not listened to.
        other: Incarnation,
    },
    /// A node came back with another store, or with an old copy of it.
    StoreLost {
        /// The node.
        peer: NodeName,
    },
    /// Something arrived that had to be dropped.
    Dropped {
        /// Whom it came from.
        peer: NodeName,
        /// Why.
        why: &'static str,
    },
}

/// What is known of a node, and from what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Nothing yet, or nothing since our own link went down.
    Unknown,
    /// It gave a proof of life at this time.
    Online(Wall),
    /// Nobody listens under its name since this time.
    Away(Wall),
    /// It said goodbye at this time.
    Stopped(Wall),
    /// It does not answer since this time, though somebody listens.
    Silent(Wall),
}
