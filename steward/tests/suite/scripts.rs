//! Scripts that messages bring: run as they say, once, and nothing of them stays, whatever is killed.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Effects, Fleet, Node, eventually, shell, skipped, with};

/// A script for `ship1`.
fn script(text: &str, words: &[&str]) -> Value {
    let data: Vec<&str> = std::iter::once(text).chain(words.iter().copied()).collect();
    json!({ "toNode": "ship1", "data": data, "commandOrEvent": "CommandACK", "method": "Script" })
}

/// How many scripts lie on a node.
fn lying(node: &Node<'_>) -> usize {
    fs::read_dir(node.dir().join("scripts")).map_or(0, Iterator::count)
}

/// Says that it runs, and then runs until somebody ends it.
fn endless(ran: &Effects) -> String {
    format!("#!/usr/bin/env bash\necho ran >> {}\nsleep 600 & sleep 600\n", ran.path())
}

#[test]
fn a_script_runs_as_its_first_line_says_and_leaves_nothing() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let file = fleet.dir().join("deploy.sh");
    let text = "#!/bin/sh -u\n[ -O \"$0\" ] && ls -l \"$0\" | cut -c1-10\nprintf '[%s]' \"$@\"\necho oops >&2\n\
                echo \"$STEWARD_FROM $STEWARD_NODE\"\npwd\nexit 7\n";
    fs::write(&file, text).unwrap();
    let ran = central.cli(&["script", "ship1", file.to_str().unwrap(), "--", "a b", "", "-x"]);
    let pwd = ship1.dir().display();
    assert_eq!(ran.code, 7, "{ran:?}");
    assert_eq!(ran.stdout, format!("-rwx------\n[a b][][-x]central ship1\n{pwd}\n"), "{ran:?}");
    assert!(ran.stderr.contains("oops"), "{ran:?}");
    assert_eq!(lying(&ship1), 0);

    // The interpreter decides what the text means, and the way in does not matter.
    let mut command = central.command();
    let mut piped =
        command.args(["script", "ship1", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all("#!/bin/cat\nsecond line ä\n".as_bytes()).unwrap();
    let ran = piped.wait_with_output().unwrap();
    assert!(ran.status.success() && ran.stdout == "#!/bin/cat\nsecond line ä\n".as_bytes(), "{ran:?}");
    let message = central.send_and_wait(&script("#!/usr/bin/env -S sh -c 'echo \"$0\"; exit 3'\n", &[]));
    assert_eq!((&message["state"], &message["exitCode"]), (&"failed".into(), &3.into()), "{message}");
    assert!(message["stdout"].as_str().unwrap().contains("/scripts/"), "{message}");
    assert_eq!(lying(&ship1), 0);
}

#[test]
fn what_is_no_script_is_refused_before_it_is_sent_and_where_it_arrives() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let file = fleet.dir().join("file");
    for (bytes, why) in [
        (b"true\n".to_vec(), "what runs it"),
        (b"#!/bin/sh\r\n".to_vec(), "carriage return"),
        (b"\x7fELF\xff\xfe".to_vec(), "no UTF-8 text"),
        ([b"#!/bin/sh\n".to_vec(), vec![b'#'; 600_000]].concat(), "524288 bytes"),
    ] {
        fs::write(&file, bytes).unwrap();
        let ran = central.cli(&["script", "ship1", file.to_str().unwrap()]);
        assert!(ran.code == 2 && ran.stderr.contains(why), "{ran:?}");
    }
    assert!(central.cli(&["script", "ship1", "/no/such/file"]).stderr.contains("can't be read"));
    assert_eq!(central.messages().len(), 0);
    let refused = central.send_and_wait(&script("true\n", &[]));
    assert_eq!(refused["state"], "refused");
    assert!(refused["reason"].as_str().unwrap().contains("#!/bin/sh"), "{refused}");
    let missing = central.send_and_wait(&script("#!/no/such/program\n", &[]));
    assert_eq!(missing["state"], "failed");
    assert!(missing["reason"].as_str().unwrap().contains("there is no such file"), "{missing}");
    assert_eq!(
        central.send_and_wait(&with(script("#!/bin/sh\n", &[]), json!({ "commandOrEvent": "EventACK" })))["state"],
        "refused"
    );
    // Its file has no room: that is said, and what comes next runs.
    let folder = ship1.dir().join("scripts");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    let blocked = central.send_and_wait(&script("#!/bin/sh\n", &[]));
    assert!(blocked["reason"].as_str().unwrap().contains("is no folder"), "{blocked}");
    fs::remove_file(&folder).unwrap();
    assert_eq!(central.send_and_wait(&script("#!/bin/sh\n", &[]))["state"], "done");
}

#[test]
fn a_script_that_is_stopped_is_gone_with_all_that_it_has_started() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let before = fleet.processes().len();
    let late = central.send(&with(script(&endless(&ran), &[]), json!({ "methodTimeout": 0.5 })));
    assert_eq!(central.ended(&late)["state"], "timed_out");
    let id = central.send(&script(&endless(&ran), &[]));
    eventually("it runs", || (ran.lines().len() == 2 && lying(&ship1) == 1).then_some(()));
    central.awaits(&id, "running");
    assert_eq!(central.cli(&["cancel", &id]).code, 0);
    assert_eq!(central.ended(&id)["state"], "cancelled");
    eventually("nothing is left", || (fleet.processes().len() == before && lying(&ship1) == 0).then_some(()));
}

#[test]
fn a_rule_runs_a_script_as_another_user() {
    if !rustix::process::geteuid().is_root() {
        return skipped(
            "scripts::a_rule_runs_a_script_as_another_user",
            "only root can run something as somebody else",
        );
    }
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let rules = "otherwise = \"refuse\"\n[[rule]]\nfrom = \"central\"\nmethod = \"Script\"\nuser = \"nobody\"\n";
    fs::write(ship1.dir().join("rules.toml"), rules).unwrap();
    eventually("they hold", || ship1.cli(&["rules", "show"]).stdout.contains("nobody").then_some(()));
    let text = "#!/bin/sh -e\nid -un\necho $#\ntail -1 \"$0\"\nls -d ../scripts\n# the last line\n";
    let message = central.send_and_wait(&script(text, &["0", "/proc/self/fd/0"]));
    assert_eq!(message["stdout"], "nobody\n2\n# the last line\n", "{message}");
    assert_eq!(message["state"], "failed", "the node's directory is not where it runs: {message}");
    assert_eq!(lying(&ship1), 0);
}

/// The link is cut, and then both ends are killed, in the middle of a script.
#[test]
fn a_script_whose_node_was_killed_is_interrupted_and_not_rerun() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (ran, reran, gate) = (fleet.file("ran"), fleet.file("reran"), fleet.file("gate"));
    let before = fleet.processes().len();
    let id = central.send(&script(&endless(&ran), &[]));
    let text = format!("#!/bin/sh\necho ran >> {}\n{}\n", reran.path(), gate.awaited());
    let again = central.send(&with(script(&text, &[]), json!({ "rerun": true, "parallel": true })));
    eventually("both run", || (ran.lines().len() == 1 && reran.lines().len() == 1).then_some(()));
    fleet.broker.stop();
    assert_eq!(lying(&ship1), 2);
    ship1.kill();
    central.kill();
    ship1.start();
    eventually("what may run again does, link or no link", || (reran.lines().len() == 2).then_some(()));
    assert_eq!(lying(&ship1), 1);
    fleet.broker.start();
    central.start();
    let message = central.ended(&id);
    assert_eq!(message["state"], "interrupted", "{message}");
    gate.create();
    assert_eq!(central.ended(&again)["state"], "done");
    assert_eq!(central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    eventually("no process is left", || (fleet.processes().len() == before).then_some(()));
    assert_eq!((ran.lines().len(), reran.lines().len(), lying(&ship1)), (1, 2, 0));
}

/// Whichever end is killed, and whenever the link is cut: each at most once, in order, and what did not run is told.
#[test]
fn scripts_run_at_most_once_whatever_is_killed() {
    const SCRIPTS: usize = 60;
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let text = format!("#!/bin/sh\necho \"$1\" >> {}\n", ran.path());
    let scripts: Vec<Value> = (0..SCRIPTS).map(|number| script(&text, &[&number.to_string()])).collect();
    central.send_all(&scripts);
    for part in 1..=3 {
        eventually("some have run", || (ran.lines().len() >= part * 12).then_some(()));
        ship1.kill();
        fleet.broker.stop();
        central.kill();
        ship1.start();
        fleet.broker.start();
        central.start();
    }
    let messages = central.all_ended(SCRIPTS);
    let lines: Vec<usize> = ran.lines().iter().map(|line| line.parse().unwrap()).collect();
    assert!(lines.is_sorted_by(|before, next| before < next), "twice, or out of order: {lines:?}");
    let told = |state: &str| messages.iter().filter(|message| message["state"] == state).count();
    assert_eq!(told("done") + told("interrupted"), SCRIPTS, "{messages:#?}");
    assert!(told("interrupted") <= 3, "{messages:#?}");
    for (number, message) in messages.iter().enumerate() {
        assert!(lines.contains(&number) || message["state"] == "interrupted", "{number} has not run: {message}");
    }
    assert_eq!(lying(&ship1), 0);
    assert!(Path::new(&ship1.dir().join("scripts")).is_dir());
}
