//! Writing outputs that are followed: like those that are fetched, a piece is taken only where the file ends. Each run has
//! files of its own; those of an earlier one go when the next has begun to write.

use std::collections::BTreeMap;
use std::io;

use protocol::message::MessageId;
use protocol::name::NodeName;
use protocol::outcome::Stream;

use super::audience::{Audience, FOLLOWED_MAX, Want};
use crate::blobs::{Blobs, Fetching};
use crate::broker::wire::live::{Piece, index};

/// The outputs that are followed. Everything here blocks.
pub(super) struct LiveFiles {
    blobs: Blobs,
    audience: Audience,
    open: BTreeMap<MessageId, Open>,
}

#[derive(Default)]
struct Open {
    run: u64,
    /// The run before: pieces of it may still be on their way.
    past: u64,
    files: [Option<Fetching>; 2],
}

impl Open {
    fn have(&self) -> [u64; 2] {
        self.files.each_ref().map(|file| file.as_ref().map_or(0, Fetching::have))
    }
}

impl LiveFiles {
    pub(super) fn new(blobs: Blobs, audience: Audience) -> Self {
        Self { blobs, audience, open: BTreeMap::new() }
    }

    /// Looks once what an earlier process has left.
    pub(super) fn look(&self) -> io::Result<()> {
        self.audience.lives().extend(self.blobs.lives()?.into_iter().map(|(id, _, _)| id));
        Ok(())
    }

    fn has(&self, id: MessageId) -> bool {
        self.audience.lives().contains(&id)
    }

    /// Does what is wanted of the files.
    pub(super) fn want(&mut self, want: Want) -> io::Result<()> {
        match want {
            Want::Open(id) => {
                let open = self.open(id)?;
                let (run, have) = (open.run, open.have());
                self.audience.opened(id, run, have);
            }
            Want::Close(id) => {
                // Somebody else may have begun to look on meanwhile.
                if !self.audience.has(id) {
                    self.open.remove(&id);
                }
            }
            Want::Forget(id) => {
                self.open.remove(&id);
                if self.has(id) {
                    self.blobs.remove_live(id, None)?;
                    self.audience.lives().remove(&id);
                }
            }
        }
        Ok(())
    }

    /// The files of a message, with what is here from before.
    fn open(&mut self, id: MessageId) -> io::Result<&mut Open> {
        if self.open.len() >= 2 * FOLLOWED_MAX {
            self.open.retain(|id, _| self.audience.has(*id));
        }
        if !self.open.contains_key(&id) {
            let lives = if self.has(id) { self.blobs.lives()? } else { Vec::new() };
            let run = lives.iter().filter(|(of, _, _)| *of == id).map(|(_, run, _)| *run).max().unwrap_or(0);
            let mut open = Open { run, ..Open::default() };
            for (_, _, stream) in lives.into_iter().filter(|(of, is, _)| (*of, *is) == (id, run)) {
                open.files[index(stream)] = Some(self.blobs.live(id, stream, run)?);
            }
            self.open.insert(id, open);
        }
        Ok(self.open.entry(id).or_default())
    }

    /// Adds a piece if somebody follows its message and it fits.
    pub(super) fn append(&mut self, from: &NodeName, piece: &Piece) -> io::Result<()> {
        let Piece { id, run, stream, offset, lengths, .. } = *piece;
        if !self.audience.is_of(id, from) {
            return Ok(());
        }
        let (blobs, audience) = (self.blobs.clone(), self.audience.clone());
        let open = self.open(id)?;
        if run == open.past {
            return Ok(());
        }
        if run != open.run {
            if offset != 0 {
                audience.gap(id);
                return Ok(());
            }
            let past = std::mem::replace(open, Open { run, past: open.run, files: [None, None] }).run;
            if past > 0 {
                blobs.remove_live(id, Some(run))?;
            }
        }
        let file = match &mut open.files[index(stream)] {
            Some(file) => file,
            none => {
                audience.lives().insert(id);
                none.insert(blobs.live(id, stream, run)?)
            }
        };
        match file.have().checked_sub(offset) {
            None => audience.gap(id),
            Some(known) => {
                let known = usize::try_from(known).unwrap_or(usize::MAX);
                if let Some(new) = piece.bytes.get(known..).filter(|new| !new.is_empty()) {
                    file.append(file.have(), new)?;
                }
            }
        }
        audience.grew(id, run, open.have(), lengths);
        Ok(())
    }

    /// Has what was followed of an output be the beginning of what is fetched, which has `len` bytes.
    pub(super) fn adopt(&mut self, id: MessageId, stream: Stream, len: u64) -> io::Result<()> {
        if let Some(open) = self.open.get_mut(&id) {
            open.files[index(stream)] = None;
        }
        if self.has(id) { self.blobs.adopt(id, stream, len) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const ID: MessageId = MessageId(0x0193_0000_0000_7000_8000_0000_0000_0001);

    fn piece(run: u64, stream: Stream, offset: u64, text: &'static str) -> Piece {
        let bytes = Bytes::from_static(text.as_bytes());
        Piece { id: ID, run, stream, offset, lengths: [100, 100], bytes }
    }

    #[tokio::test]
    async fn each_byte_is_taken_once_whatever_comes_again_or_too_early() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let (ship, other) = (NodeName::new("ship1").unwrap(), NodeName::new("ship2").unwrap());
        let (audience, mut wanted) = Audience::new();
        let mut files = LiveFiles::new(blobs.clone(), audience.clone());
        files.append(&ship, &piece(5, Stream::Stdout, 0, "nobody looks on")).unwrap();
        let attached = audience.attach(ID, &ship, false).await.unwrap();
        files.want(wanted.recv().await.unwrap()).unwrap();
        assert_eq!(audience.due().len(), 1);
        let text = |run| {
            let mut text = String::new();
            let file = blobs.open_live(ID, Stream::Stdout, run);
            file.and_then(|mut file| io::Read::read_to_string(&mut file, &mut text)).unwrap_or_default();
            text
        };
        let is_due = || {
            let is_due = audience.pause().unwrap() < std::time::Duration::from_millis(600);
            audience.link_up();
            audience.due();
            is_due
        };
        files.append(&other, &piece(5, Stream::Stdout, 0, "not its message")).unwrap();
        files.append(&ship, &piece(5, Stream::Stdout, 3, "has no beginning")).unwrap();
        assert_eq!((text(5), is_due()), (String::new(), true));
        files.append(&ship, &piece(5, Stream::Stdout, 0, "abc")).unwrap();
        files.append(&ship, &piece(5, Stream::Stdout, 1, "bcde")).unwrap();
        files.append(&ship, &piece(5, Stream::Stdout, 2, "c")).unwrap();
        files.append(&ship, &piece(5, Stream::Stderr, 0, "")).unwrap();
        assert_eq!(text(5), "abcde");
        files.append(&ship, &piece(5, Stream::Stdout, 7, "gap")).unwrap();
        assert_eq!((text(5), is_due()), ("abcde".to_owned(), true));
        let now = *attached.grown.borrow();
        assert_eq!((now.run, now.have, now.is_caught_up()), (5, [5, 0], false));

        files.append(&ship, &piece(9, Stream::Stdout, 0, "again")).unwrap();
        files.append(&ship, &piece(5, Stream::Stdout, 5, "late")).unwrap();
        assert_eq!((text(5), text(9)), (String::new(), "again".to_owned()));
        drop(attached);
        files.append(&ship, &piece(9, Stream::Stdout, 5, "nobody looks on any more")).unwrap();
        assert_eq!(text(9), "again");

        // Another process goes on with it, and the end makes it the beginning of what is fetched.
        let (audience, mut wanted) = Audience::new();
        let mut files = LiveFiles::new(blobs.clone(), audience.clone());
        files.look().unwrap();
        let attached = audience.attach(ID, &ship, false).await.unwrap();
        files.want(wanted.recv().await.unwrap()).unwrap();
        assert_eq!((attached.grown.borrow().run, attached.grown.borrow().have), (9, [5, 0]));
        assert_eq!(audience.due()[0].follow.have, [5, 0]);
        files.adopt(ID, Stream::Stdout, 8).unwrap();
        assert_eq!(blobs.fetch(ID, Stream::Stdout).unwrap().have(), 5);
        files.want(Want::Forget(ID)).unwrap();
        assert!(audience.lives().is_empty() && blobs.lives().unwrap().is_empty());
    }
}
