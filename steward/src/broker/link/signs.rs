//! What the client and the server say aside, on the client's callbacks: that a connection was made or lost, why an attempt
//! failed, and what the server complains of. It becomes signs for the link's task, counts, and words for people.

use async_nats::{ClientError, Event as NatsEvent, Server, ServerError};
use tokio::sync::mpsc;

use super::super::denied::{self, Action, Denied};
use super::super::state::LinkState;
use super::Broker;

/// What the client's callback tells the link's task.
#[derive(Debug)]
pub(super) enum Sign {
    Connected,
    Disconnected,
    /// An attempt to connect failed, in the client's words.
    Failed(String),
}

impl Broker {
    pub(super) fn sign(&self, event: NatsEvent, signs: &mpsc::Sender<Sign>) {
        let counters = &self.0.counters;
        let sign = match event {
            NatsEvent::Connected => {
                counters.connects.one();
                self.0.board.denials().connected();
                Sign::Connected
            }
            NatsEvent::Disconnected | NatsEvent::Closed => Sign::Disconnected,
            NatsEvent::ClientError(error) => match failure(&error) {
                Some(failure) => failure,
                None => return,
            },
            NatsEvent::SlowConsumer(_) => {
                self.lost(1);
                return;
            }
            NatsEvent::ServerError(error) => {
                self.server_error(&error);
                return;
            }
            NatsEvent::LameDuckMode | NatsEvent::Draining => return,
        };
        if signs.try_send(sign).is_err() {
            tracing::trace!("a sign of the connection was dropped; its state is looked at, too");
        }
    }

    /// The server complains. What it says as it hangs up is told with the outage that follows.
    fn server_error(&self, error: &ServerError) {
        self.0.counters.server_errors.one();
        let error = error.to_string();
        if let Some(state) = LinkState::of_refusal(&error) {
            self.0.board.fails(state, &error);
            return;
        }
        let Some((action, subject)) = denied::read(&error) else {
            if self.0.noise.worth_a_line("server error", &error) {
                tracing::error!(error, "the broker reports an error");
            }
            return;
        };
        self.0.counters.denied.one();
        if !self.is_up() {
            self.0.board.fails(LinkState::Forbidden, &error);
        }
        if self.0.board.denials().add(action, &subject) {
            self.tell_denied(action, subject, &error);
        }
    }

    /// The first complaint about a subject; `steward ps` has it for as long as it is so.
    fn tell_denied(&self, action: Action, subject: String, error: &str) {
        let advice = Denied { action, subject, times: 1 }.advice();
        tracing::error!(error, "{advice}");
    }
}

/// Tells what was wrong with the last attempt at each server; first what somebody has to mend.
pub(super) fn tell_failures(servers: &[Server], signs: &mpsc::Sender<Sign>) {
    let failures = servers.iter().filter_map(|server| server.last_error.as_deref());
    let worst = failures.max_by_key(|why| LinkState::of_failure(why).needs_somebody());
    if let Some(why) = worst
        && signs.try_send(Sign::Failed(why.to_owned())).is_err()
    {
        tracing::trace!("why the last attempt failed is not told; the next one fails as well");
    }
}

/// What the client says of a failed attempt beside that: only its kind, so only what is said nowhere else is of use.
fn failure(error: &ClientError) -> Option<Sign> {
    match error {
        ClientError::Other(kind) if kind.contains("DNS") => {
            Some(Sign::Failed("the host name in the address can't be resolved".to_owned()))
        }
        ClientError::Other(_) | ClientError::MaxReconnects | ClientError::ServerNotInPool => None,
    }
}
