//! Outputs as they come: what is here of a message's output, and what its command writes while it runs, as lines of JSON,
//! until the message has ended and all of it was given. Nothing travels for an output that nobody looks at here, and
//! nothing for a command that is over at once: its result brings all.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream;
use protocol::message::MessageId;
use protocol::name::NodeName;
use protocol::outcome::Stream;
use protocol::step::Report;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::broadcast;

use super::following::{Heard, heard, json_lines};
use super::messages::{id, open_output};
use super::{ApiError, LOOK_AGAIN, Shared};
use crate::clock::Clock;
use crate::engine::Input;
use crate::results::{Attached, Grown};
use crate::view::{MessageView, OutputView};

/// A command that is over within this time is not followed.
const FOLLOW_AFTER: Duration = Duration::from_millis(250);

/// How long to wait for what a node has to say of an output that nobody wants followed, or only the end of.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(5);

/// Bytes of an output in one line.
const PIECE_BYTES: usize = 32 * 1024;

/// How far back the last lines are looked for, in bytes.
const TAIL_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What may stand behind `/v1/messages/{id}/output?`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutputQuery {
    /// Whether to stay until the message has ended.
    #[serde(default)]
    follow: bool,
    /// Only this stream.
    stream: Option<String>,
    /// The run of which some is known already.
    #[serde(default)]
    run: u64,
    /// Bytes of it that are known already.
    #[serde(default)]
    stdout: u64,
    /// See `stdout`.
    #[serde(default)]
    stderr: u64,
    /// Begin with so many lines of each stream.
    tail: Option<usize>,
}

/// `GET /v1/messages/{id}/output`.
pub(super) async fn output(
    State(api): State<Shared>,
    Path(text): Path<String>,
    query: Result<Query<OutputQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let id = id(&text)?;
    let streams: Vec<Stream> = match &query.stream {
        None => Stream::ALL.to_vec(),
        Some(name) => Stream::ALL.into_iter().filter(|stream| stream.as_str() == name).collect(),
    };
    if streams.is_empty() {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "stream is stdout or stderr"));
    }
    // First the ear, then the eye: no change is missed between the two.
    let reports = api.engine.reports.subscribe();
    let view = api.engine.ask(|reply| Input::Show(id, reply)).await?;
    let is_ours = view.from_node == (api.info)().node;
    let is_short = view.stdout.is_some() == (view.stdout_bytes > 0) && view.stderr.is_some() == (view.stderr_bytes > 0);
    if !is_ours && (view.finished_at.is_none() || !is_short) {
        let text = format!("the message is one of {}: its output can be seen there", view.from_node);
        return Err(ApiError::new(StatusCode::CONFLICT, text));
    }
    let follow = Follow {
        api,
        id,
        reports,
        view,
        streams,
        stays: query.follow,
        tail: query.tail,
        attached: None,
        attach_at: None,
        clock: Clock::start(),
        run: query.run,
        given: [query.stdout, query.stderr],
        files: [None, None],
        is_over: false,
    };
    let lines = stream::unfold(follow, |mut follow| async move { Some((follow.line().await?, follow)) });
    Ok(json_lines(lines))
}

struct Follow {
    api: Shared,
    id: MessageId,
    reports: broadcast::Receiver<Arc<Report>>,
    view: MessageView,
    streams: Vec<Stream>,
    /// Whether to stay until the message has ended.
    stays: bool,
    /// The last lines with which to begin, as long as that is not done.
    tail: Option<usize>,
    attached: Option<Attached>,
    /// When to begin to follow a message that runs.
    attach_at: Option<Duration>,
    clock: Clock,
    /// The run whose output is given; 0 while nothing is known of any.
    run: u64,
    given: [u64; 2],
    files: [Option<File>; 2],
    is_over: bool,
}

/// The place of a stream in a pair.
fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Follow {
    /// The next line; none at the end.
    async fn line(&mut self) -> Option<OutputView> {
        if self.is_over {
            return None;
        }
        loop {
            if let Some(line) = self.here().await {
                return Some(line);
            }
            // What is waited for no longer is what can be said by now.
            let waited = self.clock.elapsed() >= CATCH_UP_LIMIT;
            let is_enough = self.has_ended() || !self.is_running() || waited || self.grown().is_caught_up();
            if self.tail.is_some() && is_enough {
                self.skip_to_tail().await;
                continue;
            }
            if self.has_ended() || (!self.stays && is_enough) {
                self.is_over = true;
                if self.has_ended() {
                    self.warn_of_missing();
                    self.attached.take().into_iter().for_each(Attached::over);
                    self.api.audience.forget(self.id);
                }
                return Some(OutputView { state: Some(self.view.state.clone()), ..OutputView::default() });
            }
            self.change().await?;
        }
    }

    /// Says so where something is not here that should be.
    fn warn_of_missing(&self) {
        let Some((_, lengths)) = self.result() else { return };
        let is_missing = |stream: &&Stream| self.given[index(**stream)] < lengths[index(**stream)];
        for stream in self.streams.iter().filter(is_missing) {
            tracing::warn!(id = %self.id, stream = stream.as_str(), "the end of an output is not in blobs/ any more");
        }
    }

    fn has_ended(&self) -> bool {
        self.view.finished_at.is_some()
    }

    fn is_running(&self) -> bool {
        self.view.state == "running"
    }

    fn grown(&self) -> Grown {
        self.attached.as_ref().map_or_else(Grown::default, |attached| *attached.grown.borrow())
    }

    /// The run that has ended, and how much it has written, where the result says so.
    fn result(&self) -> Option<(u64, [u64; 2])> {
        let lengths = [self.view.stdout_bytes, self.view.stderr_bytes];
        let started = self.view.started_at.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        // Where it is not said, it is the one that is known.
        let run = started.map_or(self.run, |at| u64::try_from(at.as_millisecond()).unwrap_or(0)).max(1);
        (self.has_ended() && lengths != [0, 0]).then_some((run, lengths))
    }

    /// A line of what is here and was not given.
    async fn here(&mut self) -> Option<OutputView> {
        let grown = self.grown();
        let (run, lengths) = match self.result() {
            Some(result) => result,
            None if grown.run > 0 => (grown.run, grown.have),
            None => return None,
        };
        if run != self.run {
            let is_again = self.given != [0, 0];
            (self.run, self.given, self.files) = (run, [0, 0], [None, None]);
            if is_again {
                return Some(OutputView { run: Some(run), again: true, ..OutputView::default() });
            }
        }
        if self.tail.is_some() {
            return None;
        }
        for stream in self.streams.clone() {
            if self.given[index(stream)] < lengths[index(stream)]
                && let Some(line) = self.piece(stream, lengths[index(stream)]).await
            {
                return Some(line);
            }
        }
        None
    }

    /// A piece of a stream, of which so many bytes are here.
    async fn piece(&mut self, stream: Stream, length: u64) -> Option<OutputView> {
        let offset = self.given[index(stream)];
        let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
        let bytes = self.read(stream, offset, PIECE_BYTES.min(left)).await?;
        let line = OutputView {
            stream: Some(stream.as_str().to_owned()),
            run: Some(self.run),
            offset: Some(offset),
            ..OutputView::default()
        };
        let is_rest = offset + bytes.len() as u64 >= length;
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => Some(text),
            // A character may have its other half in the next piece.
            Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 && !(is_rest && self.has_ended()) => {
                std::str::from_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default()).ok()
            }
            Err(_) => None,
        };
        self.given[index(stream)] += text.map_or(bytes.len(), str::len) as u64;
        Some(match text {
            Some(text) => OutputView { text: Some(text.to_owned()), ..line },
            None => OutputView { base64: Some(data_encoding::BASE64.encode(&bytes)), ..line },
        })
    }

    /// Bytes of a stream from here on; none where they can't be had at this moment.
    async fn read(&mut self, stream: Stream, offset: u64, len: usize) -> Option<Vec<u8>> {
        if let Some(mut file) = self.files[index(stream)].take()
            && let Some(bytes) = read(&mut file, offset, len).await
        {
            self.files[index(stream)] = Some(file);
            return Some(bytes);
        }
        // There is another file by now where the message has ended, or where what came did not have the hash that it must have.
        if let Some(mut file) = open(&self.api, self.id, stream, self.run).await
            && let Some(bytes) = read(&mut file, offset, len).await
        {
            self.files[index(stream)] = Some(file);
            return Some(bytes);
        }
        // Short texts stand in the result itself.
        let text = match stream {
            Stream::Stdout => self.view.stdout.as_ref(),
            Stream::Stderr => self.view.stderr.as_ref(),
        };
        let rest = text.filter(|_| self.has_ended())?.as_bytes().get(usize::try_from(offset).ok()?..)?;
        Some(rest[..rest.len().min(len)].to_vec()).filter(|bytes| !bytes.is_empty())
    }

    /// Passes over all but the last lines of what is here.
    async fn skip_to_tail(&mut self) {
        let Some(lines) = self.tail.take() else { return };
        let lengths = self.result().map_or_else(|| self.grown().have, |(_, lengths)| lengths);
        for stream in self.streams.clone() {
            let length = lengths[index(stream)];
            let from = length.saturating_sub(TAIL_BYTES_MAX);
            let mut bytes = Vec::new();
            while let Some(more) = self.read(stream, from + bytes.len() as u64, PIECE_BYTES).await {
                bytes.extend(more);
                if from + bytes.len() as u64 >= length {
                    break;
                }
            }
            self.given[index(stream)] = from + beginning_of_last(&bytes, lines) as u64;
        }
    }

    /// Waits until there may be more. None when the node stops.
    async fn change(&mut self) -> Option<()> {
        if self.is_running() && self.attached.is_none() && self.attach_at.is_none() {
            // Whoever wants to know how it is now does not wait for it to end.
            let pause = if self.stays && self.tail.is_none() { FOLLOW_AFTER } else { Duration::ZERO };
            self.attach_at = Some(self.clock.elapsed() + pause);
        }
        let (end, now) = (self.api.supervisor.token(), self.clock.elapsed());
        let is_waiting = self.tail.is_some() || !self.stays;
        let look_again = if is_waiting { CATCH_UP_LIMIT.saturating_sub(now).max(FOLLOW_AFTER) } else { LOOK_AGAIN };
        let attach_in = self.attach_at.map(|at| at.saturating_sub(now));
        tokio::select! {
            () = end.cancelled() => return None,
            // What a message waits for changes without a report about the message.
            () = tokio::time::sleep(look_again) => {}
            () = tokio::time::sleep(attach_in.unwrap_or_default()), if attach_in.is_some() => return self.attach().await,
            () = grown(&mut self.attached) => return Some(()),
            heard = heard(&mut self.reports, self.id, &self.view.to_node) => {
                if heard? == Heard::Presence
                    && let Some(attached) = &self.attached
                {
                    attached.ask_anew();
                }
            }
        }
        self.view = self.api.engine.ask(|reply| Input::Show(self.id, reply)).await.ok()?;
        Some(())
    }

    async fn attach(&mut self) -> Option<()> {
        self.attach_at = None;
        let peer = NodeName::new(&self.view.to_node).ok()?;
        self.attached = self.api.audience.attach(self.id, &peer, self.view.sealed).await;
        if self.attached.is_none() {
            tracing::debug!(id = %self.id, "too many outputs are followed already");
            self.attach_at = Some(self.clock.elapsed() + LOOK_AGAIN);
        }
        Some(())
    }
}

/// Returns when more of an output is here that is followed.
async fn grown(attached: &mut Option<Attached>) {
    match attached {
        Some(attached) => match attached.grown.changed().await {
            Ok(()) => {}
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Bytes of a file; none where there are none.
async fn read(file: &mut File, offset: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    let read = async {
        file.seek(std::io::SeekFrom::Start(offset)).await?;
        file.read(&mut bytes).await
    };
    match read.await {
        Ok(count) => {
            bytes.truncate(count);
            Some(bytes).filter(|bytes| !bytes.is_empty())
        }
        Err(error) => {
            tracing::warn!(%error, "an output can't be read");
            None
        }
    }
}

/// The file with an output: the whole one, or what is here of this run.
async fn open(api: &Shared, id: MessageId, stream: Stream, run: u64) -> Option<File> {
    if let Some(whole) = open_output(api, id, stream).await {
        return Some(whole);
    }
    let blobs = api.blobs.clone();
    let open = tokio::task::spawn_blocking(move || blobs.open_live(id, stream, run));
    open.await.ok()?.ok().map(File::from_std)
}

/// Where the last lines of a text begin.
fn beginning_of_last(text: &[u8], lines: usize) -> usize {
    let within = text.strip_suffix(b"\n").unwrap_or(text);
    if lines == 0 {
        return text.len();
    }
    let breaks = within.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    breaks.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_with_and_without_a_break_at_the_end() {
        let last = |text: &str, lines| text[beginning_of_last(text.as_bytes(), lines)..].to_owned();
        assert_eq!(last("a\nb\nc\n", 1), "c\n");
        assert_eq!(last("a\nb\nc", 2), "b\nc");
        assert_eq!(last("a\nb\n", 2), "a\nb\n");
        assert_eq!(last("a\nb\n", 9), "a\nb\n");
        assert_eq!(last("a\n\n", 1), "\n");
        assert_eq!((last("a\n", 0), last("", 3)), (String::new(), String::new()));
    }
}
