//! A wall clock that is wrong: a flat battery, a first synchronisation, an operator.

use std::time::Duration;

use super::{Fault, switches};

const DAY_SECONDS: i64 = 86_400;

/// A clock that jumps by a day.
pub(super) const JUMP: Fault = Fault {
    name: "clock-jump",
    does: "a node's wall clock jumps by a day, forwards or back, and is set right some seconds later",
    prepare: switches,
    strike: |world, dice| {
        let (index, days) = (world.any(dice), dice.pick(&[-1, 1]));
        let pause = Duration::from_millis(dice.between(300, 4000));
        let machine = &mut world.machines[index];
        machine.switches.set_clock(days * DAY_SECONDS);
        machine.past.clock_jumped = true;
        let what = format!("{}: {days} day for {} ms", machine.name, pause.as_millis());
        world.later(pause, move |world| world.machines[index].switches.set_clock(0));
        Ok(what.into())
    },
};
