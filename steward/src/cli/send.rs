//! `steward send`: one message for each node, and then, unless told otherwise, what becomes of them: the output as it
//! comes back, and the exit code. Once the node here has accepted the messages, nothing that happens to this command
//! changes anything for them.

mod follow;
mod progress;
pub(super) mod results;
mod written;

use std::path::PathBuf;

use anyhow::Context as _;
use protocol::message::Kind;
use protocol::name::{MethodName, NodeName};
use serde::Deserialize;

use self::written::Written;
use super::exit::{self, Exit, UsageError};
use super::output::Output;
use super::{Context, Verb, output, wait_for, when};
use crate::api::client::{Client, ClientError};
use crate::clock;
use crate::config::units;
use crate::intake::MessageInput;
use crate::intake::input::Deadline;

/// What is called where no method is named.
const COMMAND_METHOD: &str = "ShellCommand";
const EVENT_METHOD: &str = "TextLogging";

const MORE: &str = "\
Examples:
  steward send ship1 -- uptime
  steward send ship1,ship2 --method-timeout 10m -- bash -c 'apt-get update && apt-get -y upgrade'
  steward send central --event -- 'the engine is warm'
  steward send --file upgrade.yaml

A file holds messages as in inmsg.txt: one, or a list of them. In YAML:
  - toNodes: [ship1, ship2]
    commandOrEvent: CommandACK
    method: ShellCommand
    data: [bash, -c, uptime]

The output of one node is printed as it comes, that of several when each has ended. Ctrl-C leaves a message with the node,
which goes on with it; `steward logs -f ID` looks on again.

Exit codes, one node: the exit code of the command; 128+N when signal N ended it; and where there is no exit code:
  0    the event was handled, the message without ACK was handed over, or it was queued (--detach)
  1    failed, for the reason that is printed
  2    the command line makes no sense
  120  expired: its deadline passed before it was started
  121  undeliverable: no receipt in the given number of attempts
  122  interrupted: it was started, and nobody knows how it ended
  123  cancelled
  124  timed out: it ran longer than --method-timeout
  125  it could not be sent
  126  refused by the receiver
  130  Ctrl-C: the message goes on without us
Several nodes: 0 if each would have been 0, else 1.";

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Send {
    /// The nodes that are to have it
    #[arg(value_name = "NODE", value_delimiter = ',')]
    nodes: Vec<NodeName>,
    /// A node that is to have it; may be repeated
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    to: Vec<NodeName>,
    /// Send the messages in this file: JSON, or YAML by its name (.yaml, .yml); - is the standard input
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["nodes", "to", "argv", "event", "no_ack", "method", "timeout",
        "retries", "method_timeout", "deadline", "parallel", "rerun", "seal"])]
    file: Option<PathBuf>,
    /// The command and its arguments, or the data of another method
    #[arg(value_name = "ARGV", last = true)]
    argv: Vec<String>,
    /// Send an event instead of a command
    #[arg(long)]
    event: bool,
    /// Ask for no answer: it is handed to the broker once, and that is all
    #[arg(long)]
    no_ack: bool,
    /// What handles it there [default: ShellCommand, for an event TextLogging]
    #[arg(long, value_name = "NAME")]
    method: Option<MethodName>,
    /// How long to wait until the receiver says that it has it before sending it again [default: the node's]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    timeout: Option<std::time::Duration>,
    /// How many attempts before it is undeliverable; 0: without limit [default: the node's]
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// How long the command may run before it is stopped; 0: without limit [default: the node's]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    method_timeout: Option<std::time::Duration>,
    /// Don't start it after this: +10m (from now), or RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = when::read_deadline)]
    deadline: Option<jiff::Timestamp>,
    /// Start it without waiting for the messages before it to end
    #[arg(long)]
    parallel: bool,
    /// Running it twice is harmless: after a crash of its node in the middle it is run again
    #[arg(long)]
    rerun: bool,
    /// Encrypt it to the node that it is for, and have its result come back encrypted: the broker's operator can't read them
    #[arg(long)]
    seal: bool,
    /// What becomes of its result here: console (kept and shown), file, fileAppend, none (not kept), or a method that takes
    /// events, like TextLogging [default: console]
    #[arg(long, value_name = "HOW")]
    reply_method: Option<String>,
    /// The folder of that file, below results/ in the node's directory [default: the name of the node that answers]
    #[arg(long, value_name = "FOLDER")]
    directory: Option<String>,
    /// What that file is called [default: METHOD.out]
    #[arg(long, value_name = "NAME")]
    file_name: Option<String>,
    /// Don't wait for what becomes of it: print the ids and go
    #[arg(long)]
    detach: bool,
    /// One JSON object a line: each message as it ends (with --detach: its id)
    #[arg(long)]
    json: bool,
}

impl Verb for Send {
    const NAME: &'static str = "send";
    const ABOUT: &'static str = "Send a command or an event to nodes, and show what becomes of it";
    const MORE: &'static str = MORE;
    const FAILED: u8 = exit::NOT_SENT;

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        let (messages, written) = match &self.file {
            None => (self.messages()?, None),
            Some(path) => {
                let written = Written::read(path)?;
                (written.inputs(), Some(written))
            }
        };
        // The wall clock may be set back a little in the meantime.
        let since_ms = clock::wall().0.saturating_sub(60_000);
        wait_for(async {
            let client = Client::new(&dir);
            let interrupt = tokio::signal::ctrl_c();
            tokio::pin!(interrupt);
            let ids = tokio::select! {
                ids = submit(&client, &messages) => ids.map_err(|error| match &written {
                    Some(written) => written.locate(error),
                    None => error,
                })?,
                _ = &mut interrupt => {
                    output::note("the node had not answered: whether it has the messages is shown by `steward messages`");
                    return Ok(Exit(exit::CTRL_C));
                }
            };
            let sent = messages.iter().flat_map(MessageInput::receivers).cloned().zip(ids).collect();
            if self.detach {
                return self.detached(sent);
            }
            results::show(&client, sent, since_ms, self.json, interrupt.as_mut()).await
        })
    }
}

#[derive(Deserialize)]
struct Accepted {
    ids: Vec<String>,
}

/// Hands messages to the node: all of them or none. Their ids, in order, one for each receiver.
pub(super) async fn submit(client: &Client, messages: &[MessageInput]) -> anyhow::Result<Vec<String>> {
    let body = serde_json::to_string(messages)?;
    let accepted: Accepted = client.post("/v1/messages", body).await.map_err(|error| match error {
        ClientError::Lost(_) => anyhow::Error::from(error)
            .context("whether it has the messages isn't known; look at `steward messages` before you send them again"),
        error => error.into(),
    })?;
    let wanted: usize = messages.iter().map(|message| message.receivers().len()).sum();
    let accepted_many = accepted.ids.len();
    anyhow::ensure!(accepted_many == wanted, "the node accepted {accepted_many} of {wanted} messages");
    Ok(accepted.ids)
}

impl Send {
    fn kind(&self) -> Kind {
        match (self.event, self.no_ack) {
            (false, false) => Kind::CommandAck,
            (false, true) => Kind::CommandNack,
            (true, false) => Kind::EventAck,
            (true, true) => Kind::EventNack,
        }
    }

    /// The messages, one for each node, each node once.
    fn messages(&self) -> Result<Vec<MessageInput>, UsageError> {
        let mut nodes: Vec<&NodeName> = Vec::new();
        for node in self.to.iter().chain(&self.nodes) {
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        let Some(first) = nodes.first() else {
            return Err(UsageError(
                "say for whom it is: `steward send NODE… -- COMMAND`, or `steward send --file FILE`".to_owned(),
            ));
        };
        if self.argv.is_empty() && self.method.is_none() {
            return Err(UsageError(format!("say what to send, behind --: `steward send {first} -- COMMAND`")));
        }
        let default = if self.event { EVENT_METHOD } else { COMMAND_METHOD };
        let method = self.method.as_ref().map_or(default, MethodName::as_str);
        let input = MessageInput {
            to_node: String::new(),
            to_nodes: None,
            data: self.data(),
            command_or_event: self.kind().as_str().to_owned(),
            method: method.to_owned(),
            timeout: self.timeout.map(|timeout| timeout.as_secs_f64()),
            retries: self.retries,
            method_timeout: self.method_timeout.map(|timeout| timeout.as_secs_f64()),
            deadline: self.deadline.map(|deadline| Deadline::At(deadline.to_string())),
            parallel: self.parallel.then_some(true),
            rerun: self.rerun.then_some(true),
            seal: self.seal.then_some(true),
            reply_method: self.reply_method.clone(),
            directory: self.directory.clone(),
            file_name: self.file_name.clone(),
        };
        Ok(nodes.into_iter().map(|node| MessageInput { to_node: node.to_string(), ..input.clone() }).collect())
    }

    /// What stands behind `--`. `TextLogging` appends its data as it is, and nobody types a line end in a shell.
    fn data(&self) -> Vec<String> {
        let is_text = self.event && self.method.is_none();
        let line = |text: &String| if is_text && !text.ends_with('\n') { format!("{text}\n") } else { text.clone() };
        self.argv.iter().map(line).collect()
    }

    fn detached(&self, sent: Vec<(String, String)>) -> anyhow::Result<Exit> {
        let mut output = Output::stdout();
        for (node, id) in sent {
            if self.json {
                output.json(&serde_json::json!({ "id": id, "toNode": node }))?;
            } else {
                output.line(&id)?;
            }
        }
        output.flush().context("the ids can't be printed")?;
        Ok(Exit::OK)
    }
}

#[cfg(test)]
mod tests;
