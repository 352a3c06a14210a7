//! Files in the node's own directory. A link that stands where one of them should be leads out of it, so none is
//! followed: nothing outside is read, written, cut off or given another mode, whoever has put the link there. What is no
//! regular file is not opened either: a pipe would hold up whoever opens it, and a device may do anything.
//!
//! A second name of a file (a hard link) can't be told from the first, and is not looked for.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Something else stands where a file of ours should be.
#[derive(Debug, thiserror::Error)]
#[error("{} is {what}, and steward uses no other file than its own; move it away, and look who has put it there", path.display())]
struct Foreign {
    path: PathBuf,
    what: &'static str,
}

/// Opens a file of the node's directory. Blocks as any opening of a file does.
pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open_as(path, path, options)
}

/// Opens the file at `path`, which is called `shown`.
fn open_as(path: &Path, shown: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags(flags(OFlags::NONBLOCK)?).open(path).map_err(|error| of_link(shown, error))?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(foreign(shown, "no regular file")) }
}

fn flags(more: OFlags) -> io::Result<i32> {
    i32::try_from((OFlags::NOFOLLOW | more).bits()).map_err(io::Error::other)
}

/// What an error means for whoever opens without following a link.
fn of_link(shown: &Path, error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) if code == Errno::LOOP.raw_os_error() => foreign(shown, "a link"),
        _ => error,
    }
}

/// Opens a file of the node's directory to be read.
pub(crate) fn read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// Refuses a link or something else that is no regular file, without opening it; none there is fine.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(is) if is.is_file() => Ok(()),
        Ok(is) if is.is_symlink() => Err(foreign(path, "a link")),
        Ok(_) => Err(foreign(path, "no regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes a folder of the node's directory, for us only, where it is missing; says whether it did. A link to one is refused.
pub(crate) fn make_folder(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_folder(path).map(|()| false),
        Err(error) => Err(error),
    }
}

/// Refuses a folder that is a link, or none.
fn check_folder(path: &Path) -> io::Result<()> {
    let is = fs::symlink_metadata(path)?;
    match is.is_dir() {
        true => Ok(()),
        false => Err(foreign(path, if is.is_symlink() { "a link" } else { "no folder" })),
    }
}

/// A folder of the node's directory, held open: whatever is put in its place meanwhile, this one is meant.
#[derive(Debug)]
pub(crate) struct Folder {
    open: File,
    shown: PathBuf,
}

impl Folder {
    /// Opens it; a link to one is refused.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        check_folder(path)?;
        let open = OpenOptions::new().read(true).custom_flags(flags(OFlags::DIRECTORY)?).open(path);
        // With both flags, a link is "no directory".
        let open = open.map_err(|error| match error.raw_os_error() {
            Some(code) if code == Errno::NOTDIR.raw_os_error() => foreign(path, "a link"),
            _ => error,
        })?;
        Ok(Self { open, shown: path.to_owned() })
    }

    /// The path of the folder for as long as this lives, and no other one's.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.open.as_raw_fd()))
    }

    /// Opens a file in it.
    pub(crate) fn file(&self, name: &OsStr, options: &mut OpenOptions) -> io::Result<File> {
        open_as(&self.path().join(name), &self.shown.join(name), options)
    }

    /// Makes durable which files are in it.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.open.sync_all()
    }
}

/// Opens a folder below another one of the node's directory; makes it where it is missing, durably and for us only.
pub(crate) fn below(dir: &Path, name: &str) -> io::Result<Folder> {
    let path = dir.join(name);
    if make_folder(&path)? {
        File::open(dir)?.sync_all()?;
    }
    Folder::open(&path)
}

/// Whether an error says that something else stands there.
pub(crate) fn is_foreign(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Foreign>())
}

fn foreign(path: &Path, what: &'static str) -> io::Error {
    io::Error::other(Foreign { path: path.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_never_followed_and_a_pipe_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, link) = (dir.path().join("outside"), dir.path().join("link"));
        fs::write(&outside, "as it was").unwrap();
        symlink(&outside, &link).unwrap();
        for options in [
            OpenOptions::new().read(true),
            OpenOptions::new().append(true).create(true),
            OpenOptions::new().write(true).create(true).truncate(true),
        ] {
            let error = open(&link, options).unwrap_err();
            assert!(is_foreign(&error) && error.to_string().contains("is a link"), "{error}");
        }
        assert!(check(&link).is_err() && check(&outside).is_ok() && check(&dir.path().join("nothing")).is_ok());
        assert_eq!(fs::read_to_string(&outside).unwrap(), "as it was");

        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let error = read(&pipe).unwrap_err();
        assert!(is_foreign(&error) && error.to_string().contains("no regular file"), "{error}");
        assert!(check(&pipe).is_err());

        let folder = dir.path().join("folder");
        assert!(make_folder(&folder).unwrap() && !make_folder(&folder).unwrap());
        symlink(&folder, dir.path().join("other")).unwrap();
        assert!(is_foreign(&make_folder(&dir.path().join("other")).unwrap_err()));
        assert!(is_foreign(&check_folder(&outside).unwrap_err()));
        assert!(is_foreign(&Folder::open(&dir.path().join("other")).unwrap_err()));

        // What comes into its place later is not followed either.
        let held = Folder::open(&folder).unwrap();
        let (aside, elsewhere) = (dir.path().join("aside"), dir.path().join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        fs::rename(&folder, &aside).unwrap();
        symlink(&elsewhere, &folder).unwrap();
        held.file(OsStr::new("file"), OpenOptions::new().write(true).create(true)).unwrap();
        assert!(aside.join("file").exists() && !elsewhere.join("file").exists());
    }

    #[test]
    fn a_file_of_ours_is_opened_as_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        open(&path, OpenOptions::new().write(true).create(true)).unwrap().write_all(b"text").unwrap();
        let mut text = String::new();
        read(&path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        let missing = read(&dir.path().join("missing")).unwrap_err();
        assert!(missing.kind() == io::ErrorKind::NotFound && !is_foreign(&missing));
    }
}
