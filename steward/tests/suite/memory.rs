//! What is outstanding waits on disk, not in memory (L17).

use serde_json::Value;

use crate::harness::{Fleet, SOON, event, until};

const MESSAGES: usize = 10_000;

/// More than twice what a node has when it is idle, and a tenth of what this took before.
const MEMORY_KIB_MAX: u64 = 100 * 1024;

/// L17: at once, first for a node that is away, then with it.
#[test]
fn l17_ten_thousand_messages_at_once_take_little_memory() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let text = "x".repeat(200);
    let messages: Vec<Value> =
        (0..MESSAGES).map(|number| event("ship1", "TextLogging", &[&format!("{number} {text}")])).collect();
    for some in messages.chunks(1000) {
        central.send_all(some);
    }
    let ship1 = fleet.node("ship1");
    until(4 * SOON, "all are logged", || {
        let count = ship1.read("textlogging.log").lines().count();
        if count == MESSAGES { Ok(()) } else { Err(format!("{count} are")) }
    });
    central.all_ended(MESSAGES);
    for (number, line) in ship1.read("textlogging.log").lines().enumerate() {
        assert_eq!(line.split(' ').next(), Some(number.to_string().as_str()), "in their order");
    }
    for node in [&central, &ship1] {
        let peak = node.memory_peak_kib();
        assert!(peak < MEMORY_KIB_MAX, "{} took {peak} KiB at its peak", node.name());
    }
}
