//! Ends the commands of a node that was killed. A second process, `steward job-guard`, holds a pipe from the node and
//! is told of each command's group as it begins and ends; the pipe closes when the node is gone, however it went, and
//! the guard ends what still runs. One guard a node, idle except for two short reads a command.
//!
//! It is no proof: a node killed between starting a command and telling the guard leaves the command to
//! [`methods::recover`](super::recover), which looks for it when the node starts again.
//!
//! What goes through the pipe, 21 bytes each: `+` or `-`, the group (i32, little endian), the message (u128, little
//! endian). It is written in one piece, because a pipe never splits what is this short. The first of them is `=`, and holds, in
//! place of a message, what all processes are marked with that this process of the node starts: its next process may
//! run the same message again before the guard of this one is done.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::message::MessageId;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Pid;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::process::{self, Marked};

/// The hidden verb of the guard's process.
pub(crate) const VERB: &str = "job-guard";

const RECORD_BYTES: usize = 21;

/// How to start the guard's process.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// What to run.
    pub(crate) path: PathBuf,
    /// With these arguments.
    pub(crate) args: Vec<OsString>,
}

impl Program {
    /// This very program, even if its file was replaced since it started.
    pub(crate) fn own() -> Self {
        Self { path: PathBuf::from("/proc/self/exe"), args: vec![VERB.into()] }
    }
}

/// The node's side. Clones are the same guard.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started_by: Uuid,
    state: Mutex<State>,
    untold: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// None while no guard runs.
    pipe: Option<File>,
    live: HashMap<Pid, MessageId>,
}

impl Guard {
    /// Knows of nothing, and has no process yet.
    pub(super) fn new() -> Self {
        let (state, untold) = (Mutex::default(), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { started_by: Uuid::now_v7(), state, untold }) }
    }

    /// What everything is marked with that this process of the node starts.
    pub(super) fn started_by(&self) -> Uuid {
        self.shared.started_by
    }

    /// A command begins: its group, and the message that its processes are marked with. Never waits.
    pub(super) fn begin(&self, group: Pid, id: MessageId) {
        let mut state = self.state();
        state.live.insert(group, id);
        self.tell(&state, b'+', group, id);
    }

    /// A command has ended, and its group with it. Told before its leader is reaped.
    pub(super) fn end(&self, group: Pid) {
        let mut state = self.state();
        if let Some(id) = state.live.remove(&group) {
            self.tell(&state, b'-', group, id);
        }
    }

    /// How often the guard could not be told, because it hung or was just being started.
    pub(crate) fn untold(&self) -> u64 {
        self.shared.untold.load(Ordering::Relaxed)
    }

    /// Whether a guard runs and has been told everything.
    #[cfg(test)]
    pub(super) fn is_told(&self) -> Option<()> {
        self.state().pipe.is_some().then_some(())
    }

    /// Starts the guard's process and waits for its end, which is an error unless `end` was cancelled.
    pub(super) async fn keep(self, program: Program, end: CancellationToken) -> anyhow::Result<()> {
        let mut child = tokio::process::Command::new(&program.path)
            .args(&program.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take().map(|pipe| pipe.into_owned_fd()).transpose()?;
        self.hold(pipe)?;
        let ended = tokio::select! {
            ended = child.wait() => Some(ended),
            () = end.cancelled() => None,
        };
        // Without the pipe the guard ends by itself, and ends what runs, if anything does.
        self.state().pipe = None;
        match ended {
            Some(status) => anyhow::bail!("the job guard ended by itself: {}", status?),
            None => {
                child.wait().await?;
                Ok(())
            }
        }
    }

    /// From now on everything is told through this pipe; first, what runs already.
    fn hold(&self, pipe: Option<OwnedFd>) -> io::Result<()> {
        let Some(pipe) = pipe else { return Ok(()) };
        // A guard that hangs must not make the node hang.
        fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        let mut state = self.state();
        state.pipe = Some(File::from(pipe));
        self.write(&state, record(b'=', 0, self.shared.started_by.as_u128()));
        for (group, id) in &state.live {
            self.tell(&state, b'+', *group, *id);
        }
        Ok(())
    }

    fn tell(&self, state: &State, what: u8, group: Pid, id: MessageId) {
        self.write(state, record(what, group.as_raw_nonzero().get(), id.0));
    }

    fn write(&self, state: &State, record: [u8; RECORD_BYTES]) {
        let told = state.pipe.as_ref().map(|mut pipe| pipe.write_all(&record));
        if !matches!(told, Some(Ok(()))) {
            self.shared.untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a single call, so it is whole even if its holder panicked.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn record(what: u8, group: i32, id: u128) -> [u8; RECORD_BYTES] {
    let mut record = [what; RECORD_BYTES];
    record[1..5].copy_from_slice(&group.to_le_bytes());
    record[5..].copy_from_slice(&id.to_le_bytes());
    record
}

/// The guard's process: reads until its standard input ends, then ends what still runs. Starts no runtime and no thread.
pub(crate) fn main() -> ExitCode {
    // A guard that outlives its node for a moment must not keep a file system busy.
    std::env::set_current_dir("/").ok();
    let mut live: HashMap<Pid, MessageId> = HashMap::new();
    let mut by = None;
    let mut record = [0; RECORD_BYTES];
    let mut input = io::stdin().lock();
    while input.read_exact(&mut record).is_ok() {
        let [what, g0, g1, g2, g3, id @ ..] = record;
        if what == b'=' {
            by = Some(Uuid::from_u128(u128::from_le_bytes(id)));
            continue;
        }
        let Some(group) = Pid::from_raw(i32::from_le_bytes([g0, g1, g2, g3])) else { continue };
        match what {
            b'+' => live.insert(group, MessageId(u128::from_le_bytes(id))),
            _ => live.remove(&group),
        };
    }
    if !live.is_empty() {
        let (groups, ids): (HashSet<Pid>, BTreeSet<MessageId>) = live.into_iter().unzip();
        process::end(&groups, &Marked { ids, by }, process::GRACE);
    }
    ExitCode::SUCCESS
}
