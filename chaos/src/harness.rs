//! A [`Fleet`] of real `steward` processes around a real nats-server, in a temporary folder.
//!
//! Whatever is started ends with the fleet, also after a panic; then the nodes' logs are shown. Ports and names belong to
//! one fleet, so that many can be there at the same time. [`eventually`] is the one place that waits: whoever waits says
//! what for, and whatever does not come in time is a panic.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "for tests: what does not work panics, with a line number, and that fails the test"
)]
#![allow(clippy::disallowed_methods, reason = "deadlines are those of the machine, not of steward")]

mod broker;
mod disk;
mod http;
pub(crate) mod keeper;
mod message;
mod node;
mod process;

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use crate::dice::Dice;
pub use broker::Broker;
pub use broker::binary as nats_server;
pub use disk::{Disk, DiskKind};
pub use http::{Answer, get, post, request, socket};
pub use message::{event, shell, with};
pub use node::Node;
pub(crate) use process::KILLED;
#[cfg(target_arch = "x86_64")]
pub use process::{Held, hold};
pub use process::{Port, Process, Ran, kill, marked, parent, run};

/// How long a fact may take that should be there in milliseconds. A machine that is busy with other tests is slow.
pub const SOON: Duration = Duration::from_secs(30);

/// The time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(15);

/// Looks until there is something to see, and returns it. Fails, with `what`, after [`SOON`].
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    until(SOON, what, || look().ok_or_else(String::new))
}

/// The same with another deadline, and with what there is to see meanwhile, for the message.
#[track_caller]
pub fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(instead) => assert!(start.elapsed() < limit, "not within {limit:?}: {what}\n{instead}"),
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The same for whoever can go on without it: none after the limit.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        match look() {
            None if start.elapsed() < limit => std::thread::sleep(LOOK_AGAIN),
            seen => return seen,
        }
    }
}

/// Looks for a while whether something stays as it is. For what must never happen; to be kept short.
pub fn stays<T: PartialEq + Debug>(what: &str, expected: &T, mut look: impl FnMut() -> T) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        assert_eq!(look(), *expected, "{what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A nats-server and the nodes around it. To be kept until the nodes are gone.
pub struct Fleet {
    /// The broker.
    pub broker: Broker,
    program: PathBuf,
    dir: tempfile::TempDir,
}

impl Fleet {
    /// A fleet of this program. Its broker is not started yet; the port is reserved.
    pub fn of(program: &Path) -> Self {
        Self::within(program, &std::env::temp_dir())
    }

    /// The same in a temporary folder below another one than usual.
    pub fn within(program: &Path, folder: &Path) -> Self {
        let dir = tempfile::tempdir_in(folder).unwrap();
        fleets().begins(dir.path());
        let broker = Broker::new(dir.path());
        Self { broker, program: program.to_owned(), dir }
    }

    /// A node that answers on its socket.
    pub fn node(&self, name: &str) -> Node<'_> {
        self.node_with(name, &[])
    }

    /// The same with further flags.
    pub fn node_with(&self, name: &str, flags: &[&str]) -> Node<'_> {
        let mut node = self.absent(name, flags);
        node.start();
        node
    }

    /// A node that is not started yet.
    pub fn absent(&self, name: &str, flags: &[&str]) -> Node<'_> {
        Node::new(self, name, name, flags)
    }

    /// A node whose directory has another name.
    pub fn node_in(&self, dir: &str, name: &str, flags: &[&str]) -> Node<'_> {
        let mut node = self.absent_in(dir, name, flags);
        node.start();
        node
    }

    /// The same, not started yet.
    pub fn absent_in(&self, dir: &str, name: &str, flags: &[&str]) -> Node<'_> {
        Node::new(self, dir, name, flags)
    }

    /// A node whose directory is a file system of its own with this many MiB; `None` where mounting is not allowed.
    pub fn node_on_small_disk(&self, name: &str, mebibytes: u32) -> Option<Node<'_>> {
        let mut node = self.absent(name, &[]);
        node.put_on_disk(DiskKind::Memory, mebibytes).ok()?;
        node.start();
        Some(node)
    }

    /// The folder of everything that belongs to this fleet.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file of this fleet that commands write to, so that a test can count what they did.
    pub fn file(&self, name: &str) -> Effects {
        Effects(self.dir.path().join(name))
    }

    /// Processes that this fleet started, directly or not, and that still run, with their command lines.
    pub fn processes(&self) -> Vec<(u32, String)> {
        process::marked(self.dir.path())
    }

    /// Leaves the folder there when everything else ends, for whoever wants to look into it.
    pub fn keep_dir(&mut self) {
        self.dir.disable_cleanup(true);
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
        process::end_marked(self.dir.path(), 1);
        fleets().ends(self.dir.path());
    }
}

/// All fleets that are there.
#[derive(Debug, Default)]
struct Fleets {
    dirs: Vec<PathBuf>,
    keeper: Option<keeper::Keeper>,
}

impl Fleets {
    fn begins(&mut self, dir: &Path) {
        self.dirs.push(dir.to_owned());
        self.keeper.iter_mut().for_each(|keeper| keeper.begins(dir));
    }

    fn ends(&mut self, dir: &Path) {
        self.dirs.retain(|known| known != dir);
        self.keeper.iter_mut().for_each(|keeper| keeper.ends(dir));
    }
}

fn fleets() -> MutexGuard<'static, Fleets> {
    static FLEETS: Mutex<Fleets> = Mutex::new(Fleets { dirs: Vec::new(), keeper: None });
    FLEETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has a second process end all fleets when this one is gone, however it went. For programs that know what to do when they
/// are called with [`keeper::VERB`].
pub(crate) fn have_a_keeper() -> std::io::Result<()> {
    fleets().keeper = Some(keeper::Keeper::start()?);
    Ok(())
}

/// Ends everything that was started, and removes its folders: for whoever is told to stop in the middle, and exits then.
/// Whoever else wants to start something meanwhile, or panics because something is gone, stands still.
pub(crate) fn end_all() {
    process::start_no_more();
    std::panic::set_hook(Box::new(|_| {
        loop {
            std::thread::park();
        }
    }));
    let mut fleets = fleets();
    for dir in &fleets.dirs {
        process::end_marked(dir, 1);
    }
    // What the keeper can't remove is left behind in the temporary folder, which is no harm.
    fleets.keeper.iter_mut().for_each(keeper::Keeper::end_all);
}

/// A file that commands append lines to: what really happened.
pub struct Effects(PathBuf);

impl Effects {
    /// Where it lies, for use in a command.
    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.0).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Makes it exist, for commands that wait for it.
    pub fn create(&self) {
        fs::write(&self.0, "").unwrap();
    }

    /// A command that ends once this file exists.
    pub fn awaited(&self) -> String {
        format!("until [ -e {} ]; do sleep 0.02; done", self.path())
    }
}
