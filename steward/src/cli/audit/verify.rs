//! `steward audit verify`.

use std::path::Path;

use crate::audit::{self, Head};
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::cli::when;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// A line that is known from elsewhere, a hello of the node, say: it has to be in the log
    #[arg(long, value_name = "N:HASH", value_parser = known)]
    known: Option<Head>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

fn known(text: &str) -> Result<Head, String> {
    let shape = "must be the number of a line and its hash of 64 digits, N:HASH";
    let (n, hash) = text.split_once(':').ok_or(shape)?;
    let is_hash = hash.len() == 64 && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
    let n = n.parse().map_err(|_| shape)?;
    if is_hash { Ok(Head { n, hash: hash.to_ascii_lowercase() }) } else { Err(shape.to_owned()) }
}

impl Verify {
    pub(super) fn run(self, dir: &Path) -> anyhow::Result<Exit> {
        let verified = audit::verify(dir, self.known.as_ref())?;
        let mut output = Output::stdout();
        if self.json {
            output.json(&verified)?;
        } else {
            let (from, to) = (when::local_in_full(&verified.from), when::local_in_full(&verified.to));
            let (lines, first, head) = (verified.lines, verified.first, &verified.head);
            output.line(&format!("{lines} lines are one whole chain, from {from} to {to}"))?;
            if first > 1 {
                output.line(&format!("it begins with line {first}: older files are gone"))?;
            }
            output.line(&format!("the last is {}:{}", head.n, head.hash))?;
        }
        output.flush()?;
        Ok(Exit::OK)
    }
}
