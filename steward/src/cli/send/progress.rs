//! The line that says what is waited for. On a terminal it is redrawn in place; elsewhere each node that is away is
//! named once, and that is all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use unicode_width::UnicodeWidthStr as _;

use super::results::Sent;
use crate::cli::output::{self, Output};
use crate::cli::{messages, table, when};
use crate::view::NodeView;

/// How often the line is redrawn.
pub(super) const REDRAW: Duration = Duration::from_millis(120);

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// The line, and what it knows of who is away.
pub(super) struct Progress {
    stderr: Output,
    is_drawn: bool,
    turn: usize,
    nodes: BTreeMap<String, NodeView>,
    /// Messages of which it was said that they wait for a node.
    told: BTreeSet<String>,
    /// Whether the node here has stopped.
    is_gone: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        let (nodes, told) = (BTreeMap::new(), BTreeSet::new());
        Self { stderr: Output::stderr(), is_drawn: false, turn: 0, nodes, told, is_gone: false }
    }

    /// What is known of other nodes.
    pub(super) fn presence(&mut self, nodes: Vec<NodeView>) {
        for node in nodes {
            self.nodes.insert(node.node.clone(), node);
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
        let Some(width) = self.stderr.width() else { return self.tell(sent) };
        self.turn += 1;
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

    fn tell(&mut self, sent: &[Sent]) {
        for message in sent.iter().filter(|message| message.waits_for_receiver()) {
            if let Some(why) = self.absence(&message.node)
                && self.told.insert(message.id.clone())
            {
                output::note(&format!("{why}; queued as {}, waiting", message.id));
            }
        }
    }

    /// Why a node can't answer, if that is known.
    fn absence(&self, name: &str) -> Option<String> {
        let node = self.nodes.get(name)?;
        let is_absent = matches!(&*node.presence, "away" | "stopped" | "silent");
        // "away since 10:42, nobody listens": the beginning is enough here, `steward nodes` has the rest.
        let because = node.because.split(',').next().unwrap_or_default();
        is_absent.then(|| match because.starts_with(&node.presence) {
            true => format!("{name} is {because}"),
            false => format!("{name} is {} ({because})", node.presence),
        })
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
            "queued" | "sent" => match self.absence(node) {
                Some(why) => format!("{why}, queued"),
                None => match &view.reason {
                    Some(reason) => format!("{node}: {}: {reason}", view.state),
                    None => format!("{node}: {}, no receipt yet", view.state),
                },
            },
            "stored" => format!("{node} has it, its turn has not come"),
            "running" => {
                let began = view.history.iter().rev().find(|moment| moment.state == "running");
                let ran = began.and_then(|moment| when::since(&moment.at)).map(when::span);
                ran.map_or_else(|| format!("runs on {node}"), |ran| format!("runs on {node} for {ran}"))
            }
            "fetching" => {
                let bytes = view.stdout_bytes + view.stderr_bytes;
                format!("its output comes from {node} ({})", output::size(bytes))
            }
            state => format!("{node}: {state}"),
        }
    }
}
