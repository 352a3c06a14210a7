//! `steward rules try`: what the rules would do with a message. It asks the node that runs here, or reads a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use protocol::message::Kind;
use protocol::name::{MethodName, NodeName};

use crate::api::client::Client;
use crate::api::rules::{Trial as Question, TrialView};
use crate::cli::exit::{self, Exit};
use crate::cli::output::{self, Output};
use crate::cli::{Context, wait_for};
use crate::security::rules;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Trial {
    /// Who would send it
    #[arg(long, value_name = "NODE")]
    from: NodeName,
    /// The sender's role: node, central or operator [default: what the node knows the name as]
    #[arg(long, value_name = "ROLE", value_parser = ["node", "central", "operator"])]
    role: Option<String>,
    /// A label of the sender; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// The type
    #[arg(long = "type", value_name = "TYPE", default_value = "CommandACK", value_parser = kind)]
    kind: Kind,
    /// The method
    #[arg(long, value_name = "METHOD", default_value = "ShellCommand")]
    method: MethodName,
    /// Ask the rules of this file [default: those of the node that runs here]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The node whose commands are taken without a rule, for --file
    #[arg(long, value_name = "NODE", default_value = "central", requires = "file")]
    central: NodeName,
    /// As one JSON object
    #[arg(long)]
    json: bool,
    /// The data
    #[arg(value_name = "DATA", last = true)]
    data: Vec<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| format!("must be one of {}", Kind::ALL.map(Kind::as_str).join(", ")))
}

impl Trial {
    /// Exit code 0 if it would be accepted, 126 (as `send` has it) if it would be refused.
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let question = Question {
            from_node: self.from.to_string(),
            role: self.role,
            labels: BTreeMap::from_iter(self.labels),
            command_or_event: self.kind.as_str().to_owned(),
            method: self.method.to_string(),
            data: self.data,
        };
        let answer = match self.file {
            Some(file) => question.by(&rules::of_file(&file, &self.central)?).map_err(anyhow::Error::msg)?,
            None => {
                let dir = context.dir()?;
                let body = serde_json::to_string(&question)?;
                wait_for(async { Ok(Client::new(&dir).post("/v1/rules/try", body).await?) })?
            }
        };
        let mut output = Output::stdout();
        if self.json {
            output.json(&answer)?;
        } else {
            output.line(&output::one_line(&told(&answer)))?;
        }
        output.flush()?;
        Ok(if answer.accepted { Exit::OK } else { Exit(exit::REFUSED) })
    }
}

fn told(answer: &TrialView) -> String {
    let by = answer.rule.as_ref().map_or("no rule".to_owned(), |rule| format!("{rule:?}"));
    if !answer.accepted {
        return format!("refused by {by}: {}", answer.why.as_deref().unwrap_or_default());
    }
    let user = answer.user.as_ref().map(|user| format!("as user {user}"));
    let timeout = answer.timeout.map(|seconds| format!("for at most {seconds} s"));
    let most = answer.max_output.map(|bytes| format!("with at most {} of output", output::size(bytes)));
    let limits: Vec<String> = [user, timeout, most].into_iter().flatten().collect();
    match limits.is_empty() {
        true => format!("accepted by {by}"),
        false => format!("accepted by {by}, {}", limits.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units;

    #[test]
    fn durations_and_sizes_are_told_as_they_are_written() {
        let answer = TrialView {
            accepted: true,
            rule: Some("disk".to_owned()),
            why: None,
            user: Some("nobody".to_owned()),
            timeout: Some(units::duration("90s").unwrap().as_secs_f64()),
            max_output: Some(units::size("64MiB").unwrap()),
        };
        assert_eq!(
            told(&answer),
            "accepted by \"disk\", as user nobody, for at most 90 s, with at most 64 MiB of output"
        );
    }
}
