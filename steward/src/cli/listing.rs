//! What every verb that lists rows has in common: how many, in which form, and a word where there may be more.

use serde::Serialize;

use super::output::{self, Output};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Listing {
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(super) limit: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Listing {
    /// Prints the rows, for people as `print` does it.
    pub(super) fn show<T: Serialize>(
        &self,
        rows: &[T],
        print: impl FnOnce(&[T], &mut Output) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut output = Output::stdout();
        if self.json {
            for row in rows {
                output.json(row)?;
            }
        } else {
            print(rows, &mut output)?;
        }
        output.flush()?;
        if rows.len() == self.limit && !self.json {
            output::note(&format!("these are the newest {}; --limit shows more", self.limit));
        }
        Ok(())
    }
}
