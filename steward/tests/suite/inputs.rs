//! The other ways in beside `inmsg.txt` (which is in `input_file.rs`), as people and scripts use them.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Fleet, Node, event, with};

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
