//! Breaks steward: real processes around a real nats-server, in a temporary folder, with faults by name, and an audit of
//! every promise.
//!
//! [`harness`] starts, asks and ends the processes; the integration tests of `steward` use it as well, so that there is
//! one. Everything else is the fault campaign, `steward-chaos`: [`run`] is its command line.

mod audit;
mod campaign;
mod copier;
mod dice;
mod faults;
pub mod harness;
mod ledger;
mod link;
mod onlooker;
mod options;
mod orders;
mod payload;
mod report;
mod submit;
mod tailer;
mod tape;
mod timer;
mod world;

pub use options::run;
