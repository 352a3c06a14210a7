//! Keeps what a command writes: streamed, hashed as it comes, in memory while it is short and in a file from then on,
//! up to a limit for both streams together. What is beyond the limit is read and dropped, and marked: a command never
//! blocks on a full pipe, and never fills the memory or the disk.
//!
//! The file is in place, whole and synced, before the end of the message is told. It never sends anything: others fetch
//! from the file, and those who follow a command that runs ask for what is not there yet.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use protocol::event::Ticket;
use protocol::outcome::{Output, Stream};
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::live::{Ask, Kept, Live, View};
use crate::blobs::{Blobs, Writing};

/// Output of up to so many bytes, both streams together, travels in the receipt if it is text.
pub(super) const INLINE_BYTES_MAX: usize = 4096;

/// So many bytes of a stream are collected before they go to its file in one write.
const WRITE_BYTES: usize = 128 * 1024;

/// Bytes that are read at once; what a pipe holds by default.
const READ_BYTES: usize = 64 * 1024;

/// What is read at most once the command has ended and nobody of its group can write any more: what pipes hold.
const REST_BYTES_MAX: usize = 1024 * 1024;

/// What a run has written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Captured {
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    /// Why less was kept than there was room for, in words.
    pub(super) trouble: Option<Arc<str>>,
    /// The bytes themselves, where they are kept in memory.
    pub(super) written: [Vec<u8>; 2],
}

/// Where the output of one run goes, and how much of it.
#[derive(Debug)]
pub(super) struct Place {
    blobs: Blobs,
    /// None where nobody wants it; then it is read and dropped.
    ticket: Option<Ticket>,
    left: AtomicU64,
    in_memory: bool,
}

impl Place {
    pub(super) fn new(blobs: &Blobs, ticket: Option<Ticket>, max_output: u64) -> Self {
        Self { blobs: blobs.clone(), ticket, left: AtomicU64::new(max_output), in_memory: false }
    }

    /// One that keeps all of it in memory, so many bytes.
    pub(super) fn in_memory(blobs: &Blobs, max_output: u64) -> Self {
        Self { in_memory: true, ..Self::new(blobs, None, max_output) }
    }

    /// Takes up to `wanted` bytes of what may still be kept.
    fn take(&self, wanted: usize) -> usize {
        let wanted = wanted as u64;
        let before =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(wanted)));
        usize::try_from(before.unwrap_or_else(|left| left).min(wanted)).unwrap_or(0)
    }

    /// Keeps a text as the standard output.
    pub(super) async fn keep(&self, text: &str) -> Captured {
        let mut sink = Sink::new(self, Stream::Stdout);
        let kept = self.take(text.len());
        sink.memory.extend_from_slice(text.as_bytes().get(..kept).unwrap_or_default());
        sink.truncated = kept < text.len();
        let written = [sink.take_memory(), Vec::new()];
        let (stdout, trouble) = sink.finish(&mut INLINE_BYTES_MAX.clone()).await;
        Captured { stdout, trouble: trouble.map(Arc::from), written, ..Captured::default() }
    }

    /// Reads both streams until they end, or until `finish` and nothing is left in the pipes.
    pub(super) async fn capture(
        &self,
        stdout: Option<impl Into<OwnedFd>>,
        stderr: Option<impl Into<OwnedFd>>,
        finish: &CancellationToken,
        live: Option<Live>,
    ) -> Captured {
        let (stdout, stderr) = (stdout.map(Into::into), stderr.map(Into::into));
        let (views, place) = match live {
            Some(Live { views: [out, err], place }) => ([Some(out), Some(err)], Some(place)),
            None => ([None, None], None),
        };
        let ([out_view, err_view], both) = (views, Both::default());
        let (mut stdout, mut stderr) = tokio::join!(
            self.read(Stream::Stdout, stdout, finish, out_view, &both),
            self.read(Stream::Stderr, stderr, finish, err_view, &both)
        );
        // From here on the end of the message is what tells of it.
        drop(place);
        let written = [stdout.take_memory(), stderr.take_memory()];
        let mut inline_left = INLINE_BYTES_MAX;
        let (stdout, trouble) = stdout.finish(&mut inline_left).await;
        let (stderr, other) = stderr.finish(&mut inline_left).await;
        Captured { stdout, stderr, trouble: trouble.or(other).map(Arc::from), written }
    }

    async fn read(
        &self,
        stream: Stream,
        pipe: Option<OwnedFd>,
        finish: &CancellationToken,
        mut view: Option<View>,
        both: &Both,
    ) -> Sink {
        let mut sink = Sink::new(self, stream);
        if let Some(pipe) = pipe
            && let Err(error) = self.pump(pipe, &mut sink, finish, &mut view).await
        {
            sink.broken(format!("{} could not be read: {error}", stream.as_str()));
        }
        both.one_ended();
        // The other stream may go on for long, and this one is asked for meanwhile.
        loop {
            tokio::select! {
                biased;
                () = both.ended.cancelled() => return sink,
                ask = asked(&mut view) => sink.answer(ask),
            }
        }
    }

    async fn pump(
        &self,
        pipe: OwnedFd,
        sink: &mut Sink,
        finish: &CancellationToken,
        view: &mut Option<View>,
    ) -> io::Result<()> {
        let pipe = pipe::Receiver::from_owned_fd(pipe)?;
        loop {
            tokio::select! {
                biased;
                () = finish.cancelled() => break,
                ask = asked(view) => {
                    sink.answer(ask);
                    continue;
                }
                ready = pipe.readable() => ready?,
            }
            if self.read_once(&pipe, sink).await? == Some(0) {
                return Ok(());
            }
            if let Some(view) = view {
                view.has(sink.len());
            }
        }
        let mut rest = 0;
        while rest < REST_BYTES_MAX {
            match self.read_once(&pipe, sink).await? {
                None | Some(0) => break,
                Some(bytes) => rest += bytes,
            }
        }
        Ok(())
    }

    /// Reads what is there: its length, 0 at the end, none if there is nothing now.
    async fn read_once(&self, pipe: &pipe::Receiver, sink: &mut Sink) -> io::Result<Option<usize>> {
        let before = sink.memory.len();
        // A short answer needs little memory, and hundreds of commands may run.
        sink.memory.reserve(if before == 0 && sink.file.is_none() { INLINE_BYTES_MAX } else { READ_BYTES });
        let bytes = match pipe.try_read_buf(&mut sink.memory) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let kept = if sink.is_open() { self.take(bytes) } else { 0 };
        sink.memory.truncate(before + kept);
        sink.truncated |= kept < bytes;
        if sink.memory.len() >= sink.room() {
            sink.spill().await;
        }
        Ok(Some(bytes))
    }
}

/// The next question to a stream that is followed; none ever for one that can't be.
async fn asked(view: &mut Option<View>) -> Ask {
    match view {
        Some(view) => match view.asked().await {
            Some(ask) => ask,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Whether both streams of a run are at their end.
#[derive(Debug, Default)]
struct Both {
    /// How many are.
    at_end: AtomicUsize,
    ended: CancellationToken,
}

impl Both {
    fn one_ended(&self) {
        if self.at_end.fetch_add(1, Ordering::Relaxed) == 1 {
            self.ended.cancel();
        }
    }
}

/// What was kept of one stream so far.
#[derive(Debug)]
struct Sink {
    blobs: Blobs,
    ticket: Option<Ticket>,
    stream: Stream,
    in_memory: bool,
    memory: Vec<u8>,
    /// What no longer fits into memory.
    file: Option<Box<Writing>>,
    truncated: bool,
    trouble: Option<String>,
}

impl Sink {
    fn new(place: &Place, stream: Stream) -> Self {
        let (blobs, ticket, in_memory) = (place.blobs.clone(), place.ticket, place.in_memory);
        Self { blobs, ticket, stream, in_memory, memory: Vec::new(), file: None, truncated: false, trouble: None }
    }

    /// Bytes that are kept.
    fn len(&self) -> u64 {
        self.filed() + self.memory.len() as u64
    }

    /// Those of them that are in the file.
    fn filed(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.len())
    }

    /// Tells where a piece is. Whoever does not wait for the answer any more misses nothing.
    fn answer(&self, Ask { from, len, reply }: Ask) {
        let filed = self.filed();
        let kept = match from.checked_sub(filed).and_then(|from| usize::try_from(from).ok()) {
            None => Kept::InFile(filed),
            Some(from) => {
                let rest = self.memory.get(from..).unwrap_or_default();
                Kept::Here(Bytes::copy_from_slice(&rest[..rest.len().min(len)]))
            }
        };
        drop(reply.send(kept));
    }

    fn is_open(&self) -> bool {
        (self.ticket.is_some() || self.in_memory) && self.trouble.is_none()
    }

    /// How much may be collected before it has to go to the file.
    fn room(&self) -> usize {
        if self.in_memory {
            return usize::MAX;
        }
        if self.file.is_some() { WRITE_BYTES } else { INLINE_BYTES_MAX + 1 }
    }

    fn broken(&mut self, why: String) {
        self.truncated = true;
        self.trouble.get_or_insert(why);
    }

    /// Moves what was collected to the file.
    async fn spill(&mut self) {
        let (Some(ticket), stream, blobs) = (self.ticket, self.stream, self.blobs.clone()) else { return };
        let (file, mut bytes) = (self.file.take(), std::mem::take(&mut self.memory));
        let write = move || {
            let (file, result) = match file.map_or_else(|| blobs.write(ticket, stream).map(Box::new), Ok) {
                Ok(mut file) => {
                    let result = file.append(&bytes);
                    (Some(file), result)
                }
                Err(error) => (None, Err(error)),
            };
            bytes.clear();
            (file, bytes, result)
        };
        match tokio::task::spawn_blocking(write).await {
            Ok((file, memory, result)) => {
                (self.file, self.memory) = (file, memory);
                if let Err(error) = result {
                    self.broken(format!("the rest of the output was dropped, it can't be stored: {error}"));
                }
            }
            Err(error) => self.broken(format!("the output was lost: {error}")),
        }
    }

    /// What was kept in memory, where it stays there; nothing of it is to be told then but how long it is.
    fn take_memory(&mut self) -> Vec<u8> {
        if self.in_memory { std::mem::take(&mut self.memory) } else { Vec::new() }
    }

    /// What is to be told of the stream. It is in place and on the disk then.
    async fn finish(mut self, inline_left: &mut usize) -> (Output, Option<String>) {
        if self.file.is_none()
            && self.memory.len() <= *inline_left
            && let Ok(text) = std::str::from_utf8(&self.memory)
        {
            *inline_left -= text.len();
            return (Output { truncated: self.truncated, ..self::text(text) }, self.trouble);
        }
        if !self.memory.is_empty() {
            self.spill().await;
        }
        let Some(file) = self.file.take() else {
            return (Output { truncated: self.truncated, ..Output::default() }, self.trouble);
        };
        let in_place = tokio::task::spawn_blocking(move || file.finish()).await;
        match in_place.map_err(io::Error::other).flatten() {
            // Not even its first bytes could be written.
            Ok((0, _)) => (Output { truncated: self.truncated, ..Output::default() }, self.trouble),
            Ok((len, hash)) => (Output { len, hash, truncated: self.truncated, inline: None }, self.trouble),
            Err(error) => {
                self.broken(format!("the output was lost, it can't be stored: {error}"));
                (Output { truncated: true, ..Output::default() }, self.trouble)
            }
        }
    }
}

/// A short text as an output that needs no file.
pub(super) fn text(text: &str) -> Output {
    if text.is_empty() {
        return Output::default();
    }
    let hash = *blake3::hash(text.as_bytes()).as_bytes();
    Output { len: text.len() as u64, hash, truncated: false, inline: Some(Arc::from(text)) }
}
