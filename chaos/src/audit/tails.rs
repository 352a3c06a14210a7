//! The log that central has followed: each line is there once and in order, and nothing else.

use std::fs;

use super::Audited;
use crate::tailer::{CENTRAL, SHIP, line};
use crate::world::{Past, World};

pub(super) fn check(world: &World<'_>, audited: &mut Audited) {
    let Some(file) = &world.tailed.file else { return };
    let (central, ship) = (&world.machines[CENTRAL].past, &world.machines[SHIP].past);
    // How far it was read is in the store of the one, and whom it was asked of in the store of the other.
    let is_gone = |past: &Past| past.store_lost() || past.twins > 0 || past.disk_failed;
    if is_gone(central) || is_gone(ship) {
        return audited
            .excuse("a log that is followed, where a store or a file system was lost, or a second node had the name");
    }
    let here = fs::read_to_string(file).unwrap_or_default();
    let mut there = here.split_inclusive('\n');
    for number in 1..=world.tailed.lines {
        let (expected, found) = (line(number), there.next());
        if found != Some(&*expected) {
            let many = here.lines().count();
            return audited.lost(format!(
                "line {number} of {} of the log that is followed: {many} lines are there, and in its place {found:?}",
                world.tailed.lines
            ));
        }
    }
    if let Some(more) = there.next() {
        audited.twice(format!("behind the last line of the log that is followed there is {more:?}"));
    }
    audited.followed += u64::from(world.tailed.lines);
}
