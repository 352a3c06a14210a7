//! Taking the content of a file as it is at one moment, while others may write it: the file system shares its blocks where it can;
//! elsewhere it is copied, and copied again where somebody has written it meanwhile.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::attributes::Attributes;
use super::delta::{self, List};
use crate::blobs::Writing;
use crate::engine::little_room;

/// How often a file is copied that is written meanwhile.
const TRIES: u32 = 3;

/// A longer one, in bytes, is copied once: each try costs as much again.
const TRIED_AGAIN_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes that are read and written at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// What was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Mode and time, from before the content was read.
    pub(crate) attributes: Attributes,
    /// Whether somebody has written it meanwhile, so that it may hold something of before and of after.
    pub(crate) is_torn: bool,
    /// Length and hash of the content, where only what it has beside an older version was taken.
    pub(crate) beside: Option<(u64, blake3::Hash)>,
}

/// Opens a regular file to be read; a link to one is followed. What is none is not waited for.
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    let is = file.metadata()?;
    if is.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder; copy it with -r"));
    }
    if !is.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file, but a pipe, a socket or a device",
        ));
    }
    Ok((file, is))
}

/// Where an open file lies, with no link in its path.
pub(crate) fn real_path(file: &File) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Takes the content of a file. `go_on` is asked before each block; its error ends it.
pub(crate) fn take(
    file: &mut File,
    into: &mut Writing,
    folder: &Path,
    go_on: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<Taken> {
    let before = file.metadata()?;
    if into.share(file, &mut *go_on)? {
        return Ok(Taken { attributes: Attributes::of(&before), is_torn: false, beside: None });
    }
    let mut tries = if before.len() > TRIED_AGAIN_BYTES_MAX { 1 } else { TRIES };
    loop {
        let before = file.metadata()?;
        into.clear()?;
        copy(file, before.len(), into, folder, go_on)?;
        let is_torn = state(&file.metadata()?) != state(&before);
        tries -= 1;
        if !is_torn || tries == 0 {
            return Ok(Taken { attributes: Attributes::of(&before), is_torn, beside: None });
        }
    }
}

/// Takes what a file has beside the version that has this list, read once.
pub(crate) fn take_beside(
    file: &mut File,
    have: &List,
    into: &mut Writing,
    folder: &Path,
    go_on: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<Taken> {
    let before = file.metadata()?;
    file.rewind()?;
    let mut into = Guarded { into, folder, go_on };
    let beside = delta::write(std::io::Read::take(&mut *file, before.len()), have, &mut into)?;
    let is_torn = state(&file.metadata()?) != state(&before);
    Ok(Taken { attributes: Attributes::of(&before), is_torn, beside: Some(beside) })
}

/// A file that grows for as long as it may, and the disk has room.
struct Guarded<'a> {
    into: &'a mut Writing,
    folder: &'a Path,
    go_on: &'a mut dyn FnMut() -> io::Result<()>,
}

impl io::Write for Guarded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.go_on)()?;
        if let Some(why) = little_room(self.folder) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        self.into.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What changes when a file is written.
fn state(is: &Metadata) -> (u64, i64, i64) {
    (is.len(), is.mtime(), is.mtime_nsec())
}

/// Copies as many bytes as the file had: what is appended meanwhile is not waited for.
fn copy(
    file: &mut File,
    len: u64,
    into: &mut Writing,
    folder: &Path,
    go_on: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<()> {
    file.rewind()?;
    let (mut buffer, mut left) = (vec![0; BLOCK_BYTES], len);
    while left > 0 {
        go_on()?;
        if let Some(why) = little_room(folder) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        let most = usize::try_from(left).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        let read = file.read(buffer.get_mut(..most).unwrap_or_default())?;
        if read == 0 {
            return Ok(());
        }
        into.append(buffer.get(..read).unwrap_or_default())?;
        left -= read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use protocol::message::MessageId;

    use super::*;
    use crate::blobs::Blobs;

    #[test]
    fn a_file_that_is_written_meanwhile_is_taken_again_and_marked_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (blobs, path) = (Blobs::open(dir.path()).unwrap(), dir.path().join("log"));
        std::fs::write(&path, vec![b'a'; 3 * BLOCK_BYTES]).unwrap();
        let take = |writes: &mut dyn FnMut()| {
            let (mut file, _) = open(&path).unwrap();
            let mut into = blobs.write_content(MessageId(1)).unwrap();
            let mut go_on = || {
                writes();
                Ok(())
            };
            let taken = take(&mut file, &mut into, dir.path(), &mut go_on).unwrap();
            (taken.is_torn, into.len())
        };
        assert_eq!(take(&mut || {}), (false, 3 * BLOCK_BYTES as u64));
        let append = || {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"more").unwrap();
        };
        let mut once = 1;
        let (is_torn, len) = take(&mut || {
            if once > 0 {
                once -= 1;
                append();
            }
        });
        assert_eq!((is_torn, len), (false, 3 * BLOCK_BYTES as u64 + 4), "the second try has all of it");
        let (is_torn, len) = take(&mut || append());
        assert!(is_torn && len > 3 * BLOCK_BYTES as u64);
        // It may be shared instead; then nobody can have torn it.
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert!(open(&pipe).unwrap_err().to_string().contains("no regular file"));
        assert!(open(dir.path()).unwrap_err().to_string().contains("-r"));
    }
}
