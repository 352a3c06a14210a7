//! What happens to members of a fleet only.

use super::Fault;
use crate::harness::Process;

/// New keys.
pub(super) const KEYS_RENEWED: Fault = Fault {
    name: "keys-renewed",
    does: "central has a ship renew its keys while messages flow (members of a fleet only)",
    prepare: |world, _| match world.papers {
        Some(_) => Ok(()),
        None => Err("these nodes have no keys".to_owned()),
    },
    strike: |world, dice| {
        let ship = world.a_ship(dice);
        let name = world.machines[ship].name.clone();
        if !world.machines[0].runs() {
            return Err("central does not run".to_owned());
        }
        let mut command = world.machines[0].node.command();
        command.args(["rotate", "--node", &name, "--timeout", "1m"]);
        // It waits for the end, and nobody here waits for it: the audit sees whether the ship gets in.
        let errand = Process::start(&format!("rotate-{}", world.chronicle.len()), world.fleet.dir(), &mut command);
        world.errands.push(errand);
        Ok(name.into())
    },
};
