//! `steward send`: one message for each node, and then, unless told otherwise, what becomes of them: the output as it
//! comes back, and the exit code. Once the node here has accepted the messages, nothing that happens to this command
//! changes anything for them.

mod follow;
pub(super) mod options;
mod progress;
mod repeat;
pub(super) mod results;
mod written;

use std::path::PathBuf;

use protocol::name::{MethodName, NodeName};
use serde::Deserialize;

use self::options::Options;
use self::written::Written;
use super::exit::{self, Exit, UsageError};
use super::{Context, Verb};
use crate::api::client::{Client, ClientError};
use crate::intake::MessageInput;

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
        "retries", "method_timeout", "deadline", "parallel", "rerun", "seal", "every", "cron", "missed", "overlap", "jitter"])]
    file: Option<PathBuf>,
    /// The command and its arguments, or the data of another method
    #[arg(value_name = "ARGV", last = true)]
    argv: Vec<String>,
    /// Send an event instead of a command
    #[arg(long)]
    event: bool,
    /// What handles it there [default: ShellCommand, for an event TextLogging]
    #[arg(long, value_name = "NAME")]
    method: Option<MethodName>,
    #[command(flatten)]
    how: Options,
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
        self.how.deliver(&dir, &messages, |error| match &written {
            Some(written) => written.locate(error),
            None => error,
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
    /// The messages, one for each node, each node once.
    fn messages(&self) -> Result<Vec<MessageInput>, UsageError> {
        let nodes = || self.to.iter().chain(&self.nodes);
        let Some(first) = nodes().next() else {
            return Err(UsageError(
                "say for whom it is: `steward send NODE… -- COMMAND`, or `steward send --file FILE`".to_owned(),
            ));
        };
        if self.argv.is_empty() && self.method.is_none() {
            return Err(UsageError(format!("say what to send, behind --: `steward send {first} -- COMMAND`")));
        }
        let default = if self.event { EVENT_METHOD } else { COMMAND_METHOD };
        let method = self.method.as_ref().map_or(default, MethodName::as_str);
        Ok(self.how.messages(nodes(), self.how.kind(self.event), method, self.data()))
    }

    /// What stands behind `--`. `TextLogging` appends its data as it is, and nobody types a line end in a shell.
    fn data(&self) -> Vec<String> {
        let is_text = self.event && self.method.is_none();
        let line = |text: &String| if is_text && !text.ends_with('\n') { format!("{text}\n") } else { text.clone() };
        self.argv.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests;
