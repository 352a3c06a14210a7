//! Somebody has the broker, or a login there, or the key of another node: he can read, drop, repeat and alter everything
//! that passes. Nothing that he makes runs, and nothing that he says counts.

pub(crate) mod members;
mod sealed;

use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Effects, Fleet, Node, event, eventually, shell, with};
use members::{Member, Members, body, now_ms, replay, secret};

/// So long without a message, and a recording is over.
const QUIET: Duration = Duration::from_millis(300);

/// The subject of the commands of these tests.
const COMMANDS: &str = "ship1.CommandACK.ShellCommand";

/// Two nodes with certificates, which run.
struct Couple<'f> {
    central: Node<'f>,
    ship1: Node<'f>,
    members: Members,
    of_central: Member,
}

impl<'f> Couple<'f> {
    fn new(fleet: &'f Fleet, flags_of_ship: &[&str]) -> Self {
        let members = Members::new();
        let (mut central, mut ship1) = (fleet.absent("central", &[]), fleet.absent("ship1", flags_of_ship));
        let of_central = members.join(&central);
        members.join(&ship1);
        central.start();
        ship1.start();
        Self { central, ship1, members, of_central }
    }
}

/// Such a couple, and somebody who has the broker.
struct Scene<'f> {
    central: Node<'f>,
    ship1: Node<'f>,
    members: Members,
    of_central: Member,
    thief: Client,
    tape: Subscriber,
}

impl<'f> Scene<'f> {
    async fn new(fleet: &'f Fleet) -> Self {
        Self::with(fleet, &[]).await
    }

    async fn with(fleet: &'f Fleet, flags_of_ship: &[&str]) -> Self {
        let thief = async_nats::connect(fleet.broker.address()).await.unwrap();
        let tape = thief.subscribe(">").await.unwrap();
        thief.flush().await.unwrap();
        let Couple { central, ship1, members, of_central } = Couple::new(fleet, flags_of_ship);
        Self { central, ship1, members, of_central, thief, tape }
    }

    /// Everything that has passed since the last time.
    async fn recorded(&mut self) -> Vec<Message> {
        let mut tape = Vec::new();
        while let Ok(Some(message)) = timeout(QUIET, self.tape.next()).await {
            tape.push(message);
        }
        tape
    }

    /// Whatever was published before this has arrived, and had no effect but what is in the file.
    async fn nothing_more_ran(&self, what: &str, ran: &Effects, times: usize) {
        self.thief.flush().await.unwrap();
        let message = self.central.send_and_wait(&shell("ship1", "echo alive"));
        assert_eq!((&message["state"], &message["stdout"]), (&"done".into(), &"alive\n".into()), "{what}: {message}");
        assert_eq!(ran.lines().len(), times, "{what}: {:?}", ran.lines());
    }

    /// What the log of ship1 says about something that was not believed.
    fn ship_says(&self, what: &str) {
        eventually(what, || {
            let lines = self.ship1.log_lines();
            let mut whys = lines.iter().filter_map(|line| line["why"].as_str().or(line["fields"]["why"].as_str()));
            whys.any(|why| why.contains(what)).then_some(())
        });
    }
}

/// Who of the process that is meant: `toIncarnation` of a real envelope for ship1.
fn envelope_for_ship(tape: &[Message]) -> Value {
    let found = tape.iter().find(|message| message.subject.as_str() == COMMANDS);
    body(found.expect("a command was recorded"))
}

/// An envelope like this one with another command in it, which nobody has sent before; so far ahead in its lane.
fn forged(envelope: &Value, from: &str, script: &str, ahead: u64) -> Value {
    let last = envelope["items"].as_array().unwrap().last().unwrap()["seq"].as_u64().unwrap();
    let (id, seq) = (now_ms() ^ ahead, last.saturating_add(ahead));
    let id = format!("0193a5b2-7c1e-7d3a-9b52-{:012x}", id & 0xffff_ffff_ffff);
    let item = json!({ "id": id, "seq": seq, "prev": last, "data": ["bash", "-c", script], "createdMs": now_ms() });
    with(envelope.clone(), json!({ "fromNode": from, "items": [item] }))
}

#[test]
fn nodes_with_certificates_talk_also_after_restarts() {
    let fleet = Fleet::new();
    let Couple { mut central, mut ship1, .. } = Couple::new(&fleet, &[]);
    for round in 0..3 {
        let message = central.send_and_wait(&shell("ship1", "echo out; echo err >&2; exit 3"));
        assert_eq!((&message["state"], &message["exitCode"]), (&"failed".into(), &3.into()), "{round}: {message}");
        let message = central.send_and_wait(&shell("ship1", "seq 100000"));
        assert_eq!((&message["state"], &message["stdoutBytes"]), (&"done".into(), &588_895.into()), "{message}");
        let text = format!("nack {round}");
        let nack = event("central", "TextLogging", &[&text]);
        ship1.send(&with(nack, json!({ "commandOrEvent": "EventNACK" })));
        eventually("the event is there", || central.read("textlogging.log").contains(&text).then_some(()));
        assert_eq!(ship1.send_and_wait(&event("central", "TextLogging", &["ack"]))["state"], "done");
        assert_eq!(central.send_and_wait(&shell("central", "echo self"))["stdout"], "self\n");
        match round {
            0 => {
                ship1.kill();
                ship1.start();
            }
            _ => {
                central.kill();
                central.start();
                fleet.broker.stop();
                fleet.broker.start();
            }
        }
    }
    for node in [&central, &ship1] {
        assert!(!node.log().contains("not believed"), "{}", node.log());
    }
}

/// Everybody who is not central, with and without a key, in its name and in others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_sender_has_nothing_run() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet).await;
    let ran = fleet.file("forged");
    scene.nothing_more_ran("before", &ran, 0).await;
    let envelope = envelope_for_ship(&scene.recorded().await);
    let script = format!("echo forged >> {}", ran.path());
    let (stranger, insider) = (Members::new().member("central", 9), scene.members.member("ship2", 1));
    let genuine = scene.of_central.certificate.clone();
    // From the future, too: no lane has come so far.
    let command = |seq| forged(&envelope, "central", &script, seq).to_string();
    let thief = &scene.thief;
    thief.publish(COMMANDS, command(1_000).into()).await.unwrap();
    scene.nothing_more_ran("unsigned", &ran, 0).await;
    scene.ship_says("it is not signed");
    for (what, who, certificate) in [
        ("no certificate", &stranger, None),
        ("the certificate of another fleet", &stranger, Some(stranger.certificate.as_str())),
        ("the certificate of central", &stranger, Some(genuine.as_str())),
        ("a node in the name of central", &insider, Some(insider.certificate.as_str())),
    ] {
        for (n, at) in [now_ms(), now_ms() + 1].into_iter().enumerate() {
            who.publish_at(at, thief, COMMANDS, certificate, command(2_000 + n as u64).as_bytes()).await;
        }
        scene.nothing_more_ran(what, &ran, 0).await;
    }
    for said in ["is unknown here", "is signed by", "is for another key", "from central, but ship2 has signed it"] {
        scene.ship_says(said);
    }
    // In its own name the rules refuse it.
    insider.publish(&scene.thief, COMMANDS, &forged(&envelope, "ship2", &script, 5)).await;
    scene.nothing_more_ran("a node in its own name", &ran, 0).await;
    // With the key of central it runs: nothing but the signatures has kept the others from it.
    scene.of_central.publish(&scene.thief, COMMANDS, &forged(&envelope, "central", &script, 1_000)).await;
    eventually("the command of the key itself ran", || (ran.lines().len() == 1).then_some(()));
    assert!(scene.ship1.runs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_altered_on_its_way_does_nothing() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet).await;
    let mut ship2 = fleet.absent("ship2", &[]);
    scene.members.join(&ship2);
    ship2.start();
    let ran = fleet.file("ran");
    let command = shell("ship1", &format!("echo ran >> {}", ran.path()));
    scene.central.send_and_wait(&command);
    scene.central.send_and_wait(&with(command, json!({ "commandOrEvent": "CommandNACK" })));
    eventually("both ran", || (ran.lines().len() == 2).then_some(()));
    assert_eq!(scene.central.send_and_wait(&shell("ship2", "true"))["state"], "done");
    let tape = scene.recorded().await;
    let commands: Vec<&Message> = tape.iter().filter(|message| message.subject.starts_with("ship1.Command")).collect();
    assert!(commands.len() >= 2);
    for message in commands {
        let headers = message.headers.clone().unwrap();
        let text = body(message).to_string();
        let other = text.replace("echo ran", "echo bad").replace("\"seq\":", "\"seq\":9");
        let altered = [
            ("body", message.subject.to_string(), headers.clone(), other),
            ("redirected", message.subject.replace("ship1", "ship2"), headers.clone(), text.clone()),
            (
                "redirected, and says so",
                message.subject.replace("ship1", "ship2"),
                headers.clone(),
                text.replace("ship1", "ship2"),
            ),
            ("another type", message.subject.replace("NACK", "ACK"), headers.clone(), text.replace("NACK", "ACK")),
        ];
        let mut all: Vec<(&str, String, async_nats::HeaderMap, Vec<u8>)> =
            altered.into_iter().map(|(what, subject, headers, text)| (what, subject, headers, text.into())).collect();
        for (name, value) in [
            ("Steward-Time", now_ms().to_string()),
            ("Steward-Signature", "A".repeat(86)),
            ("Steward-Key", scene.members.member("central", 2).public_key()),
            ("Steward-New", "x".to_owned()),
            ("steward-encoding", "zstd".to_owned()),
        ] {
            let mut headers = headers.clone();
            headers.insert(name, value);
            all.push((name, message.subject.to_string(), headers, message.payload.to_vec()));
        }
        for (_, subject, headers, body) in &all {
            scene.thief.publish_with_headers(subject.clone(), headers.clone(), body.clone().into()).await.unwrap();
        }
        scene.thief.publish(message.subject.clone(), message.payload.clone()).await.unwrap();
        scene.nothing_more_ran(&message.subject, &ran, 2).await;
    }
    scene.ship_says("its signature is wrong");
    scene.ship_says("it is not signed");
    assert_eq!(scene.central.send_and_wait(&shell("ship2", "echo alive"))["stdout"], "alive\n");
    assert_eq!(ran.lines(), ["ran", "ran"]);
}

/// Now, after a restart of the receiver, after the sender's store was lost, and when the time for it is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_is_played_again_does_nothing() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet).await;
    let ran = fleet.file("ran");
    let command = shell("ship1", &format!("echo ran >> {}", ran.path()));
    let nack = with(command.clone(), json!({ "commandOrEvent": "CommandNACK" }));
    scene.central.send_and_wait(&command);
    scene.central.send_and_wait(&nack);
    eventually("both ran", || (ran.lines().len() == 2).then_some(()));
    let tape = scene.recorded().await;
    for when in ["now", "after a restart", "after the sender has lost its store"] {
        match when {
            "after a restart" => {
                scene.ship1.kill();
                scene.ship1.start();
            }
            "after the sender has lost its store" => {
                scene.central.kill();
                for file in ["steward.db", "steward.db-wal", "steward.db-shm"] {
                    std::fs::remove_file(scene.central.dir().join(file)).ok();
                }
                scene.central.start();
            }
            _ => {}
        }
        for message in tape.iter().cycle().take(10 * tape.len()) {
            replay(&scene.thief, message).await;
        }
        scene.nothing_more_ran(when, &ran, 2).await;
    }
    scene.ship_says("somebody plays a recording");
    // A command that was held back, genuine in everything but its age.
    let template = tape.iter().find(|message| message.subject.as_str() == "ship1.CommandNACK.ShellCommand").unwrap();
    for minutes in [10, 60 * 24 * 365] {
        let old = forged(&body(template), "central", &format!("echo old >> {}", ran.path()), minutes);
        let (at, subject) = (now_ms() - minutes * 60_000, template.subject.as_str());
        scene.of_central.publish_at(at, &scene.thief, subject, None, old.to_string().as_bytes()).await;
    }
    scene.nothing_more_ran("late", &ran, 2).await;
    scene.ship_says("set the clock of central, or the one here, right");
}

/// A node whose clock is an hour behind has to be within reach: its question is answered. But it is not taken for a sign of
/// life, because anybody could play a recording of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_from_a_wrong_clock_is_answered_and_counts_as_nothing_else() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet).await;
    assert_eq!(scene.central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    let late = scene.members.member("ship9", 1);
    let probe = json!({
        "v": 1, "fromNode": "ship9", "toNode": "central", "control": "probe",
        "nonce": "00000000deadbeef", "epoch": "0000000000000001",
    });
    let (at, subject, probe) = (now_ms() - 3_600_000, "central.CTL.ship9", probe.to_string());
    late.publish_at(at, &scene.thief, subject, Some(&late.certificate), probe.as_bytes()).await;
    let answered = |message: &Message| {
        message.subject.as_str() == "ship9.CTL.central" && body(message)["hello"]["nonce"] == "00000000deadbeef"
    };
    let deadline = std::time::Instant::now() + crate::harness::SOON;
    while !scene.recorded().await.iter().any(answered) {
        assert!(std::time::Instant::now() < deadline, "no answer");
    }
    let nodes = scene.central.ask("GET", "/v1/nodes", "");
    assert!(!nodes.to_string().contains("ship9"), "{nodes}");
    let said = |line: &Value| line.to_string().contains("ship9 has signed it 36");
    eventually("whose clock it is", || scene.central.log_lines().iter().any(said).then_some(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_receipt_ends_no_message() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet).await;
    assert_eq!(scene.central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    let tape = scene.recorded().await;
    let genuine = tape.iter().find(|message| message.subject.as_str() == "central.ACK.ship1").unwrap();
    scene.ship1.kill();
    let id = scene.central.send(&shell("ship1", "echo true result"));
    let receipt = json!({ "ticket": 99, "id": id, "state": "done", "exitCode": 0, "stdout": { "text": "forged" } });
    let receipts = with(body(genuine), json!({ "receipts": [receipt] }));
    let (subject, insider) = ("central.ACK.ship1", scene.members.member("ship2", 1));
    scene.thief.publish(subject, receipts.to_string().into()).await.unwrap();
    let headers = genuine.headers.clone().unwrap();
    scene.thief.publish_with_headers(subject, headers, receipts.to_string().into()).await.unwrap();
    insider.publish(&scene.thief, subject, &receipts).await;
    insider.publish(&scene.thief, "central.ACK.ship2", &with(receipts, json!({ "fromNode": "ship2" }))).await;
    for message in &tape {
        replay(&scene.thief, message).await;
    }
    scene.thief.flush().await.unwrap();
    assert_eq!(scene.central.send_and_wait(&shell("central", "true"))["state"], "done");
    assert!(scene.central.show(&id)["finishedAt"].is_null(), "{}", scene.central.show(&id));
    scene.ship1.start();
    assert_eq!(scene.central.ended(&id)["stdout"], "true result\n");
}

/// A node may send what it likes under its own name: it harms its own lanes at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lane_numbers_from_the_future_harm_nobody_else() {
    let fleet = Fleet::new();
    let mut scene = Scene::with(&fleet, &["--allow=ship2:ShellCommand"]).await;
    let ran = fleet.file("ran");
    scene.nothing_more_ran("before", &ran, 0).await;
    let envelope = envelope_for_ship(&scene.recorded().await);
    let insider = scene.members.member("ship2", 1);
    let script = format!("echo ran >> {}", ran.path());
    for seq in [1_u64 << 61, u64::MAX >> 2] {
        let mut first = forged(&envelope, "ship2", &script, seq);
        first["items"][0]["prev"] = 0.into();
        insider.publish(&scene.thief, COMMANDS, &first).await;
    }
    eventually("its own commands ran", || (ran.lines().len() == 2).then_some(()));
    scene.nothing_more_ran("lanes of others go on", &ran, 2).await;
    assert!(scene.ship1.runs());
}

#[test]
fn a_node_that_has_forgotten_everybody_gets_to_know_them_again() {
    let fleet = Fleet::new();
    let Couple { central, mut ship1, .. } = Couple::new(&fleet, &[]);
    assert_eq!(central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    let before = central.sees_start_of("ship1");
    ship1.kill();
    for file in ["steward.db", "steward.db-wal", "steward.db-shm"] {
        std::fs::remove_file(ship1.dir().join(file)).ok();
    }
    ship1.start();
    eventually("central has heard of it", || (central.sees_start_of("ship1") != before).then_some(()));
    assert_eq!(central.send_and_wait(&shell("ship1", "echo again"))["stdout"], "again\n");
    assert_eq!(ship1.send_and_wait(&event("central", "TextLogging", &["again"]))["state"], "done");
}

/// The name has a newer key: the old one, however genuine, is refused aloud.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_key_needs_a_newer_certificate() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet).await;
    let ran = fleet.file("ran");
    scene.nothing_more_ran("before", &ran, 0).await;
    let envelope = envelope_for_ship(&scene.recorded().await);
    let script = format!("echo ran >> {}", ran.path());
    let rival = scene.members.member("central", 1);
    rival.publish(&scene.thief, COMMANDS, &forged(&envelope, "central", &script, 1_000)).await;
    scene.nothing_more_ran("another key with the same serial", &ran, 0).await;
    scene.ship_says("somebody uses the name, or the node was set up from old files");
    let told = |node: &Node<'_>| node.errors_of("ship1").iter().any(|text| text.contains("has the key"));
    eventually("central is told", || told(&scene.central).then_some(()));

    let newer = scene.members.member("central", 2);
    scene.central.terminate();
    newer.settle(scene.central.dir());
    scene.central.start();
    scene.nothing_more_ran("a newer certificate", &ran, 0).await;
    scene.of_central.publish(&scene.thief, COMMANDS, &forged(&envelope, "central", &script, 1_001)).await;
    scene.nothing_more_ran("the key before", &ran, 0).await;
    scene.ship1.kill();
    scene.ship1.start();
    let envelope = {
        scene.nothing_more_ran("after a restart", &ran, 0).await;
        let tape = scene.recorded().await;
        let last = tape.iter().rev().find(|message| message.subject.as_str() == COMMANDS);
        body(last.unwrap())
    };
    scene.of_central.publish(&scene.thief, COMMANDS, &forged(&envelope, "central", &script, 1_002)).await;
    scene.nothing_more_ran("the key before, after a restart", &ran, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_has_nothing_run() {
    let fleet = Fleet::new();
    let mut scene = Scene::with(&fleet, &["--allow=ship2:ShellCommand"]).await;
    let mut ship2 = fleet.absent("ship2", &[]);
    let of_ship2 = scene.members.join(&ship2);
    ship2.start();
    assert_eq!(ship2.send_and_wait(&shell("ship1", "echo yes"))["stdout"], "yes\n");
    scene.ship1.terminate();
    secret(&scene.ship1.dir().join("revoked.jwt"), &scene.members.revoke(1, &of_ship2, "ship2"));
    scene.ship1.start();
    let ran = fleet.file("ran");
    let refused = ship2.send(&shell("ship1", &format!("echo ran >> {}", ran.path())));
    scene.ship_says("is revoked");
    scene.nothing_more_ran("revoked", &ran, 0).await;
    assert!(ship2.show(&refused)["finishedAt"].is_null());
}

/// Without an identity, and with a broker that is not on this machine (for which `0.0.0.0` stands here).
#[test]
fn a_node_without_an_identity_takes_no_commands_over_a_network() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let port = fleet.broker.address().rsplit(':').next().unwrap().to_owned();
    let elsewhere = format!("--broker-address=0.0.0.0:{port}");
    let mut ship1 = fleet.node_with("ship1", &[&elsewhere]);
    let refused = central.send_and_wait(&shell("ship1", "true"));
    assert_eq!(refused["state"], "refused", "{refused}");
    let reason = refused["reason"].as_str().unwrap();
    assert!(
        reason.contains("not signed") && reason.contains("steward join") && reason.contains("--insecure"),
        "{reason}"
    );
    assert_eq!(central.send_and_wait(&event("ship1", "TextLogging", &["taken"]))["state"], "done");
    assert_eq!(ship1.send_and_wait(&shell("ship1", "echo self"))["stdout"], "self\n");
    assert!(ship1.log().contains("has no identity"));
    ship1.terminate();
    ship1.set_flags(&[&elsewhere, "--insecure"]);
    ship1.start();
    assert_eq!(central.send_and_wait(&shell("ship1", "echo taken"))["stdout"], "taken\n");
}
