//! What the engine does while the disk does not take a turn.

use std::collections::VecDeque;
use std::time::Duration;

use protocol::Event;
use tokio::sync::oneshot;

use super::{Answer, Engine, EngineError, INPUTS_MAX, Input, Lasting, respond};

/// The pause before a failed commit is tried again.
const COMMIT_RETRY: Duration = Duration::from_millis(500);

/// How long somebody who submits waits for a disk that does not take it, before the answer is that nobody knows yet.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// The disk does not take the turn. It is kept and tried again until it does; new messages are refused meanwhile,
    /// questions are answered, and everything else waits in its queue.
    pub(super) async fn until_saved(
        &mut self,
        lasting: &Lasting,
        mut why: String,
        answers: &mut Vec<Answer>,
    ) -> Option<oneshot::Sender<()>> {
        tracing::error!(error = %why, "the store does not take what has happened; new messages are refused until it does");
        self.stats.refuse(Some(&why));
        let since = self.clock.elapsed();
        let mut held = VecDeque::new();
        // A point in time, not a pause: somebody who asks again and again must not put the next try off for ever.
        let mut retry_at = since + COMMIT_RETRY;
        loop {
            let wait = retry_at.saturating_sub(self.clock.elapsed());
            match tokio::time::timeout(wait, self.next_held(&mut held)).await {
                Ok(Some(Input::Stop(done))) => return Some(done),
                Ok(Some(Input::Submit(_, reply) | Input::Keep(_, _, reply))) => {
                    respond(reply, Err(EngineError::Store(why.as_str().into())));
                    continue;
                }
                Ok(Some(Input::Cancel(_, reply))) => {
                    respond(reply, Err(EngineError::Store(why.as_str().into())));
                    continue;
                }
                Ok(Some(Input::Note(_, reply))) => {
                    respond(reply, Err(EngineError::Store(why.as_str().into())));
                    continue;
                }
                Ok(Some(query)) => {
                    self.query(query);
                    continue;
                }
                Ok(None) | Err(_) => {}
            }
            if self.clock.elapsed().saturating_sub(since) > COMMIT_PATIENCE {
                give_up_waiting(answers, &why);
            }
            match self.save(lasting) {
                Ok(()) => break,
                Err(error) => why = error.to_string(),
            }
            retry_at = self.clock.elapsed() + COMMIT_RETRY;
        }
        tracing::info!("the store takes messages again");
        self.stats.refuse(None);
        self.own.events.extend(held);
        None
    }

    /// The next input that can be answered while the store is stuck; events are held, up to a limit.
    async fn next_held(&mut self, held: &mut VecDeque<Event>) -> Option<Input> {
        while held.len() + self.own.identities.len() < INPUTS_MAX {
            match self.inputs.recv().await? {
                Input::Event(event) => held.push_back(event),
                Input::Identity(row) => self.own.identities.push(row),
                input => return Some(input),
            }
        }
        std::future::pending().await
    }
}

/// Whoever waits for a disk that is stuck is told that nobody knows yet.
fn give_up_waiting(answers: &mut Vec<Answer>, why: &str) {
    for answer in std::mem::take(answers) {
        match answer {
            Answer::Submitted(ids, reply) => {
                let first = ids.first().map(ToString::to_string).unwrap_or_default();
                let text = format!(
                    "{why}; message {first} is held and goes out when there is room, unless the node stops before"
                );
                respond(reply, Err(EngineError::Store(text.into())));
            }
            other @ (Answer::Query(_) | Answer::Noted(_)) => answers.push(other),
        }
    }
}
