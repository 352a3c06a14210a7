//! `steward script`: the text of a script as a message for each node, and then what becomes of it, as for any other command.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueHint;
use protocol::name::NodeName;

use super::exit::{self, Exit, UsageError};
use super::send::options::Options;
use super::{Context, Verb};
use crate::intake::MessageInput;
use crate::intake::input::DATA_BYTES_MAX;
use crate::methods;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Script {
    /// The nodes on which it is to run, and then the file; - is the standard input
    #[arg(value_name = "NODE… FILE", required = true, num_args = 1.., value_hint = ValueHint::AnyPath)]
    nodes_and_file: Vec<String>,
    /// The script's arguments
    #[arg(value_name = "ARGS", last = true)]
    words: Vec<String>,
    #[command(flatten)]
    how: Options,
}

impl Verb for Script {
    const NAME: &'static str = "script";
    const ABOUT: &'static str = "Run a script of this machine on nodes, and show what becomes of it";
    const MORE: &'static str = "\
Examples:
  steward script ship1 deploy.sh -- --version 4.2
  steward script ship1,ship2 --method-timeout 10m upgrade.py
  generate | steward script ship1 -

The text of the script travels in the message; its first line says what runs it there (#!/bin/sh). Nothing has to be copied to
the node first, and nothing stays there. Script and arguments together may have 512 KiB, counted as JSON.

The exit codes are those of `steward send`; 2 also if the file is no script.";
    const FAILED: u8 = exit::NOT_SENT;

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        let (nodes, file) = self.split()?;
        let text = read(&file)?;
        let messages = self.messages(&nodes, &file, text)?;
        self.how.deliver(&dir, &messages, |error| error)
    }
}

impl Script {
    /// For whom it is, and where it lies.
    fn split(&self) -> Result<(Vec<NodeName>, PathBuf), UsageError> {
        let missing = || UsageError("say where it is to run, and which: `steward script NODE… FILE`".to_owned());
        let (file, nodes) = self.nodes_and_file.split_last().ok_or_else(missing)?;
        let nodes: Result<Vec<NodeName>, _> =
            nodes.iter().flat_map(|names| names.split(',')).map(NodeName::new).collect();
        let nodes = nodes.map_err(|error| {
            UsageError(format!("{error}; the last word before -- is the file, those before it are nodes"))
        })?;
        if nodes.is_empty() { Err(missing()) } else { Ok((nodes, PathBuf::from(file))) }
    }

    fn messages(&self, nodes: &[NodeName], file: &Path, text: String) -> Result<Vec<MessageInput>, UsageError> {
        let data: Vec<String> = std::iter::once(text).chain(self.words.iter().cloned()).collect();
        // Nobody has to wait for a node to hear of it.
        let kind = self.how.kind(false);
        methods::check(kind, methods::SCRIPT, &data).map_err(|why| UsageError(format!("{}: {why}", shown(file))))?;
        let messages = self.how.messages(nodes, kind, methods::SCRIPT, data);
        let bytes = messages.first().and_then(|one| serde_json::to_string(&one.data).ok()).map_or(0, |data| data.len());
        if bytes > DATA_BYTES_MAX {
            return Err(too_long(file));
        }
        Ok(messages)
    }
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") { "the standard input".to_owned() } else { file.display().to_string() }
}

fn too_long(file: &Path) -> UsageError {
    UsageError(format!(
        "{}: with its arguments it has more than the {DATA_BYTES_MAX} bytes that a message takes, counted as JSON; copy it to \
         the node and run it there with `steward send`",
        shown(file)
    ))
}

/// The text of a script; no more is read than could be sent.
fn read(file: &Path) -> anyhow::Result<String> {
    let (mut bytes, bytes_max) = (Vec::new(), DATA_BYTES_MAX as u64 + 1);
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(bytes_max).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|file| file.take(bytes_max).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("{} can't be read", shown(file)))?;
    if bytes.len() > DATA_BYTES_MAX {
        return Err(too_long(file).into());
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        UsageError(format!(
            "{}: it is no UTF-8 text, and so no script; a program has to be copied to the node",
            shown(file)
        ))
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn script(line: &str) -> Script {
        let command = Script::augment_args(clap::Command::new("script"));
        let matches = command.try_get_matches_from(std::iter::once("script").chain(line.split_whitespace())).unwrap();
        Script::from_arg_matches(&matches).unwrap()
    }

    fn messages(line: &str, text: &str) -> Result<Vec<MessageInput>, String> {
        let script = script(line);
        let (nodes, file) = script.split().map_err(|error| error.to_string())?;
        script.messages(&nodes, &file, text.to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_script_is_a_message_for_each_node() {
        let text = "#!/bin/sh\ntrue\n";
        let sent = messages("ship1,ship2 --rerun ship1 deploy.sh --timeout 3 -- -v ship3", text).unwrap();
        let to: Vec<&str> = sent.iter().map(|one| &*one.to_node).collect();
        assert_eq!(to, ["ship1", "ship2"]);
        assert_eq!(sent[0].data, [text, "-v", "ship3"]);
        assert_eq!((&*sent[0].command_or_event, &*sent[0].method), ("CommandACK", "Script"));
        assert_eq!((sent[0].timeout, sent[0].rerun), (Some(3.0), Some(true)));
    }

    #[test]
    fn what_could_not_run_is_not_sent() {
        let why = |line: &str, text: &str| messages(line, text).unwrap_err();
        assert!(why("ship1 deploy.sh", "true\n").contains("deploy.sh: Script: the script does not begin"));
        assert!(why("deploy.sh ship.1 deploy.sh", "#!/bin/sh\n").contains("those before it are nodes"));
        // A quotation mark takes two bytes.
        let text = format!("#!/bin/sh\n{}", "\"".repeat(DATA_BYTES_MAX / 2));
        assert!(why("ship1 -", &text).contains("the standard input: with its arguments it has more than the 524288"));
        assert!(messages("ship1 -", &text.replace('"', " ")).is_ok());
    }
}
