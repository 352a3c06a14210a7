//! What steward decides, and nothing else.
//!
//! A [`Node`] is one steward instance as a pure state machine: it takes in one [`Event`] at a time and gives out a
//! [`Step`]: what to write durably, and what to do once that is written. It has no clock, no randomness of its own, no
//! disk and no network, so the same events always give the same steps, and the simulator can prove it.
//!
//! In reading order:
#![forbid(unsafe_code)]

// The vocabulary.
pub mod name;

pub mod time;

pub mod message;

pub mod outcome;

pub mod limits;

pub mod event;

pub mod report;

pub mod step;

pub mod snapshot;

// The node, and what it is made of.
pub mod node;

pub mod inspect;

pub mod planted;

mod ctx;

mod presence;

mod outbox;

mod sending;

mod looking;

mod progress;

mod ending;

mod fetch;

mod inbox;

mod order;

mod closing;

mod running;

mod expiring;

mod owed;

mod pace;

mod seen;

mod quota;

mod retry;

mod timers;

mod rng;

pub use event::Event;
pub use node::Node;
pub use step::Step;
