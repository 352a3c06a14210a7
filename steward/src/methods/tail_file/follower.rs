//! Files that are followed: which there are, how far each was read, and what is new in them. It holds them open, so that one that
//! is renamed or removed is read to its end; what has become of them while nobody looked is found out in `rotation`.
//!
//! What it knows is a text (the cursor) that goes with the lines that it has given out: whoever keeps both together, and begins
//! again with that text, gets each line once. Calls block as reading files does.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ask::{Ask, From};
use super::identity::{Identity, PRINT_BYTES, Print};
use super::lines::{Place, Rate, Taker, Totals, mark};
use super::rotation::{self, Opened};

/// Files that are followed at the same time; of more that fit, those that come later in the order of their names are not.
pub(super) const FILES_MAX: usize = 64;

/// Files that are known to be read, so that they are not read again under another name. Beyond it, the longest known is forgotten.
pub(super) const DONE_MAX: usize = 128;

/// Bytes that are read at once; longer than a line may be.
const BLOCK_BYTES: usize = 256 * 1024;

/// Bytes that one pass reads at most, so that its end can be kept.
const PASS_BYTES: u64 = 8 * 1024 * 1024;

/// How long a file that was rotated is looked at after it has grown last: a program may write into it until it is told.
pub(super) const LINGER: Duration = Duration::from_secs(600);

/// Marks that may wait to be sent. Beyond it only the bytes are counted.
const MARKS_MAX: usize = 64;

/// What a file is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// It has the name by which it was found.
    Current,
    /// Another one has that name now, or none.
    Rotated,
    /// It was read.
    Done,
    /// It holds what was read in another file.
    Copy,
}

/// A file that is known.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tracked {
    /// The path by which it was found, and under which its lines are sent.
    pub(super) label: String,
    pub(super) role: Role,
    pub(super) identity: Identity,
    pub(super) place: Place,
    pub(super) print: Print,
    /// The most bytes that it was seen to have.
    pub(super) seen: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub(super) changed: i128,
    #[serde(skip)]
    pub(super) file: Option<File>,
    /// When it was seen to grow last.
    #[serde(skip)]
    pub(super) grown: Duration,
    /// Whether it was there in the last look, under whatever name that fits.
    #[serde(skip)]
    pub(super) is_there: bool,
    /// Whether it had its path then.
    #[serde(skip)]
    pub(super) has_path: bool,
    /// When it was looked for last.
    #[serde(skip)]
    pub(super) looked: Option<Duration>,
    /// When files were looked for last that have come and gone since.
    #[serde(skip)]
    pub(super) searched: Option<Duration>,
}

impl Tracked {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.role, Role::Current | Role::Rotated)
    }
}

/// Follows files.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) ask: Ask,
    /// The files that have been known for longest first: of one path, the older ones before the younger ones.
    pub(super) files: Vec<Tracked>,
    pub(super) marks: Vec<(String, String)>,
    pub(super) totals: Totals,
    /// Whether it was looked before: what comes now is new.
    pub(super) has_begun: bool,
    /// The folders in which something may come.
    pub(super) folders: Vec<PathBuf>,
    /// Why not all is followed that fits, in words.
    pub(super) over: Option<String>,
    rate: Rate,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Cursor<T> {
    version: u32,
    files: T,
    marks: Vec<(String, String)>,
    totals: Totals,
}

/// The version of the cursor that is written and understood.
const VERSION: u32 = 1;

/// Lines of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// The path by which it was found.
    pub(super) label: String,
    pub(super) bytes: Vec<u8>,
}

/// What is new.
#[derive(Debug, Default)]
pub(super) struct Pass {
    pub(super) pieces: Vec<Piece>,
    /// There is more at once.
    pub(super) more: bool,
}

/// How far it came in a file.
enum Read {
    /// There is nothing more now.
    All,
    /// There is more than could be taken.
    Some,
    /// It was written anew, and nothing was read.
    Anew,
}

impl Follower {
    /// Begins.
    pub(super) fn new(ask: Ask) -> Self {
        let rate = Rate::new(ask.rate, Duration::ZERO);
        let (files, marks, folders) = (Vec::new(), Vec::new(), Vec::new());
        Self { ask, files, marks, totals: Totals::default(), has_begun: false, folders, over: None, rate }
    }

    /// Goes on from a cursor, after it was away for so long.
    pub(super) fn resume(ask: Ask, cursor: &str, away: Duration) -> Result<Self, String> {
        let Cursor { version, files, marks, totals } = serde_json::from_str::<Cursor<Vec<Tracked>>>(cursor)
            .map_err(|error| format!("how far it had come can't be read any more ({error}); begin anew"))?;
        if version != VERSION {
            return Err(format!(
                "how far it had come was written by another version of steward ({version}); begin anew"
            ));
        }
        let rate = Rate::new(ask.rate, away);
        Ok(Self { files, marks, totals, has_begun: true, rate, ..Self::new(ask) })
    }

    /// What goes with all that was given out until now.
    pub(super) fn cursor(&self) -> String {
        let cursor = Cursor { version: VERSION, files: &self.files, marks: self.marks.clone(), totals: self.totals };
        // There is nothing in it that has no JSON form.
        serde_json::to_string(&cursor).unwrap_or_default()
    }

    /// What was done so far.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// Nothing could be sent for so long, so nothing was read.
    pub(super) fn held(&mut self, time: Duration) {
        self.rate.held(time);
    }

    /// Whether something is to be said of lines that were left out, once the time for which they are counted is over.
    pub(super) fn owes_a_mark(&self) -> bool {
        self.files.iter().any(|tracked| tracked.place.owes_a_mark())
    }

    /// Looks what is new, in up to `room` pieces. The time is that since some point.
    pub(super) fn pass(&mut self, now: Duration, room: usize) -> Pass {
        rotation::look(self, now);
        let mut pass = Pass::default();
        self.send_marks(&mut pass, room);
        let (mut busy, mut left): (Vec<String>, u64) = (Vec::new(), PASS_BYTES);
        let (mut index, mut anew) = (0, 0);
        while let Some(tracked) = self.files.get(index) {
            // What is older of the same path goes first.
            if !tracked.is_open() || busy.contains(&tracked.label) {
                index += 1;
                continue;
            }
            let label = tracked.label.clone();
            match self.read(index, now, room, &mut pass, &mut left) {
                Ok(Read::Anew) if anew < FILES_MAX => {
                    anew += 1;
                    continue;
                }
                Ok(Read::All) => {}
                Ok(Read::Some | Read::Anew) => busy.push(label),
                Err(error) => {
                    tracing::debug!(%error, file = label, "can't be read now; it is tried again");
                    busy.push(label);
                }
            }
            index += 1;
        }
        pass.pieces.retain(|piece| !piece.bytes.is_empty());
        pass.more = !busy.is_empty() && (left == 0 || pass.pieces.len() >= room);
        pass
    }

    /// What is to be said of files that are gone.
    fn send_marks(&mut self, pass: &mut Pass, room: usize) {
        while let Some((label, _)) = self.marks.first() {
            let Some(piece) = piece_of(pass, label, room) else { return };
            let (_, text) = self.marks.remove(0);
            piece.bytes.extend_from_slice(mark(&text).as_bytes());
        }
    }

    /// Reads on in a file.
    fn read(&mut self, index: usize, now: Duration, room: usize, pass: &mut Pass, left: &mut u64) -> io::Result<Read> {
        match rotation::open(self, index, now)? {
            Opened::Yes => {}
            Opened::No => return Ok(Read::All),
            Opened::Anew => return Ok(Read::Anew),
        }
        let Self { ask, files, rate, totals, .. } = self;
        let Some(tracked) = files.get_mut(index) else { return Ok(Read::All) };
        let Tracked { label, role, place, print, seen, grown, file: Some(file), .. } = tracked else {
            return Ok(Read::All);
        };
        let size = file.metadata()?.len();
        if size > *seen {
            (*seen, *grown) = (size, now);
        }
        let is_over = *role == Role::Rotated && now >= *grown + LINGER;
        let mut taker = Taker { ask, rate, totals, now };
        let mut block = Vec::new();
        while place.offset < size {
            let Some(piece) = piece_of(pass, label, room) else { return Ok(Read::Some) };
            if !taker.has_room(&piece.bytes) {
                if pass.pieces.len() >= room {
                    return Ok(Read::Some);
                }
                pass.pieces.push(Piece { label: label.clone(), bytes: Vec::new() });
                continue;
            }
            if *left == 0 {
                return Ok(Read::Some);
            }
            let wanted = usize::try_from(size - place.offset).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            block.resize(wanted, 0);
            let read = file.read_at(&mut block, place.offset)?;
            let ended = is_over && place.offset + read as u64 >= size;
            let taken = taker.take(block.get(..read).unwrap_or_default(), ended, place, &mut piece.bytes);
            *left = left.saturating_sub(taken as u64);
            if taken == 0 {
                break;
            }
        }
        if let Some(piece) = piece_of(pass, label, room) {
            taker.settle(place, &mut piece.bytes);
        }
        let settled = place.offset.min(PRINT_BYTES as u64);
        if print.len < settled {
            *print = Print::of(file, settled)?;
        }
        if is_over && place.offset >= size && !place.owes_a_mark() {
            *role = Role::Done;
            tracked.file = None;
        }
        Ok(Read::All)
    }

    /// Notes that bytes of a file are lost.
    pub(super) fn lose(&mut self, label: &str, bytes: u64, text: String) {
        self.totals.lost_bytes += bytes;
        if self.marks.len() < MARKS_MAX {
            self.marks.push((label.to_owned(), text));
        }
    }

    /// A file that is there when all begins, or comes later.
    pub(super) fn begin_at(&self, size: u64) -> u64 {
        match self.ask.from {
            From::End if !self.has_begun => size,
            From::End | From::Start => 0,
        }
    }
}

/// The piece into which lines of this path go; none where there is no room for another.
fn piece_of<'a>(pass: &'a mut Pass, label: &str, room: usize) -> Option<&'a mut Piece> {
    if pass.pieces.last().is_none_or(|piece| piece.label != label) {
        // One that has remained empty is of no use to anybody.
        pass.pieces.retain(|piece| !piece.bytes.is_empty());
        if pass.pieces.len() >= room {
            return None;
        }
        pass.pieces.push(Piece { label: label.to_owned(), bytes: Vec::new() });
    }
    pass.pieces.last_mut()
}
