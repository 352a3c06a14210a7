//! `steward audit show`.

use std::collections::VecDeque;
use std::path::Path;

use anstyle::Style;
use protocol::name::{MethodName, NodeName};

use crate::audit::{self, By, LineView};
use crate::cli::listing::Listing;
use crate::cli::output::{self, Output};
use crate::cli::table::Table;
use crate::cli::{exit::Exit, when};

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// Only messages from or to this node
    #[arg(long, value_name = "NODE")]
    node: Option<NodeName>,
    /// Only messages from this node
    #[arg(long, value_name = "NODE")]
    from: Option<NodeName>,
    /// Only messages to this node
    #[arg(long, value_name = "NODE")]
    to: Option<NodeName>,
    /// Only messages with this method
    #[arg(long, value_name = "METHOD")]
    method: Option<MethodName>,
    /// Only such lines
    #[arg(long, value_name = "EVENT", value_parser =
        ["sent", "result", "accepted", "refused", "started", "ended", "start", "invited", "withdrawn", "joined",
         "join-refused", "revoked", "rules-pushed", "renewal-asked", "renewed", "lost", "summed"])]
    event: Option<String>,
    /// Only what was decided by this rule
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Only this message
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only since then: 10m (ago), 10:42, 2026-11-22, 2026-11-22T10:42Z
    #[arg(long, value_name = "WHEN", value_parser = when::read_since)]
    since: Option<jiff::Timestamp>,
    #[command(flatten)]
    listing: Listing,
}

impl Show {
    pub(super) fn run(self, dir: &Path) -> anyhow::Result<Exit> {
        let mut found = VecDeque::new();
        let mut broken = None;
        for line in audit::lines(dir) {
            match line {
                Ok((.., view)) if self.wants(&view) => {
                    found.push_back(view);
                    if found.len() > self.listing.limit {
                        found.pop_front();
                    }
                }
                Ok(_) => {}
                Err(error) => drop(broken.get_or_insert(error)),
            }
        }
        self.listing.show(found.make_contiguous(), print)?;
        if let Some(broken) = broken {
            output::note(&format!("{broken}; it is left out, and `steward audit verify` says more"));
        }
        Ok(Exit::OK)
    }

    fn wants(&self, view: &LineView) -> bool {
        fn is<T: AsRef<str>>(wanted: Option<&T>, found: Option<&String>) -> bool {
            wanted.is_none_or(|wanted| found.is_some_and(|found| found == wanted.as_ref()))
        }
        let since = |since: &jiff::Timestamp| view.at.parse::<jiff::Timestamp>().is_ok_and(|at| at >= *since);
        let (from, to) = (view.from.as_deref(), view.to.as_deref());
        let node = |name: &NodeName| [from, to].contains(&Some(name.as_str()));
        self.node.as_ref().is_none_or(node)
            && self.from.as_ref().is_none_or(|name| from == Some(name.as_str()))
            && self.to.as_ref().is_none_or(|name| to == Some(name.as_str()))
            && self.method.as_ref().is_none_or(|name| view.method.as_deref() == Some(name.as_str()))
            && self.event.as_ref().is_none_or(|event| view.event == *event)
            && is(self.rule.as_ref(), view.rule.as_ref())
            && is(self.id.as_ref(), view.id.as_ref())
            && self.since.as_ref().is_none_or(since)
    }
}

fn print(lines: &[LineView], output: &mut Output) -> anyhow::Result<()> {
    if lines.is_empty() {
        output::note("nothing of that kind is in the audit log");
        return Ok(());
    }
    let mut table = Table::new(&["TIME", "EVENT", "FROM", "TO", "METHOD", "WHAT"], "METHOD");
    for line in lines {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let style = if line.event.ends_with("refused") { output::BAD } else { Style::new() };
        let cells = [
            when::local(&line.at),
            line.event.clone(),
            text(&line.from),
            text(&line.to),
            text(&line.method),
            what(line),
        ];
        table.row(&cells.each_ref().map(String::as_str), style);
    }
    table.print(output)?;
    Ok(())
}

/// What there is to say of a line beyond its columns.
fn what(line: &LineView) -> String {
    let rest =
        |key: &str| line.rest.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let mut parts: Vec<String> = Vec::new();
    parts.extend(line.state.clone());
    parts.extend(rest("exitCode").filter(|code| code != "0").map(|code| format!("exit code {code}")));
    parts.extend(rest("count"));
    parts.extend(line.rule.as_ref().map(|rule| format!("by {rule:?}")));
    parts.extend(rest("user").map(|user| format!("as {user}")));
    parts.extend(line.reason.clone());
    parts.extend(line.rest.get("about").and_then(about));
    let by = line.rest.get("by").cloned().map(serde_json::from_value::<By>);
    parts.extend(by.and_then(Result::ok).map(|by| by.to_string()));
    parts.extend(
        rest("data").or_else(|| rest("dataBegins").map(|begins| format!("{begins}…"))).or_else(|| rest("dataHash")),
    );
    parts.join(" ")
}

/// What is known of something that was done to the fleet: what says nothing is left out.
fn about(about: &serde_json::Value) -> Option<String> {
    let said = |(key, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::Null | serde_json::Value::Bool(false) => None,
        serde_json::Value::Object(empty) if empty.is_empty() => None,
        serde_json::Value::String(text) => Some(format!("{key} {text}")),
        other => Some(format!("{key} {other}")),
    };
    let parts: Vec<String> = about.as_object()?.iter().filter_map(said).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
