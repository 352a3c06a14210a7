//! Options for whoever looks at the node: metrics, profiles, log.

use super::{Opt, Takes};

const GROUP: &str = "Metrics, profiles, log";

/// All of them, in the order of the help.
pub(super) const OPTIONS: &[&Opt] = &[&PROM_HOST_AND_PORT, &PROFILING_PORT, &LOG_FORMAT, &LOG_LEVEL];

pub(crate) const PROM_HOST_AND_PORT: Opt = Opt {
    name: "promHostAndPort",
    value: "[HOST]:PORT",
    default: ":2112",
    group: GROUP,
    help: "Where Prometheus metrics can be read; none: nowhere",
    takes: Takes::One,
};
pub(crate) const PROFILING_PORT: Opt = Opt {
    name: "profilingPort",
    value: "[HOST:]PORT",
    default: "none",
    group: GROUP,
    help: "Where profiles can be read, on the loopback interface unless a host is given",
    takes: Takes::One,
};
pub(crate) const LOG_FORMAT: Opt = Opt {
    name: "logFormat",
    value: "FORMAT",
    default: "auto",
    group: GROUP,
    help: "text, json, or auto: text on a terminal and JSON lines otherwise",
    takes: Takes::One,
};
pub(crate) const LOG_LEVEL: Opt = Opt {
    name: "logLevel",
    value: "LEVEL",
    default: "info",
    group: GROUP,
    help: "error, warn, info, debug or trace; also by part, as in info,steward::broker=debug",
    takes: Takes::One,
};
