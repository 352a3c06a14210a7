//! The one list of a node's options. Flags, environment, configuration file, help and man page are all made from it, so
//! that they can't disagree. It never says what a value means beyond its help: `config.rs` reads it.

use clap::{Arg, ArgAction};

/// An option of a node.
#[derive(Debug)]
pub(crate) struct Opt {
    /// Its name as the seed writes names, in camel case. The flag is this name in kebab case (camel case is taken too).
    pub(crate) name: &'static str,
    /// What stands for its value in the help.
    pub(crate) value: &'static str,
    /// What it is if nothing says otherwise; empty where that is said in the help.
    pub(crate) default: &'static str,
    /// Where it stands in the help.
    pub(crate) group: &'static str,
    /// What it does, in one sentence or two.
    pub(crate) help: &'static str,
    /// How often it may be given.
    pub(crate) takes: Takes,
}

/// How often an option may be given, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// One value; a later one replaces an earlier one.
    One,
    /// True when it is there; also `=true` and `=false`.
    Flag,
    /// A flag that may be repeated, a list in the file, values with commas between in the environment.
    Many,
}

/// What stands for the value of an option that names a file.
const FILE: &str = "FILE";

const NODE_GROUP: &str = "This node";
const BROKER_GROUP: &str = "Broker";
const DELIVERY_GROUP: &str = "Messages that don't say otherwise";
const METHODS_GROUP: &str = "What may run here";
const STORE_GROUP: &str = "Store";
const WATCH_GROUP: &str = "Metrics, profiles, log";

pub(crate) const NODE: Opt = Opt {
    name: "node",
    value: "NAME",
    default: "",
    group: NODE_GROUP,
    help: "The name of this node: 1 to 64 of A-Z a-z 0-9 _ - [default: the host name, with - for each dot]",
    takes: Takes::One,
};
pub(crate) const CENTRAL: Opt = Opt {
    name: "central",
    value: "NAME",
    default: "central",
    group: NODE_GROUP,
    help: "The node whose commands are taken without a rule, and that gets hellos and errors",
    takes: Takes::One,
};
pub(crate) const CENTRAL_ERROR_LOGGER: Opt = Opt {
    name: "centralErrorLogger",
    value: "BOOL",
    default: "false",
    group: NODE_GROUP,
    help: "Keep the errors of all nodes here, those of this node with them: `steward errors` lists them",
    takes: Takes::Flag,
};
pub(crate) const HELLO_INTERVAL: Opt = Opt {
    name: "helloInterval",
    value: "DURATION",
    default: "60s",
    group: NODE_GROUP,
    help: "How often to say hello to central; 0: only on coming up and before going",
    takes: Takes::One,
};
pub(crate) const LABEL: Opt = Opt {
    name: "label",
    value: "KEY=VALUE",
    default: "",
    group: NODE_GROUP,
    help: "Something to tell of this node in its hello; may be repeated",
    takes: Takes::Many,
};
pub(crate) const TAKE_OVER: Opt = Opt {
    name: "takeOver",
    value: "BOOL",
    default: "false",
    group: NODE_GROUP,
    help: "If another live process has this node's name, end that one instead of refusing to start",
    takes: Takes::Flag,
};
pub(crate) const STOP_LIMIT: Opt = Opt {
    name: "stopLimit",
    value: "DURATION",
    default: "8s",
    group: NODE_GROUP,
    help: "How long a stop (SIGTERM) waits for commands that run; they are reported as interrupted after that",
    takes: Takes::One,
};
pub(crate) const RESTART_LIMIT: Opt = Opt {
    name: "restartLimit",
    value: "N",
    default: "10",
    group: NODE_GROUP,
    help: "So many failures of a part of the node within 5 minutes, and it stays down until somebody starts it",
    takes: Takes::One,
};
pub(crate) const BROKER_ADDRESS: Opt = Opt {
    name: "brokerAddress",
    value: "HOST:PORT",
    default: "127.0.0.1:4222",
    group: BROKER_GROUP,
    help: "The NATS server to connect to; several of a cluster with commas between; tls://HOST:PORT: with TLS only",
    takes: Takes::Many,
};
pub(crate) const BROKER_TLS_CA: Opt = Opt {
    name: "brokerTlsCa",
    value: FILE,
    default: "",
    group: BROKER_GROUP,
    help: "Talk TLS only, and trust the CA in this PEM file [default: those of the system, if the broker wants TLS]",
    takes: Takes::One,
};
pub(crate) const BROKER_TLS_CERT: Opt = Opt {
    name: "brokerTlsCert",
    value: FILE,
    default: "",
    group: BROKER_GROUP,
    help: "This node's own TLS certificate (PEM), for a broker that wants one",
    takes: Takes::One,
};
pub(crate) const BROKER_TLS_KEY: Opt = Opt {
    name: "brokerTlsKey",
    value: FILE,
    default: "",
    group: BROKER_GROUP,
    help: "The key of that certificate (PEM)",
    takes: Takes::One,
};
pub(crate) const BROKER_TLS_FIRST: Opt = Opt {
    name: "brokerTlsFirst",
    value: "BOOL",
    default: "false",
    group: BROKER_GROUP,
    help: "Begin with TLS before the broker has said anything, for one with handshake_first",
    takes: Takes::Flag,
};
pub(crate) const BROKER_CREDS: Opt = Opt {
    name: "brokerCreds",
    value: FILE,
    default: "",
    group: BROKER_GROUP,
    help: "Log in with this credentials file (user JWT and nkey seed; the seed may stand in --broker-nkey instead)",
    takes: Takes::One,
};
pub(crate) const BROKER_NKEY: Opt = Opt {
    name: "brokerNkey",
    value: FILE,
    default: "",
    group: BROKER_GROUP,
    help: "Log in with the nkey whose seed is in this file",
    takes: Takes::One,
};
pub(crate) const BROKER_USER: Opt = Opt {
    name: "brokerUser",
    value: "NAME",
    default: "",
    group: BROKER_GROUP,
    help: "Log in with this name and the password in --broker-password-file or $STEWARD_BROKER_PASSWORD",
    takes: Takes::One,
};
pub(crate) const BROKER_PASSWORD_FILE: Opt = Opt {
    name: "brokerPasswordFile",
    value: FILE,
    default: "",
    group: BROKER_GROUP,
    help: "The file that holds the password; a flag with the password itself would be seen in the list of processes",
    takes: Takes::One,
};
pub(crate) const BROKER_TOKEN_FILE: Opt = Opt {
    name: "brokerTokenFile",
    value: FILE,
    default: "",
    group: BROKER_GROUP,
    help: "Log in with the token in this file, or with the one in $STEWARD_BROKER_TOKEN",
    takes: Takes::One,
};
pub(crate) const BROKER_CONTEXT: Opt = Opt {
    name: "brokerContext",
    value: "NAME",
    default: "",
    group: BROKER_GROUP,
    help: "Take address, login and TLS files from this context of the `nats` tool; selected: the one that it has \
           selected. Other --broker options go before it",
    takes: Takes::One,
};
pub(crate) const INSECURE: Opt = Opt {
    name: "insecure",
    value: "BOOL",
    default: "false",
    group: BROKER_GROUP,
    help: "Run commands of whoever the broker brings, also where the broker is on another machine and nothing is signed",
    takes: Takes::Flag,
};
pub(crate) const DEFAULT_MESSAGE_TIMEOUT: Opt = Opt {
    name: "defaultMessageTimeout",
    value: "DURATION",
    default: "10s",
    group: DELIVERY_GROUP,
    help: "How long to wait until the receiver says that it has a message before sending it again",
    takes: Takes::One,
};
pub(crate) const DEFAULT_MESSAGE_RETRIES: Opt = Opt {
    name: "defaultMessageRetries",
    value: "N",
    default: "0",
    group: DELIVERY_GROUP,
    help: "How many attempts before a message is undeliverable; 0: without limit",
    takes: Takes::One,
};
pub(crate) const DEFAULT_METHOD_TIMEOUT: Opt = Opt {
    name: "defaultMethodTimeout",
    value: "DURATION",
    default: "1h",
    group: DELIVERY_GROUP,
    help: "How long a command may run before it is stopped; 0: without limit",
    takes: Takes::One,
};
pub(crate) const SEAL: Opt = Opt {
    name: "seal",
    value: "WHAT",
    default: "false",
    group: DELIVERY_GROUP,
    help: "true: encrypt all that this node sends to the node that it is for, so that the broker's operator can't read it; \
           require: refuse messages that come in plain as well. Needs an identity (steward join)",
    takes: Takes::Flag,
};
pub(crate) const SEAL_TO: Opt = Opt {
    name: "sealTo",
    value: "NODE",
    default: "",
    group: DELIVERY_GROUP,
    help: "Encrypt all that this node sends to these nodes; may be repeated",
    takes: Takes::Many,
};
pub(crate) const ALLOW: Opt = Opt {
    name: "allow",
    value: "FROM:METHOD",
    default: "",
    group: METHODS_GROUP,
    help: "Take this method from this sender too, * for any; may be repeated. \
           Commands from central and events from everybody need no rule",
    takes: Takes::Many,
};
pub(crate) const MAX_OUTPUT: Opt = Opt {
    name: "maxOutput",
    value: "SIZE",
    default: "64MiB",
    group: METHODS_GROUP,
    help: "How much output of a command to keep, both streams together; what is beyond is dropped and marked as cut",
    takes: Takes::One,
};
pub(crate) const AUDIT: Opt = Opt {
    name: "audit",
    value: "WHAT",
    default: "commands",
    group: METHODS_GROUP,
    help: "What the audit log (audit.jsonl) holds: commands and all refusals, all (events too), or none",
    takes: Takes::One,
};
pub(crate) const AUDIT_DATA: Opt = Opt {
    name: "auditData",
    value: "FORM",
    default: "full",
    group: METHODS_GROUP,
    help: "How the audit log holds the data of messages: full, or hash where it may hold secrets",
    takes: Takes::One,
};
pub(crate) const KEEP: Opt = Opt {
    name: "keep",
    value: "DURATION",
    default: "30d",
    group: STORE_GROUP,
    help: "How long to keep messages and outputs after their end; 0: for ever",
    takes: Takes::One,
};
pub(crate) const KEEP_SIZE: Opt = Opt {
    name: "keepSize",
    value: "SIZE",
    default: "1GiB",
    group: STORE_GROUP,
    help: "How much room ended messages and their outputs may take; the oldest go first; 0: without limit",
    takes: Takes::One,
};
pub(crate) const MAX_OUTSTANDING: Opt = Opt {
    name: "maxOutstanding",
    value: "N",
    default: "10000000",
    group: STORE_GROUP,
    help: "How many messages from here may wait for their end; more are refused until some have ended; 0: without limit",
    takes: Takes::One,
};
pub(crate) const LISTEN: Opt = Opt {
    name: "listen",
    value: "[HOST:]PORT",
    default: "none",
    group: DELIVERY_GROUP,
    help: "Where programs here can give messages over HTTP: a loopback address, with the token in listen.token; none: nowhere",
    takes: Takes::One,
};
pub(crate) const PROM_HOST_AND_PORT: Opt = Opt {
    name: "promHostAndPort",
    value: "[HOST]:PORT",
    default: ":2112",
    group: WATCH_GROUP,
    help: "Where Prometheus metrics can be read; none: nowhere",
    takes: Takes::One,
};
pub(crate) const PROFILING_PORT: Opt = Opt {
    name: "profilingPort",
    value: "[HOST:]PORT",
    default: "none",
    group: WATCH_GROUP,
    help: "Where profiles can be read, on the loopback interface unless a host is given",
    takes: Takes::One,
};
pub(crate) const LOG_FORMAT: Opt = Opt {
    name: "logFormat",
    value: "FORMAT",
    default: "auto",
    group: WATCH_GROUP,
    help: "text, json, or auto: text on a terminal and JSON lines otherwise",
    takes: Takes::One,
};
pub(crate) const LOG_LEVEL: Opt = Opt {
    name: "logLevel",
    value: "LEVEL",
    default: "info",
    group: WATCH_GROUP,
    help: "error, warn, info, debug or trace; also by part, as in info,steward::broker=debug",
    takes: Takes::One,
};

/// Every verb needs it, so every verb takes it, before or after its name.
pub(crate) const DIR: Opt = Opt {
    name: "dir",
    value: "DIR",
    default: ".",
    group: GLOBAL_GROUP,
    help: "The node's directory: its store, outputs, inmsg.txt and socket",
    takes: Takes::One,
};
const GLOBAL_GROUP: &str = "For every verb, before or after it";

/// Options that say how to get in at a broker.
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

/// Variables that hold secrets. They have no flag, because everybody on the machine sees flags, and commands that run here
/// don't inherit them.
pub(crate) const SECRET_VARIABLES: [&str; 2] = [BROKER_PASSWORD_VARIABLE, BROKER_TOKEN_VARIABLE];
/// The password for `brokerUser`.
pub(crate) const BROKER_PASSWORD_VARIABLE: &str = "STEWARD_BROKER_PASSWORD";
/// The token.
pub(crate) const BROKER_TOKEN_VARIABLE: &str = "STEWARD_BROKER_TOKEN";

/// Every option that a running node has, in the order of the help.
pub(crate) const ALL: &[&Opt] = &[
    &NODE,
    &CENTRAL,
    &CENTRAL_ERROR_LOGGER,
    &HELLO_INTERVAL,
    &LABEL,
    &TAKE_OVER,
    &STOP_LIMIT,
    &RESTART_LIMIT,
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
    &INSECURE,
    &DEFAULT_MESSAGE_TIMEOUT,
    &DEFAULT_MESSAGE_RETRIES,
    &DEFAULT_METHOD_TIMEOUT,
    &SEAL,
    &SEAL_TO,
    &ALLOW,
    &MAX_OUTPUT,
    &AUDIT,
    &AUDIT_DATA,
    &KEEP,
    &KEEP_SIZE,
    &MAX_OUTSTANDING,
    &LISTEN,
    &PROM_HOST_AND_PORT,
    &PROFILING_PORT,
    &LOG_FORMAT,
    &LOG_LEVEL,
    &DIR,
];

impl Opt {
    /// The flag's name, without dashes: `brokerAddress` is `broker-address`.
    pub(crate) fn flag(&self) -> String {
        self.spelled('-')
    }

    /// The variable's name: `brokerAddress` is `STEWARD_BROKER_ADDRESS`.
    pub(crate) fn variable(&self) -> String {
        format!("STEWARD_{}", self.spelled('_').to_ascii_uppercase())
    }

    /// A value from the command line as it means the same everywhere: the full path of a file.
    pub(crate) fn absolute(&self, text: &str) -> String {
        match std::path::absolute(text) {
            Ok(path) if self.value == FILE => path.display().to_string(),
            Ok(_) | Err(_) => text.to_owned(),
        }
    }

    fn spelled(&self, between: char) -> String {
        let mut spelled = String::new();
        for c in self.name.chars() {
            if c.is_ascii_uppercase() {
                spelled.push(between);
            }
            spelled.push(c.to_ascii_lowercase());
        }
        spelled
    }

    /// The option on the command line. Values stay text here: `config.rs` reads them from every source alike.
    pub(crate) fn arg(&self) -> Arg {
        let help = match self.default {
            "" => self.help.to_owned(),
            default => format!("{} [default: {default}]", self.help),
        };
        let arg = Arg::new(self.name).long(self.flag()).value_name(self.value).help(help).help_heading(self.group);
        match self.takes {
            Takes::One => arg.action(ArgAction::Set).overrides_with(self.name),
            Takes::Flag => arg
                .action(ArgAction::Set)
                .overrides_with(self.name)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true"),
            Takes::Many => arg.action(ArgAction::Append),
        }
    }
}

/// `--dir`, for every verb.
pub(crate) fn dir_arg() -> Arg {
    DIR.arg().global(true)
}

/// `--config`, for every verb: a file may say where the directory is.
pub(crate) fn config_arg() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("A TOML file with options under the same names, e.g. brokerAddress = \"10.0.0.1:4222\"")
        .help_heading(GLOBAL_GROUP)
        .global(true)
}
