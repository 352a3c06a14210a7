//! Options for messages that come in here.

use super::{Opt, Takes};

const GROUP: &str = "Messages that don't say otherwise";

/// All of them, in the order of the help.
pub(super) const OPTIONS: &[&Opt] =
    &[&DEFAULT_MESSAGE_TIMEOUT, &DEFAULT_MESSAGE_RETRIES, &DEFAULT_METHOD_TIMEOUT, &SEAL, &SEAL_TO, &LISTEN];

pub(crate) const DEFAULT_MESSAGE_TIMEOUT: Opt = Opt {
    name: "defaultMessageTimeout",
    value: "DURATION",
    default: "10s",
    group: GROUP,
    help: "How long to wait until the receiver says that it has a message before sending it again",
    takes: Takes::One,
};
pub(crate) const DEFAULT_MESSAGE_RETRIES: Opt = Opt {
    name: "defaultMessageRetries",
    value: "N",
    default: "0",
    group: GROUP,
    help: "How many attempts before a message is undeliverable; 0: without limit",
    takes: Takes::One,
};
pub(crate) const DEFAULT_METHOD_TIMEOUT: Opt = Opt {
    name: "defaultMethodTimeout",
    value: "DURATION",
    default: "1h",
    group: GROUP,
    help: "How long a command may run before it is stopped; 0: without limit",
    takes: Takes::One,
};
pub(crate) const SEAL: Opt = Opt {
    name: "seal",
    value: "WHAT",
    default: "false",
    group: GROUP,
    help: "true: encrypt all that this node sends to the node that it is for, so that the broker's operator can't read it; \
           require: refuse messages that come in plain as well. Needs an identity (steward join)",
    takes: Takes::Flag,
};
pub(crate) const SEAL_TO: Opt = Opt {
    name: "sealTo",
    value: "NODE",
    default: "",
    group: GROUP,
    help: "Encrypt all that this node sends to these nodes; may be repeated",
    takes: Takes::Many,
};
pub(crate) const LISTEN: Opt = Opt {
    name: "listen",
    value: "[HOST:]PORT",
    default: "none",
    group: GROUP,
    help: "Where programs here can give messages over HTTP: a loopback address, with the token in listen.token; none: nowhere",
    takes: Takes::One,
};
