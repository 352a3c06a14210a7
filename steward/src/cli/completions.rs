//! `steward completions`: what a shell needs to complete the command line.

use clap_complete::Shell;

use super::exit::Exit;
use super::output::Output;
use super::{Context, Verb, command};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// bash, elvish, fish, powershell or zsh
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Verb for Completions {
    const NAME: &'static str = "completions";
    const ABOUT: &'static str = "Print the completions of the command line for a shell";
    const MORE: &'static str = "\
Examples:
  steward completions bash > /etc/bash_completion.d/steward
  steward completions zsh > \"${fpath[1]}/_steward\"
  steward completions fish > ~/.config/fish/completions/steward.fish";

    fn run(self, _: Context) -> anyhow::Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "steward", &mut script);
        let mut output = Output::stdout();
        output.bytes(&script)?;
        output.flush()?;
        Ok(Exit::OK)
    }
}
