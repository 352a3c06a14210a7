//! `steward rules check FILE`. It needs no node.

use std::path::PathBuf;

use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::security::rules;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let rules = rules::check(&self.file)?;
        let mut output = Output::stdout();
        output.line(&format!("{} can be used: {rules} rules", self.file.display()))?;
        output.flush()?;
        Ok(Exit::OK)
    }
}
