//! More than a node has to do on any ordinary day, in small: a crowd of nodes that are absent, large outputs from several
//! nodes at once, a flood in `inmsg.txt`, and an outbox that is full. `steward bench --load` does the same in large, and
//! `sim --slow-receiver` an hour with a receiver that is too slow.

use serde_json::{Value, json};

use crate::harness::{Fleet, Node, SOON, event, eventually, shell, until};

/// Twice what a node has at most in the scenarios here, and a fraction of what it would have if it held all of it.
const MEMORY_KIB_MAX: u64 = 100 * 1024;

fn takes_little_memory(node: &Node<'_>) {
    let peak = node.memory_peak_kib();
    assert!(peak < MEMORY_KIB_MAX, "{} took {peak} KiB at its peak", node.name());
}

/// Messages that a node has in this state, as it lists them.
fn count(node: &Node<'_>, state: &str) -> usize {
    node.messages().iter().filter(|message| message["state"] == state).count()
}

#[test]
fn a_crowd_of_absent_nodes_costs_little_and_gets_everything_when_it_comes() {
    const CROWD: usize = 300;
    const EACH: usize = 10;
    let fleet = Fleet::new();
    let mut central = fleet.node("central");
    let of = |node: usize| (0..EACH).map(move |n| event(&format!("away{node}"), "TextLogging", &[&format!("{n}\n")]));
    let through_socket: Vec<Value> = (0..CROWD / 2).flat_map(of).collect();
    let through_file: Vec<Value> = (CROWD / 2..CROWD).flat_map(of).collect();
    central.send_all(&through_socket);
    central.append(&Value::from(through_file).to_string());
    let all = CROWD * EACH;
    until(SOON, "all are accepted", || {
        let waiting = count(&central, "queued");
        if waiting == all { Ok(()) } else { Err(format!("{waiting} wait")) }
    });
    takes_little_memory(&central);
    central.kill();
    central.start();
    // The first and the last, and so one of each half.
    let names = ["away0".to_owned(), format!("away{}", CROWD - 1)];
    let came = names.each_ref().map(|name| fleet.node(name));
    for node in &came {
        let expected: String = (0..EACH).map(|n| format!("{n}\n")).collect();
        until(SOON, "all ten arrive, in their order", || {
            let text = node.read("textlogging.log");
            if text == expected { Ok(()) } else { Err(text) }
        });
    }
    until(SOON, "theirs are done, and the others wait on", || {
        let (done, waiting) = (count(&central, "done"), count(&central, "queued"));
        if (done, waiting) == (2 * EACH, all - 2 * EACH) { Ok(()) } else { Err(format!("{done}, {waiting}")) }
    });
}

#[test]
fn large_outputs_of_several_nodes_at_once_come_back_byte_for_byte() {
    const BYTES: usize = 20_000_000;
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let names = ["ship1", "ship2", "ship3", "ship4"];
    let ships = names.map(|name| fleet.node_with(name, &["--max-output=32MiB"]));
    let ids = names.map(|name| central.send(&shell(name, &format!("yes {name} | head -c {BYTES}"))));
    for (name, id) in names.into_iter().zip(&ids) {
        let message = central.ended(id);
        assert_eq!((&message["state"], &message["stdoutBytes"]), (&"done".into(), &BYTES.into()), "{message}");
        let line = format!("{name}\n").into_bytes();
        let printed: Vec<u8> = line.into_iter().cycle().take(BYTES).collect();
        let came = central.bytes(&format!("/v1/messages/{id}/stdout"));
        assert_eq!(blake3::hash(&came), blake3::hash(&printed), "what came from {name}");
    }
    takes_little_memory(&central);
    ships.iter().for_each(takes_little_memory);
}

#[test]
fn a_flood_in_the_input_file_holds_up_no_other_lane_and_nothing_of_it_is_lost() {
    const FLOOD: usize = 4_000;
    let fleet = Fleet::new();
    let (central, ship1, _ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    let (gate, ran) = (fleet.file("gate"), fleet.file("ran"));
    // The first of the flood ends when the gate is there, and the others wait behind it.
    let mut flood = vec![shell("ship1", &gate.awaited())];
    let script = |n: usize| shell("ship1", &format!("echo {n} >> {}", ran.path()));
    flood.extend((1..10).map(script));
    flood.extend((10..FLOOD).map(|n| event("ship1", "TextLogging", &[&format!("{n}\n")])));
    flood.extend((0..FLOOD).map(|n| event("nowhere", "TextLogging", &[&n.to_string()])));
    central.append(&Value::from(flood).to_string());
    // As soon as there is anything of it, and long before its end.
    eventually("the flood is on its way", || (!ship1.read("textlogging.log").is_empty()).then_some(()));
    let other_node = central.send_and_wait(&shell("ship2", "echo here"));
    let other_lane = central.send_and_wait(&event("ship1", "ErrorLog", &["here"]));
    assert_eq!((&other_node["stdout"], &other_lane["state"]), (&"here\n".into(), &"done".into()));
    assert_eq!(ran.lines(), Vec::<String>::new(), "the flood waits at its gate");

    gate.create();
    until(SOON, "all that can be done is done", || {
        let (done, waiting) = (count(&central, "done"), count(&central, "queued"));
        // The event to the error log is none of those that are listed here.
        if (done, waiting) == (FLOOD + 1, FLOOD) { Ok(()) } else { Err(format!("{done}, {waiting}")) }
    });
    let lines: Vec<String> = ship1.read("textlogging.log").lines().map(str::to_owned).collect();
    assert_eq!(lines, (10..FLOOD).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(ran.lines(), (1..10).map(|n| n.to_string()).collect::<Vec<_>>());
    takes_little_memory(&central);
    takes_little_memory(&ship1);
}

/// Whoever brings more than may be outstanding is told so in each way in, and needs to do nothing special afterwards.
#[test]
fn a_full_outbox_refuses_more_with_a_reason_and_takes_it_when_there_is_room() {
    let fleet = Fleet::new();
    let central = fleet.node_with("central", &["--max-outstanding=3"]);
    let ids = central.send_all(&[1, 2, 3].map(|n| event("ship1", "TextLogging", &[&format!("{n}\n")])));

    let one = Value::from(vec![event("ship1", "TextLogging", &["4\n"])]).to_string();
    let refused = central.ask("POST", "/v1/messages", &one);
    let why = refused["error"].as_str().unwrap_or_else(|| panic!("it was accepted: {refused}"));
    assert!(why.contains("3 messages") && why.contains("--max-outstanding"), "{why}");
    assert!(refused["ids"].is_null(), "nothing of it was accepted: {refused}");
    let ran = central.cli(&["send", "--detach", "--event", "--method=TextLogging", "ship1", "--", "5\n"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (125, ""), "{ran:?}");
    assert!(ran.stderr.contains("--max-outstanding"), "{ran:?}");
    // The file waits for its turn, and says in the log why.
    central.append(&Value::from(vec![event("ship1", "TextLogging", &["6\n"])]).to_string());
    eventually("the log says that the file has to wait", || {
        central.log().lines().any(|line| line.contains("inmsg.txt") && line.contains("--max-outstanding")).then_some(())
    });
    assert_eq!(central.messages().len(), 3);

    // One that is taken back makes room for one.
    central.cli(&["cancel", &ids[0]]).ok();
    until(SOON, "the file is taken in", || {
        let messages = central.messages();
        if messages.len() == 4 { Ok(()) } else { Err(format!("{messages:?}")) }
    });
    assert!(central.ask("POST", "/v1/messages", &one)["error"].is_string(), "it is full again");
    let ship1 = fleet.node("ship1");
    let last = eventually("there is room", || {
        let answer = central.ask("POST", "/v1/messages", &one);
        Some(answer["ids"][0].as_str()?.to_owned())
    });
    assert_eq!(central.ended(&last)["state"], "done");
    assert_eq!(ship1.read("textlogging.log"), "2\n3\n6\n4\n");
    let complaints = central.log().matches("can't be taken in").count();
    assert_eq!(complaints, 1, "it is said once, however often it is tried");
}

/// Of many messages those that have room are accepted; the answer says which.
#[test]
fn what_was_accepted_of_many_before_the_outbox_was_full_is_said() {
    let fleet = Fleet::new();
    let central = fleet.node_with("central", &["--max-outstanding=1500"]);
    let many: Vec<Value> = (0..5_000).map(|n| event("ship1", "TextLogging", &[&n.to_string()])).collect();
    let answer = central.ask("POST", "/v1/messages", &Value::from(many).to_string());
    let accepted = answer["ids"].as_array().unwrap_or_else(|| panic!("{answer}")).len();
    let why = answer["error"].as_str().unwrap();
    assert!(why.contains(&format!("the first {accepted} messages were accepted")), "{why}");
    // The limit is looked at before each thousand.
    assert_eq!(accepted, 2_000);
    let first = central.show(answer["ids"][0].as_str().unwrap());
    assert_eq!((&first["state"], &first["data"]), (&"queued".into(), &json!(["0"])), "{first}");
}
