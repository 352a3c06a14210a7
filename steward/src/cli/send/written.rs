//! `steward send --file`: messages that somebody has written down.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

use crate::api::client::ClientError;
use crate::intake::MessageInput;
use crate::intake::document::{self, Entry, Format, TEXT_BYTES_MAX};

/// The messages of a file, and what it is called where something is wrong with them.
pub(super) struct Written {
    entries: Vec<Entry>,
    shown: String,
}

impl Written {
    /// Reads all messages of a file, or of the standard input (`-`); if one makes no sense, none.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let is_stdin = path == Path::new("-");
        let shown = if is_stdin { "the standard input".to_owned() } else { path.display().to_string() };
        let mut text = Vec::new();
        let bytes_max = TEXT_BYTES_MAX as u64 + 1;
        let read = match is_stdin {
            true => std::io::stdin().lock().take(bytes_max).read_to_end(&mut text),
            false => File::open(path).and_then(|file| file.take(bytes_max).read_to_end(&mut text)),
        };
        read.with_context(|| format!("{shown} can't be read"))?;
        let format = Format::of(path).unwrap_or_else(|| Format::guess(&text));
        match document::read(&text, format) {
            Ok(entries) => Ok(Self { entries, shown }),
            Err(flaws) => {
                let lines: Vec<String> = flaws.iter().map(|flaw| format!("{shown}: {flaw}")).collect();
                anyhow::bail!("{}\nnothing was sent", lines.join("\n"))
            }
        }
    }

    /// What the node is to be asked for.
    pub(super) fn inputs(&self) -> Vec<MessageInput> {
        self.entries.iter().map(|entry| entry.input.clone()).collect()
    }

    /// Where in the file that is what the node has found wrong.
    pub(super) fn locate(&self, error: anyhow::Error) -> anyhow::Error {
        let Some(ClientError::Invalid(faults)) = error.downcast_ref() else { return error };
        let line = |fault: &crate::intake::Fault| match self.entries.get(fault.index) {
            Some(entry) => format!("{}: {}", self.shown, entry.flaw(fault.error.clone())),
            None => fault.error.clone(),
        };
        let lines: Vec<String> = faults.iter().map(line).collect();
        anyhow::anyhow!("{}\nnothing was sent", lines.join("\n"))
    }
}
