//! Everything that may go wrong, by name. A fault is one constant in one of the files beside this one, and one line in
//! the table. What it does lasts until an action ends it that the fault itself has planned, or until the world is mended.

mod broker;
mod clock;
mod crash;
mod disk;
mod freeze;
mod kill;
pub(crate) mod line;
mod members;
mod namesake;
mod stop;
pub(crate) mod store;
pub(crate) mod wire;

use crate::dice::Dice;
use crate::world::World;

/// Something that may go wrong.
pub(crate) struct Fault {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, in a line.
    pub(crate) does: &'static str,
    /// What has to be there for it before anything starts. An error says why that can't be had on this machine.
    pub(crate) prepare: fn(&mut World<'_>, &mut Dice) -> Result<(), String>,
    /// Strikes once: what it did, or why it could not.
    pub(crate) strike: fn(&mut World<'_>, &mut Dice) -> Result<Struck, String>,
}

/// What a fault did.
pub(crate) enum Struck {
    /// This.
    Now(String),
    /// It will, if its moment comes; it is counted then.
    Armed(String),
}

impl From<String> for Struck {
    fn from(what: String) -> Self {
        Self::Now(what)
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Needs nothing.
fn nothing(_: &mut World<'_>, _: &mut Dice) -> Result<(), String> {
    Ok(())
}

/// Needs a program with switches.
fn switches(world: &mut World<'_>, _: &mut Dice) -> Result<(), String> {
    if world.has_switches {
        return Ok(());
    }
    Err("this steward was built without them: cargo build -p steward --features crash-points".to_owned())
}

/// All of them.
pub(crate) const ALL: &[&Fault] = &[
    &kill::SENDER,
    &kill::RECEIVER,
    &kill::BROKER,
    &stop::SENDER,
    &stop::RECEIVER,
    &stop::BROKER,
    &freeze::SENDER,
    &freeze::RECEIVER,
    &freeze::BROKER,
    &crash::AT_START,
    &crash::BEFORE_COMMIT,
    &crash::AFTER_COMMIT,
    &crash::BETWEEN_EFFECTS,
    &crash::BEFORE_PUBLISH,
    &crash::AFTER_PUBLISH,
    &crash::BEFORE_RUN,
    &crash::AFTER_RUN,
    &crash::BEFORE_APPEND,
    &crash::AFTER_APPEND,
    &crash::BEFORE_RENAME,
    &crash::AFTER_RENAME,
    &crash::IN_CHUNK,
    &crash::AFTER_CHUNK,
    &crash::INPUT_TAKEN,
    &crash::INPUT_READ,
    &crash::SPOOL_TAKEN,
    &crash::SPOOL_READ,
    &crash::SPOOL_NOTED,
    &line::CUT,
    &line::SLOW_LINE,
    &line::NARROW,
    &line::LOSSY,
    &line::TORN,
    &line::HALF_OPEN,
    &broker::REPLACED,
    &disk::FULL,
    &disk::READ_ONLY,
    &disk::SLOW_SYNC,
    &clock::JUMP,
    &store::GONE,
    &store::RESTORED,
    &namesake::SAME_DIRECTORY,
    &namesake::SAME_NAME,
    &wire::GARBAGE,
    &wire::REPLAY,
    &wire::STRANGER_TALKS,
    &wire::FORGED,
    &members::KEYS_RENEWED,
];
