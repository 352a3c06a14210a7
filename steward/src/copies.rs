//! Files that are copied from node to node (`steward cp`, method `CopyFile`): what is told of a file beside its content, how
//! one is read while others may write it, and how one is put in its place. The command line and the method share it.
//!
//! It knows nothing of messages: how content travels is up to `results`, who may have it copied to `security`.

pub(crate) mod attributes;
pub(crate) mod delta;
pub(crate) mod placing;
pub(crate) mod snapshot;
pub(crate) mod tree;

use std::path::{Component, Path, PathBuf};

/// The folder in the node's directory that paths without a slash at their beginning start from.
pub(crate) const FOLDER: &str = "files";

/// The longest path of a file, in bytes, as the system has it.
const PATH_BYTES_MAX: usize = 4095;

/// A path of a message: absolute, or one below [`FOLDER`]. It says where it leads without being followed, so that a rule that
/// looks at it sees what it lets in: no `.`, no `..`, no empty part.
pub(crate) fn check(path: &str) -> Result<(), String> {
    let bad = if path.is_empty() {
        "is empty"
    } else if path.len() > PATH_BYTES_MAX {
        "is too long"
    } else if path.contains('\0') {
        "holds a NUL"
    } else if path != "/" && path.trim_start_matches('/').split('/').any(|part| matches!(part, "" | "." | "..")) {
        "has a part that is empty, . or .."
    } else if path.starts_with("//") {
        "begins with two slashes"
    } else {
        return Ok(());
    };
    let shown: String = path.chars().take(200).collect();
    Err(format!("the path {shown:?} {bad}; give the whole path, or one below {FOLDER}/ in the node's directory"))
}

/// Where a path of a message leads on the node with the directory `dir`.
pub(crate) fn locate(dir: &Path, path: &str) -> PathBuf {
    if path.starts_with('/') { PathBuf::from(path) } else { dir.join(FOLDER).join(path) }
}

/// Whether something that lies at `real` (no link in it) is the node's own: its identity, its rules, its store. Only the folder
/// for files is for others.
pub(crate) fn is_own(dir: &Path, real: &Path) -> bool {
    let Ok(dir) = dir.canonicalize() else { return false };
    match real.strip_prefix(&dir) {
        Ok(below) => below.components().next() != Some(Component::Normal(FOLDER.as_ref())),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_where_it_leads() {
        for good in ["/", "/etc/motd", "motd", "a/b.txt", "/a/..b/c.", "..."] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let long = "x".repeat(4096);
        for bad in ["", "/a/../b", "../b", "./a", "/a//b", "//a", "/a/", "a/.", "a\0b", long.as_str()] {
            assert!(check(bad).is_err(), "{bad}");
        }
        let dir = Path::new("/var/lib/steward");
        assert_eq!(locate(dir, "a/b"), Path::new("/var/lib/steward/files/a/b"));
        assert_eq!(locate(dir, "/a/b"), Path::new("/a/b"));
    }

    #[test]
    fn what_is_the_nodes_own_is_not_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        for (below, own) in
            [("", true), ("rules.toml", true), ("files", false), ("files/a", false), ("filesystem", true)]
        {
            assert_eq!(is_own(dir.path(), &real.join(below)), own, "{below}");
        }
        assert!(!is_own(dir.path(), Path::new("/etc")));
    }
}
