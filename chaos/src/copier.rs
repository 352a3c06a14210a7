//! Copying files while everything fails: from ships and to them, by the documented API alone. Each file has a place of its own, so that
//! its copy can be compared byte for byte, and whoever looks at the place meanwhile finds the old file or the new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::dice::Dice;
use crate::harness;
use crate::payload::{Payload, Slice};
use crate::submit::socket_of;
use crate::timer::Timer;
use crate::world::World;

/// Files that are copied in a world.
const COPIES: usize = 6;

/// The longest of them, in bytes.
const BYTES_MAX: u64 = 900 * 1024;

/// The pause before what was not accepted is handed in again.
const AGAIN: Duration = Duration::from_millis(100);

/// What stands where a copy goes, before it is there.
pub(crate) const OLD: &[u8] = b"what was there before";

/// A file that is copied between central and a ship.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    /// The ship.
    pub(crate) ship: usize,
    /// Whether it comes from there.
    pub(crate) is_get: bool,
    /// Its content.
    pub(crate) slice: Slice,
    /// When.
    at: Duration,
}

/// Whoever copies one of them.
pub(crate) struct Copier<'a> {
    copy: Copy,
    /// The directory of central.
    dir: PathBuf,
    ship: String,
    /// The file at the ship.
    file: PathBuf,
    content: String,
    timer: Timer,
    given_up: &'a AtomicBool,
}

/// What became of a copy.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) copy: Copy,
    /// Its message, if it was accepted.
    pub(crate) id: Option<String>,
    /// The file at the ship.
    pub(crate) file: PathBuf,
    /// Why it was not accepted where it should have been.
    pub(crate) wrong: Option<String>,
}

impl Copied {
    /// Nobody knows: whoever copied has panicked.
    pub(crate) fn lost() -> Self {
        let copy = Copy { ship: 0, is_get: false, slice: Slice { text: true, offset: 0, len: 0 }, at: Duration::ZERO };
        let wrong = Some("whoever copies a file has panicked".to_owned());
        Self { copy, id: None, file: PathBuf::new(), wrong }
    }
}

/// The copies of a seed.
fn thrown(seed: u64, machines: usize, duration: Duration) -> Vec<Copy> {
    // Dice of its own, so that it changes nothing else about a seed.
    let mut dice = Dice::of(seed, 4);
    let last = duration.as_millis() as u64 * 8 / 10;
    let copy = |number: usize| {
        let len = if dice.chance(20) { dice.between(1, 4000) } else { dice.between(4001, BYTES_MAX) };
        let (is_get, ship) = (number.is_multiple_of(2), 1 + dice.index(machines - 1));
        // What goes in with a request of ours is text.
        Copy { ship, is_get, slice: Slice::thrown(&mut dice, !is_get, len as usize), at: dice.millis(0, last) }
    };
    (0..COPIES).map(copy).collect()
}

/// Those who copy in the world of a seed.
pub(crate) fn of<'a>(
    seed: u64,
    world: &World<'_>,
    duration: Duration,
    given_up: &'a AtomicBool,
) -> io::Result<Vec<Copier<'a>>> {
    let folder = world.fleet.dir().join("copies");
    fs::create_dir(&folder)?;
    let copier = |(number, copy): (usize, Copy)| {
        let file = folder.join(number.to_string());
        let content = world.payload.bytes(copy.slice);
        fs::write(&file, if copy.is_get { content } else { OLD })?;
        Ok(Copier {
            dir: world.machines[0].node.dir().to_owned(),
            ship: world.machines[copy.ship].name.clone(),
            file,
            content: if copy.is_get { String::new() } else { String::from_utf8_lossy(content).into_owned() },
            copy,
            timer: world.timer,
            given_up,
        })
    };
    thrown(seed, world.machines.len(), duration).into_iter().enumerate().map(copier).collect()
}

impl Copier<'_> {
    /// Hands it in until it is accepted. An answer that did not come is no trouble: a file that is copied twice is there once.
    pub(crate) fn run(self) -> Copied {
        self.timer.wait_until(self.copy.at);
        let mut copied = Copied { copy: self.copy.clone(), id: None, file: self.file.clone(), wrong: None };
        loop {
            match self.hand_in() {
                Ok(Some(id)) => copied.id = Some(id),
                Ok(None) => {}
                Err(wrong) => copied.wrong = Some(wrong),
            }
            if copied.id.is_some() || copied.wrong.is_some() || self.given_up.load(Ordering::Acquire) {
                return copied;
            }
            self.timer.wait_until(self.timer.elapsed() + AGAIN);
        }
    }

    /// The id of its message; none if it was not accepted, as far as we know.
    fn hand_in(&self) -> Result<Option<String>, String> {
        let path = self.file.display();
        let message = json!({ "toNode": self.ship, "data": ["get", self.file, "as=body"], "commandOrEvent": "CommandACK",
            "method": "CopyFile", "parallel": true });
        let (request, body) = match self.copy.is_get {
            true => ("/v1/messages".to_owned(), message.to_string()),
            false => {
                let query = format!("to={}&path={path}&mode=640&modified=1700000000.000000000", self.ship);
                (format!("/v1/copies?{query}"), self.content.clone())
            }
        };
        let Ok(answer) = harness::socket(&socket_of(&self.dir), "POST", &request, &body) else { return Ok(None) };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        match answer.status {
            200 => {}
            // It stops, its disk is full, or the request was cut.
            400 | 503 | 507 => return Ok(None),
            status => return Err(format!("{status} for the copy {path}: {text}")),
        }
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let id = answer["id"].as_str().or_else(|| answer["ids"][0].as_str());
        id.map(|id| Some(id.to_owned())).ok_or_else(|| format!("no id for the copy {path}: {text}"))
    }
}

/// The bytes that a copy has to have.
pub(crate) fn content<'p>(copy: &Copy, payload: &'p Payload) -> &'p [u8] {
    payload.bytes(copy.slice)
}

/// What lies at the place of a copy.
pub(crate) fn there(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}
