//! `steward rules`: what a node accepts. Looks at a file, or at the node that runs here; the rules themselves are a file
//! that its operator writes.

mod check;
mod push;
mod show;
mod trial;

use super::exit::Exit;
use super::{Context, Verb};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Rules {
    #[command(subcommand)]
    what: What,
}

/// What is wanted.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say whether a file of rules can be used, and what is wrong with it
    Check(check::Check),
    /// Show the rules that hold on the node here
    Show(show::Show),
    /// Sign a file of rules with the fleet key and send it to nodes, which accept no more than it from then on
    Push(push::Push),
    /// Say what the rules would do with a message; nothing is sent or run
    Try(trial::Trial),
}

impl Verb for Rules {
    const NAME: &'static str = "rules";
    const ABOUT: &'static str = "Check, show and try the rules that say what a node accepts";
    const MORE: &'static str = "\
A node's rules stand in rules.toml in its directory, which it follows while it runs; without the file it takes commands \
from central and from itself, and events from everybody. A file that can't be used changes nothing: what held before holds \
on, and `steward ps` says so. docs/rules.md has the whole format. An example:
  otherwise = \"standard\"          # what no rule fits: \"standard\" (as without a file), \"refuse\" or \"accept\"
  [[rule]]
  name = \"disk looks\"
  from = [\"ship2\", \"role:operator\"]
  type = \"command\"
  method = \"ShellCommand\"
  argv = [[\"df\", \"-h\"], [\"uptime\"]]
  user = \"nobody\"
  timeout = \"10s\"
push is done where the fleet was made (`steward init`). A node accepts what its own rules accept and the fleet's as well; \
it takes a set only if it is newer than the one that it has, and its own rules let the sender bring it (OpRulesApply).
Examples:
  steward rules check rules.toml && mv rules.toml /var/lib/steward/
  steward rules try --from ship2 --method ShellCommand -- df -h
  steward rules try --file rules.toml --from ann --role operator --method ShellCommand -- reboot
  steward rules push fleet-rules.toml --all";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        match self.what {
            What::Check(check) => check.run(),
            What::Show(show) => show.run(&context),
            What::Push(push) => push.run(&context),
            What::Try(trial) => trial.run(&context),
        }
    }
}
