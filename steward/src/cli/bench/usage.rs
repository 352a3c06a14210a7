//! What a node takes of the machine: memory and time on a CPU, with all processes that it has started.

use std::fs;
use std::time::Duration;

use crate::cli::fleet::Node;

/// What a node's processes take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// How many they are.
    pub(super) processes: usize,
    /// Resident bytes. Pages of files (the program, the libraries) are the same for all of them and counted once: those of
    /// the process that has touched most.
    pub(super) memory: u64,
    /// Those of them that belong to no file: what one more node takes where the program runs already.
    pub(super) private: u64,
    /// The most resident bytes that the node's own process has had since its start, pages of files included, and the
    /// private ones that its other processes have now.
    pub(super) peak: u64,
    /// Time on a CPU since their start.
    pub(super) cpu: Duration,
}

impl Usage {
    /// What a node takes now.
    pub(super) fn of(node: &Node) -> anyhow::Result<Self> {
        of_family(node.id()?)
    }
}

fn of_family(root: u32) -> anyhow::Result<Usage> {
    let mut usage = Usage::default();
    let mut files = 0;
    for pid in family(root)? {
        // One that has just ended takes nothing any more.
        if let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
            let bytes = |name| kilobytes(&status, name) * 1024;
            let (resident, private) = (bytes("VmRSS:"), bytes("RssAnon:"));
            usage.processes += 1;
            usage.private += private;
            files = files.max(resident.saturating_sub(private));
            usage.peak += if pid == root { bytes("VmHWM:") } else { private };
        }
        usage.cpu += cpu(pid);
    }
    usage.memory = usage.private + files;
    Ok(usage)
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
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn pages_of_files_are_counted_once_for_all_processes_of_a_family() {
        let mut command = Command::new("sh");
        // Both are shells, which share their program; the line says that the second one is there.
        command.args(["-c", "sh -c 'echo here; read end; :'; :"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let family = family(child.id()).unwrap();
        let usage = of_family(child.id()).unwrap();
        let resident = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            kilobytes(&status, "VmRSS:") * 1024
        };
        let (all, largest) = (family.iter().map(resident).sum::<u64>(), family.iter().map(resident).max().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(usage.processes >= 2 && family.len() == usage.processes, "{family:?}, {usage:?}");
        assert!(usage.memory < all && usage.memory >= largest, "{usage:?}, {all}, {largest}");
        assert!(usage.private < usage.memory && usage.peak > 100_000 && usage.cpu > Duration::ZERO, "{usage:?}");
    }
}
