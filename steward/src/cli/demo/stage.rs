//! What the demo's audience sees: scenes, lines, and a table of promises at the end. On a terminal with colours,
//! elsewhere as plain text.

use std::io;
use std::time::Duration;

use crate::cli::fleet;
use crate::cli::output::{self, Output};
use crate::cli::table::Table;
use crate::clock::Clock;

/// How long anything may take that takes milliseconds on a machine that is not busy.
const LIMIT: Duration = Duration::from_secs(20);

/// The time between two looks at something that nobody announces.
const LOOK_AGAIN: Duration = Duration::from_millis(3);

/// Lines of an output that are shown.
const OUTPUT_LINES: usize = 5;

/// Looks until there is something to see.
pub(super) async fn eventually<T>(
    what: &str,
    look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    fleet::eventually(what, LIMIT, LOOK_AGAIN, look).await
}

/// The audience's side.
pub(super) struct Stage {
    output: Output,
    clock: Clock,
    scenes: usize,
    promises: Vec<Promise>,
}

struct Promise {
    promised: String,
    seen: String,
    is_kept: bool,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self { output: Output::stdout(), clock: Clock::start(), scenes: 0, promises: Vec::new() }
    }

    /// The time since the demo began.
    pub(super) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// The first lines.
    pub(super) fn title(&mut self, title: &str, more: &str) -> io::Result<()> {
        let title = self.output.paint(output::STRONG, title);
        self.output.line(&format!("{title}\n{more}"))?;
        self.output.flush()
    }

    /// Something else begins.
    pub(super) fn scene(&mut self, title: &str) -> io::Result<()> {
        self.scenes += 1;
        let title = self.output.paint(output::STRONG, &format!("{}. {title}", self.scenes));
        self.output.line(&format!("\n{title}"))?;
        self.output.flush()
    }

    /// Something that is done, as one would type it.
    pub(super) fn does(&mut self, command: &str) -> io::Result<()> {
        let prompt = self.output.paint(output::FAINT, "$");
        self.output.line(&format!("   {prompt} {command}"))?;
        self.output.flush()
    }

    /// Something that is seen.
    pub(super) fn sees(&mut self, text: &str) -> io::Result<()> {
        self.output.line(&format!("   {}", output::plain(text)))?;
        self.output.flush()
    }

    /// A node, its state in colour, and more.
    pub(super) fn state(&mut self, node: &str, state: &str, more: &str) -> io::Result<()> {
        let painted = self.output.paint(crate::cli::messages::style(state), state);
        let more = output::one_line(more);
        self.output.line(&format!("   {node:<8} {painted}{:1$} {more}", "", 12_usize.saturating_sub(state.len())))?;
        self.output.flush()
    }

    /// The beginning of what a command printed.
    pub(super) fn output(&mut self, text: &str) -> io::Result<()> {
        let bar = self.output.paint(output::FAINT, "│");
        let lines: Vec<&str> = text.lines().collect();
        for line in lines.iter().take(OUTPUT_LINES) {
            self.output.line(&format!("            {bar} {}", output::plain(line)))?;
        }
        if lines.len() > OUTPUT_LINES {
            let more = format!("… {} more lines", lines.len() - OUTPUT_LINES);
            self.output.line(&format!("            {bar} {}", self.output.paint(output::FAINT, &more)))?;
        }
        self.output.flush()
    }

    /// Something was promised, and this was seen.
    pub(super) fn promise(&mut self, promised: &str, seen: impl Into<String>, is_kept: bool) {
        self.promises.push(Promise { promised: promised.to_owned(), seen: seen.into(), is_kept });
    }

    /// Why it ends before its end.
    pub(super) fn failure(&mut self, error: &anyhow::Error, logs: &str) -> io::Result<()> {
        self.promise("the demo comes to its end", "it stopped before", false);
        let failed = self.output.paint(output::BAD, "It failed:");
        self.output.line(&format!("\n{failed} {}\n{}", output::plain(&format!("{error:#}")), output::plain(logs)))?;
        self.output.flush()
    }

    /// The table of promises; whether all were kept.
    pub(super) fn summary(&mut self) -> io::Result<bool> {
        let mut table = Table::new(&["", "PROMISED", "SEEN"], "");
        for promise in &self.promises {
            let (mark, style) = if promise.is_kept { ("ok", output::GOOD) } else { ("NO", output::BAD) };
            table.row(&[mark, &promise.promised, &promise.seen], style);
        }
        self.output.line("")?;
        table.print(&mut self.output)?;
        let kept = self.promises.iter().filter(|promise| promise.is_kept).count();
        let is_good = kept == self.promises.len();
        let style = if is_good { output::GOOD } else { output::BAD };
        let verdict = format!("{kept} of {} promises kept", self.promises.len());
        let took = self.now().as_secs_f32();
        self.output.line(&format!("\n{} in {took:.1} s.", self.output.paint(style, &verdict)))?;
        self.output.flush()?;
        Ok(is_good)
    }
}

/// A duration as it is read at a glance.
pub(super) fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}
