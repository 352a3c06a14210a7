//! `inmsg.txt` (R27): people and scripts append messages, the node takes them in.
//!
//! ```text
//! inmsg.txt ──exchanged with an empty file──▶ inmsg.taken-<id> ──read──▶ engine (durable) ──▶ removed
//!                                                                   └──▶ rejected/ (line, column, reason)
//! ```
//! * The exchange is one step, so an append at any moment goes to the one file or to the other. A writer that opened the
//!   file before it goes on writing to the taken file, which is read until nobody has it open.
//! * What stands in the file is durable before the exchange, and so is the file's name: whoever wrote it sees from then
//!   on that it is gone, and so accepted. Hardly anybody who appends to a file, or puts one there, waits for the disk.
//! * The exchange is durable before anything is read, and the file is there until everything in it is durable: a crash
//!   at any moment loses nothing, and doubles nothing (see [`taken`](super::taken)).
//! * A file that ends in the middle of an array stays where it is for a while, so that its end can be appended.
//!
//! It never follows a link, and never takes what is no regular file.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher as _};
use protocol::time::Mono;
use rustix::fs::{CWD, RenameFlags};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Intake;
use super::ids::FileId;
use super::split::Splitter;
use super::taken::{self, Progress, TakenError, TakenFile};
use crate::clock::Clock;
use crate::crash_points::{Point, reach};
use crate::own_file;

/// The file's name in the node's directory.
const NAME: &str = "inmsg.txt";

/// Taken files that other processes keep open; with so many of them no more are taken.
const HELD_MAX: usize = 16;

/// A file of more bytes is taken without looking whether it is complete.
const LOOK_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Between two files that are taken, so that whoever appends all the time makes few files and not thousands.
const TAKE_PAUSE: Duration = Duration::from_millis(200);

/// How long what waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// The file is looked at so often, whatever the file system tells.
    pub(crate) scan: Duration,
    /// An array that is not complete waits so long for more.
    pub(crate) array: Duration,
    /// A file that is never complete is taken after this time.
    pub(crate) take: Duration,
    /// Between two looks at who has a taken file open.
    pub(crate) settle: Duration,
    /// A taken file is kept so long, where it can't be seen who has it open.
    pub(crate) hidden: Duration,
    /// A taken file that is kept open is erased in place after this time.
    pub(crate) erase: Duration,
}

impl Timing {
    /// What holds for every node.
    pub(crate) const NODE: Self = Self {
        scan: Duration::from_secs(2),
        array: Duration::from_secs(10),
        take: Duration::from_secs(60),
        settle: Duration::from_secs(1),
        hidden: Duration::from_secs(30),
        erase: Duration::from_secs(60),
    };
}

/// The file and what was taken of it.
#[derive(Debug)]
pub(crate) struct Inmsg {
    dir: PathBuf,
    path: PathBuf,
    intake: Intake,
    timing: Timing,
    taken: Vec<TakenFile>,
    look: Option<Look>,
    last_take: Option<Mono>,
    /// What was last wrong, so that it is said once.
    trouble: Option<String>,
}

/// What was seen of a file that is not taken yet.
#[derive(Debug)]
struct Look {
    inode: u64,
    splitter: Splitter,
    first: Mono,
    grown: Mono,
}

impl Inmsg {
    /// For the node's directory; takes up what a process before this one has left, and makes the file if it isn't there.
    pub(crate) async fn open(dir: &Path, intake: Intake, timing: Timing, now: Mono) -> io::Result<Self> {
        let mut ids: Vec<FileId> = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_prefix(taken::PREFIX)) else {
                continue;
            };
            match id.parse() {
                Ok(id) => ids.push(id),
                Err(_) => tracing::warn!(file = ?name, "is not one of ours and is left alone"),
            }
        }
        ids.sort();
        let mut taken = Vec::with_capacity(ids.len());
        for id in ids {
            match TakenFile::open(dir, id, now).await {
                Ok(file) => taken.push(file),
                Err(error) if own_file::is_foreign(&error) => tracing::error!(%error, "nothing is read there"),
                Err(error) => return Err(error),
            }
        }
        let path = dir.join(NAME);
        make(&path, 0o600)?;
        Ok(Self { dir: dir.to_owned(), path, intake, timing, taken, look: None, last_take: None, trouble: None })
    }

    /// Takes messages in until the token ends it.
    pub(crate) async fn run(mut self, clock: Clock, end: CancellationToken) -> anyhow::Result<()> {
        let (hint, mut hints) = mpsc::channel(1);
        let mut watch = Watch::new(hint);
        loop {
            watch.follow(&self.path);
            let busy = tokio::select! {
                () = end.cancelled() => return Ok(()),
                busy = self.tick(clock.now().mono) => busy,
            };
            let pause = match busy {
                true => Duration::ZERO,
                false if self.pauses(clock.now().mono) => TAKE_PAUSE,
                false if self.taken.is_empty() => self.timing.scan,
                false => self.timing.scan.min(self.timing.settle),
            };
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                _ = hints.recv() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Does what there is to do; says whether there is more to do at once. Trouble is logged when it changes.
    pub(crate) async fn tick(&mut self, now: Mono) -> bool {
        let mut busy = false;
        let mut trouble = None;
        match self.take_if_complete(now).await {
            Ok(took) => busy |= took,
            Err(error) => trouble = Some(format!("{}: {error}", self.path.display())),
        }
        let mut index = 0;
        while let Some(file) = self.taken.get_mut(index) {
            match file.go_on(&self.intake, &self.timing, now).await {
                Ok(Progress::Done) => {
                    drop(self.taken.remove(index));
                    continue;
                }
                Ok(Progress::More) => busy = true,
                Ok(Progress::Waits) => {}
                Err(error) => {
                    trouble = Some(format!("{error}; the messages are kept, and tried again"));
                    // If the engine takes none of these, it takes none of the later ones either.
                    if matches!(error, TakenError::Intake(_)) {
                        break;
                    }
                }
            }
            index += 1;
        }
        let quiet = trouble.is_none();
        if trouble != self.trouble {
            match &trouble {
                Some(trouble) => tracing::error!(%trouble, "inmsg.txt can't be taken in"),
                None => tracing::info!("inmsg.txt is taken in again"),
            }
            self.trouble = trouble;
        }
        busy && quiet
    }

    /// Renames the file aside if it has something in it that is complete, or has waited long enough.
    async fn take_if_complete(&mut self, now: Mono) -> io::Result<bool> {
        let meta = match fs::symlink_metadata(&self.path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&self.path, 0o600)?;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        if !meta.is_file() {
            return Err(io::Error::other("is no regular file; put one there, or remove it"));
        }
        if meta.len() == 0 {
            self.look = None;
            return Ok(false);
        }
        if self.pauses(now) || (meta.len() <= LOOK_BYTES_MAX && !self.is_complete(now)?) {
            return Ok(false);
        }
        let holders: Vec<u32> = self.taken.iter().filter_map(TakenFile::holder).collect();
        if holders.len() >= HELD_MAX {
            return Err(io::Error::other(format!("too many processes keep it open for writing: {holders:?}")));
        }
        (self.look, self.last_take) = (None, Some(now));
        let id = FileId::next();
        let (dir, path) = (self.dir.clone(), self.path.clone());
        taken::blocking(move || exchange(&dir, &path, &dir.join(TakenFile::name(id)), &meta)).await??;
        reach(Point::InputTaken);
        self.taken.push(TakenFile::open(&self.dir, id, now).await?);
        Ok(true)
    }

    /// Whether the last file was taken a moment ago.
    fn pauses(&self, now: Mono) -> bool {
        self.last_take.is_some_and(|last| now.since(last) < TAKE_PAUSE)
    }

    fn is_complete(&mut self, now: Mono) -> io::Result<bool> {
        let mut file = own_file::read(&self.path)?;
        let meta = file.metadata()?;
        let same = |look: &Look| look.inode == meta.ino() && look.splitter.offset() <= meta.len();
        let mut look = self.look.take().filter(same).unwrap_or_else(|| Look {
            inode: meta.ino(),
            splitter: Splitter::looking(),
            first: now,
            grown: now,
        });
        file.seek(SeekFrom::Start(look.splitter.offset()))?;
        let mut block = vec![0; 64 * 1024];
        loop {
            let count = file.read(&mut block)?;
            if count == 0 {
                break;
            }
            look.grown = now;
            look.splitter.push(&block[..count], &mut Vec::new());
        }
        let complete = !look.splitter.is_incomplete()
            || now.since(look.grown) >= self.timing.array
            || now.since(look.first) >= self.timing.take;
        self.look = Some(look);
        Ok(complete)
    }
}

/// Puts an empty file with the same rights in the place of `path`, which becomes `aside`, in one durable step. Blocks.
fn exchange(dir: &Path, path: &Path, aside: &Path, meta: &fs::Metadata) -> io::Result<()> {
    let empty = OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside)?;
    keep_rights(&empty, meta);
    drop(empty);
    own_file::read(path)?.sync_data()?;
    File::open(dir)?.sync_all()?;
    match rustix::fs::renameat_with(CWD, aside, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        // Some file systems can't exchange. Whoever appends in between makes the new file himself.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::rename(path, aside)?;
            if make(path, 0o600)? {
                keep_rights(&own_file::read(path)?, meta);
            }
        }
        Err(error) => {
            fs::remove_file(aside)?;
            return Err(error.into());
        }
    }
    // What was appended in between. As a rule there is nothing, and that costs next to nothing.
    own_file::read(aside)?.sync_data()?;
    File::open(dir)?.sync_all()
}

/// The owner can only be kept by root; whoever may append now, has to be able to do so afterwards, as far as possible.
fn keep_rights(file: &File, meta: &fs::Metadata) {
    let owner = std::os::unix::fs::fchown(file, Some(meta.uid()), Some(meta.gid()));
    let mode = file.set_permissions(Permissions::from_mode(meta.mode() & 0o7777));
    if let Err(error) = owner.and(mode) {
        tracing::warn!(%error, "the new inmsg.txt can't have the owner and the mode of the old one");
    }
}

/// Makes an empty file if there is none; says whether it did.
fn make(path: &Path, mode: u32) -> io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Hints from the file system that the file has changed. They may be missing: the file is looked at now and then anyway.
struct Watch {
    watcher: Option<notify::RecommendedWatcher>,
    inode: Option<u64>,
}

impl Watch {
    fn new(hint: mpsc::Sender<()>) -> Self {
        let tell = move |event: notify::Result<notify::Event>| {
            // We read it ourselves, and that is no news.
            let is_news = event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_)));
            if is_news {
                // A hint that finds another one waiting is of no use.
                hint.try_send(()).ok();
            }
        };
        let watcher = notify::recommended_watcher(tell)
            .inspect_err(|error| tracing::warn!(%error, "inmsg.txt is only looked at every two seconds"))
            .ok();
        Self { watcher, inode: None }
    }

    /// Watches the file that has this name now.
    fn follow(&mut self, path: &Path) {
        let inode = fs::symlink_metadata(path).ok().map(|meta| meta.ino());
        if inode == self.inode {
            return;
        }
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        if self.inode.is_some()
            && let Err(error) = watcher.unwatch(path)
        {
            tracing::debug!(%error, "the watch of the last inmsg.txt is gone by itself");
        }
        self.inode = inode.filter(|_| match watcher.watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "inmsg.txt can't be watched");
                false
            }
        });
    }
}

#[cfg(test)]
mod tests;
