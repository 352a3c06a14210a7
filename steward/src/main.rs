//! The `steward` binary: parses and calls.
#![cfg_attr(fuzzing, no_main)]
#![cfg_attr(fuzzing, expect(dead_code, reason = "a fuzzer takes the place of `main`"))]

mod cli;

mod config;

mod node;

mod intake;

mod api;

mod engine;

mod store;

mod blobs;

mod message_log;

mod audit;

mod broker;

mod security;

mod enrol;

mod authority;

mod child;

mod nats_server;

mod methods;

mod results;

mod forward;

mod evidence;

mod replies;

mod copies;

mod syslog;

mod tails;

mod view;

mod supervise;

mod processes;

mod troubles;

mod lock;

mod marked;

mod own_file;

mod hello;

mod metrics;

mod traffic;

mod profiling;

mod logging;

mod clock;

mod crash_points;

#[cfg(any(test, fuzzing))]
mod fuzzing;

fn main() -> std::process::ExitCode {
    // Those that serve a node are this program once more, but without anything that they don't need.
    let verb = std::env::args_os().nth(1).unwrap_or_default();
    match verb.to_str() {
        Some(methods::job_guard::VERB) => methods::job_guard::main(),
        Some(methods::as_user::VERB) => methods::as_user::main(),
        Some(child::VERB) => child::main(),
        Some(cli::fleet::keeper::VERB) => cli::fleet::keeper::main(),
        _ => {
            broker::access::choose_tls();
            cli::main()
        }
    }
}
