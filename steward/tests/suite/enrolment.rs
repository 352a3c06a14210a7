//! How nodes become members of a fleet and stop being it (R13, R18, R19), with real processes and the fleet's own broker.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Fleet, Node, Process, event, eventually, nats_server, run, shell};

/// The program in this directory, with the nats-server of this machine.
pub(crate) fn steward(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steward"));
    command.arg("--dir").arg(dir).args(args).env("NATS_SERVER_BIN", nats_server());
    command.env("STEWARD_PROM_HOST_AND_PORT", "none");
    command
}

/// A fleet whose broker runs; its central does not yet.
pub(crate) fn made(fleet: &Fleet) -> (Node<'_>, Process) {
    let central = fleet.absent("central", &[]);
    run(fleet.dir(), &mut steward(central.dir(), &["init", "--address", &fleet.broker.address()])).ok();
    let broker = Process::start("broker", fleet.dir(), &mut steward(central.dir(), &["broker"]));
    (central, broker)
}

/// A token for this name.
pub(crate) fn invite(central: &Node<'_>, args: &[&str]) -> String {
    let ran = run(central.dir().parent().unwrap(), steward(central.dir(), &["invite"]).args(args)).ok();
    ran.stdout.trim().to_owned()
}

pub(crate) fn join(fleet: &Fleet, dir: &Path, token: &str) -> Command {
    let file = fleet.dir().join(format!("token-{}", token.len() + token.bytes().map(usize::from).sum::<usize>()));
    fs::write(&file, token).unwrap();
    let mut command = steward(dir, &["join"]);
    command.arg(file);
    command
}

/// What `steward nodes` says of a node.
pub(crate) fn standing(central: &Node<'_>, name: &str) -> Value {
    let ran = run(central.dir().parent().unwrap(), &mut steward(central.dir(), &["nodes", "--json"])).ok();
    let nodes = ran.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    nodes.into_iter().find(|node| node["node"] == name).unwrap_or(Value::Null)["standing"].clone()
}

#[test]
fn a_node_that_is_invited_joins_and_runs_without_a_flag() {
    let fleet = Fleet::without_broker();
    let (mut central, _broker) = made(&fleet);
    central.start();
    let token = invite(&central, &["ship1", "--labels", "site=north", "kind=ferry"]);
    assert_eq!(
        (&standing(&central, "ship1")["state"], &standing(&central, "ship1")["key"]),
        (&"invited".into(), &Value::Null)
    );
    let mut ship1 = fleet.absent("ship1", &[]);
    // From standard input, so that it stands in no list of processes.
    let mut piped = Command::new("sh");
    piped.args(["-c", "printf '%s' \"$TOKEN\" | \"$0\" --dir \"$1\" join -", env!("CARGO_BIN_EXE_steward")]);
    let joined = run(fleet.dir(), piped.arg(ship1.dir()).env("TOKEN", &token)).ok();
    assert!(joined.stdout.contains("ship1 is a node of the fleet now (node); its central is central"), "{joined:?}");
    assert_eq!(standing(&central, "ship1")["state"], "member");
    // Nothing but the directory is said.
    let runs = Process::start("ship1-run", fleet.dir(), &mut steward(ship1.dir(), &["run"]));
    eventually("it runs", || ship1.answers().then_some(()));
    assert_eq!(central.send_and_wait(&shell("ship1", "echo over there"))["stdout"], "over there\n");
    assert_eq!(ship1.send_and_wait(&event("central", "TextLogging", &["back\n"]))["state"], "done");
    assert_eq!(central.read("textlogging.log"), "back\n");
    // A node gives no commands, and nothing of it is left where everybody sees it.
    let log = format!("{}{}", central.log(), fs::read_to_string(fleet.dir().join("ship1-run.log")).unwrap());
    let is_seed = |word: &str| word.len() == 58 && word.starts_with("SU");
    let has_seed = log.split(|c: char| !c.is_ascii_alphanumeric()).any(is_seed);
    assert!(!log.contains(&token[20..60]) && !has_seed, "a secret is in the log");
    let again = run(fleet.dir(), &mut join(&fleet, ship1.dir(), &token));
    assert_eq!(again.code, 1);
    drop(runs);
    let again = run(fleet.dir(), &mut join(&fleet, ship1.dir(), &token));
    assert!(again.code == 1 && again.stderr.contains("is the node ship1 of a fleet already"), "{again:?}");
    ship1.start();
    assert_eq!(central.send_and_wait(&shell("ship1", "echo again"))["stdout"], "again\n");
}

#[test]
fn a_token_that_is_used_copied_altered_expired_or_taken_back_is_refused_with_the_reason() {
    let fleet = Fleet::without_broker();
    let (mut central, _broker) = made(&fleet);
    central.start();
    let token = invite(&central, &["ship1"]);
    run(fleet.dir(), &mut join(&fleet, &fleet.dir().join("ship1"), &token)).ok();
    let copied = run(fleet.dir(), &mut join(&fleet, &fleet.dir().join("thief"), &token));
    assert!(copied.code == 1 && copied.stderr.contains("was used at"), "{copied:?}");
    assert!(copied.stderr.contains("steward revoke ship1"), "{copied:?}");
    assert!(!fleet.dir().join("thief/identity").exists() && !fleet.dir().join("thief/steward.toml").exists());
    eventually("central's log has it", || central.log().contains("was refused").then_some(()));
    let mut altered = token.clone();
    let at = altered.len() / 2;
    altered.replace_range(at..=at, if &token[at..=at] == "A" { "B" } else { "A" });
    let altered = run(fleet.dir(), &mut join(&fleet, &fleet.dir().join("other"), &altered));
    assert!(altered.code == 1 && altered.stderr.contains("not whole"), "{altered:?}");
    let short = run(fleet.dir(), &mut join(&fleet, &fleet.dir().join("other"), &token[..100]));
    assert!(short.code == 1 && short.stderr.contains("not whole"), "{short:?}");
    let late = invite(&central, &["ship2", "--expires", "1ms"]);
    let late = run(fleet.dir(), &mut join(&fleet, &fleet.dir().join("ship2"), &late));
    assert!(late.code == 1 && late.stderr.contains("expired at"), "{late:?}");
    let back = invite(&central, &["ship3"]);
    run(fleet.dir(), &mut steward(central.dir(), &["invite", "ship3", "--withdraw"])).ok();
    let back = run(fleet.dir(), &mut join(&fleet, &fleet.dir().join("ship3"), &back));
    assert!(back.code == 1 && back.stderr.contains("taken back"), "{back:?}");
    for name in ["ship1", "central"] {
        let taken = run(fleet.dir(), &mut steward(central.dir(), &["invite", name]));
        assert_eq!(taken.code, 1, "{taken:?}");
    }
    let elsewhere = fleet.dir().join("elsewhere");
    let nobody = run(fleet.dir(), &mut steward(&elsewhere, &["invite", "ship4"]));
    assert!(nobody.code == 1 && nobody.stderr.contains("steward init"), "{nobody:?}");
}

#[test]
fn a_node_that_is_revoked_is_thrown_off_and_stays_out() {
    let fleet = Fleet::without_broker();
    let (mut central, _broker) = made(&fleet);
    central.start();
    let (mut ship1, mut ship2) = (fleet.absent("ship1", &[]), fleet.absent("ship2", &[]));
    for ship in [&ship1, &ship2] {
        let token = invite(&central, &[ship.name()]);
        run(fleet.dir(), &mut join(&fleet, ship.dir(), &token)).ok();
    }
    ship1.start();
    assert_eq!(central.send_and_wait(&shell("ship1", "echo in"))["stdout"], "in\n");
    let revoked = run(fleet.dir(), &mut steward(central.dir(), &["revoke", "ship1", "--reason", "stolen"])).ok();
    assert!(revoked.stdout.contains("ship1 is revoked: the broker keeps it out"), "{revoked:?}");
    let out = |ship: &Node<'_>| {
        let state = ship.ask("GET", "/v1/info", "")["linkState"].as_str().unwrap().to_owned();
        ["revoked", "unauthorized"].contains(&state.as_str()).then_some(())
    };
    eventually("it is out", || out(&ship1));
    assert_eq!(
        (&standing(&central, "ship1")["state"], &standing(&central, "ship1")["reason"]),
        (&"revoked".into(), &"stolen".into())
    );
    let told = central.json(&["nodes"]).into_iter().find(|node| node["node"] == "ship1").unwrap();
    assert_eq!(told["presence"], "unknown", "who is out is there for nobody, whatever was heard of it: {told}");
    // Over a restart as well, and also where the node was away, the list comes.
    ship1.kill();
    ship1.start();
    eventually("it stays out", || out(&ship1));
    ship2.start();
    eventually("who was away learns it", || ship2.read("revoked.jwt").contains("eyJ").then_some(()));
    let message = central.send(&shell("ship1", "echo out"));
    let never = central.show(&message);
    assert_ne!(never["state"], "done");
    // And it may come back as a new one.
    ship1.kill();
    fs::remove_dir_all(ship1.dir().join("identity")).unwrap();
    fs::remove_file(ship1.dir().join("steward.toml")).unwrap();
    let token = invite(&central, &["ship1"]);
    run(fleet.dir(), &mut join(&fleet, ship1.dir(), &token)).ok();
    ship1.start();
    assert_eq!(central.ended(&message)["stdout"], "out\n");
}

#[test]
fn a_node_can_be_revoked_while_central_does_not_run() {
    let fleet = Fleet::without_broker();
    let (mut central, _broker) = made(&fleet);
    central.start();
    let mut ship1 = fleet.absent("ship1", &[]);
    let token = invite(&central, &["ship1"]);
    run(fleet.dir(), &mut join(&fleet, ship1.dir(), &token)).ok();
    ship1.start();
    eventually("it is in", || (ship1.ask("GET", "/v1/info", "")["linkState"] == "up").then_some(()));
    central.kill();
    let revoked = run(fleet.dir(), &mut steward(central.dir(), &["revoke", "ship1"])).ok();
    assert!(revoked.stdout.contains("once central runs"), "{revoked:?}");
    eventually("it is out", || (ship1.ask("GET", "/v1/info", "")["linkState"] != "up").then_some(()));
    central.start();
    eventually("central believes it no more", || central.read("revoked.jwt").contains("eyJ").then_some(()));
}

/// Central is killed again and again while a node joins, and so is the node: whatever was written down is answered again.
#[test]
fn a_join_survives_kills_of_both_sides() {
    let fleet = Fleet::without_broker();
    let (mut central, _broker) = made(&fleet);
    let ship1 = fleet.absent("ship1", &[]);
    let token = invite(&central, &["ship1"]);
    // Central is not there yet: it waits, and says so.
    let waits = run(fleet.dir(), join(&fleet, ship1.dir(), &token).args(["--timeout", "4s"]));
    assert!(waits.code == 1 && waits.stderr.contains("central is not"), "{waits:?}");
    let identity = ship1.dir().join("identity");
    for round in 0..10 {
        let mut joining = Process::start(&format!("join{round}"), fleet.dir(), &mut join(&fleet, ship1.dir(), &token));
        central.launch();
        // At once from the second round on, so each round strikes at another moment.
        eventually("central has written it down", || (standing(&central, "ship1")["state"] == "member").then_some(()));
        central.kill();
        joining.kill();
        if identity.exists() {
            break;
        }
    }
    central.start();
    if !identity.exists() {
        run(fleet.dir(), &mut join(&fleet, ship1.dir(), &token)).ok();
    }
    assert!(!ship1.dir().join("identity.joining").exists() || identity.exists());
    let mut ship1 = ship1;
    ship1.start();
    assert_eq!(central.send_and_wait(&shell("ship1", "echo whole"))["stdout"], "whole\n");
}

/// Whoever speaks plain at the port on which the fleet's broker wants TLS is hung up on, and nothing of what he says arrives.
#[test]
fn a_plain_client_at_the_broker_of_a_fleet_gets_nowhere() {
    let fleet = Fleet::without_broker();
    let (mut central, _broker) = made(&fleet);
    central.start();
    let mut stranger = TcpStream::connect(fleet.broker.address()).unwrap();
    let said = "CONNECT {\"verbose\":true}\r\nPUB central.EventACK.TextLogging 2\r\n{}\r\nSUB > 1\r\nPING\r\n";
    stranger.write_all(said.as_bytes()).unwrap();
    let mut heard = Vec::new();
    // The server may reset the connection instead of closing it.
    drop(stranger.read_to_end(&mut heard));
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.contains("\"tls_required\":true") && !heard.contains("PONG"), "{heard}");
    assert_eq!(central.send_and_wait(&shell("central", "echo alive"))["stdout"], "alive\n");
}

/// Lines of central's audit log.
fn lines(central: &Node<'_>, filter: &[&str]) -> Vec<Value> {
    let ran = central.cli(&[&["audit", "show", "--json"], filter].concat()).ok();
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What was done to the fleet, as central's audit log has it: the event and the node.
fn deeds(central: &Node<'_>) -> Vec<(String, String)> {
    let told = lines(central, &[]).into_iter().filter(|line| line.get("about").is_some());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    told.map(|line| (text(&line["event"]), text(&line["to"]))).collect()
}

/// Waits until these stand there. Who was refused comes straight into the log, and may stand before who was let in.
fn are(central: &Node<'_>, wanted: &[(&str, &str)]) {
    let sorted = |mut deeds: Vec<(String, String)>| {
        deeds.sort();
        deeds
    };
    let wanted = sorted(wanted.iter().map(|(event, node)| ((*event).to_owned(), (*node).to_owned())).collect());
    eventually(&format!("{wanted:?} are in the log"), || (sorted(deeds(central)) == wanted).then_some(()));
}

/// Whoever did it, while central was away or killed at any moment.
#[test]
fn what_is_done_to_a_fleet_stands_in_the_audit_log_of_central() {
    let fleet = Fleet::without_broker();
    let (mut central, _broker) = made(&fleet);
    let token = invite(&central, &["ship1", "--labels", "site=north"]);
    invite(&central, &["ship3"]);
    run(fleet.dir(), &mut steward(central.dir(), &["invite", "ship3", "--withdraw"])).ok();
    let mut all = vec![("invited", "ship1"), ("invited", "ship3"), ("withdrawn", "ship3")];
    assert_eq!(deeds(&central), []);
    central.start();
    are(&central, &all);
    run(fleet.dir(), &mut join(&fleet, &fleet.dir().join("ship1"), &token)).ok();
    let copied = run(fleet.dir(), &mut join(&fleet, &fleet.dir().join("thief"), &token));
    assert_eq!(copied.code, 1, "{copied:?}");
    all.extend([("join-refused", "ship1"), ("joined", "ship1")]);
    are(&central, &all);
    run(fleet.dir(), &mut steward(central.dir(), &["revoke", "ship1", "--reason", "stolen"])).ok();
    // Killed before or after it has taken over what was done: it is in the log, and the chain is whole.
    central.kill();
    central.start();
    let rules = fleet.dir().join("fleet-rules.toml");
    fs::write(&rules, "otherwise = \"standard\"\n").unwrap();
    run(fleet.dir(), steward(central.dir(), &["rules", "push", "--node", "ship8,ship9"]).arg(&rules)).ok();
    let last =
        |event: &str| eventually(&format!("{event} is in the log"), || lines(&central, &["--event", event]).pop());
    let (revoked, pushed) = (last("revoked"), last("rules-pushed"));
    assert_eq!((&revoked["to"], &revoked["reason"]), (&"ship1".into(), &"stolen".into()));
    assert_eq!(revoked["by"]["via"], "command");
    assert!(revoked["by"]["uid"].is_u64() && revoked["by"]["pid"].as_u64() > Some(1), "{revoked}");
    assert_eq!(pushed["about"]["first"], serde_json::json!(["ship8", "ship9"]));
    let (invited, refused, joined) = (last("invited"), last("join-refused"), last("joined"));
    assert_eq!(invited["about"]["role"], "node");
    assert!(refused["reason"].as_str().unwrap().contains("was used at"), "{refused}");
    assert_eq!(joined["about"]["key"], standing(&central, "ship1")["key"]);
    assert_eq!(joined.get("by"), None);
    let shown = central.cli(&["audit", "show", "--event", "revoked"]).ok().stdout;
    assert!(shown.contains("stolen") && shown.contains("by user "), "{shown}");
    assert_eq!(central.cli(&["audit", "verify"]).code, 0);
    assert!(!central.read("audit.jsonl").contains(&token[20..60]), "a secret is in the log");
}

#[test]
fn another_broker_does_for_a_fleet_as_well() {
    let fleet = Fleet::with_broker("authorization { token: \"hush-hush\" }\n");
    let secret = fleet.dir().join("secret");
    fs::write(&secret, "hush-hush").unwrap();
    let mut central = fleet.absent("central", &[]);
    let args = ["init", "--external", "--broker-address", &fleet.broker.address(), "--broker-token-file"];
    run(fleet.dir(), steward(central.dir(), &args).arg(&secret)).ok();
    central.start();
    let token = invite(&central, &["ship1"]);
    let mut ship1 = fleet.absent("ship1", &[]);
    let mut command = join(&fleet, ship1.dir(), &token);
    run(fleet.dir(), command.arg("--broker-token-file").arg(&secret)).ok();
    ship1.start();
    assert_eq!(central.send_and_wait(&shell("ship1", "echo external"))["stdout"], "external\n");
    run(fleet.dir(), &mut steward(central.dir(), &["revoke", "ship1"])).ok();
    let refused = |name: &str| {
        central.log().contains(&format!("{name} was revoked")) || standing(&central, name)["state"] == "revoked"
    };
    assert!(refused("ship1"));
    let id = ship1.send(&event("central", "TextLogging", &["forged\n"]));
    eventually("central refuses its signature", || central.log().contains("is revoked").then_some(()));
    assert_eq!(central.read("textlogging.log"), "");
    assert_ne!(ship1.show(&id)["state"], "done");
}

/// What was pushed to all is for those as well who join later; and each step says in JSON what it has done.
#[test]
fn who_joins_later_gets_the_rules_that_were_pushed_before() {
    let fleet = Fleet::without_broker();
    let mut central = fleet.absent("central", &[]);
    let json =
        |command: &mut Command| -> Value { serde_json::from_str(&run(fleet.dir(), command).ok().stdout).unwrap() };
    let init = json(&mut steward(central.dir(), &["init", "--json", "--address", &fleet.broker.address()]));
    assert_eq!((&init["node"], &init["addresses"][0]), (&"central".into(), &fleet.broker.address().into()));
    let _broker = Process::start("broker", fleet.dir(), &mut steward(central.dir(), &["broker"]));
    central.start();
    let rules = fleet.dir().join("disk.toml");
    fs::write(
        &rules,
        "otherwise = \"refuse\"\n[[rule]]\nfrom = \"*\"\nmethod = \"ShellCommand\"\nfirstWord = \"df\"\n",
    )
    .unwrap();
    let pushed = run(fleet.dir(), steward(central.dir(), &["rules", "push", "--all"]).arg(&rules)).ok();
    assert!(pushed.stderr.contains("when it joins"), "{pushed:?}");
    let invited = json(&mut steward(central.dir(), &["invite", "ship1", "--json"]));
    let mut ship1 = fleet.absent("ship1", &[]);
    let joined = json(join(&fleet, ship1.dir(), invited["token"].as_str().unwrap()).arg("--json"));
    assert_eq!(
        (&joined["node"], &joined["role"], &joined["central"]),
        (&"ship1".into(), &"node".into(), &"central".into())
    );
    ship1.start();
    let version = eventually("it has the rules", || ship1.ask("GET", "/v1/rules", "")["fleetVersion"].as_u64());
    assert!(central.send_and_wait(&shell("ship1", "echo no"))["reason"].as_str().unwrap().contains("of the fleet"));
    // Once, and never again: another start of central sends nothing more.
    central.kill();
    central.start();
    assert_eq!(central.send_and_wait(&shell("ship1", "echo no"))["state"], "refused");
    let applied = || central.messages().iter().filter(|message| message["method"] == "OpRulesApply").count();
    assert_eq!((applied(), ship1.ask("GET", "/v1/rules", "")["fleetVersion"].as_u64()), (1, Some(version)));
    let revoked = json(&mut steward(central.dir(), &["revoke", "ship1", "--json"]));
    assert_eq!(revoked, serde_json::json!({ "node": "ship1", "broker": true, "nodes": true }));
    run(fleet.dir(), &mut steward(central.dir(), &["invite", "ship2"])).ok();
    let withdrawn = json(&mut steward(central.dir(), &["invite", "ship2", "--withdraw", "--json"]));
    assert_eq!(withdrawn, serde_json::json!({ "node": "ship2", "withdrawn": 1 }));
}

#[test]
fn the_broker_of_a_fleet_runs_once() {
    let fleet = Fleet::without_broker();
    let (central, mut broker) = made(&fleet);
    eventually("it runs", || central.read("fleet/broker.lock").contains("pid").then_some(()));
    for verb in ["broker", "up"] {
        let second = run(fleet.dir(), &mut steward(central.dir(), &[verb]));
        assert!(second.code == 1 && second.stderr.contains("runs already (pid"), "{second:?}");
    }
    broker.kill();
    let _next = Process::start("next", fleet.dir(), &mut steward(central.dir(), &["broker"]));
    eventually("another one takes its place", || {
        let log = fs::read_to_string(fleet.dir().join("next.log")).unwrap_or_default();
        log.contains("Server is ready").then_some(())
    });
}
