//! A message: one thing for one node.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::name::{Lane, MethodName, NodeName};
use crate::time::Wall;

/// The seed's four message types (R3). Case sensitive on the wire and in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Executed; the ACK carries the output and whether it succeeded.
    CommandAck,
    /// Executed; no answer.
    CommandNack,
    /// Delivered; the ACK confirms the delivery.
    EventAck,
    /// Delivered if somebody listens; no answer.
    EventNack,
}

impl Kind {
    /// All four.
    pub const ALL: [Self; 4] = [Self::CommandAck, Self::CommandNack, Self::EventAck, Self::EventNack];

    /// The name as it stands in subjects and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CommandAck => "CommandACK",
            Self::CommandNack => "CommandNACK",
            Self::EventAck => "EventACK",
            Self::EventNack => "EventNACK",
        }
    }

    /// The kind with this name, case sensitive.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether the receiver answers.
    pub fn wants_ack(self) -> bool {
        matches!(self, Self::CommandAck | Self::EventAck)
    }

    /// Whether it is executed (a command) rather than delivered (an event).
    pub fn is_command(self) -> bool {
        matches!(self, Self::CommandAck | Self::CommandNack)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The identity of a message: a UUIDv7, so that ids sort by the time of their making.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u128);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&uuid::Uuid::from_u128(self.0), f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for MessageId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        uuid::Uuid::parse_str(text).map(|id| Self(id.as_u128()))
    }
}

/// The number of a message in its lane. Rises with each message, may skip, is never used twice for two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The identity of a store, made once when the store is made (random). A node whose store is gone has a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// The identity of one run of one process (random at each start). An envelope is addressed to an incarnation, so that
/// nobody but the process that the sender has spoken to can take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// The message's `data`, as the JSON text of an array of strings. Opaque here: carried, never read.
pub type Body = Arc<str>;

/// What a message asks for beside its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long to wait for the first receipt before sending again. Not how long the command may run.
    pub timeout: Duration,
    /// How many attempts, `timeout` apart, before the message is `undeliverable`; 0 is without limit.
    pub retries: u32,
    /// How long the method may run; `None` is without limit.
    pub method_timeout: Option<Duration>,
    /// Not started after this point: `expired`. Judged by the receiver's clock once it has been sent.
    pub deadline: Option<Wall>,
    /// May start without waiting for the messages before it in its lane to end.
    pub parallel: bool,
    /// Harmless to run again after a crash in the middle.
    pub rerun: bool,
    /// All that travels for it, in both directions, is for its sender and its receiver alone to read.
    pub seal: bool,
    /// What its sender does with its result, as text. Opaque here: kept with the message, never sent.
    pub reply: Option<Body>,
}

impl Default for Options {
    /// The seed's defaults (R10): an ACK timeout of 10 s, retries without limit; nothing else asked for.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            retries: 0,
            method_timeout: None,
            deadline: None,
            parallel: false,
            rerun: false,
            seal: false,
            reply: None,
        }
    }
}

/// One thing for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its identity.
    pub id: MessageId,
    /// Who sends it.
    pub from: NodeName,
    /// Who is to have it.
    pub to: NodeName,
    /// Its type.
    pub kind: Kind,
    /// What handles it on the receiver.
    pub method: MethodName,
    /// Its data.
    pub body: Body,
    /// How it wants to be handled.
    pub options: Options,
    /// When it was accepted, by the sender's wall clock.
    pub created: Wall,
}

impl Message {
    /// The lane on which it goes out.
    pub fn lane(&self) -> Lane {
        Lane { peer: self.to.clone(), kind: self.kind, method: self.method.clone() }
    }
}
