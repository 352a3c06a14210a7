//! The `steward` binary: parses and calls.

#[cfg_attr(not(test), expect(dead_code, reason = "wired by node.rs in the next step"))]
mod api;
#[cfg_attr(not(test), expect(dead_code, reason = "wired by node.rs in the next step"))]
mod blobs;
#[cfg_attr(not(test), expect(dead_code, reason = "wired by node.rs in the next step"))]
mod broker;
mod cli;
mod clock;
#[expect(dead_code, reason = "wired by node.rs in the next step")]
mod config;
mod engine;
#[cfg_attr(not(test), expect(dead_code, reason = "wired by node.rs in the next step"))]
mod hello;
#[cfg_attr(not(test), expect(dead_code, reason = "wired by node.rs in the next step"))]
mod intake;
#[expect(dead_code, reason = "wired by node.rs in the next step")]
mod logging;
#[cfg_attr(not(test), expect(dead_code, reason = "wired by node.rs in the next step"))]
mod message_log;
#[expect(dead_code, reason = "wired by node.rs in the next step")]
mod methods;
#[expect(dead_code, reason = "wired by node.rs in the next step")]
mod metrics;
#[expect(dead_code, reason = "wired by node.rs in the next step")]
mod profiling;
#[cfg_attr(not(test), expect(dead_code, reason = "wired by node.rs in the next step"))]
mod results;
#[cfg_attr(not(test), expect(dead_code, reason = "wired by node.rs in the next step"))]
mod security;
#[expect(dead_code, reason = "wired by node.rs in the next step")]
mod store;
#[cfg_attr(not(test), expect(dead_code, reason = "wired by node.rs in the next step"))]
mod supervise;
mod view;

fn main() -> std::process::ExitCode {
    // The job guard is this program once more, but without anything that it doesn't need.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == methods::job_guard::VERB) {
        return methods::job_guard::main();
    }
    cli::main()
}
