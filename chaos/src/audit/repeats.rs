//! Orders with a schedule: each run has one result, whatever has struck, and what a result says of a run has happened once.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Audited;
use super::evidence::{Evidence, ask, list};
use crate::harness;
use crate::orders::What;
use crate::submit::socket_of;
use crate::world::World;

/// Results of an order that a node gives at once.
const RESULTS_MAX: usize = 1000;

/// Takes back every order that stands: they have no end of their own. Whoever can't be asked now is asked again.
pub(crate) fn take_back(world: &World<'_>) {
    for machine in &world.machines {
        let Ok(messages) = list(machine) else { continue };
        let stands = |message: &&Value| {
            let is_own = message["fromNode"] == machine.name && message["method"] == "Schedule";
            is_own && !message["finishedAt"].is_string()
        };
        for id in messages.iter().filter(stands).filter_map(|message| message["id"].as_str()) {
            let path = format!("/v1/messages/{id}/cancel");
            harness::socket(&socket_of(machine.node.dir()), "POST", &path, "").ok();
        }
    }
}

pub(super) fn check(world: &World<'_>, evidence: &Evidence, audited: &mut Audited) {
    for (number, order) in world.orders.iter().enumerate() {
        let (What::Repeated(repeat), Some(message)) = (&order.what, evidence.message(number)) else { continue };
        let (sender, receiver) = (&world.machines[order.from], &world.machines[order.to]);
        // Two who have one name, and a node that knows no more what it has run, count their runs anew.
        if sender.past.store_lost() || receiver.past.store_lost() || receiver.past.twins > 0 {
            continue;
        }
        let (tag, id) = (&order.tag, message["id"].as_str().unwrap_or_default());
        let results = match ask(sender, &format!("/v1/messages/{id}/results?limit={RESULTS_MAX}")) {
            Ok(Value::Array(results)) => results,
            Ok(other) => return audited.other(format!("{tag}: its results can't be read: {other}")),
            Err(error) => return audited.other(format!("{tag}: its results can't be read: {error:#}")),
        };
        audited.repeats += results.len() as u64;
        let numbers: Vec<u64> = results.iter().filter_map(|result| result["run"].as_u64()).collect();
        let is_all = numbers.len() < RESULTS_MAX;
        if !numbers.is_sorted_by(|a, b| a + 1 == *b) || (is_all && numbers.first().is_some_and(|first| *first != 1)) {
            audited.lost(format!("{tag} ({id}): runs have no result: there are those of {numbers:?}"));
        }
        // What each run has said of itself, and how often.
        let mut said: BTreeMap<String, usize> = BTreeMap::new();
        for ran in evidence.ran[order.to].iter().filter(|ran| ran.tag == *tag) {
            let line = format!("{} {} {}", ran.tag, ran.process, ran.at_ms.unwrap_or_default());
            *said.entry(line).or_default() += 1;
        }
        let mut unknown = 0;
        for result in &results {
            let state = result["state"].as_str().unwrap_or_default();
            let told = result["stdout"].as_str().unwrap_or_default().trim_end();
            match state {
                "done" if said.remove(told) != Some(1) => {
                    audited.twice(format!(
                        "{tag} ({id}): what run {} says has not happened once: {told:?}",
                        result["run"]
                    ));
                }
                "done" => {}
                "interrupted" | "cancelled" => unknown += 1,
                _ => audited.other(format!("{tag} ({id}): run {} is {state}: {}", result["run"], result["reason"])),
            }
        }
        // A run that is repeated has said so each time.
        let again = if repeat.rerun { receiver.past.ends as usize } else { 0 };
        if is_all && said.len() > unknown + again {
            audited.twice(format!("{tag} ({id}): {} runs are in no result: {:?}", said.len(), said.keys()));
        }
    }
}
