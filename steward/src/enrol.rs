//! How a node becomes one of the fleet, and how it stops being one.
//!
//! ```text
//! central: invite → registry → desk ─ certificate ─▶
//!                              ▲                     node: join → identity/, steward.toml
//!                              └─── keys, proofs ────
//! ```
//! An invitation is good for one node and a short time. Private keys never travel: the node makes its own, and central
//! vouches for the public ones. Central writes down what it answers before it answers, so an answer that is lost is
//! asked for again, and is the same one. A member renews its keys in the same manner, with the old key in the place of the
//! invitation.

mod asking;
pub(crate) mod desk;
pub(crate) mod joining;
mod journal;
pub(crate) mod newcomers;
pub(crate) mod outcasts;

pub(crate) mod registrar;
pub(crate) mod registry;
pub(crate) mod renewal;
pub(crate) mod token;
pub(crate) mod wire;
