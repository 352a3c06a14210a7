//! `steward nodes`: what is known of other nodes, and from what. It only looks; without a running node it reads the
//! store, which knows when each was last seen but not who is there now.

mod standing;

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
OUT and IN are the bytes that went over the link to and from it since the node here was started.
BECAUSE begins with the parts of a node that are down (they failed too often) or stopped, as it last told.
On central, FLEET says who is a member, who is invited and has not joined yet, and who was revoked.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        wait_for(async {
            let standing = standing::read(&dir)?;
            let known = match Source::open(&dir).await {
                Ok(source) => source.nodes().await?,
                // A fleet can have members before its central has ever run.
                Err(_) if standing.as_ref().is_some_and(|standing| !standing.is_empty()) => Vec::new(),
                Err(error) => return Err(error),
            };
            let is_central = standing.is_some();
            let nodes = standing::merge(known, standing.unwrap_or_default());
            let mut output = Output::stdout();
            if self.json {
                for node in &nodes {
                    output.json(node)?;
                }
            } else if nodes.is_empty() {
                output::note("no other node has been heard of");
            } else {
                table(&nodes, is_central).print(&mut output)?;
            }
            output.flush()?;
            Ok(Exit::OK)
        })
    }
}

fn table(nodes: &[NodeView], is_central: bool) -> Table {
    const ALL: [&str; 9] = ["NODE", "FLEET", "PRESENCE", "LAST SEEN", "OUTSTANDING", "OUT", "IN", "VERSION", "BECAUSE"];
    let is_counted = nodes.iter().any(|node| node.wire_out_bytes.is_some());
    let shown = |column: &str| match column {
        "FLEET" => is_central,
        "OUT" | "IN" => is_counted,
        _ => true,
    };
    let headings: Vec<&'static str> = ALL.into_iter().filter(|column| shown(column)).collect();
    let mut table = Table::new(&headings, "PRESENCE");
    for node in nodes {
        let seen = node.last_seen_at.as_deref().map_or_else(|| "never".to_owned(), when::local);
        let outstanding = node.outstanding.to_string();
        let version = node.info.as_ref().and_then(|info| info.get("version")?.as_str()).unwrap_or_default();
        let because = because(node);
        let fleet = node.standing.as_ref().map_or("", |standing| standing.state.as_str());
        let [out, inward] =
            [node.wire_out_bytes, node.wire_in_bytes].map(|bytes| bytes.map_or_else(String::new, output::size));
        let cells = [&*node.node, fleet, &node.presence, &seen, &outstanding, &out, &inward, version, &because];
        let cells: Vec<&str> =
            ALL.into_iter().zip(cells).filter(|(column, _)| shown(column)).map(|(_, cell)| cell).collect();
        let is_bad = !resting(node, "down").is_empty() || fleet == "revoked";
        table.row(&cells, if is_bad { output::BAD } else { style(&node.presence) });
    }
    table
}

/// From what the presence is known, and first of all which parts of the node do not run.
fn because(node: &NodeView) -> String {
    let parts = ["down", "stopped"].into_iter().filter_map(|state| {
        let tasks = resting(node, state);
        (!tasks.is_empty()).then(|| format!("{state}: {}", tasks.join(", ")))
    });
    let standing = node.standing.as_ref().and_then(standing::words);
    let presence = Some(node.because.clone()).filter(|because| !because.is_empty());
    standing.into_iter().chain(parts).chain(presence).collect::<Vec<_>>().join("; ")
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
