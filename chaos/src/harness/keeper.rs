//! Ends what a campaign has started, also when the campaign itself is killed. A second process, the keeper, holds a pipe
//! from us, through which it is told of each fleet that begins and ends. The pipe closes when we are gone, however we went;
//! then the keeper ends every process of the fleets that have not ended, and removes their folders.
//!
//! What goes through the pipe: `+` or `-`, the fleet's folder, and a zero byte.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use super::process;

/// The argument of the keeper's process; nobody else gives it.
pub(crate) const VERB: &str = "keeper-of-a-campaign";

/// How the name of a fleet's folder begins: nothing else is removed.
const PREFIX: &str = ".tmp";

/// How many looks in a row have to find nothing: a process that was started in the last moment has its mark only once it
/// has become another program.
const LOOKS_IN_VAIN: u32 = 5;

/// The keeper of all fleets of this process.
#[derive(Debug)]
pub(super) struct Keeper(Child);

impl Keeper {
    /// Starts it. This program must give [`main`] to whoever calls it with [`VERB`].
    pub(super) fn start() -> io::Result<Self> {
        let child = Command::new("/proc/self/exe")
            .arg(VERB)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C in the terminal is for us; it must not end the keeper.
            .process_group(0)
            .spawn()?;
        Ok(Self(child))
    }

    /// Tells it of a fleet.
    pub(super) fn begins(&mut self, fleet: &Path) {
        self.tell(b'+', fleet);
    }

    /// Nothing of this fleet runs any more, and its folder is somebody else's business.
    pub(super) fn ends(&mut self, fleet: &Path) {
        self.tell(b'-', fleet);
    }

    fn tell(&mut self, what: u8, fleet: &Path) {
        let line = [&[what], fleet.as_os_str().as_bytes(), &[0]].concat();
        // A keeper that is gone can't be told; then what we end ourselves is all that can be done.
        self.0.stdin.as_mut().map_or(Ok(()), |pipe| pipe.write_all(&line)).ok();
    }

    /// Has it end everything that is left, and waits until it has.
    pub(super) fn end_all(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// The keeper's process: waits until its standard input ends. Starts no thread.
pub(crate) fn main() -> ExitCode {
    // It must not keep a file system busy.
    std::env::set_current_dir("/").ok();
    let mut fleets: BTreeSet<PathBuf> = BTreeSet::new();
    for line in io::stdin().lock().split(0) {
        match line.as_deref() {
            Ok([b'+', fleet @ ..]) => drop(fleets.insert(OsStr::from_bytes(fleet).into())),
            Ok([b'-', fleet @ ..]) => drop(fleets.remove(Path::new(OsStr::from_bytes(fleet)))),
            Ok(_) | Err(_) => break,
        }
    }
    // Somebody may have typed the verb: only what is named as a fleet's folder is touched.
    let is_ours = |fleet: &&PathBuf| {
        fleet.is_absolute() && fleet.file_name().is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()))
    };
    let mut is_over = true;
    for fleet in fleets.iter().filter(is_ours) {
        is_over &= process::end_marked(fleet, LOOKS_IN_VAIN);
        is_over &= fs::remove_dir_all(fleet).is_ok();
    }
    if is_over { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
