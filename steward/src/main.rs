//! The `steward` binary: parses and calls.

mod cli;

mod config;

mod node;

mod intake;

mod api;

mod engine;

mod store;

mod blobs;

mod message_log;

mod broker;

mod security;

mod methods;

mod results;

mod view;

mod supervise;

mod lock;

mod hello;

mod metrics;

mod profiling;

mod logging;

mod clock;

fn main() -> std::process::ExitCode {
    // The job guard is this program once more, but without anything that it doesn't need.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == methods::job_guard::VERB) {
        return methods::job_guard::main();
    }
    cli::main()
}
