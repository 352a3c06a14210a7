//! A campaign that is ended in the middle leaves no process and no folder behind, however it was ended.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with a line number, which is all that it should do")]
#![allow(clippy::disallowed_methods, reason = "the campaign is real, and so is its time")]

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use chaos::harness::{eventually, marked};
use rustix::process::{Pid, Signal, kill_process};

const CAMPAIGN: &str = env!("CARGO_BIN_EXE_steward-chaos");

/// A broker and four nodes.
const PROCESSES: usize = 5;

#[test]
fn sigterm_leaves_nothing_behind() {
    let ended = end_by(Signal::TERM);
    assert_eq!(ended.code, Some(130));
    assert_eq!(ended.at_once, [], "it is over only when everything is");
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let ended = end_by(Signal::INT);
    assert_eq!(ended.code, Some(130));
    assert_eq!(ended.at_once, [], "it is over only when everything is");
}

#[test]
fn sigkill_leaves_nothing_behind() {
    assert_eq!(end_by(Signal::KILL).code, None);
}

/// What was seen of a campaign that was ended, beside that nothing was left.
struct Ended {
    code: Option<i32>,
    /// What still ran when it had ended.
    at_once: Vec<(u32, String)>,
}

/// Ends a campaign while its nodes are killed and started again.
fn end_by(signal: Signal) -> Ended {
    let steward = Path::new(CAMPAIGN).with_file_name("steward");
    assert!(steward.exists(), "{} is not there: cargo build -p steward", steward.display());
    let folder = tempfile::tempdir().unwrap();
    let mut campaign = Command::new(CAMPAIGN)
        .args(["--seeds=0..1", "--duration=60", "--faults=kill-sender,kill-receiver,kill-broker"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let fleet = eventually("a broker and nodes run", || {
        assert_eq!(campaign.try_wait().unwrap(), None, "the campaign has ended by itself");
        let fleet = entries(folder.path()).pop()?;
        (marked(&fleet).len() >= PROCESSES).then_some(fleet)
    });
    kill_process(pid(&campaign), signal).unwrap();
    let status = campaign.wait().unwrap();
    assert!(status.code().is_some() || status.signal() == Some(Signal::KILL.as_raw()), "{status}");
    let at_once = marked(&fleet);
    eventually("every process has ended, and the folder is gone", || {
        (marked(&fleet).is_empty() && entries(folder.path()).is_empty()).then_some(())
    });
    Ended { code: status.code(), at_once }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}
