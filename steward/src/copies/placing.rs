//! Putting a file in its place: written aside in the same folder, synced, and given its name in one go, with mode and time of its
//! original. Whoever looks finds the old file or the new one, whole. What is not whole has no name where the file system
//! can do that, so that nothing is left of it, however the process ends. All calls block.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use protocol::message::MessageId;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::attributes::Attributes;

/// A place for a file: the folder is held open, so that it stays the same one.
#[derive(Debug)]
pub(crate) struct Place {
    folder: File,
    shown: PathBuf,
    name: OsString,
}

impl Place {
    /// The place at `path`; where that is a folder, the file is called `name` in it.
    pub(crate) fn find(path: &Path, name: Option<&OsStr>) -> io::Result<Self> {
        let is_folder = path.is_dir();
        let (folder, name) = match (is_folder, name) {
            (true, Some(name)) => (path, name),
            (true, None) => return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder")),
            (false, _) => match (path.parent(), path.file_name()) {
                (Some(folder), Some(name)) => (folder, name),
                (None, _) | (_, None) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no file")),
            },
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let open = File::open(folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(error.kind(), format!("there is no folder {}", folder.display())),
            _ => error,
        })?;
        let shown = folder.join(name);
        if fs::symlink_metadata(&shown).is_ok_and(|is| is.is_dir()) {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, format!("{} is a folder", shown.display())));
        }
        Ok(Self { folder: open, shown, name: name.to_owned() })
    }

    /// The folder itself, with no link in its path.
    pub(crate) fn real_folder(&self) -> io::Result<PathBuf> {
        fs::read_link(format!("/proc/self/fd/{}", self.folder.as_raw_fd()))
    }

    /// The path as people know it.
    pub(crate) fn shown(&self) -> &Path {
        &self.shown
    }

    fn path(&self, name: &OsStr) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd())).join(name)
    }

    /// The file that is there, if it is a regular one.
    pub(crate) fn present(&self) -> Option<File> {
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).ok()?;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path(&self.name)).ok()?;
        file.metadata().is_ok_and(|is| is.is_file()).then_some(file)
    }

    /// What a file is called while it has a name and is not in its place.
    fn aside(&self, id: MessageId) -> OsString {
        let mut name = OsString::from(".");
        // A long name leaves no room for more.
        let bytes = self.name.as_encoded_bytes();
        if bytes.len() <= NAME_BYTES_MAX {
            name.push(&self.name);
        }
        name.push(format!(".{id}.part"));
        name
    }

    /// Begins a file that is to be here.
    pub(crate) fn begin(&self, id: MessageId) -> io::Result<Aside<'_>> {
        let name = self.aside(id);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.folder, ".", flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Aside { place: self, file: file.into(), name, is_named: false, is_whole: false }),
            // Not every file system can.
            Err(_) => {
                let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
                let options = &mut OpenOptions::new();
                let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
                let file = options.custom_flags(nofollow).open(self.path(&name))?;
                Ok(Aside { place: self, file, name, is_named: true, is_whole: false })
            }
        }
    }

    /// Moves a whole file here, with these attributes. False: it lies on another file system, and has to be copied.
    pub(crate) fn move_in(&self, file: &File, from: &Path, attributes: &Attributes) -> io::Result<bool> {
        attributes.give(file)?;
        file.sync_all()?;
        match fs::rename(from, self.path(&self.name)) {
            Ok(()) => self.folder.sync_all().map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The longest name, in bytes, behind which there is room for what is added while a file is written.
const NAME_BYTES_MAX: usize = 200;

/// A file that grows aside of its place. It goes when it is dropped before it is whole.
#[derive(Debug)]
pub(crate) struct Aside<'a> {
    place: &'a Place,
    file: File,
    name: OsString,
    is_named: bool,
    is_whole: bool,
}

impl Aside<'_> {
    /// Adds bytes at the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Puts it in its place, durably.
    pub(crate) fn finish(mut self, attributes: &Attributes) -> io::Result<()> {
        attributes.give(&self.file)?;
        self.file.sync_all()?;
        let aside = self.place.path(&self.name);
        if !self.is_named {
            match fs::remove_file(&aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, open, CWD, &aside, AtFlags::SYMLINK_FOLLOW)?;
            self.is_named = true;
        }
        fs::rename(&aside, self.place.path(&self.place.name))?;
        self.is_whole = true;
        self.place.folder.sync_all()
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        if self.is_named
            && !self.is_whole
            && let Err(error) = fs::remove_file(self.place.path(&self.name))
        {
            tracing::debug!(%error, file = %self.name.display(), "a half copy is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTRIBUTES: Attributes = Attributes { mode: 0o640, modified: (1_700_000_000, 5) };

    #[test]
    fn a_file_is_the_old_one_or_the_new_one_and_nothing_is_left_of_a_half_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        let place = Place::find(&path, None).unwrap();
        let mut half = place.begin(MessageId(1)).unwrap();
        half.append(b"ne").unwrap();
        drop(half);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let mut whole = place.begin(MessageId(1)).unwrap();
        whole.append(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        whole.finish(&ATTRIBUTES).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(Attributes::of(&fs::metadata(&path).unwrap()), ATTRIBUTES);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_is_in_a_folder_that_is_there_and_is_none_itself() {
        let dir = tempfile::tempdir().unwrap();
        let find = |path: &Path, name: Option<&str>| Place::find(path, name.map(OsStr::new));
        assert_eq!(find(dir.path(), Some("a")).unwrap().shown(), dir.path().join("a"));
        assert!(find(dir.path(), None).unwrap_err().to_string().contains("is a folder"));
        assert!(find(&dir.path().join("no/file"), None).unwrap_err().to_string().contains("there is no folder"));
        fs::create_dir(dir.path().join("a")).unwrap();
        assert!(find(dir.path(), Some("a")).unwrap_err().to_string().contains("is a folder"));
        // A link is no file that could be written through: it is replaced.
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let place = find(&dir.path().join("link"), None).unwrap();
        assert!(place.present().is_none());
        place.begin(MessageId(1)).unwrap().finish(&ATTRIBUTES).unwrap();
        assert!(fs::symlink_metadata(dir.path().join("link")).unwrap().is_file());
    }

    #[test]
    fn a_file_moves_in_with_its_attributes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "content").unwrap();
        let file = File::open(&from).unwrap();
        assert!(Place::find(&to, None).unwrap().move_in(&file, &from, &ATTRIBUTES).unwrap());
        assert!(!from.exists());
        assert_eq!(Attributes::of(&fs::metadata(&to).unwrap()), ATTRIBUTES);
    }
}
