//! The other ways in beside `inmsg.txt` (which is in `input_file.rs`), as people and scripts use them.

#[cfg(feature = "crash-points")]
mod killed;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Fleet, Node, Port, event, eventually, post, run, shell, with};

/// The nodes that the messages of this one are for, oldest first, once there are so many and all have ended.
fn receivers(node: &Node<'_>, count: usize) -> Vec<String> {
    node.all_ended(count).iter().map(|message| message["toNode"].as_str().unwrap().to_owned()).collect()
}

/// An event for several nodes that is handled as `method` there.
fn for_all(nodes: &[&str], text: &str) -> Value {
    let mut message = with(event("", "TextLogging", &[text]), json!({ "toNodes": nodes }));
    message.as_object_mut().unwrap().remove("toNode");
    message
}

#[test]
fn a_message_for_several_nodes_is_one_for_each_of_them() {
    let fleet = Fleet::new();
    let (central, ship1, ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    let ids = central.send_all(&[for_all(&["ship2", "ship1"], "one\n"), event("ship1", "TextLogging", &["two\n"])]);
    assert_eq!(receivers(&central, 3), ["ship2", "ship1", "ship1"]);
    let of_ids: Vec<Value> = ids.iter().map(|id| central.show(id)["toNode"].clone()).collect();
    assert_eq!(of_ids, ["ship2", "ship1", "ship1"], "the ids stand in the order of the names");

    central.append(&Value::from([for_all(&["ship1", "ship2"], "three\n")].as_slice()).to_string());
    assert_eq!(receivers(&central, 5)[3..], ["ship1", "ship2"]);
    assert_eq!(ship1.read("textlogging.log"), "one\ntwo\nthree\n");
    assert_eq!(ship2.read("textlogging.log"), "one\nthree\n");

    // One name that makes no sense keeps all of them out.
    let answer = central.ask("POST", "/v1/messages", &for_all(&["ship1", "ship 2"], "four\n").to_string());
    assert!(answer["errors"][0]["error"].as_str().unwrap().contains("\"toNodes\": the name"), "{answer}");
    assert_eq!(central.all_ended(5).len(), 5);
}

/// `steward send --file`, from a file or the standard input.
#[test]
fn messages_in_a_yaml_file_are_sent_all_or_none() {
    let fleet = Fleet::new();
    let (central, _ship1, _ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    let path = fleet.dir().join("messages.yaml");
    let yaml = "\
- toNodes: [ship1, ship2]
  commandOrEvent: CommandACK
  method: ShellCommand
  data:
    - bash
    - -c
    - |
      echo one
      echo two
- toNode: ship1
  commandOrEvent: CommandACK
  method: ShellCommand
  data: [echo, no, 5]
";
    fs::write(&path, yaml).unwrap();
    let sent = central.cli(&["send", "--json", "--file", path.to_str().unwrap()]).ok();
    let mut ended: Vec<Value> = sent.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    ended.sort_by_key(|message| message["id"].as_str().unwrap().to_owned());
    let told: Vec<(&str, &str)> =
        ended.iter().map(|one| (one["toNode"].as_str().unwrap(), one["stdout"].as_str().unwrap())).collect();
    assert_eq!(told, [("ship1", "one\ntwo\n"), ("ship2", "one\ntwo\n"), ("ship1", "no 5\n")]);

    // What is wrong is told with its place, whether it is found here or by the node; and nothing is sent.
    for (wrong, reason) in [
        (yaml.replace("toNode: ship1", "tonode: ship1"), ": line 10, column 3: unknown key \"tonode\""),
        (
            yaml.replace("toNode: ship1", "toNode: ship 1"),
            ": line 10, column 3: \"toNode\": the name \"ship 1\" has ' '",
        ),
        (yaml.replace("data: [echo", "data: [[echo]"), ": line 13, column 10: \"data\": a text belongs here"),
    ] {
        fs::write(&path, wrong).unwrap();
        let refused = central.cli(&["send", "--file", path.to_str().unwrap()]);
        assert!(refused.stderr.contains(reason) && refused.stderr.contains("nothing was sent"), "{}", refused.stderr);
        assert_eq!(refused.code, 125, "{}", refused.stderr);
    }
    assert_eq!(central.all_ended(3).len(), 3);
}

/// The spool folder of a node.
fn spool(node: &Node<'_>, name: &str) -> PathBuf {
    node.dir().join("messages.d").join(name)
}

/// Puts a file there as a script should: written aside, and moved in.
fn put(node: &Node<'_>, name: &str, text: &str) {
    let aside = spool(node, &format!(".{name}"));
    fs::write(&aside, text).unwrap();
    fs::rename(aside, spool(node, name)).unwrap();
}

/// The ids beside a file that is done, and for whom they are.
fn ids(node: &Node<'_>, name: &str) -> Vec<(String, String)> {
    let path = spool(node, &format!("done/{name}"));
    eventually(&format!("{name} is done"), || path.exists().then_some(()));
    let text = fs::read_to_string(spool(node, &format!("done/{name}.ids"))).unwrap();
    let pair = |line: &str| line.split_once(' ').map(|(id, node)| (id.to_owned(), node.to_owned())).unwrap();
    text.lines().map(pair).collect()
}

#[test]
fn a_file_in_the_spool_folder_is_taken_in_and_its_ids_are_recorded() {
    let fleet = Fleet::new();
    let (mut central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    // As a shell writes it.
    let script = "printf -- '- toNodes: [ship1, central]\\n  commandOrEvent: EventACK\\n' > messages.d/a.yaml.tmp
        printf -- '  method: TextLogging\\n  data: [one]\\n' >> messages.d/a.yaml.tmp
        mv messages.d/a.yaml.tmp messages.d/a.yaml";
    run(fleet.dir(), Command::new("bash").current_dir(central.dir()).args(["-c", script])).ok();
    let taken = ids(&central, "a.yaml");
    assert_eq!(taken.iter().map(|(_, node)| &**node).collect::<Vec<_>>(), ["ship1", "central"]);
    for (id, node) in &taken {
        let message = central.ended(id);
        assert_eq!((message["toNode"].as_str(), message["state"].as_str()), (Some(&**node), Some("done")), "{message}");
    }
    // Written in its place, as `cp` does it.
    fs::write(spool(&central, "b.json"), event("ship1", "TextLogging", &["two"]).to_string()).unwrap();
    assert_eq!(ids(&central, "b.json").len(), 1);
    // Put there while the node was down.
    central.terminate();
    put(&central, "c.yml", "toNode: ship1\ncommandOrEvent: EventACK\nmethod: TextLogging\ndata: [three]\n");
    central.start();
    assert_eq!(central.ended(&ids(&central, "c.yml")[0].0)["state"], "done");

    put(&central, "d.yaml", "- toNode: ship1\n  commandOrEvent: EventACK\n  methd: TextLogging\n");
    let reason = spool(&central, "rejected/d.yaml.reason");
    let reason = eventually("it is rejected", || fs::read_to_string(&reason).ok().filter(|text| !text.is_empty()));
    assert!(reason.starts_with("line 1, column 3: unknown key \"methd\"; did you mean \"method\"?"), "{reason}");
    assert_eq!(central.all_ended(4).len(), 4);
}

/// Killed again and again while files come in: each message is accepted once, and each file says which ids it became.
#[test]
fn a_node_killed_over_its_spool_loses_nothing_and_doubles_nothing() {
    let fleet = Fleet::new();
    let (mut central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let (rounds, files, each) = (6, 8, 5);
    for round in 0..rounds {
        for file in 0..files {
            let numbers = (0..each).map(|n| (round * files + file) * each + n);
            let messages: Vec<Value> =
                numbers.map(|n| shell("ship1", &format!("echo {n} >> {}", ran.path()))).collect();
            put(&central, &format!("{round}-{file}.json"), &Value::from(messages).to_string());
        }
        // Each time a little later on its way: some renamed, some read, some stored, some moved.
        eventually("it has begun", || {
            let is_there = |file: &usize| spool(&central, &format!("{round}-{file}.json")).exists();
            ((0..files).filter(is_there).count() <= files - round).then_some(())
        });
        central.kill();
        central.start();
    }
    let count = rounds * files * each;
    let mut recorded: Vec<String> = Vec::new();
    for round in 0..rounds {
        for file in 0..files {
            recorded.extend(ids(&central, &format!("{round}-{file}.json")).into_iter().map(|(id, _)| id));
        }
    }
    let mut accepted: Vec<String> =
        central.all_ended(count).iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect();
    accepted.sort();
    recorded.sort();
    assert_eq!(recorded, accepted, "what the files say is what was accepted");
    let mut numbers: Vec<usize> = ran.lines().iter().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    let left: Vec<_> = fs::read_dir(spool(&central, "")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["done"]);
}

/// Messages over HTTP on a port of the loopback interface: for those who have the token, and messages only.
#[test]
fn a_port_takes_messages_from_those_who_have_the_token() {
    let fleet = Fleet::new();
    let port = Port::reserve();
    let central = fleet.node_with("central", &["--listen", &port.number().to_string()]);
    let text = shell("central", "echo over the port").to_string();
    let ask = |path: &str, headers: &str| {
        let mut answer = None;
        eventually("the port answers", || {
            answer = post(&port.address(), path, headers, &text).ok();
            answer.as_ref().map(|_| ())
        });
        answer.unwrap()
    };
    let with_token = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for headers in [String::new(), with_token("x"), with_token(""), "Authorization: Basic eDp5\r\n".to_owned()] {
        let answer = ask("/v1/messages", &headers);
        assert_eq!(answer.status, 401, "{headers}");
        assert!(String::from_utf8_lossy(&answer.body).contains("listen.token"));
    }
    assert!(central.messages().is_empty());

    let token = central.read("listen.token").trim().to_owned();
    let mode = fs::metadata(central.dir().join("listen.token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let answer = ask("/v1/messages", &with_token(&token));
    assert_eq!(answer.status, 200);
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    let id = answer["ids"][0].as_str().unwrap();
    assert_eq!(central.ended(id)["stdout"], "over the port\n");
    let audit = central.cli(&["audit", "show", "--json", "--id", id]).ok().stdout;
    let sent: Value = serde_json::from_str(audit.lines().next().unwrap()).unwrap();
    assert_eq!(sent["by"]["via"], "port", "{sent}");
    assert!(sent["by"]["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{sent}");

    // Parts of the node are nobody's business here, with or without the token.
    assert_eq!(ask("/v1/ps/stop", &with_token(&token)).status, 404);
    assert_eq!(ask("/v1/keys/renew", &with_token(&token)).status, 404);
    assert_eq!(ask("/v1/ps/stop", "").status, 401);
    assert!(!central.log().contains(&token));
    assert_eq!(central.log().matches("without the token").count(), 1);
}

#[test]
fn a_port_that_other_machines_could_reach_is_refused() {
    let fleet = Fleet::new();
    let central = fleet.absent("central", &[]);
    for address in ["0.0.0.0:7000", ":7000", "10.0.0.1:7000"] {
        let refused = central.cli(&["run", "--node", "central", "--listen", address]);
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains("must be a port of a loopback address"), "{}", refused.stderr);
    }
}
