//! One file of messages that was renamed aside (`inmsg.taken-<id>`): read to its end and beyond it, for as long as a
//! writer that opened it before may add to it; removed when everything in it is durable.
//!
//! A crash at any moment loses nothing, because the file is there until then, and doubles nothing, because the id of a
//! message follows from the file's name and the message's place: the engine knows it from the first time.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use protocol::message::Message;
use protocol::time::Mono;
use tokio::io::AsyncReadExt as _;

use super::holders::{self, Holders};
use super::ids::{FILE_BYTES_MAX, FileId};
use super::inmsg::Timing;
use super::input::MessageInput;
use super::rejected::{self, Part};
use super::split::{Piece, Place, Splitter};
use super::{CHUNK_BYTES_MAX, CHUNK_MESSAGES_MAX, Intake, IntakeError};
use crate::audit::By;
use crate::crash_points::{Point, reach};
use crate::own_file;

/// Bytes that are read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// Bytes that are read before other files have their turn.
const TURN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Looks in a row that must find nobody who has the file open.
const CLEAN_LOOKS: u32 = 2;

/// So much longer are the pauses between looks at a file that somebody keeps open for long.
const KEPT_FACTOR: u32 = 15;

/// What the names of taken files begin with.
pub(crate) const PREFIX: &str = "inmsg.taken-";

/// Why a file can't be read on for now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakenError {
    /// The engine doesn't take the messages.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The file system.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
}

/// How far a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more to be read at once.
    More,
    /// Everything in it is taken in, but somebody may add to it.
    Waits,
    /// It is done and removed.
    Done,
}

/// A file that was renamed aside.
#[derive(Debug)]
pub(crate) struct TakenFile {
    id: FileId,
    dir: PathBuf,
    path: PathBuf,
    file: tokio::fs::File,
    splitter: Splitter,
    /// Read, and not accepted yet.
    messages: Vec<Message>,
    /// Read, and not set aside yet.
    parts: Vec<Part>,
    parts_seen: u64,
    accepted: u64,
    /// When it last grew, and when it was last looked who has it open.
    grown: Mono,
    looked: Mono,
    clean_looks: u32,
    holder: Option<u32>,
    /// Bytes whose text is erased.
    erased: u64,
}

impl TakenFile {
    /// The name of a taken file.
    pub(crate) fn name(id: FileId) -> String {
        format!("{PREFIX}{id}")
    }

    /// Opens the file with this id in the node's directory.
    pub(crate) async fn open(dir: &Path, id: FileId, now: Mono) -> io::Result<Self> {
        let path = dir.join(Self::name(id));
        let opened = path.clone();
        let file = tokio::fs::File::from_std(blocking(move || own_file::read(&opened)).await??);
        Ok(Self {
            id,
            dir: dir.to_owned(),
            path,
            file,
            splitter: Splitter::new(),
            messages: Vec::new(),
            parts: Vec::new(),
            parts_seen: 0,
            accepted: 0,
            grown: now,
            looked: now,
            clean_looks: 0,
            holder: None,
            erased: 0,
        })
    }

    /// The process that is known to have it open.
    pub(crate) fn holder(&self) -> Option<u32> {
        self.holder
    }

    /// Reads what there is, hands it on, and removes the file when nobody can add to it. After an error it goes on where
    /// it was.
    pub(crate) async fn go_on(&mut self, intake: &Intake, timing: &Timing, now: Mono) -> Result<Progress, TakenError> {
        let before = self.splitter.offset();
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            self.hand_on(intake).await?;
            let count = self.file.read(&mut block).await.map_err(|error| TakenError::Io("reading", error))?;
            if count == 0 {
                break;
            }
            self.take_in(&block[..count], intake).await?;
            if self.splitter.offset() - before >= TURN_BYTES_MAX {
                self.grown = now;
                return Ok(Progress::More);
            }
        }
        if self.splitter.offset() > before {
            (self.grown, self.looked, self.clean_looks) = (now, now, 0);
            return Ok(Progress::Waits);
        }
        // Looking costs some milliseconds; at somebody who keeps it open for long, it is done less often.
        let kept = self.holder.is_some() && now.since(self.grown) >= timing.erase;
        let pause = if kept { timing.settle * KEPT_FACTOR } else { timing.settle };
        if now.since(self.looked) < pause || !self.is_left(timing, now).await {
            return Ok(Progress::Waits);
        }
        self.finish(intake).await
    }

    async fn take_in(&mut self, bytes: &[u8], intake: &Intake) -> Result<(), TakenError> {
        if self.splitter.offset() + bytes.len() as u64 > FILE_BYTES_MAX {
            let error =
                io::Error::other(format!("a file of messages may have {FILE_BYTES_MAX} bytes; this one has more"));
            return Err(TakenError::Io("reading", error));
        }
        let mut pieces = Vec::new();
        self.splitter.push(bytes, &mut pieces);
        self.sort(pieces, intake);
        Ok(())
    }

    fn sort(&mut self, pieces: Vec<Piece>, intake: &Intake) {
        for piece in pieces {
            let part = match piece {
                Piece::Broken { at, seen, reason, text } => Part { number: 0, at, seen, reason, text },
                Piece::Object { at, text } => match self.read(at, &text, intake) {
                    Ok(messages) => {
                        self.messages.extend(messages);
                        continue;
                    }
                    Err((seen, reason)) => Part { number: 0, at, seen, reason, text },
                },
            };
            self.parts_seen += 1;
            self.parts.push(Part { number: self.parts_seen, ..part });
        }
    }

    fn read(&self, at: Place, text: &[u8], intake: &Intake) -> Result<Vec<Message>, (Place, String)> {
        let input: MessageInput = serde_json::from_slice(text).map_err(|error| locate(at, &error))?;
        input.check(intake.defaults(), |index| self.id.message(at.offset, index)).map_err(|reason| (at, reason))
    }

    /// Makes what was read durable, in chunks. What was handed on is not handed on again.
    async fn hand_on(&mut self, intake: &Intake) -> Result<(), TakenError> {
        while !self.messages.is_empty() {
            let mut bytes = 0;
            let fits = |message: &&Message| {
                bytes += message.body.len();
                bytes <= CHUNK_BYTES_MAX
            };
            let count = self.messages.iter().take(CHUNK_MESSAGES_MAX).take_while(fits).count().max(1);
            intake.submit_checked(self.messages[..count].to_vec(), Some(By::InputFile)).await?;
            self.messages.drain(..count);
            self.accepted += count as u64;
        }
        if self.parts.is_empty() {
            return Ok(());
        }
        let (dir, id, parts) = (self.dir.clone(), self.id, std::mem::take(&mut self.parts));
        let write = move || (rejected::write(&dir, id, &parts), parts);
        let (written, parts) = blocking(write).await.map_err(|error| TakenError::Io("setting aside", error))?;
        match written {
            Ok(path) => {
                for part in parts.iter().take(3) {
                    tracing::warn!(line = part.seen.line, column = part.seen.column, reason = %part.reason,
                        "inmsg.txt has a part that can't be read");
                }
                let path = path.unwrap_or_default();
                tracing::warn!(parts = parts.len(), first = %path.display(), "parts of inmsg.txt are set aside");
                Ok(())
            }
            Err(error) => {
                self.parts = parts;
                Err(TakenError::Io("setting aside in rejected/", error))
            }
        }
    }

    /// Whether nobody has it open any more, so that it can't grow.
    async fn is_left(&mut self, timing: &Timing, now: Mono) -> bool {
        self.looked = now;
        let name = Self::name(self.id);
        match blocking(move || holders::of(&name)).await.unwrap_or(Holders::Unknown) {
            Holders::Nobody => {
                self.holder = None;
                self.clean_looks += 1;
            }
            Holders::Process(pid) => {
                self.holder = Some(pid);
                self.clean_looks = 0;
                if now.since(self.grown) >= timing.erase {
                    self.erase().await;
                }
            }
            Holders::Unknown => {
                self.holder = None;
                self.clean_looks = if now.since(self.grown) >= timing.hidden { CLEAN_LOOKS } else { 0 };
            }
        }
        self.clean_looks >= CLEAN_LOOKS
    }

    async fn finish(&mut self, intake: &Intake) -> Result<Progress, TakenError> {
        let mut pieces = Vec::new();
        self.splitter.finish(&mut pieces);
        self.sort(pieces, intake);
        self.hand_on(intake).await?;
        let length = self.file.metadata().await.map_err(|error| TakenError::Io("looking at its size", error))?.len();
        if length > self.splitter.offset() {
            return Ok(Progress::More);
        }
        reach(Point::InputRead);
        let (path, dir) = (self.path.clone(), self.dir.clone());
        let remove = move || fs::remove_file(path).and_then(|()| fs::File::open(dir)?.sync_all());
        blocking(remove).await.and_then(|removed| removed).map_err(|error| TakenError::Io("removing", error))?;
        if self.splitter.offset() > 0 {
            tracing::info!(messages = self.accepted, rejected = self.parts_seen, "inmsg.txt is taken in");
        }
        Ok(Progress::Done)
    }

    /// Overwrites what is taken in with blanks, in a file that somebody keeps open for long: its messages may be
    /// forgotten one day, and must not be read again after that.
    async fn erase(&mut self) {
        let (from, to) = (self.erased, self.splitter.offset());
        if from >= to || !self.splitter.is_between() {
            return;
        }
        let path = self.path.clone();
        match blocking(move || blank(&path, from, to)).await.and_then(|blanked| blanked) {
            Ok(()) => self.erased = to,
            Err(error) => tracing::warn!(file = %self.path.display(), %error, "can't erase what is taken in"),
        }
    }
}

/// Runs what blocks beside the runtime.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

fn blank(path: &Path, from: u64, to: u64) -> io::Result<()> {
    let file = own_file::open(path, OpenOptions::new().read(true).write(true))?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut at = from;
    while at < to {
        let length = block.len().min(usize::try_from(to - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut block[..length], at)?;
        for byte in block[..length].iter_mut().filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
        file.write_all_at(&block[..length], at)?;
        at += length as u64;
    }
    file.sync_data()
}

/// Where in the stream an error in the text of a message lies, and what it says.
pub(super) fn locate(at: Place, error: &serde_json::Error) -> (Place, String) {
    let (line, column) = (error.line() as u64, error.column() as u64);
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(&*text, |(reason, _)| reason).to_owned();
    let place = match line {
        0 => at,
        1 => Place { column: (at.column + column).saturating_sub(1).max(1), ..at },
        _ => Place { line: at.line + line - 1, column: column.max(1), ..at },
    };
    (place, reason)
}
