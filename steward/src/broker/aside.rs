//! A subscription beside the node's own subjects, for a part that has nothing to do with messages. It lives on the node's
//! connection, and is made anew when that is replaced.

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::batch::Outgoing;
use super::{Broker, CALL, Line};

/// A subscription to one subject, which may have wildcards.
pub(crate) struct Aside {
    subject: String,
    lines: watch::Receiver<Option<Line>>,
    open: Option<Subscriber>,
}

/// What arrived there.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The subject itself.
    pub(crate) subject: String,
    /// The body.
    pub(crate) body: Bytes,
}

impl Broker {
    /// Listens to `subject` from the next connection on, and on each later one.
    pub(crate) fn aside(&self, subject: &str) -> Aside {
        Aside { subject: subject.to_owned(), lines: self.0.line.subscribe(), open: None }
    }

    /// Changes whenever the link has come up.
    pub(crate) fn ups(&self) -> watch::Receiver<u64> {
        self.0.ups.subscribe()
    }

    /// Publishes something that is no part of a delivery. False: it did not even reach the client's queue.
    pub(crate) async fn publish_aside(&self, subject: String, body: impl Into<Bytes>) -> bool {
        self.publish(Outgoing::plain(subject, None, body, false)).await.is_ok()
    }
}

impl Aside {
    /// What arrives next. Waits as long as there is no connection; none once the node ends. Nothing is lost if it is
    /// dropped in the middle.
    pub(crate) async fn next(&mut self) -> Option<Arrival> {
        loop {
            let Some(open) = &mut self.open else {
                let client = self.lines.borrow_and_update().as_ref().map(|line| line.client.clone());
                match client {
                    Some(client) => self.open = subscribe(&client, &self.subject).await,
                    None => self.lines.changed().await.ok()?,
                }
                continue;
            };
            tokio::select! {
                biased;
                changed = self.lines.changed() => {
                    changed.ok()?;
                    self.open = None;
                }
                message = open.next() => match message {
                    Some(message) => {
                        return Some(Arrival { subject: message.subject.into_string(), body: message.payload });
                    }
                    None => self.open = None,
                },
            }
        }
    }
}

async fn subscribe(client: &Client, subject: &str) -> Option<Subscriber> {
    match tokio::time::timeout(CALL, client.subscribe(subject.to_owned())).await {
        Ok(Ok(open)) => Some(open),
        Ok(Err(_)) | Err(_) => {
            tokio::time::sleep(CALL / 10).await;
            None
        }
    }
}
