//! The one way out: a publish gets its room in the window, is sealed and signed, and goes into the client's queue. Whether it
//! gets any further nobody says; an echo behind it does, where that matters.

use async_nats::Client;
use protocol::event::Control;
use protocol::name::NodeName;
use tokio::sync::oneshot;

use super::echo::Purpose;
use super::{Broker, CALL, Window, batch, wire};
use crate::security::sealing::Policy;
use crate::security::trust::{Plain, Trust, Unsealable};
use crate::traffic::{self, Bytes, Class};

impl Broker {
    /// Publishes once the window has room, with an echo behind it where one is due.
    pub(super) async fn send(&self, outgoing: batch::Outgoing, window: &mut Window) -> Sent {
        let bytes = outgoing.cost() + self.trust().overhead_bytes(outgoing.introduces);
        let now = || self.0.clock.elapsed();
        if !window.room(bytes, now).await {
            self.0.stuck.notify_one();
            return Sent::LinkDown;
        }
        if !self.is_up() {
            return Sent::LinkDown;
        }
        match self.publish(outgoing).await {
            Ok(()) => {}
            Err(PublishFailed::Unsealable(why)) => {
                self.unsealable(&why).await;
                return Sent::NotSealed;
            }
            Err(PublishFailed::Late | PublishFailed::Refused(_)) => return Sent::LinkDown,
        }
        if window.sent(bytes) {
            let (signal, back) = oneshot::channel();
            window.mark(back, now());
            if !self.echo(Purpose::Signal(signal)).await {
                return Sent::LinkDown;
            }
        }
        Sent::Yes
    }

    /// Says that something is not sent. Where it is for want of a certificate, has its node show it, so that it can be
    /// sealed when it is sent again.
    async fn unsealable(&self, why: &Unsealable) {
        let to = match why {
            Unsealable::NoKey(to) | Unsealable::Key { to, .. } => to.as_str(),
            Unsealable::NoIdentity => "",
        };
        if self.0.noise.worth_a_line("seal", to) {
            tracing::warn!(%why, "something is not sent (further times this minute are only counted)");
        }
        if let Unsealable::NoKey(to) = why {
            // The answer is only for its certificate; as often as what can't be sent would have been.
            let nonce =
                u64::try_from(uuid::Uuid::now_v7().as_u128() & u128::from(wire::NUMBER_MAX)).unwrap_or_default();
            let probe = Control::Probe { nonce, epoch: self.0.config.identity.epoch, known: None };
            self.introduce(to, &probe).await;
        }
    }

    /// Sends an echo on its way.
    pub(super) async fn echo(&self, purpose: Purpose) -> bool {
        let subject = wire::subject::echo(self.me(), &self.0.echoes.expect(purpose));
        let echo = batch::Outgoing::plain(subject, None, bytes::Bytes::new(), false);
        self.queue(batch::Outgoing { class: Class::Link, ..echo }).await.is_ok()
    }

    /// Gives a publish to the client, connected or not. An error: it is not even queued. Behind one that was not permitted
    /// before goes an echo, because the broker says nothing of one that is.
    pub(super) async fn publish(&self, outgoing: batch::Outgoing) -> Result<(), PublishFailed> {
        let denied = self.0.board.denials().mark(&outgoing.subject).map(|mark| (outgoing.subject.clone(), mark));
        self.queue(outgoing).await?;
        if let Some((subject, mark)) = denied {
            self.echo(Purpose::Passed(subject, mark)).await;
        }
        Ok(())
    }

    async fn queue(&self, mut outgoing: batch::Outgoing) -> Result<(), PublishFailed> {
        let client = self.client().ok_or(PublishFailed::Late)?;
        let (class, shares) = (outgoing.class, std::mem::take(&mut outgoing.shares));
        let node = wire::subject::node(&outgoing.subject).and_then(|node| NodeName::new(node).ok());
        let taken = outgoing.cost() + self.trust().overhead_bytes(outgoing.introduces);
        self.0.budget.take(class, taken).await;
        let published = publish(&client, self.trust(), &self.0.config.seal, outgoing).await;
        self.0.budget.correct(taken, *published.as_ref().unwrap_or(&0));
        let bytes = Bytes::sent(published.inspect_err(|error| self.publish_failed(error))?);
        self.0.traffic.count(class, node.as_ref().filter(|node| *node != self.me()).map(NodeName::as_str), bytes);
        if !shares.is_empty() {
            self.0.traffic.share(&shares, bytes);
        }
        Ok(())
    }

    fn publish_failed(&self, error: &PublishFailed) {
        match error {
            PublishFailed::Late => self.0.stuck.notify_one(),
            PublishFailed::Refused(why) => {
                if self.0.noise.worth_a_line("publish", "") {
                    tracing::error!(%why, "a publish was refused by the client");
                }
            }
            // It waits for its key, and whoever sends it says so.
            PublishFailed::Unsealable(_) => {}
        }
    }
}

/// Why a publish did not reach the client's queue.
pub(super) enum PublishFailed {
    /// The queue has been full for too long.
    Late,
    /// The client will not take it.
    Refused(String),
    /// It has to be sealed, and can't be.
    Unsealable(Unsealable),
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is in the client's queue.
    Yes,
    /// It was not sent, and the link is down or stuck.
    LinkDown,
    /// It was not sent, because it can't be sealed yet.
    NotSealed,
}

/// The one way out: nothing leaves unsigned where this node signs, and nothing plain that is to be sealed. Answers with its bytes
/// on the link.
pub(super) async fn publish(
    client: &Client,
    trust: &Trust,
    policy: &Policy,
    outgoing: batch::Outgoing,
) -> Result<usize, PublishFailed> {
    let batch::Outgoing { subject, reply, headers, body, introduces, to, seal, attests, class: _, shares: _ } =
        outgoing;
    let now = crate::clock::wall();
    let to = to.as_ref().filter(|to| seal || policy.covers(to));
    let plain = Plain { headers, body, introduces, attests };
    let (headers, body) = trust.protect(to, now, &subject, plain).map_err(PublishFailed::Unsealable)?;
    let bytes = traffic::frame(&subject, reply.as_deref(), headers.as_ref(), body.len());
    let call = async {
        match (reply, headers) {
            (Some(reply), Some(headers)) => client.publish_with_reply_and_headers(subject, reply, headers, body).await,
            (Some(reply), None) => client.publish_with_reply(subject, reply, body).await,
            (None, Some(headers)) => client.publish_with_headers(subject, headers, body).await,
            (None, None) => client.publish(subject, body).await,
        }
    };
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(())) => Ok(bytes),
        Ok(Err(error)) => Err(PublishFailed::Refused(error.to_string())),
        Err(_) => Err(PublishFailed::Late),
    }
}
