//! Promise 3: the whole result comes back, byte for byte.

use std::time::Duration;

use super::Audited;
use super::evidence::Evidence;
use crate::harness;
use crate::orders::What;
use crate::submit::socket_of;
use crate::world::World;

/// How long a confirmed output may stay: it goes a moment after its row.
const LEFT_MAX: Duration = Duration::from_secs(10);

pub(super) fn check(world: &World<'_>, evidence: &Evidence, audited: &mut Audited) {
    for (number, order) in world.orders.iter().enumerate() {
        let (What::Command(command), Some(message)) = (&order.what, evidence.message(number)) else { continue };
        let state = message["state"].as_str().unwrap_or_default();
        let is_whole = matches!(state, "done" | "failed" | "timed_out");
        let Some(id) = message["id"].as_str().filter(|_| is_whole && !evidence.had_no_room(world, number)) else {
            continue;
        };
        if message["truncated"] == true {
            let receiver = &world.machines[order.to].past;
            if receiver.store_lost() || receiver.twins > 0 {
                audited.excuse("an output that was lost with its receiver's directory, and marked as cut");
            } else if receiver.disk_trouble {
                audited.excuse("an output for which its receiver's disk had no room, marked as cut");
            } else {
                audited.lost(format!("{}: its output was cut", order.tag));
            }
            continue;
        }
        let (stdout, stderr) = order.output(&world.payload);
        let machine = &world.machines[order.from];
        for (stream, expected) in [("stdout", stdout), ("stderr", stderr)] {
            let got =
                harness::socket(&socket_of(machine.node.dir()), "GET", &format!("/v1/messages/{id}/{stream}"), "");
            match got {
                Ok(got) if got.status == 200 && is_as(&got.body, &expected, state) => {
                    audited.bytes += got.body.len() as u64
                }
                Ok(got) => audited.lost(format!(
                    "{}: {stream} has {} bytes (status {}) instead of {}, or others",
                    order.tag,
                    got.body.len(),
                    got.status,
                    expected.len()
                )),
                Err(error) => audited.other(format!("{}: {stream} can't be read: {error}", order.tag)),
            }
        }
        if state == "failed" && message["exitCode"] != command.exit_code {
            audited.other(format!("{}: exit code {} instead of {}", order.tag, message["exitCode"], command.exit_code));
        }
    }
}

/// All of it; or its beginning, if it ran out of time.
fn is_as(got: &[u8], expected: &[u8], state: &str) -> bool {
    if state == "timed_out" { expected.starts_with(got) } else { got == expected }
}

/// Outputs that nobody waits for any more go from where they were made, and scripts with their runs.
pub(super) fn leftovers(world: &World<'_>, audited: &mut Audited) {
    let senders_are_there = !world.machines.iter().any(|machine| machine.past.store_lost());
    for machine in world.machines.iter().filter(|_| senders_are_there) {
        let mut left = Vec::new();
        let gone = harness::within(LEFT_MAX, || {
            let entries = std::fs::read_dir(machine.node.dir().join("blobs")).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            left = names.filter(|name| name.starts_with("in-") || super::copies::is_left(name)).collect();
            left.is_empty().then_some(())
        });
        if gone.is_none() {
            audited.other(format!(
                "{} keeps outputs that were confirmed, or copies that have ended: {left:?}",
                machine.name
            ));
        }
    }
    for machine in &world.machines {
        let lying = || std::fs::read_dir(machine.node.dir().join("scripts")).into_iter().flatten().count();
        if harness::within(LEFT_MAX, || (lying() == 0).then_some(())).is_none() {
            audited.other(format!("{} keeps {} scripts that have ended", machine.name, lying()));
        }
    }
}
