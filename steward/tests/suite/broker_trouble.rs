//! A broker that is away, comes late, freezes or forgets (R1, R2, L3, L4, L5).

use serde_json::{Value, json};

use crate::harness::{Fleet, eventually, shell, with};

fn numbered(from: usize, to: usize, path: &str) -> Vec<Value> {
    (from..to)
        .map(|number| with(shell("ship1", &format!("echo {number} >> {path}")), json!({ "timeout": 0.3 })))
        .collect()
}

/// L3: each once, in order, however often the broker goes while they are on their way.
#[test]
fn l3_messages_sent_while_the_broker_comes_and_goes_run_once_and_in_order() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    for round in 0..4 {
        central.send_all(&numbered(round * 25, (round + 1) * 25, ran.path()));
        eventually("some have run", || (ran.lines().len() > round * 10).then_some(()));
        fleet.broker.stop();
        central.send_all(&numbered(100 + round * 5, 100 + (round + 1) * 5, "/dev/null"));
        fleet.broker.start();
    }
    let messages = central.all_ended(120);
    assert!(messages.iter().all(|message| message["state"] == "done"), "{messages:#?}");
    let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(ran.lines(), expected);
}

/// L4: it goes on trying, and says so once.
#[test]
fn l4_a_broker_that_is_away_for_long_costs_a_few_log_lines() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    central.send_and_wait(&shell("ship1", "true"));
    let lines = |log: String| log.lines().count();
    let before = lines(central.log()) + lines(ship1.log());
    fleet.broker.stop();
    let id = central.send(&shell("ship1", "echo back"));
    eventually("both say that the broker is away", || {
        let says = |log: String| log.lines().skip(1).any(|line| line.to_lowercase().contains("broker"));
        (says(central.log()) && says(ship1.log())).then_some(())
    });
    fleet.broker.is_knocked_at(20);
    let during = lines(central.log()) + lines(ship1.log()) - before;
    assert!(during <= 6, "{during} lines while the broker was away:\n{}", central.log());
    fleet.broker.start();
    let message = central.ended(&id);
    assert_eq!((&message["state"], &message["stdout"]), (&"done".into(), &"back\n".into()), "{message}");
}

/// L5: no broker at the start.
#[test]
fn l5_nodes_that_start_before_their_broker_work_when_it_comes() {
    let fleet = Fleet::without_broker();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let id = central.send(&shell("ship1", "echo hello"));
    for node in [&central, &ship1] {
        eventually("it says that there is no broker", || node.log().contains(&fleet.broker.address()).then_some(()));
    }
    assert_eq!(central.show(&id)["state"], "queued");
    fleet.broker.start();
    let message = central.ended(&id);
    assert_eq!((&message["state"], &message["stdout"]), (&"done".into(), &"hello\n".into()), "{message}");
}

/// A connection that is open and dead: nothing says so but our own heartbeat and timeouts.
#[test]
fn a_broker_that_freezes_for_a_while_loses_nothing() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    central.send_and_wait(&shell("ship1", "true"));
    fleet.broker.freeze();
    let ids = central.send_all(&numbered(0, 20, ran.path()));
    central.sees("ship1", "silent");
    assert!(ids.iter().all(|id| central.show(id)["finishedAt"].is_null()));
    fleet.broker.thaw();
    central.all_ended(21);
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(ran.lines(), expected);
}

/// A broker that freezes and is then replaced: what was written into the dead connection is gone.
#[test]
fn a_broker_that_freezes_and_dies_loses_nothing() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    central.send_and_wait(&shell("ship1", "true"));
    fleet.broker.freeze();
    central.send_all(&numbered(0, 20, ran.path()));
    fleet.broker.stop();
    fleet.broker.start();
    central.all_ended(21);
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(ran.lines(), expected);
}

/// The broker's limit is read, not guessed: what is larger than one publish goes in pieces or is refused aloud.
#[test]
fn a_broker_with_a_small_max_payload_is_respected() {
    let fleet = Fleet::with_broker("max_payload: 32768\n");
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let many: Vec<Value> =
        (0..200).map(|number| shell("ship1", &format!("echo {number} {}", "x".repeat(2000)))).collect();
    central.send_all(&many);
    let messages = central.all_ended(200);
    assert!(messages.iter().all(|message| message["state"] == "done"), "{messages:#?}");
    let large = central.send_and_wait(&shell("ship1", "head -c 300000 /dev/zero | tr '\\0' x"));
    assert_eq!(large["stdoutBytes"], 300_000, "{}", large["state"]);
    // Compressible or not: a message that can never pass says so, and the lane behind it goes on.
    let noise: String = (0..60_000_u64).map(|n| char::from(b'!' + (n.wrapping_mul(n) % 89) as u8)).collect();
    let too_large = central.send(&shell("ship1", &format!(": '{}'", noise.replace(['\'', '\\'], "."))));
    let behind = central.send(&shell("ship1", "true"));
    let too_large = central.ended(&too_large);
    assert!(too_large["state"] == "done" || too_large["reason"].is_string(), "{too_large}");
    assert_eq!(central.ended(&behind)["state"], "done");
}
