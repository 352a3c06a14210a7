//! `messages.d/`: a folder into which people and scripts put files of messages, `*.json`, `*.yaml` or `*.yml`.
//!
//! ```text
//! messages.d/NAME ──renamed──▶ messages.d/.taken-<id>-NAME ──read──▶ engine (durable) ──▶ done/NAME, done/NAME.ids
//!                                                               └──▶ rejected/NAME, rejected/NAME.reason
//! ```
//! * A file is taken as a whole or not at all, once it is moved here, or closed by whoever wrote it. Where nobody tells of
//!   that (at the start), it is taken when nobody has it open and it has not changed for a while.
//! * A crash at any moment loses nothing, because the file is there under one of its names, and doubles nothing, because the
//!   ids of its messages follow from the id in its second name: the engine knows them from the first time.
//! * What stands in a file and which name it has is durable before anything of it is read.
//! * `done/NAME.ids` has a line for each message: its id and its node.
//!
//! It never follows a link, never takes what is no regular file, and leaves alone what has another ending, or begins with a dot.

mod shelf;
mod taken;
mod watch;

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use protocol::message::Message;
use protocol::time::Mono;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::document::{Format, TEXT_BYTES_MAX};
use super::holders;
use super::ids::FileId;
use super::taken::blocking;
use super::{Intake, IntakeError};
use crate::audit::By;
use crate::clock::Clock;
use crate::crash_points::{Point, reach};
use crate::own_file::{self, Folder};
use shelf::Shelf;
use taken::{Judged, Taken, Verdict};
use watch::Watch;

/// The folder's name in the node's directory.
pub(crate) const NAME: &str = "messages.d";

/// Files that are taken in one turn: they share syncs and a transaction.
const TURN_FILES_MAX: usize = 64;

/// Files that are looked at in one turn; of more, those that the system names first, and the rest when they are done.
const LOOK_FILES_MAX: usize = 10_000;

/// The longest name of a file, in bytes: it gets longer on its way, and a file system has its limit.
const NAME_BYTES_MAX: usize = 180;

/// The folder is looked at so often, whatever the file system tells.
const SCAN: Duration = Duration::from_secs(2);

/// A file of which nobody has told that it is complete has not changed for so long, and nobody has it open.
const QUIET: Duration = Duration::from_secs(2);

/// The same where it can't be seen who has it open.
const QUIET_HIDDEN: Duration = Duration::from_secs(30);

/// Why files can't be taken in for now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// The engine doesn't take the messages.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The file system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The folder, and what is known of the files in it.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    intake: Intake,
    /// What was seen of files of which nobody has told that they are complete.
    looks: HashMap<String, Look>,
    /// Names that are left alone until something happens to them, so that it is said once.
    foreign: HashSet<OsString>,
    /// What was last wrong, so that it is said once.
    trouble: Option<String>,
}

/// How a file was, and since when it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    bytes: u64,
    changed: SystemTime,
    since: Mono,
}

impl Spool {
    /// For the node's directory; makes the folder where it is missing. Blocks for a moment.
    pub(crate) fn open(node_dir: &Path, intake: Intake) -> io::Result<Self> {
        let dir = node_dir.join(NAME);
        make(&dir)?;
        Ok(Self { dir, intake, looks: HashMap::new(), foreign: HashSet::new(), trouble: None })
    }

    /// Takes messages in until the token ends it.
    pub(crate) async fn run(mut self, clock: Clock, end: CancellationToken) -> anyhow::Result<()> {
        let (hint, mut hints) = mpsc::channel(1);
        let mut watch = Watch::new(&self.dir, hint);
        loop {
            watch.keep(&self.dir);
            let is_busy = tokio::select! {
                () = end.cancelled() => return Ok(()),
                is_busy = self.turn(&watch, clock.now().mono) => is_busy,
            };
            if is_busy {
                continue;
            }
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                _ = hints.recv() => {}
                () = tokio::time::sleep(SCAN) => {}
            }
        }
    }

    /// Does what there is to do; says whether there may be more to do at once. Trouble is logged when it changes.
    async fn turn(&mut self, watch: &Watch, now: Mono) -> bool {
        let done = self.take_in(watch, now).await;
        let trouble = done.as_ref().err().map(|error| format!("{error}; the files are kept, and tried again"));
        if trouble != self.trouble {
            match &trouble {
                Some(trouble) => tracing::error!(%trouble, "files in messages.d can't be taken in"),
                None => tracing::info!("files in messages.d are taken in again"),
            }
            self.trouble = trouble;
        }
        done.unwrap_or(false)
    }

    /// Brings files to their end that are aside, and takes new ones where there are none; says whether there were any.
    async fn take_in(&mut self, watch: &Watch, now: Mono) -> Result<bool, SpoolError> {
        let closed = watch.closed();
        let (dir, mut looks, foreign) = (self.dir.clone(), std::mem::take(&mut self.looks), self.foreign.clone());
        let look = move || (find(&dir, &closed, &foreign, &mut looks, now), looks);
        let (found, looks) = blocking(look).await?;
        self.looks = looks;
        let Found { taken, names, foreign } = found?;
        watch.forget(names.iter().map(OsStr::new).chain(foreign.iter().map(OsString::as_os_str)));
        self.foreign.extend(foreign);
        if taken.is_empty() && names.is_empty() {
            return Ok(false);
        }
        let (dir, defaults) = (self.dir.clone(), self.intake.defaults().clone());
        let bring = move || {
            let (taken, mut foreign) = if taken.is_empty() { take(&dir, names)? } else { (taken, Vec::new()) };
            reach(Point::SpoolTaken);
            let (read, more) = taken::read(&dir, taken, &defaults)?;
            foreign.extend(more);
            Ok::<_, io::Error>((read, foreign))
        };
        let (read, foreign) = blocking(bring).await??;
        self.foreign.extend(foreign.into_iter().map(OsString::from));
        let messages: Vec<Message> = read.iter().flat_map(|(_, verdict)| verdict.messages()).cloned().collect();
        if !messages.is_empty() {
            self.intake.submit_checked(messages, Some(By::Spool)).await?;
        }
        reach(Point::SpoolRead);
        let dir = self.dir.clone();
        blocking(move || put_away(&dir, &read)).await??;
        Ok(true)
    }
}

/// Makes a folder where it is missing, durably: also one that somebody has removed.
fn make(dir: &Path) -> io::Result<()> {
    match (own_file::make_folder(dir)?, dir.parent()) {
        (true, Some(parent)) => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// What there is in the folder.
#[derive(Debug, Default)]
struct Found {
    /// Files that are aside, in the order in which they were taken.
    taken: Vec<Taken>,
    /// Files to take, oldest first.
    names: Vec<String>,
    /// Names that are left alone from now on.
    foreign: Vec<OsString>,
}

/// Looks for files that are aside, and if there are none, for those that are complete. Blocks.
fn find(
    dir: &Path,
    closed: &HashSet<OsString>,
    foreign: &HashSet<OsString>,
    looks: &mut HashMap<String, Look>,
    now: Mono,
) -> io::Result<Found> {
    make(dir)?;
    let folder = Folder::open(dir)?;
    let mut found = Found::default();
    let (mut ready, mut seen): (Vec<(SystemTime, String)>, HashMap<String, Look>) = (Vec::new(), HashMap::new());
    for entry in fs::read_dir(folder.path())? {
        let entry = entry?;
        let name = entry.file_name();
        if foreign.contains(&name) && !closed.contains(&name) {
            continue;
        }
        found.taken.extend(Taken::of(&name));
        if !is_offered(&name) || ready.len() + seen.len() >= LOOK_FILES_MAX {
            continue;
        }
        // It may be gone again.
        let Ok(meta) = fs::symlink_metadata(entry.path()) else { continue };
        let Some(name) = plain_name(dir, name, &meta, &mut found.foreign) else { continue };
        let (bytes, changed) = (meta.len(), meta.modified()?);
        if closed.contains(OsStr::new(&name)) && bytes > 0 {
            ready.push((changed, name));
        } else if bytes > 0 {
            let last = looks.get(&name).filter(|last| last.bytes == bytes && last.changed == changed);
            seen.insert(name, Look { bytes, changed, since: last.map_or(now, |last| last.since) });
        }
    }
    if found.taken.is_empty() {
        ready.extend(are_left(&folder.path(), &seen, now));
        ready.sort();
        found.names = ready.into_iter().map(|(_, name)| name).take(TURN_FILES_MAX).collect();
    }
    found.taken.sort_by_key(|file| file.id);
    found.taken.truncate(TURN_FILES_MAX);
    *looks = seen;
    Ok(found)
}

/// The name of a file that can be taken; one that can't is said, and left alone.
fn plain_name(dir: &Path, name: OsString, meta: &fs::Metadata, foreign: &mut Vec<OsString>) -> Option<String> {
    let plain = name.to_str().filter(|text| text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control));
    let why = match plain {
        _ if !meta.is_file() => "it is no regular file; put one there",
        None => "its name has more than 180 bytes, or is no plain text; give it another one",
        Some(_) if meta.len() > TEXT_BYTES_MAX as u64 => "it has more than 16 MiB; make several files of it",
        Some(plain) => return Some(plain.to_owned()),
    };
    tracing::error!(file = ?name, folder = %dir.display(), "a file is left alone: {why}");
    foreign.push(name);
    None
}

/// Those that have not changed for a while, and that nobody has open as far as it can be seen.
fn are_left(folder: &Path, seen: &HashMap<String, Look>, now: Mono) -> Vec<(SystemTime, String)> {
    let mut quiet: HashMap<&str, &Look> = seen.iter().map(|(name, look)| (name.as_str(), look)).collect();
    quiet.retain(|_, look| now.since(look.since) >= QUIET);
    if quiet.is_empty() {
        return Vec::new();
    }
    let held = holders::among(folder, &quiet.keys().copied().collect());
    let limit = if held.is_all { QUIET } else { QUIET_HIDDEN };
    quiet.retain(|name, look| now.since(look.since) >= limit && !held.names.contains(*name));
    quiet.into_iter().map(|(name, look)| (look.changed, name.to_owned())).collect()
}

/// Whether a file of this name is for us. What is being written has another ending, or a dot before its name.
fn is_offered(name: &OsStr) -> bool {
    !name.as_encoded_bytes().starts_with(b".") && Format::of(Path::new(name)).is_some()
}

/// Gives files the names under which they are read, and says which of them are not for us to read. Blocks.
fn take(dir: &Path, names: Vec<String>) -> io::Result<(Vec<Taken>, Vec<String>)> {
    let folder = Folder::open(dir)?;
    let (mut taken, mut foreign) = (Vec::with_capacity(names.len()), Vec::new());
    for name in names {
        let path = folder.path().join(&name);
        // Hardly anybody who writes a file waits for the disk. What is gone again, or another thing now, is none of ours.
        let synced = own_file::read(&path).and_then(|file| file.sync_data());
        let file = Taken { id: FileId::next(), name };
        match synced.and_then(|()| fs::rename(&path, folder.path().join(file.aside()))) {
            Ok(()) => taken.push(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound || own_file::is_foreign(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let (file, folder) = (&file.name, dir.display());
                tracing::error!(%file, %folder, %error, "a file is left alone: give the node's user the right, and move it in again");
                foreign.push(file.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok((taken, foreign))
}

/// Moves files to where they belong, with what became of them. Blocks.
fn put_away(dir: &Path, read: &[Judged]) -> io::Result<()> {
    let folder = Folder::open(dir)?;
    for (shelf, is_done) in [("done", true), ("rejected", false)] {
        let files: Vec<&Judged> =
            read.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Accepted(_)) == is_done).collect();
        if !files.is_empty() {
            Shelf::open(dir, shelf)?.put(&folder, &files)?;
        }
    }
    for (file, verdict) in read {
        match verdict {
            Verdict::Accepted(messages) => {
                tracing::info!(file = %file.name, messages = messages.len(), "a file of messages is taken in");
            }
            Verdict::Rejected(reason) => {
                let first = reason.lines().next().unwrap_or_default();
                tracing::warn!(file = %file.name, reason = %first, "a file of messages is rejected");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
