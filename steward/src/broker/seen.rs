//! What has arrived, as it is counted: before it is known whether it makes sense.

use async_nats::Message;
use protocol::name::NodeName;

use super::wire::subject::{self, Channel};
use crate::traffic::{self, Class};

/// See the module.
pub(super) struct Seen<'a> {
    /// What it claims to be, for the log.
    pub(super) kind: &'static str,
    /// Whom it claims to be from, where that stands in its subject.
    pub(super) peer: &'a str,
    /// What it is, as far as its subject says; better once it is read.
    pub(super) class: Class,
    /// What it took on the link, in bytes.
    pub(super) bytes: usize,
    /// Whom it is from, once that is known.
    pub(super) from: Option<NodeName>,
}

impl<'a> Seen<'a> {
    /// What its subject says, at the node `me`.
    pub(super) fn new(message: &'a Message, me: &str) -> Self {
        let (kind, peer, class) = match Channel::parse(&message.subject, me) {
            Some(Channel::Receipts(peer)) => ("receipts", peer, Class::Receipts),
            Some(Channel::Control(peer)) => ("control", peer, Class::Control),
            Some(Channel::Data(peer)) => ("data", peer, Class::Outputs),
            Some(Channel::Reply(peer)) => ("reply", peer, Class::Link),
            Some(Channel::Messages(kind, method)) => (kind.as_str(), "", Class::of_messages(kind, method)),
            Some(Channel::Echo(_)) => ("echo", "", Class::Link),
            Some(Channel::Namesake) => ("name", "", Class::Link),
            None => ("subject", message.subject.strip_prefix(subject::HELLO_PREFIX).unwrap_or(""), Class::Control),
        };
        Self { kind, peer, class, bytes: traffic::arrived_frame(message), from: None }
    }
}
