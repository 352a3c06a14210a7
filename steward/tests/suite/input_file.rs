//! `inmsg.txt`, however it is written (R27). What is wrong in it is in `hostile.rs`, kills while it is read in `restart.rs`.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Fleet, Node, event, run, stays};

fn said(node: &Node<'_>, count: usize) -> Vec<String> {
    let messages = node.all_ended(count);
    messages.iter().map(|message| message["data"][0].as_str().unwrap().to_owned()).collect()
}

fn array(texts: &[&str]) -> String {
    let messages: Vec<Value> = texts.iter().map(|text| event("central", "TextLogging", &[text])).collect();
    serde_json::to_string_pretty(&messages).unwrap()
}

#[test]
fn what_was_written_while_the_node_was_down_is_taken_in_at_its_start() {
    let fleet = Fleet::new();
    let mut central = fleet.absent("central", &[]);
    central.append(&array(&["one", "two"]));
    central.start();
    assert_eq!(said(&central, 2), ["one", "two"]);
    central.terminate();
    central.append(&array(&["three"]));
    central.start();
    assert_eq!(said(&central, 3)[2], "three");
}

/// Somebody writes slowly, or by hand: an array that is not complete yet waits for its end.
#[test]
fn an_array_in_pieces_waits_for_its_end() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let text = array(&["one", "two"]);
    let (first, rest) = text.split_at(text.len() / 2);
    let (second, third) = rest.split_at(rest.len() / 2);
    for piece in [first, second] {
        central.append(piece);
        stays("nothing is accepted or set aside", &(0, String::new()), || {
            (central.messages().len(), central.rejected())
        });
    }
    central.append(third);
    assert_eq!(said(&central, 2), ["one", "two"]);
}

#[test]
fn a_file_that_is_put_in_its_place_is_taken_in() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    // As an editor does it, and as a shell's `>` does it.
    fs::write(central.dir().join("new"), array(&["moved"])).unwrap();
    fs::rename(central.dir().join("new"), central.dir().join("inmsg.txt")).unwrap();
    assert_eq!(said(&central, 1), ["moved"]);
    fs::write(central.dir().join("inmsg.txt"), array(&["written over"])).unwrap();
    assert_eq!(said(&central, 2)[1], "written over");
}

/// Eight shells at once, each in its own order.
#[test]
fn many_writers_at_once_lose_nothing() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let script = r#"
        for writer in 1 2 3 4 5 6 7 8; do (
            for number in $(seq 25); do
                echo "[{\"toNode\":\"central\",\"data\":[\"$writer $number\"],\"commandOrEvent\":\"EventACK\",\"method\":\"TextLogging\"}]" > part.$writer
                cat part.$writer >> inmsg.txt
            done
        ) & done
        wait"#;
    run(fleet.dir(), Command::new("bash").current_dir(central.dir()).args(["-c", script])).ok();
    let said = said(&central, 200);
    for writer in 1..=8 {
        let own: Vec<&String> = said.iter().filter(|text| text.starts_with(&format!("{writer} "))).collect();
        let expected: Vec<String> = (1..=25).map(|number| format!("{writer} {number}")).collect();
        assert!(own.into_iter().eq(&expected), "writer {writer}: {said:?}");
    }
    assert_eq!(central.rejected(), "");
}
