//! What a node wants to be done: everything that [`Node::step`](crate::Node::step) gives out.
//!
//! The rule that carries every promise: the writes of a step are durable before its first effect is performed. Effects
//! may be lost or repeated; writes may not.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{Control, Facts, Item, Occasion, Ticket};
use crate::message::{Body, Epoch, Incarnation, Kind, Message, MessageId, Seq};
use crate::name::{Lane, NodeName};
pub use crate::outcome::Moment;
use crate::outcome::{Outcome, Receipt, State, Stream};
pub use crate::report::{Presence, Report};
use crate::time::Wall;

/// The answer to one event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To be made durable, in this order, in one transaction.
    pub writes: Vec<Write>,
    /// To be performed after that, in this order.
    pub effects: Vec<Effect>,
}

/// A change of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A new message in the outbox, not final.
    Submit {
        /// The message.
        message: Message,
        /// Its number in its lane.
        seq: Seq,
    },
    /// How far a message of the outbox has come, for the time line. May be lost without harm.
    Progress {
        /// The message.
        id: MessageId,
        /// Its state.
        state: State,
        /// How often it was sent.
        attempts: u32,
        /// Its history so far.
        history: Vec<Moment>,
    },
    /// The operator wants a message of the outbox cancelled; kept until it is final.
    CancelWanted(MessageId),
    /// A message of the outbox has ended.
    End {
        /// The message.
        id: MessageId,
        /// How often it was sent.
        attempts: u32,
        /// Its history, where this process knows it; empty to keep what the store has.
        history: Vec<Moment>,
        /// How it ended.
        outcome: Arc<Outcome>,
    },
    /// The row of an outgoing lane; replaces what was there.
    OutLane(OutLaneRow),
    /// What is known of another node; replaces what was there. `info` is kept where it is empty.
    Peer(PeerRow),
    /// A new message in the inbox.
    Accept(InboxRow),
    /// A message of the inbox is about to be started.
    Started {
        /// The message.
        ticket: Ticket,
        /// When.
        at: Wall,
    },
    /// A message of the inbox has ended; its result waits for the sender's confirmation.
    Ended {
        /// The message.
        ticket: Ticket,
        /// How it ended.
        outcome: Arc<Outcome>,
    },
    /// The sender has the result: the inbox row and its output can go.
    Forget(Ticket),
    /// The row of an incoming lane; replaces what was there.
    InLane(InLaneRow),
    /// An incoming lane of a store that the sender no longer has.
    DropInLane {
        /// The lane; its peer is the sender.
        lane: Lane,
        /// The sender's store.
        epoch: Epoch,
    },
}

/// What is kept of an outgoing lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutLaneRow {
    /// The lane.
    pub lane: Lane,
    /// The last number that was given.
    pub last: Seq,
    /// The highest number that may have been published.
    pub sent: Seq,
    /// What was sent up to this number went to a store that is gone.
    pub lost: Seq,
}

/// What is kept of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRow {
    /// The node.
    pub name: NodeName,
    /// Its store, where it has told.
    pub epoch: Option<Epoch>,
    /// The highest commit counter of that store that was seen.
    pub commits: u64,
    /// Its process.
    pub incarnation: Option<Incarnation>,
    /// When it last gave a proof of life, by our clock.
    pub seen: Option<Wall>,
    /// What it last said of itself, as JSON text.
    pub info: Body,
}

/// A message in the inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxRow {
    /// Our number for it.
    pub ticket: Ticket,
    /// The sender's store.
    pub epoch: Epoch,
    /// Its number in its lane.
    pub seq: Seq,
    /// See [`Item::prev`].
    pub prev: Seq,
    /// The message.
    pub message: Message,
    /// How far it is.
    pub state: InState,
}

/// How far a message of the inbox is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InState {
    /// Not started.
    Stored,
    /// Started at this time, not ended.
    Running(Wall),
    /// Ended, not confirmed.
    Finished(Arc<Outcome>),
}

/// What is kept of an incoming lane: what must never run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InLaneRow {
    /// The lane; its peer is the sender.
    pub lane: Lane,
    /// The sender's store.
    pub epoch: Epoch,
    /// Everything below is settled.
    pub floor: Seq,
    /// What is settled at and above the floor, as closed ranges in order.
    pub seen: Vec<(Seq, Seq)>,
}

/// Something to be done. May be lost (the process dies) or repeated (it starts again).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The message is accepted: tell whoever submitted it.
    Accepted(MessageId),
    /// The message is not accepted, and why.
    Rejected(MessageId, &'static str),
    /// Publish a message on its lane's subject; neighbours of one lane may share an envelope.
    Publish {
        /// The outgoing lane.
        lane: Lane,
        /// The process that is meant; none for NACK types.
        to: Option<Incarnation>,
        /// The lane's lowest number that is not final.
        floor: Seq,
        /// The message.
        item: Item,
    },
    /// Tell a sender about one of its messages; neighbours for one sender may share a publish.
    Receipt {
        /// The sender.
        to: NodeName,
        /// The sender's store.
        epoch: Epoch,
        /// The type of the message.
        kind: Kind,
        /// Our number for the message.
        ticket: Ticket,
        /// What to tell.
        receipt: Receipt,
        /// See [`Options::seal`](crate::message::Options::seal).
        seal: bool,
    },
    /// Tell another node something about the delivery.
    Control {
        /// The node.
        to: NodeName,
        /// The process that is meant; none is for whoever has the name.
        incarnation: Option<Incarnation>,
        /// What to tell.
        control: Control,
        /// Whether it is about messages that are to be sealed, see [`Options::seal`](crate::message::Options::seal).
        seal: bool,
    },
    /// Announce this node to whom it may concern.
    Announce(Occasion),
    /// Listen to the announcements of this node, or no longer.
    Watch(NodeName, bool),
    /// Run a method on these messages, one after the other; more than one only where its facts allow a batch.
    Start(Vec<Run>),
    /// Run a method on a NACK message: no record, no receipt. Dropped (and counted) when too many wait.
    StartUnrecorded {
        /// The sender.
        from: NodeName,
        /// The message.
        run: Run,
    },
    /// Stop the run of this message; its end is reported as [`Final::Cancelled`](crate::outcome::Final::Cancelled).
    Kill(Ticket),
    /// The output of this inbox message is no longer needed.
    Discard(Ticket),
    /// Read the next messages of a lane that are not final, after this number, within these limits.
    Load {
        /// The outgoing lane.
        lane: Lane,
        /// Only numbers above this one.
        after: Seq,
        /// At most so many.
        messages: usize,
        /// Stop when their bodies have so many bytes, but not before the first.
        bytes: usize,
    },
    /// Find messages of the outbox whose deadline is not after this point, that are not final, and whose number is above
    /// their lane's `sent` (what may have been sent is for the receiver to judge).
    Sweep(Wall),
    /// Check the hash of a fetched output and sync it; answered by `Sealed`.
    Seal {
        /// The message whose output it is.
        id: MessageId,
        /// Which of its streams.
        stream: Stream,
        /// The hash that it must have.
        hash: [u8; 32],
    },
    /// Open the file for an output that is about to be fetched; answered by `Fetched` with what is there already.
    Receive {
        /// The message whose output it is.
        id: MessageId,
        /// Which of its streams.
        stream: Stream,
        /// Who has it.
        from: NodeName,
        /// The receiver's number for the message.
        ticket: Ticket,
        /// Bytes that it has in all.
        len: u64,
    },
    /// Something changed that people and metrics want to hear of.
    Report(Report),
}

/// One message to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Our number for it.
    pub ticket: Ticket,
    /// The message. Its body is empty where it has to be read from the store.
    pub message: Message,
    /// How long it may run.
    pub limit: Option<Duration>,
    /// What delivery knows of its method.
    pub facts: Facts,
    /// Whether it may have been started before.
    pub again: bool,
    /// Whether `message.body` has to be read from the store.
    pub stored: bool,
}
