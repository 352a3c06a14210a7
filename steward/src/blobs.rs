//! Big outputs, in the folder `blobs` of the node's directory. On the sender `out-<message id>.stdout` is an output that
//! was fetched; on the receiver `in-<ticket>.stdout` is one that waits until its sender has it. `.part` is added while it
//! grows. On the sender `out-<message id>.stdout.live-<run>` is one that is followed while its message runs; what is there when
//! the message ends is the beginning of what is fetched. The content of a file that is copied to another node lies on the sender
//! as `content-<message id>` until its message has ended, and on the receiver as `copy-<ticket>` until it has its place.
//!
//! The rule: a file is whole and synced, and so is the folder, before the row of the store that names it is written. What
//! no row names is a leftover, and goes at the start. All calls block; they belong on a thread that may.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use protocol::event::Ticket;
use protocol::message::MessageId;
use protocol::outcome::Stream;

use crate::crash_points::{self, Point};
use crate::own_file::{self, Folder};

/// The folder in the node's directory.
const FOLDER: &str = "blobs";

/// What is added to the name of a file that is not whole.
const PART: &str = ".part";

/// What is added, with the number of the run, to the name of an output that is followed.
const LIVE: &str = ".live-";

/// What the names of files begin with that are copied, on the sender and on the receiver.
const CONTENT: &str = "content-";
/// See [`CONTENT`].
const COPY: &str = "copy-";

/// Bytes that are read at once to work out a hash.
const HASH_BYTES: usize = 256 * 1024;

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    dir: PathBuf,
}

/// Whom a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// An output that was fetched for a message of the outbox.
    Out(MessageId),
    /// An output of a message of the inbox.
    In(Ticket),
    /// What goes along with a message of the outbox until that has ended. It has no streams, so any of them names it.
    Content(MessageId),
    /// The same on its receiver: it goes to where the message says once it is whole.
    Copy(Ticket),
}

impl Blobs {
    /// The folder below the node's directory `dir`, as it is there or will be: [`Blobs::open`] makes it.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.join(FOLDER) }
    }

    /// The folder below the node's directory `dir`; made, for us only, where it is missing.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let blobs = Self::new(dir);
        own_file::make_folder(&blobs.dir)?;
        // Also where it was here: the process that made it may have been killed before it came so far.
        File::open(dir)?.sync_all()?;
        Ok(blobs)
    }

    /// The folder itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a whole output lies.
    pub(crate) fn path(&self, owner: Owner, stream: Stream) -> PathBuf {
        self.dir.join(whole(owner, stream))
    }

    /// The place of an output, in the folder that is there now.
    fn place(&self, owner: Owner, stream: Stream) -> io::Result<Place> {
        let whole = whole(owner, stream);
        Ok(Place { folder: Folder::open(&self.dir)?, part: format!("{whole}{PART}"), whole })
    }

    /// Begins an output of a message of the inbox. What is there of an earlier run goes.
    pub(crate) fn write(&self, ticket: Ticket, stream: Stream) -> io::Result<Writing> {
        self.begin(Owner::In(ticket), stream)
    }

    /// Begins what goes along with a message of the outbox.
    pub(crate) fn write_content(&self, id: MessageId) -> io::Result<Writing> {
        self.begin(Owner::Content(id), Stream::Stdout)
    }

    fn begin(&self, owner: Owner, stream: Stream) -> io::Result<Writing> {
        let place = self.place(owner, stream)?;
        let options = &mut OpenOptions::new();
        let file = place.open(&place.part, options.read(true).write(true).create(true).truncate(true).mode(0o600))?;
        Ok(Writing { place, file, len: 0, hash: blake3::Hasher::new(), whole: false })
    }

    /// Begins or goes on with an output that is fetched for a message of the outbox.
    pub(crate) fn fetch(&self, id: MessageId, stream: Stream) -> io::Result<Fetching> {
        self.go_on(Owner::Out(id), stream)
    }

    /// Begins or goes on with what came along with a message of the inbox.
    pub(crate) fn fetch_copy(&self, ticket: Ticket) -> io::Result<Fetching> {
        self.go_on(Owner::Copy(ticket), Stream::Stdout)
    }

    fn go_on(&self, owner: Owner, stream: Stream) -> io::Result<Fetching> {
        let place = self.place(owner, stream)?;
        if let Ok(file) = place.open(&place.whole, OpenOptions::new().read(true)) {
            let have = file.metadata()?.len();
            return Ok(Fetching { place, file, have, whole: true });
        }
        let file = place.open(&place.part, OpenOptions::new().read(true).append(true).create(true).mode(0o600))?;
        let have = file.metadata()?.len();
        Ok(Fetching { place, file, have, whole: false })
    }

    /// Bytes that are here of the outputs that are fetched for a message, whole or not.
    pub(crate) fn fetched(&self, id: MessageId) -> u64 {
        let len = |stream: Stream| {
            let whole = self.path(Owner::Out(id), stream);
            let part = self.dir.join(format!("{}{PART}", self::whole(Owner::Out(id), stream)));
            [whole, part].iter().find_map(|path| fs::symlink_metadata(path).ok()).map_or(0, |is| is.len())
        };
        Stream::ALL.into_iter().map(len).sum()
    }

    /// A whole output. `NotFound` if there is none.
    pub(crate) fn open_whole(&self, owner: Owner, stream: Stream) -> io::Result<File> {
        let place = self.place(owner, stream)?;
        place.open(&place.whole, OpenOptions::new().read(true))
    }

    /// A piece of an output of the inbox that is being written, from `offset` up to `end`, which must be there.
    pub(crate) fn read_part(&self, ticket: Ticket, stream: Stream, offset: u64, end: u64) -> io::Result<Vec<u8>> {
        let place = self.place(Owner::In(ticket), stream)?;
        let mut file = place.open(&place.part, OpenOptions::new().read(true))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(end.saturating_sub(offset)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A piece of a whole output: at most `len` bytes from `offset` on, fewer at its end. `NotFound` if there is none.
    pub(crate) fn read(&self, owner: Owner, stream: Stream, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut file = self.open_whole(owner, stream)?;
        let left = file.metadata()?.len().saturating_sub(offset);
        let len = left.min(len as u64);
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        file.take(len).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Begins or goes on with an output that is followed while this run writes it.
    pub(crate) fn live(&self, id: MessageId, stream: Stream, run: u64) -> io::Result<Fetching> {
        let mut place = self.place(Owner::Out(id), stream)?;
        place.part = live(&place.whole, run);
        let file = place.open(&place.part, OpenOptions::new().read(true).append(true).create(true).mode(0o600))?;
        let have = file.metadata()?.len();
        Ok(Fetching { place, file, have, whole: false })
    }

    /// An output that is followed, as far as it is here. `NotFound` if there is none of this run.
    pub(crate) fn open_live(&self, id: MessageId, stream: Stream, run: u64) -> io::Result<File> {
        let place = self.place(Owner::Out(id), stream)?;
        place.open(&live(&place.whole, run), OpenOptions::new().read(true))
    }

    /// Has what was followed of an output be the beginning of what is fetched, where that is no longer than `len` bytes
    /// and nothing was fetched so far. What can't be that goes.
    pub(crate) fn adopt(&self, id: MessageId, stream: Stream, len: u64) -> io::Result<()> {
        let place = self.place(Owner::Out(id), stream)?;
        let of_it = self.lives()?.into_iter().filter(|(of, _, which)| (*of, *which) == (id, stream));
        let mut runs: Vec<u64> = of_it.map(|(_, run, _)| run).collect();
        let newest = runs.pop();
        let is_begun = [&place.whole, &place.part].iter().any(|name| place.path(name).exists());
        for run in runs {
            fs::remove_file(place.path(&live(&place.whole, run)))?;
        }
        let Some(newest) = newest.map(|run| place.path(&live(&place.whole, run))) else { return Ok(()) };
        if is_begun || fs::metadata(&newest)?.len() > len {
            return fs::remove_file(newest);
        }
        fs::rename(newest, place.path(&place.part))
    }

    /// Outputs that are followed, or were: message, run and stream, in this order.
    pub(crate) fn lives(&self) -> io::Result<Vec<(MessageId, u64, Stream)>> {
        let folder = Folder::open(&self.dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(folder.path())? {
            if let Some((name, run)) = entry?.file_name().to_str().and_then(|name| name.split_once(LIVE))
                && let (Some((Owner::Out(id), stream)), Ok(run)) = (whose(name), run.parse())
            {
                found.push((id, run, stream));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Messages with something that goes along with them, whole.
    pub(crate) fn contents(&self) -> io::Result<Vec<MessageId>> {
        let folder = Folder::open(&self.dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(folder.path())? {
            if let Some((Owner::Content(id), _)) = entry?.file_name().to_str().and_then(whose) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// Removes what was followed of a message, but that of one run. None is fine.
    pub(crate) fn remove_live(&self, id: MessageId, but: Option<u64>) -> io::Result<()> {
        for (_, run, stream) in self.lives()?.into_iter().filter(|(of, run, _)| *of == id && Some(*run) != but) {
            let place = self.place(Owner::Out(id), stream)?;
            match fs::remove_file(place.path(&live(&place.whole, run))) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Removes both outputs of a message, whole or not. None is fine.
    pub(crate) fn remove(&self, owner: Owner) -> io::Result<()> {
        for stream in Stream::ALL {
            let place = self.place(owner, stream)?;
            for name in [&place.whole, &place.part] {
                match fs::remove_file(place.path(name)) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Removes what belongs to no message any more and says how many files that were. For the start, before anything is
    /// written here. Files with other names are somebody else's and stay.
    pub(crate) fn remove_leftovers(&self, is_known: &dyn Fn(Owner) -> bool) -> io::Result<usize> {
        let mut removed = 0;
        let folder = Folder::open(&self.dir)?;
        for entry in fs::read_dir(folder.path())? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(owner) = name.to_str().and_then(owner)
                && !is_known(owner)
            {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// What a whole output is called.
fn whole(owner: Owner, stream: Stream) -> String {
    let stream = stream.as_str();
    match owner {
        Owner::Out(id) => format!("out-{id}.{stream}"),
        Owner::In(ticket) => format!("in-{}.{stream}", ticket.0),
        Owner::Content(id) => format!("{CONTENT}{id}"),
        Owner::Copy(ticket) => format!("{COPY}{}", ticket.0),
    }
}

/// What an output of one run is called while it is followed.
fn live(whole: &str, run: u64) -> String {
    format!("{whole}{LIVE}{run}")
}

/// Where an output lies, and what it is called: the folder is held, so that it stays the same one until the output is
/// whole.
#[derive(Debug)]
struct Place {
    folder: Folder,
    whole: String,
    part: String,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, name: &str, options: &mut OpenOptions) -> io::Result<File> {
        self.folder.file(name.as_ref(), options)
    }

    /// Gives a file its name so that it is there, whole, after a power cut.
    fn publish(&self, file: &File) -> io::Result<()> {
        crash_points::sync();
        file.sync_all()?;
        crash_points::reach(Point::BeforeRename);
        fs::rename(self.path(&self.part), self.path(&self.whole))?;
        crash_points::reach(Point::AfterRename);
        self.folder.sync()
    }
}

/// Whom a file with this name belongs to.
fn owner(name: &str) -> Option<Owner> {
    let name = match name.split_once(LIVE) {
        Some((name, run)) => run.parse::<u64>().ok().map(|_| name)?,
        None => name.strip_suffix(PART).unwrap_or(name),
    };
    whose(name).map(|(owner, _)| owner)
}

/// Whose output a whole one with this name is, and which.
fn whose(name: &str) -> Option<(Owner, Stream)> {
    let copied = match (name.strip_prefix(CONTENT), name.strip_prefix(COPY)) {
        (Some(id), _) => Some(Owner::Content(id.parse().ok()?)),
        (None, Some(ticket)) => Some(Owner::Copy(Ticket(ticket.parse().ok()?))),
        (None, None) => None,
    };
    if let Some(owner) = copied {
        return Some((owner, Stream::Stdout));
    }
    let (name, stream) = name.split_once('.')?;
    let stream = Stream::ALL.into_iter().find(|known| known.as_str() == stream)?;
    let owner = match name.strip_prefix("out-") {
        Some(id) => Owner::Out(id.parse().ok()?),
        None => Owner::In(Ticket(name.strip_prefix("in-")?.parse().ok()?)),
    };
    Some((owner, stream))
}

/// An output that a method is writing. It goes when it is dropped before it is finished.
#[derive(Debug)]
pub(crate) struct Writing {
    place: Place,
    file: File,
    len: u64,
    hash: blake3::Hasher,
    whole: bool,
}

impl Writing {
    /// Adds bytes at the end. After an error nothing more may be added; what was there before can still be finished.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // Part of it may be there: the file is cut back to what is counted.
            self.file.set_len(self.len)?;
            return Err(error);
        }
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Bytes that are in it.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Makes an empty one into what `from` is at this moment, where the file system can have both share their blocks. Says
    /// whether it could; `read` is told of each block, and ends it with its error.
    pub(crate) fn share(&mut self, from: &File, mut read: impl FnMut() -> io::Result<()>) -> io::Result<bool> {
        if self.len > 0 || rustix::fs::ioctl_ficlone(&self.file, from).is_err() {
            return Ok(false);
        }
        self.file.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; HASH_BYTES];
        loop {
            read()?;
            match self.file.read(&mut buffer)? {
                0 => return Ok(true),
                n => {
                    self.hash.update(buffer.get(..n).unwrap_or_default());
                    self.len += n as u64;
                }
            }
        }
    }

    /// What is in it, if that is a text of at most `len` bytes.
    pub(crate) fn short(&mut self, len: usize) -> io::Result<Option<String>> {
        if self.len > len as u64 {
            return Ok(None);
        }
        self.file.seek(SeekFrom::Start(0))?;
        let mut bytes = Vec::with_capacity(len);
        Read::by_ref(&mut self.file).take(len as u64).read_to_end(&mut bytes)?;
        Ok(String::from_utf8(bytes).ok())
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.len, self.hash) = (0, blake3::Hasher::new());
        Ok(())
    }

    /// Makes it durable under its name, and says how long it is and its BLAKE3 hash. An empty one is removed: nobody would ask for
    /// it, and nobody would remove it later.
    pub(crate) fn finish(mut self) -> io::Result<(u64, [u8; 32])> {
        if self.len > 0 {
            self.place.publish(&self.file)?;
            self.whole = true;
        }
        Ok((self.len, *self.hash.finalize().as_bytes()))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.whole
            && let Err(error) = fs::remove_file(self.place.path(&self.place.part))
        {
            tracing::debug!(%error, file = self.place.part, "a half output stays until the next start");
        }
    }
}

/// An output that is being fetched. What is there stays when this is dropped, and is gone on with later.
#[derive(Debug)]
pub(crate) struct Fetching {
    place: Place,
    file: File,
    have: u64,
    whole: bool,
}

impl Fetching {
    /// The folder that it is in.
    pub(crate) fn folder(&self) -> PathBuf {
        self.place.folder.path()
    }

    /// Bytes that are here, without a gap.
    pub(crate) fn have(&self) -> u64 {
        self.have
    }

    /// Adds bytes if they begin where the file ends; others are dropped. Returns what is here afterwards.
    pub(crate) fn append(&mut self, offset: u64, bytes: &[u8]) -> io::Result<u64> {
        if self.whole || offset != self.have {
            return Ok(self.have);
        }
        if let Err(error) = crash_points::write_all(Point::InChunk, &mut self.file, bytes) {
            // Part of it may be there: the file is cut back to what we have told.
            self.file.set_len(self.have)?;
            return Err(error);
        }
        self.have += bytes.len() as u64;
        Ok(self.have)
    }

    /// Compares the BLAKE3 hash of what is here. If it is the right one, the file is whole, durable and has its name;
    /// if not, it is empty again. Says which.
    pub(crate) fn seal(&mut self, hash: &[u8; 32]) -> io::Result<bool> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut found = blake3::Hasher::new();
        let mut buffer = vec![0; HASH_BYTES];
        loop {
            match self.file.read(&mut buffer)? {
                0 => break,
                n => found.update(buffer.get(..n).unwrap_or_default()),
            };
        }
        if found.finalize() != *hash {
            if self.whole {
                let Place { whole, part, .. } = &self.place;
                fs::rename(self.place.path(whole), self.place.path(part))?;
                self.file = self.place.open(part, OpenOptions::new().read(true).append(true))?;
                self.whole = false;
            }
            self.file.set_len(0)?;
            self.have = 0;
            return Ok(false);
        }
        if !self.whole {
            self.place.publish(&self.file)?;
            self.whole = true;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const TICKET: Ticket = Ticket(7);
    const ID: MessageId = MessageId(0x0193_0000_0000_7000_8000_0000_0000_0001);

    #[test]
    fn an_output_has_its_name_when_it_is_whole_only() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut writing = blobs.write(TICKET, Stream::Stdout).unwrap();
        writing.append(b"hello ").unwrap();
        writing.append(b"world").unwrap();
        let path = blobs.path(Owner::In(TICKET), Stream::Stdout);
        assert!(!path.exists());
        assert_eq!(writing.finish().unwrap(), (11, *blake3::hash(b"hello world").as_bytes()));
        assert_eq!(fs::read(&path).unwrap(), b"hello world");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let read = |offset, len| blobs.read(Owner::In(TICKET), Stream::Stdout, offset, len).unwrap();
        assert_eq!(read(6, 3), b"wor");
        assert_eq!(read(6, 300), b"world");
        assert_eq!(read(60, 3), b"");

        drop(blobs.write(TICKET, Stream::Stderr).unwrap());
        assert_eq!(fs::read_dir(blobs.dir()).unwrap().count(), 1, "what is given up goes");
        assert_eq!(blobs.write(TICKET, Stream::Stderr).unwrap().finish().unwrap().0, 0);
        assert_eq!(fs::read_dir(blobs.dir()).unwrap().count(), 1, "and so does what is empty");
        blobs.remove(Owner::In(TICKET)).unwrap();
        blobs.remove(Owner::In(TICKET)).unwrap();
        assert_eq!(fs::read_dir(blobs.dir()).unwrap().count(), 0);
    }

    #[test]
    fn a_fetched_output_grows_without_gaps_over_restarts_and_must_have_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let mut fetching = blobs.fetch(ID, Stream::Stdout).unwrap();
        assert_eq!(fetching.append(0, b"abc").unwrap(), 3);
        assert_eq!(fetching.append(0, b"abc").unwrap(), 3, "a repetition changes nothing");
        assert_eq!(fetching.append(5, b"x").unwrap(), 3, "nor does a gap");
        drop(fetching);
        let mut fetching = blobs.fetch(ID, Stream::Stdout).unwrap();
        assert_eq!(fetching.append(3, b"de").unwrap(), 5);
        assert!(!fetching.seal(blake3::hash(b"other").as_bytes()).unwrap());
        assert_eq!(fetching.have(), 0);
        fetching.append(0, b"abcde").unwrap();
        assert!(fetching.seal(blake3::hash(b"abcde").as_bytes()).unwrap());
        assert_eq!(fs::read(blobs.path(Owner::Out(ID), Stream::Stdout)).unwrap(), b"abcde");
        let mut again = blobs.fetch(ID, Stream::Stdout).unwrap();
        assert_eq!((again.have(), again.append(5, b"f").unwrap()), (5, 5), "whole is whole");
        assert!(again.seal(blake3::hash(b"abcde").as_bytes()).unwrap());
        assert!(!again.seal(blake3::hash(b"abcdef").as_bytes()).unwrap());
        assert_eq!(blobs.fetch(ID, Stream::Stdout).unwrap().have(), 0);
    }

    #[test]
    fn what_was_followed_is_the_beginning_of_what_is_fetched_unless_that_can_not_be() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let begin = |run, bytes: &[u8]| blobs.live(ID, Stream::Stdout, run).unwrap().append(0, bytes).unwrap();
        let names = || {
            let names =
                fs::read_dir(blobs.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<Vec<_>>()
        };
        begin(5, b"old");
        begin(7, b"abc");
        assert_eq!(blobs.live(ID, Stream::Stdout, 7).unwrap().have(), 3);
        assert_eq!(blobs.lives().unwrap(), [(ID, 5, Stream::Stdout), (ID, 7, Stream::Stdout)]);
        blobs.adopt(ID, Stream::Stderr, 9).unwrap();
        blobs.adopt(ID, Stream::Stdout, 5).unwrap();
        let mut fetching = blobs.fetch(ID, Stream::Stdout).unwrap();
        assert_eq!((fetching.have(), names().len()), (3, 1));
        fetching.append(3, b"de").unwrap();
        assert!(fetching.seal(blake3::hash(b"abcde").as_bytes()).unwrap());
        // Neither beside what is here, nor where it is more than there is.
        for len in [5, 2] {
            begin(8, b"abc");
            blobs.adopt(ID, Stream::Stdout, len).unwrap();
            assert_eq!(names().len(), usize::from(len == 5), "{:?}", names());
            blobs.remove(Owner::Out(ID)).unwrap();
        }
        begin(8, b"a");
        begin(9, b"b");
        blobs.remove_live(ID, Some(9)).unwrap();
        assert_eq!(names(), [format!("out-{ID}.stdout.live-9")]);
        assert_eq!(blobs.remove_leftovers(&|owner| owner != Owner::Out(ID)).unwrap(), 1);
    }

    #[test]
    fn leftovers_go_and_what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        drop(blobs.fetch(ID, Stream::Stdout).unwrap());
        drop(blobs.fetch(MessageId(2), Stream::Stderr).unwrap());
        for ticket in [TICKET, Ticket(8)] {
            let mut writing = blobs.write(ticket, Stream::Stdout).unwrap();
            writing.append(b"hello").unwrap();
            writing.finish().unwrap();
        }
        fs::write(dir.path().join(FOLDER).join("notes.txt"), "mine").unwrap();
        let known = [Owner::Out(ID), Owner::In(TICKET)];
        assert_eq!(blobs.remove_leftovers(&|owner| known.contains(&owner)).unwrap(), 2);
        assert_eq!(fs::read_dir(blobs.dir()).unwrap().count(), 3);
        assert_eq!(blobs.remove_leftovers(&|_| false).unwrap(), 2);
    }
}
