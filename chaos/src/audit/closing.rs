//! Once more through every lane, when everything is over: nobody is stuck, and the metrics count what the list shows.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::Audited;
use super::evidence::{Evidence, ask, metrics};
use crate::faults::line::HALF_OPEN;
use crate::harness::{self, event, shell, with};
use crate::submit::socket_of;
use crate::world::{Machine, World};

/// How long a command to a node that is there may take on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(30);

/// The same where a connection may turn out only now to be dead one way, which takes a minute.
const LIMIT_HALF_OPEN: Duration = Duration::from_secs(120);

pub(super) fn check(world: &World<'_>, evidence: &Evidence, audited: &mut Audited) {
    for (machine, messages) in world.machines.iter().zip(&evidence.lists) {
        // Counters begin anew with each process.
        if machine.past.starts == 1 && !machine.past.disk_trouble {
            counts_the_same(machine, messages, audited);
        }
    }
    if let Err(error) = once_more(world, audited) {
        audited.lost(format!("in the end: {error:#}"));
    }
}

/// The metrics of a node that was never restarted say what its list says.
fn counts_the_same(machine: &Machine<'_>, messages: &[Value], audited: &mut Audited) {
    let mut listed: BTreeMap<String, u64> = BTreeMap::new();
    let own = |message: &&Value| message["fromNode"] == machine.name && message["method"] != "ErrorLog";
    for message in messages.iter().filter(own) {
        *listed.entry(message["state"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    match metrics(machine) {
        Ok(metrics) => {
            let counted = ended(&metrics, "out");
            if counted != listed {
                audited.other(format!("{}'s metrics say {counted:?}, and its list {listed:?}", machine.name));
            }
        }
        Err(error) => audited.other(format!("{error:#}")),
    }
}

/// Messages that have ended, by state, without those of which there are none, and without errors on their way to the log of
/// errors: those come when they come.
fn ended(metrics: &BTreeMap<String, f64>, direction: &str) -> BTreeMap<String, u64> {
    let (name, direction) = ("steward_messages_ended_total{", format!("direction=\"{direction}\""));
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for (labels, count) in metrics.iter().filter(|(labels, _)| labels.starts_with(name) && labels.contains(&direction))
    {
        if labels.contains("method=\"ErrorLog\"") {
            continue;
        }
        let state = labels.split("state=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        if *count > 0.0 {
            *counted.entry(state.to_owned()).or_default() += *count as u64;
        }
    }
    counted
}

/// A command and an event to each ship, and an event from each: all of them are done, and counted once at either end.
fn once_more(world: &World<'_>, audited: &mut Audited) -> anyhow::Result<()> {
    let central = &world.machines[0];
    let half_open = world.struck.contains_key(HALF_OPEN.name);
    let limit = if half_open { LIMIT_HALF_OPEN } else { LIMIT };
    let before = world.machines.iter().map(metrics).collect::<Result<Vec<_>, _>>()?;
    let mut lasts: Vec<(&Machine<'_>, &Machine<'_>, Value)> = Vec::new();
    for ship in &world.machines[1..] {
        lasts.push((central, ship, with(shell(&ship.name, ""), json!({ "data": ["true"] }))));
        lasts.push((central, ship, event(&ship.name, "TextLogging", &["the end"])));
        lasts.push((ship, central, event(&central.name, "TextLogging", &["the end"])));
    }
    let sent: Vec<String> = lasts.iter().map(|(from, _, message)| send(from, message)).collect::<Result<_, _>>()?;
    for ((from, to, message), id) in lasts.iter().zip(&sent) {
        let mut last = end(from, id, limit);
        if last["state"] == "interrupted" && to.past.twins > 0 {
            // It was sent to the other process of that name, which has gone.
            audited.excuse("sent to a process that had the name of its receiver, and was gone");
            last = end(from, &send(from, message)?, limit);
        }
        if last["state"] == "interrupted" && from.past.store_restored > 0 && from.past.clock_jumped {
            // Its number is below those that its node gave while its clock was ahead.
            audited
                .excuse("given a number that had been given before, by a restored copy after its clock had been ahead");
            return Ok(());
        }
        ensure!(last["state"] == "done", "a last message is not done: {last}");
    }
    let ships = world.machines.len() as u64 - 1;
    for (index, machine) in world.machines.iter().enumerate() {
        // Central sends two to each ship and gets one of each; a ship sends one and gets two.
        let (out, inward) = if index == 0 { (2 * ships, ships) } else { (1, 2) };
        for (direction, wanted) in [("out", out), ("in", inward)] {
            let done = |metrics: &BTreeMap<String, f64>| ended(metrics, direction).get("done").copied().unwrap_or(0);
            let mut more = None;
            let counted = harness::within(limit, || {
                // Fewer than before are those of another process, which should not be there.
                more = done(&metrics(machine).ok()?).checked_sub(done(&before[index]));
                (more == Some(wanted)).then_some(())
            });
            if counted.is_none() {
                audited.other(format!("{} counts {more:?} more done ({direction}) instead of {wanted}", machine.name));
            }
        }
    }
    Ok(())
}

/// How a message has ended, or how it stands when the time is over.
fn end(machine: &Machine<'_>, id: &str, limit: Duration) -> Value {
    let mut last = Value::Null;
    harness::within(limit, || {
        last = ask(machine, &format!("/v1/messages/{id}")).ok()?;
        last["finishedAt"].is_string().then_some(())
    });
    last
}

fn send(machine: &Machine<'_>, message: &Value) -> anyhow::Result<String> {
    let body = json!([message]).to_string();
    let answer = harness::socket(&socket_of(machine.node.dir()), "POST", "/v1/messages", &body)?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let ids: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    ids["ids"][0].as_str().map(str::to_owned).with_context(|| format!("{} does not take it: {text}", machine.name))
}
