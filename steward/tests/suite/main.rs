//! The one integration-test binary: one link instead of one for each file, and one place for what tests share.
//! A new area is a file in this folder and a line here.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with a line number, which is all that it should do")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests look at the machine's own clock for their deadlines; tidy.rs keeps them from sleeping"
)]

mod attacks;
mod audit;
mod broker_access;
mod broker_trouble;
mod command_line;
mod copy;
mod delivery;
mod demo;
mod denied;
mod disk;
mod enrolment;
mod evidence;
mod fleet_broker;
mod forward;
mod harness;
mod hostile;
mod http_get;
mod input_file;
mod inputs;
mod lessons;
mod live;
mod load;
mod memory;
mod observability;
mod output;
mod own_methods;
#[cfg(target_arch = "x86_64")]
mod power_cuts;
mod replies;
mod restart;
mod rotation;
mod rules;
mod schedules;
mod scripts;
mod seed;
mod storm;
mod supervision;
mod supply;
mod syslog;
mod tail;
mod tidy;
mod traffic;

#[cfg(not(target_arch = "x86_64"))]
#[test]
fn power_cuts() {
    harness::skipped("power_cuts", "a node can be recorded on x86_64 only");
}
