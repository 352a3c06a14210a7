//! Worlds whose nodes are members of a fleet: each has an identity, so it signs what it sends and takes nothing that
//! no member has signed; some seal it as well. What a node carries outlives its directory, as an operator's copy would.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::World;
use crate::faults::store::copy_all;
use crate::harness::{Fleet, Node};

/// The folder of all of it in that of the world.
const FOLDER: &str = "members";

/// What it is: the rest of a directory is what happened there.
const PAPERS: [&str; 5] = ["identity", "identity.next", "identity.previous", "fleet", "steward.toml"];

/// What members carry: in the folder of each, its `identity/`, and what goes with it.
pub(crate) struct Papers {
    folder: PathBuf,
}

impl Papers {
    /// Makes a fleet with the broker that is there: its central invites each of the others, and they join.
    pub(super) fn issue(fleet: &Fleet, names: &[String]) -> anyhow::Result<Self> {
        let papers = Self { folder: fleet.dir().join(FOLDER) };
        fs::create_dir(&papers.folder)?;
        let [first, others @ ..] = names else { return Ok(papers) };
        let broker = fleet.broker.address();
        let member = |name: &str| fleet.absent_in(&format!("{FOLDER}/{name}"), name, &[]);
        let mut central = member(first);
        done(&central, &["init", "--external", "--broker-address", &broker])?;
        central.start();
        for name in others {
            let token = done(&central, &["invite", name])?;
            done(&member(name), &["join", token.trim()])?;
        }
        ensure!(central.terminate() == 0, "central did not stop");
        for name in names {
            papers.keep_papers_only(name)?;
        }
        Ok(papers)
    }

    fn of(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn keep_papers_only(&self, name: &str) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.of(name))? {
            let entry = entry?;
            if is_papers(&entry.file_name()) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Puts what the node with this name carries into a directory.
    pub(crate) fn put(&self, name: &str, into: &Path) -> std::io::Result<()> {
        copy_all(&self.of(name), into)
    }
}

/// Whether this is the name of something that a member carries.
pub(crate) fn is_papers(name: &OsStr) -> bool {
    PAPERS.iter().any(|papers| name == *papers)
}

impl World<'_> {
    /// Gives a directory what the node with this name carries, if it is one of a fleet.
    pub(crate) fn give_papers(&self, name: &str, dir: &Path) -> std::io::Result<()> {
        self.papers.as_ref().map_or(Ok(()), |papers| papers.put(name, dir))
    }
}

fn done(node: &Node<'_>, args: &[&str]) -> anyhow::Result<String> {
    let ran = node.cli(args);
    ensure!(ran.code == 0, "the nodes can't become members: steward {}: {}", args[0], ran.stderr);
    Ok(ran.stdout)
}
