//! What is counted, and that the document lists what is served.

use std::collections::BTreeSet;

use protocol::outcome::Final;
use protocol::time::Wall;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::*;

fn lane(method: &str) -> Lane {
    Lane { peer: NodeName::new("ship1").unwrap(), kind: Kind::CommandAck, method: MethodName::new(method).unwrap() }
}

fn outcome(state: Final) -> Arc<Outcome> {
    let mut outcome = Outcome::bare(state, None, Wall(5000));
    outcome.started = Some(Wall(3000));
    outcome.stdout.len = 7;
    Arc::new(outcome)
}

fn out(method: &str, state: State, attempts: u32) -> Report {
    let outcome = match &state {
        State::Final(state) => Some(outcome(*state)),
        State::Queued | State::Sent | State::Stored | State::Running | State::Fetching => None,
    };
    Report::Out { id: protocol::message::MessageId(1), lane: lane(method), state, attempts, outcome, sealed: false }
}

fn filled() -> Metrics {
    let metrics = Metrics::new();
    let peer = NodeName::new("ship1").unwrap();
    metrics.report(&out("ShellCommand", State::Queued, 0));
    metrics.report(&out("ShellCommand", State::Sent, 1));
    metrics.report(&out("ShellCommand", State::Final(Final::Failed), 3));
    let id = protocol::message::MessageId(2);
    metrics.report(&Report::In { id, lane: lane("ShellCommand"), outcome: outcome(Final::Done), sealed: false });
    metrics.report(&Report::Presence { peer: peer.clone(), presence: Presence::Online(Wall(1)) });
    metrics.report(&Report::Presence { peer: peer.clone(), presence: Presence::Away(Wall(2)) });
    metrics.report(&Report::Dropped { peer, why: "the lane is full" });
    metrics.committed(17, Duration::from_millis(3));
    metrics
}

fn text(metrics: &Metrics) -> String {
    let traffic = traffic::Traffic::default();
    traffic.count(traffic::Class::Commands, Some("ship1"), Bytes { out: 70, inward: 0 });
    let (wire, wire_nodes) = (traffic.classes(), traffic.nodes_shown());
    let sample = Sample { inbox_stored: 5, link_state: "untrusted", wire, wire_nodes, ..Sample::default() }
        .with_link(true, &crate::broker::Counters::default());
    let restarts = vec![("api".into(), 2)];
    let here = Here { tasks: [("running".to_owned(), 3)].into(), restarts, ..Here::default() };
    page::write(metrics, &metrics.tally(), &sample, &here).unwrap()
}

/// L12: what failed is counted as failed, and as nothing else.
#[test]
fn each_end_is_counted_as_what_it_is() {
    let text = text(&filled());
    let class = "direction=\"out\",type=\"CommandACK\",method=\"ShellCommand\"";
    for line in [
        &format!("steward_messages_accepted_total{{{class}}} 1"),
        &format!("steward_messages_ended_total{{{class},state=\"failed\"}} 1"),
        &format!("steward_message_attempts_total{{{class}}} 3"),
        &format!("steward_message_output_bytes_total{{{class}}} 7"),
        "steward_messages_ended_total{direction=\"in\",type=\"CommandACK\",method=\"ShellCommand\",state=\"done\"} 1",
        "steward_nodes{presence=\"away\"} 1.0",
        "steward_nodes{presence=\"online\"} 0.0",
        "steward_messages_dropped_total{reason=\"the lane is full\"} 1",
        "steward_link_up 1.0",
        "steward_wire_bytes_total{direction=\"out\",class=\"commands\"} 70",
        "steward_wire_node_bytes_total{direction=\"out\",node=\"ship1\"} 70",
        "steward_link_state{state=\"untrusted\"} 1.0",
        "steward_inbox_stored_messages 5.0",
        "steward_task_restarts_total{task=\"api\"} 2",
        "steward_commit_seconds_count 1",
        "steward_commit_rows_sum 17.0",
        "steward_method_run_seconds_sum 2.0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
    assert_eq!(text.matches("steward_messages_ended_total{").count(), 2);
}

#[test]
fn names_of_methods_can_not_fill_the_memory() {
    let metrics = Metrics::new();
    for n in 0..10_000 {
        metrics.report(&out(&format!("M{n}"), State::Queued, 0));
    }
    assert_eq!(metrics.tally().accepted.len(), METHODS_MAX + 1);
    assert!(text(&metrics).contains("method=\"other\"} 9900"));
}

#[test]
fn the_document_lists_every_metric_and_no_other() {
    let served: BTreeSet<String> = text(&filled())
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            format!("{name}{} {kind}", if kind == "counter" { "_total" } else { "" })
        })
        .collect();
    let document = include_str!("../../../docs/metrics.md");
    let listed: BTreeSet<String> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `steward_"))
        .map(|line| {
            let mut cells = line.split('|');
            let name = cells.next().unwrap().trim().trim_end_matches('`');
            format!("steward_{name} {}", cells.next().unwrap().trim())
        })
        .collect();
    let missing: Vec<_> = served.difference(&listed).collect();
    let surplus: Vec<_> = listed.difference(&served).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "docs/metrics.md lacks {missing:?}, and has {surplus:?}");
}

#[tokio::test]
async fn metrics_are_served_as_soon_as_the_port_is_free() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let supervisor = Supervisor::new(crate::supervise::Rule::NODE);
    let (inputs, _inputs) = mpsc::channel(8);
    let (reports, _) = tokio::sync::broadcast::channel(8);
    let sources = Sources {
        engine: EngineHandle { inputs, reports },
        supervisor: supervisor.clone(),
        dir: std::env::temp_dir(),
        sample: Arc::new(Sample::default),
    };
    let (metrics, address) = (filled(), ListenAddress { host: Some("127.0.0.1".into()), port });
    drop(taken);
    supervisor.keep("metrics", move |end| metrics.clone().serve(address.clone(), sources.clone(), end));
    let page = async {
        let mut stream = loop {
            match tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        page
    };
    let page = tokio::time::timeout(Duration::from_secs(10), page).await.unwrap();
    assert!(page.contains("steward_tasks{state=\"running\"}"), "{page}");
    assert!(page.contains("steward_engine_queue_inputs 0.0"), "{page}");
    let memory = page.lines().find_map(|line| line.strip_prefix("steward_memory_bytes ")).unwrap();
    assert!(memory.parse::<f64>().unwrap() > 1e6);
    assert!(supervisor.stop(Duration::from_secs(5)).await.is_empty());
}

#[tokio::test]
async fn a_request_that_panics_ends_its_connection_alone() {
    let supervisor = Supervisor::new(crate::supervise::Rule::NODE);
    let (inputs, _inputs) = mpsc::channel(8);
    let (reports, _) = tokio::sync::broadcast::channel(8);
    let asked = std::sync::atomic::AtomicBool::new(false);
    let sample = move || {
        assert!(asked.swap(true, std::sync::atomic::Ordering::Relaxed), "the first one panics");
        Sample::default()
    };
    let sources = Sources {
        engine: EngineHandle { inputs, reports },
        supervisor: supervisor.clone(),
        dir: std::env::temp_dir(),
        sample: Arc::new(sample),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (server, end) = (supervisor.clone(), supervisor.token());
    supervisor.once("metrics", async move {
        let router = filled().router(sources);
        serve::serve(listener, router, LIMITS, "metrics connection", &server, end).await;
    });
    let ask = async || {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut page = Vec::new();
        stream.read_to_end(&mut page).await.unwrap_or_default();
        String::from_utf8(page).unwrap()
    };
    assert_eq!(ask().await, "");
    assert!(ask().await.contains("steward_task_panics_total 1"));
    assert!(supervisor.stop(Duration::from_secs(5)).await.is_empty());
}
