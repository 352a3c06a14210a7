//! The line that says what is waited for. On a terminal it is redrawn in place; elsewhere each node that is away is
//! named once, and that is all.

use std::collections::BTreeSet;
use std::time::Duration;

use unicode_width::UnicodeWidthStr as _;

use super::results::Sent;
use crate::cli::output::{self, Output};
use crate::cli::{messages, table, when};

/// How often the line is redrawn.
pub(super) const REDRAW: Duration = Duration::from_millis(120);

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// Redraws before it is said, where there is no terminal, that a message waits: what is over by then is not worth it.
const TELL_TURN: usize = 5;

/// Messages of which it is said, where there is no terminal, that they wait.
const TOLD_MAX: usize = 20;

/// The line.
pub(super) struct Progress {
    stderr: Output,
    is_drawn: bool,
    turn: usize,
    /// Messages of which it was said that they wait for a node.
    told: BTreeSet<String>,
    /// Whether the node here has stopped.
    is_gone: bool,
    /// Whether something stands on the last line of the terminal that is not ours.
    is_shared: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            stderr: Output::stderr(),
            is_drawn: false,
            turn: 0,
            told: BTreeSet::new(),
            is_gone: false,
            is_shared: false,
        }
    }

    /// The node here has stopped, or is back: said once each time.
    pub(super) fn gone(&mut self, is_gone: bool) {
        if self.is_gone != is_gone {
            self.is_gone = is_gone;
            self.clear();
            output::note(match is_gone {
                true => "the node here has stopped; what it has accepted is kept, waiting for it to be back",
                false => "the node here is back",
            });
        }
    }

    /// Redraws the line, or says once of each message that it waits for a node that isn't there.
    pub(super) fn draw(&mut self, sent: &[Sent]) {
        self.turn += 1;
        let Some(width) = self.stderr.width() else { return self.tell(sent) };
        if self.is_shared {
            return;
        }
        let spinner = SPINNER[self.turn % SPINNER.len()];
        let line = table::cut(&format!("{spinner} {}", self.text(sent, width)), width.saturating_sub(1));
        self.is_drawn = true;
        // A line that can't be drawn is none that anybody misses.
        self.stderr.bytes(format!("\r\x1b[2K{line}").as_bytes()).unwrap_or_default();
    }

    /// Takes the line away, so that something else can be printed.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            self.stderr.bytes(b"\r\x1b[2K").unwrap_or_default();
        }
    }

    /// Takes the line away for some output, and stays away until that ends with a line's end.
    pub(super) fn make_room(&mut self, ends_line: bool) {
        self.clear();
        self.is_shared = !ends_line;
    }

    fn tell(&mut self, sent: &[Sent]) {
        if self.turn < TELL_TURN {
            return;
        }
        for message in sent.iter().filter(|message| message.waits_for_receiver()) {
            let reason = message.view.as_ref().and_then(|view| view.reason.as_deref()).unwrap_or_default();
            // Only what can take long: an absent node, or no way to the broker.
            if !reason.contains("; queued") || self.told.len() > TOLD_MAX || !self.told.insert(message.id.clone()) {
                continue;
            }
            match self.told.len() {
                ..=TOLD_MAX if reason.starts_with(&message.node) => {
                    output::note(&format!("{reason} as {}", message.id))
                }
                ..=TOLD_MAX => output::note(&format!("{}: {reason} as {}", message.node, message.id)),
                _ => output::note("more of them wait; `steward messages --state queued` lists them"),
            }
        }
    }

    fn text(&self, sent: &[Sent], width: usize) -> String {
        if self.is_gone {
            return "waiting for the node here to be back; Ctrl-C leaves it all to it".to_owned();
        }
        let open: Vec<&Sent> = sent.iter().filter(|message| !message.is_over()).collect();
        let Some(first) = open.first() else { return String::new() };
        if sent.len() == 1 {
            let text = output::one_line(&format!("{}; Ctrl-C leaves it {}", self.state(first), first.left_as()));
            let whole = format!("{text} as {}", first.id);
            // The spinner takes two columns, and the last column stays free. The end of an id is enough for `show`.
            let is_room = whole.width() + 3 <= width;
            return if is_room { whole } else { format!("{text} as …{}", messages::short(&first.id)) };
        }
        let states: Vec<String> = open.iter().take(3).map(|message| self.state(message)).collect();
        let more = if open.len() > states.len() { ", …" } else { "" };
        let ended = sent.len() - open.len();
        let text = format!("{ended} of {} ended; {}{more}; Ctrl-C leaves the rest", sent.len(), states.join("; "));
        output::one_line(&text)
    }

    /// What one message waits for.
    fn state(&self, message: &Sent) -> String {
        let node = &message.node;
        let Some(view) = &message.view else { return format!("{node}: accepted") };
        match &*view.state {
            "running" => {
                let began = view.history.iter().rev().find(|moment| moment.state == "running");
                let ran = began.and_then(|moment| when::since(&moment.at)).map(when::span);
                ran.map_or_else(|| format!("runs on {node}"), |ran| format!("runs on {node} for {ran}"))
            }
            "fetching" => {
                let bytes = view.stdout_bytes + view.stderr_bytes;
                format!("its output comes from {node} ({})", output::size(bytes))
            }
            state => match &view.reason {
                // "ship2 is away since 10:42, nobody listens; queued" in fewer words.
                Some(reason) => reason.replace(", nobody listens", "").replace("; queued", ", queued"),
                None => format!("{node}: {state}"),
            },
        }
    }
}
