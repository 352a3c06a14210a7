//! Asks central something over a connection of its own, where no node runs that has one: who joins, and who renews its keys while
//! its node is down. Asks until there is an answer, and says meanwhile what it waits for.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ServerAddr, StatusCode};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use crate::broker::{Access, LinkState};

/// How often it is looked whether the broker is there and central is to be asked.
const LOOK: Duration = Duration::from_millis(100);

/// Looks from one question to the next.
const ASK_LOOKS: u32 = 20;

/// The pause between attempts to connect.
const RECONNECT: Duration = Duration::from_millis(500);

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Reasons of failed attempts that wait to be told; more are dropped, the next attempt has the same.
const REASONS_MAX: usize = 8;

/// How far it has come, in words.
pub(crate) type Tell<'t> = &'t mut dyn FnMut(&str);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The client.
    #[error("the broker can't be connected to: {0}")]
    Connect(String),
    /// The broker does not want the login.
    #[error("{0}")]
    NotLetIn(String),
}

/// The way to the broker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// How to get in.
    pub(crate) access: &'a Access,
    /// Where it is.
    pub(crate) servers: &'a [ServerAddr],
    /// What the broker is told of the client.
    pub(crate) name: &'static str,
}

/// What central is asked.
#[derive(Debug)]
pub(crate) struct Question {
    /// Where.
    pub(crate) subject: String,
    /// What.
    pub(crate) body: String,
    /// Where the answers come.
    pub(crate) answers: String,
    /// So long the broker may refuse the login before that is the answer; for ever if none.
    pub(crate) refused_max: Option<Duration>,
}

/// Asks until `heard` takes something for the answer. It is told what has arrived, and may tell something itself.
pub(crate) async fn ask<T>(
    line: Line<'_>,
    question: &Question,
    tell: Tell<'_>,
    heard: impl Fn(&[u8], &mut dyn FnMut(&str)) -> Option<T>,
) -> Result<T, AskError> {
    let (failures, mut failed) = mpsc::channel(REASONS_MAX);
    let client = connect(line, failures).await?;
    let failed_with = |error: &dyn std::fmt::Display| AskError::Connect(error.to_string());
    let subscribed = client.subscribe(question.answers.clone()).await;
    let mut answers = subscribed.map_err(|error| failed_with(&error))?;
    let (mut look, mut wait) = (tokio::time::interval(LOOK), 0);
    let (mut refused, mut refusal) = (Duration::ZERO, None);
    loop {
        tokio::select! {
            Some(why) = failed.recv() => {
                let state = LinkState::of_failure(&why);
                refusal = state.is_refusal().then(|| state.advice(&why));
                tell(&state.advice(&why));
            }
            _ = look.tick() => {
                wait = u32::saturating_sub(wait, 1);
                if client.connection_state() == State::Connected {
                    (refused, refusal) = (Duration::ZERO, None);
                    if wait == 0 {
                        wait = ASK_LOOKS;
                        let (subject, reply) = (question.subject.clone(), question.answers.clone());
                        let asked = client.publish_with_reply(subject, reply, question.body.clone().into()).await;
                        asked.map_err(|error| failed_with(&error))?;
                    }
                } else if let Some(why) = &refusal {
                    refused += LOOK;
                    if question.refused_max.is_some_and(|max| refused >= max) {
                        return Err(AskError::NotLetIn(why.clone()));
                    }
                }
            }
            answer = answers.next() => {
                let Some(answer) = answer else { return Err(failed_with(&"the connection was ended")) };
                if answer.status == Some(StatusCode::NO_RESPONDERS) {
                    tell("the broker is there, but central is not: waiting for it (steward run or steward up on central)");
                } else if let Some(answer) = heard(&answer.payload, tell) {
                    return Ok(answer);
                }
            }
        }
    }
}

/// A client that tries for ever, and says why it fails.
async fn connect(line: Line<'_>, failures: mpsc::Sender<String>) -> Result<Client, AskError> {
    let options = line
        .access
        .options(line.servers)
        .name(line.name)
        .retry_on_initial_connect()
        .max_reconnects(None)
        .connection_timeout(CONNECT)
        .reconnect_delay_callback(|_| RECONNECT)
        .reconnect_to_server_callback(move |servers, _| {
            if let Some(why) = servers.iter().find_map(|server| server.last_error.clone()) {
                drop(failures.try_send(why));
            }
            async { None }
        });
    options.connect(line.servers.to_vec()).await.map_err(|error| AskError::Connect(error.to_string()))
}
