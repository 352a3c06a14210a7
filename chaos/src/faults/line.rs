//! Lines that are cut, slow, narrow, torn or dead: what satellites, mobile networks and routers do.

use std::time::Duration;

use super::{Fault, Struck, nothing};
use crate::dice::Dice;
use crate::link::Mode;
use crate::world::World;

/// The delay of a slow line, in each direction: a geostationary satellite and back takes this long.
const SLOW: Duration = Duration::from_millis(600);

/// Bytes a second of a narrow line: 64 kbit/s.
const NARROW_BYTES_A_SECOND: u64 = 8000;

/// Messages in a hundred that are lost on a line that loses some.
const LOST_PERCENT: u64 = 25;

/// No connection.
pub(super) const CUT: Fault = Fault {
    name: "line-cut",
    does: "a node's connection breaks, and none can be made for up to two seconds",
    prepare: nothing,
    strike: |world, dice| change(world, Mode::Cut, 2000, dice),
};

/// A slow connection.
pub(super) const SLOW_LINE: Fault = Fault {
    name: "line-slow",
    does: "a node's line takes 600 ms more in each direction, for up to five seconds",
    prepare: nothing,
    strike: |world, dice| change(world, Mode::Slow(SLOW), 5000, dice),
};

/// A narrow connection.
pub(super) const NARROW: Fault = Fault {
    name: "line-narrow",
    does: "a node's line passes 64 kbit/s, for up to five seconds",
    prepare: nothing,
    strike: |world, dice| change(world, Mode::Narrow(NARROW_BYTES_A_SECOND), 5000, dice),
};

/// A connection on which messages are lost, as a broker does to whoever is too slow for it.
pub(super) const LOSSY: Fault = Fault {
    name: "line-lossy",
    does: "one in four messages on a node's line is lost, each way, for up to four seconds",
    prepare: nothing,
    strike: |world, dice| change(world, Mode::Lossy(LOST_PERCENT), 4000, dice),
};

/// A connection that ends in the middle of a frame.
pub(super) const TORN: Fault = Fault {
    name: "line-torn",
    does: "a node's connection is reset when half of what passes next has passed",
    prepare: nothing,
    strike: |world, dice| {
        let index = world.any(dice);
        let machine = &world.machines[index];
        machine.link.tear();
        Ok(machine.name.clone().into())
    },
};

/// A connection that is open and dead.
pub(crate) const HALF_OPEN: Fault = Fault {
    name: "line-half-open",
    does: "a node's connection stays open, and nothing comes out of it any more, one way or both, ever",
    prepare: nothing,
    strike: |world, dice| {
        let index = world.any(dice);
        let (up, down) = dice.pick(&[(true, true), (true, false), (false, true)]);
        let machine = &world.machines[index];
        machine.link.kill_silently(up, down);
        Ok(format!("{}, up {up}, down {down}", machine.name).into())
    },
};

fn change(world: &mut World<'_>, mode: Mode, at_most_ms: u64, dice: &mut Dice) -> Result<Struck, String> {
    let (index, pause) = (world.any(dice), dice.millis(50, at_most_ms));
    let machine = &world.machines[index];
    if !machine.link.is_open() {
        return Err(format!("{}'s line is in trouble already", machine.name));
    }
    machine.link.set(mode);
    let what = format!("{} for {} ms", machine.name, pause.as_millis());
    world.later(pause, move |world| world.machines[index].link.set(Mode::Open));
    Ok(what.into())
}
