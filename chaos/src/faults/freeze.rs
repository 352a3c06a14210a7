//! SIGSTOP and SIGCONT: a process that gets no time, a laptop that sleeps, a virtual machine that is moved.

use rustix::process::Signal;

use super::{Fault, Struck, nothing};
use crate::dice::Dice;
use crate::world::World;

/// The sender of the commands.
pub(super) const SENDER: Fault = Fault {
    name: "freeze-sender",
    does: "central stands still (SIGSTOP) for up to two seconds",
    prepare: nothing,
    strike: |world, dice| machine(world, 0, dice),
};

/// A receiver of commands.
pub(super) const RECEIVER: Fault = Fault {
    name: "freeze-receiver",
    does: "a ship stands still (SIGSTOP) for up to two seconds",
    prepare: nothing,
    strike: |world, dice| {
        let ship = world.a_ship(dice);
        machine(world, ship, dice)
    },
};

/// The broker.
pub(super) const BROKER: Fault = Fault {
    name: "freeze-broker",
    does: "the nats-server stands still (SIGSTOP) for up to two seconds; connections stay open",
    prepare: nothing,
    strike: |world, dice| {
        if world.broker_away {
            return Err("the broker does not run".to_owned());
        }
        let pause = world.short(dice);
        world.fleet.broker.signal(Signal::STOP);
        world.later(pause, |world| world.fleet.broker.signal(Signal::CONT));
        Ok(format!("for {} ms", pause.as_millis()).into())
    },
};

fn machine(world: &mut World<'_>, index: usize, dice: &mut Dice) -> Result<Struck, String> {
    let pause = world.short(dice);
    let machine = &mut world.machines[index];
    if !machine.runs() {
        return Err(format!("{} does not run", machine.name));
    }
    machine.node.freeze();
    machine.past.delayed += pause;
    let (process, what) = (machine.node.pid(), format!("{} for {} ms", machine.name, pause.as_millis()));
    world.later(pause, move |world| {
        let machine = &mut world.machines[index];
        if machine.runs() && machine.node.pid() == process {
            machine.node.thaw();
        }
    });
    Ok(what.into())
}
