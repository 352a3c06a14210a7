//! Bugs that are planted on purpose, so that a test can show that the simulator catches each of them. Compiled in with the
//! feature `planted-bugs` only, which nothing but that test has; without it every question here is answered with no.

/// A planted bug of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// What was seen of a lane is remembered in memory only.
    DedupInMemoryOnly,
    /// A sender names a floor above messages that are not final.
    FloorTooHigh,
    /// A receiver takes what was addressed to another process of its name.
    IncarnationIgnored,
    /// A sender takes a new or older store for the one that it knows.
    LostStoreIgnored,
    /// A sender takes a copy of a store for the store itself, although that copy does not know the process that it knows.
    OlderCopyPasses,
    /// A receiver forgets a result as soon as it has told it.
    ResultDroppedBeforeConfirm,
    /// A receiver starts whatever is there, without waiting for what comes before.
    OrderIgnored,
    /// A receipt counts for the oldest message, whichever it names.
    ReceiptForAnother,
    /// A final receipt of a message that is on disk only is confirmed as if it had ended.
    ConfirmedUnseen,
    /// What waits on disk behind the window is never read.
    BacklogForgotten,
    /// An attempt that brought nothing is not repeated.
    NoRetry,
    /// What ran when its node died is run again, whatever it says.
    InterruptedRunsAgain,
    /// A deadline keeps nothing from starting.
    DeadlineIgnored,
    /// A message that waits is told as expired when its turn comes, and not before.
    ExpiredAtItsTurn,
    /// A receipt that crosses a cancellation counts as its answer.
    CancellationNotRepeated,
    /// That a message was taken back is remembered in memory only.
    CancellationInMemoryOnly,
    /// A message that was taken back and waits at its receiver starts when its turn comes.
    CancellationLeavesWaiting,
    /// A final receipt is told once.
    ReceiptsNotRepeated,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::DedupInMemoryOnly,
        Self::FloorTooHigh,
        Self::IncarnationIgnored,
        Self::LostStoreIgnored,
        Self::OlderCopyPasses,
        Self::ResultDroppedBeforeConfirm,
        Self::OrderIgnored,
        Self::ReceiptForAnother,
        Self::ConfirmedUnseen,
        Self::BacklogForgotten,
        Self::NoRetry,
        Self::InterruptedRunsAgain,
        Self::DeadlineIgnored,
        Self::ExpiredAtItsTurn,
        Self::CancellationNotRepeated,
        Self::CancellationInMemoryOnly,
        Self::CancellationLeavesWaiting,
        Self::ReceiptsNotRepeated,
    ];
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug into every node on this thread, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(not(feature = "planted-bugs"))]
mod switch {
    pub(crate) const fn planted(_: super::Bug) -> bool {
        false
    }
}

#[cfg(feature = "planted-bugs")]
pub use switch::plant;
pub(crate) use switch::planted;
