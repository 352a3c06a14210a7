//! What is printed, and how it looks: colours on a terminal only, no control characters from elsewhere in our own text,
//! and a reader who has gone is an error like any other instead of a panic.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::rc::Rc;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

/// One of the two streams, whether it takes colours, and how wide it is.
pub(super) struct Output {
    colours: bool,
    width: Option<usize>,
    to: Box<dyn Write>,
}

/// What was written to an output that goes nowhere.
#[derive(Clone, Default)]
pub(super) struct Captured(Rc<RefCell<Vec<u8>>>);

impl Captured {
    /// As text; bytes that are none are replaced.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow()).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The green of what is well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// The red of what is not.
pub(super) const BAD: Style = AnsiColor::Red.on_default();
/// The yellow of what is on its way, or needs a look.
pub(super) const WAITS: Style = AnsiColor::Yellow.on_default();
/// What matters less.
pub(super) const FAINT: Style = Style::new().dimmed();
/// What matters more.
pub(super) const STRONG: Style = Style::new().bold();

impl Output {
    /// Standard output, written in pieces of a few KiB.
    pub(super) fn stdout() -> Self {
        let stdout = io::stdout();
        Self { colours: colours(&stdout), width: width(&stdout), to: Box::new(io::BufWriter::new(stdout)) }
    }

    /// Standard error, written at once.
    pub(super) fn stderr() -> Self {
        let stderr = io::stderr();
        Self { colours: colours(&stderr), width: width(&stderr), to: Box::new(stderr) }
    }

    /// An output that goes nowhere, and can be looked at afterwards.
    pub(super) fn captured(width: Option<usize>) -> (Self, Captured) {
        let captured = Captured::default();
        (Self { colours: false, width, to: Box::new(captured.clone()) }, captured)
    }

    /// A line of text.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.to, "{text}")
    }

    /// Bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)
    }

    /// An object on a line of its own.
    pub(super) fn json(&mut self, object: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(object)?;
        self.line(&text)
    }

    /// What was written goes out now. To be called before the process ends, so that a failure is noticed.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        Write::flush(self)
    }

    /// The text in this style, where the stream takes colours.
    pub(super) fn paint(&self, style: Style, text: &str) -> String {
        if self.colours { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// Columns of the terminal that it goes to; `None` if it goes elsewhere.
    pub(super) fn width(&self) -> Option<usize> {
        self.width
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn width(stream: &(impl IsTerminal + AsFd)) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn colours(stream: &impl IsTerminal) -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    stream.is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// A remark for the operator, on standard error. One that nobody can read any more is of no use, so errors end here.
pub(super) fn note(text: &str) {
    note_as("steward", text);
}

/// A remark of some kind: `error`, or who it is about.
pub(super) fn note_as(kind: &str, text: &str) {
    let mut stderr = Output::stderr();
    let style = if kind == "error" { BAD } else { FAINT };
    let kind = stderr.paint(style, &format!("{kind}:"));
    stderr.line(&format!("{kind} {}", plain(text))).unwrap_or_default();
}

/// Text from elsewhere without its control characters, which could move the cursor or retitle the terminal. Line ends
/// and tabs stay.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && c != '\n' && c != '\t') || is_direction(c) {
            write!(plain, "{}", c.escape_default()).unwrap_or_default();
        } else {
            plain.push(c);
        }
    }
    plain
}

/// The same on one line.
pub(super) fn one_line(text: &str) -> String {
    plain(&text.replace('\t', " ")).replace('\n', "⏎")
}

/// Marks that change the direction of text, with which it can be made to look like another.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes as people write them: `64 MiB`.
pub(super) fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut rest = bytes;
    while rest >= 10 * 1024 && unit + 1 < units.len() {
        rest /= 1024;
        unit += 1;
    }
    format!("{rest} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_does_nothing_to_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\rc\u{7}\u{9b}d\te\n"), "a\\u{1b}[2Jb\\rc\\u{7}\\u{9b}d\te\n");
        assert_eq!(plain("x\u{202e}y"), "x\\u{202e}y");
        assert_eq!(one_line("a\nb\tc"), "a⏎b c");
    }

    #[test]
    fn sizes_have_two_digits_at_least() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(10_239), "10239 bytes");
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(size(9 << 20), "9216 KiB");
    }
}
