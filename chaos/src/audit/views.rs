//! Promise 5: whoever is asked says the same: the list of messages, the message log, the metrics, the command line, and the
//! log of the node at the other end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::Audited;
use super::evidence::{Evidence, list};
use crate::harness;
use crate::world::World;

/// How long it may take until two questions in a row have the same answer.
const SAME_MAX: Duration = Duration::from_secs(10);

pub(super) fn check(world: &World<'_>, evidence: &Evidence, audited: &mut Audited) {
    for (machine, messages) in evidence.lists.iter().enumerate() {
        let name = &world.machines[machine].name;
        let sent: BTreeMap<&str, &str> = messages
            .iter()
            // A node tells of errors by itself at any time. What had not ended when it was asked is found elsewhere.
            .filter(|message| message["fromNode"] == **name && message["finishedAt"].is_string())
            .filter_map(|message| Some((message["id"].as_str()?, message["state"].as_str()?)))
            .collect();
        if !world.machines[machine].past.store_lost() {
            message_log(world, machine, &sent, audited);
        }
        command_line(world, machine, audited);
    }
    both_ends(world, evidence, audited);
}

/// R11: a line for each message as it came and one as it ended, and the last of those says how.
fn message_log(world: &World<'_>, machine: usize, sent: &BTreeMap<&str, &str>, audited: &mut Audited) {
    let name = &world.machines[machine].name;
    let text = world.machines[machine].node.read("messages.jsonl");
    let (mut accepted, mut ended) = (BTreeSet::new(), BTreeMap::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let Some(id) = line["id"].as_str().map(str::to_owned) else { continue };
        match line["state"].as_str() {
            Some(state) => drop(ended.insert(id, state.to_owned())),
            None => drop(accepted.insert(id)),
        }
    }
    let at = &world.machines[machine];
    for (id, state) in sent {
        // The message log is not synced: what a file system that fails has not written yet is lost with it.
        let has_failed = at.past.disk_failed;
        if has_failed && (!accepted.contains(*id) || !ended.contains_key(*id)) {
            audited.excuse("a line of the message log that was not synced when the file system failed");
            continue;
        }
        if !accepted.contains(*id) {
            audited.other(format!("{name}'s message log does not say that {id} was accepted"));
        }
        let logged = ended.get(*id).map(String::as_str);
        if logged != Some(state) {
            audited.other(format!("{name}'s message log says that {id} is {logged:?}, and it is {state}"));
        }
    }
}

/// `steward messages` shows what the API does. Nodes tell of errors by themselves at any time, so both are asked again until
/// nothing has come in between.
fn command_line(world: &World<'_>, machine: usize, audited: &mut Audited) {
    let at = &world.machines[machine];
    let states = |messages: &[Value]| -> BTreeMap<String, String> {
        messages.iter().map(|message| (message["id"].to_string(), message["state"].to_string())).collect()
    };
    let mut last = String::new();
    let same = harness::within(SAME_MAX, || {
        let ran = at.node.cli(&["messages", "--json", "--limit", "10000"]);
        let shown: Vec<Value> = ran.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>().ok()?;
        last = format!("{} messages ({}): {}", shown.len(), ran.code, ran.stderr);
        (ran.code == 0 && states(&shown) == states(&list(at).ok()?)).then_some(())
    });
    if same.is_none() {
        audited.other(format!("{}: `steward messages` shows something else: {last}", at.name));
    }
}

/// Sender and receiver agree on how a message ended.
fn both_ends(world: &World<'_>, evidence: &Evidence, audited: &mut Audited) {
    let mut told: BTreeMap<(String, String), BTreeSet<(usize, String)>> = BTreeMap::new();
    for (machine, at) in world.machines.iter().enumerate() {
        for line in at.node.log_lines().iter().filter(|line| line["message"] == "received message ended") {
            if let (Some(id), Some(state)) = (line["id"].as_str(), line["state"].as_str()) {
                let sender = line["node"].as_str().unwrap_or_default().to_owned();
                told.entry((sender, id.to_owned())).or_default().insert((machine, state.to_owned()));
            }
        }
    }
    for (number, order) in world.orders.iter().enumerate() {
        let Some(message) = evidence.message(number) else { continue };
        let (sender, receiver) = (&world.machines[order.from].past, &world.machines[order.to].past);
        if sender.store_lost() || receiver.store_lost() || receiver.twins > 0 {
            continue;
        }
        let (id, state) = (message["id"].as_str().unwrap_or_default(), message["state"].as_str().unwrap_or_default());
        if state == "interrupted" && sender.disk_failed {
            continue;
        }
        let key = (world.machines[order.from].name.clone(), id.to_owned());
        let Some(told) = told.get(&key) else { continue };
        // Whoever gives up can only guess.
        if state != "undeliverable" && told.iter().any(|(machine, other)| *machine != order.to || other != state) {
            audited.other(format!("{} is {state} for its sender; its receiver says {told:?}", order.tag));
        }
    }
}
