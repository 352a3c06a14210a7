//! Appends to a log file for all lanes: durable before anything is told, and exactly once across a crash.
//!
//! One writer owns the file. It takes what waits (a group), and for a whole group it does, in this order:
//! 1. notes in the journal, for each message batch, its first ticket and the length that the file has before its lines;
//!    syncs the journal;
//! 2. writes all lines at the end of the file; syncs the file;
//! 3. tells the engine how the group's messages ended, all in one [`Event::Finished`](protocol::Event::Finished).
//!
//! Why that is exact. A node that is killed runs again whatever it had started and has no final state for. One event is
//! one step and so one transaction: of a batch, all messages are final afterwards, or none, so that its first ticket
//! speaks for it. Groups are told in the order in which they were written, and the engine commits in the order in which
//! it was told; so the batches without a final state are always the *last* ones that were written, and everything from
//! the beginning of the first of them to the end of the file belongs to messages that will run again. [`recover`] cuts
//! exactly that off, before anything is written. (Lines of `NACK` messages in between go with it; nobody was promised
//! those.) A batch that was told as failed was cut off at once, and changes nothing about that.
//!
//! A cut needs certainty. If any batch behind the first that has to run again is final, then the store is not the one
//! that goes with the journal (a restored backup, say), and nothing is cut. The journal names the file by its inode, so
//! that it is found after a rotation; a file that has become shorter than it was, or is gone, is left alone. The journal
//! remembers the last [`SLOTS`](journal::SLOTS) batches, far more than can be waiting for their final states at once.

mod journal;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::event::Ticket;
use protocol::outcome::{Final, Outcome};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::runner::Ends;
use super::{Ending, MethodError};
use crate::clock;
use crate::crash_points::{self, Point};
use crate::engine::little_room;
use crate::own_file;
use journal::{Journal, Record};

/// Batches that may wait for the writer; whoever brings more waits.
const QUEUE_MAX: usize = 1024;

/// Batches that one write and one sync take.
const GROUP_MAX: usize = 256;

/// Rotated files that are kept, and among which a journalled one is looked for.
const ROTATED_MAX: usize = 4;

/// A log file of the node: `<name>.log`, with its journal `<name>.journal` beside it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Log {
    pub(super) name: &'static str,
    /// Rotated before it gets longer than so many bytes.
    pub(super) rotate_at: Option<u64>,
}

impl Log {
    fn path(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.log", self.name))
    }

    fn rotated(&self, dir: &Path, number: usize) -> PathBuf {
        dir.join(format!("{}.log.{number}", self.name))
    }

    fn journal(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.journal", self.name))
    }
}

/// Lines of one batch, with the outcomes to tell once they are on the disk.
#[derive(Debug)]
pub(super) struct Append {
    bytes: Vec<u8>,
    ends: Ends,
}

impl Append {
    pub(super) fn new(bytes: Vec<u8>, ends: Ends) -> Self {
        Self { bytes, ends }
    }
}

#[derive(Debug)]
struct Waiting {
    append: Append,
    told: oneshot::Sender<Ending>,
}

/// The way to a log's writer, for everybody.
#[derive(Debug, Clone)]
pub(super) struct Appender {
    queue: mpsc::Sender<Waiting>,
}

impl Appender {
    /// Appends, and tells how the batch ended. Returns what was told; an error if nothing was.
    pub(super) async fn append(&self, append: Append) -> Result<Ending, MethodError> {
        let (told, answer) = oneshot::channel();
        let gone = |_| MethodError("the log's writer has stopped".to_owned());
        self.queue.send(Waiting { append, told }).await.map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))
    }
}

/// The writer of one log.
#[derive(Debug)]
pub(super) struct Writer {
    dir: PathBuf,
    log: &'static Log,
    queue: Mutex<mpsc::Receiver<Waiting>>,
    ends: mpsc::Sender<Ends>,
}

impl Writer {
    pub(super) fn new(dir: &Path, log: &'static Log, ends: mpsc::Sender<Ends>) -> (Appender, Arc<Self>) {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let writer = Self { dir: dir.to_owned(), log, queue: Mutex::new(waiting), ends };
        (Appender { queue }, Arc::new(writer))
    }

    /// Writes until `end`.
    pub(super) async fn serve(self: Arc<Self>, end: CancellationToken) -> anyhow::Result<()> {
        let mut queue = self.queue.lock().await;
        let mut files = None;
        loop {
            let mut group = Vec::new();
            tokio::select! {
                biased;
                _ = queue.recv_many(&mut group, GROUP_MAX) => {}
                () = end.cancelled() => return Ok(()),
            }
            if group.is_empty() {
                return Ok(());
            }
            let (appends, told): (Vec<_>, Vec<_>) =
                group.into_iter().map(|waiting| (waiting.append, waiting.told)).unzip();
            let (dir, log) = (self.dir.clone(), self.log);
            // The files go with the thread that writes, and come back only if all is well with them.
            let write = move || write_group(&dir, log, files, appends);
            let (kept, appends, result) = tokio::task::spawn_blocking(write).await?;
            files = kept;
            self.tell(appends, told, result).await;
        }
    }

    async fn tell(&self, appends: Vec<Append>, told: Vec<oneshot::Sender<Ending>>, result: io::Result<()>) {
        let ending = match result {
            Ok(()) => Ending::DONE,
            Err(error) => {
                let path = self.log.path(&self.dir);
                Ending::because(Final::Failed, format!("{} can't be written: {error}", path.display()))
            }
        };
        let finished = clock::wall();
        let mut ends: Ends = Vec::new();
        for (ticket, outcome) in appends.into_iter().flat_map(|append| append.ends) {
            let (state, reason) = (ending.state, ending.reason.clone());
            ends.push((ticket, Outcome { state, reason, finished, ..outcome }));
        }
        if !ends.is_empty() && self.ends.send(ends).await.is_err() {
            tracing::debug!("the node has stopped; ends of appended messages are not told");
        }
        for told in told {
            // Whoever asked may have been dropped since; the ends are told all the same.
            told.send(ending.clone()).ok();
        }
    }
}

/// The open files of a log.
#[derive(Debug)]
struct Files {
    file: File,
    inode: u64,
    len: u64,
    journal: Journal,
}

type Written = (Option<Files>, Vec<Append>, io::Result<()>);

fn write_group(dir: &Path, log: &Log, files: Option<Files>, appends: Vec<Append>) -> Written {
    if let Some(why) = little_room(dir) {
        return (files, appends, Err(io::Error::new(io::ErrorKind::StorageFull, why)));
    }
    let bytes: u64 = appends.iter().map(|append| append.bytes.len() as u64).sum();
    let mut files = match ready(dir, log, files, bytes) {
        Ok(files) => files,
        Err(error) => return (None, appends, Err(error)),
    };
    match files.append(&appends) {
        Ok(()) => {
            files.len += bytes;
            (Some(files), appends, Ok(()))
        }
        // Whatever was written of it goes; the files are opened anew for the next group, which looks at what is there.
        Err(error) => {
            let cut = files.file.set_len(files.len).and_then(|()| files.file.sync_data());
            let error = match cut {
                Ok(()) => error,
                Err(cut) => io::Error::other(format!("{error}; and what was written of it can't be cut off: {cut}")),
            };
            (None, appends, Err(error))
        }
    }
}

impl Files {
    fn append(&mut self, appends: &[Append]) -> io::Result<()> {
        let mut at = self.len;
        let mut all = Vec::with_capacity(appends.iter().map(|append| append.bytes.len()).sum());
        let mut records = Vec::new();
        for append in appends {
            if let Some((ticket, _)) = append.ends.first() {
                records.push(Record { ticket: *ticket, inode: self.inode, len: at });
            }
            all.extend_from_slice(&append.bytes);
            at += append.bytes.len() as u64;
        }
        self.journal.note(&records)?;
        crash_points::reach(Point::BeforeAppend);
        self.file.write_all(&all)?;
        crash_points::sync();
        self.file.sync_data()?;
        crash_points::reach(Point::AfterAppend);
        Ok(())
    }
}

/// The files, open and at their ends, with room for `bytes` more before the next rotation.
fn ready(dir: &Path, log: &Log, files: Option<Files>, bytes: u64) -> io::Result<Files> {
    let path = log.path(dir);
    let fits = |len: u64| log.rotate_at.is_none_or(|limit| len == 0 || len + bytes <= limit);
    let journal = match files {
        Some(mut files) => {
            // Somebody may have moved it away or emptied it since.
            if let Some(meta) = std::fs::metadata(&path).ok().filter(|meta| meta.ino() == files.inode) {
                files.len = meta.len();
                if fits(files.len) {
                    return Ok(files);
                }
            }
            files.journal
        }
        None => Journal::open(&log.journal(dir))?,
    };
    let mut file = open(&path)?;
    if !fits(file.metadata()?.len()) {
        rotate(dir, log)?;
        file = open(&path)?;
    }
    File::open(dir)?.sync_all()?;
    let meta = file.metadata()?;
    Ok(Files { file, inode: meta.ino(), len: meta.len(), journal })
}

fn open(path: &Path) -> io::Result<File> {
    own_file::open(path, OpenOptions::new().create(true).append(true).mode(0o600))
}

fn rotate(dir: &Path, log: &Log) -> io::Result<()> {
    for number in (1..ROTATED_MAX).rev() {
        match std::fs::rename(log.rotated(dir, number), log.rotated(dir, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(log.path(dir), log.rotated(dir, 1))
}

/// Cuts off what messages have written that will run again; see the module's text. Called once, before anything is
/// written, with the tickets that the store has as running. Returns how many bytes were cut off.
pub(super) fn recover(dir: &Path, log: &Log, running: &BTreeSet<Ticket>) -> io::Result<u64> {
    let path = log.journal(dir);
    if !path.try_exists()? {
        return Ok(0);
    }
    let mut journal = Journal::open(&path)?;
    let records = journal.records()?;
    let mut cut = 0;
    if let Some(first) = records.iter().position(|record| running.contains(&record.ticket)) {
        let certain = records[first..].iter().all(|record| running.contains(&record.ticket));
        if certain {
            cut = cut_off(dir, log, &records[first])?;
        } else {
            tracing::warn!(
                log = log.name,
                "the store does not go with the log's journal (is it a restored backup?); \
                the log is left as it is, and lines of messages that run again may be in it twice"
            );
        }
    }
    journal.forget()?;
    Ok(cut)
}

fn cut_off(dir: &Path, log: &Log, record: &Record) -> io::Result<u64> {
    // From the file that is written now to older ones: what is younger than the cut was written after it.
    let paths = std::iter::once(log.path(dir)).chain((1..=ROTATED_MAX).map(|number| log.rotated(dir, number)));
    let mut younger = Vec::new();
    for path in paths {
        let meta = match std::fs::metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if meta.ino() != record.inode {
            younger.push((path, 0, meta.len()));
            continue;
        }
        if meta.len() < record.len {
            return Ok(0);
        }
        let mut cut = 0;
        for (path, keep, len) in younger.into_iter().chain([(path, record.len, meta.len())]) {
            let file = own_file::open(&path, OpenOptions::new().write(true))?;
            file.set_len(keep)?;
            file.sync_all()?;
            cut += len - keep;
        }
        return Ok(cut);
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
