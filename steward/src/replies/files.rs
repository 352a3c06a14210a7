//! Results in files, below one folder of the node's directory. No link is followed on the way there, whoever has put it
//! there and whenever. All calls block; they belong on a thread that may.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use protocol::message::MessageId;

use super::spec::{FOLDER, Spec};
use crate::crash_points::{self, Point};
use crate::engine::little_room;
use crate::own_file::{self, Folder};
use crate::store::Mark;

/// Bytes that are read and written at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// Why a result is not at the end of a file.
pub(super) enum AppendError {
    /// It can't be written; nothing of it is there.
    Clean(io::Error),
    /// Something of it may be there.
    Torn(io::Error),
}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        Self::Torn(error)
    }
}

/// Where a result lies: the folder is held open, so that it stays the same one.
pub(super) struct Target {
    folder: Folder,
    name: String,
}

impl Target {
    /// Finds the place below the node's directory `dir`; makes folders that are missing, for us only.
    pub(super) fn find(dir: &Path, spec: &Spec) -> io::Result<Self> {
        let (Some(directory), Some(name)) = (&spec.directory, &spec.file_name) else {
            return Err(io::Error::other("it says no file"));
        };
        let mut folder = own_file::below(dir, FOLDER)?;
        for part in directory.split('/') {
            folder = own_file::below(&folder.path(), part)?;
        }
        Ok(Self { folder, name: name.clone() })
    }

    /// Writes a result aside and gives it its name, durably.
    pub(super) fn replace(&self, id: MessageId, mut result: impl Read) -> io::Result<()> {
        let part = format!(".{}.{id}.part", self.name);
        let path = |name: &str| self.folder.path().join(name);
        let mut write = || {
            let options = &mut OpenOptions::new();
            let mut file =
                self.folder.file(part.as_ref(), options.write(true).create(true).truncate(true).mode(0o600))?;
            copy(&mut result, &mut file, &self.folder)?;
            crash_points::sync();
            file.sync_all()?;
            crash_points::reach(Point::BeforeRename);
            fs::rename(path(&part), path(&self.name))?;
            crash_points::reach(Point::AfterRename);
            self.folder.sync()
        };
        let written = write();
        if written.is_err()
            && let Err(error) = fs::remove_file(path(&part))
        {
            tracing::debug!(%error, file = part, "a half result stays until it is written again");
        }
        written
    }

    fn open(&self) -> io::Result<File> {
        let options = &mut OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        self.folder.file(self.name.as_ref(), options)
    }

    /// How the file is now; it is made where it is missing, durably.
    pub(super) fn mark(&self) -> io::Result<Mark> {
        let file = self.open()?;
        self.folder.sync()?;
        let is = file.metadata()?;
        Ok(Mark { inode: is.ino(), len: is.len() })
    }

    /// Appends a result to the file as it was when it was marked, durably. What stands behind the mark already is of a run that
    /// was killed: all of it, or a part that goes.
    pub(super) fn append(&self, mark: Mark, result: impl Fn() -> io::Result<Box<dyn Read>>) -> Result<(), AppendError> {
        let mut file = self.open()?;
        let is = file.metadata()?;
        // Another file by that name, or a shorter one: somebody has moved or emptied it, and nothing of ours is in it.
        let from = if is.ino() == mark.inode && is.len() >= mark.len { mark.len } else { is.len() };
        if is.len() > from {
            file.seek(SeekFrom::Start(from))?;
            if begins_with(&mut file, result()?)? {
                return Ok(file.sync_all()?);
            }
            file.set_len(from)?;
        }
        file.seek(SeekFrom::Start(from))?;
        crash_points::reach(Point::BeforeAppend);
        if let Err(error) = copy(&mut result()?, &mut file, &self.folder) {
            file.set_len(from)?;
            file.sync_all()?;
            return Err(AppendError::Clean(error));
        }
        crash_points::sync();
        file.sync_all()?;
        crash_points::reach(Point::AfterAppend);
        Ok(())
    }
}

/// Copies everything, as long as the disk has room for it.
fn copy(from: &mut impl Read, to: &mut File, folder: &Folder) -> io::Result<()> {
    let mut buffer = vec![0; BLOCK_BYTES];
    loop {
        if let Some(why) = little_room(&folder.path()) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => to.write_all(buffer.get(..read).unwrap_or_default())?,
        }
    }
}

/// Whether what comes from `here` begins with all of `result`.
fn begins_with(here: &mut File, mut result: impl Read) -> io::Result<bool> {
    let (mut wanted, mut found) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    loop {
        let read = result.read(&mut wanted)?;
        if read == 0 {
            return Ok(true);
        }
        let same = match here.read_exact(found.get_mut(..read).unwrap_or_default()) {
            Ok(()) => wanted.get(..read) == found.get(..read),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error),
        };
        if !same {
            return Ok(false);
        }
    }
}

/// A text with a line end where it has none, so that it does not run together with the next.
pub(super) struct Lines<R> {
    inner: R,
    last: Option<u8>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, last: None }
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(last) = read.checked_sub(1).and_then(|last| buffer.get(last)) {
            self.last = Some(*last);
            return Ok(read);
        }
        match (self.last, buffer.first_mut()) {
            (None | Some(b'\n'), _) | (_, None) => Ok(0),
            (Some(_), Some(first)) => {
                *first = b'\n';
                self.last = Some(b'\n');
                Ok(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(dir: &Path) -> Target {
        let text = |text: &str| Some(text.to_owned());
        let (directory, file_name) = (text("a"), text("b"));
        Target::find(dir, &Spec { reply_method: "fileAppend".to_owned(), directory, file_name, lines: false }).unwrap()
    }

    fn append(target: &Target, mark: Mark, text: &'static str) {
        let done = target.append(mark, || Ok(Box::new(Lines::new(text.as_bytes()))));
        assert!(done.is_ok());
    }

    #[test]
    fn a_result_is_at_the_end_once_however_far_a_killed_process_came() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (target(dir.path()), dir.path().join("results/a/b"));
        let read = || fs::read_to_string(&path).unwrap();
        let first = target.mark().unwrap();
        append(&target, first, "first");
        let mark = target.mark().unwrap();
        assert_eq!(mark.len, 6);
        for there in ["", "s", "second", "second\n", "\0\0\0\0\0\0\0\0\0"] {
            fs::write(&path, format!("first\n{there}")).unwrap();
            append(&target, mark, "second");
            assert_eq!(read(), "first\nsecond\n", "after {there:?}");
        }
        fs::write(&path, "first\nsecond\nof somebody else").unwrap();
        append(&target, mark, "second");
        assert_eq!(read(), "first\nsecond\nof somebody else", "it is there, and what stands behind it stays");
        fs::write(&path, "").unwrap();
        append(&target, mark, "second");
        assert_eq!(read(), "second\n", "somebody has emptied it");
        fs::rename(&path, dir.path().join("moved")).unwrap();
        fs::write(&path, "a new file of more than six bytes\n").unwrap();
        append(&target, mark, "third");
        assert_eq!(read(), "a new file of more than six bytes\nthird\n");
    }

    #[test]
    fn a_file_is_the_old_one_or_the_new_one_and_half_of_it_goes() {
        struct Breaks(usize);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("broken"))?;
                buffer[0] = b'x';
                Ok(1)
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let target = target(dir.path());
        target.replace(MessageId(1), "old".as_bytes()).unwrap();
        assert!(target.replace(MessageId(2), Breaks(3)).is_err());
        let folder = dir.path().join("results/a");
        assert_eq!(fs::read_to_string(folder.join("b")).unwrap(), "old");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
        let mark = target.mark().unwrap();
        let broken = target.append(mark, || Ok(Box::new(Breaks(3))));
        assert!(matches!(broken, Err(AppendError::Clean(_))));
        assert_eq!(target.mark().unwrap(), mark, "nothing of it is left");
    }

    #[test]
    fn lines_end_with_a_line_end_and_nothing_stays_nothing() {
        for (text, lines) in [("", ""), ("a", "a\n"), ("a\n", "a\n"), ("a\n\n", "a\n\n"), ("\n", "\n")] {
            let mut read = String::new();
            Lines::new(text.as_bytes()).read_to_string(&mut read).unwrap();
            assert_eq!(read, lines);
        }
    }
}
