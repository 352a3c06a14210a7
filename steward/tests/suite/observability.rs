//! What is seen from outside: metrics, profiles, log lines, the message log, hellos, processes (R11, R12, R16, R17, L12).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Fleet, Node, Port, event, eventually, get, kill, parent, shell, with};

/// Counts of a metric by the value of one label, without the messages in which nodes tell of errors by themselves.
fn by_label(metrics: &str, name: &str, label: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with(name) && !line.contains("\"ErrorLog\"")) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let Some((_, rest)) = series.split_once(&format!("{label}=\"")) else { continue };
        let value: f64 = value.parse().unwrap();
        *counts.entry(rest.split('"').next().unwrap().to_owned()).or_default() += value as u64;
    }
    counts
}

/// L12: the metrics say what `steward messages` says.
#[test]
fn l12_metrics_agree_with_the_list_of_messages() {
    let fleet = Fleet::new();
    let port = Port::reserve();
    let central = fleet.node_with("central", &["--prom-host-and-port", &port.address()]);
    let (_ship1, ship2) = (fleet.node("ship1"), fleet.node("ship2"));
    for message in [shell("ship1", "true"), shell("ship1", "exit 1"), shell("ship1", "exit 2")] {
        central.send_and_wait(&message);
    }
    central.send_and_wait(&with(shell("ship9", "true"), json!({ "timeout": 0.05, "retries": 1 })));
    central.send_and_wait(&with(event("ship1", "TextLogging", &["x"]), json!({ "commandOrEvent": "EventNACK" })));
    central.send_and_wait(&with(shell("ship1", "sleep 600"), json!({ "methodTimeout": 0.1 })));
    central.send_and_wait(&with(shell("ship1", ""), json!({ "data": [] })));
    let cancelled = central.send(&shell("ship9", "true"));
    central.cli(&["cancel", &cancelled]).ok();
    central.ended(&cancelled);
    drop(ship2);
    let mut listed: BTreeMap<String, u64> = BTreeMap::new();
    for message in central.all_ended(8) {
        *listed.entry(message["state"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    eventually("the metrics agree", || {
        let metrics = String::from_utf8(get(&port.address(), "/metrics")).unwrap();
        let counted = by_label(&metrics, "steward_messages_ended_total", "state");
        let counted: BTreeMap<String, u64> = counted.into_iter().filter(|(_, count)| *count > 0).collect();
        (counted == listed).then_some(())
    });
}

/// R17: profiles where `profilingPort` says.
#[test]
fn profiles_can_be_read() {
    let fleet = Fleet::new();
    let port = Port::reserve();
    let _central = fleet.node_with("central", &["--profiling-port", &port.number().to_string()]);
    let profile = get(&port.address(), "/debug/pprof/profile?seconds=1");
    assert!(profile.len() > 20, "a profile in pprof's format: {}", String::from_utf8_lossy(&profile));
}

/// R11: all that is needed to create the same message again.
#[test]
fn the_message_log_holds_each_message_as_it_comes_and_as_it_ends() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let message = with(shell("ship1", "exit 4"), json!({ "timeout": 7, "retries": 5 }));
    let id = central.send(&message);
    central.ended(&id);
    let lines: Vec<Value> =
        central.read("messages.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_it: Vec<&Value> = lines.iter().filter(|line| line["id"] == *id).collect();
    assert_eq!(of_it.len(), 2, "{lines:#?}");
    for (key, value) in message.as_object().unwrap() {
        if value.is_number() {
            assert_eq!(of_it[0][key].as_f64(), value.as_f64(), "{key}");
        } else {
            assert_eq!(of_it[0][key], *value, "{key}");
        }
    }
    assert_eq!(of_it[1]["state"], "failed");
    assert_eq!(of_it[1]["exitCode"], 4);
}

/// One line for each message that ends, with all that an operator wants at a glance.
#[test]
fn the_log_has_a_line_for_each_message_that_ends() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let message = central.send_and_wait(&shell("ship1", "echo first line; echo second line; exit 6"));
    let id = message["id"].as_str().unwrap();
    let line = eventually("the line is there", || {
        let lines = central.log_lines();
        lines.into_iter().map(|line| line.to_string()).find(|line| line.contains(id) && line.contains("failed"))
    });
    for part in ["ship1", "ShellCommand", "6", "first line"] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert!(!line.contains("second line"), "{line}");
}

/// JSON lines where nobody looks at a terminal, text where it is asked for.
#[test]
fn every_log_line_is_json_unless_text_is_asked_for() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node_with("ship1", &["--log-format=text"]));
    central.send_and_wait(&shell("ship1", "true"));
    assert_eq!((central.terminate(), ship1.terminate()), (0, 0));
    assert_eq!(central.log_lines().len(), central.log().lines().count(), "{}", central.log());
    assert!(central.log_lines().len() >= 2, "it says that it starts and that it stops");
    assert_eq!(ship1.log_lines(), Vec::<Value>::new());
    assert!(ship1.log().lines().count() >= 2);
}

/// R16, R12: who is there, who is not, and from what that is known.
#[test]
fn nodes_says_who_is_there_and_from_what_it_is_known() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let mut ship1 = fleet.node_with("ship1", &["--hello-interval=0.5", "--label=fleet=north"]);
    let online = central.sees("ship1", "online");
    assert!(!online["because"].as_str().unwrap().is_empty(), "{online}");
    for key in ["version", "north"] {
        assert!(online["info"].to_string().contains(key), "no {key} in {online}");
    }
    let first = online["lastSeenAt"].clone();
    eventually("the next hello is heard", || (central.sees("ship1", "online")["lastSeenAt"] != first).then_some(()));
    assert_eq!(ship1.terminate(), 0);
    central.sees("ship1", "stopped");
    ship1.start();
    central.sees("ship1", "online");
    ship1.kill();
    central.send(&shell("ship1", "true"));
    central.sees("ship1", "away");
    let table = central.cli(&["nodes"]).ok().stdout;
    assert!(table.contains("ship1") && table.contains("away"), "{table}");
}

/// R6, R7, R14: a process for each subject, and the node's own tasks.
#[test]
fn ps_lists_lanes_and_tasks() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let gate = fleet.file("gate");
    let running = central.send(&shell("ship1", &gate.awaited()));
    central.awaits(&running, "running");
    let waiting = central.send(&shell("ship1", "true"));
    central.awaits(&waiting, "stored");
    let lane = |node: &Node<'_>, kind: &str| -> Value {
        let lanes = node.json(&["ps"]).into_iter();
        let mut lanes = lanes
            .filter(|process| process["kind"] == kind && process["name"].as_str().unwrap().contains("ShellCommand"));
        lanes.next().unwrap_or_else(|| panic!("{} has no such lane", node.name()))
    };
    assert_eq!(lane(&central, "out")["messages"], 2);
    assert_eq!(lane(&ship1, "in")["messages"], 2);
    assert_eq!(lane(&ship1, "in")["state"], "running");
    assert!(central.json(&["ps"]).iter().any(|process| process["kind"] == "task"));
    gate.create();
    central.all_ended(2);
}

/// R12, promise 5: where is my message, and why?
#[test]
fn a_message_that_waits_says_for_what_and_when_it_is_tried_again() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let id = central.send(&shell("ship1", "true"));
    let waiting = eventually("it says why it waits", || {
        let message = central.show(&id);
        (message["reason"].is_string() && message["nextAttemptAt"].is_string()).then_some(message)
    });
    assert!(waiting["reason"].as_str().unwrap().contains("ship1"), "{waiting}");
    fleet.broker.stop();
    eventually("now it waits for the broker", || {
        central.show(&id)["reason"].as_str().filter(|reason| reason.contains("broker")).map(str::to_owned)
    });
}

/// R16: the hello is an event without ACK, to central, as every other message.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hello_is_an_event_to_central_without_ack() {
    let fleet = Fleet::new();
    let observer = async_nats::connect(fleet.broker.address()).await.unwrap();
    let mut hellos = observer.subscribe("central.EventNACK.SayHello").await.unwrap();
    observer.flush().await.unwrap();
    let _ship1 = fleet.node("ship1");
    let hello = futures_util::StreamExt::next(&mut hellos).await.unwrap();
    let body: Value = serde_json::from_slice(&crate::harness::unpacked(&hello.payload)).unwrap();
    assert_eq!((&body["method"], &body["commandOrEvent"]), (&"SayHello".into(), &"EventNACK".into()), "{body}");
    assert!(body.to_string().contains("ship1"), "{body}");
}

/// R14, R15: a part that fails is restarted, and central is told.
#[test]
fn a_part_that_fails_is_restarted_and_central_is_told() {
    let fleet = Fleet::new();
    let central = fleet.node_with("central", &["--central-error-logger"]);
    let ship1 = fleet.node("ship1");
    let guard = || -> u32 {
        let guards = fleet.processes().into_iter().filter(|(_, line)| line.contains("job-guard"));
        let mut of_ship1 = guards.filter(|(pid, _)| parent(*pid) == Some(ship1.pid()));
        of_ship1.next().map_or(0, |(pid, _)| pid)
    };
    let first = eventually("ship1 has a job guard", || Some(guard()).filter(|pid| *pid != 0));
    kill(first);
    eventually("it has another one", || Some(guard()).filter(|pid| *pid != 0 && *pid != first));
    eventually("ps says so", || {
        let tasks = ship1.json(&["ps"]).into_iter();
        let mut guards = tasks.filter(|task| task["name"] == "job guard" && task["state"] == "running");
        guards.find(|task| task["restarts"].as_u64() > Some(0))
    });
    eventually("central's error log says so", || {
        let log = central.read("errorlog.log");
        (log.contains("ship1") && log.contains("job guard")).then_some(())
    });
    assert_eq!(central.send_and_wait(&shell("ship1", "true"))["state"], "done");
}

/// R15: what an operator of ship1 would have to see in its log is seen at central.
#[test]
fn an_error_in_a_node_reaches_the_central_error_log() {
    let fleet = Fleet::new();
    let central = fleet.node_with("central", &["--central-error-logger"]);
    let ship1 = fleet.node("ship1");
    // A file where a folder should be: what is wrong in inmsg.txt can't be set aside.
    std::fs::write(ship1.dir().join("rejected"), "").unwrap();
    ship1.append("[ nonsense ]");
    let line = eventually("central's error log says so", || {
        central.read("errorlog.log").lines().find(|line| line.contains("rejected")).map(str::to_owned)
    });
    assert!(line.contains("ship1"), "{line}");
    let error = ship1.log_lines().into_iter().find(|line| line["level"] == "ERROR");
    assert!(error.is_some(), "{}", ship1.log());
}

/// R17: two nodes on one machine may well have the same default port.
#[test]
fn a_node_works_without_a_port_that_is_taken() {
    let fleet = Fleet::new();
    let port = Port::reserve();
    let flags = ["--prom-host-and-port".to_owned(), port.address()];
    let flags = flags.each_ref().map(String::as_str);
    let (mut central, ship1) = (fleet.node_with("central", &flags), fleet.node_with("ship1", &flags));
    assert_eq!(central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    assert!(ship1.log().contains(&port.address()), "it says so: {}", ship1.log());
    central.terminate();
    eventually("it takes the port when it is free", || {
        std::net::TcpStream::connect(port.address()).ok()?;
        String::from_utf8(get(&port.address(), "/metrics")).ok().filter(|text| text.contains("steward_link_up"))
    });
}
