//! The HTTP API over the unix socket in the node's directory.

pub(crate) mod client;
