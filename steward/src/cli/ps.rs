//! `steward ps`: the lanes and the supervised tasks of the node that runs here. It only looks.

use anstyle::Style;

use super::exit::Exit;
use super::output::{self, Output};
use super::table::Table;
use super::{Context, Verb, wait_for};
use crate::api::client::Client;
use crate::view::ProcessView;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Ps {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Verb for Ps {
    const NAME: &'static str = "ps";
    const ABOUT: &'static str = "List the node's processes: lanes (one for each node, type and method) and tasks";
    const MORE: &'static str = "\
out: a lane of messages to a node. in: a lane of messages from one. task: a part of the node itself; a part that is \
down has failed too often, and is not restarted until the node is.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        wait_for(async {
            let processes: Vec<ProcessView> = Client::new(&dir).get("/v1/ps").await?;
            let mut output = Output::stdout();
            if self.json {
                for process in &processes {
                    output.json(process)?;
                }
            } else {
                table(&processes).print(&mut output)?;
            }
            output.flush()?;
            Ok(Exit::OK)
        })
    }
}

fn table(processes: &[ProcessView]) -> Table {
    let mut table = Table::new(&["KIND", "NAME", "STATE", "MESSAGES", "RESTARTS", "NOTE"], "STATE");
    for process in processes {
        let (messages, restarts) = (process.messages.to_string(), process.restarts.to_string());
        let note = process.note.as_deref().unwrap_or_default();
        table.row(&[&process.kind, &process.name, &process.state, &messages, &restarts, note], style(&process.state));
    }
    table
}

fn style(state: &str) -> Style {
    match state {
        "down" => output::BAD,
        "waiting" | "restarting" => output::WAITS,
        "idle" => output::FAINT,
        _ => Style::new(),
    }
}
