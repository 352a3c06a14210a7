//! `steward schedules`: orders that nodes run by a schedule. Listing them and their results only looks, and reads the store
//! where no node runs; pausing and removing is told to the node that has the order.

use anstyle::Style;
use anyhow::Context as _;
use protocol::name::NodeName;

use super::exit::{self, Exit};
use super::listing::Listing;
use super::output::{self, Output};
use super::source::Source;
use super::table::Table;
use super::{Context, Verb, messages, remote, wait_for, when};
use crate::api::client::Client;
use crate::methods::OP_SCHEDULE;
use crate::view::{MessageView, ScheduleResultView, ScheduleView};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Schedules {
    /// Only those of this node
    #[arg(value_name = "NODE")]
    node: Option<NodeName>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    what: Option<What>,
}

/// What is wanted, if not the list.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show what the runs of an order have brought
    Results(Results),
    /// Have its node run nothing of an order until it is resumed
    Pause(One),
    /// Have its node go on with an order that is paused; what was due meanwhile is not made up for
    Resume(One),
    /// Take an order back for good, and wait until its node has done so
    Remove(One),
}

/// The arguments of `results`.
#[derive(Debug, clap::Args)]
struct Results {
    /// The id of the order, or its beginning or its end
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    listing: Listing,
    /// Print what they have written, one after the other, and nothing else
    #[arg(long, conflicts_with = "json")]
    output: bool,
}

/// The arguments of what is told to a node.
#[derive(Debug, clap::Args)]
struct One {
    /// The id of the order, or its beginning or its end
    #[arg(value_name = "ID")]
    id: String,
}

impl Verb for Schedules {
    const NAME: &'static str = "schedules";
    const ABOUT: &'static str = "List what nodes run by a schedule, show what came of it, pause it, remove it";
    const MORE: &'static str = "\
An order is given with `steward send --every` or `--cron`, or with the key \"schedule\" in a message; its id is that of the message. Its \
node runs it whether or not there is a link, and what came of each run comes when it can. NEXT, RUNS and MISSED are what the \
node has told last. Results are kept here as long as messages that have ended (--keep).
Examples:
  steward send ship1 --cron '0 3 * * * Europe/Berlin' -- backup
  steward send ship1 --every 15m --method HttpGet -- http://127.0.0.1:9090/metrics as=body
  steward schedules
  steward schedules results 0c1d2e3f4a5b --limit 3
  steward schedules pause 0c1d2e3f4a5b
Exit codes of pause, resume and remove: 0 if its node has done it, else as `steward send`.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        wait_for(async {
            match self.what {
                None => list(&Source::open(&dir).await?, self.node.as_ref(), self.json).await,
                Some(What::Results(results)) => results.show(&Source::open(&dir).await?).await,
                Some(What::Pause(one)) => tell(Client::new(&dir), &one.id, "pause").await,
                Some(What::Resume(one)) => tell(Client::new(&dir), &one.id, "resume").await,
                Some(What::Remove(one)) => remove(Client::new(&dir), &one.id).await,
            }
        })
    }
}

async fn list(source: &Source, node: Option<&NodeName>, json: bool) -> anyhow::Result<Exit> {
    let orders = source.schedules(node).await?;
    let mut output = Output::stdout();
    if json {
        for order in &orders {
            output.json(order)?;
        }
    } else if orders.is_empty() {
        output::note("no orders with a schedule stand; `steward send --every` or `--cron` gives one");
    } else {
        table(&orders).print(&mut output)?;
    }
    output.flush()?;
    Ok(Exit::OK)
}

fn table(orders: &[ScheduleView]) -> Table {
    let headings = ["ID", "NODE", "SCHEDULE", "STATE", "NEXT", "RUNS", "MISSED", "LAST", "METHOD", "DATA"];
    let mut table = Table::new(&headings, "LAST");
    for order in orders {
        let id = messages::short(&order.id);
        let state = match (order.paused, order.state.as_str()) {
            (true, _) => "paused",
            (false, "running") => "stands",
            (false, state) => state,
        };
        let next = order.next_at.as_deref().map_or_else(String::new, when::local);
        let last = match (&order.last_state, &order.last_at) {
            (Some(state), Some(at)) => format!("{state} {}", when::local(at)),
            _ => String::new(),
        };
        let (runs, missed, data) = (order.runs.to_string(), order.missed.to_string(), order.data.join(" "));
        let cells = [&*id, &order.node, &order.schedule, state, &next, &runs, &missed, &last, &order.method, &data];
        let style = order.last_state.as_deref().map_or(Style::new(), messages::style);
        table.row(&cells, style);
    }
    table
}

impl Results {
    async fn show(self, source: &Source) -> anyhow::Result<Exit> {
        let id = source.resolve(&self.id).await?;
        let results = source.schedule_results(&id, self.listing.limit).await?;
        if self.output {
            let mut output = Output::stdout();
            for result in &results {
                output.bytes(result.stdout.as_bytes())?;
                output.bytes(result.stderr.as_bytes())?;
            }
            output.flush()?;
            return Ok(Exit::OK);
        }
        self.listing.show(&results, print)?;
        Ok(Exit::OK)
    }
}

fn print(results: &[ScheduleResultView], output: &mut Output) -> anyhow::Result<()> {
    if results.is_empty() {
        output::note("no results of it are here yet");
        return Ok(());
    }
    let mut table = Table::new(&["RUN", "DUE", "ENDED", "STATE", "EXIT", "OUTPUT"], "STATE");
    for result in results {
        let run = result.run.to_string();
        let exit = result.exit_code.map_or_else(String::new, |code| code.to_string());
        let cut = if result.truncated { " (cut)" } else { "" };
        let reason = result.reason.as_deref().filter(|_| result.state != "done").map(|why| format!(" ({why})"));
        let written = format!("{}{}{cut}{}", result.stdout, result.stderr, reason.unwrap_or_default());
        let (due, ended) = (when::local(&result.due_at), when::local(&result.finished_at));
        table.row(&[&run, &due, &ended, &result.state, &exit, &written], messages::style(&result.state));
    }
    Ok(table.print(output)?)
}

/// The order with this id, or a part of it. Only those that this node has given can be told anything.
async fn order(source: &Source, typed: &str) -> anyhow::Result<ScheduleView> {
    let id = source.resolve(typed).await?;
    let orders = source.schedules(None).await?;
    orders.into_iter().find(|order| order.id == id).with_context(|| {
        format!("message {id} is no order that stands and was given here; `steward schedules` lists those that do")
    })
}

/// Tells the node that has an order what to do with it, and prints how it is then.
async fn tell(client: Client, typed: &str, what: &str) -> anyhow::Result<Exit> {
    let order = order(&Source::Node(client.clone()), typed).await?;
    let node = NodeName::new(&order.node)?;
    let answer: Vec<serde_json::Value> =
        match remote::ask(&client, &node, OP_SCHEDULE, vec![what.to_owned(), order.id.clone()]).await? {
            Ok(answer) => answer,
            Err(exit) => return Ok(exit),
        };
    let paused = answer.first().and_then(|order| order["paused"].as_bool()).context("the answer names no order")?;
    let mut output = Output::stdout();
    output.line(&format!("{}  {}  {}", order.id, order.node, if paused { "paused" } else { "stands" }))?;
    output.flush()?;
    Ok(Exit::OK)
}

/// Cancels an order, and waits until that is settled.
async fn remove(client: Client, typed: &str) -> anyhow::Result<Exit> {
    let order = order(&Source::Node(client.clone()), typed).await?;
    let asked: MessageView = client.post(&format!("/v1/messages/{}/cancel", order.id), String::new()).await?;
    if asked.finished_at.is_none() {
        output::note(&format!(
            "waiting for {} to answer; with Ctrl-C it is removed all the same, once it hears of it",
            order.node
        ));
    }
    let mut view = asked;
    let mut events = client.stream(&format!("/v1/messages/{}/events", order.id)).await?;
    let mut rest = Vec::new();
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    while view.finished_at.is_none() {
        let chunk = tokio::select! {
            chunk = events.chunk() => chunk?,
            _ = &mut interrupt => return Ok(Exit(exit::CTRL_C)),
        };
        let chunk =
            chunk.context("the node here has stopped; the order is removed all the same, once its node hears of it")?;
        rest.extend_from_slice(&chunk);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            view = serde_json::from_slice(&rest[..end])?;
            rest.drain(..=end);
        }
    }
    let mut output = Output::stdout();
    let state = output.paint(messages::style(&view.state), &view.state);
    output.line(&format!("{}  {}  {state}", view.id, view.to_node))?;
    output.flush()?;
    Ok(if view.state == "cancelled" { Exit::OK } else { Exit(exit::FAILED) })
}
