//! What is listened to on one connection, and what has arrived there and is not read yet.
//!
//! The client's own queues have a limit on the number of messages and none on their bytes: thirty thousand messages of a
//! megabyte would be too much for any node. So they are emptied all the time, also while the engine is behind, into one queue that has both.
//! What finds no room there is lost, and sent again by whoever wants an answer.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt as _;
use protocol::name::NodeName;

use super::CALL;
use super::wire::subject;

/// Bytes of messages that have arrived and are not read yet.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a message costs beside its own bytes, about.
const MESSAGE_BYTES: usize = 256;

/// Announcers with a subscription each; with more of them, one subscription takes all announcements. Each subscription
/// costs memory here and on the server.
const WATCHED_SINGLY_MAX: usize = 32;

/// See the module.
pub(super) struct Ears {
    own: Subscriber,
    hellos: Vec<(Option<NodeName>, Subscriber)>,
    /// Whose announcements are listened to.
    pub(super) watched: Arc<BTreeSet<NodeName>>,
    waiting: VecDeque<Message>,
    bytes: usize,
    /// Messages that found no room since somebody asked.
    lost: u64,
    has_ended: bool,
}

impl Ears {
    /// With a subscription for everything that is for this node.
    pub(super) fn new(own: Subscriber) -> Self {
        let (hellos, watched, waiting) = (Vec::new(), Arc::default(), VecDeque::new());
        Self { own, hellos, watched, waiting, bytes: 0, lost: 0, has_ended: false }
    }

    /// The next messages, at least one and as far as they fit; none when the subscription has ended.
    pub(super) async fn next(&mut self, messages_max: usize, bytes_max: usize) -> Option<Vec<Message>> {
        std::future::poll_fn(|cx| {
            self.hear(cx);
            if self.waiting.is_empty() && !self.has_ended { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while messages.len() < messages_max && bytes < bytes_max {
            let Some(message) = self.waiting.pop_front() else { break };
            self.bytes -= cost(&message);
            bytes += message.payload.len();
            messages.push(message);
        }
        (!messages.is_empty()).then_some(messages)
    }

    /// Goes on listening while what was heard is worked on. Never ends by itself.
    pub(super) async fn listen(&mut self) -> Infallible {
        std::future::poll_fn(|cx| {
            self.hear(cx);
            Poll::Pending
        })
        .await
    }

    /// Messages that were lost since the last time that somebody asked.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn hear(&mut self, cx: &mut Context<'_>) {
        // The runtime sees to it that this comes to an end in between, whatever arrives.
        while !self.has_ended
            && let Poll::Ready(message) = self.own.poll_next_unpin(cx)
        {
            match message {
                Some(message) => keep(message, &mut self.waiting, &mut self.bytes, &mut self.lost),
                None => self.has_ended = true,
            }
        }
        for (_, hellos) in &mut self.hellos {
            while let Poll::Ready(Some(message)) = hellos.poll_next_unpin(cx) {
                keep(message, &mut self.waiting, &mut self.bytes, &mut self.lost);
            }
        }
    }

    /// Listens to the announcements of `wanted`.
    pub(super) async fn watch(&mut self, client: &Client, me: &NodeName, mut wanted: BTreeSet<NodeName>) {
        wanted.remove(me);
        if wanted.len() > WATCHED_SINGLY_MAX {
            if !matches!(&self.hellos[..], [(None, _)]) {
                self.hellos = listen_to(client, None).await.map(|all| (None, all)).into_iter().collect();
            }
        } else {
            self.hellos.retain(|(name, _)| name.as_ref().is_some_and(|name| wanted.contains(name)));
            for name in &wanted {
                if self.hellos.iter().any(|(known, _)| known.as_ref() == Some(name)) {
                    continue;
                }
                if let Some(ear) = listen_to(client, Some(name)).await {
                    self.hellos.push((Some(name.clone()), ear));
                }
            }
        }
        self.watched = Arc::new(wanted);
    }
}

fn keep(message: Message, waiting: &mut VecDeque<Message>, bytes: &mut usize, lost: &mut u64) {
    let cost = cost(&message);
    if *bytes + cost > WAITING_BYTES_MAX {
        *lost += 1;
        return;
    }
    *bytes += cost;
    waiting.push_back(message);
}

fn cost(message: &Message) -> usize {
    message.length + MESSAGE_BYTES
}

async fn listen_to(client: &Client, name: Option<&NodeName>) -> Option<Subscriber> {
    let subject = name.map_or_else(|| format!("{}*", subject::HELLO_PREFIX), subject::hello);
    tokio::time::timeout(CALL, client.subscribe(subject)).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_has_a_limit_in_bytes() {
        let payload = bytes::Bytes::from(vec![0; 1024 * 1024]);
        let message = || Message {
            subject: "ship1.ACK.central".into(),
            reply: None,
            length: payload.len(),
            payload: payload.clone(),
            headers: None,
            status: None,
            description: None,
        };
        let (mut waiting, mut bytes, mut lost) = (VecDeque::new(), 0, 0);
        for _ in 0..100 {
            keep(message(), &mut waiting, &mut bytes, &mut lost);
        }
        assert_eq!((waiting.len(), lost), (63, 37));
        assert!(bytes <= WAITING_BYTES_MAX);
    }
}
