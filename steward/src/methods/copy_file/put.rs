//! `put`: what goes along with the message becomes a file. It is asked for piece by piece from where the last one ended, lies in
//! `blobs/` until it is whole and its hash is right, and then gets its place in one go. A second run after a crash goes on where
//! the first one was, and finds it done where it was done.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::Path;
use std::time::Duration;

use protocol::event::Ticket;
use protocol::message::MessageId;
use protocol::outcome::{Final, Stream};

use super::super::context::Stop;
use super::super::{Ending, MethodCtx, MethodError};
use super::order::{Delta, Put};
use crate::blobs::{Blobs, Fetching, Owner};
use crate::clock::Clock;
use crate::copies;
use crate::copies::delta::Patch;
use crate::copies::placing::Place;
use crate::engine::little_room;
use crate::results::{Came, Wanted};

/// The first, the largest and the smallest piece that is asked for at once, in bytes: twice as large while it comes quickly,
/// half as large when nothing comes.
const ASK_BYTES_START: u64 = 64 * 1024;
/// See [`ASK_BYTES_START`].
const ASK_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// See [`ASK_BYTES_START`].
const ASK_BYTES_MIN: u64 = 16 * 1024;

/// A piece that is here within this time makes the next one larger.
const QUICK: Duration = Duration::from_secs(1);

/// How long nothing may come before it is asked for again.
const AGAIN: Duration = Duration::from_secs(10);

/// How often what came may have the wrong hash.
const TRIES: u32 = 3;

/// Bytes that are read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// Why what goes along is not here.
enum Undone {
    Stopped(Stop),
    Failed(io::Error),
}

impl From<io::Error> for Undone {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Put {
    pub(super) async fn run(self, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Some((ticket, id)) = ctx.ticket().zip(ctx.runs().first().map(|run| run.message.id)) else {
            return Err(MethodError("nobody would hear whether it is whole; send it as CommandACK".to_owned()));
        };
        let (blobs, path) = (ctx.blobs().clone(), self.path.clone());
        let done = self.perform(ctx, ticket, id).await;
        let is_over = !matches!(&done, Err(Undone::Stopped(Stop::NodeStops)));
        if is_over {
            // Whoever takes it up after a crash goes on with it; nobody does after an end.
            let removed = tokio::task::spawn_blocking(move || blobs.remove(Owner::Copy(ticket))).await;
            if let Err(error) = removed.map_err(io::Error::other).flatten() {
                tracing::warn!(%id, %error, "what came of a file stays until the next start");
            }
        }
        match done {
            Ok(said) => Ok(Ending { reason: said.map(Into::into), ..Ending::because(Final::Done, "") }),
            Err(Undone::Stopped(why)) => Ok(why.ending()),
            Err(Undone::Failed(error)) => Err(MethodError(format!("{path}: {error}"))),
        }
    }

    /// Does it; says what there is to say.
    async fn perform(self, ctx: &MethodCtx<'_>, ticket: Ticket, id: MessageId) -> Result<Option<&'static str>, Undone> {
        let (dir, put) = (ctx.dir().to_owned(), self.clone());
        if blocking(move || put.is_there(&dir)).await? {
            return Ok(Some("it was there already"));
        }
        let (blobs, bytes) = (ctx.blobs().clone(), self.along().0);
        let file = blocking(move || room(blobs.dir(), bytes).and_then(|()| blobs.fetch_copy(ticket))).await?;
        let fetched = tokio::select! {
            fetched = self.fetch(ctx, file) => fetched?,
            why = ctx.stopped() => return Err(Undone::Stopped(why)),
        };
        drop(fetched);
        let (dir, blobs) = (ctx.dir().to_owned(), ctx.blobs().clone());
        blocking(move || self.place(&dir, &blobs, ticket, id)).await?;
        Ok(None)
    }

    /// The place of the file, if it may be written.
    fn target(&self, dir: &Path) -> io::Result<Place> {
        if !self.path.starts_with('/') {
            crate::own_file::make_folder(&dir.join(copies::FOLDER))?;
        }
        let place = Place::find(&copies::locate(dir, &self.path), self.name.as_deref().map(OsStr::new))?;
        if copies::is_own(dir, &place.real_folder()?) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is the node's own, which is not written"));
        }
        Ok(place)
    }

    /// Whether this very file is in its place: a run before this one came that far, or somebody has copied it before.
    fn is_there(&self, dir: &Path) -> io::Result<bool> {
        let Some(mut file) = self.target(dir)?.present() else { return Ok(false) };
        if file.metadata()?.len() != self.bytes || hash(&mut file)? != self.hash {
            return Ok(false);
        }
        self.attributes.give(&file)?;
        file.sync_all()?;
        Ok(true)
    }

    /// Asks until all of it is here, and its hash is right.
    async fn fetch(&self, ctx: &MethodCtx<'_>, mut file: Fetching) -> Result<Fetching, Undone> {
        let mut wanted = ctx.content().await.ok_or(Undone::Stopped(Stop::NodeStops))?;
        for _ in 0..TRIES {
            file = self.pieces(&mut wanted, file).await?;
            let hash = *self.along().1.as_bytes();
            let (back, is_whole) = blocking(move || file.seal(&hash).map(|is_whole| (file, is_whole))).await?;
            file = back;
            if is_whole {
                return Ok(file);
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "what came never had the hash that its sender has told").into())
    }

    /// Length and hash of what goes along.
    fn along(&self) -> (u64, blake3::Hash) {
        self.delta.as_ref().map_or((self.bytes, self.hash), |delta| (delta.bytes, delta.hash))
    }

    /// Asks for piece after piece until there are enough.
    async fn pieces(&self, wanted: &mut Wanted, mut file: Fetching) -> Result<Fetching, Undone> {
        let total = self.along().0;
        let (mut most, begun, clock) = (ASK_BYTES_START, file.have(), Clock::start());
        while file.have() < total {
            if let Some(rate) = self.rate {
                // Asked for when it may have come, and no more than a second's worth at once.
                most = most.min(rate.max(1024));
                let due = Duration::from_secs_f64((file.have() - begun) as f64 / rate as f64);
                tokio::time::sleep(due.saturating_sub(clock.elapsed())).await;
            }
            let (before, end) = (file.have(), (file.have() + most).min(total));
            wanted.ask(before, end - before).await;
            let asked = tokio::time::timeout(QUICK, std::future::pending::<()>());
            tokio::pin!(asked);
            let mut is_quick = true;
            let is_slow = loop {
                tokio::select! {
                    biased;
                    came = wanted.came() => match came {
                        Some(Came::Part(part)) if part.total == 0 => {
                            let said = "there is nothing (any more) at its sender that goes along with the message";
                            return Err(io::Error::new(io::ErrorKind::NotFound, said).into());
                        }
                        Some(Came::Part(part)) => {
                            let left = usize::try_from(total.saturating_sub(part.offset)).unwrap_or(usize::MAX);
                            let bytes = part.bytes.slice(..part.bytes.len().min(left));
                            file = blocking(move || append(&mut file, part.offset, &bytes).map(|()| file)).await?;
                            if file.have() >= end {
                                break false;
                            }
                        }
                        Some(Came::Link) => break false,
                        None => return Err(Undone::Stopped(Stop::NodeStops)),
                    },
                    _ = &mut asked, if is_quick => is_quick = false,
                    () = tokio::time::sleep(AGAIN) => break true,
                }
            };
            most = match (is_slow, is_quick) {
                (true, _) => (most / 2).max(ASK_BYTES_MIN.min(most)),
                (false, true) if file.have() >= end => (most * 2).min(ASK_BYTES_MAX),
                (false, _) => most,
            };
        }
        Ok(file)
    }

    /// Puts what is whole in its place.
    fn place(&self, dir: &Path, blobs: &Blobs, ticket: Ticket, id: MessageId) -> io::Result<()> {
        let place = self.target(dir)?;
        if let Some(delta) = &self.delta {
            return self.patch(&place, delta, blobs, ticket, id);
        }
        if self.bytes == 0 {
            return place.begin(id)?.finish(&self.attributes);
        }
        let mut file = blobs.open_whole(Owner::Copy(ticket), Stream::Stdout)?;
        if place.move_in(&file, &blobs.path(Owner::Copy(ticket), Stream::Stdout), &self.attributes)? {
            return Ok(());
        }
        room(&place.real_folder()?, self.bytes)?;
        let (mut aside, mut buffer) = (place.begin(id)?, vec![0; BLOCK_BYTES]);
        loop {
            match file.read(&mut buffer)? {
                0 => return aside.finish(&self.attributes),
                read => aside.append(buffer.get(..read).unwrap_or_default())?,
            }
        }
    }

    /// Makes the file of the version that is there and what came, and puts it in its place.
    fn patch(&self, place: &Place, delta: &Delta, blobs: &Blobs, ticket: Ticket, id: MessageId) -> io::Result<()> {
        let another =
            || io::Error::new(io::ErrorKind::InvalidData, "the file there is another one by now; copy it again");
        let mut base = place.present().ok_or_else(another)?;
        if hash(&mut base)? != delta.base {
            return Err(another());
        }
        room(&place.real_folder()?, self.bytes)?;
        let mut came = blobs.open_whole(Owner::Copy(ticket), Stream::Stdout)?;
        let (mut patch, mut aside) = (Patch::new(base, self.bytes), place.begin(id)?);
        let mut buffer = vec![0; BLOCK_BYTES];
        loop {
            match came.read(&mut buffer)? {
                0 => break,
                read => patch.push(buffer.get(..read).unwrap_or_default(), &mut |bytes| aside.append(bytes))?,
            }
        }
        if patch.hash() != self.hash {
            return Err(another());
        }
        aside.finish(&self.attributes)
    }
}

/// Adds a piece, where the disk has room for it.
fn append(file: &mut Fetching, offset: u64, bytes: &[u8]) -> io::Result<()> {
    if let Some(why) = little_room(&file.folder()) {
        return Err(io::Error::new(io::ErrorKind::StorageFull, why));
    }
    file.append(offset, bytes).map(drop)
}

/// An error where so many bytes have no room.
fn room(folder: &Path, bytes: u64) -> io::Result<()> {
    let stat = rustix::fs::statvfs(folder)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    match free >= bytes {
        true => Ok(()),
        false => {
            let said = format!("it has {bytes} bytes, and the file system has room for {free}");
            Err(io::Error::new(io::ErrorKind::StorageFull, said))
        }
    }
}

fn hash(file: &mut File) -> io::Result<blake3::Hash> {
    file.rewind()?;
    let (mut hash, mut buffer) = (blake3::Hasher::new(), vec![0; BLOCK_BYTES]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize()),
            read => hash.update(buffer.get(..read).unwrap_or_default()),
        };
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}
