//! The way to the NATS server and back: what the core wants told goes out, what arrives becomes events.

pub(crate) mod wire;
