//! The `steward` binary: parses and calls.

mod clock;
mod engine;
mod view;

fn main() {}
