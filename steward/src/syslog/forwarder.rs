//! Brings lines from the spool to the node that keeps them, as messages in one lane. What is accepted as a message and how far
//! the spool was read is one transaction, so that no line is sent twice or left out; a line leaves the spool when its message
//! has ended well. A message that did not (the receiver refuses it, say) is sent again later, with what followed it behind it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use protocol::message::{Kind, Message, MessageId};
use protocol::name::{Lane, MethodName, NodeName};
use protocol::outcome::Final;
use protocol::step::Report;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::batch;
use super::line::Line;
use super::shelf::{CURSOR, Shelf};
use super::spool::Portion;
use super::tally::Tally;
use crate::clock::{self, Clock};
use crate::engine::{EngineError, EngineHandle, Input};
use crate::intake::{Intake, MessageInput, ids};
use crate::store::{Cursor, Reader};
use crate::troubles::TOLD;
use crate::view::MessageView;

/// Messages that may be on their way. All else waits in the spool, so that there is something to drop there when it is full.
const OPEN_MAX: usize = 8;

/// Lines of a message.
const LINES_MAX: usize = 1000;

/// Bytes of the lines of a message; a line always fits. All of them escapes, it is still less than a message may have.
const BYTES_MAX: usize = 64 * 1024;

/// How soon it is tried again to give a message that was not accepted.
const RETRY: Duration = Duration::from_secs(2);

/// How soon what did not end well is sent again: at first, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// How often it is looked how messages are, beside the reports of their ends.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How far it is, as it is kept in the store.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The number of the line that is read next.
    next: u64,
    /// What is on its way, oldest first.
    open: VecDeque<Sent>,
    /// What has to be sent again.
    #[serde(default)]
    again: VecDeque<Sent>,
}

/// A message with lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    id: u128,
    /// The numbers of its lines: from here on, and up to the one before `to`.
    from: u64,
    to: u64,
}

/// The number of the line that is read next, of a text that was kept.
pub(super) fn next(text: &str) -> Option<u64> {
    serde_json::from_str::<State>(text).ok().map(|state| state.next)
}

impl State {
    /// Lines before this number are where they belong.
    fn settled(&self) -> u64 {
        self.open.iter().chain(&self.again).map(|sent| sent.from).min().unwrap_or(self.next).min(self.next)
    }
}

/// Sends lines. Clones send the same ones, so only one may run at a time.
#[derive(Clone)]
pub(super) struct Forwarder {
    shelf: Shelf,
    intake: Intake,
    engine: EngineHandle,
    reader: Arc<Reader>,
    lane: Lane,
    /// What this machine is called.
    host: Arc<str>,
    tally: Tally,
    clock: Clock,
}

/// When what did not end well is sent again.
struct Pause {
    until: Duration,
    length: Duration,
}

impl Forwarder {
    /// One that sends to this node.
    pub(super) fn new(
        shelf: Shelf,
        (intake, engine, reader): (Intake, EngineHandle, Arc<Reader>),
        (to, host): (NodeName, &str),
        tally: Tally,
        clock: Clock,
    ) -> Result<Self, protocol::name::NameError> {
        let lane = Lane { peer: to, kind: Kind::EventAck, method: MethodName::new(crate::methods::SYSLOG)? };
        Ok(Self { shelf, intake, engine, reader, lane, host: host.into(), tally, clock })
    }

    /// Sends until `end`.
    pub(super) async fn run(self, end: CancellationToken) -> anyhow::Result<()> {
        // From before the first look, so that no end is missed in between.
        let mut reports = self.engine.reports.subscribe();
        let mut state = tokio::select! {
            () = end.cancelled() => return Ok(()),
            state = self.begin() => state?,
        };
        let mut pause = Pause { until: Duration::ZERO, length: AGAIN.0 };
        loop {
            self.settle(&mut state, &mut pause).await;
            let settled = state.settled();
            self.shelf.with(move |spool| spool.release(settled)).await?;
            let work = async {
                while self.send(&mut state, &pause).await? {}
                anyhow::Ok(())
            };
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                done = work => done?,
            }
            let again = match state.again.is_empty() {
                true => LOOK_EVERY,
                false => pause.until.saturating_sub(self.clock.elapsed()).max(RETRY),
            };
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                () = self.ended(&mut reports) => {}
                () = self.shelf.news(), if state.open.len() < OPEN_MAX => {}
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    async fn begin(&self) -> anyhow::Result<State> {
        let reader = Arc::clone(&self.reader);
        let text = tokio::task::spawn_blocking(move || reader.cursor(&CURSOR)).await??;
        match text.map(|text| serde_json::from_str(&text)) {
            Some(Ok(state)) => Ok(state),
            Some(Err(error)) => {
                Err(anyhow::anyhow!("how far the spool of syslog was read can't be understood: {error}"))
            }
            None => {
                let state = State { next: self.shelf.with(|spool| Ok(spool.first())).await?, ..State::default() };
                // From here on it is known what is missing before the first line that is there.
                self.keep(Vec::new(), &state).await?;
                Ok(state)
            }
        }
    }

    /// Returns when a message of ours has ended, or may have.
    async fn ended(&self, reports: &mut broadcast::Receiver<Arc<Report>>) {
        loop {
            match reports.recv().await {
                Ok(report) => match &*report {
                    Report::Out { lane, outcome: Some(_), .. } if *lane == self.lane => return,
                    _ => {}
                },
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Looks what has become of messages.
    async fn settle(&self, state: &mut State, pause: &mut Pause) {
        for sent in std::mem::take(&mut state.open) {
            let view = match self.engine.ask(|reply| Input::Show(MessageId(sent.id), reply)).await {
                Ok(view) if view.finished_at.is_none() => {
                    state.open.push_back(sent);
                    continue;
                }
                Ok(view) => view,
                // It has ended long ago and is not kept any more.
                Err(EngineError::Unknown(_)) => continue,
                Err(error) => {
                    tracing::debug!(%error, "how a message with lines of syslog is can't be seen now");
                    state.open.push_back(sent);
                    continue;
                }
            };
            // Whoever takes one back does not want its lines.
            if [Final::Done, Final::Cancelled].iter().any(|good| good.as_str() == view.state) {
                pause.length = AGAIN.0;
                continue;
            }
            if self.clock.elapsed() >= pause.until {
                self.put_off(&view, pause);
            }
            self.tally.repeated(sent.to - sent.from);
            let place = state.again.iter().position(|other| other.from > sent.from).unwrap_or(state.again.len());
            state.again.insert(place, sent);
        }
    }

    /// What did not end well is sent again after a while.
    fn put_off(&self, view: &MessageView, pause: &mut Pause) {
        let (to, reason, id) = (&self.lane.peer, view.reason.as_deref().unwrap_or_default(), &view.id);
        tracing::warn!(
            target: TOLD, %to, state = view.state, reason, again_s = pause.length.as_secs(), id,
            "lines of syslog are not where they should be; they are kept and sent again"
        );
        pause.until = self.clock.elapsed() + pause.length;
        pause.length = (pause.length * 2).min(AGAIN.1);
    }

    /// Sends the next lines, if there are any and they may go. Says whether there may be more.
    async fn send(&self, state: &mut State, pause: &Pause) -> anyhow::Result<bool> {
        let repeated = state.again.front().cloned();
        let may_go = match repeated {
            Some(_) => state.open.is_empty() && self.clock.elapsed() >= pause.until,
            None => state.open.len() < OPEN_MAX,
        };
        if !may_go {
            return Ok(false);
        }
        let (from, to) = repeated.as_ref().map_or((state.next, u64::MAX), |sent| (sent.from, sent.to));
        let portion = self.shelf.with(move |spool| portion(spool, from, to)).await?;
        if portion.next == from {
            return Ok(false);
        }
        let mut after = state.clone();
        match repeated {
            Some(sent) if portion.next < sent.to => {
                after.again[0].from = portion.next;
            }
            Some(_) => drop(after.again.pop_front()),
            None => after.next = portion.next,
        }
        let messages = self.messages(&portion)?;
        for message in &messages {
            after.open.push_back(Sent { id: message.id.0, from, to: portion.next });
        }
        self.keep(messages, &after).await?;
        self.tally.forwarded(portion.lines.len() as u64);
        *state = after;
        Ok(true)
    }

    /// The message with these lines, and with a line that says what is missing before them.
    fn messages(&self, portion: &Portion) -> anyhow::Result<Vec<Message>> {
        let mut lines = portion.lines.clone();
        if portion.lost > 0 {
            lines.insert(0, self.mark(portion));
        }
        let input = MessageInput {
            to_node: self.lane.peer.to_string(),
            data: batch::pack(&lines),
            command_or_event: self.lane.kind.as_str().to_owned(),
            method: self.lane.method.to_string(),
            // For ever, whatever holds for other messages: nobody looks after these.
            retries: Some(0),
            method_timeout: Some(0.0),
            // Its lines are written once however often it runs, as long as the receiver's store is the same.
            rerun: Some(true),
            ..MessageInput::default()
        };
        input.check(self.intake.defaults(), |_| ids::next()).map_err(anyhow::Error::msg)
    }

    /// An honest word about lines that are not there (RFC 5424, facility syslog, severity warning).
    fn mark(&self, portion: &Portion) -> Line {
        let at = portion.lines.first().map_or_else(clock::wall, |line| line.at);
        let (time, host, lost) = (clock::rfc3339(at), &self.host, portion.lost);
        let text =
            format!("<44>1 {time} {host} steward - - - {lost} lines are missing here: they were dropped on this node");
        Line { at, host: host.to_string(), bytes: text.into_bytes() }
    }

    /// Accepts messages and keeps how far this is, however long that takes. The same ids again are the same messages.
    async fn keep(&self, messages: Vec<Message>, state: &State) -> anyhow::Result<()> {
        let text = serde_json::to_string(state)?;
        let mut told = false;
        loop {
            let cursor = Cursor { name: CURSOR, text: text.clone() };
            match self.engine.keep(messages.clone(), cursor).await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "lines of syslog can't be sent now; they wait");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// Lines from one number on, and none from `to` on.
fn portion(spool: &mut super::spool::Spool, from: u64, to: u64) -> io::Result<Portion> {
    let most = usize::try_from(to - from).unwrap_or(usize::MAX).min(LINES_MAX);
    let mut portion = spool.read(from, most, BYTES_MAX)?;
    if to == u64::MAX && portion.next > from {
        let fitting = batch::fitting(&portion.lines);
        portion.next -= (portion.lines.len() - fitting) as u64;
        portion.lines.truncate(fitting);
        return Ok(portion);
    }
    if portion.next - portion.lines.len() as u64 >= to {
        return Ok(Portion { lost: to - from, lines: Vec::new(), next: to });
    }
    let beyond = usize::try_from(portion.next.saturating_sub(to)).unwrap_or(usize::MAX);
    portion.lines.truncate(portion.lines.len() - beyond.min(portion.lines.len()));
    portion.next = portion.next.min(to);
    let fitting = batch::fitting(&portion.lines);
    portion.next -= (portion.lines.len() - fitting) as u64;
    portion.lines.truncate(fitting);
    Ok(portion)
}
