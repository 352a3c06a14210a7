//! The one list of a node's options. Flags, environment, configuration file, help and man page are all made from it, so
//! that they can't disagree. It never says what a value means beyond its help: `config.rs` reads it.

mod broker;
mod delivery;
mod methods;
mod node;
mod store;
mod syslog;
mod watch;

use clap::{Arg, ArgAction};

pub(crate) use broker::*;
pub(crate) use delivery::*;
pub(crate) use methods::*;
pub(crate) use node::*;
pub(crate) use store::*;
pub(crate) use syslog::*;
pub(crate) use watch::*;

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

/// Variables that hold secrets. They have no flag, because everybody on the machine sees flags, and commands that run here
/// don't inherit them.
pub(crate) const SECRET_VARIABLES: [&str; 2] = [BROKER_PASSWORD_VARIABLE, BROKER_TOKEN_VARIABLE];
/// The password for `brokerUser`.
pub(crate) const BROKER_PASSWORD_VARIABLE: &str = "STEWARD_BROKER_PASSWORD";
/// The token.
pub(crate) const BROKER_TOKEN_VARIABLE: &str = "STEWARD_BROKER_TOKEN";

/// Every option that a running node has, in the order of the help.
pub(crate) fn all() -> impl Iterator<Item = &'static Opt> {
    let groups = [
        node::OPTIONS,
        BROKER,
        &[&INSECURE, &LINK_RATE],
        delivery::OPTIONS,
        methods::OPTIONS,
        store::OPTIONS,
        syslog::OPTIONS,
        watch::OPTIONS,
    ];
    groups.into_iter().flatten().copied().chain([&DIR])
}

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
