//! The engine has no net below it: where it panics, the node ends, and whatever started it starts it anew. Why it died
//! is left in a file, so that the next process tells the central error log (R14), because the one that dies can't.

use std::any::Any;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::own_file;
use crate::supervise::panic_text;

/// The file in the node's directory.
const FILE: &str = "engine.died";

/// Characters of the reason that are kept.
const CHARS_MAX: usize = 1000;

/// Bytes that they take at most.
const BYTES_MAX: u64 = 4 * CHARS_MAX as u64;

/// Runs the engine to its end; a panic ends it, and leaves its message in the node's directory.
pub(super) fn guarded(dir: &Path, engine: impl FnOnce()) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(engine)) else { return };
    if let Err(error) = leave(dir, &*panic) {
        tracing::warn!(%error, "why the engine died can't be left for the next process");
    }
}

fn leave(dir: &Path, panic: &(dyn Any + Send)) -> io::Result<()> {
    let text: String = panic_text(panic).chars().take(CHARS_MAX).collect();
    let mut options = OpenOptions::new();
    let mut file = own_file::open(&dir.join(FILE), options.write(true).create(true).truncate(true).mode(0o600))?;
    file.write_all(text.as_bytes())
}

/// Tells of the engine's death in the last process, if it died.
pub(super) fn tell(dir: &Path) {
    let path = dir.join(FILE);
    let mut why = String::new();
    let read = own_file::read(&path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut why));
    match read {
        Ok(_) => {
            let why: String = why.chars().take(CHARS_MAX).collect();
            tracing::error!(why, "the engine of this node died, and the node with it; it has been started again");
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "this can't be removed, so it is told again");
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "why the engine died can't be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_engine_is_left_for_the_next_process_and_told_once() {
        let dir = tempfile::tempdir().unwrap();
        guarded(dir.path(), || {});
        assert!(!dir.path().join(FILE).exists());
        guarded(dir.path(), || panic!("lane {} is not there", 7));
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), "lane 7 is not there");
        tell(dir.path());
        assert!(!dir.path().join(FILE).exists());
    }
}
