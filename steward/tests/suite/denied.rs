//! What the broker does not permit (R19), with a nats-server whose users have permissions: the client is told of it only
//! aside, and the messages wait. It is seen where somebody looks, and over when the permissions are mended.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Fleet, Node, Port, eventually, get, shell, stays, with};

/// A broker at which `central` has these permissions, and everybody else all.
fn permits(fleet: &Fleet, permissions: &str) {
    let users =
        format!("{{ user: central, password: p, permissions: {{ {permissions} }} }}, {{ user: ship, password: p }}");
    fleet.broker.configure(&format!("authorization {{ users: [ {users} ] }}\n"));
}

fn login(fleet: &Fleet, user: &str) -> String {
    format!("--broker-address=nats://{user}:p@{}", fleet.broker.address())
}

/// What `ps` says of this lane or subject.
fn line(node: &Node<'_>, name: &str) -> Option<Value> {
    let all = node.ask("GET", "/v1/ps", "");
    all.as_array().unwrap().iter().find(|process| process["name"] == name).cloned()
}

fn is_denied(node: &Node<'_>, name: &str, words: &str) {
    eventually(&format!("{name} is shown as denied"), || {
        let line = line(node, name)?;
        (line["state"] == "denied" && line["note"].as_str()?.contains(words)).then_some(())
    });
}

fn denied_subjects(address: &str) -> usize {
    let page = String::from_utf8(get(address, "/metrics")).unwrap();
    let value = page.lines().find_map(|line| line.strip_prefix("steward_link_denied_subjects ")).unwrap();
    value.parse::<f64>().unwrap() as usize
}

#[test]
fn a_message_that_the_broker_does_not_permit_waits_says_why_and_leaves_when_it_does() {
    let fleet = Fleet::without_broker();
    permits(&fleet, "publish: { deny: [\"ship1.CommandACK.>\"] }, subscribe: \">\"");
    fleet.broker.start();
    let port = Port::reserve();
    let metrics = port.address();
    let central = fleet.node_with("central", &[&login(&fleet, "central"), "--prom-host-and-port", &metrics]);
    let _ship1 = fleet.node_with("ship1", &[&login(&fleet, "ship")]);
    let quick = json!({ "timeout": 0.2 });
    let id = central.send(&with(shell("ship1", "echo at last"), quick));
    let few = central.send(&with(shell("ship1", "echo never"), json!({ "timeout": 0.2, "retries": 2 })));
    let (subject, words) = ("ship1.CommandACK.ShellCommand", "does not permit this node to publish to");
    is_denied(&central, subject, words);
    eventually("the message says so", || {
        let reason = central.show(&id)["reason"].as_str()?.to_owned();
        (reason.contains(words) && reason.contains(subject) && reason.contains("docs/wire.md")).then_some(())
    });
    let shown = central.cli(&["show", &id]).ok().stdout;
    assert!(shown.contains(words), "{shown}");
    let shown = central.cli(&["ps"]).ok().stdout;
    assert!(shown.contains("denied") && shown.contains(words), "{shown}");
    assert_eq!(denied_subjects(&metrics), 1);
    let told = || central.errors_of("central").into_iter().filter(|error| error.contains(subject)).count();
    eventually("it is told to the central error log", || (told() == 1).then_some(()));
    // What is to be tried so often is, nothing else waits with it, and it is told once however often it is tried.
    assert_eq!(central.ended(&few)["state"], "undeliverable");
    let event = crate::harness::event("ship1", "TextLogging", &["x"]);
    assert_eq!(central.send_and_wait(&event)["state"], "done");
    let before = central.show(&id)["attempts"].as_u64().unwrap();
    eventually("it is tried again", || (central.show(&id)["attempts"].as_u64()? > before + 1).then_some(()));
    assert_eq!(told(), 1);
    // Mended while everybody stays connected.
    permits(&fleet, "publish: \">\", subscribe: \">\"");
    fleet.broker.signal(Signal::HUP);
    assert_eq!(central.ended(&id)["stdout"], "at last\n");
    assert_eq!(central.send_and_wait(&shell("ship1", "echo more"))["stdout"], "more\n");
    eventually("nothing is denied any more", || {
        let is_over = line(&central, subject).is_none_or(|line| line["state"] != "denied");
        (is_over && line(&central, "broker")?["note"].is_null() && denied_subjects(&metrics) == 0).then_some(())
    });
}

#[test]
fn a_node_that_may_not_be_asked_whether_it_is_there_is_told_as_that() {
    let fleet = Fleet::without_broker();
    permits(&fleet, "publish: { deny: [\"ship9.>\"] }, subscribe: \">\"");
    fleet.broker.start();
    let central = fleet.node_with("central", &[&login(&fleet, "central")]);
    let id = central.send(&shell("ship9", "true"));
    is_denied(&central, "ship9.CTL.central", "publish to \"ship9.CTL.central\"");
    eventually("the message says so", || {
        central.show(&id)["reason"].as_str()?.contains("publish to \"ship9.CTL.central\"").then_some(())
    });
    // Who does not wait for that node is told nothing of it.
    let other = central.send(&shell("ship8", "true"));
    assert!(!central.show(&other)["reason"].as_str().unwrap().contains("permit"));
}

#[test]
fn a_subscription_that_the_broker_does_not_permit_is_seen_and_over_with_the_next_connection() {
    let fleet = Fleet::without_broker();
    permits(&fleet, "publish: \">\", subscribe: { deny: [\"$STEWARD.>\"] }");
    fleet.broker.start();
    let central = fleet.node_with("central", &[&login(&fleet, "central")]);
    let _ship1 = fleet.node_with("ship1", &[&login(&fleet, "ship")]);
    assert_eq!(central.send_and_wait(&shell("ship1", "echo all the same"))["stdout"], "all the same\n");
    // Whether a node comes that a message waits for.
    central.send(&shell("ship9", "true"));
    let subject = "$STEWARD.hello.ship9";
    is_denied(&central, subject, "subscribe to \"$STEWARD.hello.ship9\"");
    stays("it is up, and the subject is denied", &(true, true), || {
        (line(&central, "broker").unwrap()["state"] == "up", line(&central, subject).is_some())
    });
    fleet.broker.stop();
    permits(&fleet, "publish: \">\", subscribe: \">\"");
    fleet.broker.start();
    eventually("it is over", || line(&central, subject).is_none().then_some(()));
}
