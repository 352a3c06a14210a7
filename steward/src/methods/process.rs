//! The processes of a command: started as a group of their own, waited for, signalled, and found again when they have
//! left the group. It knows nothing of messages but the id that marks their processes.
//!
//! The leader is reaped last: until then its number belongs to it, so a signal for the group can't hit a stranger that
//! was given the same number (some systems have no more than 32,768).

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::time::Duration;

use protocol::message::MessageId;
use rustix::io::Errno;
use rustix::process::{self, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::unix::AsyncFd;
use uuid::Uuid;

use super::Guard;
use crate::clock::Clock;
use crate::marked;

/// The variable that marks every process of a message, whatever group or session it moves to.
pub(super) const MARK: &str = "STEWARD_MESSAGE_ID";

/// The variable that says which process of the node has started it: a message that may run again is run by the next one,
/// and whoever ends what the last one has left must not end that.
pub(super) const STARTED_BY: &str = "STEWARD_STARTED_BY";

/// How long a process that was asked to end (SIGTERM) may take before it is killed (SIGKILL).
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// How often [`end`] looks whether they are gone.
const LOOK: Duration = Duration::from_millis(10);

/// The first process of a command. Dropped before it was reaped, it takes its group with it.
#[derive(Debug)]
pub(super) struct Leader {
    child: Child,
    pid: Option<Pid>,
    pidfd: Option<AsyncFd<OwnedFd>>,
    guard: Guard,
    reaped: bool,
}

impl Leader {
    /// Starts a command that was told to be a group of its own. The guard knows of it from then on.
    ///
    /// Runs on a thread that may block: a program on a file system that hangs must hold up nobody else.
    pub(super) async fn start(mut command: Command, guard: Guard, id: MessageId) -> io::Result<Self> {
        let spawn = move || {
            let child = command.spawn()?;
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                guard.begin(pid, id);
            }
            Ok::<_, io::Error>(Self { child, pid, pidfd: None, guard, reaped: false })
        };
        let mut leader = tokio::task::spawn_blocking(spawn).await.map_err(io::Error::other)??;
        // Kernels before 5.3 have none; then a thread waits.
        let pidfd = leader.pid.and_then(|pid| process::pidfd_open(pid, PidfdFlags::empty()).ok());
        leader.pidfd = match pidfd {
            Some(pidfd) => Some(watch(pidfd)?),
            None => None,
        };
        Ok(leader)
    }

    /// Its standard output and standard error, once.
    pub(super) fn outputs(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Returns when it has ended. It is not reaped then.
    pub(super) async fn ended(&self) -> io::Result<()> {
        if let Some(pidfd) = &self.pidfd {
            pidfd.readable().await?.retain_ready();
            return Ok(());
        }
        let Some(pid) = self.pid else { return Err(io::Error::other("a process without a number")) };
        let wait = move || loop {
            match process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Err(Errno::INTR) => {}
                other => return other.map(drop),
            }
        };
        Ok(tokio::task::spawn_blocking(wait).await.map_err(io::Error::other)??)
    }

    /// Signals everybody who is in its group.
    pub(super) fn signal_group(&self, signal: Signal) {
        // Nobody there is what was wanted; a member that changed its user is beyond our reach, and its group isn't.
        if let Some(pid) = self.pid {
            process::kill_process_group(pid, signal).ok();
        }
    }

    /// Kills what is left of the group and takes the leader's exit status. Call it once the leader has ended.
    pub(super) fn reap(mut self) -> io::Result<ExitStatus> {
        self.let_go();
        self.child.wait()
    }

    fn let_go(&mut self) {
        if !self.reaped {
            self.signal_group(Signal::KILL);
            if let Some(pid) = self.pid {
                self.guard.end(pid);
            }
            self.reaped = true;
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.reaped {
            self.let_go();
            // Killed just now, it may need a moment; it is reaped at the latest when this process ends.
            self.child.try_wait().ok();
        }
    }
}

/// The runtime's deprecated call is the safe one. What it can't rule out for any type, a number that changes or is closed
/// while it is watched, an [`OwnedFd`] that is moved in does rule out.
#[expect(deprecated, reason = "the new one is an unsafe function, and this program has no unsafe code")]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    Ok(AsyncFd::try_new(pidfd)?)
}

/// Processes by the marks that they carry.
#[derive(Debug, Clone, Default)]
pub(super) struct Marked {
    /// Of one of these messages.
    pub(super) ids: BTreeSet<MessageId>,
    /// Started by this process of the node; none is by any.
    pub(super) by: Option<Uuid>,
}

impl Marked {
    fn find(&self) -> Vec<Pid> {
        let id = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<MessageId>().ok();
        let mut found = marked::find(MARK, |value| id(value).is_some_and(|id| self.ids.contains(&id)));
        if let Some(by) = self.by {
            let by = by.to_string();
            found.retain(|pid| marked::carries(*pid, STARTED_BY, |value| value == by.as_bytes()));
        }
        found
    }

    /// Kills them until there are none. Blocks, usually for milliseconds.
    pub(super) fn kill(&self) {
        if !marked::kill(|| self.find()) {
            tracing::warn!(messages = ?self.ids, "processes of these messages don't end even when they are killed");
        }
    }
}

/// Ends groups, and the processes that carry these marks: asks them, waits for at most `grace`, kills what is left.
/// Returns how many marked processes and groups it met. Blocks.
pub(super) fn end(groups: &HashSet<Pid>, marked: &Marked, grace: Duration) -> usize {
    let clock = Clock::start();
    let mut met: HashSet<Pid> = groups.clone();
    for group in groups {
        process::kill_process_group(*group, Signal::TERM).ok();
    }
    for pid in marked.find() {
        met.insert(pid);
        process::kill_process(pid, Signal::TERM).ok();
    }
    let alive = |groups: &HashSet<Pid>| groups.iter().any(|group| process::test_kill_process_group(*group).is_ok());
    while clock.elapsed() < grace {
        if !alive(groups) && marked.find().is_empty() {
            return met.len();
        }
        std::thread::park_timeout(LOOK);
    }
    for group in groups {
        process::kill_process_group(*group, Signal::KILL).ok();
    }
    marked.kill();
    met.len()
}
