//! What goes over the link, in bytes: how much, of which class, for which node and for which message. A byte counts where it is
//! handed to the broker's client or comes from it, with the subject, the headers and the line of the NATS protocol around it;
//! TLS, TCP and IP are not in it.
//!
//! Here stand the classes, in the order of their priority: whoever adds another kind of traffic names its class here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::HeaderMap;
use protocol::message::{Kind, MessageId};
use protocol::step::Write;

/// Nodes whose bytes are counted one by one (100 bytes of memory each); what is beyond counts for no node.
const NODES_MAX: usize = 65_536;

/// Nodes that have figures of their own in the metrics, the first ones that were heard of; the others are summed up.
pub(crate) const NODES_SHOWN_MAX: usize = 100;

/// Messages whose bytes are remembered until the store has written them down (50 bytes of memory each). Twice as many may
/// be here for a while; those that were touched first are forgotten, and show fewer bytes than there were.
const MESSAGES_MAX: usize = 65_536;

/// What something on the link is, the most urgent first. The order is the priority with which it goes out where the rate is limited
/// (`--link-rate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Echoes and name checks: by them a node knows whether it has a link at all.
    Link,
    /// What is said about the delivery: probes, hellos, confirmations, cancellations, requests for pieces, joining.
    Control,
    /// How far messages of others are, and how they have ended.
    Receipts,
    /// Commands.
    Commands,
    /// Events.
    Events,
    /// Connections that are passed on.
    Forwarded,
    /// Outputs of commands that run.
    Live,
    /// Outputs of commands that have ended.
    Outputs,
    /// Pieces of files that are copied.
    Files,
    /// Streams of lines that nobody waits for: see [`BACKGROUND`].
    Background,
}

/// Event methods that carry as much as there is, and wait for everything else.
const BACKGROUND: [&str; 2] = ["TailFile", "Syslogforwarding"];

impl Class {
    /// All of them, in the order of their priority.
    pub(crate) const ALL: [Self; 10] = [
        Self::Link,
        Self::Control,
        Self::Receipts,
        Self::Commands,
        Self::Events,
        Self::Forwarded,
        Self::Live,
        Self::Outputs,
        Self::Files,
        Self::Background,
    ];

    /// What messages of this type and method are.
    pub(crate) fn of_messages(kind: Kind, method: &str) -> Self {
        match kind {
            Kind::CommandAck | Kind::CommandNack => Self::Commands,
            Kind::EventAck | Kind::EventNack if BACKGROUND.contains(&method) => Self::Background,
            Kind::EventAck | Kind::EventNack => Self::Events,
        }
    }

    /// One word for metrics: a public interface.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Control => "control",
            Self::Receipts => "receipts",
            Self::Commands => "commands",
            Self::Events => "events",
            Self::Forwarded => "forwarded",
            Self::Live => "live",
            Self::Outputs => "outputs",
            Self::Files => "files",
            Self::Background => "background",
        }
    }
}

/// Bytes in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    /// From this node.
    pub(crate) out: u64,
    /// To this node.
    pub(crate) inward: u64,
}

impl Bytes {
    /// So many from this node.
    pub(crate) fn sent(bytes: usize) -> Self {
        Self { out: bytes as u64, inward: 0 }
    }

    /// So many to this node.
    pub(crate) fn arrived(bytes: usize) -> Self {
        Self { out: 0, inward: bytes as u64 }
    }

    fn add(&mut self, more: Self) {
        self.out = self.out.saturating_add(more.out);
        self.inward = self.inward.saturating_add(more.inward);
    }

    /// `weight` parts of `of`.
    fn part(self, weight: usize, of: usize) -> Self {
        let part = |bytes: u64| {
            let part = u128::from(bytes) * weight as u128 / (of as u128).max(1);
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        Self { out: part(self.out), inward: part(self.inward) }
    }
}

/// What was counted since the process started. Clones are the same counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traffic(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    classes: [[AtomicU64; 2]; Class::ALL.len()],
    nodes: Mutex<Nodes>,
    messages: Mutex<Messages>,
}

#[derive(Debug, Default)]
struct Nodes {
    places: HashMap<Box<str>, usize>,
    /// In the order in which they were heard of.
    all: Vec<(Box<str>, Bytes)>,
    beyond: Bytes,
}

/// What is counted for messages and not written down yet, in two generations: so what nobody asks for goes by itself.
#[derive(Debug, Default)]
struct Messages {
    young: HashMap<MessageId, Bytes>,
    old: HashMap<MessageId, Bytes>,
}

impl Messages {
    fn add(&mut self, id: MessageId, bytes: Bytes) {
        if self.young.len() >= MESSAGES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.entry(id).or_default().add(bytes);
    }

    fn get(&self, id: MessageId) -> Bytes {
        let mut bytes = Bytes::default();
        for generation in [&self.young, &self.old] {
            bytes.add(generation.get(&id).copied().unwrap_or_default());
        }
        bytes
    }

    fn take(&mut self, id: MessageId) -> Bytes {
        let mut bytes = self.young.remove(&id).unwrap_or_default();
        // It is empty as long as few messages are on their way.
        if !self.old.is_empty() {
            bytes.add(self.old.remove(&id).unwrap_or_default());
        }
        bytes
    }
}

impl Traffic {
    /// Counts something that went over the link; `node` is who is at the other end, where that is known.
    pub(crate) fn count(&self, class: Class, node: Option<&str>, bytes: Bytes) {
        let place = Class::ALL.iter().position(|known| *known == class).unwrap_or_default();
        if let Some([out, inward]) = self.0.classes.get(place) {
            out.fetch_add(bytes.out, Ordering::Relaxed);
            inward.fetch_add(bytes.inward, Ordering::Relaxed);
        }
        if let Some(node) = node {
            let mut nodes = self.nodes();
            let Nodes { places, all, beyond } = &mut *nodes;
            let counted = all.len();
            match places.get(node).and_then(|place| all.get_mut(*place)) {
                Some((_, counted)) => counted.add(bytes),
                None if counted < NODES_MAX => {
                    places.insert(node.into(), counted);
                    all.push((node.into(), bytes));
                }
                None => beyond.add(bytes),
            }
        }
    }

    /// Divides bytes among the messages that have shared them, by their weights.
    pub(crate) fn share(&self, messages: &[(MessageId, usize)], bytes: Bytes) {
        let of = messages.iter().map(|(_, weight)| weight).sum();
        let mut counted = self.messages();
        for (id, weight) in messages {
            counted.add(*id, bytes.part(*weight, of));
        }
    }

    /// What was counted for a message and is not written down yet.
    pub(crate) fn message(&self, id: MessageId) -> Bytes {
        self.messages().get(id)
    }

    /// What was counted for the messages of which the store is about to write down how far they are: from now on it is for the
    /// store to remember, unless it is given back. One for each of these writes, in their order.
    pub(crate) fn take(&self, writes: &[Write]) -> Vec<Bytes> {
        let mut told = told(writes).peekable();
        if told.peek().is_none() {
            return Vec::new();
        }
        let mut counted = self.messages();
        told.map(|id| counted.take(id)).collect()
    }

    /// What was taken for these writes could not be written down.
    pub(crate) fn give_back(&self, writes: &[Write], taken: Vec<Bytes>) {
        let mut counted = self.messages();
        told(writes).zip(taken).for_each(|(id, bytes)| counted.add(id, bytes));
    }

    /// What was counted for a node.
    pub(crate) fn node(&self, node: &str) -> Bytes {
        let nodes = self.nodes();
        nodes.places.get(node).and_then(|place| nodes.all.get(*place)).map(|(_, bytes)| *bytes).unwrap_or_default()
    }

    /// What was counted for each class.
    pub(crate) fn classes(&self) -> Vec<(Class, Bytes)> {
        let all = Class::ALL.into_iter().zip(&self.0.classes);
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        all.map(|(class, [out, inward])| (class, Bytes { out: load(out), inward: load(inward) })).collect()
    }

    /// The first [`NODES_SHOWN_MAX`] nodes, and the sum of the others where there are any, without a name.
    pub(crate) fn nodes_shown(&self) -> Vec<(Option<Box<str>>, Bytes)> {
        let nodes = self.nodes();
        let (shown, rest) = nodes.all.split_at(nodes.all.len().min(NODES_SHOWN_MAX));
        let mut shown: Vec<_> = shown.iter().map(|(node, bytes)| (Some(node.clone()), *bytes)).collect();
        if !rest.is_empty() {
            let mut others = nodes.beyond;
            rest.iter().for_each(|(_, bytes)| others.add(*bytes));
            shown.push((None, others));
        }
        shown
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        // Counts are whole at any moment, even after a panic.
        self.0.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn messages(&self) -> MutexGuard<'_, Messages> {
        self.0.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The messages of which it is written down how far they are.
fn told(writes: &[Write]) -> impl Iterator<Item = MessageId> {
    writes.iter().filter_map(|write| match write {
        Write::End { id, .. } | Write::Progress { id, .. } => Some(*id),
        _ => None,
    })
}

/// Bytes of a publish on its way to the broker: `PUB` or `HPUB`, as the NATS protocol has them.
pub(crate) fn frame(subject: &str, reply: Option<&str>, headers: Option<&HeaderMap>, body: usize) -> usize {
    let head = headers.filter(|headers| !headers.is_empty()).map(header_bytes);
    let line = match head {
        None => "PUB  ".len() + digits(body),
        Some(head) => "HPUB   ".len() + digits(head) + digits(head + body),
    };
    line + subject.len() + reply.map_or(0, |reply| reply.len() + 1) + head.unwrap_or(0) + body + 2 * "\r\n".len()
}

/// Bytes of something that has come from the broker: `MSG` or `HMSG`. `length` is that of subject, reply, headers and body.
pub(crate) fn arrived_frame(message: &async_nats::Message) -> usize {
    let body = message.payload.len();
    let named = message.subject.len() + message.reply.as_ref().map_or(0, |reply| reply.len());
    // The number of the subscription has one or two digits.
    let line = match message.length.saturating_sub(named + body) {
        0 => "MSG  1 ".len() + digits(body),
        head => "HMSG  1  ".len() + digits(head) + digits(head + body),
    };
    line + message.reply.as_ref().map_or(0, |_| 1) + message.length + 2 * "\r\n".len()
}

fn header_bytes(headers: &HeaderMap) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let lines: usize =
        lines.map(|(name, value)| AsRef::<str>::as_ref(name).len() + value.as_str().len() + ": \r\n".len()).sum();
    "NATS/1.0\r\n\r\n".len() + lines
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests;
