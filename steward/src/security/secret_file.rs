//! Files that hold secrets or what trust rests on: for us only, and whole or not there.
//!
//! A file is written aside, synced and renamed. One that others can read is not believed: whoever could read it may have
//! copied it. A link is not followed: it leads out of the node's directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The longest such file, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is added to a file's name while it is written.
const ASIDE: &str = ".new";

/// Why a file is not read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    /// It is not there.
    #[error("{} is not there", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// Others may read or write it.
    #[error(
        "{} can be read or written by others (mode {mode:04o}), so it may no longer be a secret; renew it, or, if nobody \
         can have read it, run: chmod go= {}", path.display(), path.display()
    )]
    Mode {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}, not to the one who runs steward ({us}); run: chown {us} {}", path.display(), path.display())]
    Owner {
        /// Which.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Us.
        us: u32,
    },
    /// It is a link, a folder, a pipe.
    #[error("{} is not an ordinary file; put the file itself there", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// It is too long.
    #[error("{} has more than {FILE_BYTES_MAX} bytes; it can't be what belongs there", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// It is not text.
    #[error("{} is not UTF-8 text; it can't be what belongs there", path.display())]
    NotText {
        /// Which.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("{} can't be {what}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
}

impl SecretFileError {
    fn io(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| {
            let path = path.to_owned();
            match error.kind() {
                ErrorKind::NotFound => Self::Missing { path },
                _ => Self::Io { path, what, error },
            }
        }
    }
}

/// Reads a file that nobody else may read; the text without the white space around it.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    let nofollow = i32::try_from((rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits()).unwrap_or(0);
    let opened = OpenOptions::new().read(true).custom_flags(nofollow).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => {
            SecretFileError::NotAFile { path: path.to_owned() }
        }
        _ => SecretFileError::io(path, "read")(error),
    })?;
    let is = file.metadata().map_err(SecretFileError::io(path, "read"))?;
    if !is.is_file() {
        return Err(SecretFileError::NotAFile { path: path.to_owned() });
    }
    let mode = is.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Mode { path: path.to_owned(), mode });
    }
    let us = rustix::process::geteuid().as_raw();
    if is.uid() != us && us != 0 {
        return Err(SecretFileError::Owner { path: path.to_owned(), owner: is.uid(), us });
    }
    let mut text = Zeroizing::new(String::new());
    match file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text) {
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(SecretFileError::NotText { path: path.to_owned() });
        }
        Err(error) => return Err(SecretFileError::io(path, "read")(error)),
        Ok(len) if len as u64 > FILE_BYTES_MAX => return Err(SecretFileError::TooLong { path: path.to_owned() }),
        Ok(_) => {}
    }
    let trimmed = text.trim();
    Ok(if trimmed.len() == text.len() { text } else { Zeroizing::new(trimmed.to_owned()) })
}

/// Writes a file for us only; it is on disk when this returns, and whatever was there before is whole until then.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), SecretFileError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(ASIDE);
    let aside = PathBuf::from(aside);
    // Left behind by a process that was killed; with its mode, or as a link, it is not to be written into.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(SecretFileError::io(&aside, "removed")(error)),
        Ok(()) | Err(_) => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        sync_folder(path)
    };
    write().map_err(SecretFileError::io(path, "written"))
}

/// Makes a folder for us only; one that is there already has to be so.
pub(crate) fn make_folder(path: &Path) -> Result<(), SecretFileError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_folder(path).map_err(SecretFileError::io(path, "made")),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => check_folder(path),
        Err(error) => Err(SecretFileError::io(path, "made")(error)),
    }
}

/// Whether a folder is one that only we can look into.
pub(crate) fn check_folder(path: &Path) -> Result<(), SecretFileError> {
    let is = fs::symlink_metadata(path).map_err(SecretFileError::io(path, "read"))?;
    if !is.is_dir() {
        return Err(SecretFileError::NotAFile { path: path.to_owned() });
    }
    let mode = is.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Mode { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Makes durable which names the folder has in which `path` lies.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
