//! `steward methods`: what a node can do beside what every steward can. It only looks.

use anstyle::Style;
use protocol::name::NodeName;
use serde_json::Value;

use super::exit::Exit;
use super::output::{self, Output};
use super::source::Source;
use super::table::Table;
use super::{Context, Verb, wait_for, when};
use crate::api::client::Client;
use crate::view::MethodView;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Methods {
    /// Those of another node, as it has told in its last hello
    #[arg(value_name = "NODE")]
    node: Option<NodeName>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Verb for Methods {
    const NAME: &'static str = "methods";
    const ABOUT: &'static str =
        "List what a node can do: the methods of its own, and for the node here those of steward";
    const MORE: &'static str = "\
Executables in methods.d/ in a node's directory are methods of that node. They are sent to like any other:
  steward send ship1 --method DiskReport -- /var
Of the node here, files that can't be used are listed with the reason. docs/methods.md says how such a file has to be, and
what steward's own methods do.
Examples:
  steward methods
  steward methods ship1";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        wait_for(async {
            let (methods, more) = match &self.node {
                None => (Client::new(&dir).get::<Vec<MethodView>>("/v1/methods").await?, 0),
                Some(node) => told(&Source::open(&dir).await?, node).await?,
            };
            let mut output = Output::stdout();
            if self.json {
                methods.iter().try_for_each(|method| output.json(method))?;
            } else if methods.is_empty() {
                output::note("it has told of no methods of its own");
            } else {
                table(&methods, self.node.is_none()).print(&mut output)?;
            }
            output.flush()?;
            if more > 0 {
                output::note(&format!("and {more} more, for which its hello has no room"));
            }
            Ok(Exit::OK)
        })
    }
}

/// What a node has told of, and how many it had no room for.
async fn told(source: &Source, node: &NodeName) -> anyhow::Result<(Vec<MethodView>, u64)> {
    let nodes = source.nodes().await?;
    let info = nodes.into_iter().find(|known| known.node == node.as_str()).and_then(|known| known.info);
    let Some(info) = info else {
        anyhow::bail!("nothing was heard yet of what {node} can do; `steward nodes` says whether it is there");
    };
    let text = |method: &Value, key: &str| method[key].as_str().map(str::to_owned);
    let view = |method: &Value| MethodView {
        method: text(method, "name").unwrap_or_default(),
        own: true,
        event: method["event"] == true,
        description: text(method, "description"),
        ..MethodView::default()
    };
    let methods = info["methods"].as_array().into_iter().flatten().map(view).collect();
    Ok((methods, info["moreMethods"].as_u64().unwrap_or(0)))
}

/// What the hello of another node leaves out is no column.
fn table(methods: &[MethodView], is_here: bool) -> Table {
    let headings: &[&'static str] = match is_here {
        true => &["METHOD", "OF", "SENT AS", "AFTER A CRASH", "AT MOST", "DESCRIPTION"],
        false => &["METHOD", "SENT AS", "DESCRIPTION"],
    };
    let mut table = Table::new(headings, if is_here { "DESCRIPTION" } else { "METHOD" });
    for method in methods {
        let description = method.problem.as_deref().or(method.description.as_deref()).unwrap_or_default();
        let sent_as = if method.event { "command or event" } else { "command" };
        if !is_here {
            table.row(&[&method.method, sent_as, description], Style::new());
            continue;
        }
        let limit = method.timeout_seconds.map_or_else(String::new, |seconds| {
            when::span(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default())
        });
        let of = if method.own { "this node" } else { "steward" };
        let after = if method.rerun { "runs again" } else { "interrupted" };
        let cells = match method.problem {
            Some(_) => [&*method.method, of, "", "", "", description],
            None => [&*method.method, of, sent_as, after, &limit, description],
        };
        table.row(&cells, if method.problem.is_some() { output::BAD } else { Style::new() });
    }
    table
}
