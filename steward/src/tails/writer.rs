//! Appends lines to files: durable before it returns, and once for each message, however often the node is killed. One message at a
//! time, whatever file it is for: what is about to be appended is noted first, and whoever finds such a note at the start cuts off what is not
//! whole. What can't be appended is taken back; while that can't be done either, nothing else is appended.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::message::MessageId;
use tokio::sync::Mutex;

use super::FOLDER;
use super::journal::{About, Journal};
use crate::crash_points::{self, Point};
use crate::engine::little_room;
use crate::own_file::{self, Folder};

/// The journal, in the folder. No file of a tail is called so: none begins with a dot.
const JOURNAL: &str = ".journal";

/// The longest path of a file, from the node's directory on, in bytes, and the most folders in each other.
const PLACE_BYTES_MAX: usize = 3000;
/// See [`PLACE_BYTES_MAX`].
const DEPTH_MAX: usize = 80;

/// Why lines are not where they belong.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// It can be later.
    Later(String),
    /// It never can.
    Never(String),
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        match own_file::is_foreign(&error) {
            true => Self::Never(error.to_string()),
            false => Self::Later(error.to_string()),
        }
    }
}

/// The files of a node. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Tails {
    dir: Arc<PathBuf>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    journal: Option<Journal>,
    /// Whether something may be left of what could not be appended.
    is_torn: bool,
}

impl Tails {
    /// Those of the node in this directory.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: Arc::new(dir.to_owned()), state: Arc::default() }
    }

    /// Appends the lines of a message to a file below [`FOLDER`], unless they are there. Folders that are missing are made.
    pub(crate) async fn append(&self, id: MessageId, place: String, lines: Vec<u8>) -> Result<(), AppendError> {
        let dir = Arc::clone(&self.dir);
        // It goes with the thread: whoever waits may be gone before the disk has answered.
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let done = tokio::task::spawn_blocking(move || state.append(&dir, id, &place, &lines)).await;
        done.unwrap_or_else(|error| Err(AppendError::Later(error.to_string())))
    }
}

impl State {
    fn append(&mut self, dir: &Path, id: MessageId, place: &str, lines: &[u8]) -> Result<(), AppendError> {
        let journal = match &mut self.journal {
            Some(journal) => journal,
            None => self.journal.insert(open_journal(dir)?),
        };
        if self.is_torn {
            settle(dir, journal, false)?;
            self.is_torn = false;
        }
        if journal.has(id) {
            return Ok(());
        }
        if let Some(why) = little_room(dir) {
            return Err(AppendError::Later(why));
        }
        let mut file = open(dir, place)?;
        let meta = file.metadata()?;
        let (hash, bytes) = (blake3::hash(lines).to_string(), lines.len() as u64);
        let about =
            About { id: id.to_string(), file: place.to_owned(), inode: meta.ino(), len: meta.len(), bytes, hash };
        journal.note(about)?;
        crash_points::reach(Point::BeforeAppend);
        let written = file.write_all(lines).and_then(|()| {
            crash_points::sync();
            file.sync_data()
        });
        crash_points::reach(Point::AfterAppend);
        let Err(error) = written else { return Ok(()) };
        self.is_torn = true;
        settle(dir, journal, false)?;
        self.is_torn = false;
        Err(error.into())
    }
}

/// Opens a file to append to it, and makes durable that it is there.
fn open(dir: &Path, place: &str) -> Result<File, AppendError> {
    let parts: Vec<&str> = place.split('/').collect();
    if place.len() > PLACE_BYTES_MAX || parts.len() > DEPTH_MAX {
        return Err(AppendError::Never("its path is too long".to_owned()));
    }
    let Some((name, folders)) = parts.split_last() else { return Err(AppendError::Never("it has no path".to_owned())) };
    if parts.iter().any(|part| part.is_empty() || part.starts_with('.')) {
        return Err(AppendError::Never(format!("{place:?} leads out of the folder")));
    }
    let mut at: Option<Folder> = None;
    for folder in folders {
        at = Some(own_file::below(&at.as_ref().map_or_else(|| dir.to_owned(), Folder::path), folder)?);
    }
    let Some(folder) = at else { return Err(AppendError::Never(format!("{place:?} is in no folder"))) };
    let options = &mut OpenOptions::new();
    let file = folder.file(name.as_ref(), options.create(true).append(true).mode(0o600))?;
    folder.sync()?;
    Ok(file)
}

fn open_journal(dir: &Path) -> io::Result<Journal> {
    let folder = own_file::below(dir, FOLDER)?;
    let journal = Journal::open(&folder.path().join(JOURNAL))?;
    folder.sync()?;
    Ok(journal)
}

/// Finds out what has become of what was about to be appended last: it is whole, or what is there of it is cut off. What a disk did
/// not take in this very process is cut off in any case: what is read back of it may be in memory only.
fn settle(dir: &Path, journal: &mut Journal, may_be_whole: bool) -> io::Result<()> {
    let Some(about) = journal.about().cloned() else { return Ok(()) };
    let file = match own_file::open(&dir.join(&about.file), OpenOptions::new().read(true).write(true)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return journal.take_back(),
        file => file?,
    };
    let meta = file.metadata()?;
    let end = about.len + about.bytes;
    // Another file by that name, or one that somebody has written to: nothing of it is cut off.
    if meta.ino() != about.inode || meta.len() < about.len {
        return journal.take_back();
    }
    let mut lines = vec![0; usize::try_from(about.bytes).unwrap_or(usize::MAX).min(LINES_BYTES_MAX)];
    let is_whole = may_be_whole
        && meta.len() >= end
        && file.read_exact_at(&mut lines, about.len).is_ok()
        && blake3::hash(&lines).to_string() == about.hash;
    if is_whole {
        return file.sync_data();
    }
    if meta.len() <= end {
        file.set_len(about.len)?;
        file.sync_data()?;
    }
    journal.take_back()
}

/// Bytes of one message's lines; a message is shorter.
const LINES_BYTES_MAX: usize = 1024 * 1024;

/// Puts in order what a process has left that was killed. Called once at start, before anything is appended.
pub(crate) fn recover(dir: &Path) -> io::Result<()> {
    let path = dir.join(FOLDER).join(JOURNAL);
    if !path.try_exists()? {
        return Ok(());
    }
    settle(dir, &mut open_journal(dir)?, true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn append(state: &mut State, dir: &Path, id: u128, lines: &str) {
        state.append(dir, MessageId(id), "tails/ship1/var/x", lines.as_bytes()).unwrap();
    }

    #[test]
    fn lines_are_there_once_however_far_a_killed_process_came() {
        for there in ["", "s", "second\n", "\0\0\0", "seconk\n"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("tails/ship1/var/x");
            append(&mut State::default(), dir.path(), 1, "first\n");
            append(&mut State::default(), dir.path(), 2, "second\n");
            fs::write(&path, format!("first\n{there}")).unwrap();
            recover(dir.path()).unwrap();
            let state = &mut State::default();
            for id in [1, 2, 2, 3] {
                append(state, dir.path(), id, ["", "first\n", "second\n", "third\n"][usize::try_from(id).unwrap()]);
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), "first\nsecond\nthird\n", "after {there:?}");
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew_and_what_others_wrote_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tails/ship1/var/x");
        let state = &mut State::default();
        append(state, dir.path(), 1, "first\n");
        fs::rename(&path, dir.path().join("kept")).unwrap();
        append(state, dir.path(), 2, "second\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");
        fs::write(&path, "of somebody else, and longer than before\n").unwrap();
        recover(dir.path()).unwrap();
        append(&mut State::default(), dir.path(), 2, "second\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "of somebody else, and longer than before\nsecond\n");
        recover(&dir.path().join("nowhere")).unwrap();
    }

    #[test]
    fn no_file_lies_outside() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("tails/ship1")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), dir.path().join("tails/ship1/link")).unwrap();
        fs::write(dir.path().join("tails/ship1/file"), "").unwrap();
        for place in ["tails/ship1/link/x", "tails/ship1/link", "tails/../x", "tails//x", "tails/ship1/file/x", "x"] {
            let error = State::default().append(dir.path(), MessageId(1), place, b"x\n").unwrap_err();
            assert!(matches!(error, AppendError::Never(_)), "{place}: {error:?}");
        }
        assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 0);
    }
}
