//! One name, one node: before a process listens under its name for the first time, it asks whether somebody does.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Message, StatusCode};
use futures_util::StreamExt;
use protocol::message::Incarnation;
use protocol::name::NodeName;

use super::batch::Outgoing;
use super::publish::publish;
use super::wire;
use super::wire::namesake::{Namesake, Who};
use crate::security::sealing::Policy;
use crate::security::trust::{Proof, Trust};

/// How long somebody who listens has for an answer.
const ANSWER: Duration = Duration::from_secs(1);

/// How long a process that was told to stop may take for it.
const STOP: Duration = Duration::from_secs(15);

/// How often it is asked whether it still runs.
const STOP_POLL: Duration = Duration::from_millis(200);

/// Whether the name is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NameCheck {
    /// Nobody listens under it.
    Free,
    /// Somebody listens and says nothing, such as a dead connection that the server has not noticed yet.
    Silent,
    /// Another process has it. This one must not go on.
    Taken(Namesake),
    /// Another process had it, and has stopped.
    TakenOver(Namesake),
}

enum Asked {
    Answer(NameCheck),
    /// The connection went away in between.
    Disconnected,
}

/// Who asks.
pub(super) struct Asker<'a> {
    /// A connection that does not listen under the name yet.
    pub(super) client: &'a Client,
    /// Whom we believe.
    pub(super) trust: &'a Trust,
    /// The name.
    pub(super) me: &'a NodeName,
}

/// Asks until there is an answer.
pub(super) async fn check(asker: &Asker<'_>, incarnation: Incarnation, take_over: bool) -> NameCheck {
    let me = asker.me;
    let first = ask_connected(asker, Who { incarnation, take_over }).await;
    let NameCheck::Taken(other) = &first else {
        if first == NameCheck::Silent {
            tracing::warn!(
                node = %me,
                "somebody listens under this node's name and does not answer: probably the connection of a process \
                 that died. Going on"
            );
        }
        return first;
    };
    if !take_over {
        return first;
    }
    tracing::info!(node = %me, host = other.host, pid = other.pid, "taking the name over; waiting for the other to stop");
    let gone = async {
        loop {
            tokio::time::sleep(STOP_POLL).await;
            match ask_connected(asker, Who { incarnation, take_over }).await {
                NameCheck::Free => return,
                NameCheck::Silent | NameCheck::Taken(_) | NameCheck::TakenOver(_) => {}
            }
        }
    };
    match tokio::time::timeout(STOP, gone).await {
        Ok(()) => NameCheck::TakenOver(other.clone()),
        Err(_) => first,
    }
}

async fn ask_connected(asker: &Asker<'_>, who: Who) -> NameCheck {
    loop {
        if asker.client.connection_state() == State::Connected
            && let Asked::Answer(answer) = ask(asker, who).await
        {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ask(asker: &Asker<'_>, who: Who) -> Asked {
    let Asker { client, trust, me } = *asker;
    let mark = format!("{:016x}", who.incarnation.0);
    let reply = wire::subject::namesake(me, &mark);
    let Ok(body) = wire::control::encode_who(me, &who) else {
        return Asked::Answer(NameCheck::Free);
    };
    let answer = async {
        let Ok(mut answers) = client.subscribe(reply.clone()).await else {
            return Asked::Disconnected;
        };
        let (subject, reply) = (wire::subject::control(me, me), Some(reply));
        let question = Outgoing::plain(subject, reply, body, true);
        if publish(client, trust, &Policy::default(), question).await.is_err() {
            return Asked::Disconnected;
        }
        let mut told = false;
        while let Some(message) = answers.next().await {
            if message.status == Some(StatusCode::NO_RESPONDERS) {
                return Asked::Answer(NameCheck::Free);
            }
            if !is_ours(trust, me, &message) {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(node = %me, "somebody who is not this node answers in its name; that is not believed");
                }
                continue;
            }
            // An answer of another version is an answer, too: somebody is there. It says so without details.
            let other = wire::namesake::decode(&message.payload, me).unwrap_or(Namesake {
                incarnation: Incarnation(0),
                host: "an unknown host".to_owned(),
                pid: 0,
                started: protocol::time::Wall(0),
            });
            if other.incarnation != who.incarnation {
                return Asked::Answer(NameCheck::Taken(other));
            }
        }
        Asked::Disconnected
    };
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(asked) => asked,
        Err(_) if client.connection_state() == State::Connected => Asked::Answer(NameCheck::Silent),
        Err(_) => Asked::Disconnected,
    }
}

/// Whether the answer comes from a process that has the key of this node. It names the process that has asked in its
/// subject, so it needs no time.
fn is_ours(trust: &Trust, me: &NodeName, message: &Message) -> bool {
    let Message { subject, headers, payload, .. } = message;
    let proof = trust.verify(subject, headers.as_ref(), payload, crate::clock::wall());
    // Where nobody signs, whoever answers is believed.
    proof.is_ok_and(|proof| matches!(proof, Proof::Nothing) || trust.sender(&proof, me.as_str()).is_ok())
}
