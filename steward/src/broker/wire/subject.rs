//! The subjects: who sends to whom stands in each, so that a broker's permissions can pin both ends.

use protocol::message::Kind;
use protocol::name::{Lane, NodeName};

/// Before the name of the node that announces itself. Not a node's subject: `$` is in no name.
pub(crate) const HELLO_PREFIX: &str = "$STEWARD.hello.";

/// Whom a subject is for and, where it says so, whom it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends<'a> {
    /// The receiver.
    pub(crate) to: &'a str,
    /// The sender. Messages do not have it in their subject (R4).
    pub(crate) from: Option<&'a str>,
}

/// What a subject below a node's name is for. The last part is not checked yet: the body's decoder compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel<'a> {
    /// Messages of this type, for this method (R4).
    Messages(Kind, &'a str),
    /// Receipts from this node.
    Receipts(&'a str),
    /// Something about the delivery from this node.
    Control(&'a str),
    /// Pieces of outputs from this node.
    Data(&'a str),
    /// The broker's word on something that we sent to this node.
    Reply(&'a str),
    /// Our own echo, with its mark.
    Echo(&'a str),
    /// An answer about our name for a process that does not run yet.
    Namesake,
}

impl<'a> Channel<'a> {
    /// What `subject` is for, if it is one of the node `me`.
    pub(crate) fn parse(subject: &'a str, me: &str) -> Option<Self> {
        let rest = subject.strip_prefix(me)?.strip_prefix('.')?;
        let (channel, last) = rest.split_once('.')?;
        if last.is_empty() || last.contains('.') {
            return None;
        }
        Some(match channel {
            "ACK" => Self::Receipts(last),
            "CTL" => Self::Control(last),
            "DATA" => Self::Data(last),
            "REPLY" => Self::Reply(last),
            "ECHO" => Self::Echo(last),
            "NAME" => Self::Namesake,
            kind => Self::Messages(Kind::parse(kind)?, last),
        })
    }
}

/// The node whose subject it is; none for those of the fleet.
pub(crate) fn node(subject: &str) -> Option<&str> {
    subject.split('.').next().filter(|node| !node.starts_with('$'))
}

/// Messages of an outgoing lane.
pub(crate) fn messages(lane: &Lane) -> String {
    format!("{}.{}.{}", lane.peer, lane.kind, lane.method)
}

/// Receipts to the sender `to` from the receiver `from`.
pub(crate) fn receipts(to: &NodeName, from: &NodeName) -> String {
    format!("{to}.ACK.{from}")
}

/// Something about the delivery.
pub(crate) fn control(to: &NodeName, from: &NodeName) -> String {
    format!("{to}.CTL.{from}")
}

/// Pieces of outputs.
pub(crate) fn data(to: &NodeName, from: &NodeName) -> String {
    format!("{to}.DATA.{from}")
}

/// Where the broker says that nobody listens to what `me` sent to `peer`.
pub(crate) fn reply(me: &NodeName, peer: &NodeName) -> String {
    format!("{me}.REPLY.{peer}")
}

/// The way from us through the broker to us.
pub(crate) fn echo(me: &NodeName, mark: &str) -> String {
    format!("{me}.ECHO.{mark}")
}

/// Where a process that wants to have the name `me` listens for the one that has it.
pub(crate) fn namesake(me: &NodeName, mark: &str) -> String {
    format!("{me}.NAME.{mark}")
}

/// Announcements of a node.
pub(crate) fn hello(node: &NodeName) -> String {
    format!("{HELLO_PREFIX}{node}")
}
