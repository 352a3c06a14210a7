//! What can happen to a node: everything that [`Node::step`](crate::Node::step) takes in.

use std::sync::Arc;

use crate::message::Kind;
use crate::message::{Body, Epoch, Incarnation, Message, MessageId, Options, Seq};
use crate::name::{Lane, MethodName, NodeName};
use crate::outcome::{Moment, Outcome, Receipt, Stream};
use crate::time::Wall;

/// One thing that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed: [`Node::wake_at`](crate::Node::wake_at) is reached.
    Tick,
    /// This process is about to stop: nothing more is started here. What waits starts in the next process.
    Stopping,
    /// The broker can be reached, and our subscriptions are in place.
    LinkUp,
    /// The broker can't be reached.
    LinkDown,
    /// Somebody here sends a message. It is accepted once the step's writes are durable.
    Submit(Message),
    /// Somebody here takes a message back that is not final yet; lane and number as the store has them.
    Cancel {
        /// The message.
        id: MessageId,
        /// Its outgoing lane.
        lane: Lane,
        /// Its number there.
        seq: Seq,
    },
    /// The store's answer to [`Effect::Load`](crate::step::Effect::Load).
    Loaded {
        /// The lane that was asked for.
        lane: Lane,
        /// Its next messages that are not final, in order of their numbers.
        messages: Vec<Queued>,
        /// Whether the lane has more behind them.
        more: bool,
    },
    /// The store's answer to [`Effect::Sweep`](crate::step::Effect::Sweep): messages whose deadline has passed.
    Swept {
        /// Message, lane and number, at most [`SWEEP_MESSAGES_MAX`](crate::limits::SWEEP_MESSAGES_MAX).
        due: Vec<(MessageId, Lane, Seq)>,
        /// The earliest deadline that is left.
        next: Option<Wall>,
    },
    /// Messages from another node, with what admission says of each.
    Envelope(Envelope, Vec<Verdict>),
    /// Receipts from another node.
    Receipts(Receipts),
    /// Something from another node about the delivery itself.
    Control {
        /// Who sends it.
        from: NodeName,
        /// Whom it is meant for; none is for whoever has the name.
        to: Option<Incarnation>,
        /// What it says.
        control: Control,
        /// Whether it came sealed; then it is answered so.
        sealed: bool,
    },
    /// Another node asks or has asked who we are: it may be a recording. It is answered, because an answer can do no harm,
    /// and nothing else follows from it.
    Asked {
        /// Who asks.
        from: NodeName,
        /// See [`Control::Probe`].
        nonce: u64,
        /// See [`Control::Probe`].
        known: Option<Incarnation>,
    },
    /// Another node announces itself.
    Hello(Hello),
    /// The broker says that nobody listens under this name.
    NoResponders(NodeName),
    /// The broker has taken these NACK messages of a lane.
    HandedOver {
        /// The lane.
        lane: Lane,
        /// Their numbers.
        seqs: Vec<Seq>,
    },
    /// The broker will never take this message, however often it is tried (it is larger than the broker's limit).
    Unsendable {
        /// The message.
        id: MessageId,
        /// Why.
        why: Arc<str>,
    },
    /// Methods have ended.
    Finished(Vec<(Ticket, Outcome)>),
    /// Bytes of an output that is being fetched are on disk here, without a gap, up to `have`.
    Fetched {
        /// The message whose output it is.
        id: MessageId,
        /// Which of its streams.
        stream: Stream,
        /// Bytes on disk.
        have: u64,
    },
    /// The end of [`Effect::Seal`](crate::step::Effect::Seal): the output is whole, or its hash does not match.
    Sealed {
        /// The message whose output it is.
        id: MessageId,
        /// Which of its streams.
        stream: Stream,
        /// Whether the hash matched; if not, the file is empty again.
        whole: bool,
    },
}

/// A message of the outbox as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The message.
    pub message: Message,
    /// Its number in its lane.
    pub seq: Seq,
    /// How often it was sent, as far as it was written down.
    pub attempts: u32,
    /// Whether its cancellation was asked for.
    pub cancel: bool,
    /// Its history, as far as it was written down.
    pub history: Vec<Moment>,
}

/// A receiver's local number for a message that it has accepted; never used twice in one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What admission (rules, method table, arguments) says of a message that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may run here.
    Accept(Facts),
    /// It may not, and this is why.
    Refuse(Arc<str>),
}

/// What delivery has to know of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether the method may be run again after a crash in the middle.
    pub rerun: bool,
    /// How many messages in a row one run may take; 1 for most methods.
    pub batch: usize,
}

/// Messages of one lane, as they arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The sender.
    pub from: NodeName,
    /// The sender's store.
    pub epoch: Epoch,
    /// The process that is meant; none for NACK types, which anybody with the name may take.
    pub to: Option<Incarnation>,
    /// The type of its messages.
    pub kind: Kind,
    /// The method of its messages.
    pub method: MethodName,
    /// The lowest number of the lane that is not final. What is below it is never run again.
    pub floor: Seq,
    /// The messages, in order of their numbers.
    pub items: Vec<Item>,
}

/// One message on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its identity.
    pub id: MessageId,
    /// Its number in its lane.
    pub seq: Seq,
    /// The number before it in its lane that was not final when it was published; 0 if there was none. Everything
    /// between the two will never come.
    pub prev: Seq,
    /// Its data.
    pub body: Body,
    /// Its options.
    pub options: Options,
    /// When it was accepted, by the sender's clock.
    pub created: Wall,
}

/// Receipts of one receiver for one sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipts {
    /// The receiver.
    pub from: NodeName,
    /// The sender's store that they are for.
    pub to: Epoch,
    /// The process that tells.
    pub incarnation: Incarnation,
    /// The receiver's store, and how far it was when it told.
    pub epoch: Epoch,
    /// See `epoch`.
    pub commits: u64,
    /// Receipt by receipt, each with the receiver's number for the message.
    pub receipts: Vec<(Ticket, Receipt)>,
    /// Whether they came sealed; then they are answered so.
    pub sealed: bool,
}

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its node.
    pub from: NodeName,
    /// Its store.
    pub epoch: Epoch,
    /// The process.
    pub incarnation: Incarnation,
    /// The store's commit counter when the process started, that start counted. Not higher than what was seen of an
    /// earlier process: the store is an old copy.
    pub commits_at_start: u64,
    /// Why it says so.
    pub occasion: Occasion,
    /// Name, version, load and the like as JSON text, for the registry. Opaque here; empty in answers to probes.
    pub info: Body,
}

/// Why a node says hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// It has started or is connected again.
    Up,
    /// Its interval has passed.
    Interval,
    /// It is about to stop.
    Goodbye,
    /// A probe asked for it.
    Answer {
        /// The probe's.
        nonce: u64,
        /// The store's commit counter when the process after the one that the asker knows began on it, or when this one
        /// did if there is none between. None if the one that the asker knows did not begin on it: the store is a copy
        /// from before it, or has forgotten it ([`STARTS_MAX`](crate::limits::STARTS_MAX)).
        since: Option<u64>,
    },
    /// Something arrived that was meant for another process with its name.
    Mistaken,
}

/// What nodes tell each other about the delivery itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Who are you? To be answered with [`Control::Hello`] and this number.
    Probe {
        /// Chosen by the asker, so that only an answer to this very question counts.
        nonce: u64,
        /// The asker's store, so that the asked can repeat what it owes to it.
        epoch: Epoch,
        /// The process of the asked node that the asker has spoken with last, as far as its store knows.
        known: Option<Incarnation>,
    },
    /// The answer to a probe, or to something that was meant for somebody else.
    Hello(Hello),
    /// The messages under these numbers have ended for their sender: results are stored there and can be forgotten, and
    /// what has not started is not started.
    Confirm(Vec<Ticket>),
    /// Don't start this message, or stop it. Repeated until its final receipt is there.
    Cancel {
        /// The sender's store.
        epoch: Epoch,
        /// The lane's type.
        kind: Kind,
        /// The lane's method.
        method: MethodName,
        /// The message.
        id: MessageId,
        /// Its number.
        seq: Seq,
        /// See [`Item::prev`].
        prev: Seq,
    },
    /// Send a piece of an output.
    Ask {
        /// The receiver's number for the message.
        ticket: Ticket,
        /// Which of its streams.
        stream: Stream,
        /// From this byte on.
        offset: u64,
        /// At most so many bytes.
        len: u64,
    },
}
