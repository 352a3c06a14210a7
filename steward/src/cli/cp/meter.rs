//! How far copies are: a line that is redrawn on a terminal, with rate and estimate; elsewhere each copy that waits for its node is
//! named once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::cli::output::{self, Output};
use crate::cli::{table, when};
use crate::clock::Clock;
use crate::view::MessageView;

/// How often the line is redrawn.
pub(super) const REDRAW: Duration = Duration::from_millis(200);

/// Over how long the rate is taken.
const RATE_OVER: Duration = Duration::from_secs(10);

/// Copies that wait for their node and are named, where there is no terminal.
const TOLD_MAX: usize = 20;

/// Columns of the bar.
const BAR: usize = 20;

/// A copy under way, by its number.
pub(super) type Line = u64;

/// All copies of this command.
pub(super) struct Meter(RefCell<Inner>);

struct Inner {
    clock: Clock,
    stderr: Output,
    is_drawn: bool,
    next: Line,
    under_way: BTreeMap<Line, Copy>,
    /// Bytes of those that have ended.
    ended: u64,
    told: usize,
    is_gone: bool,
    /// How many bytes there were at which time, for the rate.
    marks: Vec<(Duration, u64)>,
}

/// One of them.
struct Copy {
    label: String,
    id: Option<String>,
    view: Option<MessageView>,
    /// Bytes of it that have travelled, and how many there are, as far as that is known.
    moved: u64,
    total: u64,
    is_told: bool,
}

impl Default for Meter {
    fn default() -> Self {
        Self(RefCell::new(Inner {
            clock: Clock::start(),
            stderr: Output::stderr(),
            is_drawn: false,
            next: 0,
            under_way: BTreeMap::new(),
            ended: 0,
            told: 0,
            is_gone: false,
            marks: Vec::new(),
        }))
    }
}

impl Meter {
    /// A copy begins.
    pub(super) fn begin(&self, label: String) -> Line {
        let mut inner = self.0.borrow_mut();
        inner.next += 1;
        let line = inner.next;
        let copy = Copy { label, id: None, view: None, moved: 0, total: 0, is_told: false };
        inner.under_way.insert(line, copy);
        line
    }

    /// The node here has accepted it.
    pub(super) fn accepted(&self, line: Line, id: &str) {
        if let Some(copy) = self.0.borrow_mut().under_way.get_mut(&line) {
            copy.id = Some(id.to_owned());
        }
    }

    /// So many bytes there are in all.
    pub(super) fn total(&self, line: Line, bytes: u64) {
        if let Some(copy) = self.0.borrow_mut().under_way.get_mut(&line) {
            copy.total = bytes;
        }
    }

    /// How it is now.
    pub(super) fn seen(&self, line: Line, view: MessageView) {
        let mut inner = self.0.borrow_mut();
        inner.is_gone = false;
        if let Some(copy) = inner.under_way.get_mut(&line) {
            copy.moved = view.moved_bytes.unwrap_or(0);
            copy.total = copy.total.max(view.stdout_bytes);
            copy.view = Some(view);
        }
        inner.tell(line);
    }

    /// It has travelled.
    pub(super) fn ended(&self, line: Line, view: &MessageView) {
        let mut inner = self.0.borrow_mut();
        inner.is_gone = false;
        if let Some(copy) = inner.under_way.get_mut(&line) {
            copy.total = copy.total.max(view.stdout_bytes);
            copy.moved = copy.total;
        }
    }

    /// It is over.
    pub(super) fn end(&self, line: Line) {
        let mut inner = self.0.borrow_mut();
        if let Some(copy) = inner.under_way.remove(&line) {
            inner.ended += copy.moved;
        }
    }

    /// The node here has stopped: said once.
    pub(super) fn gone(&self) {
        let mut inner = self.0.borrow_mut();
        if !std::mem::replace(&mut inner.is_gone, true) {
            inner.clear();
            output::note("the node here has stopped; what it has accepted is kept, waiting for it to be back");
        }
    }

    /// Redraws the line.
    pub(super) fn draw(&self) {
        self.0.borrow_mut().draw();
    }

    /// Takes the line away, so that something else can be printed.
    pub(super) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Says on a terminal what was done.
    pub(super) fn finish(&self, copied: usize) {
        let mut inner = self.0.borrow_mut();
        inner.clear();
        if inner.stderr.width().is_some() && copied > 0 {
            let files = if copied == 1 { "copied".to_owned() } else { format!("{copied} copied") };
            let (bytes, took) = (output::size(inner.ended), when::span(inner.clock.elapsed()));
            output::note(&format!("{files}, {bytes} in {took}"));
        }
    }

    /// Says what goes on without us, and how to look at it.
    pub(super) fn left(&self) {
        let mut inner = self.0.borrow_mut();
        inner.clear();
        let left: Vec<(&str, &str)> =
            inner.under_way.values().filter_map(|copy| Some((copy.label.as_str(), copy.id.as_deref()?))).collect();
        for (label, id) in left.iter().take(TOLD_MAX) {
            output::note(&format!("{label}: left as {id}"));
        }
        if let Some((_, id)) = left.first() {
            output::note(&format!("steward cp --resume {id} TO goes on with it, steward cancel {id} takes it back"));
        }
    }
}

impl Inner {
    fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            self.stderr.bytes(b"\r\x1b[2K").unwrap_or_default();
        }
    }

    /// Says once, where there is no terminal, that a copy waits for its node.
    fn tell(&mut self, line: Line) {
        if self.stderr.width().is_some() || self.told >= TOLD_MAX {
            return;
        }
        let Some(copy) = self.under_way.get_mut(&line).filter(|copy| !copy.is_told) else { return };
        let reason = copy.view.as_ref().and_then(|view| view.reason.as_deref()).unwrap_or_default();
        if reason.contains("; queued") {
            copy.is_told = true;
            self.told += 1;
            let id = copy.id.as_deref().unwrap_or_default();
            output::note(&format!("{}: {reason} as {id}", copy.label));
        }
    }

    fn draw(&mut self) {
        let Some(width) = self.stderr.width() else { return };
        let line = table::cut(&output::one_line(&self.text()), width.saturating_sub(1));
        self.is_drawn = true;
        // A line that can't be drawn is none that anybody misses.
        self.stderr.bytes(format!("\r\x1b[2K{line}").as_bytes()).unwrap_or_default();
    }

    fn text(&mut self) -> String {
        let Some(first) = self.under_way.values().next() else { return String::new() };
        let what = match self.under_way.len() {
            1 => first.label.clone(),
            many => format!("{many} files"),
        };
        let waits = first.view.as_ref().filter(|view| matches!(&*view.state, "queued" | "sent"));
        if let Some(reason) = waits.and_then(|view| view.reason.clone()).filter(|_| self.under_way.len() == 1) {
            return format!("{what}: {reason}");
        }
        let (moved, total) =
            self.under_way.values().fold((0, 0), |(moved, total), copy| (moved + copy.moved, total + copy.total));
        let rate = self.rate(self.ended + moved);
        let is_known = total > 0;
        let mut text = format!("{what}  {}", output::size(moved));
        if is_known {
            let filled = usize::try_from(moved.min(total) * BAR as u64 / total).unwrap_or(0);
            let bar: String = (0..BAR).map(|column| if column < filled { '█' } else { '░' }).collect();
            text = format!(
                "{what}  {bar} {:3} %  {} of {}",
                moved.min(total) * 100 / total,
                output::size(moved),
                output::size(total)
            );
        }
        if rate > 0 {
            text += &format!("  {}/s", output::size(rate));
            if is_known && total > moved {
                text += &format!("  {} left", when::span(Duration::from_secs((total - moved).div_ceil(rate))));
            }
        }
        text
    }

    /// Bytes a second over the last while.
    fn rate(&mut self, moved: u64) -> u64 {
        let now = self.clock.elapsed();
        self.marks.push((now, moved));
        let since = now.saturating_sub(RATE_OVER);
        let keep = self.marks.iter().position(|(at, _)| *at >= since).unwrap_or(0);
        self.marks.drain(..keep);
        let Some((at, before)) = self.marks.first() else { return 0 };
        let millis = u64::try_from((now - *at).as_millis()).unwrap_or(u64::MAX);
        moved.saturating_sub(*before).saturating_mul(1000).checked_div(millis).unwrap_or(0)
    }
}
