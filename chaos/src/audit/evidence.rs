//! What nodes and files say, gathered once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::faults::wire::STRANGER;
use crate::harness;
use crate::ledger::Fate;
use crate::orders::SCRIPT_HEAD;
use crate::orders::{Ran, What};
use crate::submit::socket_of;
use crate::world::{Machine, World};

/// Messages of a node that are named if they have not ended.
const OPEN_IDS: usize = 8;

/// See the module.
pub(super) struct Evidence {
    /// What each machine lists, sent and received.
    pub(super) lists: Vec<Vec<Value>>,
    /// The messages with the tag of each order at its sender; one, if all is well.
    pub(super) found: Vec<Vec<Value>>,
    /// What is known of the acceptance of each order.
    pub(super) fates: Vec<Fate>,
    /// What commands did on each machine, in that order.
    pub(super) ran: Vec<Vec<Ran>>,
    /// The tags in each machine's text logs, in that order; the last is the one that is there now.
    pub(super) logged: Vec<Vec<Vec<String>>>,
}

impl Evidence {
    /// Asks everybody.
    pub(super) fn gather(world: &World<'_>, fates: &[Fate]) -> anyhow::Result<Self> {
        let lists: Vec<Vec<Value>> = world.machines.iter().map(list).collect::<Result<_, _>>()?;
        let mut by_tag: Vec<BTreeMap<String, Vec<Value>>> = vec![BTreeMap::new(); lists.len()];
        for (machine, messages) in lists.iter().enumerate() {
            for message in messages.iter().filter(|message| message["fromNode"] == world.machines[machine].name) {
                if let Some(tag) = tag_of(message) {
                    by_tag[machine].entry(tag).or_default().push(message.clone());
                }
            }
        }
        let found = world.orders.iter().map(|order| by_tag[order.from].get(&order.tag).cloned().unwrap_or_default());
        let found = found.collect();
        let ran = world.machines.iter().map(|machine| world.effects.read(&machine.name)).collect();
        let logged = world.machines.iter().map(logged).collect();
        Ok(Self { lists, found, fates: fates.to_vec(), ran, logged })
    }

    /// The message of an order, if there is exactly one.
    pub(super) fn message(&self, order: usize) -> Option<&Value> {
        match self.found[order].as_slice() {
            [message] => Some(message),
            _ => None,
        }
    }

    /// How an order has ended.
    pub(super) fn state(&self, order: usize) -> Option<&str> {
        self.message(order)?["state"].as_str()
    }

    /// Whether an order is a script that never began, because there was no room for it on its receiver's disk: it says so.
    pub(super) fn had_no_room(&self, world: &World<'_>, order: usize) -> bool {
        let is_script = matches!(&world.orders[order].what, What::Command(command) if command.is_script);
        let has_failed = self.message(order).is_some_and(|message| {
            message["state"] == "failed" && message["exitCode"].is_null() && message["reason"].is_string()
        });
        is_script && has_failed && world.machines[world.orders[order].to].past.disk_trouble
    }

    /// The processes that carried an order out on its receiver; for an event its lines, each with process 0.
    pub(super) fn runs(&self, world: &World<'_>, order: usize) -> Vec<u32> {
        let order = &world.orders[order];
        match order.what {
            What::Event(_) | What::EventWithoutAck => {
                let logs = self.logged[order.to].iter();
                let lines = logs.map(|log| log.iter().filter(|tag| **tag == order.tag).count());
                // A copy that was brought back has lines that another log had as well.
                let is_copy = world.machines[order.to].past.store_restored > 0;
                vec![0; if is_copy { lines.max().unwrap_or(0) } else { lines.sum() }]
            }
            What::Command(_) | What::CommandWithoutAck | What::Forbidden | What::Repeated(_) => {
                let own = self.ran[order.to].iter().filter(|ran| ran.tag == order.tag);
                own.map(|ran| ran.process).collect()
            }
        }
    }

    /// When an order that has a deadline began for the last time, in milliseconds since 1970, by its own word.
    pub(super) fn began_ms(&self, world: &World<'_>, order: usize) -> Option<u64> {
        let order = &world.orders[order];
        self.ran[order.to].iter().filter(|ran| ran.tag == order.tag).filter_map(|ran| ran.at_ms).max()
    }
}

/// All messages that a machine knows of.
pub(super) fn list(machine: &Machine<'_>) -> anyhow::Result<Vec<Value>> {
    ask(machine, "/v1/messages?limit=10000").and_then(|list| Ok(serde_json::from_value(list)?))
}

/// Asks a machine.
pub(super) fn ask(machine: &Machine<'_>, path: &str) -> anyhow::Result<Value> {
    let name = &machine.name;
    let answer = harness::socket(&socket_of(machine.node.dir()), "GET", path, "").with_context(|| name.clone())?;
    ensure!(answer.status == 200, "{name} answers {path} with {}", answer.status);
    serde_json::from_slice(&answer.body).with_context(|| format!("{name} answers {path} with what is no JSON"))
}

/// The tag in the data of one of our messages.
pub(crate) fn tag_of(message: &Value) -> Option<String> {
    let data = message["data"].as_array()?;
    let text = data.last()?.as_str()?;
    let text = text.strip_prefix(SCRIPT_HEAD).unwrap_or(text);
    let text = text.strip_prefix("echo ").unwrap_or(text);
    let tag = text.split([' ', '\n']).next()?;
    (tag.len() == 6 && tag.starts_with('m')).then(|| tag.to_owned())
}

/// The tags in a machine's text logs.
fn logged(machine: &Machine<'_>) -> Vec<Vec<String>> {
    let now = fs::read(machine.node.dir().join("textlogging.log")).unwrap_or_default();
    let now = String::from_utf8_lossy(&now).into_owned();
    let tags = |text: &String| text.lines().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect();
    machine.past.old_logs.iter().chain([&now]).map(tags).collect()
}

/// Whether nobody will ever confirm a message: a stranger's, or one of a node that has lost its store.
pub(super) fn is_nobodys(world: &World<'_>, message: &Value) -> bool {
    let mut lost = world.machines.iter().filter(|machine| machine.past.store_lost() || machine.past.twins > 0);
    message["fromNode"] == STRANGER || lost.any(|machine| message["fromNode"] == machine.name)
}

/// What has not come to its end, as far as it can be seen from outside; none if everything has.
pub(crate) fn what_is_open(world: &World<'_>) -> Option<String> {
    world.machines.iter().find_map(|machine| {
        let name = &machine.name;
        let messages = match list(machine) {
            Ok(messages) => messages,
            Err(error) => return Some(format!("{name}: {error:#}")),
        };
        let open = messages.iter().filter(|message| !message["finishedAt"].is_string());
        let open: Vec<&Value> = open.filter(|message| !is_nobodys(world, message)).collect();
        if !open.is_empty() {
            let ids = open.iter().take(OPEN_IDS).map(|message| format!("{} {}", message["id"], message["state"]));
            let ids = ids.collect::<Vec<_>>().join(", ");
            return Some(format!("{name} has {} messages that have not ended: {ids}", open.len()));
        }
        let metrics = match metrics(machine) {
            Ok(metrics) => metrics,
            Err(error) => return Some(format!("{name}: {error:#}")),
        };
        let unconfirmed = messages.iter().filter(|message| is_nobodys(world, message)).count();
        for (gauge, most) in [("steward_outbox_open_messages", 0), ("steward_inbox_open_messages", unconfirmed)] {
            if metrics.get(gauge).is_none_or(|count| *count > most as f64) {
                return Some(format!("{name}: {gauge} is {:?}", metrics.get(gauge)));
            }
        }
        let dir = machine.node.dir();
        if fs::metadata(dir.join("inmsg.txt")).map_or(1, |meta| meta.len()) > 0 {
            return Some(format!("{name}: inmsg.txt is not taken in"));
        }
        let mut files = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let taken = files.find(|file| file.to_string_lossy().starts_with("inmsg.taken-"));
        if let Some(file) = taken {
            return Some(format!("{name}: {} is there", file.display()));
        }
        let waiting = |file: &OsString| {
            let file = file.to_string_lossy();
            file.starts_with(".taken-") || file.ends_with(".json")
        };
        let spooled =
            fs::read_dir(dir.join("messages.d")).into_iter().flatten().flatten().map(|entry| entry.file_name());
        spooled.into_iter().find(waiting).map(|file| format!("{name}: messages.d/{} is there", file.display()))
    })
}

/// A machine's metrics, each with its labels as part of its name.
pub(super) fn metrics(machine: &Machine<'_>) -> anyhow::Result<BTreeMap<String, f64>> {
    let answer = harness::request(&machine.metrics.address(), "/metrics")?;
    ensure!(answer.status == 200, "{} answers {} for its metrics", machine.name, answer.status);
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect())
}
