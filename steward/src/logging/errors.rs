//! Lines of the log that an operator must act on, for the central error log (R15): errors of the program itself, and what
//! is marked as [`TOLD`]. It never holds up whoever logs.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::troubles::{ERROR_LOG, HERE_ONLY, TOLD, Troubles};

/// Errors of the program itself begin like this. What a library calls an error (a broker that ends while it is asked who
/// it is) may be none for the node; where it is one, the part that uses the library says so.
const OURS: &str = "steward";

/// Fields that say which kind of error it is; the others only say more about the one.
const KIND_FIELDS: [&str; 3] = ["task", "method", "state"];

/// Takes errors out of the log.
pub(super) struct Errors(Troubles);

/// A layer of the log that tells `troubles` of errors, with a level of its own: who wants a quiet log may still want to
/// hear of errors at central, and without one every line below the log's level would be made, only to be thrown away.
pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(troubles: Troubles) -> impl Layer<S> {
    let errors = Targets::new().with_default(LevelFilter::ERROR).with_target(TOLD, LevelFilter::WARN);
    Errors(troubles).with_filter(errors)
}

impl<S: Subscriber> Layer<S> for Errors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let is_told = target == TOLD || (level == Level::ERROR && target != HERE_ONLY && target.starts_with(OURS));
        if !is_told {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        // What is wrong with errors on their way would make more of them.
        if !line.fields.contains(ERROR_LOG) {
            self.0.tell(&format!("{}{}", line.message, line.kind), || format!("{}{}", line.message, line.fields));
        }
    }
}

/// The message, the fields behind it, and those of them that say its kind.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
    kind: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let name = field.name();
        let text = if name == "message" { &mut self.message } else { &mut self.fields };
        let between = if name == "message" { String::new() } else { format!(", {name}: ") };
        let from = text.len();
        // A string takes whatever is written into it.
        write!(text, "{between}{value:?}").unwrap_or_default();
        if KIND_FIELDS.contains(&name) {
            self.kind.push_str(&text[from..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::clock::Clock;

    async fn told(log: impl FnOnce()) -> Vec<String> {
        let troubles = Troubles::new(Clock::start());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer(troubles.clone())), || {
            log();
            tracing::error!("the last one");
        });
        let mut told = Vec::new();
        while told.last().is_none_or(|last| last != "the last one") {
            told.push(troubles.first().await);
            troubles.pop();
        }
        told
    }

    #[tokio::test]
    async fn errors_come_out_with_their_fields_and_nothing_else_does() {
        let told = told(|| {
            tracing::warn!("mends itself");
            tracing::error!(error = "no space", count = 3, node = %"ship1", "the log can't be written");
            tracing::error!(target: HERE_ONLY, "told already");
            tracing::error!(target: "async_nats", "a library's");
            tracing::warn!(target: TOLD, task = "api", "a task failed");
            tracing::info!(target: TOLD, "all is well");
        });
        assert_eq!(
            told.await,
            [
                "the log can't be written, error: no space, count: 3, node: ship1",
                "a task failed, task: api",
                "the last one"
            ]
        );
    }

    #[tokio::test]
    async fn errors_about_errors_stay_here() {
        let told = told(|| {
            tracing::error!(lane = %"central.EventACK.ErrorLog", "the lane's next messages can't be read");
            tracing::error!(error = "permissions violation for publish to \"central.EventACK.ErrorLog\"", "the broker");
        });
        assert_eq!(told.await, ["the last one"]);
    }

    #[tokio::test]
    async fn a_storm_in_one_task_hides_no_other() {
        let told = told(|| {
            for _ in 0..100 {
                tracing::warn!(target: TOLD, task = "api", "a task failed");
            }
            tracing::warn!(target: TOLD, task = "metrics", "a task failed");
        });
        let told = told.await;
        assert_eq!(told[told.len() - 2], "a task failed, task: metrics");
        assert!(told.len() < 20, "{told:?}");
    }
}
