//! Promise 1: what was accepted is there, once, and has exactly one final state, and one that it can have.

use super::Audited;
use super::evidence::Evidence;
use crate::ledger::Fate;
use crate::orders::{Order, What};
use crate::world::World;

pub(super) fn check(world: &World<'_>, evidence: &Evidence, audited: &mut Audited) {
    for (number, order) in world.orders.iter().enumerate() {
        let (fate, found) = (&evidence.fates[number], &evidence.found[number]);
        let tag = &order.tag;
        if found.len() > 1 {
            let ids: Vec<_> = found.iter().map(|message| message["id"].to_string()).collect();
            audited.twice(format!("{tag} was accepted {} times: {ids:?}", found.len()));
            continue;
        }
        let Some(message) = found.first() else {
            match fate {
                Fate::Unknown(_) => {}
                Fate::Accepted(_) | Fate::Written if world.machines[order.from].past.store_lost() => {
                    audited.excuse("accepted by a node whose directory was lost");
                }
                Fate::Accepted(_) if world.machines[order.from].past.disk_failed => {
                    audited.excuse("accepted with a sync that a failing file system had told as done");
                }
                Fate::Open => audited.other(format!("{tag} could not be handed in")),
                Fate::Accepted(_) | Fate::Written => audited.lost(format!("{tag} ({fate:?}) is not there any more")),
            }
            continue;
        };
        if let Fate::Accepted(id) = fate
            && message["id"] != **id
        {
            audited.other(format!("{tag} was accepted as {id} and is there as {}", message["id"]));
        }
        audited.messages += 1;
        *audited.kinds.entry(order.kind()).or_default() += 1;
        let state = message["state"].as_str().unwrap_or_default().to_owned();
        let what = format!("{tag} ({}, {})", order.kind(), message["id"].as_str().unwrap_or_default());
        if !message["finishedAt"].is_string() {
            audited.lost(format!("{what} is still {state}: {}", message["reason"]));
        } else if state == "interrupted"
            && world.machines[order.from].past.disk_failed
            && !may_end_as(world, order, &state)
        {
            audited.excuse("open again at its sender, whose file system had lost what it had told as synced");
        } else if evidence.had_no_room(world, number) {
            audited.excuse("a script that failed because its receiver's disk had no room for it");
        } else if !may_end_as(world, order, &state) {
            audited.lost(format!("{what} ended as {state}: {}", message["reason"]));
        }
        *audited.states.entry(state).or_default() += 1;
    }
}

/// Whether an order can have this end, after what has happened in this world.
fn may_end_as(world: &World<'_>, order: &Order, state: &str) -> bool {
    let (sender, receiver) = (&world.machines[order.from].past, &world.machines[order.to].past);
    // Nobody knows what became of what was at a store that is not there any more.
    if state == "interrupted" && (sender.store_lost() || receiver.store_lost() || receiver.twins > 0) {
        return !matches!(order.what, What::CommandWithoutAck | What::EventWithoutAck);
    }
    let command = match &order.what {
        What::Command(command) => command,
        What::CommandWithoutAck | What::EventWithoutAck => return state == "sent",
        What::Forbidden => return state == "refused",
        // A node ends it by itself only if its sender does not know it any more.
        What::Repeated(_) => return state == "cancelled" || (state == "failed" && sender.store_lost()),
        // A line that could not be written is not done, and that is what is said.
        What::Event(_) => return state == "done" || (state == "failed" && receiver.disk_trouble),
    };
    let by_itself = match (command.sleep_ms, command.method_timeout_ms, command.exit_code) {
        (sleep, Some(limit), _) if sleep > limit => "timed_out",
        (_, _, 0) => "done",
        (_, _, _) => "failed",
    };
    match state {
        "interrupted" => receiver.ends > 0 && !command.rerun,
        "expired" => command.deadline_ms.is_some(),
        "undeliverable" => command.attempts.is_some(),
        "cancelled" => order.cancel_after.is_some(),
        state => state == by_itself,
    }
}
