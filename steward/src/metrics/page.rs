//! The names of all metrics, and the text that is served.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::{Class, Direction, Here, Metrics, Sample, Tally};
use crate::syslog::tally::{Figures, KINDS};
use crate::traffic::Bytes;

type Labels = Vec<(&'static str, String)>;

/// What the link counts: the middle part of the name, and the help.
const LINK: [(&str, &str); 15] = [
    ("connects", "Connections to the broker that were made"),
    ("published", "Publishes that were handed to the broker's client"),
    ("published_items", "Messages and receipts in what was published"),
    ("published_bytes", "Bytes of the bodies that were published"),
    ("received", "What arrived from the broker"),
    ("received_items", "Messages and receipts in what arrived"),
    ("received_bytes", "Bytes of the bodies that arrived"),
    ("refused", "What arrived and made no sense or was not believed"),
    ("dropped", "What was not published because the link was down or too slow; it is tried again"),
    ("unsendable", "What can't be published at all"),
    ("bulk_dropped", "Pieces of outputs that were not sent because too many waited; they are asked for again"),
    ("slow_consumer", "Messages that arrived and were lost because this node was too slow"),
    ("server_errors", "Errors that the broker reported"),
    ("denied", "Publishes and subscriptions that the broker did not permit"),
    ("echoes_missed", "Echoes to ourselves that did not come back in time"),
];

/// One page, as it grows.
struct Page(Registry);

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter: Counter = Counter::default();
        counter.inner().store(value, Ordering::Relaxed);
        self.0.register(name, help, counter);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        let gauge: Gauge<f64, AtomicU64> = Gauge::default();
        gauge.set(value as f64);
        self.0.register(name, help, gauge);
    }

    fn counters(&mut self, name: &str, help: &str, values: impl Iterator<Item = (Labels, u64)>) {
        let family: Family<Labels, Counter> = Family::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inner().store(value, Ordering::Relaxed);
        }
        self.0.register(name, help, family);
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl Iterator<Item = (Labels, u64)>) {
        let family: Family<Labels, Gauge<f64, AtomicU64>> = Family::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value as f64);
        }
        self.0.register(name, help, family);
    }
}

/// The text of one page.
pub(super) fn write(metrics: &Metrics, tally: &Tally, sample: &Sample, here: &Here) -> Result<String, fmt::Error> {
    let mut page = Page(Registry::with_prefix("steward"));
    let version = [(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1)];
    page.gauges("build_info", "The version that runs", version.into_iter());
    messages(&mut page, tally, sample);
    outside(&mut page, tally, sample);
    inside(&mut page, metrics, sample, here);
    syslog(&mut page, &sample.syslog);
    let mut out = String::new();
    text::encode(&mut out, &page.0)?;
    Ok(out)
}

fn class((direction, kind, method): &Class) -> Labels {
    vec![
        ("direction", direction.as_str().to_owned()),
        ("type", kind.as_str().to_owned()),
        ("method", method.to_string()),
    ]
}

fn messages(page: &mut Page, tally: &Tally, sample: &Sample) {
    let by_class = |map: &std::collections::HashMap<Class, u64>| -> Vec<(Labels, u64)> {
        map.iter().map(|(key, value)| (class(key), *value)).collect()
    };
    page.counters("messages_accepted", "Messages that were accepted here", by_class(&tally.accepted).into_iter());
    let ended = tally.ended.iter().map(|((key, state), value)| {
        let mut labels = class(key);
        labels.push(("state", (*state).to_owned()));
        (labels, *value)
    });
    page.counters("messages_ended", "Messages that have ended, by their final state", ended);
    let attempts = by_class(&tally.attempts);
    page.counters("message_attempts", "Attempts that messages took that have ended", attempts.into_iter());
    let outputs = by_class(&tally.output_bytes);
    page.counters("message_output_bytes", "Output of messages that have ended, in bytes", outputs.into_iter());
    let dropped = tally.dropped.iter().map(|(why, count)| (vec![("reason", (*why).to_owned())], *count));
    page.counters("messages_dropped", "What arrived and was dropped without a receipt; it is sent again", dropped);
    page.gauge("outbox_open_messages", "Outgoing messages that have not ended", sample.outbox_open);
    page.gauge("inbox_open_messages", "Incoming messages whose result is not confirmed", sample.inbox_open);
    let stored = sample.inbox_stored;
    page.gauge("inbox_stored_messages", "Incoming messages that are on disk here and not started", stored);
    let lanes = [("out", sample.lanes.0), ("in", sample.lanes.1)];
    let lanes = lanes.into_iter().map(|(direction, count)| (vec![("direction", direction.to_owned())], count));
    page.gauges("lanes", "Lanes: node, type and method", lanes);
}

fn outside(page: &mut Page, tally: &Tally, sample: &Sample) {
    let mut nodes: BTreeMap<&str, u64> =
        ["online", "away", "stopped", "silent", "unknown"].into_iter().map(|name| (name, 0)).collect();
    for presence in tally.presence.values() {
        *nodes.entry(presence).or_default() += 1;
    }
    let nodes = nodes.into_iter().map(|(name, count)| (vec![("presence", name.to_owned())], count));
    page.gauges("nodes", "Other nodes that were heard of since the start", nodes);
    page.counter("name_conflicts", "Two processes with one name were seen", tally.conflicts);
    page.counter("stores_lost", "Another node came back without what its store had held", tally.stores_lost);
    page.gauge("link_up", "Whether the broker can be reached", u64::from(sample.link_up));
    page.gauge("link_denied_subjects", "Subjects that the broker does not permit now", sample.denied_subjects);
    let state = [(vec![("state", sample.link_state.to_owned())], 1)];
    page.gauges("link_state", "How the link is, in one word; 1 for the state that it is in", state.into_iter());
    for (name, help) in LINK {
        let value = sample.link.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value);
        page.counter(&format!("link_{name}"), help, value);
    }
    let both = |label: (&'static str, String), bytes: Bytes| {
        let way = |way: Direction| vec![("direction", way.as_str().to_owned()), label.clone()];
        [(way(Direction::Out), bytes.out), (way(Direction::In), bytes.inward)]
    };
    let classes = sample.wire.iter().flat_map(|(class, bytes)| both(("class", class.as_str().to_owned()), *bytes));
    page.counters("wire_bytes", "Bytes on the link, with all that is around the bodies, by class", classes);
    let nodes = sample.wire_nodes.iter().flat_map(|(node, bytes)| {
        // A node can't have this name as well: it would be counted with them.
        both(("node", node.as_deref().unwrap_or("other").to_owned()), *bytes)
    });
    page.counters("wire_node_bytes", "Bytes on the link, by the node at its other end", nodes);
    let refusals = sample.refusals.iter().map(|(why, count)| (vec![("reason", (*why).to_owned())], *count));
    page.counters(
        "not_believed",
        "What arrived and was not believed: unsigned, forged, altered, replayed or revoked",
        refusals,
    );
}

fn syslog(page: &mut Page, figures: &Figures) {
    let received =
        KINDS.iter().zip(figures.received).map(|(kind, lines)| (vec![("source", (*kind).to_owned())], lines));
    page.counters("syslog_received_lines", "Lines of syslog that came, by where they came", received);
    page.counter("syslog_cut_lines", "Lines of syslog that were longer than may be and were cut", figures.cut);
    let dropped = figures.dropped;
    page.counter(
        "syslog_dropped_lines",
        "Lines of syslog that were dropped because there was no room for them",
        dropped,
    );
    page.counter("syslog_forwarded_lines", "Lines of syslog that are in messages", figures.forwarded);
    let repeated = figures.repeated;
    page.counter(
        "syslog_repeated_lines",
        "Lines of syslog whose message did not end well; they are sent again",
        repeated,
    );
    page.counter("syslog_written_lines", "Lines of syslog of nodes that were written into files here", figures.written);
    page.counter("syslog_passed_on_lines", "Lines of syslog of nodes that were passed on from here", figures.passed_on);
    page.gauge(
        "syslog_spool_lines",
        "Lines of syslog that wait here until they are where they belong",
        figures.waiting,
    );
    page.gauge("syslog_spool_bytes", "What they take on the disk", figures.bytes);
}

fn inside(page: &mut Page, metrics: &Metrics, sample: &Sample, here: &Here) {
    let (rows, seconds) = (metrics.commit_rows.clone(), metrics.commit_seconds.clone());
    page.0.register("commit_rows", "Rows of a transaction of the store", rows);
    page.0.register_with_unit("commit", "Time of a transaction of the store", Unit::Seconds, seconds);
    let run = metrics.run_seconds.clone();
    page.0.register_with_unit("method_run", "Time that a method ran for an incoming message", Unit::Seconds, run);
    page.gauge("methods_running", "Methods that run", sample.methods_running);
    let ((forwards, tally), refused) = &sample.forwards;
    page.gauge("forwards", "Forwarded ports", *forwards);
    page.gauge("forward_open_connections", "Forwarded connections that are open", tally.open);
    page.counter("forward_connections", "Forwarded connections", tally.connections);
    let bytes = [("out", tally.sent), ("in", tally.received)];
    let bytes = bytes.into_iter().map(|(way, count)| (vec![("direction", way.to_owned())], count));
    page.counters("forward_bytes", "Bytes of forwarded connections; what is sent again counts again", bytes);
    page.counter("forward_refused", "What was said of forwards that are not here, or was not sealed", *refused);
    page.gauge("engine_queue_inputs", "What waits for the engine", here.queue);
    let dropped = sample.effects_dropped;
    page.counter("engine_effects_dropped", "Batches of effects that found no room; they are tried again", dropped);
    let tasks = here.tasks.iter().map(|(state, count)| (vec![("state", state.clone())], *count));
    page.gauges("tasks", "Tasks of the node", tasks);
    let restarts = here.restarts.iter().map(|(task, count)| (vec![("task", task.to_string())], *count));
    page.counters("task_restarts", "Restarts of tasks that failed", restarts);
    page.counter("task_panics", "Panics that were caught", here.panics);
    page.counter("errors_told", "Errors of this node that were told to the central error log", sample.errors.0);
    page.counter("errors_summed", "Errors of this node that were told as part of a sum", sample.errors.1);
    let (rules, refused) = &sample.rules;
    let is_bad = matches!(rules.state.as_str(), "kept" | "closed") || rules.fleet_why.is_some();
    page.gauge(
        "rules_bad",
        "Whether the file of the rules can't be used, so that earlier ones hold",
        u64::from(is_bad),
    );
    page.gauge("rules", "Rules that hold", rules.rules as u64);
    let version = rules.fleet_version.unwrap_or(0);
    page.gauge("rules_fleet_version", "The version of the fleet's rules that holds; 0 without any", version);
    page.counter("rules_refused", "What the rules have refused; what comes again counts again", *refused);
    page.counter("audit_lines", "Lines of the audit log that were written", sample.audit.0);
    page.counter("audit_lines_lost", "Lines of the audit log that there was no room for", sample.audit.1);
    page.gauge("disk_free_bytes", "Room in the file system of the node's directory", here.disk_free_bytes);
    page.gauge("memory_bytes", "Memory that the process holds", here.memory_bytes);
}
