//! Who has a file open. A file that was renamed aside is only done when no writer that opened it before can add to it.
//!
//! Linux tells it in `/proc/<pid>/fd`; a process of another user can only be looked into by root.

use std::fs;
use std::io;
use std::path::Path;

/// What is known of the processes that have a file open. This process doesn't count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holders {
    /// None has.
    Nobody,
    /// This one has, and maybe others.
    Process(u32),
    /// None that can be looked into has, but there are others.
    Unknown,
}

/// Looks for processes that have a file of this name open. Blocks for some milliseconds. The name must be one that no
/// other file has, because the path is shown differently to another mount namespace.
pub(crate) fn of(name: &str) -> Holders {
    let own = std::process::id();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Holders::Unknown;
    };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut seen_all = true;
    let mut seen_any = false;
    for pid in pids.filter(|pid| *pid != own) {
        seen_any = true;
        match has_open(pid, name) {
            Ok(true) => return Holders::Process(pid),
            Ok(false) => {}
            Err(error) => seen_all &= error.kind() != io::ErrorKind::PermissionDenied,
        }
    }
    // A machine on which nobody but us runs hides its processes.
    if seen_all && (seen_any || own == 1) { Holders::Nobody } else { Holders::Unknown }
}

fn has_open(pid: u32, name: &str) -> io::Result<bool> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        if target.file_name().is_some_and(|file| file == Path::new(name)) {
            return Ok(true);
        }
    }
    Ok(false)
}
