//! Keys that are renewed while the fleet goes on (R18, R19): nobody is stranded by it, and what is old is good for nothing afterwards.

#[cfg(feature = "crash-points")]
mod killed;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::enrolment::{invite, join, made, standing, steward};
use crate::harness::{Fleet, Node, Ran, event, eventually, run, shell, with};

/// A node that has joined; it does not run yet.
fn joined<'f>(fleet: &'f Fleet, central: &Node<'_>, name: &str) -> Node<'f> {
    let token = invite(central, &[name]);
    let node = fleet.absent(name, &[]);
    run(fleet.dir(), &mut join(fleet, node.dir(), &token)).ok();
    node
}

/// The key of a node, as it has it itself.
fn key(node: &Node<'_>) -> String {
    node.ask("GET", "/v1/keys", "")["key"].as_str().unwrap().to_owned()
}

/// The key of a node, as central has it.
fn key_of(central: &Node<'_>, name: &str) -> String {
    standing(central, name)["key"].as_str().unwrap_or_default().to_owned()
}

/// Waits until a node, central and the disk agree that nothing is under way; the key that it has then.
fn settled(central: &Node<'_>, node: &Node<'_>) -> String {
    eventually("the renewal has come to its end", || {
        let keys = node.ask("GET", "/v1/keys", "");
        let is_over = keys["state"] == "current" && keys["key"] == *key_of(central, node.name());
        let is_clean = !["identity.next", "identity.previous"].iter().any(|folder| node.dir().join(folder).exists());
        (is_over && is_clean && standing(central, node.name())["renewal"].is_null())
            .then(|| keys["key"].as_str().unwrap().to_owned())
    })
}

/// A copy of a node's directory, as somebody has it who was there before.
fn copied(node: &Node<'_>, to: &Path) {
    run(node.dir(), std::process::Command::new("cp").arg("-a").arg(node.dir().join(".")).arg(to)).ok();
    // What only the running process can have.
    for file in ["steward.lock", "steward.sock", "steward.db", "steward.db-wal", "steward.db-shm", "revoked.jwt"] {
        fs::remove_file(to.join(file)).ok();
    }
}

fn rotate(node: &Node<'_>, args: &[&str]) -> Ran {
    run(node.dir().parent().unwrap(), steward(node.dir(), &["rotate"]).args(args))
}

#[test]
fn keys_are_renewed_while_messages_flow_both_ways() {
    const MESSAGES: usize = 400;
    let fleet = Fleet::without_broker();
    let (mut central, _broker) = made(&fleet);
    central.start();
    let mut ship1 = joined(&fleet, &central, "ship1");
    ship1.start();
    assert_eq!(central.send_and_wait(&shell("ship1", "echo in"))["stdout"], "in\n");
    let keys = [key(&central), key(&ship1)];
    let lines: Vec<String> = (0..MESSAGES).map(|number| format!("line {number}\n")).collect();
    // Every second one is sealed, also for keys that are just being replaced.
    let sealed = |number: usize, message: Value| with(message, json!({ "seal": number.is_multiple_of(2) }));
    let send = |node: &Node<'_>, to: &str| -> Vec<String> {
        let message = |(number, line): (usize, &String)| sealed(number, event(to, "TextLogging", &[line]));
        lines.iter().enumerate().map(|line| node.send(&message(line))).collect()
    };
    let sent: Vec<(&Node<'_>, Vec<String>)> = std::thread::scope(|scope| {
        let down = scope.spawn(|| send(&central, "ship1"));
        let up = scope.spawn(|| send(&ship1, "central"));
        let commands = scope.spawn(|| {
            let message = |number: usize| shell("ship1", &format!("echo {number} >> ran"));
            let command = |number: usize| central.send(&sealed(number, message(number)));
            (0..40).map(command).collect::<Vec<_>>()
        });
        for _ in 0..3 {
            let renewed = rotate(&ship1, &[]).ok();
            assert!(renewed.stdout.contains("this node has new keys since"), "{renewed:?}");
            rotate(&central, &[]).ok();
        }
        vec![(&central, down.join().unwrap()), (&ship1, up.join().unwrap()), (&central, commands.join().unwrap())]
    });
    for (node, id) in sent.iter().flat_map(|(node, ids)| ids.iter().map(move |id| (node, id))) {
        assert_eq!(node.ended(id)["state"], "done");
    }
    for node in [&central, &ship1] {
        assert_eq!(node.read("textlogging.log"), lines.concat(), "every line once, in order");
    }
    assert_eq!(ship1.read("ran"), (0..40).map(|number| format!("{number}\n")).collect::<String>());
    assert!(key(&central) != keys[0] && settled(&central, &ship1) != keys[1]);
    // What was signed with keys that are gone now is still what they have signed.
    let commands = &sent[2].1;
    for id in commands {
        let ran = central.cli(&["verify", id]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    // Both are known under their new keys after a restart as well.
    for node in [&mut central, &mut ship1] {
        node.kill();
        node.start();
    }
    assert_eq!(central.send_and_wait(&shell("ship1", "echo again"))["stdout"], "again\n");
}

#[test]
fn a_node_that_is_away_gets_in_with_its_old_keys_and_renews_them_then() {
    let fleet = Fleet::without_broker();
    let (mut central, _broker) = made(&fleet);
    central.start();
    let (mut ship1, mut ship2) = (joined(&fleet, &central, "ship1"), joined(&fleet, &central, "ship2"));
    for ship in [&mut ship1, &mut ship2] {
        ship.start();
        central.sees(ship.name(), "online");
    }
    let (first, second) = (key(&ship1), key(&ship2));
    ship2.kill();
    let asked = rotate(&central, &["--all", "--json"]).ok();
    let asked: Vec<Value> = asked.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(asked.iter().map(|asked| asked["node"].as_str().unwrap()).collect::<Vec<_>>(), ["ship1", "ship2"]);
    assert_ne!(settled(&central, &ship1), first);
    assert!(standing(&central, "ship1")["renewed"].is_string());
    let waits = standing(&central, "ship2");
    assert_eq!((&waits["renewal"], &waits["key"]), (&"asked".into(), &Value::from(second.as_str())));
    // Central has another key as well when it comes back.
    rotate(&central, &[]).ok();
    let late = rotate(&central, &["--node", "ship2", "--timeout", "300ms"]);
    assert!(late.code == 1 && late.stderr.contains("the request waits for it"), "{late:?}");
    ship2.start();
    let renewed = settled(&central, &ship2);
    assert_ne!(renewed, second);
    for ask in &asked {
        assert_eq!(central.ended(ask["id"].as_str().unwrap())["state"], "done");
    }
    // The second request was about the key that has gone, so it does nothing more.
    central.all_ended(3);
    assert_eq!(settled(&central, &ship2), renewed);
    assert_eq!(central.send_and_wait(&shell("ship2", "echo back"))["stdout"], "back\n");
    let told = central.cli(&["nodes"]).ok();
    assert!(told.stdout.matches("new keys since").count() == 2, "{}", told.stdout);
}

#[test]
fn a_node_that_does_not_run_renews_its_keys_and_a_stolen_copy_of_the_old_ones_gets_nowhere() {
    let fleet = Fleet::without_broker();
    let (mut central, _broker) = made(&fleet);
    central.start();
    let mut ship1 = joined(&fleet, &central, "ship1");
    let before = key_of(&central, "ship1");
    let mut thief = fleet.absent_in("stolen", "ship1", &[]);
    copied(&ship1, thief.dir());
    let renewed = rotate(&ship1, &["--json"]).ok();
    let renewed: Value = serde_json::from_str(&renewed.stdout).unwrap();
    assert!(renewed["key"] != *before && renewed["key"] == *key_of(&central, "ship1"), "{renewed}");
    ship1.start();
    assert_eq!(settled(&central, &ship1), renewed["key"]);
    assert_eq!(central.send_and_wait(&shell("ship1", "echo mine"))["stdout"], "mine\n");
    eventually("the broker was told", || central.read("revoked.jwt").contains("eyJ").then_some(()));
    // Neither in as the node nor to new keys of its own.
    let out = run(fleet.dir(), &mut steward(thief.dir(), &["rotate", "--timeout", "2s"]));
    assert!(out.code == 1 && out.stderr.contains("does not let this node in"), "{out:?}");
    thief.start();
    eventually("it is kept out", || {
        let state = thief.ask("GET", "/v1/info", "")["linkState"].as_str().unwrap().to_owned();
        ["unauthorized", "revoked"].contains(&state.as_str()).then_some(())
    });
    assert_eq!(central.send_and_wait(&shell("ship1", "echo still mine"))["stdout"], "still mine\n");
    // Where the fleet's keys lie, nobody answers while nobody runs.
    central.kill();
    let alone = rotate(&central, &[]);
    assert!(alone.code == 1 && alone.stderr.contains("steward up"), "{alone:?}");
    let nobody = run(fleet.dir(), &mut steward(&fleet.dir().join("ship1"), &["rotate", "--all"]));
    assert!(nobody.code == 1 && nobody.stderr.contains("where the fleet was made"), "{nobody:?}");
}

/// With a broker that everybody can listen to: what is recorded is good for nothing, and the receivers alone keep out what is old.
#[test]
fn a_recorded_renewal_does_nothing_and_old_signatures_are_refused_past_the_broker() {
    let fleet = Fleet::without_broker();
    fleet.broker.start();
    let mut central = fleet.absent("central", &[]);
    run(fleet.dir(), steward(central.dir(), &["init", "--external", "--broker-address"]).arg(fleet.broker.address()))
        .ok();
    central.start();
    let mut ship1 = joined(&fleet, &central, "ship1");
    ship1.start();
    central.sees("ship1", "online");
    let mut thief = fleet.absent_in("stolen", "ship1", &[]);
    copied(&ship1, thief.dir());
    let before = key(&ship1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (client, mut words) = runtime.block_on(async {
        let client = async_nats::connect(fleet.broker.address()).await.unwrap();
        let words = client.subscribe("$STEWARD.ask.ship1").await.unwrap();
        client.flush().await.unwrap();
        (client, words)
    });
    rotate(&ship1, &[]).ok();
    let after = settled(&central, &ship1);
    assert_ne!(after, before);
    let list =
        eventually("the old key is revoked", || Some(central.read("revoked.jwt")).filter(|list| list.contains("eyJ")));
    let played: Vec<Value> = runtime.block_on(async {
        use futures_util::StreamExt as _;
        let mut played = Vec::new();
        while let Ok(Some(word)) = tokio::time::timeout(std::time::Duration::from_secs(2), words.next()).await {
            if played.len() < 100 {
                client.publish("$STEWARD.ask.ship1", word.payload.clone()).await.unwrap();
            }
            played.push(serde_json::from_slice(&word.payload).unwrap_or(Value::Null));
            if played.len() >= 50 {
                break;
            }
        }
        client.flush().await.unwrap();
        played
    });
    assert!(played.iter().any(|word| word["renew"].is_object()) && played.iter().any(|word| word["using"].is_object()));
    // And the old keys ask for new ones, which is answered, and refused.
    let out = run(fleet.dir(), &mut steward(thief.dir(), &["rotate", "--timeout", "20s"]));
    assert!(out.code == 1 && out.stderr.contains("its files are old"), "{out:?}");
    assert_eq!((settled(&central, &ship1), central.read("revoked.jwt")), (after, list));
    ship1.kill();
    thief.start();
    let id = thief.send(&event("central", "TextLogging", &["forged\n"]));
    eventually("it is refused, with the reason", || central.log().contains("is revoked").then_some(()));
    assert_eq!(central.read("textlogging.log"), "");
    assert_ne!(thief.show(&id)["state"], "done");
    thief.kill();
    ship1.start();
    assert_eq!(ship1.send_and_wait(&event("central", "TextLogging", &["genuine\n"]))["state"], "done");
}

/// Both sides are killed again and again while a node renews its keys; nothing is decided by when.
#[test]
fn a_renewal_survives_kills_of_both_sides() {
    let fleet = Fleet::without_broker();
    let (mut central, _broker) = made(&fleet);
    central.start();
    let mut ship1 = joined(&fleet, &central, "ship1");
    ship1.start();
    assert_eq!(central.send_and_wait(&shell("ship1", "echo in"))["stdout"], "in\n");
    let before = key(&ship1);
    for round in 0..6 {
        ship1.ask("POST", "/v1/keys/renew", "");
        let folders = ["identity.next/renews", "identity.next/node.cert", "identity.previous"];
        let folder = ship1.dir().join(folders[round % folders.len()]);
        // Which of them are caught in the middle, the machine decides.
        eventually("it has begun", || (folder.exists() || key_of(&central, "ship1") != before).then_some(()));
        let killed: &mut Node<'_> = if round < 3 { &mut ship1 } else { &mut central };
        killed.kill();
        killed.start();
    }
    let after = settled(&central, &ship1);
    assert_ne!(after, before);
    assert_eq!(central.send_and_wait(&shell("ship1", "echo whole"))["stdout"], "whole\n");
}

#[test]
fn the_broker_gets_a_new_certificate_and_nobody_has_to_do_anything() {
    let fleet = Fleet::without_broker();
    let (mut central, _broker) = made(&fleet);
    central.start();
    let mut ship1 = joined(&fleet, &central, "ship1");
    ship1.start();
    central.sees("ship1", "online");
    let old = central.read("fleet/server.pem");
    let renewed = rotate(&central, &["--broker"]).ok();
    assert!(renewed.stdout.contains("the broker has a new certificate"), "{renewed:?}");
    assert_ne!(central.read("fleet/server.pem"), old);
    let broker_log = || fs::read_to_string(fleet.dir().join("broker.log")).unwrap_or_default();
    eventually("it was told", || broker_log().contains("Reloaded: tls").then_some(()));
    // Who connects now sees the new one, and believes it.
    ship1.kill();
    ship1.start();
    assert_eq!(central.send_and_wait(&shell("ship1", "echo in"))["stdout"], "in\n");
    let row = central.json(&["ps"]).into_iter().find(|row| row["kind"] == "tls").unwrap();
    assert_eq!(row["state"], "good");
    // Killed between the two files of the new one: they don't go together, and that is seen at the next start.
    let settings = central.read("fleet/fleet.toml");
    let lines: Vec<&str> = settings.lines().filter(|line| !line.starts_with("tlsUntilMs")).collect();
    fs::write(central.dir().join("fleet/fleet.toml"), lines.join("\n")).unwrap();
    let row = central.json(&["ps"]).into_iter().find(|row| row["kind"] == "tls").unwrap();
    assert_eq!(row["state"], "ended");
    assert!(row["note"].as_str().unwrap().contains("steward rotate --broker"), "{row}");
}
