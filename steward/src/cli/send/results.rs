//! Shows what becomes of messages that were sent: outputs as they are, a heading for each where there are several, a
//! table at the end, and the exit code. Outputs pass through in pieces; none is held as a whole.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use protocol::outcome::{Final, Stream};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::follow::{self, Update};
use super::progress::{Progress, REDRAW};
use crate::api::client::{Client, ClientError};
use crate::cli::exit::{self, Exit};
use crate::cli::live::{self, Heard, Wanted};
use crate::cli::logs::AGAIN;
use crate::cli::output::{self, Output};
use crate::cli::show::{self, has_ended};
use crate::cli::table::Table;
use crate::cli::{messages, source, when};
use crate::view::MessageView;

/// Updates that may wait while an output is printed.
const UPDATES_MAX: usize = 256;

/// A message that was sent, and what is known of it.
pub(super) struct Sent {
    pub(super) node: String,
    pub(super) id: String,
    pub(super) view: Option<MessageView>,
    /// Why it can't be followed any further.
    pub(super) lost: Option<ClientError>,
}

impl Sent {
    fn new((node, id): (String, String)) -> Self {
        Self { node, id, view: None, lost: None }
    }

    /// Whether nothing more will be known of it.
    pub(super) fn is_over(&self) -> bool {
        self.lost.is_some() || self.view.as_ref().is_some_and(has_ended)
    }

    /// Whether its receiver has not said yet that it has it.
    pub(super) fn waits_for_receiver(&self) -> bool {
        !self.is_over() && self.view.as_ref().is_none_or(|view| matches!(&*view.state, "queued" | "sent"))
    }

    /// What it goes on as when nobody waits for it any more.
    pub(super) fn left_as(&self) -> &str {
        match &self.view {
            Some(view) if !self.waits_for_receiver() => &view.state,
            Some(_) | None => "queued",
        }
    }
}

/// Shows messages until each has ended, or until the interrupt. They were accepted after `since_ms`.
pub(super) async fn show(
    client: &Client,
    sent: Vec<(String, String)>,
    since_ms: u64,
    json: bool,
    interrupt: Pin<&mut impl Future<Output = std::io::Result<()>>>,
) -> anyhow::Result<Exit> {
    to(Output::stdout(), client, sent, since_ms, json, interrupt).await
}

/// Waits for one message in the same way, and gives its standard output instead of printing it.
pub(in crate::cli) async fn collect(
    client: &Client,
    sent: (String, String),
    since_ms: u64,
    interrupt: Pin<&mut impl Future<Output = std::io::Result<()>>>,
) -> anyhow::Result<(Exit, String)> {
    let (stdout, text) = Output::captured(None);
    let exit = to(stdout, client, vec![sent], since_ms, false, interrupt).await?;
    Ok((exit, text.text()))
}

async fn to(
    stdout: Output,
    client: &Client,
    sent: Vec<(String, String)>,
    since_ms: u64,
    json: bool,
    interrupt: Pin<&mut impl Future<Output = std::io::Result<()>>>,
) -> anyhow::Result<Exit> {
    let sent = sent.into_iter().map(Sent::new).collect();
    let (progress, stderr) = (Progress::new(), Output::stderr());
    let live = Live::default();
    let mut shown = Show { client, sent, since_ms, json, progress, stdout, stderr, live };
    let ended = tokio::select! {
        ended = shown.all() => Some(ended),
        _ = interrupt => None,
    };
    shown.progress.clear();
    match ended {
        Some(Ok(())) => shown.end(),
        Some(Err(error)) => Err(error),
        None => Ok(shown.leave()),
    }
}

struct Show<'a> {
    client: &'a Client,
    sent: Vec<Sent>,
    since_ms: u64,
    json: bool,
    progress: Progress,
    stdout: Output,
    stderr: Output,
    live: Live,
}

/// What was shown of the one message whose output is shown as it comes.
#[derive(Debug, Default)]
struct Live {
    /// Bytes of standard output and standard error.
    shown: [u64; 2],
    /// Whether all of it was.
    is_whole: bool,
    /// Whether nothing more comes in this way.
    is_over: bool,
}

impl Show<'_> {
    /// Shows all of them: the output of a single one as it comes, those of several one after the other.
    async fn all(&mut self) -> anyhow::Result<()> {
        let (heard, mut pieces) = mpsc::channel(live::HEARD_MAX);
        let wanted = self.sent.first().filter(|_| self.sent.len() == 1 && !self.json);
        let wanted = wanted.map(|sent| Wanted { id: sent.id.clone(), follow: true, ..Wanted::default() });
        self.live.is_over = wanted.is_none();
        let client = self.client.clone();
        let listen = async {
            if let Some(wanted) = wanted {
                live::listen(client, wanted, heard).await;
            }
        };
        let mut listen = std::pin::pin!(listen.fuse());
        let (updates, mut news) = mpsc::channel(UPDATES_MAX);
        let mut follows = self.follows(&updates);
        let mut redraw = tokio::time::interval(REDRAW);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once; what is over before the second needs no line.
        redraw.tick().await;
        let mut over = VecDeque::new();
        let mut left = self.sent.len();
        while left > 0 {
            tokio::select! {
                Some(update) = news.recv() => over.extend(self.take(update)),
                Some(()) = follows.next() => {}
                Some(heard) = pieces.recv() => self.piece(heard)?,
                () = &mut listen => {}
                _ = redraw.tick() => self.progress.draw(&self.sent),
            }
            // A result is told behind its output.
            while let Some(place) = over.pop_front_if(|_| self.live.is_over) {
                left -= 1;
                self.progress.clear();
                self.result(place).await?;
            }
        }
        Ok(())
    }

    /// Prints what has come of the output of a message that runs.
    fn piece(&mut self, heard: Heard) -> anyhow::Result<()> {
        match heard {
            Heard::Piece(stream, bytes) => {
                let (to, shown) = match stream {
                    Stream::Stdout => (&mut self.stdout, &mut self.live.shown[0]),
                    Stream::Stderr => (&mut self.stderr, &mut self.live.shown[1]),
                };
                self.progress.make_room(bytes.last() == Some(&b'\n'));
                to.bytes(&bytes)?;
                to.flush()?;
                *shown += bytes.len() as u64;
            }
            Heard::Again => {
                self.progress.clear();
                self.live.shown = [0; 2];
                output::note(AGAIN);
            }
            Heard::End(_) => (self.live.is_whole, self.live.is_over) = (true, true),
            // The message itself tells of it; what is missing then is copied when it has ended.
            Heard::Failed(_) => self.live.is_over = true,
            Heard::Gone => {}
        }
        Ok(())
    }

    /// What brings the updates.
    fn follows(&self, updates: &mpsc::Sender<Update>) -> FuturesUnordered<BoxFuture<'static, ()>> {
        if self.sent.len() > follow::STREAMS_MAX {
            let ids = self.sent.iter().map(|sent| sent.id.clone()).collect();
            let follow = follow::many(self.client.clone(), ids, self.since_ms, updates.clone());
            return std::iter::once(follow.boxed()).collect();
        }
        let follow = |(place, sent): (usize, &Sent)| {
            follow::message(self.client.clone(), place, sent.id.clone(), updates.clone()).boxed()
        };
        self.sent.iter().enumerate().map(follow).collect()
    }

    /// Takes an update; the place of a message that it ends.
    fn take(&mut self, update: Update) -> Option<usize> {
        let (place, view, lost) = match update {
            Update::Message(place, view) => (place, Some(*view), None),
            Update::Failed(place, error) => (place, None, Some(error)),
            Update::Gone => {
                self.progress.gone(true);
                return None;
            }
            Update::Back => {
                self.progress.gone(false);
                return None;
            }
        };
        let sent = self.sent.get_mut(place)?;
        let was_over = sent.is_over();
        sent.view = view.or(sent.view.take());
        sent.lost = lost;
        (sent.is_over() && !was_over).then_some(place)
    }

    /// Prints what a message brought.
    async fn result(&mut self, place: usize) -> anyhow::Result<()> {
        let Some(sent) = self.sent.get(place) else { return Ok(()) };
        if let Some(error) = &sent.lost {
            output::note_as("error", &format!("{}: {error}", sent.node));
            return Ok(());
        }
        if self.json {
            let path = format!("/v1/messages/{}", sent.id);
            let view: MessageView = again(|| self.client.get(&path)).await?;
            self.stdout.json(&view)?;
            self.stdout.flush()?;
            return Ok(());
        }
        let Some(view) = sent.view.clone() else { return Ok(()) };
        if self.sent.len() > 1 {
            let state = self.stdout.paint(messages::style(&view.state), &view.state);
            let node = self.stdout.paint(output::STRONG, &view.to_node);
            self.stdout.line(&format!("── {node}: {state}{}", output::one_line(&show::result(&view))))?;
            // Before anything of it on the other stream.
            self.stdout.flush()?;
        }
        if !self.live.is_whole {
            self.copy(&view, Stream::Stdout, view.stdout_bytes).await?;
            self.copy(&view, Stream::Stderr, view.stderr_bytes).await?;
        }
        self.remark(&view);
        Ok(self.stdout.flush()?)
    }

    async fn copy(&mut self, view: &MessageView, stream: Stream, bytes: u64) -> anyhow::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let (to, mut copied) = match stream {
            Stream::Stdout => (&mut self.stdout, self.live.shown[0]),
            Stream::Stderr => (&mut self.stderr, self.live.shown[1]),
        };
        while let Err(error) = source::copy(self.client, &view.id, stream, to, &mut copied).await {
            match error.downcast_ref::<ClientError>() {
                Some(cause) if cause.is_passing() => tokio::time::sleep(RETRY).await,
                Some(_) | None => return Err(error),
            }
        }
        Ok(())
    }

    /// What the exit code alone doesn't say.
    fn remark(&self, view: &MessageView) {
        let said = match (Final::parse(&view.state), &view.reason) {
            (Some(Final::Done | Final::Sent), _) => None,
            // The exit code says it, as it would if the command had run here.
            (Some(Final::Failed), _) if view.exit_code.is_some_and(|code| code != 0) => None,
            (_, Some(reason)) => Some(format!("{}: {reason}", view.state)),
            (_, None) => Some(view.state.clone()),
        };
        if self.sent.len() > 1 {
            // The table says it, once for all.
        } else if let Some(said) = said {
            output::note(&format!("{}: {said} (steward show {})", view.to_node, view.id));
        } else if view.stdout_bytes + view.stderr_bytes == 0 && self.stderr.width().is_some() {
            // Silence would do in a script; somebody who looks on wants to see that something happened.
            let took = view.finished_at.as_ref().and_then(|end| when::between(&view.created_at, end)).map(when::span);
            output::note(&format!(
                "{}: {}{}",
                view.to_node,
                view.state,
                took.map_or_else(String::new, |took| format!(" in {took}"))
            ));
        }
        if view.truncated {
            output::note(&format!("{}: the output was cut at the limit there (--max-output)", view.to_node));
        }
    }

    /// The table, where there are several, and the exit code.
    fn end(mut self) -> anyhow::Result<Exit> {
        let views: Vec<MessageView> = self.sent.iter().filter_map(|sent| sent.view.clone()).collect();
        if self.sent.len() > 1 && !self.json {
            let mut table = Table::new(&["NODE", "STATE", "EXIT", "TOOK", "ID", "REASON"], "STATE");
            for view in &views {
                let code = view.exit_code.map_or_else(String::new, |code| code.to_string());
                let took = view.finished_at.as_ref().and_then(|end| when::between(&view.created_at, end));
                let took = took.map_or_else(String::new, when::span);
                let reason = view.reason.as_deref().unwrap_or_default();
                table.row(&[&view.to_node, &view.state, &code, &took, &view.id, reason], messages::style(&view.state));
            }
            table.print(&mut self.stderr)?;
        }
        if self.sent.iter().any(|sent| sent.lost.is_some()) {
            return Ok(Exit(if self.sent.len() == 1 { exit::NOT_SENT } else { exit::FAILED }));
        }
        Ok(Exit::of_all(&views))
    }

    /// What goes on without us, and how to look at it.
    fn leave(self) -> Exit {
        let left: Vec<&Sent> = self.sent.iter().filter(|sent| !sent.is_over()).collect();
        for sent in left.iter().take(LEFT_LISTED_MAX) {
            output::note(&format!("{}: left {} as {}", sent.node, sent.left_as(), sent.id));
        }
        if left.len() > LEFT_LISTED_MAX {
            output::note(&format!("and {} more: steward messages", left.len() - LEFT_LISTED_MAX));
        }
        if let Some(first) = left.first() {
            let id = &first.id;
            output::note(&format!("steward show {id} tells what becomes of it, steward cancel {id} takes it back"));
        }
        Exit(exit::CTRL_C)
    }
}

/// Messages that are named when they are left to the node.
const LEFT_LISTED_MAX: usize = 20;

/// The pause before an output is asked for again when the node has stopped in the middle.
const RETRY: std::time::Duration = std::time::Duration::from_millis(500);

/// Asks until the node is there to answer.
async fn again<T, F: Future<Output = Result<T, ClientError>>>(ask: impl Fn() -> F) -> Result<T, ClientError> {
    loop {
        match ask().await {
            Err(error) if error.is_passing() => tokio::time::sleep(RETRY).await,
            answer => return answer,
        }
    }
}
