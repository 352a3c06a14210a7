//! One forward, as one of its two nodes has it: its connections, what there is to say of them, and whether the other node is
//! the one that it began with. It reads no clock, and what it says is sent by others.
//!
//! Each run of the message has a random number of the node that runs it, and the sender answers it with one of its own. All
//! that is said has both, so nothing that was said in another run, or was recorded, is ever taken: connections of a run end with
//! it. While nothing is heard, connections wait, for as long as the message says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::stream::{Stream, Taken};
use crate::broker::wire::NUMBER_MAX;
use crate::broker::wire::forward::{Bundle, Frame, REASON_BYTES_MAX, Side};

/// Connections of a forward at the same time; one more waits until one has ended.
pub(super) const PLACES: usize = 128;

/// Bytes of a forward that may be on their way at the same time, all its connections together.
const AHEAD_MAX: u64 = 4 * 1024 * 1024;

/// How often something is said at least; more often where connections are not held for long.
const SPEAK: Duration = Duration::from_secs(10);
/// See [`SPEAK`].
const SPEAK_MIN: Duration = Duration::from_millis(250);

/// How soon it is said again that a connection was broken off; twice as long each time.
const RESET_FIRST: Duration = Duration::from_secs(1);
/// See [`RESET_FIRST`].
const RESET_LAST: Duration = Duration::from_secs(30);

/// Wakes the task of a connection.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// There may be room to read more.
    pub(super) room: Notify,
    /// There may be something to write.
    pub(super) arrived: Notify,
    /// The connection is broken off.
    pub(super) broken: CancellationToken,
}

/// A connection that the other node has opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) number: u64,
    pub(super) bell: Arc<Bell>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Connections, from the first on.
    pub(crate) connections: u64,
    /// Those that are there now.
    pub(crate) open: u64,
    /// Bytes that went to the other node.
    pub(crate) sent: u64,
    /// Bytes that came from it.
    pub(crate) received: u64,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    stream: Stream,
    bell: Arc<Bell>,
    reset: Option<Reset>,
}

/// A connection that was broken off here, as long as the other node may not know.
#[derive(Debug)]
struct Reset {
    why: String,
    say_at: Duration,
    pause: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    side: Side,
    /// Whether connections begin here.
    opens: bool,
    hold: Duration,
    /// The run that is spoken of; 0 while the sender has heard of none.
    run: u64,
    greeting: u64,
    /// A run that was heard of, with our answer to it, which it has not said yet.
    pending: Option<(u64, u64)>,
    /// Both know of each other.
    is_met: bool,
    /// What was heard has to be answered, whatever else there is to say.
    answer_due: bool,
    heard: Duration,
    speak_at: Duration,
    connections: BTreeMap<usize, Connection>,
    /// The highest number that each place has had.
    last: [u64; PLACES],
    /// Connections that the other node speaks of and that are not here.
    gone: Vec<u64>,
    /// The place that is next.
    turn: usize,
    /// What the other node said last of a connection that it has broken off.
    complaint: Option<String>,
    tally: Tally,
}

impl State {
    /// Of a forward that begins. `random` is the run of the node that runs the message.
    pub(super) fn new(side: Side, opens: bool, hold: Duration, random: u64, now: Duration) -> Self {
        let run = if side == Side::Receiver { random.clamp(1, NUMBER_MAX) } else { 0 };
        Self {
            side,
            opens,
            hold,
            run,
            greeting: 0,
            pending: None,
            is_met: false,
            answer_due: false,
            heard: now,
            speak_at: now,
            connections: BTreeMap::new(),
            last: [0; PLACES],
            gone: Vec::new(),
            turn: 0,
            complaint: None,
            tally: Tally::default(),
        }
    }

    /// Whether the other node is there, as far as is known.
    pub(super) fn is_met(&self) -> bool {
        self.is_met
    }

    pub(super) fn tally(&self) -> Tally {
        Tally { open: self.connections.len() as u64, ..self.tally }
    }

    pub(super) fn run(&self) -> u64 {
        self.run
    }

    /// What the other node said of a connection that it has broken off, once.
    pub(super) fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    /// When nothing was heard for longer than connections are held; none: that is not waited for.
    pub(super) fn silent_at(&self) -> Option<Duration> {
        // The sender waits for a node that has not begun as long as its message does.
        (self.is_met || self.side == Side::Receiver).then_some(self.heard + self.hold)
    }

    /// Whether nothing was heard for longer than connections are held.
    pub(super) fn is_silent(&self, now: Duration) -> bool {
        self.silent_at().is_some_and(|at| at <= now)
    }

    /// Whether one more connection may be opened here.
    pub(super) fn has_place(&self) -> bool {
        self.is_met && self.connections.len() < PLACES
    }

    /// Takes what the other node says, if it is about this run; `random` gives a number that nobody can guess. Connections that it
    /// opens are to be made.
    pub(super) fn hear(&mut self, now: Duration, bundle: Bundle, random: impl FnOnce() -> u64) -> Vec<Opened> {
        if !self.is_of_this_run(&bundle, random) {
            return Vec::new();
        }
        self.heard = now;
        bundle.frames.into_iter().filter_map(|frame| self.frame(now, &frame)).collect()
    }

    fn is_of_this_run(&mut self, bundle: &Bundle, random: impl FnOnce() -> u64) -> bool {
        let said = (bundle.run, bundle.greeting);
        match self.side {
            Side::Receiver if bundle.run != self.run || bundle.greeting == 0 => {
                // It hears of this run by what is said next.
                self.speak_at = Duration::ZERO;
                false
            }
            Side::Receiver => {
                if !self.is_met {
                    (self.greeting, self.is_met, self.answer_due) = (bundle.greeting, true, true);
                }
                self.greeting == bundle.greeting
            }
            Side::Sender if self.is_met && said == (self.run, self.greeting) => true,
            // Said before it had our answer.
            Side::Sender if self.is_met && bundle.run == self.run => false,
            Side::Sender if self.pending == Some(said) => {
                // It runs anew: what was connected by the run before is gone.
                self.break_all();
                (self.run, self.greeting) = said;
                (self.pending, self.is_met, self.last) = (None, true, [0; PLACES]);
                true
            }
            Side::Sender => {
                if self.pending.is_none_or(|(run, _)| run != bundle.run) {
                    self.pending = Some((bundle.run, random().clamp(1, NUMBER_MAX)));
                }
                self.answer_due = true;
                false
            }
        }
    }

    fn frame(&mut self, now: Duration, frame: &Frame) -> Option<Opened> {
        let (number, place) = (frame.connection, place(frame.connection));
        let here = self.connections.get_mut(&place).filter(|connection| connection.number == number);
        if let Some(why) = &frame.reset {
            if let Some(connection) = here {
                connection.bell.broken.cancel();
                if connection.reset.is_none() {
                    self.complaint = Some(why.clone());
                }
                self.connections.remove(&place);
            }
            self.say_gone(number);
            return None;
        }
        match here {
            Some(connection) if frame.gone => {
                if connection.reset.is_some() {
                    self.connections.remove(&place);
                } else if connection.stream.may_be_forgotten() {
                    connection.stream.forgotten();
                    self.settle(place);
                } else {
                    connection.bell.broken.cancel();
                    self.connections.remove(&place);
                }
                None
            }
            Some(connection) => {
                if connection.reset.is_none() {
                    self.tally.received += frame.bytes.len() as u64;
                    match connection.stream.hear(now, frame) {
                        Ok(()) => connection.ring(),
                        Err(nonsense) => connection.break_off(now, &nonsense.to_string()),
                    }
                    self.settle(place);
                }
                None
            }
            None if frame.gone => None,
            None if frame.open && !self.opens && number > self.last[place] => Some(self.open_at(now, place, frame)),
            None => {
                self.say_gone(number);
                None
            }
        }
    }

    /// The other node opens a connection. What was in its place before is over there.
    fn open_at(&mut self, now: Duration, place: usize, frame: &Frame) -> Opened {
        if let Some(before) = self.connections.remove(&place) {
            before.bell.broken.cancel();
        }
        let mut connection = Connection::new(frame.connection);
        let opened = Opened { number: frame.connection, bell: Arc::clone(&connection.bell) };
        if let Err(nonsense) = connection.stream.hear(now, frame) {
            connection.break_off(now, &nonsense.to_string());
        }
        self.tally.connections += 1;
        self.tally.received += frame.bytes.len() as u64;
        self.last[place] = frame.connection;
        self.connections.insert(place, connection);
        opened
    }

    /// Begins a connection here; none while there is no place, or nobody to connect it to.
    pub(super) fn open(&mut self) -> Option<Opened> {
        let place = (0..PLACES).find(|place| !self.connections.contains_key(place))?;
        if !self.is_met || !self.opens {
            return None;
        }
        let before = self.last[place].max(place as u64);
        let connection = Connection::new(before + PLACES as u64);
        let opened = Opened { number: connection.number, bell: Arc::clone(&connection.bell) };
        self.last[place] = connection.number;
        self.tally.connections += 1;
        self.connections.insert(place, connection);
        Some(opened)
    }

    /// The connection with this number, as long as it is not broken off.
    fn connection(&mut self, number: u64) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(&place(number));
        connection.filter(|connection| connection.number == number && connection.reset.is_none())
    }

    /// How many bytes may be read; none: the connection is broken off.
    pub(super) fn read_room(&mut self, number: u64) -> Option<usize> {
        self.connection(number).map(|connection| connection.stream.read_room())
    }

    /// Bytes were read.
    pub(super) fn push(&mut self, now: Duration, number: u64, bytes: &[u8]) {
        if let Some(connection) = self.connection(number) {
            connection.stream.push(now, bytes);
        }
    }

    /// Nothing more is read.
    pub(super) fn finish(&mut self, now: Duration, number: u64) {
        if let Some(connection) = self.connection(number) {
            connection.stream.finish(now);
        }
        self.settle(place(number));
    }

    /// What is to be written; none: the connection is broken off.
    pub(super) fn take(&mut self, number: u64, bytes_max: usize) -> Option<Taken> {
        self.connection(number).map(|connection| connection.stream.take(bytes_max))
    }

    /// Bytes were written. Whether that has to be told now.
    pub(super) fn wrote(&mut self, now: Duration, number: u64, bytes: usize) -> bool {
        self.connection(number).is_some_and(|connection| connection.stream.wrote(now, bytes))
    }

    /// The end was passed on.
    pub(super) fn passed_end(&mut self, number: u64) {
        if let Some(connection) = self.connection(number) {
            connection.stream.passed_end();
        }
        self.settle(place(number));
    }

    /// A connection is broken off here; the other node is told why until it knows.
    pub(super) fn broke(&mut self, now: Duration, number: u64, why: &str) {
        if let Some(connection) = self.connection(number) {
            connection.break_off(now, why);
        }
    }

    /// All connections are broken off, and nobody is told.
    pub(super) fn break_all(&mut self) {
        self.connections.values().for_each(|connection| connection.bell.broken.cancel());
        self.connections.clear();
        self.gone.clear();
    }

    /// Gives the place of a connection free that has come to its end.
    fn settle(&mut self, place: usize) {
        let is_over = |connection: &Connection| connection.reset.is_none() && connection.stream.is_over();
        if self.connections.get(&place).is_some_and(is_over) {
            self.connections.remove(&place);
        }
    }

    fn say_gone(&mut self, number: u64) {
        // What finds no room is asked for again.
        if self.gone.len() < PLACES && !self.gone.contains(&number) {
            self.gone.push(number);
        }
    }

    /// The link is new: what was on its way may be lost.
    pub(super) fn link_up(&mut self, now: Duration) {
        for connection in self.connections.values_mut() {
            connection.stream.link_up(now);
            connection.say_reset(now);
        }
        self.speak_at = now;
    }

    /// What was said last has not left.
    pub(super) fn unsent(&mut self, now: Duration) {
        for connection in self.connections.values_mut() {
            connection.stream.unsent(now);
            connection.say_reset(now);
        }
        (self.speak_at, self.answer_due) = (now, true);
    }

    /// When there is something to say.
    pub(super) fn due(&self) -> Duration {
        let answers = self.answer_due && (self.is_met || self.pending.is_some());
        if answers || !self.gone.is_empty() {
            return Duration::ZERO;
        }
        if !self.is_met {
            return if self.side == Side::Receiver { self.speak_at } else { Duration::MAX };
        }
        let has_room = self.under_way() < AHEAD_MAX;
        let each = self.connections.values().filter_map(|connection| match &connection.reset {
            Some(reset) => Some(reset.say_at),
            None if has_room && connection.stream.is_ready() => Some(Duration::ZERO),
            None => connection.stream.due(),
        });
        each.chain([self.speak_at]).min().unwrap_or(self.speak_at)
    }

    fn under_way(&self) -> u64 {
        self.connections.values().map(|connection| connection.stream.under_way()).sum()
    }

    /// What to say now, with at most so many bytes of connections; none: nothing.
    pub(super) fn next(&mut self, now: Duration, bytes_max: usize) -> Option<(u64, u64, Vec<Frame>)> {
        if let Some((run, greeting)) = self.pending.filter(|_| self.answer_due) {
            self.answer_due = false;
            return Some((run, greeting, Vec::new()));
        }
        if self.due() > now || (!self.is_met && self.side == Side::Sender) {
            return None;
        }
        let frames = if self.is_met { self.frames(now, bytes_max) } else { Vec::new() };
        if frames.is_empty() && self.speak_at > now && !self.answer_due {
            return None;
        }
        self.answer_due = false;
        self.speak_at = now + if self.is_met { (self.hold / 4).clamp(SPEAK_MIN, SPEAK) } else { SPEAK_MIN * 4 };
        Some((self.run, self.greeting, frames))
    }

    fn frames(&mut self, now: Duration, bytes_max: usize) -> Vec<Frame> {
        let gone = std::mem::take(&mut self.gone);
        let gone = gone.into_iter().map(|connection| Frame { connection, gone: true, ..Frame::default() });
        let mut frames: Vec<Frame> = gone.collect();
        let ahead = usize::try_from(AHEAD_MAX.saturating_sub(self.under_way())).unwrap_or(usize::MAX);
        let mut left = bytes_max.min(ahead);
        let places: Vec<usize> = (0..PLACES).map(|step| (self.turn + step) % PLACES).collect();
        for place in places {
            let Some(connection) = self.connections.get_mut(&place) else { continue };
            if let Some(frame) = connection.next(now, left) {
                left -= frame.bytes.len();
                self.tally.sent += frame.bytes.len() as u64;
                if !frame.bytes.is_empty() {
                    // Whoever has had a piece is last the next time.
                    self.turn = place + 1;
                }
                frames.push(frame);
                self.settle(place);
            }
        }
        frames
    }
}

impl Connection {
    fn new(number: u64) -> Self {
        Self { number, stream: Stream::new(), bell: Arc::default(), reset: None }
    }

    fn ring(&self) {
        self.bell.room.notify_one();
        self.bell.arrived.notify_one();
    }

    fn break_off(&mut self, now: Duration, why: &str) {
        self.bell.broken.cancel();
        self.stream = Stream::new();
        let end = (0..=why.len().min(REASON_BYTES_MAX)).rev().find(|end| why.is_char_boundary(*end)).unwrap_or(0);
        self.reset = Some(Reset { why: why[..end].to_owned(), say_at: now, pause: RESET_FIRST });
    }

    fn say_reset(&mut self, now: Duration) {
        if let Some(reset) = &mut self.reset {
            (reset.say_at, reset.pause) = (now, RESET_FIRST);
        }
    }

    fn next(&mut self, now: Duration, bytes_max: usize) -> Option<Frame> {
        let frame = match &mut self.reset {
            None => self.stream.next(now, bytes_max)?,
            Some(reset) if reset.say_at <= now => {
                (reset.say_at, reset.pause) = (now + reset.pause, (reset.pause * 2).min(RESET_LAST));
                Frame { reset: Some(reset.why.clone()), ..Frame::default() }
            }
            Some(_) => return None,
        };
        Some(Frame { connection: self.number, ..frame })
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number % PLACES as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests;
