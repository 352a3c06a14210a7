//! A node that is killed: what it ran ends, with the guard at once, without it when the node starts again.
//!
//! The node here is this test program once more, running one test that does nothing unless it is told to; its guard is
//! the same again.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use protocol::message::MessageId;

use super::rig::*;
use crate::marked;
use crate::methods::process::{MARK, STARTED_BY};
use crate::methods::{job_guard, recover};

const ROLE: &str = "STEWARD_TEST_GUARDING";
const NODE: &str = "methods::runner::tests::guarding::as_node";
const GUARD: &str = "methods::runner::tests::guarding::as_guard";

fn test(name: &str) -> Vec<OsString> {
    ["--exact", "--nocapture", name].map(Into::into).to_vec()
}

#[test]
fn as_guard() {
    if std::env::var_os(ROLE).is_some() {
        job_guard::main();
    }
}

#[tokio::test]
async fn as_node() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (guarded, folder) = role.split_once(':').unwrap();
    let program = job_guard::Program { path: std::env::current_exe().unwrap(), args: test(GUARD) };
    let mut rig = Rig::with(|setup| setup.guard = (guarded == "guarded").then_some(program));
    let script = format!(
        "setsid sh -c 'echo $$ > {folder}/escaped; exec sleep 1000' & \
         sh -c 'trap \"\" TERM; echo $$ > {folder}/deaf; while :; do sleep 1; done' & \
         echo $STEWARD_MESSAGE_ID > {folder}/id; echo $$ > {folder}/leader; wait"
    );
    rig.start("ShellCommand", &["sh", "-c", &script]).await;
    if guarded == "guarded" {
        let guard = &rig.runner.shared.host.guard;
        until("the guard is told", || guard.is_told()).await;
    }
    std::fs::write(format!("{folder}/ready"), "1\n").unwrap();
    std::future::pending().await
}

struct Node {
    process: Child,
    dir: tempfile::TempDir,
}

impl Node {
    async fn start(guarded: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let process = Command::new(std::env::current_exe().unwrap())
            .args(test(NODE))
            .env(ROLE, format!("{guarded}:{}", dir.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let node = Self { process, dir };
        node.number("ready").await;
        node
    }

    async fn number(&self, name: &str) -> i32 {
        number(&self.dir.path().join(name)).await
    }

    async fn processes(&self) -> [i32; 3] {
        [self.number("leader").await, self.number("deaf").await, self.number("escaped").await]
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test]
async fn the_guard_ends_what_a_killed_node_ran() {
    let mut node = Node::start("guarded").await;
    let processes = node.processes().await;
    node.kill();
    for pid in processes {
        gone(pid).await;
    }
}

/// The guard gives what is deaf to SIGTERM some time. Until then the node may be back, and run the message again.
#[tokio::test]
async fn the_guard_leaves_alone_what_the_next_process_of_its_node_runs() {
    let mut node = Node::start("guarded").await;
    let [_, deaf, _] = node.processes().await;
    let id = std::fs::read_to_string(node.dir.path().join("id")).unwrap();
    node.kill();
    let again = Command::new("sleep").arg("1000").env(MARK, id.trim()).env(STARTED_BY, "another").spawn();
    let mut again = again.unwrap();
    assert!(Path::new(&format!("/proc/{deaf}")).exists(), "the guard is not done");
    let role = format!("guarded:{}", node.dir.path().display());
    until("the guard is done", || marked::find(ROLE, |value| value == role.as_bytes()).is_empty().then_some(())).await;
    let alive = again.try_wait().unwrap().is_none();
    again.kill().unwrap();
    again.wait().unwrap();
    assert!(alive);
}

#[tokio::test]
async fn a_restart_ends_what_a_killed_node_ran() {
    let mut node = Node::start("alone").await;
    let processes = node.processes().await;
    let id = std::fs::read_to_string(node.dir.path().join("id")).unwrap();
    let id: MessageId = id.trim().parse().unwrap();
    node.kill();
    let dir = node.dir.path().to_owned();
    assert_eq!(recover(&dir, &[(Ticket(2), MessageId(id.0 + 1))]), 0, "of another message");
    for pid in processes {
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "without a guard they go on");
    }
    let ended = tokio::task::spawn_blocking(move || recover(&dir, &[(Ticket(1), id)])).await.unwrap();
    assert!(ended >= 3, "{ended}");
    for pid in processes {
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_guard_that_ends_is_replaced() {
    let flag = tempfile::tempdir().unwrap();
    let rig = Rig::with(|setup| {
        // Fails the first time, then reads until its input ends.
        let script = format!("mkdir {}/first && exit 1; cat", flag.path().display());
        setup.guard = Some(job_guard::Program { path: "sh".into(), args: ["-c".into(), script.into()].to_vec() });
    });
    until("another guard runs", || {
        let guard = rig.supervisor.list().into_iter().find(|task| task.name == "job guard" && task.restarts == 1)?;
        assert!(guard.note.unwrap().contains("the job guard ended by itself"));
        rig.runner.shared.host.guard.is_told()
    })
    .await;
    rig.runner.stop(SOON).await;
    assert!(rig.supervisor.stop(SOON).await.is_empty(), "the guard ends with its node");
}
