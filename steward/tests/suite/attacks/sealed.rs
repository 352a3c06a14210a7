//! What is sealed: whoever has the broker hears all of it and reads nothing, and makes nothing of it that counts.

use async_nats::Message;
use serde_json::{Value, json};

use super::members::{Member, body, replay};
use super::{COMMANDS, Scene, envelope_for_ship, forged};
use crate::harness::{Effects, Fleet, Node, event, eventually, shell, with};

/// Stands in data, in outputs and in errors of these tests, and must not stand on the wire.
const SECRET: &str = "xyzzy-plugh-0451";

fn sealed(message: Value) -> Value {
    with(message, json!({ "seal": true }))
}

/// What somebody reads who hears a message: its subject, its headers, its body, also unpacked.
fn read(message: &Message) -> String {
    let unpacked = crate::harness::try_unpacked(&message.payload).unwrap_or_default();
    let headers: Vec<String> = message
        .headers
        .iter()
        .flat_map(async_nats::HeaderMap::iter)
        .map(|(name, values)| format!("{name}: {values:?}"))
        .collect();
    let (raw, unpacked) = (String::from_utf8_lossy(&message.payload), String::from_utf8_lossy(&unpacked));
    format!("{}\n{}\n{raw}\n{unpacked}", message.subject, headers.join("\n"))
}

fn is_sealed(message: &Message) -> bool {
    message.headers.as_ref().is_some_and(|headers| headers.get("Steward-Seal").is_some())
}

/// Nothing on the tape says the secret.
fn says_nothing(tape: &[Message]) {
    for message in tape {
        let text = read(message);
        assert!(!text.contains(SECRET), "{text}");
    }
}

/// A command that says the secret in its data, in its output and, more than a receipt takes, in pieces of it.
fn revealing(long: bool) -> Value {
    let times = if long { 5000 } else { 1 };
    shell("ship1", &format!("for i in $(seq {times}); do echo {SECRET}-$i; done; echo {SECRET} >&2; exit 3"))
}

fn restarted(node: &mut Node<'_>) {
    node.kill();
    node.start();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_listens_reads_nothing_of_what_is_sealed() {
    let fleet = Fleet::new();
    let mut scene = Scene::with(&fleet, &[]).await;
    let id = scene.central.send(&shell("ship1", &format!("echo {SECRET}")));
    assert_eq!(scene.central.ended(&id)["sealed"], false);
    assert!(scene.recorded().await.iter().any(|message| read(message).contains(SECRET)), "a plain one can be read");

    for long in [false, true] {
        let ended = scene.central.send_and_wait(&sealed(revealing(long)));
        assert_eq!((&ended["state"], &ended["sealed"]), (&"failed".into(), &true.into()), "{ended}");
        let lines = if long { 5000 } else { 1 };
        assert_eq!(ended["stdout"].as_str().unwrap().lines().count(), lines, "{ended}");
        assert_eq!(ended["stderr"], format!("{SECRET}\n"));
    }
    let text = format!("{SECRET} in a log\n");
    for kind in ["EventACK", "EventNACK"] {
        let message = with(event("ship1", "TextLogging", &[&text]), json!({ "commandOrEvent": kind }));
        scene.central.send(&sealed(message));
    }
    let both = || (scene.ship1.read("textlogging.log").matches(SECRET).count() == 2).then_some(());
    eventually("both events are there", both);
    // What went wrong is told to the error log, which is neither of the two.
    let told = |node: &Node<'_>| node.errors_of("ship1").iter().any(|text| text.contains("it is sealed"));
    eventually("central is told that something failed", || told(&scene.central).then_some(()));
    let tape = scene.recorded().await;
    says_nothing(&tape);
    for (subject, least) in
        [(COMMANDS, 2), ("central.ACK.ship1", 2), ("central.DATA.ship1", 1), ("ship1.EventNACK.TextLogging", 1)]
    {
        let heard: Vec<&Message> = tape.iter().filter(|message| message.subject.as_str() == subject).collect();
        assert!(heard.len() >= least && heard.iter().all(|message| is_sealed(message)), "{subject}");
    }
    let asked = tape.iter().filter(|message| message.subject.as_str() == "ship1.CTL.central" && is_sealed(message));
    assert!(asked.count() >= 3, "requests for pieces and confirmations");
    // It says what it says to whoever it is for, by the documented form alone.
    let of_central: Vec<String> = tape.iter().filter_map(|message| scene.of_central.open(message)).collect();
    assert!(of_central.iter().any(|text| text.contains("\"stderr\":{\"text\":") && text.contains(SECRET)));
    assert!(of_central.iter().any(|text| text.starts_with("Steward-") && text.contains(&format!("{SECRET}-4999"))));
}

/// Sealed is a property of the message on both sides, through the end of either at any time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sealed_stays_so_through_the_death_of_either_side() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet).await;
    assert_eq!(scene.central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    scene.ship1.kill();
    let while_away = scene.central.send(&sealed(revealing(true)));
    restarted(&mut scene.central);
    scene.ship1.start();
    assert_eq!(scene.central.ended(&while_away)["state"], "failed");
    // Central dies while it runs, and ship1 when it has ended: result and output come from what lies on disk there.
    let (begun, go) = (fleet.file("begun"), fleet.file("go"));
    let script = format!("touch {}; {}; seq 20000 | sed s/^/{SECRET}-/", begun.path(), go.awaited());
    let id = scene.central.send(&sealed(shell("ship1", &script)));
    eventually("it runs", || std::path::Path::new(begun.path()).exists().then_some(()));
    scene.central.kill();
    go.create();
    let own = || {
        let all = scene.ship1.messages();
        all.iter().any(|message| message["id"] == id && message["state"] == "done").then_some(())
    };
    eventually("it has ended", own);
    restarted(&mut scene.ship1);
    let of_ship = scene.ship1.show(&id);
    assert_eq!((&of_ship["state"], &of_ship["sealed"]), (&"done".into(), &true.into()), "{of_ship}");
    scene.central.start();
    let ended = scene.central.ended(&id);
    assert_eq!((&ended["state"], &ended["sealed"]), (&"done".into(), &true.into()), "{ended}");
    let out = scene.central.bytes(&format!("/v1/messages/{id}/stdout"));
    assert!(String::from_utf8(out).unwrap().ends_with(&format!("{SECRET}-20000\n")));
    // What is repeated from the log is sealed as it was.
    let line = scene.central.read("messages.jsonl");
    assert!(line.lines().any(|line| line.contains(&id) && line.contains("\"seal\":true")), "{line}");
    says_nothing(&scene.recorded().await);
}

/// What is seen of a sealed message while it runs is sealed, and so is the wish to see it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_followed_is_sealed() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet).await;
    let go = fleet.file("go");
    let id = scene.central.send(&sealed(shell("ship1", &format!("echo {SECRET}; {}", go.awaited()))));
    scene.central.awaits(&id, "running");
    let now = scene.central.cli(&["logs", &id]);
    assert_eq!(now.stdout, format!("{SECRET}\n"), "{now:?}");
    go.create();
    assert_eq!(scene.central.ended(&id)["stdout"], format!("{SECRET}\n"));
    let tape = scene.recorded().await;
    says_nothing(&tape);
    let pieces: Vec<&Message> =
        tape.iter().filter(|message| message.subject.as_str() == "central.DATA.ship1").collect();
    assert!(!pieces.is_empty() && pieces.iter().all(|message| is_sealed(message)));
    assert!(
        pieces.iter().filter_map(|message| scene.of_central.open(message)).any(|text| text.contains("Steward-Run: "))
    );
    let wishes = tape.iter().filter(|message| message.subject.as_str() == "ship1.CTL.central" && is_sealed(message));
    assert!(wishes.count() >= 1);
}

/// A plain message in the same body as a sealed one is sealed with it; one by itself is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealed_and_plain_messages_share_a_lane() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet).await;
    assert_eq!(scene.central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    let messages: Vec<Value> = (0..40)
        .map(|n| match n % 2 {
            0 => shell("ship1", &format!("echo plain-{n}")),
            _ => sealed(shell("ship1", &format!("echo {SECRET}-{n}"))),
        })
        .collect();
    for (n, id) in scene.central.send_all(&messages).iter().enumerate() {
        let text = if n % 2 == 0 { format!("plain-{n}\n") } else { format!("{SECRET}-{n}\n") };
        assert_eq!(scene.central.ended(id)["stdout"], text);
    }
    says_nothing(&scene.recorded().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_seals_all_and_takes_nothing_plain_where_it_is_told_to() {
    let fleet = Fleet::new();
    let mut scene = Scene::with(&fleet, &["--seal=require"]).await;
    let refused = scene.central.send_and_wait(&shell("ship1", "true"));
    assert_eq!(refused["state"], "refused", "{refused}");
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.contains("takes sealed messages only") && reason.contains("send --seal"), "{reason}");
    scene.recorded().await;
    // It answers for what it was told to seal, whatever came, and sends its own events sealed.
    assert_eq!(scene.central.send_and_wait(&sealed(shell("ship1", "echo yes")))["stdout"], "yes\n");
    assert_eq!(scene.ship1.send_and_wait(&event("central", "TextLogging", &[SECRET]))["sealed"], true);
    // A list of receivers on the sender.
    scene.central.terminate();
    scene.central.set_flags(&["--seal-to=ship1"]);
    scene.central.start();
    assert_eq!(scene.central.send_and_wait(&shell("ship1", &format!("echo {SECRET}")))["sealed"], true);
    assert_eq!(scene.central.send_and_wait(&shell("central", "true"))["sealed"], false);
    let tape = scene.recorded().await;
    says_nothing(&tape);
    let by_ship = |message: &&Message| message.subject.starts_with("central.") && message.subject.ends_with(".ship1");
    let open: Vec<String> = tape.iter().filter(by_ship).filter(|message| !is_sealed(message)).map(read).collect();
    assert!(open.iter().all(|text| text.contains("\"probe\"") || text.contains("\"hello\"")), "{open:?}");
}

/// A message that wants no answer goes out without a word from its receiver; a sealed one has to wait for its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sealed_for_a_node_that_is_not_known_waits_and_is_never_plain() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet).await;
    let nack = with(event("ship2", "TextLogging", &[SECRET]), json!({ "commandOrEvent": "EventNACK", "timeout": 0.3 }));
    let id = scene.ship1.send(&sealed(nack));
    eventually("ship1 says what it waits for", || scene.ship1.log().contains("key of ship2").then_some(()));
    assert!(scene.ship1.show(&id)["finishedAt"].is_null());
    let mut ship2 = fleet.absent("ship2", &[]);
    scene.members.join(&ship2);
    ship2.start();
    eventually("it has arrived", || ship2.read("textlogging.log").contains(SECRET).then_some(()));
    assert_eq!(scene.ship1.ended(&id)["state"], "sent");
    says_nothing(&scene.recorded().await);
}

#[test]
fn a_node_without_an_identity_seals_nothing_and_says_so() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.absent("ship1", &["--seal"]));
    let refused = central.ask("POST", "/v1/messages", &json!([sealed(shell("ship1", "true"))]).to_string());
    assert!(refused.to_string().contains("this node has no identity, so it can't seal"), "{refused}");
    assert!(central.messages().is_empty());
    ship1.launch();
    assert_ne!(ship1.ends(), 0);
    assert!(ship1.log().contains("need an identity"), "{}", ship1.log());
}

/// Recorded, redirected, altered, opened up and made by others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_made_of_a_box_runs() {
    let fleet = Fleet::new();
    let mut scene = Scene::with(&fleet, &["--allow=ship2:ShellCommand"]).await;
    let mut ship2 = fleet.absent("ship2", &[]);
    let of_ship2 = scene.members.join(&ship2);
    ship2.start();
    let ran = fleet.file("ran");
    let plain = shell("ship1", &format!("echo ran >> {}", ran.path()));
    for kind in ["CommandACK", "CommandNACK"] {
        scene.central.send(&sealed(with(plain.clone(), json!({ "commandOrEvent": kind }))));
    }
    eventually("both ran", || (ran.lines().len() == 2).then_some(()));
    assert_eq!(scene.central.send_and_wait(&shell("ship2", "true"))["state"], "done");
    let tape = scene.recorded().await;
    let boxes: Vec<&Message> = tape.iter().filter(|message| message.subject.starts_with("ship1.Command")).collect();
    assert!(boxes.len() >= 2 && boxes.iter().all(|message| is_sealed(message)));
    for message in boxes {
        made_of(&scene, &of_ship2, message, &ran).await;
    }
    for _ in 0..3 {
        for message in &tape {
            replay(&scene.thief, message).await;
        }
    }
    scene.nothing_more_ran("played again", &ran, 2).await;
    for said in ["its signature is wrong", "central has passed on what somebody else", "ship2 has passed on"] {
        scene.ship_says(said);
    }
    assert!(ship2.log().contains("for a key that this node does not have"), "{}", ship2.log());
    assert!(scene.ship1.runs() && ship2.runs());
}

async fn made_of(scene: &Scene<'_>, insider: &Member, message: &Message, ran: &Effects) {
    let (thief, subject, headers) = (&scene.thief, message.subject.as_str(), message.headers.clone().unwrap());
    let to = headers.get("Steward-Seal").unwrap().to_string();
    let mut altered = message.payload.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    let (elsewhere, opened) = (subject.replace("ship1", "ship2"), {
        let mut opened = async_nats::HeaderMap::new();
        let others = headers.iter().filter(|(name, _)| name.to_string() != "Steward-Seal");
        others.for_each(|(name, values)| opened.insert(name.clone(), values[0].clone()));
        opened
    });
    let published = [
        (elsewhere.clone(), headers.clone(), message.payload.to_vec()),
        (subject.to_owned(), headers.clone(), altered.clone()),
        (subject.to_owned(), headers.clone(), message.payload[..40].to_vec()),
        (subject.to_owned(), opened, message.payload.to_vec()),
    ];
    for (subject, headers, body) in published {
        thief.publish_with_headers(subject, headers, body.into()).await.unwrap();
    }
    // Somebody with a key of the fleet signs what he can't read: as it is, altered, cut, for another node.
    for who in [insider, &scene.of_central] {
        for sealed in [&message.payload[..], &altered, &message.payload[..60], b""] {
            // Of central it is a recording with a new signature.
            let genuine = std::ptr::eq(who, &scene.of_central) && sealed == &message.payload[..];
            if !genuine {
                who.publish_box(thief, subject, &to, sealed).await;
            }
        }
        who.publish_box(thief, &elsewhere, &to, &message.payload).await;
        who.publish_at(super::now_ms(), thief, subject, Some(&who.certificate), &message.payload).await;
    }
    scene.nothing_more_ran(subject, ran, 2).await;
}

/// Made from the document alone, with the keys of central: it runs, so nothing but the keys has kept the others from it. A
/// box for a key that ship1 does not have brings its certificate to whoever sent it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_seals_for_an_old_key_is_shown_the_new_certificate() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet).await;
    let ran = fleet.file("ran");
    scene.nothing_more_ran("before", &ran, 0).await;
    let envelope = envelope_for_ship(&scene.recorded().await);
    let newer = scene.members.member("ship1", 2);
    scene.ship1.terminate();
    newer.settle(scene.ship1.dir());
    scene.ship1.start();
    scene.nothing_more_ran("with a new key", &ran, 0).await;
    let now = scene.recorded().await;
    let process = body(now.iter().rev().find(|message| message.subject.as_str() == COMMANDS).unwrap());
    let command = |n| {
        with(forged(&envelope, "central", &format!("echo ran >> {}", ran.path()), n), {
            json!({ "toIncarnation": process["toIncarnation"], "epoch": process["epoch"], "floor": 0 })
        })
    };
    let old = scene.members.member("ship1", 1).seal_key();
    scene.of_central.publish_sealed(&scene.thief, COMMANDS, &old, command(5_000).to_string().as_bytes()).await;
    scene.ship_says("knows an older certificate of this node");
    let shown = |message: &Message| {
        let certificate = message.headers.as_ref().and_then(|headers| headers.get("Steward-Certificate"));
        message.subject.as_str() == "central.CTL.ship1"
            && body(message)["hello"]["occasion"] == "mistaken"
            && certificate.is_some_and(|certificate| certificate.as_str() == newer.certificate)
    };
    assert!(scene.recorded().await.iter().any(shown));
    assert!(ran.lines().is_empty());
    scene
        .of_central
        .publish_sealed(&scene.thief, COMMANDS, &newer.seal_key(), command(5_001).to_string().as_bytes())
        .await;
    eventually("what is sealed for the new key runs", || (ran.lines().len() == 1).then_some(()));
}
