//! The command line: what stands there is read, and one verb is run. A verb is one file in `cli/` and one line in
//! [`VERBS`].
//!
//! Nothing here decides about messages: verbs ask the node that runs in the directory, through its socket; those that
//! only look read its store where no node runs.

mod argv;
mod audit;
mod bench;
mod broker;
mod cancel;
mod completions;
mod control;
mod cp;
mod demo;
mod errors;
mod exit;
mod export;
pub(crate) mod fleet;
mod forward;
mod init;
mod invite;
mod join;
mod listing;
mod live;
mod logs;
mod man;
mod messages;
mod methods;
mod nodes;
mod output;
mod ps;
mod remote;
mod replay;
mod revoke;
mod rotate;
mod rules;
mod run;
mod schedules;
mod script;
mod send;
mod show;
mod source;
mod table;
mod tail;
mod up;
mod verify;
mod when;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use crate::config::options;
use crate::config::sources::{ConfigError, Sources};
use exit::Exit;

/// What can be done, in the order of the help.
const VERBS: &[Entry] = &[
    entry::<run::Run>(),
    entry::<init::Init>(),
    entry::<up::Up>(),
    entry::<broker::Broker>(),
    entry::<invite::Invite>(),
    entry::<join::Join>(),
    entry::<revoke::Revoke>(),
    entry::<rotate::Rotate>(),
    entry::<send::Send>(),
    entry::<script::Script>(),
    entry::<messages::Messages>(),
    entry::<show::Show>(),
    entry::<logs::Logs>(),
    entry::<cp::Cp>(),
    entry::<tail::Tail>(),
    entry::<cancel::Cancel>(),
    entry::<schedules::Schedules>(),
    entry::<forward::Forward>(),
    entry::<verify::Verify>(),
    entry::<export::Export>(),
    entry::<nodes::Nodes>(),
    entry::<methods::Methods>(),
    entry::<ps::Ps>(),
    entry::<control::StopProcess>(),
    entry::<control::StartProcess>(),
    entry::<errors::Errors>(),
    entry::<rules::Rules>(),
    entry::<audit::Audit>(),
    entry::<replay::Replay>(),
    entry::<demo::Demo>(),
    entry::<bench::Bench>(),
    entry::<completions::Completions>(),
    entry::<man::Man>(),
];

/// Something that can be done: its arguments, its help, and how it is done.
trait Verb: clap::Args {
    /// Its name on the command line.
    const NAME: &'static str;
    /// What it does, in a sentence.
    const ABOUT: &'static str;
    /// What else its help says: examples, exit codes.
    const MORE: &'static str;
    /// The exit code where it could not be done at all.
    const FAILED: u8 = exit::FAILED;

    /// Does it.
    fn run(self, context: Context) -> anyhow::Result<Exit>;
}

struct Entry {
    name: &'static str,
    failed: u8,
    command: fn() -> Command,
    run: fn(&ArgMatches, Context) -> anyhow::Result<Exit>,
}

const fn entry<V: Verb>() -> Entry {
    Entry { name: V::NAME, failed: V::FAILED, command: verb_command::<V>, run: verb_run::<V> }
}

fn verb_command<V: Verb>() -> Command {
    let command = V::augment_args(Command::new(V::NAME));
    command.about(V::ABOUT).long_about(None).after_help(V::MORE)
}

fn verb_run<V: Verb>(matches: &ArgMatches, context: Context) -> anyhow::Result<Exit> {
    V::from_arg_matches(matches)?.run(context)
}

/// What every verb is given.
struct Context {
    /// Where values come from. Verbs other than `run` need the directory only.
    sources: Sources,
}

impl Context {
    /// The node's directory.
    fn dir(&self) -> Result<std::path::PathBuf, ConfigError> {
        self.sources.dir()
    }
}

/// Runs a verb's future to its end, on this thread alone: a verb waits more than it works.
fn wait_for<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("the runtime can't be started")?.block_on(future)
}

const ABOUT: &str = "Asynchronous management of edge units over NATS: messages that arrive once, on links that fail";

const MORE: &str = "\
Without a verb, the options above run a node: `steward --node=ship1` is `steward run --node=ship1`.
Each option works with one dash or two, in camel case (-brokerAddress) or in kebab case (--broker-address), with = or a \
space before its value.
A value comes from the flag, else the environment (STEWARD_BROKER_ADDRESS), else the file that --config names \
(brokerAddress = \"10.0.0.1:4222\"), else the default.
Durations: seconds, or 500ms, 10s, 5m, 1h30m, 2d. Sizes: bytes, or 64KiB, 64MiB, 1GiB.

Exit codes: 0 all is well, 1 it could not be done, 2 the command line or the configuration makes no sense, \
130 ended by Ctrl-C. `steward send` has more: see `steward help send`.";

/// The whole command line, from which help, man page and completions are made as well.
fn command() -> Command {
    let command = Command::new("steward")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(MORE)
        .override_usage(
            "steward [OPTIONS]              run a node\n       steward [--dir DIR] VERB …     do something else",
        )
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .max_term_width(120)
        .args(run::node_args())
        .arg(options::dir_arg())
        .arg(options::config_arg());
    VERBS.iter().fold(command, |command, verb| command.subcommand((verb.command)()))
}

/// Runs what this process's command line says.
pub(crate) fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let is_bare =
        args.len() <= 1 && !std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with("STEWARD_"));
    let args = argv::rewrite(args, &command());
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    if is_bare {
        // Nobody who types the bare name to see what it is wants a node running; `steward run` says that one is wanted.
        let help = output::Output::stderr().line(command().render_help().to_string().trim_end());
        return ExitCode::from(if help.is_ok() { exit::USAGE } else { exit::BROKEN_PIPE });
    }
    match dispatch(&matches) {
        Ok(exit) => exit.into(),
        Err((error, failed)) => report(&error, failed),
    }
}

fn dispatch(matches: &ArgMatches) -> Result<Exit, (anyhow::Error, u8)> {
    let (verb, own) = match matches.subcommand() {
        None => (&VERBS[0], matches),
        Some((name, own)) => match VERBS.iter().find(|verb| verb.name == name) {
            Some(verb) => (verb, own),
            None => return Err((anyhow::anyhow!("there is no verb {name:?}"), exit::USAGE)),
        },
    };
    let is_run = verb.name == <run::Run as Verb>::NAME;
    let flags = flags(matches, own, is_run).map_err(|error| (error, exit::USAGE))?;
    let config = matches.get_one::<String>("config").map(String::as_str);
    let sources = Sources::gather(flags, config).map_err(|error| (error.into(), exit::USAGE))?;
    (verb.run)(own, Context { sources }).map_err(|error| {
        let is_usage = error.is::<ConfigError>() || error.is::<exit::UsageError>();
        let failed = if is_usage { exit::USAGE } else { verb.failed };
        (error, failed)
    })
}

/// The values of a node's options, wherever they stand: before the verb, after it, or without one.
fn flags(matches: &ArgMatches, own: &ArgMatches, is_run: bool) -> anyhow::Result<BTreeMap<&'static str, Vec<String>>> {
    let mut flags = BTreeMap::new();
    for opt in options::all() {
        let is_dir = opt.name == options::DIR.name;
        // Verbs have options of their own with names like ours (`messages --node`); only `run` has a node's.
        let places: &[&ArgMatches] = if is_run && !is_dir { &[matches, own] } else { &[matches] };
        for place in places {
            if place.value_source(opt.name) != Some(ValueSource::CommandLine) {
                continue;
            }
            if !is_run && !is_dir {
                anyhow::bail!(
                    "--{} is an option of a running node: it goes with `steward run`, or without a verb",
                    opt.flag()
                );
            }
            let values = place.get_many::<String>(opt.name).into_iter().flatten().cloned().collect();
            flags.insert(opt.name, values);
        }
    }
    Ok(flags)
}

/// Prints clap's own message: help and version on standard output, errors on standard error.
fn usage(error: &clap::Error) -> ExitCode {
    match error.print() {
        Ok(()) if error.use_stderr() => ExitCode::from(exit::USAGE),
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(exit::BROKEN_PIPE),
    }
}

/// Tells whoever started this process of an error, where no verb does.
pub(crate) fn complain(why: &str) {
    output::note_as("error", why);
}

/// Says what went wrong. A reader who has gone (`steward messages | head`) is no error that anybody wants to read.
fn report(error: &anyhow::Error, failed: u8) -> ExitCode {
    let is_broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_broken_pipe) {
        return ExitCode::from(exit::BROKEN_PIPE);
    }
    output::note_as("error", &format!("{error:#}"));
    ExitCode::from(failed)
}

#[cfg(test)]
mod tests;
