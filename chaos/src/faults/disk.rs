//! Disks that are full, read-only or slow.

use super::{Fault, switches};
use crate::harness::DiskKind;
use crate::world::World;

/// MiB of a small disk: enough for everything that a node of a world writes, and filled in a moment.
const SMALL_DISK_MEBIBYTES: u32 = 48;

/// The disk is full.
pub(super) const FULL: Fault = Fault {
    name: "disk-full",
    does: "a node's disk is full to the last byte, for up to two seconds",
    prepare: |world, dice| {
        if world.machines.iter().any(|machine| machine.disk.is_some()) {
            return Ok(());
        }
        let index = world.any(dice);
        world.put_on_disk(index, DiskKind::Loop).or_else(|_| world.put_on_disk(index, DiskKind::Memory))
    },
    strike: |world, dice| {
        let pause = world.short(dice);
        let index = with_disk(world, |_| true)?;
        let machine = &mut world.machines[index];
        machine.past.disk_trouble = true;
        // What is decided meanwhile begins when it could be written down.
        machine.past.delayed += pause;
        let bytes = machine.fill_disk().map_err(|error| error.to_string())?;
        let what = format!("{} for {} ms, {bytes} bytes were left", machine.name, pause.as_millis());
        world.later(pause, move |world| world.machines[index].free_disk());
        Ok(what.into())
    },
};

/// The disk can't be written any more.
pub(super) const READ_ONLY: Fault = Fault {
    name: "disk-read-only",
    does: "a node's file system has an error and becomes read-only in the middle of everything; it is repaired and mounted again",
    prepare: |world, dice| {
        if world.machines.iter().any(|machine| machine.disk == Some(DiskKind::Loop)) {
            return Ok(());
        }
        let index = world.any(dice);
        world.put_on_disk(index, DiskKind::Loop)
    },
    strike: |world, dice| {
        let pause = world.short(dice);
        let index = with_disk(world, |kind| kind == DiskKind::Loop)?;
        let machine = &mut world.machines[index];
        machine.past.disk_trouble = true;
        machine.past.disk_failed = true;
        machine.break_disk()?;
        let what = format!("{} for {} ms", machine.name, pause.as_millis());
        world.later(pause, move |world| {
            let repaired = world.with_stopped(index, true, |world, index| world.machines[index].repair_disk());
            // It has ended by itself: then there is nobody to stop.
            if repaired.is_err() {
                world.hold_and(index, |world, index| world.machines[index].repair_disk());
            }
        });
        Ok(what.into())
    },
};

/// Syncs take long.
pub(super) const SLOW_SYNC: Fault = Fault {
    name: "slow-sync",
    does: "every sync of a node's files takes up to 400 ms more, for up to four seconds",
    prepare: switches,
    strike: |world, dice| {
        let (index, millis, pause) = (world.any(dice), dice.between(30, 400), dice.millis(200, 4000));
        let machine = &mut world.machines[index];
        machine.switches.set_sync(millis);
        machine.past.delayed += pause;
        let what = format!("{}: {millis} ms for {} ms", machine.name, pause.as_millis());
        world.later(pause, move |world| world.machines[index].switches.set_sync(0));
        Ok(what.into())
    },
};

/// The machine with such a disk, if that is in order.
fn with_disk(world: &World<'_>, is_it: impl Fn(DiskKind) -> bool) -> Result<usize, String> {
    let wanted = |machine: &crate::world::Machine<'_>| machine.disk.is_some_and(&is_it) && !machine.disk_is_broken;
    world.machines.iter().position(wanted).ok_or_else(|| "no such disk is in order".to_owned())
}

impl World<'_> {
    /// Gives a machine a small disk of its own.
    fn put_on_disk(&mut self, index: usize, kind: DiskKind) -> Result<(), String> {
        let machine = &mut self.machines[index];
        machine.node.put_on_disk(kind, SMALL_DISK_MEBIBYTES)?;
        machine.disk = Some(kind);
        Ok(())
    }
}
