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

#[allow(dead_code, reason = "what uses all of it comes with signatures")]
pub(crate) mod sender;

pub(crate) mod admission;
pub(crate) mod rules;
