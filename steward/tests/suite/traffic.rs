//! Bytes on the link: what is counted of them for each message, each node and each class.

use serde_json::{Value, json};

use crate::harness::{Fleet, Node, Port, event, eventually, get, shell, with};

/// The value of a series of a metric.
fn metric(page: &str, series: &str) -> u64 {
    let line = page.lines().find(|line| line.starts_with(series));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).unwrap_or_else(|| panic!("no {series}: {page}"))
        as u64
}

fn page(port: &Port) -> String {
    String::from_utf8(get(&port.address(), "/metrics")).unwrap()
}

fn bytes(view: &Value) -> (u64, u64) {
    let of = |key: &str| view[key].as_u64().unwrap_or_else(|| panic!("no {key}: {view}"));
    (of("wireOutBytes"), of("wireInBytes"))
}

fn of_node(node: &Node, peer: &str) -> (u64, u64) {
    let nodes = node.ask("GET", "/v1/nodes", "");
    bytes(nodes.as_array().unwrap().iter().find(|view| view["node"] == peer).unwrap())
}

#[test]
fn each_message_and_each_node_shows_its_bytes() {
    let fleet = Fleet::new();
    let port = Port::reserve();
    let central = fleet.node_with("central", &["--prom-host-and-port", &port.address()]);
    let _ship1 = fleet.node("ship1");
    let small = central.send_and_wait(&shell("ship1", "true"));
    let (out, inward) = bytes(&small);
    assert!((100..1500).contains(&out) && (100..1500).contains(&inward), "{out} out, {inward} in");
    // Bytes that can't be compressed: more of them than there are is what they cost on the way.
    let output = "head -c 300000 /dev/urandom";
    let large = central.send_and_wait(&shell("ship1", output));
    assert!((300_000..320_000).contains(&bytes(&large).1), "{large}");
    let mut seed = 1_u64;
    let mut letter = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + (seed >> 33) as u8 % 26)
    };
    let data: String = (0..20_000).map(|_| letter()).collect();
    let long = central.send_and_wait(&shell("ship1", &format!(": {data}")));
    assert!(bytes(&long).0 > bytes(&small).0 + 10_000, "{} and {}", bytes(&long).0, bytes(&small).0);

    let page = page(&port);
    let messages = [&small, &large, &long].map(bytes);
    let (out, inward): (u64, u64) = messages.iter().fold((0, 0), |(o, i), (out, inward)| (o + out, i + inward));
    let of = |direction: &str, class: &str| {
        metric(&page, &format!("steward_wire_bytes_total{{direction=\"{direction}\",class=\"{class}\"}}"))
    };
    assert_eq!(of("out", "commands"), out, "nothing but these three messages went out as commands");
    assert_eq!(of("in", "receipts") + of("in", "outputs") + of("in", "live"), inward);
    let node = |direction: &str| {
        metric(&page, &format!("steward_wire_node_bytes_total{{direction=\"{direction}\",node=\"ship1\"}}"))
    };
    assert!(node("out") > out && node("in") > inward, "a node has more: probes, hellos, confirmations");
    let shown = of_node(&central, "ship1");
    assert!(shown.0 >= node("out") && shown.1 >= node("in"));
    let text = central.cli(&["nodes"]).ok().stdout.clone();
    assert!(text.contains(" OUT ") && text.contains(" IN "), "{text}");
    let text = central.cli(&["show", large["id"].as_str().unwrap()]).ok().stdout.clone();
    assert!(text.lines().any(|line| line.starts_with("link") && line.contains(" out, ")), "{text}");
}

#[test]
fn messages_of_a_batch_share_its_bytes() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    central.send_and_wait(&event("ship1", "TextLogging", &["first"]));
    ship1.kill();
    let line = |n: usize| event("ship1", "TextLogging", &[&format!("line {n}: {}\n", "x".repeat(100))]);
    let ids = central.send_all(&(0..200).map(line).collect::<Vec<_>>());
    ship1.start();
    let views: Vec<Value> = ids.iter().map(|id| central.ended(id)).collect();
    let (out, inward): (u64, u64) = views.iter().map(bytes).fold((0, 0), |(o, i), (out, inward)| (o + out, i + inward));
    // By itself each of them would take more than 500 in either direction.
    assert!(out < 200 * 150 && out > 200 * 10, "{out}");
    assert!(inward < 200 * 150 && inward > 200 * 10, "{inward}");
}

#[test]
fn the_bytes_of_a_message_are_kept_across_a_restart() {
    let fleet = Fleet::new();
    let (mut central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let gate = fleet.file("gate");
    let script = format!("until test -e {}; do sleep 0.01; done; head -c 100000 /dev/urandom", gate.path());
    let id = central.send(&with(shell("ship1", &script), json!({ "methodTimeout": 60 })));
    central.awaits(&id, "running");
    let before = eventually("its bytes are counted", || {
        let view = central.show(&id);
        (view["wireInBytes"].as_u64()? > 0).then(|| bytes(&view))
    });
    central.kill();
    central.start();
    std::fs::write(gate.path(), "").unwrap();
    let after = bytes(&central.ended(&id));
    assert!(after.0 >= before.0 / 2 && after.1 > 100_000, "{before:?} and then {after:?}");
    central.kill();
    let stored: Value = serde_json::from_str(&central.cli(&["show", "--json", &id]).ok().stdout).unwrap();
    assert_eq!(bytes(&stored), after);
}

/// A link of 256 kbit/s: an output takes it for ten seconds, and commands to and fro pass it by.
#[test]
fn commands_overtake_what_is_bulky_on_a_limited_link() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node_with("ship1", &["--link-rate", "256kbit"]));
    central.send_and_wait(&shell("ship1", "true"));
    let output = with(shell("ship1", "head -c 320000 /dev/urandom"), json!({ "parallel": true }));
    let large = central.send(&output);
    central.awaits(&large, "fetching");
    for n in 0..3 {
        let view = central.send_and_wait(&with(shell("ship1", &format!("echo {n}")), json!({ "parallel": true })));
        assert_eq!(view["stdout"], format!("{n}\n"));
        assert_eq!(central.show(&large)["state"], "fetching", "the command {n} came after the output");
    }
    assert_eq!(central.ended(&large)["stdoutBytes"], 320_000);
}

/// The same for what this node sends: a backlog of events for which there is no room soon, and a command behind it.
#[test]
fn a_command_overtakes_a_backlog_of_events_and_the_rate_holds() {
    let fleet = Fleet::new();
    let central = fleet.node_with("central", &["--link-rate", "256kbit"]);
    let _ship1 = fleet.node("ship1");
    central.send_and_wait(&shell("ship1", "true"));
    let mut seed = 7_u64;
    let mut line = || {
        let letters = (0..400).map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + (seed >> 33) as u8 % 90)
        });
        letters.filter(|letter| !matches!(letter, '"' | '\\')).collect::<String>()
    };
    let events: Vec<Value> = (0..1000).map(|_| event("ship1", "TextLogging", &[&line()])).collect();
    let started = std::time::Instant::now();
    let ids = central.send_all(&events);
    central.send_and_wait(&shell("ship1", "echo hi"));
    let last = ids.last().unwrap();
    assert_ne!(central.show(last)["state"], "done", "the events came before the command");
    for id in &ids {
        assert_eq!(central.ended(id)["state"], "done");
    }
    // More than 300 KB that can't be compressed, at 32 KB a second.
    assert!(started.elapsed() > std::time::Duration::from_secs(8), "{:?}", started.elapsed());
    let (out, _) = of_node(&central, "ship1");
    assert!(out < 800_000, "{out} bytes: what waits is not sent twice");
}

#[test]
fn a_rate_that_makes_no_sense_is_refused() {
    let fleet = Fleet::new();
    let node = fleet.node("central");
    let refused = node.cli(&["run", "--node", "other", "--link-rate", "64kb"]);
    assert!(refused.stderr.contains("64kbit") && refused.stderr.contains("link-rate"), "{}", refused.stderr);
}
