//! What protects a node: who it is, whom it believes, and who may have what run here.

#[allow(dead_code, reason = "what uses all of it comes with enrolment")]
pub(crate) mod keys;

#[allow(dead_code, reason = "what uses all of it comes with enrolment")]
pub(crate) mod secret_file;

#[allow(dead_code, reason = "what uses all of it comes with enrolment")]
pub(crate) mod jwt;

#[allow(dead_code, reason = "what uses all of it comes with enrolment")]
pub(crate) mod certificate;

#[allow(dead_code, reason = "what uses all of it comes with enrolment")]
pub(crate) mod identity;

pub(crate) mod signing;

pub(crate) mod sender;

pub(crate) mod refusal;

pub(crate) mod replays;

#[allow(dead_code, reason = "what uses all of it comes with enrolment")]
pub(crate) mod revocations;

#[allow(dead_code, reason = "what uses all of it comes with enrolment")]
pub(crate) mod known;

#[allow(dead_code, reason = "what uses all of it comes with enrolment")]
pub(crate) mod trust;

pub(crate) mod admission;
pub(crate) mod private_memory;
pub(crate) mod rules;
