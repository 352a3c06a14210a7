//! One node of a world: its process, its line to the broker, and what has happened to it, which the audit has to know.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::{DiskKind, Node, Port};
use crate::link::{Link, Mode};

/// See the module.
pub(crate) struct Machine<'f> {
    pub(crate) node: Node<'f>,
    pub(crate) name: String,
    pub(crate) link: Link,
    pub(crate) metrics: Port,
    /// What its disk is made of, if it has one of its own.
    pub(crate) disk: Option<DiskKind>,
    /// Whether that one can't be written any more.
    pub(crate) disk_is_broken: bool,
    pub(crate) switches: Switches,
    pub(crate) past: Past,
    /// Faults that keep it from being started.
    pub(crate) held: usize,
    /// When it is started again, if it does not run.
    pub(crate) restart_at: Option<Duration>,
    /// The process, for as long as nobody has noticed its end.
    pub(crate) process: Option<u32>,
    /// Whether its end is no surprise.
    pub(crate) may_end: bool,
}

/// What has happened to a machine, as far as it excuses anything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    /// Processes that were started.
    pub(crate) starts: u32,
    /// Processes that ended, however.
    pub(crate) ends: u32,
    /// Its directory was deleted, so many times.
    pub(crate) store_gone: u32,
    /// It was replaced by an older copy, so many times.
    pub(crate) store_restored: u32,
    /// What stood in a copy's inbox, not ended: nothing in the copy says that it has run since.
    pub(crate) in_copy: BTreeSet<String>,
    /// What stood in a copy's outbox, not ended: nothing in the copy says that it has been sent since.
    pub(crate) out_copy: BTreeSet<String>,
    /// Another process with another directory had its name, so many times.
    pub(crate) twins: u32,
    /// Its disk was full or read-only.
    pub(crate) disk_trouble: bool,
    /// Its file system failed. One that fails in the middle of a sync may tell it as done, and have lost it all the same.
    pub(crate) disk_failed: bool,
    /// How long it was kept from doing what it had decided, at most: it stood still, or its disk was slow.
    pub(crate) delayed: Duration,
    /// Its clock jumped.
    pub(crate) clock_jumped: bool,
    /// Text logs that are not in its directory any more, oldest first.
    pub(crate) old_logs: Vec<String>,
}

impl Past {
    /// Whether what its store held is not all there any more.
    pub(crate) fn store_lost(&self) -> bool {
        self.store_gone > 0 || self.store_restored > 0
    }
}

/// The switches of a program that was built for this; see `steward/src/crash_points.rs`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Switches {
    path: PathBuf,
    /// Where the process ends, and at which passage.
    crash: Option<(&'static str, u64)>,
    /// Whether there ever was one.
    was_armed: bool,
    /// Milliseconds before each sync.
    sync_ms: u64,
    /// Seconds that are added to the clock.
    clock: i64,
    /// A bug that it is to have.
    bug: Option<String>,
}

impl Switches {
    pub(crate) fn at(path: PathBuf, bug: Option<&String>) -> Self {
        let switches = Self { path, bug: bug.cloned(), ..Self::default() };
        switches.write();
        switches
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The point at which the process is to end.
    pub(crate) fn armed(&self) -> Option<&'static str> {
        self.crash.map(|(point, _)| point)
    }

    pub(crate) fn set_crash(&mut self, crash: Option<(&'static str, u64)>) {
        self.was_armed |= crash.is_some();
        self.crash = crash;
        self.write();
    }

    /// Whether the process was to end at some point, now or earlier.
    pub(crate) fn was_armed(&self) -> bool {
        self.was_armed
    }

    pub(crate) fn set_sync(&mut self, millis: u64) {
        self.sync_ms = millis;
        self.write();
    }

    pub(crate) fn set_clock(&mut self, seconds: i64) {
        self.clock = seconds;
        self.write();
    }

    /// In one step, so that nobody reads half of it.
    fn write(&self) {
        let crash = self.crash.map_or_else(String::new, |(point, times)| format!("crash {point} {times}\n"));
        let bug = self.bug.as_ref().map_or_else(String::new, |bug| format!("plant {bug}\n"));
        let text = format!("{crash}{bug}sync {}\nclock {}\n", self.sync_ms, self.clock);
        let new = self.path.with_extension("new");
        let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &self.path));
        assert!(written.is_ok(), "the switches can't be written: {written:?}");
    }
}

impl<'f> Machine<'f> {
    /// A machine that is not started yet.
    pub(crate) fn new(node: Node<'f>, name: String, link: Link, metrics: Port, switches: Switches) -> Self {
        Self {
            node,
            name,
            link,
            metrics,
            disk: None,
            disk_is_broken: false,
            switches,
            past: Past::default(),
            held: 0,
            restart_at: None,
            process: None,
            may_end: false,
        }
    }

    /// Ends every trouble that it has.
    pub(crate) fn mend(&mut self) {
        self.link.set(Mode::Open);
        self.switches.set_clock(0);
        self.switches.set_sync(0);
        self.switches.set_crash(None);
        // Also one that was asked to end while it stood still.
        if self.runs() {
            self.node.thaw();
        }
        if self.disk_is_broken {
            self.may_end = true;
            if self.runs() {
                self.node.kill();
            }
            self.repair_disk();
        }
        // Nothing can be removed from a disk that is broken.
        self.free_disk();
        self.held = 0;
        self.restart_at = Some(Duration::ZERO);
    }

    /// Whether its process is there, frozen or not.
    pub(crate) fn runs(&mut self) -> bool {
        self.node.runs()
    }

    /// Starts it, without waiting for anything.
    pub(crate) fn launch(&mut self) {
        self.node.launch();
        self.process = Some(self.node.pid());
        self.may_end = false;
        self.restart_at = None;
        self.past.starts += 1;
    }
}
