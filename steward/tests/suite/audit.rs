//! The audit log of real nodes: what both sides write, and that the chain holds whatever happens to them.

use std::fs;

use serde_json::Value;

use crate::harness::{Fleet, Node, event, eventually, shell, with};

/// The lines of a node about one message, once there are as many.
fn lines(node: &Node<'_>, id: &str, wanted: &[&str]) -> Vec<Value> {
    let mut found = Vec::new();
    eventually(&format!("{wanted:?} are written"), || {
        found = shown(node, &["--id", id]);
        let events: Vec<&str> = found.iter().map(|line| line["event"].as_str().unwrap()).collect();
        (events == wanted).then_some(())
    });
    found
}

fn shown(node: &Node<'_>, filter: &[&str]) -> Vec<Value> {
    let ran = node.cli(&[&["audit", "show", "--json"], filter].concat()).ok();
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_whole(node: &Node<'_>) {
    let ran = node.cli(&["audit", "verify"]);
    assert!(ran.code == 0 && ran.stdout.contains("one whole chain"), "{ran:?}");
}

#[test]
fn both_sides_write_down_what_was_sent_decided_and_done() {
    let fleet = Fleet::new();
    let (central, ship1, ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    let done = central.send_and_wait(&shell("ship1", "exit 3"));
    let id = done["id"].as_str().unwrap();
    let sent = lines(&central, id, &["sent", "result"]);
    assert_eq!((&sent[0]["from"], &sent[0]["to"]), (&"central".into(), &"ship1".into()));
    assert_eq!((&sent[1]["state"], &sent[1]["exitCode"]), (&"failed".into(), &3.into()));
    let received = lines(&ship1, id, &["accepted", "started", "ended"]);
    assert_eq!(received[0]["data"], done["data"]);
    assert_eq!((&received[1]["rule"], &received[2]["exitCode"]), (&"standard".into(), &3.into()));
    // Whoever is refused leaves his words behind, on both sides.
    let refused = ship2.send_and_wait(&shell("ship1", "echo let me in"));
    let id = refused["id"].as_str().unwrap();
    lines(&ship2, id, &["sent", "result"]);
    let line = lines(&ship1, id, &["refused"]).remove(0);
    assert_eq!((&line["from"], &line["data"]), (&"ship2".into(), &refused["data"]));
    assert!(line["reason"].as_str().unwrap().contains("no rule of ship1"), "{line}");
    let nack =
        with(shell("ship1", "let me in, and don't tell"), serde_json::json!({ "commandOrEvent": "CommandNACK" }));
    ship2.send(&nack);
    eventually("what wants no answer is written down as well", || {
        shown(&ship1, &["--event", "refused"]).into_iter().find(|line| line["type"] == "CommandNACK")
    });
    // Events are not written unless somebody wants it.
    let told = ship2.send_and_wait(&event("ship1", "TextLogging", &["x"]));
    assert!(shown(&ship1, &["--id", told["id"].as_str().unwrap()]).is_empty());
    for node in [&central, &ship1, &ship2] {
        is_whole(node);
    }
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(ship1.dir().join("audit.jsonl")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// The kernel says who is at the socket; nobody can say it of himself.
#[test]
fn who_gave_a_message_at_the_socket_or_in_the_file_is_written_down() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let by = |id: &str| lines(&central, id, &["sent", "result"])[0]["by"].clone();
    let ours = central.ask("POST", "/v1/messages", &shell("ship1", "echo over the socket").to_string());
    let id = ours["ids"][0].as_str().unwrap();
    central.ended(id);
    let uid = fs::metadata(central.dir()).map(|folder| std::os::unix::fs::MetadataExt::uid(&folder)).unwrap();
    assert_eq!(by(id), serde_json::json!({ "via": "socket", "uid": uid, "pid": std::process::id() }));
    let shown = central.cli(&["audit", "show", "--id", id]).ok().stdout;
    assert!(shown.contains(&format!("from user {uid}, process {}, at the socket", std::process::id())), "{shown}");
    central.append(&format!("[{}]", shell("ship1", "echo from the file")));
    let from_file = eventually("it was taken", || {
        let id = central.messages().last()?["id"].as_str()?.to_owned();
        (id != ours["ids"][0]).then_some(id)
    });
    central.ended(&from_file);
    assert_eq!(by(&from_file), serde_json::json!({ "via": "inmsg.txt" }));
    fs::write(central.dir().join("messages.d/one.json"), shell("ship1", "true").to_string()).unwrap();
    let ids = central.dir().join("messages.d/done/one.json.ids");
    let from_spool = eventually("it is taken in", || fs::read_to_string(&ids).ok().filter(|text| !text.is_empty()));
    central.ended(&from_spool[..36]);
    assert_eq!(by(&from_spool[..36]), serde_json::json!({ "via": "messages.d" }));
}

#[test]
fn the_chain_holds_across_kills_and_a_line_without_end() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    for _ in 0..5 {
        let id = central.send(&shell("ship1", "kill -9 $PPID; sleep 600"));
        eventually("the node is killed", || (!ship1.runs()).then_some(()));
        // What ran is in the log, although it has killed whoever wrote it.
        let events: Vec<Value> = shown(&ship1, &["--id", &id]).into_iter().map(|line| line["event"].clone()).collect();
        assert_eq!(events, ["accepted", "started"]);
        let path = ship1.dir().join("audit.jsonl");
        let torn = [fs::read(&path).unwrap(), b"{\"n\":9,\"at\":\"2026".to_vec()].concat();
        fs::write(&path, torn).unwrap();
        ship1.kill();
        ship1.start();
        assert_eq!(central.ended(&id)["state"], "interrupted");
        lines(&ship1, &id, &["accepted", "started", "ended"]);
    }
    is_whole(&ship1);
    let starts = shown(&ship1, &["--event", "start"]);
    assert!(starts.len() == 6 && starts[5]["reason"].as_str().unwrap().contains("17 bytes"), "{starts:?}");
}

#[test]
fn what_is_altered_or_cut_off_is_found() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let done = central.send_and_wait(&shell("ship1", "echo harmful"));
    lines(&ship1, done["id"].as_str().unwrap(), &["accepted", "started", "ended"]);
    assert_eq!(ship1.terminate(), 0);
    let path = ship1.dir().join("audit.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replacen("harmful", "harmless", 1)).unwrap();
    let ran = ship1.cli(&["audit", "verify"]);
    assert!(ran.code == 1 && ran.stderr.contains("audit.jsonl, line 2: it was altered"), "{ran:?}");
    fs::write(&path, &whole).unwrap();
    let last: Value = serde_json::from_str(whole.lines().last().unwrap()).unwrap();
    let known = format!("--known={}:{}", last["n"], last["hash"].as_str().unwrap());
    assert_eq!(ship1.cli(&["audit", "verify", &known]).code, 0);
    let cut = whole.lines().take(2).map(|line| format!("{line}\n")).collect::<String>();
    fs::write(&path, cut).unwrap();
    assert_eq!(ship1.cli(&["audit", "verify"]).code, 0);
    let ran = ship1.cli(&["audit", "verify", &known]);
    assert!(ran.code == 1 && ran.stderr.contains("is not there"), "{ran:?}");
}

#[test]
fn data_can_be_left_out_and_everything_can_be_written() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let (ship1, ship2) =
        (fleet.node_with("ship1", &["--audit-data=hash", "--audit=all"]), fleet.node_with("ship2", &["--audit=none"]));
    let done = central.send_and_wait(&shell("ship1", "echo top-secret"));
    let line = lines(&ship1, done["id"].as_str().unwrap(), &["accepted", "started", "ended"]).remove(0);
    assert_eq!(line["dataHash"].as_str().unwrap().len(), 64);
    let told = central.send_and_wait(&event("ship1", "TextLogging", &["x"]));
    lines(&ship1, told["id"].as_str().unwrap(), &["accepted", "started", "ended"]);
    assert!(!ship1.read("audit.jsonl").contains("top-secret"));
    central.send_and_wait(&shell("ship2", "true"));
    assert!(!ship2.dir().join("audit.jsonl").exists());
}
