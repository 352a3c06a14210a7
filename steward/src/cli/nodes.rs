//! `steward nodes`: what is known of other nodes, and from what. It only looks; without a running node it reads the
//! store, which knows when each was last seen but not who is there now.

use anstyle::Style;

use super::exit::Exit;
use super::output::{self, Output};
use super::source::Source;
use super::table::Table;
use super::{Context, Verb, wait_for, when};
use crate::view::NodeView;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Nodes {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Verb for Nodes {
    const NAME: &'static str = "nodes";
    const ABOUT: &'static str = "List the other nodes: who is there, who is away, and from what that is known";
    const MORE: &'static str = "\
online: it gave a proof of life lately. away: nobody listens under its name. stopped: it said goodbye.
silent: somebody listens, but doesn't answer. unknown: nothing is known, which isn't the same as away.
BECAUSE begins with the parts of a node that are down (they failed too often) or stopped, as it last told.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        wait_for(async {
            let nodes = Source::open(&dir).await?.nodes().await?;
            let mut output = Output::stdout();
            if self.json {
                for node in &nodes {
                    output.json(node)?;
                }
            } else if nodes.is_empty() {
                output::note("no other node has been heard of");
            } else {
                table(&nodes).print(&mut output)?;
            }
            output.flush()?;
            Ok(Exit::OK)
        })
    }
}

fn table(nodes: &[NodeView]) -> Table {
    let mut table = Table::new(&["NODE", "PRESENCE", "LAST SEEN", "OUTSTANDING", "VERSION", "BECAUSE"], "PRESENCE");
    for node in nodes {
        let seen = node.last_seen_at.as_deref().map_or_else(|| "never".to_owned(), when::local);
        let outstanding = node.outstanding.to_string();
        let version = node.info.as_ref().and_then(|info| info.get("version")?.as_str()).unwrap_or_default();
        let because = because(node);
        let cells = [&*node.node, &node.presence, &seen, &outstanding, version, &because];
        table.row(&cells, if resting(node, "down").is_empty() { style(&node.presence) } else { output::BAD });
    }
    table
}

/// From what the presence is known, and first of all which parts of the node do not run.
fn because(node: &NodeView) -> String {
    let parts = ["down", "stopped"].into_iter().filter_map(|state| {
        let tasks = resting(node, state);
        (!tasks.is_empty()).then(|| format!("{state}: {}", tasks.join(", ")))
    });
    parts.chain([node.because.clone()]).collect::<Vec<_>>().join("; ")
}

/// The parts of a node that are in this state, as it has told in its last hello.
fn resting<'a>(node: &'a NodeView, state: &str) -> Vec<&'a str> {
    let told = node.info.as_ref().and_then(|info| info.get("resting")?.as_array());
    let of_state = told.into_iter().flatten().filter(|part| part["state"] == state);
    of_state.filter_map(|part| part["task"].as_str()).collect()
}

fn style(presence: &str) -> Style {
    match presence {
        "online" => output::GOOD,
        "away" | "silent" => output::WAITS,
        _ => output::FAINT,
    }
}
