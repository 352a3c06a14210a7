//! Keeps what a process holds in memory to itself: no core dump of it, and no debugger of the same user. For processes
//! that hold keys. What they start is not concerned: a program begins anew when it is executed.

use std::path::Path;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// The folders in a node's directory that hold keys.
const FOLDERS: [&str; 2] = ["identity", "fleet"];

/// Does so for a node with this directory, if it has keys.
pub(crate) fn for_node(dir: &Path) {
    if FOLDERS.iter().any(|folder| dir.join(folder).exists()) {
        for_keys();
    }
}

/// Does so for a process that makes or reads keys.
pub(crate) fn for_keys() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "a core dump of this process would hold the node's keys, and that can't be prevented here");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;

    use super::*;

    #[test]
    fn a_process_with_keys_leaves_no_dump() {
        let dir = tempfile::tempdir().unwrap();
        for_node(dir.path());
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable);
        std::fs::create_dir(dir.path().join("identity")).unwrap();
        for_node(dir.path());
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();
    }
}
