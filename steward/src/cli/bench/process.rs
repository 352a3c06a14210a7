//! A process that is started for a measurement, what it takes of the machine, and its sure end.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to end after it was asked to.
const END_LIMIT: Duration = Duration::from_secs(30);

/// The pause between two looks whether a process has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Lines of a log that are shown when its process ends by itself.
const LOG_LINES: usize = 5;

/// A child process. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it prints is appended to `log`. It has a group of its own, so that a Ctrl-C ends it through us.
    pub(super) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let program = command.get_program().to_owned();
        let child = command.spawn().with_context(|| format!("{} can't be started", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// An error with the end of its log, if it has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            anyhow::bail!("the process ended by itself ({status}); the end of its log:\n{tail}");
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return anyhow::Ok(status);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(END_LIMIT, ended).await.context("the process does not end when it is asked to")?
    }

    /// Memory and CPU of it and of every process that it has started.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        let mut usage = Usage::default();
        for pid in family(self.child.id())? {
            // One that has just ended takes nothing any more.
            if let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
                usage.processes += 1;
                usage.memory += kilobytes(&status, "VmRSS:") * 1024;
                usage.memory_peak += kilobytes(&status, "VmHWM:") * 1024;
            }
            usage.cpu += cpu(pid);
        }
        Ok(usage)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        if self.child.kill().is_ok()
            && let Err(error) = self.child.wait()
        {
            tracing::debug!(%error, "a killed process can't be waited for");
        }
    }
}

/// What a process and its children take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// How many they are.
    pub(super) processes: usize,
    /// Resident bytes, shared ones counted for each.
    pub(super) memory: u64,
    /// The most resident bytes that each has had since its start, together.
    pub(super) memory_peak: u64,
    /// Time on a CPU since their start.
    pub(super) cpu: Duration,
}

/// A process and all that it has started, directly or not.
fn family(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name in brackets may hold anything, also spaces and brackets.
        let rest = stat.rsplit(')').next().unwrap_or_default();
        if let Some(parent) = rest.split_whitespace().nth(1).and_then(|parent| parent.parse::<u32>().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut family = vec![root];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(family)
}

fn kilobytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Time on a CPU of all threads of a process, to the nanosecond.
fn cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_takes_is_seen_and_ends_with_it() {
        let log = std::env::temp_dir().join(format!("steward-bench-test-{}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & wait"]);
        let process = Process::start(&mut command, &log).unwrap();
        let pid = process.child.id();
        let usage = process.usage().unwrap();
        assert!(usage.processes >= 1 && usage.memory > 100_000 && usage.memory_peak >= usage.memory, "{usage:?}");
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        fs::remove_file(log).unwrap();
    }
}
