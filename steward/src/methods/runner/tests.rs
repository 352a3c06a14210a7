//! The runner with real processes.

mod guarding;
mod output;
mod rig;
mod running;
mod stopping;
