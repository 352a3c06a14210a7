//! Options that say where the broker is and how to get in.

use super::{FILE, Opt, Takes};

const GROUP: &str = "Broker";

/// Those that say how to get in, in the order of the help.
pub(crate) const BROKER: &[&Opt] = &[
    &BROKER_ADDRESS,
    &BROKER_TLS_CA,
    &BROKER_TLS_CERT,
    &BROKER_TLS_KEY,
    &BROKER_TLS_FIRST,
    &BROKER_CREDS,
    &BROKER_NKEY,
    &BROKER_USER,
    &BROKER_PASSWORD_FILE,
    &BROKER_TOKEN_FILE,
    &BROKER_CONTEXT,
];

pub(crate) const BROKER_ADDRESS: Opt = Opt {
    name: "brokerAddress",
    value: "HOST:PORT",
    default: "127.0.0.1:4222",
    group: GROUP,
    help: "The NATS server to connect to; several of a cluster with commas between; tls://HOST:PORT: with TLS only",
    takes: Takes::Many,
};
pub(crate) const BROKER_TLS_CA: Opt = Opt {
    name: "brokerTlsCa",
    value: FILE,
    default: "",
    group: GROUP,
    help: "Talk TLS only, and trust the CA in this PEM file [default: those of the system, if the broker wants TLS]",
    takes: Takes::One,
};
pub(crate) const BROKER_TLS_CERT: Opt = Opt {
    name: "brokerTlsCert",
    value: FILE,
    default: "",
    group: GROUP,
    help: "This node's own TLS certificate (PEM), for a broker that wants one",
    takes: Takes::One,
};
pub(crate) const BROKER_TLS_KEY: Opt = Opt {
    name: "brokerTlsKey",
    value: FILE,
    default: "",
    group: GROUP,
    help: "The key of that certificate (PEM)",
    takes: Takes::One,
};
pub(crate) const BROKER_TLS_FIRST: Opt = Opt {
    name: "brokerTlsFirst",
    value: "BOOL",
    default: "false",
    group: GROUP,
    help: "Begin with TLS before the broker has said anything, for one with handshake_first",
    takes: Takes::Flag,
};
pub(crate) const BROKER_CREDS: Opt = Opt {
    name: "brokerCreds",
    value: FILE,
    default: "",
    group: GROUP,
    help: "Log in with this credentials file (user JWT and nkey seed; the seed may stand in --broker-nkey instead)",
    takes: Takes::One,
};
pub(crate) const BROKER_NKEY: Opt = Opt {
    name: "brokerNkey",
    value: FILE,
    default: "",
    group: GROUP,
    help: "Log in with the nkey whose seed is in this file",
    takes: Takes::One,
};
pub(crate) const BROKER_USER: Opt = Opt {
    name: "brokerUser",
    value: "NAME",
    default: "",
    group: GROUP,
    help: "Log in with this name and the password in --broker-password-file or $STEWARD_BROKER_PASSWORD",
    takes: Takes::One,
};
pub(crate) const BROKER_PASSWORD_FILE: Opt = Opt {
    name: "brokerPasswordFile",
    value: FILE,
    default: "",
    group: GROUP,
    help: "The file that holds the password; a flag with the password itself would be seen in the list of processes",
    takes: Takes::One,
};
pub(crate) const BROKER_TOKEN_FILE: Opt = Opt {
    name: "brokerTokenFile",
    value: FILE,
    default: "",
    group: GROUP,
    help: "Log in with the token in this file, or with the one in $STEWARD_BROKER_TOKEN",
    takes: Takes::One,
};
pub(crate) const BROKER_CONTEXT: Opt = Opt {
    name: "brokerContext",
    value: "NAME",
    default: "",
    group: GROUP,
    help: "Take address, login and TLS files from this context of the `nats` tool; selected: the one that it has \
           selected. Other --broker options go before it",
    takes: Takes::One,
};
pub(crate) const LINK_RATE: Opt = Opt {
    name: "linkRate",
    value: "RATE",
    default: "none",
    group: GROUP,
    help: "How much this node may send, such as 64kbit (a second): commands go before outputs, and these before files that are \
           copied; none: without limit",
    takes: Takes::One,
};
pub(crate) const INSECURE: Opt = Opt {
    name: "insecure",
    value: "BOOL",
    default: "false",
    group: GROUP,
    help: "Run commands of whoever the broker brings, also where the broker is on another machine and nothing is signed",
    takes: Takes::Flag,
};
