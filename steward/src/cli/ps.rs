//! `steward ps`: the lanes and the supervised tasks of the node that runs here, or of another one. It only looks.

use anstyle::Style;
use protocol::name::NodeName;

use super::exit::Exit;
use super::output::{self, Output};
use super::table::Table;
use super::{Context, Verb, remote, wait_for};
use crate::api::client::Client;
use crate::view::ProcessView;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Ps {
    /// Those of this node, which is asked with a message (OpProcessList) [default: the node here]
    #[arg(long, value_name = "NODE")]
    node: Option<NodeName>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Verb for Ps {
    const NAME: &'static str = "ps";
    const ABOUT: &'static str = "List a node's processes: lanes (one for each node, type and method) and tasks";
    const MORE: &'static str = "\
out: a lane of messages to a node. in: a lane of messages from one. link: the way to the broker, with what is wrong and \
what to do, and how often it came back. keys: those of a node of a fleet, and how far their renewal is (`steward rotate`). tls: until when the certificate of the fleet's broker holds. rules: what the node accepts (`steward rules`), and \
how often it has refused something since its start. task: a part of the node itself. A part that fails is restarted with longer and longer pauses; one that has failed too often (--restart-limit) is down until somebody starts it \
(`steward start-process`) or the node restarts. Those without which nobody could do so are tried again every 10 minutes.
Examples:
  steward ps
  steward ps --node ship1";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        wait_for(async {
            let client = Client::new(&dir);
            let processes: Vec<ProcessView> = match &self.node {
                None => client.get("/v1/ps").await?,
                Some(node) => match remote::ask(&client, node, "OpProcessList", Vec::new()).await? {
                    Ok(processes) => processes,
                    Err(exit) => return Ok(exit),
                },
            };
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
        table.row(&[&process.kind, &process.name, &process.state, &messages, &restarts, note], style(process));
    }
    table
}

fn style(process: &ProcessView) -> Style {
    match process.state.as_str() {
        "ended" if process.kind == "tls" => output::BAD,
        "down" | "kept" | "closed" | "refused" | "fell-back" => output::BAD,
        "asking" | "ends-soon" | "waiting" | "restarting" | "stopped" | "connecting" | "unreachable" | "silent"
        | "mute" => output::WAITS,
        "idle" => output::FAINT,
        // Everything else that a link may be needs somebody.
        state if process.kind == "link" && state != "up" => output::BAD,
        _ => Style::new(),
    }
}
