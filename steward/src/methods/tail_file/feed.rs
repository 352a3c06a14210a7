//! One command that follows files, from its start to its end: looks what is new, and has it accepted as messages to whoever gave the
//! command, together with how far the files were read. So a line is in a message or is read again, and never both.

use std::sync::Arc;
use std::time::Duration;

use protocol::message::{Kind, Message, MessageId};
use protocol::outcome::Final;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::super::{Ending, MethodCtx, MethodError};
use super::ask::Ask;
use super::follower::{Follower, Piece};
use super::receive::Lines;
use super::watch::Watch;
use crate::clock::{self, Clock};
use crate::intake::MessageInput;
use crate::store::{CURSOR_BYTES_MAX, ReadError};

/// Commands that follow files on a node at the same time; each has files open.
const TAILS_MAX: usize = 16;

/// Those that run.
static RUNNING: Semaphore = Semaphore::const_new(TAILS_MAX);

/// Messages of a command that may be on their way; then no more is read. The files are the buffer.
const WAITING_MAX: usize = 16;

/// Messages that are accepted together: as many as fit into one transaction, however long they are.
const TOGETHER_MAX: usize = 8;

/// The pause after a look, so that lines travel together.
const GATHER: Duration = Duration::from_millis(200);

/// How often files are looked at of which nobody tells anything, and what has become of messages is looked up.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is kept how far files were read of which no line was wanted.
const KEEP: Duration = Duration::from_secs(10);

/// How soon what could not be kept is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// The longest time for which it counts that nobody could read, where lines are limited.
const AWAY_MAX: Duration = Duration::from_secs(86_400);

/// How far a command is, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// What the follower says.
    files: String,
    /// Messages that had not ended.
    waiting: Vec<String>,
    /// When this was written, in milliseconds since 1970.
    at_ms: u64,
}

/// A command that follows files.
struct Feed<'a, 'b> {
    ctx: &'a MethodCtx<'b>,
    order: &'a Message,
    follower: Follower,
    waiting: Vec<MessageId>,
    clock: Clock,
    watch: Watch,
    /// What was kept last, and when.
    kept: (String, Duration),
    /// When it was last not held up.
    free: Duration,
}

/// Follows files until it is told to stop.
pub(super) async fn follow(ask: Ask, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
    if let Some(user) = ctx.user() {
        return Err(MethodError(format!(
            "a rule lets this in as user {user}, and files are read as the user of the node; follow them with ShellCommand (tail -F)"
        )));
    }
    if ctx.runs().first().is_some_and(|run| run.message.kind != Kind::CommandAck) {
        return Err(MethodError("it can't be sent without ACK: nobody could ever end it".to_owned()));
    }
    let Ok(_permit) = RUNNING.try_acquire() else {
        return Err(MethodError(format!("{TAILS_MAX} tails run here already; cancel one of them")));
    };
    let Some(order) = ctx.runs().first().map(|run| run.message.clone()) else { return Ok(Ending::DONE) };
    let (ending, totals) = {
        let mut feed = Feed::begin(ask, ctx, &order).await?;
        let ending = tokio::select! {
            biased;
            why = ctx.stopped() => Ok(why.ending()),
            ending = feed.serve() => ending,
        };
        (ending, feed.follower.totals())
    };
    if let Ok(text) = serde_json::to_string(&totals) {
        ctx.answer(&format!("{text}\n")).await;
    }
    ending
}

impl<'a, 'b> Feed<'a, 'b> {
    async fn begin(ask: Ask, ctx: &'a MethodCtx<'b>, order: &'a Message) -> Result<Self, MethodError> {
        let (follower, waiting) = match ctx.cursor().await? {
            None => (Follower::new(ask), Vec::new()),
            Some(text) => {
                let unread =
                    |error| MethodError(format!("how far it had come can't be read any more ({error}); begin anew"));
                let saved: Saved = serde_json::from_str(&text).map_err(unread)?;
                let away = Duration::from_millis(clock::wall().0.saturating_sub(saved.at_ms)).min(AWAY_MAX);
                let waiting = saved.waiting.iter().filter_map(|id| id.parse().ok()).collect();
                (Follower::resume(ask, &saved.files, away).map_err(MethodError)?, waiting)
            }
        };
        let kept = (String::new(), Duration::ZERO);
        let (clock, watch) = (Clock::start(), Watch::new());
        Ok(Self { ctx, order, follower, waiting, clock, watch, kept, free: Duration::ZERO })
    }

    async fn serve(&mut self) -> Result<Ending, MethodError> {
        loop {
            if let Some(ending) = self.look_after_messages().await? {
                return Ok(ending);
            }
            let now = self.clock.elapsed();
            let room = WAITING_MAX.saturating_sub(self.waiting.len()).min(TOGETHER_MAX);
            if room > 0 {
                self.follower.held(now.saturating_sub(self.free).saturating_sub(LOOK));
                self.free = now;
            }
            let (pieces, more) = self.pass(now, room).await?;
            self.watch.keep(&self.follower.folders);
            self.keep(pieces).await?;
            if more && room > 0 && self.waiting.len() < WAITING_MAX {
                continue;
            }
            let is_full = self.waiting.len() >= WAITING_MAX;
            let next = if is_full || self.follower.owes_a_mark() { GATHER } else { LOOK };
            tokio::time::sleep(GATHER).await;
            tokio::select! {
                () = self.watch.hinted(), if !is_full => {}
                () = tokio::time::sleep(next.saturating_sub(GATHER)) => {}
            }
        }
    }

    /// Looks what is new, on a thread that may block.
    async fn pass(&mut self, now: Duration, room: usize) -> Result<(Vec<Piece>, bool), MethodError> {
        let empty = Follower::new(self.follower.ask.clone());
        let mut follower = std::mem::replace(&mut self.follower, empty);
        let passed = tokio::task::spawn_blocking(move || {
            let pass = follower.pass(now, room);
            (follower, pass)
        });
        let (follower, pass) = passed.await.map_err(|error| MethodError(error.to_string()))?;
        self.follower = follower;
        Ok((pass.pieces, pass.more))
    }

    /// Has what is new accepted, and keeps how far the files were read.
    async fn keep(&mut self, pieces: Vec<Piece>) -> Result<(), MethodError> {
        let (files, now) = (self.follower.cursor(), self.clock.elapsed());
        let is_news = files != self.kept.0;
        // What is read again after a crash without a line that is wanted gives none again.
        let is_due = self.kept.0.is_empty() || now >= self.kept.1 + KEEP;
        if pieces.is_empty() && !(is_news && is_due) {
            return Ok(());
        }
        let inputs = pieces.into_iter().map(|piece| self.input(piece)).collect::<Result<Vec<_>, _>>()?;
        let messages = self.ctx.prepare(inputs)?;
        self.waiting.extend(messages.iter().map(|message| message.id));
        let waiting = self.waiting.iter().map(MessageId::to_string).collect();
        let saved = Saved { files: files.clone(), waiting, at_ms: clock::wall().0 };
        let text = serde_json::to_string(&saved).map_err(|error| MethodError(error.to_string()))?;
        if text.len() > CURSOR_BYTES_MAX {
            return Err(MethodError(
                "the paths of its files are too long to keep how far each was read; follow fewer".to_owned(),
            ));
        }
        let mut is_told = false;
        while let Err(error) = self.ctx.keep(messages.clone(), text.clone()).await {
            if !is_told {
                tracing::warn!(%error, id = %self.order.id, "lines of a file that is followed are not accepted; they are kept back");
                is_told = true;
            }
            tokio::time::sleep(RETRY).await;
        }
        self.kept = (files, now);
        Ok(())
    }

    fn input(&self, piece: Piece) -> Result<MessageInput, MethodError> {
        let lines = Lines { order: self.order.id, file: piece.label, bytes: piece.bytes };
        Ok(MessageInput {
            to_node: self.order.from.to_string(),
            data: lines.data().map_err(MethodError)?,
            command_or_event: "EventACK".to_owned(),
            method: super::NAME.to_owned(),
            // Never given up: what is lost here is lost.
            retries: Some(0),
            method_timeout: Some(0.0),
            // Whoever receives it knows what it has.
            rerun: Some(true),
            seal: self.order.options.seal.then_some(true),
            ..MessageInput::default()
        })
    }

    /// Sees what has become of messages. An end of it all, if they are not taken.
    async fn look_after_messages(&mut self) -> Result<Option<Ending>, MethodError> {
        if self.waiting.is_empty() {
            return Ok(None);
        }
        let (reader, ids) = (Arc::clone(self.ctx.reader()), self.waiting.clone());
        let look = move || {
            let mut ends = Vec::new();
            for id in ids {
                // What is not there any more has ended long ago.
                let ended = reader.sent(id)?.map_or(Some(Final::Done), |found| found.ended);
                let Some(state) = ended else { continue };
                let view = if state == Final::Done { None } else { reader.show(id)? };
                ends.push((id, state, view.and_then(|view| view.reason)));
            }
            Ok::<_, ReadError>(ends)
        };
        let looked = tokio::task::spawn_blocking(look).await.map_err(|error| MethodError(error.to_string()))?;
        let ends = match looked {
            Ok(ends) => ends,
            Err(error) => {
                tracing::debug!(%error, "what has become of lines can't be looked up now");
                return Ok(None);
            }
        };
        for (id, state, reason) in ends {
            self.waiting.retain(|waiting| *waiting != id);
            if state != Final::Done {
                let reason = reason.unwrap_or_else(|| "no reason is known".to_owned());
                let to = &self.order.from;
                let why = format!("{to} does not take its lines (message {id} is {state}): {reason}");
                return Ok(Some(Ending::because(Final::Failed, why)));
            }
        }
        Ok(None)
    }
}
