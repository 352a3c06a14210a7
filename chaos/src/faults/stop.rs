//! SIGTERM: what a service manager does for a restart.

use rustix::process::Signal;

use super::{Fault, nothing};

/// The sender of the commands.
pub(super) const SENDER: Fault = Fault {
    name: "stop-sender",
    does: "central is asked to stop (SIGTERM) and started again",
    prepare: nothing,
    strike: |world, _| Ok(world.stop(0)?.into()),
};

/// A receiver of commands.
pub(super) const RECEIVER: Fault = Fault {
    name: "stop-receiver",
    does: "a ship is asked to stop (SIGTERM), with what runs there, and started again",
    prepare: nothing,
    strike: |world, dice| {
        let ship = world.a_ship(dice);
        Ok(world.stop(ship)?.into())
    },
};

/// The broker.
pub(super) const BROKER: Fault = Fault {
    name: "stop-broker",
    does: "the nats-server is asked to stop (SIGTERM) and started again",
    prepare: nothing,
    strike: |world, dice| Ok(world.replace_broker(Signal::TERM, dice.millis(20, 2000))?.into()),
};
