//! Processes by a mark: a variable in their environment. What they start inherits it, so they are found whatever group or
//! session they have moved to. Only those of our own user can be seen.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How often [`kill`] kills what it finds before it gives up; more appear as long as they fork.
const ROUNDS_MAX: usize = 100;

/// The processes, without this one, in which the variable has a value that is one of ours.
pub(crate) fn find(variable: &str, is_ours: impl Fn(&[u8]) -> bool) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Some(pid) = i32::try_from(number).ok().and_then(Pid::from_raw) else { continue };
        if number != own && carries(pid, variable, &is_ours) {
            found.push(pid);
        }
    }
    found
}

/// Whether a process has the variable, with a value that is one of ours.
pub(crate) fn carries(pid: Pid, variable: &str, is_ours: impl Fn(&[u8]) -> bool) -> bool {
    // A process that has ended has no environment any more, so what is only waiting to be reaped is not found.
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    let mut values = environment.split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(variable.as_bytes()));
    values.find_map(|rest| rest.strip_prefix(b"=")).is_some_and(is_ours)
}

/// Kills what is found until nothing is found any more, and says whether it came to that. Blocks, usually for
/// milliseconds, at most for a second.
pub(crate) fn kill(find: impl Fn() -> Vec<Pid>) -> bool {
    for _ in 0..ROUNDS_MAX {
        let found = find();
        if found.is_empty() {
            return true;
        }
        for pid in found {
            // It may have ended since.
            kill_process(pid, Signal::KILL).ok();
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
    false
}
