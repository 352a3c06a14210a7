//! A log that is written and rotated on a ship while everything strikes, and that central has the ship follow: who writes it, gives the
//! order, and takes it back when each line is at central.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness;
use crate::submit::socket_of;
use crate::timer::Timer;
use crate::world::World;

/// The machine whose log it is, and the one that has it followed.
pub(crate) const SHIP: usize = 1;
/// See [`SHIP`].
pub(crate) const CENTRAL: usize = 0;

/// The pause between two lots of lines, and between two tries of anything.
const PAUSE: Duration = Duration::from_millis(50);

/// After so many lots the log is rotated.
const LOTS: u32 = 11;

/// Lines of a lot at most.
const LINES: u32 = 7;

/// Whoever writes the log of a ship.
pub(crate) struct Tailer<'a> {
    /// Central's directory.
    dir: PathBuf,
    ship: String,
    log: PathBuf,
    /// It is copied and emptied, instead of renamed.
    copies: bool,
    until: Duration,
    timer: Timer,
    given_up: &'a AtomicBool,
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Tailed {
    /// The lines that were written.
    pub(crate) lines: u32,
    /// How often the log was rotated.
    pub(crate) rotations: u32,
    /// Where they should lie; none if the order was never certainly accepted.
    pub(crate) file: Option<PathBuf>,
}

/// Whoever writes in this world.
pub(crate) fn of<'a>(world: &World<'_>, seed: u64, given_up: &'a AtomicBool) -> Tailer<'a> {
    let folder = world.fleet.dir().join("followed");
    let (central, ship) = (&world.machines[CENTRAL], &world.machines[SHIP]);
    Tailer {
        dir: central.node.dir().to_owned(),
        ship: ship.name.clone(),
        log: folder.join("ship.log"),
        copies: seed.is_multiple_of(2),
        until: world.until,
        timer: world.timer,
        given_up,
    }
}

/// A line of the log.
pub(crate) fn line(number: u32) -> String {
    format!("line {number} of a log that is written and rotated while everything strikes\n")
}

impl Tailer<'_> {
    /// Writes until faults are over, waits until all of it is at central, and takes the order back.
    pub(crate) fn run(self) -> std::io::Result<Tailed> {
        self.log.parent().map_or(Ok(()), fs::create_dir)?;
        let mut tailed = Tailed::default();
        let (mut tries, mut lots) = (0, 0);
        while self.timer.elapsed() < self.until {
            if tailed.file.is_none() {
                tries += 1;
                // An order that may have been accepted has a file of its own.
                let name = format!("try-{tries}.log");
                let there = self.dir.join("tails/followed").join(&name);
                tailed.file = self.order(&name).then_some(there);
            }
            lots += 1;
            // What was rotated before it is followed is nobody's to bring.
            let is_followed = tailed.file.as_ref().is_some_and(|file| file.exists());
            if lots % LOTS == 0 && is_followed {
                self.rotate()?;
                tailed.rotations += 1;
            }
            let more = 1 + lots % LINES;
            let text: String = (tailed.lines + 1..=tailed.lines + more).map(line).collect();
            File::options().create(true).append(true).open(&self.log)?.write_all(text.as_bytes())?;
            tailed.lines += more;
            self.pause();
        }
        let bytes: usize = (1..=tailed.lines).map(|number| line(number).len()).sum();
        let is_whole = || {
            let len = tailed.file.as_ref().and_then(|file| fs::metadata(file).ok()).map_or(0, |meta| meta.len());
            tailed.file.is_none() || len >= bytes as u64
        };
        while !is_whole() && !self.given_up() && !self.open().is_some_and(|open| open.is_empty()) {
            self.pause();
        }
        while !self.given_up() {
            match self.open() {
                Some(open) if open.is_empty() => break,
                Some(open) => {
                    open.iter().for_each(|id| drop(self.ask("POST", &format!("/v1/messages/{id}/cancel"), "")))
                }
                None => {}
            }
            self.pause();
        }
        Ok(tailed)
    }

    fn given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    fn pause(&self) {
        self.timer.wait_until(self.timer.elapsed() + PAUSE);
    }

    /// Gives the order. Whether it was certainly accepted.
    fn order(&self, file: &str) -> bool {
        let order = json!([{ "toNode": self.ship, "commandOrEvent": "CommandACK", "method": "TailFile",
            "data": [self.log, "from=start"],
            "replyMethod": "fileAppend", "directory": "followed", "fileName": file }]);
        self.ask("POST", "/v1/messages", &order.to_string()).is_some_and(|answer| answer["ids"].is_array())
    }

    /// The orders that have not ended; nothing if central does not answer.
    fn open(&self) -> Option<Vec<String>> {
        let list = self.ask("GET", "/v1/messages?limit=10000", "")?;
        let is_open = |message: &&Value| {
            message["method"] == "TailFile"
                && message["commandOrEvent"] == "CommandACK"
                && !message["finishedAt"].is_string()
        };
        let open = list.as_array()?.iter().filter(is_open);
        Some(open.filter_map(|message| message["id"].as_str().map(str::to_owned)).collect())
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Option<Value> {
        let answer = harness::socket(&socket_of(&self.dir), method, path, body).ok()?;
        serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200)
    }

    fn rotated(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}.{number}", self.log.display()))
    }

    /// As `logrotate` does it, by name or with `copytruncate`; nothing is ever removed.
    fn rotate(&self) -> std::io::Result<()> {
        let last = (1..).find(|number| !self.rotated(*number).exists()).unwrap_or(1);
        for number in (1..last).rev() {
            fs::rename(self.rotated(number), self.rotated(number + 1))?;
        }
        if !Path::new(&self.log).exists() {
            return Ok(());
        }
        match self.copies {
            true => {
                fs::copy(&self.log, self.rotated(1))?;
                File::options().write(true).open(&self.log)?.set_len(0)
            }
            false => fs::rename(&self.log, self.rotated(1)),
        }
    }
}
