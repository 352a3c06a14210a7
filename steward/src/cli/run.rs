//! `steward run`, or no verb at all: runs a node until it is told to stop. Its options are made from the one list in
//! `config/options.rs`.

use clap::error::Error;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::exit::Exit;
use super::{Context, Verb, output};
use crate::config::{Config, options};

/// Runs a node. What its options are is read from the command line as a whole, because they may stand before the verb.
pub(super) struct Run;

impl Verb for Run {
    const NAME: &'static str = "run";
    const ABOUT: &'static str = "Run a node (the verb may be left out)";
    const MORE: &'static str = "\
Examples:
  steward run --node=central --central-error-logger
  steward --node=ship1 --brokerAddress=10.0.0.1:4222 --dir /var/lib/steward
Messages for other nodes: `steward send`, or JSON written into inmsg.txt in the node's directory.
SIGTERM or Ctrl-C stops the node; what it has accepted is kept and goes on at the next start.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let sources = context.sources.with_own_file()?;
        let config = Config::read(&sources)?;
        for suspect in sources.suspects() {
            output::note(&suspect);
        }
        crate::node::run(config)?;
        Ok(Exit::OK)
    }
}

/// The options of a running node.
pub(super) fn node_args() -> impl Iterator<Item = Arg> {
    options::all().filter(|opt| opt.name != options::DIR.name).map(|opt| opt.arg())
}

impl Args for Run {
    fn augment_args(command: Command) -> Command {
        command.args(node_args())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Run {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, Error> {
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), Error> {
        Ok(())
    }
}
