//! Nonsense from every side: the node lives, and goes on working (L8, L9, L11, L15).

mod flood;
mod headers;
mod http;
mod links;

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Dice, Fleet, Node, event, eventually, shell, with};

/// So long without a message, and a recording is over.
const QUIET: Duration = Duration::from_millis(300);

fn still_works(central: &Node<'_>, ship: &Node<'_>) {
    let message = central.send_and_wait(&shell(ship.name(), "echo alive"));
    assert_eq!((&message["state"], &message["stdout"]), (&"done".into(), &"alive\n".into()), "{message}");
}

/// L9: nothing to run, an unknown method, arguments of no sense.
#[test]
fn l9_a_message_that_makes_no_sense_is_refused_with_a_reason() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let pid = ship1.pid();
    for (message, reason) in [
        (with(shell("ship1", ""), json!({ "data": [] })), "data"),
        (with(shell("ship1", ""), json!({ "method": "NoSuchMethod" })), "NoSuchMethod"),
        (with(shell("ship1", ""), json!({ "data": [""] })), ""),
        (with(shell("ship1", ""), json!({ "data": ["a\u{0}b"] })), ""),
    ] {
        let refused = central.send_and_wait(&message);
        assert!(refused["state"] == "refused" || refused["state"] == "failed", "{refused}");
        assert!(refused["reason"].as_str().unwrap().contains(reason), "{refused}");
    }
    still_works(&central, &ship1);
    assert!(ship1.runs() && ship1.pid() == pid);
}

/// L9, L11: garbage on every subject that a node listens to.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn l9_garbage_on_every_subject_does_nothing() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    still_works(&central, &ship1);
    let stranger = async_nats::connect(fleet.broker.address()).await.unwrap();
    let bodies: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\xde\xad\xbe\xef".to_vec(),
        b"{".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        br#"{"v":1}"#.to_vec(),
        br#"{"v":99,"from":"central"}"#.to_vec(),
        br#"{"v":1,"from":"central","to":"ship1","receipts":[{"ticket":-1}]}"#.to_vec(),
        format!("[{}", "[".repeat(100_000)).into_bytes(),
        vec![b'x'; 500_000],
    ];
    for node in ["central", "ship1"] {
        let mut subjects: Vec<String> = Vec::new();
        for kind in
            ["CommandACK", "CommandNACK", "EventACK", "EventNACK", "ACK", "CTL", "DATA", "REPLY", "ECHO", "NAME"]
        {
            for last in ["central", "ship1", "stranger", "ShellCommand", "TextLogging", "SayHello", "x.y", "0"] {
                subjects.push(format!("{node}.{kind}.{last}"));
            }
        }
        subjects.extend([format!("{node}.x"), format!("{node}.Nonsense.x"), format!("$STEWARD.hello.{node}")]);
        for subject in subjects {
            for body in &bodies {
                stranger.publish(subject.clone(), body.clone().into()).await.unwrap();
            }
        }
    }
    stranger.flush().await.unwrap();
    still_works(&central, &ship1);
    assert!(central.runs() && ship1.runs());
    // And it is said, but not once for each.
    let lines = ship1.log().lines().count();
    assert!(lines < 200, "{lines} log lines");
}

/// What passed once is sent again and again, also to a node that has been restarted since: nothing runs a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_message_that_is_recorded_and_sent_again_runs_once() {
    let fleet = Fleet::new();
    let stranger = async_nats::connect(fleet.broker.address()).await.unwrap();
    let mut recorded = stranger.subscribe("ship1.>").await.unwrap();
    stranger.flush().await.unwrap();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let command = shell("ship1", &format!("echo ran >> {}", ran.path()));
    central.send_and_wait(&command);
    central.send_and_wait(&with(command, json!({ "commandOrEvent": "CommandNACK" })));
    eventually("both ran", || (ran.lines().len() == 2).then_some(()));
    let mut tape = Vec::new();
    while let Ok(Some(message)) = timeout(QUIET, recorded.next()).await {
        tape.push(message);
    }
    for round in 0..2 {
        for message in tape.iter().cycle().take(20 * tape.len()) {
            let headers = message.headers.clone().unwrap_or_default();
            stranger.publish_with_headers(message.subject.clone(), headers, message.payload.clone()).await.unwrap();
        }
        stranger.flush().await.unwrap();
        still_works(&central, &ship1);
        assert_eq!(ran.lines().len(), 2, "round {round}");
        if round == 0 {
            ship1.kill();
            ship1.start();
        }
    }
}

/// Real traffic with a few bytes changed comes nearest to what could get through.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn l9_traffic_with_bytes_changed_ends_no_process() {
    let fleet = Fleet::new();
    let stranger = async_nats::connect(fleet.broker.address()).await.unwrap();
    let mut recorded = stranger.subscribe(">").await.unwrap();
    stranger.flush().await.unwrap();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    central.send_and_wait(&shell("ship1", "head -c 20000 /dev/urandom"));
    central.send_and_wait(&event("ship1", "TextLogging", &["text"]));
    let cancelled = central.send(&shell("ship1", "sleep 600"));
    central.awaits(&cancelled, "running");
    central.cli(&["cancel", &cancelled]).ok();
    central.ended(&cancelled);
    let mut tape = Vec::new();
    while let Ok(Some(message)) = timeout(QUIET, recorded.next()).await {
        tape.push(message);
    }
    drop(recorded);
    let mut dice = Dice(1);
    for message in tape.iter().cycle().take(5000.max(tape.len())) {
        let mut body = message.payload.to_vec();
        for _ in 0..=dice.throw(3) {
            let place = dice.throw(body.len() as u64 + 1) as usize;
            match (dice.throw(4), body.get_mut(place)) {
                (0, _) => body.truncate(place),
                (1, Some(byte)) => *byte = b'0' + dice.throw(10) as u8,
                (_, Some(byte)) => *byte = dice.throw(256) as u8,
                (_, None) => body.push(dice.throw(256) as u8),
            }
        }
        let headers = message.headers.clone().unwrap_or_default();
        stranger.publish_with_headers(message.subject.clone(), headers, body.into()).await.unwrap();
    }
    stranger.flush().await.unwrap();
    assert!(central.runs() && ship1.runs());
    // Without signatures a changed number may well be believed; so it is with nodes of their own that this is looked at.
    still_works(&central, &fleet.node("ship2"));
    assert_eq!(ship1.send_and_wait(&event("ship1", "TextLogging", &["to itself"]))["state"], "done");
}

/// L11: a receipt that names no message of ours, and an empty message on the subject of receipts, count for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn l11_a_receipt_counts_for_the_message_that_it_names_only() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let stranger = async_nats::connect(fleet.broker.address()).await.unwrap();
    // What a receipt looks like, taken from the wire.
    let mut receipts = stranger.subscribe("central.ACK.ship1").await.unwrap();
    stranger.flush().await.unwrap();
    let first = central.send(&shell("ship1", "echo first"));
    let receipt = receipts.next().await.unwrap();
    assert_eq!(central.ended(&first)["stdout"], "first\n");

    let gate = fleet.file("gate");
    let second = central.send(&shell("ship1", &format!("{}; echo second", gate.awaited())));
    central.awaits(&second, "running");
    let away = central.send(&shell("ship9", "true"));
    // The first one's receipt, again and again, and nothing at all.
    for _ in 0..20 {
        stranger.publish("central.ACK.ship1", receipt.payload.clone()).await.unwrap();
        stranger.publish("central.ACK.ship9", receipt.payload.clone()).await.unwrap();
        stranger.publish("central.ACK.ship1", "".into()).await.unwrap();
    }
    stranger.flush().await.unwrap();
    central.send_and_wait(&event("ship1", "TextLogging", &["behind all of it"]));
    assert_eq!(central.show(&second)["state"], "running");
    assert_eq!(central.show(&away)["state"], "queued");
    gate.create();
    assert_eq!(central.ended(&second)["stdout"], "second\n");
}

/// R5: where the subject and the message disagree, nothing runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_message_on_the_subject_of_another_type_is_dropped() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let stranger = async_nats::connect(fleet.broker.address()).await.unwrap();
    let mut events = stranger.subscribe("ship1.EventACK.TextLogging").await.unwrap();
    stranger.flush().await.unwrap();
    central.send_and_wait(&event("ship1", "TextLogging", &["bash", "-c", "echo ran > ran"]));
    let body = events.next().await.unwrap().payload;
    for subject in ["ship1.CommandACK.ShellCommand", "ship1.CommandACK.TextLogging", "ship1.EventACK.ShellCommand"] {
        stranger.publish(subject, body.clone()).await.unwrap();
    }
    stranger.flush().await.unwrap();
    still_works(&central, &ship1);
    assert_eq!(ship1.read("ran"), "");
    assert_eq!(ship1.read("textlogging.log").lines().count(), 3);
}

/// L8: good ones are accepted, bad ones kept aside with line, column and reason.
#[test]
fn l8_one_bad_array_spoils_nothing_but_itself() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let good = |text: &str| Value::from(vec![event("ship1", "TextLogging", &[text])]).to_string();
    let bad_name = Value::from(vec![event("ship 1", "TextLogging", &["x"])]).to_string();
    // Two arrays in a row without anything between, single objects, a broken one in the middle, a bad name.
    let text = format!(
        "{}{}\n{}\n  [ {{ \"toNode\": \"ship1\", }} ]\n{}\n{bad_name}\n{}",
        good("one"),
        good("two"),
        event("ship1", "TextLogging", &["three"]),
        good("four"),
        good("five"),
    );
    central.append(&text);
    let messages = central.all_ended(5);
    let said: Vec<&str> = messages.iter().map(|message| message["data"][0].as_str().unwrap()).collect();
    assert_eq!(said, ["one", "two", "three", "four", "five"]);
    let rejected = eventually("both bad ones are put aside", || {
        let rejected = central.rejected();
        (rejected.contains("ship 1") && rejected.matches("line").count() >= 2).then_some(rejected)
    });
    assert!(rejected.contains("line 3") && rejected.contains("column"), "{rejected}");
    assert!(rejected.contains("line 5"), "{rejected}");
}

/// L15: long lines are accepted up to the declared limit, and refused aloud beyond it.
#[test]
fn l15_a_long_line_is_accepted_up_to_a_limit_that_is_said() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let long = "x".repeat(70_000);
    let longest = "y".repeat(500_000);
    central.append(&Value::from(vec![event("ship1", "TextLogging", &[&long])]).to_string());
    central.append(&Value::from(vec![event("ship1", "TextLogging", &[&longest])]).to_string());
    central.append(&Value::from(vec![event("ship1", "TextLogging", &[&"z".repeat(600_000)])]).to_string());
    let messages = central.all_ended(2);
    assert!(messages.iter().all(|message| message["state"] == "done"), "{messages:#?}");
    assert_eq!(ship1.read("textlogging.log").trim_end().len(), long.len() + longest.len() + 1);
    eventually("the one beyond the limit is put aside, with the limit", || {
        central.rejected().contains("at most").then_some(())
    });
}
