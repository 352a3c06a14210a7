//! What protects a node: who may have what run here.

pub(crate) mod admission;
