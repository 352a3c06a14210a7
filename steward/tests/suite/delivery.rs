//! Messages arrive, once, in their order, and nobody waits for somebody else (R1, R2, R7, R8, R12, R13).

use serde_json::{Value, json};

use crate::harness::{Fleet, event, eventually, shell, stays, with};

/// L1: the ACK timeout counts to the first receipt, not to the end of the command.
#[test]
fn l1_a_command_that_outlives_its_ack_timeout_runs_once() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    // Ten timeouts long, and fewer retries than that.
    let slow = shell("ship1", &format!("echo ran >> {}; sleep 2", ran.path()));
    let message = central.send_and_wait(&with(slow, json!({ "timeout": 0.2, "retries": 3 })));
    assert_eq!(message["state"], "done", "{message}");
    assert_eq!(ran.lines(), ["ran"]);
}

/// R1, R2: a node that nobody has ever heard of gets its message when it comes.
#[test]
fn a_node_that_is_away_gets_its_messages_when_it_comes() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let id = central.send(&shell("ship1", "echo hello"));
    let waiting = eventually("it says that nobody listens", || {
        let message = central.show(&id);
        message["reason"].as_str().is_some_and(|reason| reason.contains("away")).then_some(message)
    });
    assert_eq!(waiting["state"], "queued", "{waiting}");
    let _ship1 = fleet.node("ship1");
    let message = central.ended(&id);
    assert_eq!((&message["state"], &message["stdout"]), (&"done".into(), &"hello\n".into()), "{message}");
}

/// The wake-up is an announcement, not the next try: a minute of backoff must not be felt.
#[test]
fn a_node_that_comes_back_is_not_kept_waiting() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    central.send_and_wait(&shell("ship1", "true"));
    assert_eq!(ship1.terminate(), 0);
    let id = central.send(&with(shell("ship1", "true"), json!({ "timeout": 600 })));
    central.awaits(&id, "queued");
    ship1.start();
    central.ended(&id);
}

/// L13, R7: two nodes that are away and a command that hangs hold up nobody else.
#[test]
fn l13_lanes_and_nodes_never_wait_for_each_other() {
    let fleet = Fleet::new();
    let (central, _ship1, _ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    let gate = fleet.file("gate");
    let mut messages: Vec<Value> = Vec::new();
    for away in ["ship8", "ship9"] {
        messages.extend((0..50).map(|_| shell(away, "true")));
    }
    let away = central.send_all(&messages);
    let hanging = central.send(&shell("ship1", &gate.awaited()));
    central.awaits(&hanging, "running");
    let parallel = central.send_and_wait(&with(shell("ship1", "true"), json!({ "parallel": true })));
    assert_eq!(parallel["state"], "done", "it need not wait for the end of the one before it: {parallel}");
    let behind = central.send(&shell("ship1", "true"));
    central.awaits(&behind, "stored");

    let other_lane = central.send_and_wait(&event("ship1", "TextLogging", &["past the command that hangs"]));
    assert_eq!(other_lane["state"], "done", "{other_lane}");
    let other_node = central.send_and_wait(&shell("ship2", "true"));
    assert_eq!(other_node["state"], "done", "{other_node}");
    assert_eq!(central.show(&behind)["state"], "stored", "in its own lane it waits");

    gate.create();
    for id in [hanging, behind] {
        assert_eq!(central.ended(&id)["state"], "done");
    }
    assert!(away.iter().all(|id| central.show(id)["state"] == "queued"));
}

/// L14: the messages of a lane start in the order in which they were accepted.
#[test]
fn l14_two_hundred_commands_run_in_their_order() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let numbers: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let commands: Vec<Value> =
        numbers.iter().map(|number| shell("ship1", &format!("echo {number} >> {}", ran.path()))).collect();
    // In several files, as several people would.
    for some in commands.chunks(40) {
        central.append(&format!("{}\n", Value::from(some)));
    }
    central.all_ended(200);
    assert_eq!(ran.lines(), numbers);
}

/// L16, R13: the receiver limits whom it takes commands from; the sender is told.
#[test]
fn l16_a_refused_sender_is_told() {
    let fleet = Fleet::new();
    let (central, ship1, ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    let ran = fleet.file("ran");
    let refused = ship2.send_and_wait(&shell("ship1", &format!("echo ran >> {}", ran.path())));
    assert_eq!(refused["state"], "refused", "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("ship2"), "{refused}");
    assert!(refused["exitCode"].is_null(), "{refused}");
    assert_eq!(ran.lines(), Vec::<String>::new());
    assert_eq!(ship2.cli(&["send", "ship1", "--", "true"]).code, 126);
    // Events are taken from everybody, and central's commands too.
    assert_eq!(ship2.send_and_wait(&event("ship1", "TextLogging", &["x"]))["state"], "done");
    assert_eq!(central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    drop(ship1);
}

/// R13: any node may send to any node that lets it.
#[test]
fn a_rule_lets_one_sender_run_one_method() {
    let fleet = Fleet::new();
    let _ship1 = fleet.node_with("ship1", &["--allow=ship2:ShellCommand"]);
    let (ship2, ship3) = (fleet.node("ship2"), fleet.node("ship3"));
    assert_eq!(ship2.send_and_wait(&shell("ship1", "true"))["state"], "done");
    assert_eq!(ship3.send_and_wait(&shell("ship1", "true"))["state"], "refused");
}

#[test]
fn a_node_may_send_to_itself() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let message = central.send_and_wait(&shell("central", "echo me"));
    assert_eq!((&message["state"], &message["stdout"]), (&"done".into(), &"me\n".into()), "{message}");
}

#[test]
fn a_command_that_fails_says_how() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let failed = central.send_and_wait(&shell("ship1", "echo out; echo err >&2; exit 7"));
    assert_eq!(failed["state"], "failed", "{failed}");
    assert_eq!(failed["exitCode"], 7, "{failed}");
    assert_eq!((&failed["stdout"], &failed["stderr"]), (&"out\n".into(), &"err\n".into()), "{failed}");
    let killed = central.send_and_wait(&shell("ship1", "kill -KILL $$"));
    assert_eq!((&killed["state"], &killed["signal"]), (&"failed".into(), &9.into()), "{killed}");
    let no_such = with(shell("ship1", ""), json!({ "data": ["/no/such/program"] }));
    let no_such = central.send_and_wait(&no_such);
    assert_eq!(no_such["state"], "failed", "{no_such}");
    assert!(no_such["reason"].as_str().unwrap().contains("/no/such/program"), "{no_such}");
}

#[test]
fn a_command_that_takes_too_long_is_stopped_with_all_that_it_started() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let before = fleet.processes().len();
    let slow = shell("ship1", "echo begun; sleep 600 & sleep 600");
    let message = central.send_and_wait(&with(slow, json!({ "methodTimeout": 0.5 })));
    assert_eq!(message["state"], "timed_out", "{message}");
    assert_eq!(message["stdout"], "begun\n", "what it said until then is kept: {message}");
    eventually("nothing of it is left", || (fleet.processes().len() == before).then_some(()));
}

#[test]
fn a_message_without_a_receiver_is_given_up_after_its_retries() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let message = event("nowhere", "TextLogging", &["x"]);
    let message = central.send_and_wait(&with(message, json!({ "timeout": 0.1, "retries": 2 })));
    assert_eq!(message["state"], "undeliverable", "{message}");
}

#[test]
fn what_is_not_started_by_its_deadline_never_starts() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (gate, ran) = (fleet.file("gate"), fleet.file("ran"));
    let first = central.send(&shell("ship1", &gate.awaited()));
    let late = shell("ship1", &format!("echo ran >> {}", ran.path()));
    let late = central.send(&with(late, json!({ "deadline": 1 })));
    let away = central.send(&with(shell("ship9", "true"), json!({ "deadline": 1 })));
    assert_eq!(central.ended(&away)["state"], "expired");
    assert_eq!(central.ended(&late)["state"], "expired", "while the one before it still runs");
    gate.create();
    assert_eq!(central.ended(&first)["state"], "done");
    assert_eq!(central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    assert_eq!(ran.lines(), Vec::<String>::new());
}

/// Cancel: queued here, waiting there, and running.
#[test]
fn a_message_can_be_taken_back_at_any_time() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let before = fleet.processes().len();
    let running = central.send(&shell("ship1", "sleep 600 & sleep 600"));
    central.awaits(&running, "running");
    let stored = central.send(&shell("ship1", &format!("echo ran >> {}", ran.path())));
    central.awaits(&stored, "stored");
    let queued = central.send(&shell("ship9", "true"));
    for id in [&queued, &stored, &running] {
        central.cli(&["cancel", id]).ok();
        assert_eq!(central.ended(id)["state"], "cancelled");
    }
    eventually("nothing of it is left", || (fleet.processes().len() == before).then_some(()));
    // The lane goes on, and what was taken back stays so.
    assert_eq!(central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    assert_eq!(ran.lines(), Vec::<String>::new());
}

/// R8: the state of each message is its own.
#[test]
fn each_message_has_its_own_state() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let codes = [0, 3, 0, 5];
    let commands: Vec<Value> = codes.iter().map(|code| shell("ship1", &format!("exit {code}"))).collect();
    let ids = central.send_all(&commands);
    for (id, code) in ids.iter().zip(codes) {
        assert_eq!(central.ended(id)["exitCode"], code);
    }
}

/// NACK types wait for the broker, not for the node.
#[test]
fn a_message_without_ack_is_handed_over_once() {
    let fleet = Fleet::without_broker();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let told = with(event("ship1", "TextLogging", &["once"]), json!({ "commandOrEvent": "EventNACK" }));
    let id = central.send(&told);
    stays("it is kept while there is no broker", &Value::from("queued"), || central.show(&id)["state"].clone());
    fleet.broker.start();
    assert_eq!(central.ended(&id)["state"], "sent");
    drop(ship1);
}
