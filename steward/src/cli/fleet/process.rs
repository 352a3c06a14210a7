//! A child process that never outlives us, unless it is told to.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};

use super::eventually;

/// How long a process may take to end after it was asked to.
const END_LIMIT: Duration = Duration::from_secs(30);

/// The pause between two looks whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// Lines of a log that are worth showing when something went wrong.
const LAST_LINES: usize = 12;

/// A child in a process group of its own, so that Ctrl-C reaches us alone; killed with its group on drop.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    /// `None` once it is nobody's any more.
    child: Option<Child>,
}

impl Process {
    /// Starts it; what it prints is appended to the log.
    pub(crate) fn start(name: &str, log: &Path, command: &mut Command) -> anyhow::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} ({}) can't be started", Path::new(command.get_program()).display()))?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child: Some(child) })
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// An error with the end of its log, if it has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                anyhow::bail!(
                    "{} ended by itself ({status}); the end of its log:\n{}",
                    self.name,
                    last_words(&self.log)
                )
            }
        }
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let child = self.child.as_mut().context("nobody's child")?;
        Ok(child.try_wait()?)
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        rustix::process::kill_process(self.pid()?, Signal::TERM)?;
        let what = format!("{} stops", self.name);
        eventually(&what, END_LIMIT, LOOK_AGAIN, async || self.ended()).await
    }

    /// Ends it as a power cut would.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        let child = self.child.as_mut().context("nobody's child")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Lets it go on without us.
    pub(super) fn leave(mut self) {
        self.child = None;
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        let id = i32::try_from(self.id())?;
        Pid::from_raw(id).context("no process")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = self.pid();
        let Some(child) = &mut self.child else { return };
        // Nothing is left to be done about a failure here: it means that the process is gone already.
        if let Ok(group) = group {
            rustix::process::kill_process_group(group, Signal::KILL).unwrap_or_default();
        }
        child.wait().map(drop).unwrap_or_default();
    }
}

/// The end of a log.
pub(super) fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
