//! `steward rules show`: what holds on the node that runs here.

use crate::api::client::Client;
use crate::cli::exit::Exit;
use crate::cli::output::{self, Output};
use crate::cli::{Context, wait_for, when};
use crate::security::rules::{FILE, RulesView};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        let view: RulesView = wait_for(async { Ok(Client::new(&dir).get("/v1/rules").await?) })?;
        let mut output = Output::stdout();
        if self.json {
            output.json(&view)?;
        } else {
            print(&view, &mut output)?;
        }
        output.flush()?;
        Ok(Exit::OK)
    }
}

fn print(view: &RulesView, output: &mut Output) -> anyhow::Result<()> {
    let since = when::local(&view.since);
    let what = match view.state.as_str() {
        "standard" => format!(
            "there is no {FILE}, so the standard rules hold: commands from central and from here, events from everybody"
        ),
        "good" => format!("{FILE} holds, as it was at {since}"),
        "kept" => format!("{FILE} can't be used; what held before holds on"),
        "closed" => format!("{FILE} can't be used, and nothing else is known: nothing is accepted"),
        other => other.to_owned(),
    };
    output.line(&format!("# {what}"))?;
    if let Some(why) = &view.why {
        output.line(&format!("# {FILE}: {}", output::one_line(why)))?;
    }
    if !view.text.is_empty() {
        output.line(output::plain(&view.text).trim_end())?;
    }
    if let Some(version) = view.fleet_version {
        output
            .line(&format!("\n# The fleet's rules, version {version}: what is accepted has to pass these as well."))?;
        output.line(output::plain(view.fleet_text.as_deref().unwrap_or_default()).trim_end())?;
    }
    if let Some(why) = &view.fleet_why {
        output.line(&format!("\n# The fleet's rules can't be used: {}", output::one_line(why)))?;
    }
    for flag in &view.flags {
        output.line(&format!("# and by a flag: --allow {flag}"))?;
    }
    Ok(())
}
