//! What the tests share: a [`Fleet`] of real `steward` processes around a real nats-server, in a temporary folder.
//!
//! Whatever a test starts ends with it, also when it fails; then the nodes' logs are shown. Ports and names belong to
//! one fleet, so that all tests run at the same time. [`eventually`] is the one place that waits: tests say what for.

mod broker;
mod http;
mod message;
mod node;
mod process;

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use broker::Broker;
pub(crate) use broker::binary as nats_server;
pub(crate) use http::get;
pub(crate) use message::{event, shell, with};
pub(crate) use node::Node;
#[cfg(target_arch = "x86_64")]
pub(crate) use process::{Held, hold};
pub(crate) use process::{Port, Process, kill, parent, run};

/// How long a fact may take that should be there in milliseconds. A machine that is busy with other tests is slow.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(15);

/// Looks until there is something to see, and returns it. Fails, with `what`, after [`SOON`].
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    until(SOON, what, || look().ok_or_else(String::new))
}

/// The same with another deadline, and with what there is to see meanwhile, for the message.
#[track_caller]
pub(crate) fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(instead) => assert!(start.elapsed() < limit, "not within {limit:?}: {what}\n{instead}"),
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A test can't be done on this machine. It says so, and leaves a note for `scripts/test`, which counts it as skipped:
/// the test runner itself knows passed and failed only.
#[expect(clippy::print_stderr, reason = "whoever runs this test alone is to see it")]
pub(crate) fn skipped(test: &str, why: &str) {
    eprintln!("\nSKIPPED: {test}: {why}\n");
    let notes = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped-tests");
    let mut notes = fs::File::options().create(true).append(true).open(notes).unwrap();
    std::io::Write::write_all(&mut notes, format!("{test}: {why}\n").as_bytes()).unwrap();
}

/// Looks for a while whether something stays as it is. For what must never happen; to be kept short.
pub(crate) fn stays<T: PartialEq + Debug>(what: &str, expected: &T, mut look: impl FnMut() -> T) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        assert_eq!(look(), *expected, "{what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A nats-server and the nodes around it. To be kept until the nodes are gone.
pub(crate) struct Fleet {
    /// The broker.
    pub(crate) broker: Broker,
    dir: tempfile::TempDir,
}

impl Fleet {
    /// A broker that runs, and no node yet.
    pub(crate) fn new() -> Self {
        let fleet = Self::without_broker();
        fleet.broker.start();
        fleet
    }

    /// The same with these lines in the broker's configuration.
    pub(crate) fn with_broker(config: &str) -> Self {
        let fleet = Self::without_broker();
        fleet.broker.configure(config);
        fleet.broker.start();
        fleet
    }

    /// A broker that is not started yet; its port is reserved.
    pub(crate) fn without_broker() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// The same in a temporary folder below another one than usual.
    pub(crate) fn within(folder: &Path) -> Self {
        let dir = tempfile::tempdir_in(folder).unwrap();
        let broker = Broker::new(dir.path());
        Self { broker, dir }
    }

    /// A node that answers on its socket.
    pub(crate) fn node(&self, name: &str) -> Node<'_> {
        self.node_with(name, &[])
    }

    /// The same with further flags.
    pub(crate) fn node_with(&self, name: &str, flags: &[&str]) -> Node<'_> {
        let mut node = self.absent(name, flags);
        node.start();
        node
    }

    /// A node that is not started yet.
    pub(crate) fn absent(&self, name: &str, flags: &[&str]) -> Node<'_> {
        Node::new(self, name, name, flags)
    }

    /// A node whose directory has another name.
    pub(crate) fn node_in(&self, dir: &str, name: &str, flags: &[&str]) -> Node<'_> {
        let mut node = self.absent_in(dir, name, flags);
        node.start();
        node
    }

    /// The same, not started yet.
    pub(crate) fn absent_in(&self, dir: &str, name: &str, flags: &[&str]) -> Node<'_> {
        Node::new(self, dir, name, flags)
    }

    /// A node whose directory is a file system of its own with this many MiB; `None` where mounting is not allowed.
    pub(crate) fn node_on_small_disk(&self, name: &str, mebibytes: u32) -> Option<Node<'_>> {
        let mut node = self.absent(name, &[]);
        if !node.put_on_small_disk(mebibytes) {
            return None;
        }
        node.start();
        Some(node)
    }

    /// The folder of everything that belongs to this fleet.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file of this fleet that commands write to, so that a test can count what they did.
    pub(crate) fn file(&self, name: &str) -> Effects {
        Effects(self.dir.path().join(name))
    }

    /// Processes that this fleet started, directly or not, and that still run, with their command lines.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        process::marked(self.dir.path())
    }

    #[expect(clippy::print_stderr, reason = "the test runner shows it with the failure")]
    fn show_logs(&self) {
        let mut logs: Vec<PathBuf> = fs::read_dir(self.dir.path())
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        logs.sort();
        for log in logs {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(60);
            eprintln!("\n--- {} (last {} of {} lines)", log.display(), lines.len() - from, lines.len());
            for line in &lines[from..] {
                eprintln!("{line}");
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        process::end_marked(self.dir.path());
    }
}

/// Chance that is the same for the same seed (Knuth's LCG).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number from 0 to below `sides`.
    pub(crate) fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A file that commands append lines to: what really happened.
pub(crate) struct Effects(PathBuf);

impl Effects {
    /// Where it lies, for use in a command.
    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.0).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Makes it exist, for commands that wait for it.
    pub(crate) fn create(&self) {
        fs::write(&self.0, "").unwrap();
    }

    /// A command that ends once this file exists.
    pub(crate) fn awaited(&self) -> String {
        format!("until [ -e {} ]; do sleep 0.02; done", self.path())
    }
}

/// The harness itself: a test that fails leaves nothing behind either.
#[test]
fn whatever_a_test_started_ends_with_it_even_if_it_panics() {
    let mut dir = PathBuf::new();
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let fleet = Fleet::new();
        dir = fleet.dir().to_owned();
        let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
        let id = central.send(&shell("ship1", "sleep 600 & sleep 600"));
        central.awaits(&id, "running");
        assert!(fleet.processes().len() > 4);
        panic!("on purpose: what follows is how a failure looks");
    }));
    assert!(failed.is_err());
    eventually("no process is left", || process::marked(&dir).is_empty().then_some(()));
    assert!(!dir.exists());
}
