//! Options for syslog: where it is taken, which node keeps it, and how.

use super::{Opt, Takes};

const GROUP: &str = "Syslog";

/// All of them, in the order of the help.
pub(super) const OPTIONS: &[&Opt] =
    &[&SYSLOG_LISTEN, &SYSLOG_OPEN, &SYSLOG_TO, &SYSLOG_SPOOL, &SYSLOG_DROP, &SYSLOG_KEEP, &SYSLOG_FORWARD];

pub(crate) const SYSLOG_LISTEN: Opt = Opt {
    name: "syslogListen",
    value: "WHERE",
    default: "",
    group: GROUP,
    help: "Where to take syslog: unix:/PATH, udp:[ADDRESS:]PORT, tcp:[ADDRESS:]PORT on a loopback address, or journal (of \
           systemd); may be repeated",
    takes: Takes::Many,
};
pub(crate) const SYSLOG_OPEN: Opt = Opt {
    name: "syslogOpen",
    value: "BOOL",
    default: "false",
    group: GROUP,
    help: "Take syslog on addresses that other machines reach as well: whoever reaches them can write there",
    takes: Takes::Flag,
};
pub(crate) const SYSLOG_TO: Opt = Opt {
    name: "syslogTo",
    value: "NODE",
    default: "",
    group: GROUP,
    help: "The node that keeps what is taken here [default: the one of --central]",
    takes: Takes::One,
};
pub(crate) const SYSLOG_SPOOL: Opt = Opt {
    name: "syslogSpool",
    value: "SIZE",
    default: "64MiB",
    group: GROUP,
    help: "How much of what is taken here may wait on disk until it is sent; at least 1MiB",
    takes: Takes::One,
};
pub(crate) const SYSLOG_DROP: Opt = Opt {
    name: "syslogDrop",
    value: "WHICH",
    default: "oldest",
    group: GROUP,
    help: "Which lines are dropped, and counted, when there are more: the oldest, or the newest",
    takes: Takes::One,
};
pub(crate) const SYSLOG_KEEP: Opt = Opt {
    name: "syslogKeep",
    value: "DURATION",
    default: "30d",
    group: GROUP,
    help: "How long to keep the files (syslog/NODE/HOST/DAY.log) with what nodes send here; 0: for ever",
    takes: Takes::One,
};
pub(crate) const SYSLOG_FORWARD: Opt = Opt {
    name: "syslogForward",
    value: "WHERE",
    default: "none",
    group: GROUP,
    help: "Pass what nodes send here on to udp:HOST:PORT, tcp:HOST:PORT or unix:/PATH instead of keeping it in files",
    takes: Takes::One,
};
