//! SIGKILL at a named point of the program, where something is half done. The points are in `steward/src/crash_points.rs`.

use super::{Fault, Struck, switches};
use crate::dice::Dice;
use crate::world::World;

/// How often a process passes the point before it ends there, at most.
const PASSAGES_MAX: u64 = 12;

macro_rules! points {
    ($($constant:ident $name:literal $does:literal;)+) => {
        $(
            #[doc = $does]
            pub(super) const $constant: Fault = Fault {
                name: $name,
                does: concat!("a process dies when ", $does),
                prepare: switches,
                strike: |world, dice| arm(world, $name, dice),
            };
        )+
    };
}

points! {
    AT_START "at-start" "it has opened its store, and runs nothing yet";
    BEFORE_COMMIT "before-commit" "it has decided, and nothing of it is in the store";
    AFTER_COMMIT "after-commit" "it has stored, and done nothing yet";
    BETWEEN_EFFECTS "between-effects" "it has handed out half of what is to be done";
    BEFORE_PUBLISH "before-publish" "it is about to publish";
    AFTER_PUBLISH "after-publish" "it has published one of several";
    BEFORE_RUN "before-run" "a method is written down as started, and has not begun";
    AFTER_RUN "after-run" "a method has ended, and nobody has been told";
    BEFORE_APPEND "before-append" "a log's journal knows of lines that the log does not have yet";
    AFTER_APPEND "after-append" "a log has lines that the store does not know of yet";
    BEFORE_RENAME "before-rename" "an output is on disk, without its name";
    AFTER_RENAME "after-rename" "an output has its name, and no row of the store names it";
    IN_CHUNK "in-chunk" "half of a piece of an output is written";
    AFTER_CHUNK "after-chunk" "it has sent one piece of an output of several";
    INPUT_TAKEN "input-taken" "inmsg.txt is put aside, and not read yet";
    INPUT_READ "input-read" "inmsg.txt is read and stored, and not removed yet";
    SPOOL_TAKEN "spool-taken" "files of messages.d are put aside, and not read yet";
    SPOOL_READ "spool-read" "files of messages.d are read and stored, and nothing says so";
    SPOOL_NOTED "spool-noted" "what became of files of messages.d is written, and they are not moved yet";
}

fn arm(world: &mut World<'_>, point: &'static str, dice: &mut Dice) -> Result<Struck, String> {
    // Where outputs come in and where files of messages are read there is mostly one who does so.
    let index = match point {
        "in-chunk" | "input-taken" | "input-read" | "spool-taken" | "spool-read" | "spool-noted" if dice.chance(80) => {
            0
        }
        "after-chunk" | "before-run" | "after-run" => world.a_ship(dice),
        _ => world.any(dice),
    };
    let passage = match point {
        "at-start" | "input-taken" | "input-read" | "spool-taken" | "spool-read" | "spool-noted" => 1,
        "before-append" | "after-append" | "before-rename" | "after-rename" => dice.between(1, PASSAGES_MAX / 6),
        _ => dice.between(1, PASSAGES_MAX),
    };
    let machine = &mut world.machines[index];
    if let Some(other) = machine.switches.armed() {
        return Err(format!("{} is to die at {other}", machine.name));
    }
    machine.switches.set_crash(Some((point, passage)));
    let name = machine.name.clone();
    if point == "at-start" {
        // It needs a start: the one after this kill.
        world.kill(index, dice)?;
    }
    Ok(Struck::Armed(format!("{name}, passage {passage}")))
}
