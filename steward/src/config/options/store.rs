//! Options for what is kept, and for how long.

use super::{Opt, Takes};

const GROUP: &str = "Store";

/// All of them, in the order of the help.
pub(super) const OPTIONS: &[&Opt] = &[&KEEP, &KEEP_SIZE, &MAX_OUTSTANDING];

pub(crate) const KEEP: Opt = Opt {
    name: "keep",
    value: "DURATION",
    default: "30d",
    group: GROUP,
    help: "How long to keep messages and outputs after their end; 0: for ever",
    takes: Takes::One,
};
pub(crate) const KEEP_SIZE: Opt = Opt {
    name: "keepSize",
    value: "SIZE",
    default: "1GiB",
    group: GROUP,
    help: "How much room ended messages and their outputs may take; the oldest go first; 0: without limit",
    takes: Takes::One,
};
pub(crate) const MAX_OUTSTANDING: Opt = Opt {
    name: "maxOutstanding",
    value: "N",
    default: "10000000",
    group: GROUP,
    help: "How many messages from here may wait for their end; more are refused until some have ended; 0: without limit",
    takes: Takes::One,
};
