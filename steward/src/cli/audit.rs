//! `steward audit`: reads the audit log in the node's directory. It needs no node, and changes nothing.

mod show;
mod verify;

use super::exit::Exit;
use super::{Context, Verb};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    what: What,
}

/// What is wanted.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say whether the log is one whole chain, or which line is the first that is not what was written
    Verify(verify::Verify),
    /// List what was written
    Show(show::Show),
}

impl Verb for Audit {
    const NAME: &'static str = "audit";
    const ABOUT: &'static str = "Show and verify the audit log: who sent what to whom, what was decided, how it ended";
    const MORE: &'static str = "\
Each node writes audit.jsonl in its directory: commands and refusals, or everything (--audit=all). Each line holds the hash of \
the one before, so none can be altered or taken out unnoticed. Whoever may write the file can still cut off its end or \
write it anew; what other nodes have heard in a hello (`steward nodes --json`, under \"audit\") shows that: --known.
Examples:
  steward audit verify
  steward audit verify --known 1042:90aa3c0d…
  steward audit show --method ShellCommand --from ann --since 1d
  steward audit show --event refused --json";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        match self.what {
            What::Verify(verify) => verify.run(&dir),
            What::Show(show) => show.run(&dir),
        }
    }
}
