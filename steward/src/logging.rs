//! The node's log on standard error: text on a terminal, JSON lines otherwise, and one line for each message that ends.
//!
//! It never holds anything up: a reader of the log that is too slow costs lines about messages, and the log says how many.

mod errors;
mod lines;

use std::io::IsTerminal as _;
use std::sync::Arc;

use protocol::message::MessageId;
use protocol::name::Lane;
use protocol::outcome::{Final, Outcome};
use protocol::step::Report;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::{LogConfig, LogFormat};
use crate::troubles::{HERE_ONLY, Troubles};

/// Characters of the first line of an output that stand in the log.
const LINE_CHARS_MAX: usize = 120;

/// Reports whose lines are written together.
const REPORTS_TOGETHER: usize = 256;

/// Starts the log. To be called once, before anything is logged. `troubles` hears of lines that an operator must act on.
pub(crate) fn start(config: &LogConfig, troubles: Troubles) -> anyhow::Result<()> {
    // The client tells of each attempt to connect; the link tells of changes, which is enough. First, so that whoever
    // names the client in the level has the last word.
    let filter = EnvFilter::try_new(format!("async_nats=off,{}", config.level))?;
    let terminal = std::io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let log = tracing_subscriber::fmt::layer().with_writer(lines::Stderr::default).with_target(false);
    let log = match json {
        true => log.json().flatten_event(true).boxed(),
        false => log.with_ansi(terminal).boxed(),
    };
    let registry = tracing_subscriber::registry().with(log.with_filter(filter)).with(errors::layer(troubles));
    registry.try_init().map_err(|error| anyhow::anyhow!("the log can't be started: {error}"))?;
    // Whoever owns what has panicked says what becomes of it. This says where, in a line like any other.
    std::panic::set_hook(Box::new(|panic| tracing::error!(target: HERE_ONLY, %panic, "something panicked")));
    Ok(())
}

/// Writes a line for each message that ends, until the end.
pub(crate) async fn follow(mut reports: broadcast::Receiver<Arc<Report>>, end: CancellationToken) {
    loop {
        let first = tokio::select! {
            () = end.cancelled() => return,
            report = reports.recv() => report,
        };
        if matches!(first, Err(RecvError::Closed)) {
            return;
        }
        lines::together(|| {
            match first {
                Ok(report) => line(&report),
                Err(RecvError::Lagged(missed)) => behind(missed),
                Err(RecvError::Closed) => {}
            }
            for _ in 1..REPORTS_TOGETHER {
                match reports.try_recv() {
                    Ok(report) => line(&report),
                    Err(TryRecvError::Lagged(missed)) => behind(missed),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => return,
                }
            }
        });
    }
}

fn behind(missed: u64) {
    tracing::warn!(missed, "the log is too slow for what happens; `steward messages` shows all of it");
}

fn line(report: &Report) {
    match report {
        Report::Out { id, lane, outcome: Some(outcome), sealed, .. } => {
            ended(*id, lane, (outcome, *sealed), "sent message ended");
        }
        Report::In { id, lane, outcome, sealed } => ended(*id, lane, (outcome, *sealed), "received message ended"),
        Report::Out { outcome: None, .. } | Report::Presence { .. } => {
            tracing::trace!(?report, "a message or a node has changed");
        }
        Report::Conflict { peer, known, other } => {
            let (known, other) = (format_args!("{:016x}", known.0), format_args!("{:016x}", other.0));
            tracing::error!(node = %peer, %known, %other, "two live processes have one name; one of them must go");
        }
        Report::StoreLost { peer } => {
            tracing::warn!(node = %peer, "came back without what its store had held");
        }
        Report::Dropped { peer, why } => tracing::debug!(node = %peer, why, "something that arrived is dropped"),
    }
}

fn ended(id: MessageId, lane: &Lane, (outcome, sealed): (&Outcome, bool), what: &'static str) {
    // All on one line, with the same fields on either side, so that one search finds both ends of a message.
    let (node, kind, method, state) = (&lane.peer, lane.kind, &lane.method, outcome.state);
    // Logs travel, and others read them.
    let shown = (!sealed).then_some(outcome);
    let (exit_code, signal, reason) =
        (outcome.exit_code, outcome.signal, shown.and_then(|shown| shown.reason.as_deref()));
    let ms = outcome.started.map(|started| outcome.finished.0.saturating_sub(started.0));
    let output = shown.and_then(first_line);
    match state {
        Final::Done | Final::Sent | Final::Cancelled => {
            tracing::info!(%node, r#type = %kind, %method, %state, exit_code, signal, ms, reason, output, %id, "{what}");
        }
        Final::Failed
        | Final::TimedOut
        | Final::Refused
        | Final::Expired
        | Final::Interrupted
        | Final::Undeliverable => {
            tracing::warn!(%node, r#type = %kind, %method, %state, exit_code, signal, ms, reason, output, %id, "{what}");
        }
    }
}

/// The first line that says something: of what went wrong if something did, else of standard output.
pub(crate) fn first_line(outcome: &Outcome) -> Option<String> {
    let both = match outcome.state {
        Final::Failed | Final::TimedOut => [&outcome.stderr, &outcome.stdout],
        _ => [&outcome.stdout, &outcome.stderr],
    };
    let text = both.into_iter().find(|output| output.len > 0)?;
    let Some(inline) = text.inline.as_deref() else {
        return Some(format!("({} bytes)", text.len));
    };
    let line = inline.lines().map(str::trim_end).find(|line| !line.trim().is_empty())?;
    let mut short: String = line.chars().take(LINE_CHARS_MAX).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    Some(short)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Mutex, PoisonError};

    use protocol::message::Kind;
    use protocol::name::{MethodName, NodeName};
    use protocol::outcome::{Output, State};
    use protocol::time::Wall;

    use super::*;

    fn outcome(state: Final, stdout: &str, stderr: &str) -> Outcome {
        let output = |text: &str| Output { len: text.len() as u64, inline: Some(text.into()), ..Output::default() };
        Outcome {
            started: Some(Wall(1000)),
            exit_code: Some(3),
            stdout: output(stdout),
            stderr: output(stderr),
            ..Outcome::bare(state, None, Wall(1250))
        }
    }

    #[test]
    fn the_first_line_that_says_something_is_shown() {
        assert_eq!(first_line(&outcome(Final::Done, "\n  \na b \nc", "x")).unwrap(), "a b");
        assert_eq!(first_line(&outcome(Final::Failed, "a", "no such file\n")).unwrap(), "no such file");
        assert_eq!(first_line(&outcome(Final::Failed, "a", "")).unwrap(), "a");
        assert_eq!(first_line(&outcome(Final::Done, "", "")), None);
        let long = first_line(&outcome(Final::Done, &"ä".repeat(500), "")).unwrap();
        assert_eq!(long.chars().count(), LINE_CHARS_MAX + 1);
        let mut bulk = outcome(Final::Done, "", "");
        bulk.stdout = Output { len: 5_000_000, ..Output::default() };
        assert_eq!(first_line(&bulk).unwrap(), "(5000000 bytes)");
    }

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_message_that_ends_has_one_line_whatever_its_output() {
        let sink = Sink::default();
        let writer = sink.clone();
        let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
        let lane = Lane {
            peer: NodeName::new("ship1").unwrap(),
            kind: Kind::CommandAck,
            method: MethodName::new("ShellCommand").unwrap(),
        };
        tracing::subscriber::with_default(log, || {
            let id = MessageId(7);
            let hostile = Arc::new(outcome(Final::Failed, "", "a \u{1b}[31m \"b\"\rx\nc"));
            line(&Report::In { id, lane: lane.clone(), outcome: Arc::clone(&hostile), sealed: false });
            line(&Report::Out {
                id,
                lane: lane.clone(),
                state: State::Sent,
                attempts: 1,
                outcome: None,
                sealed: false,
            });
            let state = State::Final(Final::Done);
            let outcome = Some(Arc::new(outcome(Final::Done, "ok", "")));
            line(&Report::Out { id, lane, state, attempts: 1, outcome, sealed: false });
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!((&lines[0]["level"], &lines[1]["level"]), (&"WARN".into(), &"INFO".into()));
        assert_eq!((&lines[0]["node"], &lines[0]["state"]), (&"ship1".into(), &"failed".into()));
        assert_eq!(
            (&lines[1]["ms"], &lines[1]["exit_code"], &lines[1]["output"]),
            (&250.into(), &3.into(), &"ok".into())
        );
    }
}
