//! What goes wrong in this node goes to the central error log, as messages like any other: kept while the link is away,
//! and delivered in order. That is each task that fails, and each line of the log that an operator must act on.
//!
//! A fault that comes again and again is told once a minute, and no more than so many of all kinds.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::message::Kind;
use protocol::name::NodeName;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::intake::{Intake, IntakeError, MessageInput};
use crate::supervise::Alarm;

/// How long the same text is not told again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Different texts that are told in that time.
const TEXTS_MAX: usize = 30;

/// The pause before an error is queued that could not be.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Sends errors to the central error log.
pub(super) struct Reporter {
    intake: Intake,
    to: NodeName,
    clock: Clock,
    recent: Recent,
}

impl Reporter {
    /// One that sends to this node.
    pub(super) fn new(intake: Intake, to: NodeName, clock: Clock) -> Self {
        Self { intake, to, clock, recent: Recent::default() }
    }

    /// Sends until the node stops.
    pub(super) async fn run(
        mut self,
        mut alarms: broadcast::Receiver<Alarm>,
        mut errors: mpsc::Receiver<String>,
        end: CancellationToken,
    ) {
        loop {
            let text = tokio::select! {
                () = end.cancelled() => return,
                Some(error) = errors.recv() => error,
                alarm = alarms.recv() => match alarm {
                    Ok(alarm) => alarm.to_string(),
                    Err(RecvError::Lagged(missed)) => format!("and {missed} more failures that came too fast to be told"),
                    Err(RecvError::Closed) => return,
                },
            };
            if self.recent.is_news(&text, self.clock.elapsed()) {
                tokio::select! {
                    () = end.cancelled() => return,
                    () = self.send(text) => {}
                }
            }
        }
    }

    /// Queues it, once there is room: an error that tells of a full disk has to wait for its end.
    async fn send(&self, text: String) {
        let message = MessageInput {
            to_node: self.to.to_string(),
            data: vec![text],
            command_or_event: Kind::EventAck.as_str().to_owned(),
            method: "ErrorLog".to_owned(),
            ..MessageInput::default()
        };
        loop {
            match self.intake.submit(vec![message.clone()]).await {
                Ok(_) => return,
                Err(IntakeError::Invalid(faults)) => {
                    tracing::warn!(to = %self.to, ?faults, "the error can't be sent to the error log");
                    return;
                }
                Err(IntakeError::Engine { .. }) => tokio::time::sleep(TRY_AGAIN).await,
            }
        }
    }
}

/// What was told lately, and when.
#[derive(Default)]
struct Recent(BTreeMap<String, Duration>);

impl Recent {
    /// Whether this is to be told now.
    fn is_news(&mut self, text: &str, now: Duration) -> bool {
        self.0.retain(|_, told| now.saturating_sub(*told) < AGAIN_AFTER);
        if self.0.len() >= TEXTS_MAX || self.0.contains_key(text) {
            return false;
        }
        self.0.insert(text.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_comes_again_and_again_is_told_once_a_minute() {
        let mut recent = Recent::default();
        let seconds = Duration::from_secs;
        assert!(recent.is_news("a", seconds(0)));
        assert!(!recent.is_news("a", seconds(59)));
        assert!(recent.is_news("b", seconds(59)));
        assert!(recent.is_news("a", seconds(60)));
        let told = (0..1000).filter(|number| recent.is_news(&number.to_string(), seconds(61))).count();
        assert_eq!(told, TEXTS_MAX - 2);
        assert!(recent.is_news("later", seconds(200)));
    }
}
