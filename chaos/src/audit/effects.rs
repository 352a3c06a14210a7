//! Promise 2: what is carried out is carried out once, where it was meant to be, and what ended well was carried out.

use std::collections::{BTreeMap, BTreeSet};

use super::Audited;
use super::evidence::Evidence;
use crate::faults::wire::STRANGER;
use crate::ledger::Fate;
use crate::orders::{Order, What};
use crate::world::World;

pub(super) fn check(world: &World<'_>, evidence: &Evidence, audited: &mut Audited) {
    known(world, evidence, audited);
    for (number, order) in world.orders.iter().enumerate() {
        let runs = evidence.runs(world, number);
        audited.executions += runs.len() as u64;
        let state = evidence.state(number);
        let (tag, kind) = (&order.tag, order.kind());
        let what = || format!("{tag} ({kind}), {}, by processes {runs:?}", state.unwrap_or("not there"));
        let (sender, receiver) = (&world.machines[order.from].past, &world.machines[order.to].past);
        let copies = if receiver.in_copy.contains(tag) { receiver.store_restored as usize } else { 0 };
        // Its sender does not know that it has sent it, and its receiver does not know that it has had it.
        let unknown =
            if sender.out_copy.contains(tag) { (receiver.store_gone + receiver.store_restored) as usize } else { 0 };
        let most = most(world, order, &runs);
        let in_file = sender.store_restored > 0 && evidence.fates[number] == Fate::Written;
        if runs.len() > most && in_file {
            audited.excuse("handed in again by a copy in which its file was not taken in yet");
        } else if runs.len() > most + copies + unknown {
            audited.twice(what());
        } else if runs.len() > most + copies {
            audited
                .excuse("sent again by a restored copy in whose outbox it was, to a receiver whose directory was lost");
        } else if runs.len() > most {
            audited.excuse("run again by a restored copy in whose inbox it was");
        }
        let never = matches!(state, Some("refused" | "expired")) || matches!(order.what, What::Forbidden);
        if never && runs.len() > copies + unknown {
            audited.twice(format!("should not have run at all: {}", what()));
        }
        // One that ran out of time may not have come to its first line.
        let always = state == Some("done") || (state == Some("failed") && matches!(order.what, What::Command(_)));
        if always && runs.is_empty() && !evidence.had_no_room(world, number) {
            audited.lost(format!("was never carried out: {}", what()));
        }
        if state.is_none() && !runs.is_empty() && !world.machines[order.from].past.store_lost() {
            audited.lost(format!("was carried out, and its sender knows nothing of it: {}", what()));
        }
    }
}

/// How often an order may have been carried out.
fn most(world: &World<'_>, order: &Order, runs: &[u32]) -> usize {
    let past = &world.machines[order.to].past;
    let processes: BTreeSet<u32> = runs.iter().copied().collect();
    match &order.what {
        // Once more for each process that died in the middle.
        What::Command(command) if command.rerun => 1 + (past.ends + past.store_gone + past.twins) as usize,
        // Nothing is kept of these, so that a process knows only what it has seen itself.
        What::CommandWithoutAck => processes.len(),
        What::EventWithoutAck => (past.starts + past.twins) as usize,
        What::Command(_) | What::Event(_) => 1,
        What::Forbidden => 0,
        // Each of its runs is compared with its result.
        What::Repeated(_) => usize::MAX / 2,
    }
}

/// Everything that was carried out was ordered, and ordered there.
fn known(world: &World<'_>, evidence: &Evidence, audited: &mut Audited) {
    let places: BTreeMap<&str, usize> = world.orders.iter().map(|order| (order.tag.as_str(), order.to)).collect();
    for (machine, name) in world.machines.iter().map(|machine| &machine.name).enumerate() {
        let tags = evidence.ran[machine].iter().map(|ran| &ran.tag).chain(evidence.logged[machine].iter().flatten());
        for tag in tags.filter(|tag| *tag != STRANGER) {
            if places.get(tag.as_str()) != Some(&machine) {
                audited.other(format!("{name} has carried out {tag:?}, which was not meant for it"));
            }
        }
    }
}
