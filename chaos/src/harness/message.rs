//! Messages as they stand in `inmsg.txt`.

use serde_json::{Value, json};

/// A shell command for a node, to be answered.
pub fn shell(to: &str, script: &str) -> Value {
    json!({ "toNode": to, "data": ["bash", "-c", script], "commandOrEvent": "CommandACK", "method": "ShellCommand" })
}

/// An event for a node, to be answered.
pub fn event(to: &str, method: &str, data: &[&str]) -> Value {
    json!({ "toNode": to, "data": data, "commandOrEvent": "EventACK", "method": method })
}

/// A message with further keys, or with others.
pub fn with(mut message: Value, keys: Value) -> Value {
    for (key, value) in keys.as_object().unwrap() {
        message[key] = value.clone();
    }
    message
}
