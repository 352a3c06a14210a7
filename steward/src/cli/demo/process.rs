//! A child process that never outlives the demo, unless it is told to.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context as _;
use rustix::process::{Pid, Signal};

use super::stage;

/// Lines of a log that are worth showing when something went wrong.
const LAST_LINES: usize = 12;

/// A child in a process group of its own, so that Ctrl-C reaches the demo alone; killed with its group on drop.
pub(super) struct Process {
    name: String,
    log: PathBuf,
    /// `None` once it is nobody's any more.
    child: Option<Child>,
}

impl Process {
    /// Starts it; what it prints is appended to `NAME.log` in the folder.
    pub(super) fn start(name: &str, dir: &Path, command: &mut Command) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        // What the user has set for nodes of theirs must not reach ours.
        for (variable, _) in
            std::env::vars_os().filter(|(variable, _)| variable.to_string_lossy().starts_with("STEWARD_"))
        {
            command.env_remove(variable);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} ({}) can't be started", Path::new(command.get_program()).display()))?;
        Ok(Self { name: name.to_owned(), log, child: Some(child) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Fails if it has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("{} ended by itself ({status})", self.name),
        }
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let child = self.child.as_mut().context("nobody's child")?;
        Ok(child.try_wait()?)
    }

    /// Asks it to stop, and waits until it has.
    pub(super) async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        rustix::process::kill_process(self.pid()?, Signal::TERM)?;
        let what = format!("{} stops", self.name);
        stage::eventually(&what, async || self.ended()).await
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

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
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
