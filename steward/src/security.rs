//! What protects a node: who it is, whom it believes, and who may have what run here.

pub(crate) mod keys;

pub(crate) mod secret_file;

pub(crate) mod jwt;

pub(crate) mod statement;

pub(crate) mod certificate;

pub(crate) mod identity;

pub(crate) mod signing;

pub(crate) mod sealing;

pub(crate) mod sender;

pub(crate) mod refusal;

pub(crate) mod replays;

pub(crate) mod revocations;

pub(crate) mod known;

pub(crate) mod trust;

pub(crate) mod admission;
pub(crate) mod private_memory;
pub(crate) mod rules;
