//! A forwarded port, for as long as whoever has asked for it reads how it is: this end of the connections, and the message that
//! has the other node be the other end. When nobody reads any more, the message is cancelled, and what is open is broken off.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream;
use protocol::message::{Message, MessageId};
use protocol::step::Report;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};

use super::following::{heard, json_lines};
use super::socket::Peer;
use super::{ApiError, Shared};
use crate::audit::By;
use crate::broker::wire::forward::Side;
use crate::engine::Input;
use crate::forward::ask::{Ask, Does, HOLD};
use crate::forward::place::Place;
use crate::forward::{self, Begin, Forward};
use crate::intake::MessageInput;
use crate::methods::PORT_FORWARD;
use crate::view::MessageView;

/// Lines that wait for whoever reads them; notes on connections that find no room are left out.
const LINES_MAX: usize = 64;

/// What is wanted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ForwardInput {
    /// The other node.
    pub(crate) to_node: String,
    /// Where connections are taken in: a port of the loopback, or an address and a port.
    pub(crate) listen: String,
    /// Where they come out: a host and a port.
    pub(crate) target: String,
    /// The other node takes them in, and they come out here.
    #[serde(default)]
    pub(crate) reverse: bool,
    /// How long connections outlast that nothing is heard of the other node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hold: Option<String>,
    /// For the other node alone to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seal: Option<bool>,
}

/// A line of the answer. Field names are a public interface: add, never rename.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ForwardView {
    /// The message.
    pub(crate) id: String,
    /// Where connections are taken in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listening: Option<String>,
    /// Whether the other node is there and has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) open: Option<bool>,
    /// Why the message waits, or something about a single connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// The message has come to this state, and it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// `POST /v1/forward`.
pub(super) async fn open(
    State(api): State<Shared>,
    peer: Option<axum::Extension<Peer>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let bad = |why: String| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, why);
    let input: ForwardInput =
        serde_json::from_slice(&body).map_err(|error| bad(format!("this is no port to forward: {error}")))?;
    let (listen, target) = (Place::listener(&input.listen).map_err(bad)?, Place::target(&input.target).map_err(bad)?);
    let hold = input.hold.as_deref().map_or(Ok(HOLD), Ask::hold).map_err(bad)?;
    let (ask, target, listener) = if input.reverse {
        if listen.port == 0 {
            return Err(bad("say on which port the other node is to listen".to_owned()));
        }
        (Ask { does: Does::Listen, place: listen, hold }, Some(target), None)
    } else {
        let listener = forward::bind(&listen).await;
        let listener = listener.map_err(|why| ApiError::new(StatusCode::CONFLICT, why))?;
        (Ask { does: Does::Connect, place: target, hold }, None, Some(listener))
    };
    let message = message(&api, &input, &ask).map_err(bad)?;
    let listening = match &listener {
        Some(listener) => listener.local_addr().map(|at| at.to_string()).map_err(|error| bad(error.to_string()))?,
        None => format!("{} on {}", ask.place, message.to),
    };
    // Before the message can run: its node speaks as soon as it does.
    let begin = Begin {
        peer: message.to.clone(),
        id: message.id,
        side: Side::Sender,
        seal: message.options.seal,
        ask,
        target,
        allowed: Box::new(|| Ok(())),
    };
    let forward = api.forwards.begin(begin).map_err(|why| ApiError::new(StatusCode::TOO_MANY_REQUESTS, why))?;
    let reports = api.engine.reports.subscribe();
    let (id, to) = (message.id, message.to.to_string());
    api.intake.submit_checked(vec![message], peer.map(|axum::Extension(peer)| By::from(peer))).await?;
    let (lines, told) = mpsc::channel(LINES_MAX);
    let first = ForwardView { id: id.to_string(), listening: Some(listening), ..ForwardView::default() };
    let attendant = Attendant { api: Arc::clone(&api), id, to, forward, reports, lines, said: ForwardView::default() };
    let end = api.supervisor.token();
    api.supervisor.once(format!("forward {id}"), async move {
        tokio::select! {
            () = end.cancelled() => {}
            () = attendant.run(first, listener) => {}
        }
    });
    Ok(json_lines(stream::unfold(told, |mut told| async move { Some((told.recv().await?, told)) })))
}

/// The message that has the other node be the other end.
fn message(api: &Shared, input: &ForwardInput, ask: &Ask) -> Result<Message, String> {
    let input = MessageInput {
        to_node: input.to_node.clone(),
        data: ask.data(),
        command_or_event: "CommandACK".to_owned(),
        method: PORT_FORWARD.to_owned(),
        seal: input.seal,
        ..MessageInput::default()
    };
    let messages = input.check(api.intake.defaults(), |_| crate::intake::ids::next())?;
    messages.into_iter().next().ok_or_else(|| "it is for no node".to_owned())
}

/// What looks after a forward that somebody here has asked for.
struct Attendant {
    api: Shared,
    id: MessageId,
    to: String,
    forward: Forward,
    reports: broadcast::Receiver<Arc<Report>>,
    lines: mpsc::Sender<ForwardView>,
    /// What was told last of how it is.
    said: ForwardView,
}

impl Attendant {
    async fn run(mut self, first: ForwardView, listener: Option<TcpListener>) {
        if self.lines.send(first).await.is_err() {
            return self.cancel().await;
        }
        let (mut notes, mut met) = (self.forward.notes(), self.forward.met());
        loop {
            match self.look().await {
                Some(view) if view.finished_at.is_some() => return self.finished(view).await,
                Some(view) => self.tell_of(&view),
                None => return,
            }
            let listening = async {
                match &listener {
                    Some(listener) => self.forward.listen(listener).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.lines.closed() => return self.cancel().await,
                why = self.forward.over() => return self.over(&why).await,
                why = listening => return self.over(&why).await,
                Ok(note) = notes.recv() => self.tell(ForwardView { note: Some(note.to_string()), ..ForwardView::default() }),
                _ = met.changed() => {}
                heard = heard(&mut self.reports, self.id, &self.to) => if heard.is_none() { return },
            }
        }
    }

    async fn look(&self) -> Option<MessageView> {
        self.api.message(self.id).await.ok()
    }

    /// Tells how it is, where that is news.
    fn tell_of(&mut self, view: &MessageView) {
        let open = self.forward.is_open();
        let note = view.reason.clone().filter(|_| !open);
        let now = ForwardView { open: Some(open), note, ..ForwardView::default() };
        if now != self.said {
            self.said = now.clone();
            self.tell(now);
        }
    }

    fn tell(&self, view: ForwardView) {
        // Whoever does not read for long misses some of it.
        let _room: bool = self.lines.try_send(ForwardView { id: self.id.to_string(), ..view }).is_ok();
    }

    async fn finished(self, view: MessageView) {
        let last = ForwardView {
            id: self.id.to_string(),
            state: Some(view.state),
            reason: view.reason,
            ..ForwardView::default()
        };
        // Whoever has gone does not want to hear it.
        let _heard: bool = self.lines.send(last).await.is_ok();
    }

    async fn over(self, why: &str) {
        let (state, reason) = (Some("failed".to_owned()), Some(why.to_owned()));
        let last = ForwardView { id: self.id.to_string(), state, reason, ..ForwardView::default() };
        let _heard: bool = self.lines.send(last).await.is_ok();
        self.cancel().await;
    }

    async fn cancel(self) {
        let cancelled = self.api.engine.ask(|reply| Input::Cancel(self.id, reply)).await;
        if let Err(error) = cancelled {
            tracing::debug!(id = %self.id, %error, "a forward that nobody wants any more was over already");
        }
    }
}
