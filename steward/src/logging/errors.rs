//! Lines of the log that an operator must act on, for whoever sends them to the central error log (R15). It never holds up
//! whoever logs: what finds no room is counted, and told with the next one that does.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Errors that may wait.
const ERRORS_MAX: usize = 64;

/// Characters of one that are sent.
const CHARS_MAX: usize = 1000;

/// The target of errors that are not taken, because they are told in another way already.
pub(crate) const HERE_ONLY: &str = "steward::here_only";

/// Takes errors out of the log.
pub(super) struct Errors {
    to: mpsc::Sender<String>,
    missed: AtomicU64,
}

impl Errors {
    /// A layer of the log, and where its errors come out.
    pub(super) fn new() -> (Self, mpsc::Receiver<String>) {
        let (to, errors) = mpsc::channel(ERRORS_MAX);
        (Self { to, missed: AtomicU64::new(0) }, errors)
    }
}

impl<S: Subscriber> Layer<S> for Errors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() != Level::ERROR || event.metadata().target() == HERE_ONLY {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let mut text: String = line.message.chars().chain(line.fields.chars()).take(CHARS_MAX).collect();
        let missed = self.missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            write!(text, " (and {missed} more errors before it)").unwrap_or_default();
        }
        if self.to.try_send(text).is_err() {
            self.missed.fetch_add(missed + 1, Ordering::Relaxed);
        }
    }
}

/// The message, and the fields behind it.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name}: {value:?}"),
        };
        // A string takes whatever is written into it.
        written.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn errors_come_out_with_their_fields_and_nothing_else_does() {
        let (layer, mut errors) = Errors::new();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!("mends itself");
            tracing::error!(error = "no space", count = 3, node = %"ship1", "the log can't be written");
            tracing::error!(target: HERE_ONLY, "told already");
        });
        assert_eq!(errors.try_recv().unwrap(), "the log can't be written, error: no space, count: 3, node: ship1");
        assert!(errors.try_recv().is_err());
    }

    #[test]
    fn a_flood_is_counted_and_not_kept() {
        let (layer, mut errors) = Errors::new();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for _ in 0..ERRORS_MAX + 10 {
                tracing::error!("{}", "x".repeat(10 * CHARS_MAX));
            }
            let first = errors.try_recv().unwrap();
            assert_eq!(first.len(), CHARS_MAX);
            tracing::error!("behind it");
        });
        let last = std::iter::from_fn(|| errors.try_recv().ok()).last().unwrap();
        assert_eq!(last, "behind it (and 10 more errors before it)");
    }
}
