//! `steward messages`: what was sent from here, newest first. It only looks; without a running node it reads the store.

use anstyle::Style;
use protocol::name::NodeName;
use protocol::outcome::{Final, State};

use super::exit::Exit;
use super::listing::Listing;
use super::output::{self, Output};
use super::source::Source;
use super::table::Table;
use super::{Context, Verb, wait_for, when};
use crate::engine::Filter;
use crate::view::MessageView;

/// A terminal of at least so many columns has room for whole ids.
const WIDE_COLUMNS: usize = 130;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Messages {
    /// Only those to or from this node
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
    /// Only those in this state: queued, sent, stored, running, fetching, done, failed, timed_out, refused, expired,
    /// interrupted, cancelled or undeliverable
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<String>,
    /// Only those accepted since then: 10m (ago), 10:42, 2026-11-22, 2026-11-22T10:42Z
    #[arg(long, value_name = "WHEN", value_parser = when::read_since)]
    since: Option<jiff::Timestamp>,
    #[command(flatten)]
    listing: Listing,
}

impl Verb for Messages {
    const NAME: &'static str = "messages";
    const ABOUT: &'static str =
        "List the messages that were sent from here, and what runs here for others, newest first";
    const MORE: &'static str = "\
Examples:
  steward messages --node ship2 --state queued
  steward messages --since 1h --json | jq -r 'select(.state == \"failed\") | .id'
`steward show ID` has all of one message; the beginning or the end of an id is enough.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        wait_for(async {
            let filter = Filter {
                node: self.node.map(|node| node.to_string()),
                state: self.state,
                since_ms: self.since.map(when::since_ms),
                limit: self.listing.limit,
            };
            let messages = Source::open(&dir).await?.messages(&filter).await?;
            self.listing.show(&messages, print)?;
            Ok(Exit::OK)
        })
    }
}

fn print(messages: &[MessageView], output: &mut Output) -> anyhow::Result<()> {
    if messages.is_empty() {
        output::note("no messages");
        return Ok(());
    }
    let is_short = output.width().is_some_and(|columns| columns < WIDE_COLUMNS);
    // Nearly always all are from here; a column that says so in each row would only take room.
    let is_mixed = messages.iter().any(|message| message.from_node != messages[0].from_node);
    let mut headings = vec!["ID", "TIME", "TO", "STATE", "EXIT", "METHOD", "DATA"];
    if is_mixed {
        headings.insert(2, "FROM");
    }
    let mut table = Table::new(&headings, "STATE");
    for message in messages {
        let id = if is_short { short(&message.id) } else { message.id.clone() };
        let exit = message.exit_code.map_or_else(String::new, |code| code.to_string());
        let data = match &message.reason {
            Some(reason) => format!("{} ({reason})", message.data.join(" ")),
            None => message.data.join(" "),
        };
        let time = when::local(&message.created_at);
        let mut cells = vec![&*id, &time, &message.to_node, &message.state, &exit, &message.method, &data];
        if is_mixed {
            cells.insert(2, &message.from_node);
        }
        table.row(&cells, style(&message.state));
    }
    Ok(table.print(output)?)
}

/// The last digits of an id: those of its beginning are the time, and much the same for neighbours.
pub(super) fn short(id: &str) -> String {
    id.rsplit('-').next().unwrap_or(id).to_owned()
}

/// The colour of a state.
pub(super) fn style(state: &str) -> Style {
    match Final::parse(state) {
        // Only a message without ACK ends as sent; any other has not ended then, and both look alike here.
        Some(Final::Done | Final::Sent) => output::GOOD,
        Some(
            Final::Failed
            | Final::TimedOut
            | Final::Refused
            | Final::Expired
            | Final::Interrupted
            | Final::Undeliverable,
        ) => output::BAD,
        Some(Final::Cancelled) => output::FAINT,
        None => output::WAITS,
    }
}

/// A state that exists.
pub(super) fn state(text: &str) -> Result<String, String> {
    let open = [State::Queued, State::Sent, State::Stored, State::Running, State::Fetching];
    let mut states: Vec<&str> = open.iter().map(State::as_str).collect();
    // A message without ACK ends as `sent`, which is also what one with ACK is on its way: one name for both.
    states.extend(Final::ALL.iter().map(|state| state.as_str()).filter(|state| *state != State::Sent.as_str()));
    if states.contains(&text) { Ok(text.to_owned()) } else { Err(format!("there are {}", states.join(", "))) }
}
