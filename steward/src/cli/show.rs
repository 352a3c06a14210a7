//! `steward show`: all there is to say about one message: its way with times, why it is where it is, and its output.
//! It only looks; without a running node it reads the store.

use protocol::outcome::{Final, Stream};

use super::exit::Exit;
use super::output::{self, Output};
use super::source::Source;
use super::{Context, Verb, messages, wait_for, when};
use crate::methods::{self, schedule};
use crate::view::MessageView;

/// How much of each output is shown; all of it is printed by `--stdout` and `--stderr`.
const OUTPUT_LINES_MAX: usize = 40;
/// See [`OUTPUT_LINES_MAX`].
const OUTPUT_BYTES_MAX: usize = 8 * 1024;

/// The arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The id of a message, or its beginning or its end
    #[arg(value_name = "ID")]
    id: String,
    /// Print its whole standard output as it is, and nothing else
    #[arg(long, conflicts_with_all = ["stderr", "json"])]
    stdout: bool,
    /// Print its whole standard error as it is, and nothing else
    #[arg(long, conflicts_with = "json")]
    stderr: bool,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
}

impl Verb for Show {
    const NAME: &'static str = "show";
    const ABOUT: &'static str = "Show one message: its way, its result, its output";
    const MORE: &'static str = "\
Examples:
  steward show 0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b
  steward show 0c1d2e3f4a5b --stdout > listing.txt";

    fn run(self, context: Context) -> anyhow::Result<Exit> {
        let dir = context.dir()?;
        wait_for(async {
            let source = Source::open(&dir).await?;
            let id = source.resolve(&self.id).await?;
            let mut output = Output::stdout();
            if self.stdout || self.stderr {
                let stream = if self.stdout { Stream::Stdout } else { Stream::Stderr };
                source.copy(&id, stream, &mut output).await?;
                return Ok(Exit::OK);
            }
            let view = source.message(&id).await?;
            if self.json {
                output.json(&view)?;
            } else {
                print(&view, &mut output)?;
            }
            output.flush()?;
            Ok(Exit::OK)
        })
    }
}

fn print(view: &MessageView, output: &mut Output) -> std::io::Result<()> {
    let data = serde_json::to_string(&view.data)?;
    field(output, "id", &view.id)?;
    field(output, "nodes", &format!("{} → {}", view.from_node, view.to_node))?;
    field(output, "message", &format!("{} {} {data}", view.command_or_event, view.method))?;
    field(output, "accepted", &when::local_in_full(&view.created_at))?;
    let state = output.paint(messages::style(&view.state), &view.state);
    // The state is ours and painted; what else stands there comes from elsewhere.
    output.line(&format!("{} {state}{}", label(output, "state"), output::plain(&result(view))))?;
    if view.sealed {
        field(output, "sealed", "yes: only the two nodes can read data and output on their way")?;
    }
    if view.method == methods::SCHEDULE {
        let results = format!("{}; its results: steward schedules results {}", schedule::words(&view.data), view.id);
        field(output, "schedule", &results)?;
    }
    if let Some(reason) = &view.reason {
        field(output, "reason", reason)?;
    }
    if let Some(reply) = &view.reply {
        let file = reply.file.as_ref().map(|file| format!(" {file}")).unwrap_or_default();
        let note = reply.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        field(output, "reply", &format!("{}{file}, {}{note}", reply.method, reply.state))?;
    }
    field(output, "attempts", &view.attempts.to_string())?;
    if view.wire_out_bytes.is_some() || view.wire_in_bytes.is_some() {
        let [out, inward] = [view.wire_out_bytes, view.wire_in_bytes].map(|bytes| output::size(bytes.unwrap_or(0)));
        field(output, "link", &format!("{out} out, {inward} in"))?;
    }
    if let Some(next) = &view.next_attempt_at {
        field(output, "next try", &when::local(next))?;
    }
    if !view.history.is_empty() {
        time_line(view, output)?;
    }
    if view.state == "running" {
        output.line(&output.paint(output::FAINT, &format!("what it writes: steward logs -f {}", view.id)))?;
    }
    part(view, Stream::Stdout, view.stdout.as_deref(), view.stdout_bytes, output)?;
    part(view, Stream::Stderr, view.stderr.as_deref(), view.stderr_bytes, output)?;
    if view.truncated {
        output.line("The command wrote more than its node keeps (--max-output there); the rest was dropped.")?;
    }
    Ok(())
}

fn label(output: &Output, name: &str) -> String {
    output.paint(output::FAINT, &format!("{name:9}"))
}

fn field(output: &mut Output, name: &str, value: &str) -> std::io::Result<()> {
    output.line(&format!("{} {}", label(output, name), output::plain(value)))
}

/// How it ended, beside the state.
pub(super) fn result(view: &MessageView) -> String {
    let mut result = String::new();
    if let Some(code) = view.exit_code {
        result.push_str(&format!(", exit code {code}"));
    }
    if let Some(signal) = view.signal {
        result.push_str(&format!(", ended by signal {signal}"));
    }
    if let Some(run_ms) = view.run_ms {
        result.push_str(&format!(", ran for {}", when::span(std::time::Duration::from_millis(run_ms))));
    }
    result
}

fn time_line(view: &MessageView, output: &mut Output) -> std::io::Result<()> {
    output.line(&output.paint(output::STRONG, "way"))?;
    let mut before: Option<&str> = None;
    for moment in &view.history {
        let pause = match before.and_then(|before| when::between(before, &moment.at)) {
            Some(pause) => format!("+{}", when::span(pause)),
            None => String::new(),
        };
        before = Some(&moment.at);
        let state = output.paint(messages::style(&moment.state), &moment.state);
        // Padding counts the letters only, so it can't be left to the formatter.
        let gap = " ".repeat(14_usize.saturating_sub(moment.state.len()));
        let note = output::one_line(moment.note.as_deref().unwrap_or_default());
        let line = format!("  {}  {pause:>12}  {state}{gap}{note}", when::local_in_full(&moment.at));
        output.line(line.trim_end())?;
    }
    Ok(())
}

fn part(
    view: &MessageView,
    stream: Stream,
    text: Option<&str>,
    bytes: u64,
    output: &mut Output,
) -> std::io::Result<()> {
    let name = stream.as_str();
    if bytes == 0 {
        return Ok(());
    }
    let heading = output.paint(output::STRONG, name);
    output.line(&format!("{heading} {}", output.paint(output::FAINT, &format!("({})", output::size(bytes)))))?;
    let text = text.unwrap_or_default();
    let (shown, is_all) = beginning(text);
    for line in shown.lines() {
        output.line(&format!("  {}", output::plain(line)))?;
    }
    if !is_all || (text.len() as u64) < bytes {
        let rest = format!("  … all of it: steward show {} --{name}", view.id);
        output.line(&output.paint(output::FAINT, &rest))?;
    }
    Ok(())
}

/// As much of a text as is shown, and whether that is all.
fn beginning(text: &str) -> (&str, bool) {
    let bytes = text.floor_char_boundary(OUTPUT_BYTES_MAX.min(text.len()));
    let ends = text.match_indices('\n').map(|(at, _)| at + 1).nth(OUTPUT_LINES_MAX - 1);
    let end = ends.unwrap_or(text.len()).min(bytes);
    (&text[..end], end == text.len())
}

/// Whether a message has ended, and nothing more will come. A message with ACK is `sent` while it is on its way.
pub(super) fn has_ended(view: &MessageView) -> bool {
    view.finished_at.is_some() && Final::parse(&view.state).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_is_shown_to_its_beginning() {
        assert_eq!(beginning("a\nb"), ("a\nb", true));
        assert_eq!(beginning(&"a\n".repeat(40)), ("a\n".repeat(40).as_str(), true));
        assert_eq!(beginning(&"a\n".repeat(41)), ("a\n".repeat(40).as_str(), false));
        let long = "ä".repeat(OUTPUT_BYTES_MAX);
        let (shown, is_all) = beginning(&long);
        assert!(!is_all && shown.len() <= OUTPUT_BYTES_MAX && shown.len() > OUTPUT_BYTES_MAX - 4);
    }
}
