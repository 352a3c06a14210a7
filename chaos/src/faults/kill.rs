//! SIGKILL, at any moment: what a crash of the program, the kernel's memory killer or `kill -9` do.

use rustix::process::Signal;

use super::{Fault, nothing};

/// The sender of the commands.
pub(super) const SENDER: Fault = Fault {
    name: "kill-sender",
    does: "central is killed (SIGKILL) and started again",
    prepare: nothing,
    strike: |world, dice| Ok(world.kill(0, dice)?.into()),
};

/// A receiver of commands.
pub(super) const RECEIVER: Fault = Fault {
    name: "kill-receiver",
    does: "a ship is killed (SIGKILL) and started again",
    prepare: nothing,
    strike: |world, dice| {
        let ship = world.a_ship(dice);
        Ok(world.kill(ship, dice)?.into())
    },
};

/// The broker.
pub(super) const BROKER: Fault = Fault {
    name: "kill-broker",
    does: "the nats-server is killed (SIGKILL) and started again",
    prepare: nothing,
    strike: |world, dice| Ok(world.replace_broker(Signal::KILL, dice.millis(20, 2000))?.into()),
};
