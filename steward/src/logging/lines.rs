//! Lines of the log on their way to standard error: each at once, or those of a batch together, because a write costs more
//! than making the line.

use std::cell::RefCell;
use std::io::{self, Write as _};

/// Bytes after which a batch is written though it has not ended.
const BATCH_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    /// What this thread has gathered; none outside of a batch.
    static BATCH: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Where the lines of this thread go. Every line comes in one write.
#[derive(Debug, Default)]
pub(super) struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        BATCH.with_borrow_mut(|batch| {
            let Some(batch) = batch else { return io::stderr().write(line) };
            batch.extend_from_slice(line);
            if batch.len() >= BATCH_BYTES_MAX {
                io::stderr().write_all(batch)?;
                batch.clear();
            }
            Ok(line.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the lines that `log` makes on this thread together, at its end.
pub(super) fn together(log: impl FnOnce()) {
    BATCH.set(Some(Vec::new()));
    let written = Batch;
    log();
    drop(written);
}

/// Writes the batch when it is dropped, so that a panic loses no line.
struct Batch;

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(lines) = BATCH.take() {
            // A log that nobody can read any more has no other place to say so.
            io::stderr().write_all(&lines).unwrap_or_default();
        }
    }
}
