//! Ends a fleet, also when whoever started it was killed. A second process, `steward fleet-keeper`, holds a pipe from us;
//! the pipe closes when we are gone, however we went, and the keeper ends every process that carries the fleet's mark and
//! removes the fleet's folder. It is started before all others, so there is no moment in which one could be left behind.
//!
//! What goes through the pipe: nothing, or one byte that says that the fleet is to stay.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::Context as _;

use super::folder;
use crate::marked;

/// The hidden verb of the keeper's process.
pub(crate) const VERB: &str = "fleet-keeper";

/// The variable that every process of a fleet carries; its value is the fleet's folder.
const MARK: &str = "STEWARD_FLEET";

/// The keeper of one fleet.
#[derive(Debug)]
pub(super) struct Keeper {
    child: Child,
    folder: PathBuf,
}

impl Keeper {
    /// Starts it for the fleet in this folder (an absolute path).
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let child = Command::new("/proc/self/exe")
            .arg(VERB)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C in the terminal is for us; it must not end the keeper.
            .process_group(0)
            .spawn()
            .context("the process that ends the others can't be started")?;
        Ok(Self { child, folder: folder.to_owned() })
    }

    /// Marks a command that is about to be started. What the user has set for nodes of theirs does not reach it.
    pub(super) fn mark(&self, command: &mut Command) {
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STEWARD_")) {
            command.env_remove(variable);
        }
        command.env(MARK, &self.folder);
    }

    /// From now on the fleet and its folder stay, whatever becomes of us.
    pub(super) fn leave(&mut self) -> io::Result<()> {
        self.child.stdin.as_mut().map_or(Ok(()), |pipe| pipe.write_all(b"s"))
    }

    /// Ends what is left of the fleet, unless it is to stay, and returns once that is done.
    pub(super) fn end(&mut self) {
        drop(self.child.stdin.take());
        // An error means that the keeper is gone; then what we have killed ourselves is all that can be done.
        self.child.wait().map(drop).unwrap_or_default();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

/// The keeper's process: waits until its standard input ends. Starts no runtime and no thread.
pub(crate) fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(2).map(PathBuf::from) else { return ExitCode::FAILURE };
    // Somebody may have typed the verb: nothing is removed that is not named as a fleet's folder is.
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if !folder.is_absolute() || !name.starts_with(folder::PREFIX) {
        return ExitCode::FAILURE;
    }
    // It must not stand in the folder that it is to remove, or keep another file system busy.
    std::env::set_current_dir("/").ok();
    let mut said = [0];
    match io::stdin().lock().read(&mut said) {
        Ok(0) | Err(_) => {}
        Ok(_) => return ExitCode::SUCCESS,
    }
    let mark = folder.as_os_str().as_encoded_bytes();
    let is_ended = marked::kill(|| marked::find(MARK, |value| value == mark));
    let is_removed = folder::remove(&folder).is_ok();
    if is_ended && is_removed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
