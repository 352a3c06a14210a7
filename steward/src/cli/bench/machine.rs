//! What a run was made on. A figure means nothing without it.

use std::fmt;
use std::fs;

use serde::Serialize;

use crate::cli::fleet::Fleet;

/// The machine, and what else decides about the figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Machine {
    steward: String,
    build: &'static str,
    nats_server: String,
    cpu: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    file_system: String,
    /// Processes that wanted to run in the minute before: on a machine that is busy the figures are lower.
    load: String,
}

/// What there is to say; a part that can't be read is left out.
pub(super) fn describe(fleet: &Fleet) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after_colon = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
    };
    let memory = after_colon(&read("/proc/meminfo"), "MemTotal");
    let memory_kib: u64 = memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    Machine {
        steward: env!("CARGO_PKG_VERSION").to_owned(),
        build,
        nats_server: fleet.broker(),
        cpu: after_colon(&read("/proc/cpuinfo"), "model name"),
        cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        memory_gib: memory_kib.div_ceil(1 << 20),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        file_system: file_system(&read("/proc/self/mounts"), &fleet.folder().to_string_lossy()),
        load: read("/proc/loadavg").split_whitespace().next().unwrap_or_default().to_owned(),
    }
}

/// The type of the file system that a folder lies on.
fn file_system(mounts: &str, folder: &str) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (_, at, kind) = (words.next()?, words.next()?, words.next()?);
        let is_above = folder == at || folder.starts_with(&format!("{}/", at.trim_end_matches('/')));
        is_above.then_some((at.len(), kind.to_owned()))
    });
    mounts.max_by_key(|(len, _)| *len).map(|(_, kind)| kind).unwrap_or_default()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "steward {} ({} build), {}; {} cores ({}), {} GiB, Linux {}, {}; load {}",
            self.steward,
            self.build,
            self.nats_server,
            self.cores,
            self.cpu,
            self.memory_gib,
            self.kernel,
            self.file_system,
            self.load
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_decides() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /var tmpfs rw 0 0\nx /var/tmp2 xfs rw 0 0\n";
        assert_eq!(file_system(mounts, "/var/tmp/steward"), "tmpfs");
        assert_eq!(file_system(mounts, "/home"), "ext4");
    }
}
