//! How a message ends, and on which step of its way it is.

use std::fmt;
use std::sync::Arc;

use crate::message::MessageId;
use crate::time::Wall;

/// The nine final states. A message reaches exactly one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Final {
    /// The command ended with exit code 0, or the event was handled.
    Done,
    /// The method ended with an error: an exit code other than 0, a signal, or a reason.
    Failed,
    /// The method ran longer than `methodTimeout` and was stopped.
    TimedOut,
    /// The receiver did not take it: not allowed, an unknown method, arguments that make no sense.
    Refused,
    /// Its deadline passed before it was started.
    Expired,
    /// It was started, or may have been, and nobody knows how it ended. It is not run again.
    Interrupted,
    /// The operator took it back.
    Cancelled,
    /// The given number of attempts brought no receipt.
    Undeliverable,
    /// A NACK message was handed to the broker; nobody will tell more.
    Sent,
}

impl Final {
    /// All nine.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::Failed,
        Self::TimedOut,
        Self::Refused,
        Self::Expired,
        Self::Interrupted,
        Self::Cancelled,
        Self::Undeliverable,
        Self::Sent,
    ];

    /// The name as it stands in JSON, tables and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
            Self::Undeliverable => "undeliverable",
            Self::Sent => "sent",
        }
    }

    /// The state with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for Final {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which of the two streams of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both, in the order in which they are fetched.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// The name as it stands on the wire and in file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What a method wrote to one stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Bytes that were kept.
    pub len: u64,
    /// BLAKE3 of the kept bytes; zero where `len` is 0.
    pub hash: [u8; 32],
    /// Whether the method wrote more than the limit, so that the rest was dropped.
    pub truncated: bool,
    /// The kept bytes themselves, where they are short UTF-8 text. Otherwise they are fetched in chunks.
    pub inline: Option<Arc<str>>,
}

impl Output {
    /// Whether the bytes have to be fetched from the receiver.
    pub fn is_bulk(&self) -> bool {
        self.len > 0 && self.inline.is_none()
    }
}

/// What a receiver has signed of an end, in whatever form the shell keeps it. One pointer wide, because most ends have none.
pub type Proof = Arc<Vec<u8>>;

/// How a message ended, with all that there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The final state.
    pub state: Final,
    /// Why, where the state alone does not say it.
    pub reason: Option<Arc<str>>,
    /// The exit code of a command that ended by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended a command.
    pub signal: Option<i32>,
    /// When the method started, by the receiver's clock.
    pub started: Option<Wall>,
    /// When it ended, by the clock of the node that decided the final state.
    pub finished: Wall,
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
    /// What the receiver has signed of this end, for whoever keeps it. Opaque here: carried with the end, never read.
    pub proof: Option<Proof>,
}

impl Outcome {
    /// A final state without output.
    pub fn bare(state: Final, reason: Option<&str>, finished: Wall) -> Self {
        Self {
            state,
            reason: reason.map(Arc::from),
            exit_code: None,
            signal: None,
            started: None,
            finished,
            stdout: Output::default(),
            stderr: Output::default(),
            proof: None,
        }
    }

    /// The same without what was written.
    #[must_use]
    pub fn without_output(&self) -> Self {
        Self { stdout: Output::default(), stderr: Output::default(), ..self.clone() }
    }

    /// Whether files of its output may lie at the receiver: those that are to be fetched, and what a process that died
    /// in the middle has left.
    pub fn may_have_files(&self) -> bool {
        self.state == Final::Interrupted || self.stdout.is_bulk() || self.stderr.is_bulk()
    }

    /// One of its streams.
    pub fn stream(&self, stream: Stream) -> &Output {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }
}

/// A message's step on its way, as its sender knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Accepted, not sent since this process started.
    Queued,
    /// Published at least once, no receipt yet.
    Sent,
    /// The receiver has it on disk.
    Stored,
    /// The receiver runs it.
    Running,
    /// The receiver is done; its output is on its way here.
    Fetching,
    /// It has ended.
    Final(Final),
}

impl State {
    /// The name as it stands in JSON, tables and the store.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Stored => "stored",
            Self::Running => "running",
            Self::Fetching => "fetching",
            Self::Final(state) => state.as_str(),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A line of a message's time line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When, by this node's clock.
    pub at: Wall,
    /// The state that was reached.
    pub state: State,
    /// What else there is to say ("attempt 2", "cancel asked for").
    pub note: Option<Arc<str>>,
}

/// What a receiver tells a sender about one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The message.
    pub id: MessageId,
    /// How far it has come.
    pub progress: Progress,
}

/// The receipt ladder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// On the receiver's disk.
    Stored,
    /// Started.
    Running,
    /// Ended. Repeated until the sender confirms it.
    Final(Outcome),
}
