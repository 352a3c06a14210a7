//! What a method does with one message: how long it takes, how it ends, what it writes. Outputs are lengths and an
//! identity of their bytes; the bytes themselves do not exist here.

use std::sync::Arc;
use std::time::Duration;

use protocol::message::Kind;
use protocol::outcome::{Final, Outcome, Output, Stream};
use protocol::time::Wall;

use crate::faults::Faults;
use crate::rng::{Rng, mix};

/// How long a method hangs whose limit does not end it and whose message nobody takes back, counted from its start and
/// not before faults have ended; in milliseconds. Then somebody on that machine ends it by hand.
pub(crate) const HANGS_MS: u64 = 120_000;

/// What is written to one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Nothing,
    /// Short text, which rides in the receipt.
    Text(u64),
    /// Bytes that have to be fetched.
    Bulk(u64),
}

/// How a method ends when nobody ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Badly,
    Never,
    Panic,
}

/// What a method does with one message.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    duration: u64,
    end: End,
    stdout: Written,
    stderr: Written,
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself.
    Itself,
    /// Its limit ended it.
    Limit,
    /// Somebody took the message back.
    Killed,
}

/// The identity of the bytes that one run writes to one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content(pub(crate) u64);

impl Content {
    /// What the run with this number in the whole simulation writes.
    pub(crate) fn of(run: u64, stream: Stream) -> Self {
        Self(mix(run * 2 + u64::from(stream == Stream::Stderr) + 1) | 1)
    }

    /// The hash of the first `len` bytes of it.
    pub(crate) fn hash(self, len: u64) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.0.to_le_bytes());
        hash[8..16].copy_from_slice(&len.to_le_bytes());
        hash
    }
}

impl Script {
    pub(crate) fn new(rng: &mut Rng, kind: Kind, slow: u64, faults: &Faults) -> Self {
        let mut end = End::Well;
        for (rate, instead) in
            [(faults.method_fails, End::Badly), (faults.method_panics, End::Panic), (faults.method_hangs, End::Never)]
        {
            if rng.roll(rate) {
                end = instead;
            }
        }
        let written = |rng: &mut Rng| match rng.below(10) {
            0..=4 => Written::Nothing,
            5..=7 => Written::Text(rng.skewed(1, 4_096)),
            8 => Written::Bulk(rng.skewed(1, 100_000)),
            _ => Written::Bulk(rng.skewed(100_000, 3_000_000)),
        };
        let (stdout, stderr) = (written(rng), written(rng));
        let quiet = !kind.is_command() || end == End::Panic;
        Self {
            duration: rng.skewed(0, slow),
            end,
            stdout: if quiet { Written::Nothing } else { stdout },
            stderr: if quiet || rng.coin() { Written::Nothing } else { stderr },
        }
    }

    /// One that takes so long, in milliseconds, ends well and writes nothing.
    pub(crate) fn taking(duration: u64) -> Self {
        Self { duration, end: End::Well, stdout: Written::Nothing, stderr: Written::Nothing }
    }

    /// Whether it goes on until it is ended.
    pub(crate) fn hangs(&self) -> bool {
        self.end == End::Never
    }

    /// Makes it one of thousands.
    pub(crate) fn shorten(&mut self) {
        self.duration = self.duration.min(5);
        if matches!(self.stdout, Written::Bulk(_)) {
            self.stdout = Written::Nothing;
        }
        if matches!(self.stderr, Written::Bulk(_)) {
            self.stderr = Written::Nothing;
        }
    }

    /// How long it may take with all that it causes when nothing goes wrong, in milliseconds.
    pub(crate) fn longest(&self, limit: Option<Duration>) -> u64 {
        let own = if self.hangs() { HANGS_MS } else { self.duration };
        limit.map_or(own, |limit| own.min(limit.as_millis() as u64)) + self.transfer()
    }

    /// How long the transfer of its output may take, in milliseconds.
    pub(crate) fn transfer(&self) -> u64 {
        let bulk = |written: Written| match written {
            Written::Bulk(len) => 500 + len / 1_000,
            Written::Nothing | Written::Text(_) => 0,
        };
        bulk(self.stdout) + bulk(self.stderr)
    }

    /// When and how a run ends that nobody takes back: after so many milliseconds; by somebody's hand where there is none.
    pub(crate) fn end(&self, limit: Option<Duration>) -> (Option<u64>, Ending) {
        let limit = limit.map(|limit| limit.as_millis() as u64);
        match (self.hangs(), limit) {
            (true, None) => (None, Ending::Itself),
            (true, Some(limit)) => (Some(limit), Ending::Limit),
            (false, Some(limit)) if limit < self.duration => (Some(limit), Ending::Limit),
            (false, _) => (Some(self.duration), Ending::Itself),
        }
    }

    /// How the run with this number ended.
    pub(crate) fn outcome(&self, run: u64, ending: Ending, started: Wall, finished: Wall) -> Outcome {
        let whole = ending == Ending::Itself;
        let (state, reason, exit_code) = match (ending, self.end) {
            (Ending::Limit, _) => (Final::TimedOut, Some("it ran longer than it may"), None),
            (Ending::Killed, _) => (Final::Cancelled, Some("taken back"), None),
            (Ending::Itself, End::Badly) => (Final::Failed, None, Some(1 + (run % 7) as i32)),
            (Ending::Itself, End::Panic) => (Final::Failed, Some("the method panicked"), None),
            (Ending::Itself, End::Well | End::Never) => (Final::Done, None, Some(0)),
        };
        Outcome {
            state,
            reason: reason.map(Arc::from),
            exit_code,
            signal: (ending != Ending::Itself).then_some(9),
            started: Some(started),
            finished,
            stdout: output(self.stdout, run, Stream::Stdout, whole),
            stderr: output(self.stderr, run, Stream::Stderr, whole),
            proof: None,
        }
    }
}

fn output(written: Written, run: u64, stream: Stream, whole: bool) -> Output {
    let content = Content::of(run, stream);
    match written {
        Written::Nothing => Output::default(),
        Written::Text(len) => {
            let text: Arc<str> = format!("{:x}:{len}", content.0).into();
            Output { len: text.len() as u64, hash: content.hash(len), truncated: false, inline: Some(text) }
        }
        Written::Bulk(len) => {
            let len = if whole { len } else { len.div_ceil(3) };
            Output { len, hash: content.hash(len), truncated: run.is_multiple_of(16), inline: None }
        }
    }
}
