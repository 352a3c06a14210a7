//! `steward errors`: what went wrong on nodes, as they have told the one that keeps their errors. It only looks; without a
//! running node it reads the store.

use anstyle::Style;
use protocol::name::NodeName;

use super::exit::Exit;
use super::listing::Listing;
use super::output::{self, Output};
use super::source::Source;
use super::table::Table;
use super::{Context, Verb, wait_for, when};
use crate::store::ErrorFilter;
use crate::view::ErrorView;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Errors {
    /// Only those of this node
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
    /// Only those that came in since then: 10m (ago), 10:42, 2026-11-22, 2026-11-22T10:42Z
    #[arg(long, value_name = "WHEN", value_parser = when::read_since)]
    since: Option<jiff::Timestamp>,
    #[command(flatten)]
    listing: Listing,
}

impl Verb for Errors {
    const NAME: &'static str = "errors";
    const ABOUT: &'static str = "List the errors of all nodes, where they are kept: on the central error logger";
    const MORE: &'static str = "\
They stand in the order in which they came in, which for each node is the order in which they happened; TIME is that of \
the node. Nodes tell of their parts that fail, of errors in their logs, and of messages that failed there; what comes in a \
storm is summed up (\"and 4,812 more of this kind\"). The newest 50,000 are kept, for as long as messages (--keep); \
errorlog.log beside them has the same as text.
Examples:
  steward errors --node ship1 --since 1h
  steward errors --json --limit 1000 | jq -r .text";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        wait_for(async {
            let filter = ErrorFilter {
                node: self.node.map(|node| node.to_string()),
                since_ms: self.since.map(when::since_ms),
                limit: self.listing.limit,
            };
            let errors = Source::open(&dir).await?.errors(&filter).await?;
            self.listing.show(&errors, print)?;
            Ok(Exit::OK)
        })
    }
}

fn print(errors: &[ErrorView], output: &mut Output) -> anyhow::Result<()> {
    if errors.is_empty() {
        output::note("no errors are kept here");
        return Ok(());
    }
    let mut table = Table::new(&["TIME", "NODE", "ERROR"], "NODE");
    for error in errors {
        table.row(&[&when::local(&error.at), &error.node, &error.text], Style::new());
    }
    table.print(output)?;
    Ok(())
}
