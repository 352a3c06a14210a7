//! Options of the node itself: its name, whom it belongs to, how it stops.

use super::{Opt, Takes};

const GROUP: &str = "This node";

/// All of them, in the order of the help.
pub(super) const OPTIONS: &[&Opt] =
    &[&NODE, &CENTRAL, &CENTRAL_ERROR_LOGGER, &HELLO_INTERVAL, &LABEL, &TAKE_OVER, &STOP_LIMIT, &RESTART_LIMIT];

pub(crate) const NODE: Opt = Opt {
    name: "node",
    value: "NAME",
    default: "",
    group: GROUP,
    help: "The name of this node: 1 to 64 of A-Z a-z 0-9 _ - [default: the host name, with - for each dot]",
    takes: Takes::One,
};
pub(crate) const CENTRAL: Opt = Opt {
    name: "central",
    value: "NAME",
    default: "central",
    group: GROUP,
    help: "The node whose commands are taken without a rule, and that gets hellos and errors",
    takes: Takes::One,
};
pub(crate) const CENTRAL_ERROR_LOGGER: Opt = Opt {
    name: "centralErrorLogger",
    value: "BOOL",
    default: "false",
    group: GROUP,
    help: "Keep the errors of all nodes here, those of this node with them: `steward errors` lists them",
    takes: Takes::Flag,
};
pub(crate) const HELLO_INTERVAL: Opt = Opt {
    name: "helloInterval",
    value: "DURATION",
    default: "60s",
    group: GROUP,
    help: "How often to say hello to central; 0: only on coming up and before going",
    takes: Takes::One,
};
pub(crate) const LABEL: Opt = Opt {
    name: "label",
    value: "KEY=VALUE",
    default: "",
    group: GROUP,
    help: "Something to tell of this node in its hello; may be repeated",
    takes: Takes::Many,
};
pub(crate) const TAKE_OVER: Opt = Opt {
    name: "takeOver",
    value: "BOOL",
    default: "false",
    group: GROUP,
    help: "If another live process has this node's name, end that one instead of refusing to start",
    takes: Takes::Flag,
};
pub(crate) const STOP_LIMIT: Opt = Opt {
    name: "stopLimit",
    value: "DURATION",
    default: "8s",
    group: GROUP,
    help: "How long a stop (SIGTERM) waits for commands that run; they are reported as interrupted after that",
    takes: Takes::One,
};
pub(crate) const RESTART_LIMIT: Opt = Opt {
    name: "restartLimit",
    value: "N",
    default: "10",
    group: GROUP,
    help: "So many failures of a part of the node within 5 minutes, and it stays down until somebody starts it",
    takes: Takes::One,
};
