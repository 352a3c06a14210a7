//! The spool for all tasks that use it: opened when the first one needs it, used by one at a time, on threads that may block;
//! and the task that writes what comes and makes it durable.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::framing::Framed;
use super::line::{self, Line, Via};
use super::spool::{Overflow, Spool};
use super::tally::Tally;
use crate::clock::{self, Clock};
use crate::store::{CursorName, Reader};
use crate::troubles::TOLD;

/// The name of the forwarder's cursor.
pub(super) const CURSOR: CursorName = CursorName::Task("syslog");

/// How long lines may wait until they are synced: so much a power cut may take of what nobody was told of.
pub(super) const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Lines that may wait to be written; whoever brings more waits.
const QUEUE_MAX: usize = 1024;

/// Bytes of lines that may wait to be written; whoever brings more waits.
const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Lines that are taken from the queue at once.
const GROUP_MAX: usize = 512;

/// Bytes of a block; a line always fits.
const BLOCK_BYTES: usize = 256 * 1024;

/// How often it is told that lines are dropped, as long as they are.
const TELL_EVERY: Duration = Duration::from_secs(3600);

/// The spool. Clones are the same one.
#[derive(Clone)]
pub(super) struct Shelf(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    bytes_max: u64,
    overflow: Overflow,
    reader: Arc<Reader>,
    tally: Tally,
    clock: Clock,
    spool: StdMutex<Option<Spool>>,
    /// There is something to be synced.
    dirty: Notify,
    /// There is something to be read.
    news: Notify,
    told: StdMutex<Option<Duration>>,
}

impl Shelf {
    /// The spool of the node in `dir`.
    pub(super) fn new(
        dir: PathBuf,
        (bytes_max, overflow): (u64, Overflow),
        reader: Arc<Reader>,
        tally: Tally,
        clock: Clock,
    ) -> Self {
        let (spool, dirty, news, told) = (StdMutex::default(), Notify::new(), Notify::new(), StdMutex::default());
        Self(Arc::new(Shared { dir, bytes_max, overflow, reader, tally, clock, spool, dirty, news, told }))
    }

    /// Does something with it.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Spool) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let shared = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || shared.with(work)).await.map_err(io::Error::other).flatten()
    }

    /// Returns when there may be more to read.
    pub(super) async fn news(&self) {
        self.0.news.notified().await;
    }

    /// Writes lines of the journal, with the cursor behind the last of them, if that costs no others. Says whether it did.
    pub(super) async fn take_if_room(&self, lines: Vec<Line>, journal: String) -> io::Result<bool> {
        let taken = self.with(move |spool| {
            if spool.is_full() {
                return Ok(false);
            }
            spool.append(&lines, Some(journal)).1.map(|()| true)
        });
        let taken = taken.await?;
        self.0.dirty.notify_one();
        Ok(taken)
    }

    async fn take(&self, lines: Vec<Line>) -> io::Result<()> {
        let (shared, many) = (Arc::clone(&self.0), lines.len());
        let written = self.with(move |spool| {
            let (mut rest, mut dropped, mut trouble) = (lines.as_slice(), 0, None);
            while !rest.is_empty() {
                let (block, behind) = rest.split_at(block_len(rest));
                let (gone, written) = spool.append(block, None);
                dropped += gone;
                trouble = written.err().or(trouble);
                rest = behind;
            }
            Ok((dropped, trouble))
        });
        let (dropped, trouble) = written.await?;
        if dropped > 0 {
            shared.tally.dropped(dropped);
            shared.tell(trouble.as_ref());
        }
        tracing::trace!(lines = many, dropped, "lines of syslog are in the spool");
        shared.dirty.notify_one();
        Ok(())
    }
}

/// How many of these lines go into one block.
fn block_len(lines: &[Line]) -> usize {
    let mut bytes = 0;
    let fits = |line: &&Line| {
        bytes += line.bytes.len();
        bytes <= BLOCK_BYTES
    };
    lines.iter().take_while(fits).count().max(1)
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Spool) -> io::Result<T>) -> io::Result<T> {
        // What is kept of files is whole between any two calls; a panic ends the call that it happens in.
        let mut open = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let spool = match &mut *open {
            Some(spool) => spool,
            none => none.insert(self.open()?),
        };
        let done = work(spool);
        self.tally.spool(spool.waiting(), spool.bytes());
        done
    }

    fn open(&self) -> io::Result<Spool> {
        let cursor = self.reader.cursor(&CURSOR).map_err(io::Error::other)?;
        let floor = cursor.and_then(|text| super::forwarder::next(&text)).unwrap_or(0);
        Spool::open(&self.dir, self.bytes_max, self.overflow, floor)
    }

    /// Says that lines are dropped, once in a while.
    fn tell(&self, trouble: Option<&io::Error>) {
        let now = self.clock.elapsed();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|at| now < at + TELL_EVERY) {
            return;
        }
        *told = Some(now);
        match trouble {
            Some(error) => {
                tracing::warn!(target: TOLD, %error, "lines of syslog can't be kept and are dropped; they are counted")
            }
            None => {
                let what = match self.overflow {
                    Overflow::Oldest => "the oldest",
                    Overflow::Newest => "the newest",
                };
                tracing::warn!(
                    target: TOLD, spool_bytes = self.bytes_max, dropped = what,
                    "the spool of syslog is full, so lines are dropped and counted; look why they can't be sent (steward ps), or \
                     give them more room (--syslog-spool)"
                );
            }
        }
    }
}

/// A line that came.
struct Received {
    kind: &'static str,
    line: Line,
    room: OwnedSemaphorePermit,
}

/// The way to the spool for whoever reads lines. Clones are the same.
#[derive(Clone)]
pub(super) struct Inlet {
    queue: mpsc::Sender<Received>,
    room: Arc<Semaphore>,
    /// What this machine is called.
    host: Arc<str>,
    tally: Tally,
}

impl Inlet {
    /// Takes a line; waits while too much waits already.
    pub(super) async fn take(
        &self,
        kind: &'static str,
        framed: Framed,
        via: Via,
        from: Option<IpAddr>,
    ) -> io::Result<()> {
        let Framed { bytes, cut } = framed;
        self.tally.cut(u64::from(cut));
        let remote = || from.filter(|from| !from.is_loopback()).map(|from| from.to_string());
        let host = line::host(&bytes, via).or_else(remote).unwrap_or_else(|| self.host.to_string());
        let weight = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(weight).await.map_err(io::Error::other)?;
        let line = Line { at: clock::wall(), host, bytes };
        self.queue.send(Received { kind, line, room }).await.map_err(|_| io::Error::other("the spool is closed"))
    }

    /// What this machine is called.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Counts lines that come another way.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// The task that writes what comes, and syncs it.
pub(super) struct Writer {
    shelf: Shelf,
    queue: Mutex<mpsc::Receiver<Received>>,
    tally: Tally,
}

impl Writer {
    /// With the way to it, on a machine of this name.
    pub(super) fn new(shelf: Shelf, host: &str, tally: Tally) -> (Inlet, Arc<Self>) {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
        let host = line::safe(host).unwrap_or_else(|| "localhost".to_owned()).into();
        (Inlet { queue, room, host, tally: tally.clone() }, Arc::new(Self { shelf, queue: Mutex::new(waiting), tally }))
    }

    /// Writes until `end`, and what is here then. Never gives up: programs wait for whoever listens to their lines.
    pub(super) async fn run(self: Arc<Self>, end: CancellationToken) -> anyhow::Result<()> {
        let mut queue = self.queue.lock().await;
        tokio::select! {
            () = self.write(&mut queue) => {}
            () = self.sync() => {}
            () = end.cancelled() => {}
        }
        let mut rest = Vec::new();
        while let Ok(received) = queue.try_recv() {
            rest.push(received);
        }
        self.take(rest).await;
        Ok(self.shelf.with(Spool::sync).await?)
    }

    async fn write(&self, queue: &mut mpsc::Receiver<Received>) {
        loop {
            let mut group = Vec::new();
            if queue.recv_many(&mut group, GROUP_MAX).await == 0 {
                return;
            }
            self.take(group).await;
        }
    }

    /// Writes a group; its room is free then.
    async fn take(&self, group: Vec<Received>) {
        let (mut lines, mut kinds, mut rooms) = (Vec::new(), Vec::new(), Vec::new());
        for Received { kind, line, room } in group {
            lines.push(line);
            kinds.push(kind);
            rooms.push(room);
        }
        if let Err(error) = self.shelf.take(lines).await {
            // There is no spool to count them in.
            self.tally.dropped(kinds.len() as u64);
            self.shelf.0.tell(Some(&error));
        }
        for kind in kinds {
            self.tally.received(kind, 1);
        }
        drop(rooms);
    }

    async fn sync(&self) {
        loop {
            self.shelf.0.dirty.notified().await;
            tokio::time::sleep(SYNC_EVERY).await;
            match self.shelf.with(Spool::sync).await {
                Ok(()) => self.shelf.0.news.notify_one(),
                Err(error) => {
                    self.shelf.0.tell(Some(&error));
                    self.shelf.0.dirty.notify_one();
                }
            }
        }
    }
}
