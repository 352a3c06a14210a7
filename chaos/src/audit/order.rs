//! Promise 4: the messages of a lane start in the order in which they were accepted.
//!
//! What came in one way is in the order in which it was handed in. A message that is parallel may overtake: commands say
//! that they run when they do, and two that run side by side may say so in either order.

use std::collections::BTreeMap;

use super::Audited;
use super::evidence::Evidence;
use crate::orders::{Command, What};
use crate::submit::{Submission, Way};
use crate::world::World;

pub(super) fn check(world: &World<'_>, evidence: &Evidence, submissions: &[Submission], audited: &mut Audited) {
    let places = places(world, evidence);
    // The last place that was taken in each lane, by way of coming in.
    let mut last: BTreeMap<(usize, usize, u8, usize), (usize, &str)> = BTreeMap::new();
    for (index, submission) in submissions.iter().enumerate() {
        for number in &submission.orders {
            let order = &world.orders[*number];
            let lane = match order.what {
                What::Command(Command { is_script: false, .. }) => 0,
                What::Event(_) => 1,
                What::Command(Command { is_script: true, .. }) => 2,
                // Nobody promises an order of what is handed over once.
                What::CommandWithoutAck | What::EventWithoutAck | What::Forbidden | What::Repeated(_) => continue,
            };
            // Whoever lost its store knows nothing of an order, and two who have one name keep none between them.
            let (sender, receiver) = (&world.machines[order.from].past, &world.machines[order.to].past);
            if sender.store_lost() || receiver.store_restored > 0 || receiver.twins > 0 {
                continue;
            }
            let Some(place) = places.get(&(order.to, order.tag.as_str())) else { continue };
            let is_parallel = matches!(&order.what, What::Command(command) if command.parallel);
            // Files that are there at the same time are taken in any order.
            let way = match submission.way {
                Way::Socket => 0,
                Way::File => 1,
                Way::Spool => 2 + index,
            };
            let key = (order.from, order.to, lane, way);
            let before = last.entry(key).or_insert((0, ""));
            if *place < before.0 && !is_parallel {
                let names = (&world.machines[order.from].name, &world.machines[order.to].name);
                audited
                    .other(format!("order: {} started before {} from {} to {}", order.tag, before.1, names.0, names.1));
            }
            *before = (*before).max((*place, order.tag.as_str()));
        }
    }
}

/// Where each order first stands in the file of its node, from 1 on.
fn places<'e>(world: &World<'_>, evidence: &'e Evidence) -> BTreeMap<(usize, &'e str), usize> {
    let mut places = BTreeMap::new();
    for machine in 0..world.machines.len() {
        let ran = evidence.ran[machine].iter().map(|ran| &ran.tag).enumerate();
        for (place, tag) in ran.chain(evidence.logged[machine].iter().flatten().enumerate()) {
            places.entry((machine, tag.as_str())).or_insert(place + 1);
        }
    }
    places
}
