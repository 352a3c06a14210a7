//! Options for what may run here, and what is kept of it.

use super::{Opt, Takes};

const GROUP: &str = "What may run here";

/// All of them, in the order of the help.
pub(super) const OPTIONS: &[&Opt] = &[&ALLOW, &MAX_OUTPUT, &AUDIT, &AUDIT_DATA];

pub(crate) const ALLOW: Opt = Opt {
    name: "allow",
    value: "FROM:METHOD",
    default: "",
    group: GROUP,
    help: "Take this method from this sender too, * for any; may be repeated. \
           Commands from central and events from everybody need no rule",
    takes: Takes::Many,
};
pub(crate) const MAX_OUTPUT: Opt = Opt {
    name: "maxOutput",
    value: "SIZE",
    default: "64MiB",
    group: GROUP,
    help: "How much output of a command to keep, both streams together; what is beyond is dropped and marked as cut",
    takes: Takes::One,
};
pub(crate) const AUDIT: Opt = Opt {
    name: "audit",
    value: "WHAT",
    default: "commands",
    group: GROUP,
    help: "What the audit log (audit.jsonl) holds: commands and all refusals, all (events too), or none",
    takes: Takes::One,
};
pub(crate) const AUDIT_DATA: Opt = Opt {
    name: "auditData",
    value: "FORM",
    default: "full",
    group: GROUP,
    help: "How the audit log holds the data of messages: full, or hash where it may hold secrets",
    takes: Takes::One,
};
