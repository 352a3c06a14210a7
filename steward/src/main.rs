//! The `steward` binary: parses and calls.

mod clock;
mod engine;
#[expect(dead_code, reason = "wired by node.rs in the next step")]
mod supervise;
mod view;

fn main() {}
