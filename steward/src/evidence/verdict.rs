//! What is said of a command whose evidence was asked for: for people, for programs, and as an exit code.

use protocol::outcome::{Outcome, Output};
use protocol::time::Wall;
use serde::Serialize;

use super::check::{Command, Proven};
use crate::clock::rfc3339;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Everything is as the node has signed it.
    Holds,
    /// The command has not ended.
    NotEnded,
    /// Nothing was signed, or nothing was kept.
    NoEvidence,
    /// What was kept is not what a node of the fleet has signed.
    EvidenceBroken,
    /// What is here of the command, its end or its output is not what was signed.
    Altered,
    /// The output is not here any more.
    OutputMissing,
    /// The key was revoked before the command had ended, by the node's clock.
    Revoked,
}

impl Answer {
    /// The exit code: a public interface.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Holds => 0,
            Self::NotEnded => 10,
            Self::NoEvidence => 11,
            Self::EvidenceBroken => 12,
            Self::Altered => 13,
            Self::OutputMissing => 14,
            Self::Revoked => 15,
        }
    }
}

/// One of the two streams, as the node has signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct OutputView {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Their BLAKE3 hash; none where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hash: Option<String>,
    /// Whether the command wrote more, which was not kept.
    pub(crate) truncated: bool,
    /// The output itself, where it stands in the receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
}

/// What a node has signed of the end of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignedView {
    /// The key with which it was signed.
    pub(crate) key: String,
    /// The fleet that vouches for it.
    pub(crate) fleet: String,
    /// The serial of its certificate.
    pub(crate) serial: u64,
    /// How it has ended.
    pub(crate) state: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// When it started, by the node's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<String>,
    /// When it ended, by the node's clock.
    pub(crate) finished_at: String,
    /// Its standard output.
    pub(crate) stdout: OutputView,
    /// Its standard error.
    pub(crate) stderr: OutputView,
    /// When the key was revoked, as far as is known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<String>,
}

/// What is said of one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verdict {
    /// The message.
    pub(crate) id: String,
    /// What came of it.
    pub(crate) answer: Answer,
    /// Why, where it is not that everything holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    /// Who asked.
    pub(crate) from_node: String,
    /// Who was asked.
    pub(crate) to_node: String,
    /// The type.
    pub(crate) command_or_event: String,
    /// The method.
    pub(crate) method: String,
    /// The data.
    pub(crate) data: Vec<String>,
    /// What was signed, as far as the signature holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signed: Option<SignedView>,
}

impl Verdict {
    /// What is said of this command.
    pub(crate) fn new(command: &Command, answer: Answer, why: Option<String>) -> Self {
        Self {
            id: command.id.to_string(),
            answer,
            why,
            from_node: command.from.to_string(),
            to_node: command.to.to_string(),
            command_or_event: command.kind.as_str().to_owned(),
            method: command.method.to_string(),
            data: serde_json::from_str(&command.data).unwrap_or_default(),
            signed: None,
        }
    }

    /// What is said where the signature holds.
    pub(crate) fn proven(
        command: &Command,
        proven: &Proven,
        answer: Answer,
        why: Option<String>,
        revoked: Option<Wall>,
    ) -> Self {
        let Proven { certificate, key, outcome } = proven;
        let Outcome { state, reason, exit_code, signal, started, finished, stdout, stderr, proof: _ } = outcome;
        let signed = SignedView {
            key: key.to_string(),
            fleet: certificate.fleet.to_string(),
            serial: certificate.serial,
            state: state.as_str().to_owned(),
            reason: reason.as_deref().map(str::to_owned),
            exit_code: *exit_code,
            signal: *signal,
            started_at: started.map(rfc3339),
            finished_at: rfc3339(*finished),
            stdout: output(stdout),
            stderr: output(stderr),
            revoked_at: revoked.map(rfc3339),
        };
        Self { signed: Some(signed), ..Self::new(command, answer, why) }
    }
}

fn output(output: &Output) -> OutputView {
    OutputView {
        bytes: output.len,
        hash: (output.len > 0).then(|| blake3::Hash::from_bytes(output.hash).to_hex().to_string()),
        truncated: output.truncated,
        text: output.inline.as_deref().map(str::to_owned),
    }
}
