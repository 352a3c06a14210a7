//! What has arrived, as it is counted: before it is known whether it makes sense.

use async_nats::Message;
use protocol::Event;
use protocol::event::Control;
use protocol::name::NodeName;
use protocol::outcome::{Output, Progress, Receipt};

use super::wire::subject::{self, Channel};
use crate::traffic::{self, Class};

/// What a receipt has beside the texts in it, about, in bytes: for its share of the bytes of a publish.
pub(super) const RECEIPT_BYTES: usize = 160;

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

/// Bytes of the output and the proof in a receipt.
pub(super) fn text_bytes(receipt: &Receipt) -> usize {
    let text = |output: &Output| output.inline.as_ref().map_or(0, |text| text.len());
    match &receipt.progress {
        Progress::Final(outcome) => {
            text(&outcome.stdout) + text(&outcome.stderr) + outcome.proof.as_ref().map_or(0, |proof| proof.len())
        }
        Progress::Stored | Progress::Running => 0,
    }
}

/// Bytes that an event holds in the engine's queue, beside its own few.
pub(super) fn weight(event: &Event) -> usize {
    match event {
        Event::Envelope(envelope, _) => envelope.items.iter().map(|item| item.body.len()).sum(),
        Event::Receipts(receipts) => receipts.receipts.iter().map(|(_, receipt)| text_bytes(receipt)).sum(),
        Event::Hello(hello) | Event::Control { control: Control::Hello(hello), .. } => hello.info.len(),
        Event::Control { .. }
        | Event::Asked { .. }
        | Event::NoResponders(_)
        | Event::HandedOver { .. }
        | Event::Unsendable { .. }
        | Event::Submit(_)
        | Event::Cancel { .. }
        | Event::Loaded { .. }
        | Event::Swept { .. }
        | Event::Finished(_)
        | Event::Fetched { .. }
        | Event::Sealed { .. }
        | Event::LinkUp
        | Event::LinkDown
        | Event::Stopping
        | Event::Tick => 0,
    }
}
