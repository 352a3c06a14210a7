//! Who has a file open. A file that was renamed aside is only done when no writer that opened it before can add to it.
//!
//! Linux tells it in `/proc/<pid>/fd`; a process of another user can only be looked into by root.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
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
    let mut holder = None;
    let is_all = look(|pid, _, path| {
        holder = holder.or((path.file_name() == Some(OsStr::new(name))).then_some(pid));
        holder.is_none()
    });
    match holder {
        Some(pid) => Holders::Process(pid),
        None if is_all => Holders::Nobody,
        None => Holders::Unknown,
    }
}

/// Files of one folder that processes have open.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Their names.
    pub(crate) names: HashSet<String>,
    /// Whether all processes could be looked into.
    pub(crate) is_all: bool,
}

/// Looks which of these files in a folder any process has open. Blocks for some milliseconds.
pub(crate) fn among(folder: &Path, names: &HashSet<&str>) -> Held {
    let mut held = HashSet::new();
    let which = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let is_all = look(|_, link, path| {
        let name = path.file_name().and_then(OsStr::to_str).filter(|name| names.contains(name));
        // Others have files of such names elsewhere, and another mount namespace has other paths.
        if let Some(name) = name.filter(|name| which(link).is_some_and(|file| which(&folder.join(name)) == Some(file)))
        {
            held.insert(name.to_owned());
        }
        true
    });
    Held { names: held, is_all }
}

/// Shows what other processes have open (who, the link in `/proc`, where it leads), for as long as it is wanted; says whether all of them could be looked into.
fn look(mut wanted: impl FnMut(u32, &Path, &Path) -> bool) -> bool {
    let own = std::process::id();
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut seen_all = true;
    let mut seen_any = false;
    for pid in pids.filter(|pid| *pid != own) {
        seen_any = true;
        match look_into(pid, &mut wanted) {
            Ok(true) => {}
            Ok(false) => return seen_all,
            Err(error) => seen_all &= error.kind() != io::ErrorKind::PermissionDenied,
        }
    }
    // A machine on which nobody but us runs hides its processes.
    seen_all && (seen_any || own == 1)
}

fn look_into(pid: u32, wanted: &mut impl FnMut(u32, &Path, &Path) -> bool) -> io::Result<bool> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let link = entry?.path();
        if let Ok(target) = fs::read_link(&link)
            && !wanted(pid, &link, &target)
        {
            return Ok(false);
        }
    }
    Ok(true)
}
