//! Two processes where there should be one: on one directory, or with one name.

use std::time::Duration;

use super::store::copy_papers;
use super::{Fault, Struck, nothing};
use crate::world::World;
use crate::world::guests::Guest;

/// How long a process may take to find out that it is not wanted.
const REFUSAL: Duration = Duration::from_secs(4);

/// A second process on a directory.
pub(super) const SAME_DIRECTORY: Fault = Fault {
    name: "same-directory",
    does: "a second process is started on a node's directory; it has to refuse",
    prepare: nothing,
    strike: |world, dice| {
        let index = world.any(dice);
        let machine = &mut world.machines[index];
        if !machine.runs() {
            return Err(format!("{} does not run", machine.name));
        }
        if machine.held > 0 {
            return Err(format!("something is to be done with the directory of {}", machine.name));
        }
        if machine.disk.is_some() {
            return Err(format!("{} is on a disk that can't be reached by a path", machine.name));
        }
        let node = machine.node.beside();
        let name = machine.name.clone();
        world.invite(Guest::new(node, index, true, REFUSAL));
        Ok(name.into())
    },
};

/// A second node with the same name.
pub(super) const SAME_NAME: Fault = Fault {
    name: "same-name",
    does: "a second node with a ship's name is started elsewhere; it has to refuse, or, while the first one stands still, is kept apart",
    prepare: nothing,
    strike: |world, dice| {
        let (ship, frozen, stay) = (world.a_ship(dice), dice.chance(60), dice.millis(2500, 5000));
        let machine = &mut world.machines[ship];
        if !machine.runs() {
            return Err(format!("{} does not run", machine.name));
        }
        let name = machine.name.clone();
        if frozen {
            machine.node.freeze();
            let process = machine.node.pid();
            world.later(stay * 2 / 3, move |world| thaw(world, ship, process));
        }
        let node = world.fleet.absent_in(&format!("{name}-twin-{}", world.chronicle.len()), &name, &[]);
        let given = copy_papers(world.machines[ship].node.dir(), node.dir());
        given.map_err(|error| format!("the twin can't have its identity: {error}"))?;
        world.invite(Guest::new(node, ship, false, stay).unseen(frozen));
        Ok(Struck::Now(format!("{name}{}", if frozen { ", which stands still" } else { "" })))
    },
};

fn thaw(world: &mut World<'_>, ship: usize, process: u32) {
    let machine = &mut world.machines[ship];
    if machine.runs() && machine.node.pid() == process {
        machine.node.thaw();
    }
}
