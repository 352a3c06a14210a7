//! How messages are to be delivered and what becomes of them: the options that all verbs have that send something, and how
//! it is done.

use std::path::Path;

use anyhow::Context as _;
use protocol::message::Kind;
use protocol::name::NodeName;

use super::repeat::When;
use super::{results, submit};
use crate::api::client::Client;
use crate::cli::exit::{self, Exit};
use crate::cli::output::{self, Output};
use crate::cli::{wait_for, when};
use crate::clock;
use crate::config::units;
use crate::intake::MessageInput;
use crate::intake::input::Deadline;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Options {
    /// Ask for no answer: it is handed to the broker once, and that is all
    #[arg(long)]
    no_ack: bool,
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
    #[command(flatten)]
    schedule: When,
    /// Don't wait for what becomes of it: print the ids and go
    #[arg(long)]
    detach: bool,
    /// One JSON object a line: each message as it ends (with --detach: its id)
    #[arg(long)]
    json: bool,
}

impl Options {
    /// Of which type a message is.
    pub(in crate::cli) fn kind(&self, is_event: bool) -> Kind {
        match (is_event, self.no_ack) {
            (false, false) => Kind::CommandAck,
            (false, true) => Kind::CommandNack,
            (true, false) => Kind::EventAck,
            (true, true) => Kind::EventNack,
        }
    }

    /// One message for each of these nodes, each node once.
    pub(in crate::cli) fn messages<'a>(
        &self,
        nodes: impl IntoIterator<Item = &'a NodeName>,
        kind: Kind,
        method: &str,
        data: Vec<String>,
    ) -> Vec<MessageInput> {
        let mut each: Vec<&NodeName> = Vec::new();
        for node in nodes {
            if !each.contains(&node) {
                each.push(node);
            }
        }
        let input = MessageInput {
            to_node: String::new(),
            to_nodes: None,
            data,
            command_or_event: kind.as_str().to_owned(),
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
            schedule: self.schedule.written(),
        };
        each.into_iter().map(|node| MessageInput { to_node: node.to_string(), ..input.clone() }).collect()
    }

    /// Hands messages to the node that runs in `dir`, and shows what becomes of them as far as that is wanted. `located` says
    /// where that is which the node has found wrong.
    pub(in crate::cli) fn deliver(
        &self,
        dir: &Path,
        messages: &[MessageInput],
        located: impl Fn(anyhow::Error) -> anyhow::Error,
    ) -> anyhow::Result<Exit> {
        // The wall clock may be set back a little in the meantime.
        let since_ms = clock::wall().0.saturating_sub(60_000);
        wait_for(async {
            let client = Client::new(dir);
            let interrupt = tokio::signal::ctrl_c();
            tokio::pin!(interrupt);
            let ids = tokio::select! {
                ids = submit(&client, messages) => ids.map_err(located)?,
                _ = &mut interrupt => {
                    output::note("the node had not answered: whether it has the messages is shown by `steward messages`");
                    return Ok(Exit(exit::CTRL_C));
                }
            };
            let sent = messages.iter().flat_map(MessageInput::receivers).cloned().zip(ids).collect();
            if self.schedule.is_given() && !self.json {
                output::note(
                    "its node runs it from now on: `steward schedules` shows how it is, `steward schedules results ID` what came of it",
                );
            }
            if self.detach || self.schedule.is_given() {
                return self.detached(sent);
            }
            results::show(&client, sent, since_ms, self.json, interrupt.as_mut()).await
        })
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
