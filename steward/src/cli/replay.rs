//! `steward replay`: sends messages from the message log again, as new messages. What the log says is all that it
//! knows: it looks neither into the store nor at what became of them elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use protocol::message::MessageId;
use protocol::name::NodeName;

use super::exit::{self, Exit, UsageError};
use super::output::{self, Output};
use super::send::submit;
use super::table::Table;
use super::{Context, Verb, messages, wait_for, when};
use crate::api::client::Client;
use crate::clock;
use crate::intake::MessageInput;
use crate::intake::input::Deadline;
use crate::message_log::{self, Accepted, Entries, Entry};

/// Messages that are handed to the node at once.
const CHUNK_MESSAGES_MAX: usize = 500;

/// Messages that are listed before they are sent.
const LISTED_MAX: usize = 20;

/// The state of what has not ended, as far as the log knows.
const OPEN: &str = "open";

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// Ids of messages, and files of a message log; without a file, the node's own (messages.jsonl and older ones)
    #[arg(value_name = "ID|FILE", value_parser = what)]
    what: Vec<What>,
    /// Only those accepted since then: 10m (ago), 10:42, 2026-11-22, 2026-11-22T10:42Z
    #[arg(long, value_name = "WHEN", value_parser = when::read_since)]
    since: Option<Timestamp>,
    /// The same as an ID without the flag; may be repeated
    #[arg(long, value_name = "ID")]
    id: Vec<MessageId>,
    /// Only those to this node
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
    /// Only those that ended in this state, or `open` for those that have not ended
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<String>,
    /// Show what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// One JSON object a line: each message with its new id (with --dry-run: without)
    #[arg(long)]
    json: bool,
}

impl Verb for Replay {
    const NAME: &'static str = "replay";
    const ABOUT: &'static str = "Send messages from the message log again, with new ids";
    const MORE: &'static str = "\
Examples:
  steward replay --state undeliverable --since 1d --dry-run
  steward replay 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b
  steward replay --yes /backup/messages.jsonl
They are sent from the node that runs here, oldest first. A message whose deadline has passed is left out.
On a terminal it lists them and asks before it sends.";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        let is_all = self.what.is_empty() && self.id.is_empty() && self.since.is_none();
        if is_all && self.state.is_none() && self.node.is_none() {
            return Err(UsageError("say what to send again: ID, FILE, --since, --node or --state".to_owned()).into());
        }
        let selection = self.select(&dir)?;
        if selection.expired > 0 {
            output::note(&format!("left out, because their deadline has passed: {}", selection.expired));
        }
        if selection.ids.is_empty() {
            output::note("no message in the log fits");
            return Ok(Exit(exit::FAILED));
        }
        if self.dry_run && self.json {
            let mut output = Output::stdout();
            for accepted in self.chosen(&dir, &selection.ids) {
                output.json(&accepted.input)?;
            }
            output.flush()?;
            return Ok(Exit::OK);
        }
        if self.dry_run {
            self.list(&selection)?;
            return Ok(Exit::OK);
        }
        if !self.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
            self.list(&selection)?;
            if !agreed(selection.ids.len())? {
                output::note("nothing was sent");
                return Ok(Exit(exit::FAILED));
            }
        }
        wait_for(self.send(&dir, &selection.ids))
    }
}

/// What stands there without a flag.
#[derive(Debug, Clone)]
enum What {
    Message(MessageId),
    File(PathBuf),
}

fn what(text: &str) -> Result<What, std::convert::Infallible> {
    Ok(text.parse().map_or_else(|_| What::File(text.into()), What::Message))
}

/// What is to be sent again.
struct Selection {
    ids: BTreeSet<MessageId>,
    /// The first of them.
    first: Vec<Accepted>,
    /// The states in which they ended, as far as that was asked for.
    states: BTreeMap<MessageId, String>,
    /// How many are left out.
    expired: usize,
}

impl Replay {
    fn entries(&self, dir: &Path) -> Entries {
        let files: Vec<PathBuf> = self.files().cloned().collect();
        if files.is_empty() { message_log::read(dir) } else { message_log::read_files(files) }
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.what.iter().filter_map(|what| match what {
            What::File(file) => Some(file),
            What::Message(_) => None,
        })
    }

    fn ids(&self) -> BTreeSet<MessageId> {
        let bare = self.what.iter().filter_map(|what| match what {
            What::Message(id) => Some(*id),
            What::File(_) => None,
        });
        bare.chain(self.id.iter().copied()).collect()
    }

    /// Reads the log once for the states, and once for the messages. Holds ids, no messages.
    fn select(&self, dir: &Path) -> anyhow::Result<Selection> {
        for file in self.files() {
            anyhow::ensure!(file.is_file(), "there is no file {}, and it is no id of a message", file.display());
        }
        let ids = self.ids();
        let mut states = BTreeMap::new();
        let mut bad = 0;
        for entry in self.entries(dir) {
            match entry {
                Ok(Entry::Ended { id, state }) if self.state.is_some() => drop(states.insert(id, state)),
                Ok(Entry::Ended { .. } | Entry::Accepted(_)) => {}
                Err(line) => {
                    bad += 1;
                    if bad <= LISTED_MAX {
                        output::note(&format!("left out: {line}"));
                    }
                }
            }
        }
        if bad > LISTED_MAX {
            output::note(&format!("left out: {} more bad lines", bad - LISTED_MAX));
        }
        let mut selection = Selection { ids: BTreeSet::new(), first: Vec::new(), states, expired: 0 };
        for entry in self.entries(dir) {
            let Ok(Entry::Accepted(accepted)) = entry else { continue };
            if !self.fits(&accepted, &ids, &selection.states) {
                continue;
            }
            if has_passed(&accepted.input) {
                selection.expired += 1;
            } else if selection.ids.insert(accepted.id) && selection.first.len() < LISTED_MAX {
                selection.first.push(*accepted);
            }
        }
        Ok(selection)
    }

    fn fits(&self, accepted: &Accepted, ids: &BTreeSet<MessageId>, states: &BTreeMap<MessageId, String>) -> bool {
        let is_since = |since: &Timestamp| accepted.created_at.parse::<Timestamp>().is_ok_and(|at| at >= *since);
        let is_state = |state: &String| states.get(&accepted.id).map_or(OPEN, String::as_str) == state;
        (ids.is_empty() || ids.contains(&accepted.id))
            && self.since.as_ref().is_none_or(is_since)
            && self.node.as_ref().is_none_or(|node| node.as_str() == accepted.input.to_node)
            && self.state.as_ref().is_none_or(is_state)
    }

    /// The messages themselves, each once, although the log may have one twice.
    fn chosen(&self, dir: &Path, ids: &BTreeSet<MessageId>) -> impl Iterator<Item = Accepted> {
        let mut left = ids.clone();
        self.entries(dir).filter_map(move |entry| match entry {
            Ok(Entry::Accepted(accepted)) if left.remove(&accepted.id) => Some(*accepted),
            Ok(Entry::Accepted(_) | Entry::Ended { .. }) | Err(_) => None,
        })
    }

    fn list(&self, selection: &Selection) -> anyhow::Result<()> {
        // A question and what it is about go to the same place; an answer for a script goes to standard output.
        let mut output = if self.dry_run { Output::stdout() } else { Output::stderr() };
        let mut table = Table::new(&["ID", "TIME", "TO", "STATE", "METHOD", "DATA"], "STATE");
        for accepted in &selection.first {
            let (id, time) = (accepted.id.to_string(), when::local(&accepted.created_at));
            let state = selection.states.get(&accepted.id).map_or("", String::as_str);
            let input = &accepted.input;
            let data = input.data.join(" ");
            table.row(&[&id, &time, &input.to_node, state, &input.method, &data], messages::style(state));
        }
        table.print(&mut output)?;
        if selection.ids.len() > selection.first.len() {
            output.line(&format!("… and {} more", selection.ids.len() - selection.first.len()))?;
        }
        Ok(output.flush()?)
    }

    async fn send(&self, dir: &Path, ids: &BTreeSet<MessageId>) -> anyhow::Result<Exit> {
        let client = Client::new(dir);
        let mut output = Output::stdout();
        let mut chosen = self.chosen(dir, ids);
        let mut sent = 0;
        loop {
            let chunk: Vec<Accepted> = chosen.by_ref().take(CHUNK_MESSAGES_MAX).collect();
            if chunk.is_empty() {
                break;
            }
            let inputs: Vec<MessageInput> = chunk.iter().map(|accepted| accepted.input.clone()).collect();
            let new = match submit(&client, &inputs).await {
                Ok(new) => new,
                Err(error) if sent == 0 => return Err(error),
                Err(error) => return Err(error.context(format!("{sent} of {} were sent before that", ids.len()))),
            };
            sent += new.len();
            for (accepted, id) in chunk.iter().zip(new) {
                if self.json {
                    let told = serde_json::json!({ "id": id, "toNode": accepted.input.to_node, "replayOf": accepted.id.to_string() });
                    output.json(&told)?;
                } else {
                    output.line(&id)?;
                }
            }
            output.flush()?;
        }
        output::note(&format!("sent again: {sent}; `steward messages` shows what becomes of them"));
        Ok(Exit::OK)
    }
}

fn has_passed(input: &MessageInput) -> bool {
    match &input.deadline {
        Some(Deadline::At(at)) => at
            .parse::<Timestamp>()
            .is_ok_and(|at| at.as_millisecond() < i64::try_from(clock::wall().0).unwrap_or(i64::MAX)),
        Some(Deadline::In(_)) | None => false,
    }
}

fn agreed(messages: usize) -> anyhow::Result<bool> {
    Output::stderr().bytes(format!("Send {messages} again? [y/N] ").as_bytes())?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn state(text: &str) -> Result<String, String> {
    if text == OPEN { Ok(text.to_owned()) } else { messages::state(text) }
}

#[cfg(test)]
mod tests;
