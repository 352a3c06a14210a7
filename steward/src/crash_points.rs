//! Where a test can end the process, delay its disk, or set its clock. For the fault campaign (`chaos/`) only: without the
//! feature `crash-points` every function here is empty, and nothing of it is in the program.
//!
//! With the feature, the variable `STEWARD_SWITCHES` names a file that is read again whenever it has changed. A line each:
//!
//! ```text
//! crash after-commit 3      killed (SIGKILL) when it passes this point for the third time from now on
//! sync 200                  so many milliseconds before each sync of a file
//! clock -86400              so many seconds are added to the wall clock
//! plant NoRetry             a bug of `protocol/src/planted.rs`, to see that it is noticed; read at the start only
//! ```

use std::fs::File;
use std::io;

#[cfg(feature = "crash-points")]
mod switches;

/// A place in the program where a process that dies leaves something half done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// The store is open, and nothing runs yet.
    AtStart,
    /// Decided, in the message log, not in the store.
    BeforeCommit,
    /// In the store, and nothing of it done.
    AfterCommit,
    /// The broker's part of it is handed over, and nothing else.
    BetweenEffects,
    /// Encoded, not published.
    BeforePublish,
    /// Handed to the broker's client.
    AfterPublish,
    /// A method is about to begin.
    BeforeRun,
    /// It has ended, and nobody knows.
    AfterRun,
    /// A log's journal knows of the lines, the log doesn't have them.
    BeforeAppend,
    /// The log has the lines, the engine doesn't know.
    AfterAppend,
    /// An output is synced and has not its name yet.
    BeforeRename,
    /// It has, and no row names it.
    AfterRename,
    /// Half of a piece of an output is written.
    InChunk,
    /// A piece of an output is on its way, others are not.
    AfterChunk,
    /// `inmsg.txt` is aside and not read.
    InputTaken,
    /// It is read and everything in it is durable, and it is still there.
    InputRead,
    /// Files of `messages.d/` are aside and not read.
    SpoolTaken,
    /// They are read and what is in them is durable, and nothing says so.
    SpoolRead,
    /// What became of them is written beside the place to which they are about to be moved.
    SpoolNoted,
    /// A node has made new keys, and nobody else knows of them.
    RenewalBegun,
    /// Central has written down what it will answer to a renewal.
    RenewalKept,
    /// A node has its new certificate on disk, and does not use it yet.
    RenewalCertified,
    /// The new identity is in the place of the old one, and the old connection still stands.
    RenewalSwitched,
    /// The node is about to say that it uses its new key.
    RenewalConnected,
    /// Central has seen that, and the node still has its old keys on disk.
    RenewalSettled,
}

/// The process has come to this point.
#[inline]
pub(crate) fn reach(point: Point) {
    #[cfg(feature = "crash-points")]
    switches::reach(point);
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
}

/// A file is about to be synced.
#[inline]
pub(crate) fn sync() {
    #[cfg(feature = "crash-points")]
    switches::sync();
}

/// The protocol on this thread has the planted bug, if there is one.
#[inline]
pub(crate) fn plant() {
    #[cfg(feature = "crash-points")]
    switches::plant();
}

/// Milliseconds that are added to the wall clock.
#[inline]
pub(crate) fn clock_offset_ms() -> i64 {
    #[cfg(feature = "crash-points")]
    return switches::clock_offset_ms();
    #[cfg(not(feature = "crash-points"))]
    0
}

/// Writes all of it; a process that is to end in the middle of it writes half.
#[inline]
pub(crate) fn write_all(point: Point, file: &mut File, bytes: &[u8]) -> io::Result<()> {
    #[cfg(feature = "crash-points")]
    if switches::is_due(point) {
        io::Write::write_all(file, &bytes[..bytes.len() / 2])?;
        switches::die();
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
    io::Write::write_all(file, bytes)
}
