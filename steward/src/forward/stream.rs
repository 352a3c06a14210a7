//! One connection as it is on its way between two nodes: what was read here and has not arrived there, and what has arrived
//! and is not written here. Everything is counted from the beginning of its direction, so whatever is lost, repeated or late
//! on the way changes nothing. It reads no clock and touches no socket.
//!
//! The end of a direction counts as one byte behind the last, so it is acknowledged and sent again as bytes are. Nothing is
//! sent again on a guess: who has waited for a while tells how much was sent (`sent`), and who hears that and misses some of it
//! says so (`again`). Two nodes on a slow link only ask each other more seldom.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::wire::forward::Frame;

/// Bytes of one direction that are kept until they have arrived, and as many that are kept until they are written.
pub(super) const WINDOW_BYTES: usize = 256 * 1024;

/// How long a word that bytes have arrived may wait for something to go along with.
const TELL_PAUSE: Duration = Duration::from_millis(100);

/// With so many bytes it waits no longer.
const TELL_BYTES: u64 = WINDOW_BYTES as u64 / 4;

/// How long to wait before it is asked what has arrived; twice as long each time, up to the longest.
const ASK_FIRST: Duration = Duration::from_secs(2);
/// See [`ASK_FIRST`].
const ASK_LAST: Duration = Duration::from_secs(30);

/// How soon what is lost may be sent again once more: several words of the same loss may be on their way.
const AGAIN_PAUSE: Duration = Duration::from_millis(300);

/// Room that a ring of bytes keeps when it is empty.
const RING_KEPT_BYTES: usize = 16 * 1024;

/// Why what the other node says can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Nonsense {
    /// It has more than was sent.
    #[error("the other node says to have more than it was sent")]
    TooMuchHad,
    /// It sent more than there was room for.
    #[error("the other node sent more than there was room for")]
    NoRoom,
    /// It sent something behind the end.
    #[error("the other node sent something behind the end")]
    BehindEnd,
}

/// What is there to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The end.
    End,
    /// Nothing yet.
    Nothing,
}

/// A connection between two nodes.
#[derive(Debug)]
pub(super) struct Stream {
    away: Away,
    near: Near,
    /// Nothing has come of the other node yet; it may not know of the connection.
    is_new: bool,
}

/// What goes to the other node.
#[derive(Debug, Default)]
struct Away {
    /// The last bytes of those that were read here: those that have not arrived.
    ring: VecDeque<u8>,
    /// Bytes that were read here.
    read: u64,
    /// Up to where it has arrived.
    acked: u64,
    /// Up to where it was sent since something was lost.
    sent: u64,
    /// Up to where it was ever sent.
    farthest: u64,
    /// Up to where the other node has room.
    room: u64,
    /// Nothing more is read here.
    ended: bool,
    /// When to ask how much has arrived; none while nothing is waited for.
    ask_at: Option<Duration>,
    pause: Duration,
    /// When it was begun anew last because something was lost.
    again_at: Option<Duration>,
}

/// What comes from the other node.
#[derive(Debug, Default)]
struct Near {
    /// What has arrived and was not taken to be written.
    ring: VecDeque<u8>,
    /// Bytes that have arrived, without gaps.
    got: u64,
    /// Bytes that were written.
    written: u64,
    ended: bool,
    /// The end has been passed on as well.
    is_over: bool,
    /// What was said last, and when to say how far it is now.
    told: u64,
    told_room: u64,
    tell_at: Option<Duration>,
    again: bool,
}

impl Away {
    /// Everything there is to send, the end counted as a byte.
    fn all(&self) -> u64 {
        self.read + u64::from(self.ended)
    }

    /// How many bytes can go now, and whether the end goes behind them.
    fn ready(&self, bytes_max: usize) -> (usize, bool) {
        let left = usize::try_from(self.read.saturating_sub(self.sent)).unwrap_or(usize::MAX);
        let room = usize::try_from(self.room.saturating_sub(self.sent)).unwrap_or(usize::MAX);
        let length = left.min(room).min(bytes_max);
        (length, self.ended && length == left && self.sent < self.all())
    }

    /// So many bytes from where it was sent up to.
    fn bytes(&self, length: usize) -> Bytes {
        let begin = self.read - self.ring.len() as u64;
        let from = usize::try_from(self.sent.saturating_sub(begin)).unwrap_or(usize::MAX);
        Bytes::from(copy(&self.ring, from, length))
    }

    /// Whether something is waited for: a word of the other node, or room there.
    fn waits(&self) -> bool {
        self.acked < self.all()
    }
}

impl Stream {
    /// A connection of which nothing has gone or come.
    pub(super) fn new() -> Self {
        let away = Away { room: WINDOW_BYTES as u64, pause: ASK_FIRST, ..Away::default() };
        // The other node is told at once that it is there.
        let near = Near { tell_at: Some(Duration::ZERO), ..Near::default() };
        Self { away, near, is_new: true }
    }

    /// How many bytes may be read here now.
    pub(super) fn read_room(&self) -> usize {
        if self.away.ended { 0 } else { WINDOW_BYTES.saturating_sub(self.away.ring.len()) }
    }

    /// Keeps bytes that were read here, not more than there is room for.
    pub(super) fn push(&mut self, now: Duration, bytes: &[u8]) {
        self.away.ring.extend(bytes);
        self.away.read += bytes.len() as u64;
        self.away.ask_at.get_or_insert(now + ASK_FIRST);
    }

    /// Nothing more is read here.
    pub(super) fn finish(&mut self, now: Duration) {
        self.away.ended = true;
        self.away.ask_at.get_or_insert(now + ASK_FIRST);
    }

    /// What is to be written here next.
    pub(super) fn take(&mut self, bytes_max: usize) -> Taken {
        let ring = &mut self.near.ring;
        if !ring.is_empty() {
            let bytes = copy(ring, 0, bytes_max);
            ring.drain(..bytes.len());
            shrink(ring);
            return Taken::Bytes(bytes);
        }
        if self.near.ended { Taken::End } else { Taken::Nothing }
    }

    /// So many bytes that were taken are written. Whether the other node is told of the room now.
    pub(super) fn wrote(&mut self, now: Duration, bytes: usize) -> bool {
        self.near.written += bytes as u64;
        let is_much = self.near.room() - self.near.told_room >= TELL_BYTES;
        if is_much {
            self.near.tell_at = Some(now);
        }
        is_much
    }

    /// The end was passed on, too.
    pub(super) fn passed_end(&mut self) {
        self.near.is_over = true;
    }

    /// Whether both directions have ended, and both nodes know it.
    pub(super) fn is_over(&self) -> bool {
        let is_told = self.near.told == self.near.have() && self.near.tell_at.is_none();
        self.away.ended && !self.away.waits() && self.near.is_over && is_told
    }

    /// Whether the other node may have forgotten the connection because it came to its end: all of it has come here, and all
    /// was sent.
    pub(super) fn may_be_forgotten(&self) -> bool {
        self.near.ended && self.away.ended && self.away.farthest == self.away.all()
    }

    /// The other node has forgotten the connection after its end.
    pub(super) fn forgotten(&mut self) {
        let away = &mut self.away;
        (away.acked, away.sent, away.ask_at) = (away.all(), away.all(), None);
        away.ring = VecDeque::new();
        self.near.told = self.near.have();
        self.near.tell_at = None;
    }

    /// Bytes that were sent and have not arrived, as far as it is known.
    pub(super) fn under_way(&self) -> u64 {
        self.away.sent - self.away.acked
    }

    /// Takes what the other node says.
    pub(super) fn hear(&mut self, now: Duration, frame: &Frame) -> Result<(), Nonsense> {
        self.is_new = false;
        self.away.hear(now, frame)?;
        self.near.hear(now, frame)
    }

    /// The link is new: what was under way here may be lost, and what was under way to here as well.
    pub(super) fn link_up(&mut self, now: Duration) {
        (self.near.again, self.near.tell_at) = (true, Some(now));
        if self.away.waits() || self.is_new {
            (self.away.ask_at, self.away.pause) = (Some(now), ASK_FIRST);
        }
    }

    /// What was handed out last has not left.
    pub(super) fn unsent(&mut self, now: Duration) {
        self.away.sent = self.away.acked;
        self.near.tell_at = Some(now);
    }

    /// Whether there are bytes, or an end, that can go now.
    pub(super) fn is_ready(&self) -> bool {
        let (length, end) = self.away.ready(1);
        length > 0 || end
    }

    /// When to say something else; none: not before something happens.
    pub(super) fn due(&self) -> Option<Duration> {
        [self.near.tell_at, self.away.ask_at].into_iter().flatten().min()
    }

    /// What to say now, with at most so many bytes; none: nothing.
    pub(super) fn next(&mut self, now: Duration, bytes_max: usize) -> Option<Frame> {
        let (away, near) = (&mut self.away, &mut self.near);
        let (length, end) = away.ready(bytes_max);
        let (sends, asks) = (length > 0 || end, away.ask_at.is_some_and(|at| at <= now));
        if !sends && !asks && near.tell_at.is_none_or(|at| at > now) {
            return None;
        }
        let (offset, bytes) = (if sends { away.sent } else { 0 }, away.bytes(length));
        away.sent += length as u64 + u64::from(end);
        away.farthest = away.farthest.max(away.sent);
        let sent = if asks { away.sent } else { 0 };
        if asks {
            away.pause = (away.pause * 2).min(ASK_LAST);
            away.ask_at = None;
        }
        if away.waits() || self.is_new {
            away.ask_at.get_or_insert(now + away.pause);
        }
        (near.told, near.told_room, near.tell_at) = (near.have(), near.room(), None);
        let (open, again) = (self.is_new, std::mem::take(&mut near.again));
        Some(Frame { open, offset, bytes, end, have: near.told, room: near.told_room, again, sent, ..Frame::default() })
    }
}

impl Away {
    fn hear(&mut self, now: Duration, frame: &Frame) -> Result<(), Nonsense> {
        if frame.have > self.farthest {
            return Err(Nonsense::TooMuchHad);
        }
        self.room = self.room.max(frame.room);
        if frame.have > self.acked {
            let left = usize::try_from(self.read.saturating_sub(frame.have)).unwrap_or(usize::MAX);
            self.ring.drain(..self.ring.len().saturating_sub(left));
            shrink(&mut self.ring);
            (self.acked, self.sent) = (frame.have, self.sent.max(frame.have));
            (self.pause, self.ask_at) = (ASK_FIRST, Some(now + ASK_FIRST));
        }
        let may_again = self.again_at.is_none_or(|at| at + AGAIN_PAUSE <= now);
        if frame.again && self.sent > self.acked && may_again {
            (self.sent, self.again_at) = (self.acked, Some(now));
        }
        if !self.waits() {
            self.ask_at = None;
        }
        Ok(())
    }
}

impl Near {
    /// How far it has arrived, the end counted as a byte.
    fn have(&self) -> u64 {
        self.got + u64::from(self.ended)
    }

    fn room(&self) -> u64 {
        self.written + WINDOW_BYTES as u64
    }

    fn hear(&mut self, now: Duration, frame: &Frame) -> Result<(), Nonsense> {
        if !frame.bytes.is_empty() || frame.end {
            self.arrived(now, frame)?;
        }
        if frame.sent > 0 || frame.open {
            // All that went before this has come, or never will.
            self.again |= frame.sent > self.have();
            self.tell_at = Some(now);
        }
        Ok(())
    }

    fn arrived(&mut self, now: Duration, frame: &Frame) -> Result<(), Nonsense> {
        let end = frame.offset + frame.bytes.len() as u64;
        if end > self.room() {
            return Err(Nonsense::NoRoom);
        }
        if frame.offset > self.have() || end + u64::from(frame.end) <= self.have() {
            // Something before it is lost, or it is here already.
            self.again |= frame.offset > self.have();
            self.tell_at = Some(now);
            return Ok(());
        }
        if self.ended {
            return Err(Nonsense::BehindEnd);
        }
        let known = usize::try_from(self.got - frame.offset).unwrap_or(usize::MAX);
        self.ring.extend(frame.bytes.get(known..).unwrap_or_default());
        (self.got, self.ended) = (end, frame.end);
        let is_much = self.have() - self.told >= TELL_BYTES || self.ended;
        let at = if is_much { now } else { now + TELL_PAUSE };
        self.tell_at = Some(self.tell_at.map_or(at, |sooner| sooner.min(at)));
        Ok(())
    }
}

/// Bytes of a ring from a place on, at most so many.
fn copy(ring: &VecDeque<u8>, from: usize, bytes_max: usize) -> Vec<u8> {
    let (first, second) = ring.as_slices();
    let first = first.get(from..).unwrap_or_default();
    let second = second.get(from.saturating_sub(ring.len() - second.len())..).unwrap_or_default();
    let from_first = first.len().min(bytes_max);
    let mut bytes = first[..from_first].to_vec();
    bytes.extend_from_slice(&second[..second.len().min(bytes_max - from_first)]);
    bytes
}

fn shrink(ring: &mut VecDeque<u8>) {
    if ring.is_empty() && ring.capacity() > RING_KEPT_BYTES {
        ring.shrink_to(RING_KEPT_BYTES);
    }
}

#[cfg(test)]
mod tests;
