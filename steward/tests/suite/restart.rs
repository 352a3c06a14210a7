//! Nodes that die and come back, at every point (R9, L2, L6, L7, L18).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Effects, Fleet, eventually, shell, stays, with};

/// Commands for `ship1` that each write their number.
fn numbered(range: std::ops::Range<usize>, ran: &Effects) -> Vec<Value> {
    range.map(|number| shell("ship1", &format!("echo {number} >> {}", ran.path()))).collect()
}

fn counted(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// L2: the outcome is unknown, and that is what is said; nothing of the command goes on unseen.
#[test]
fn l2_a_command_whose_node_was_killed_is_interrupted_and_not_rerun() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let before = fleet.processes().len();
    let id = central.send(&shell("ship1", &format!("echo ran >> {}; sleep 600 & sleep 600", ran.path())));
    eventually("the command runs", || (ran.lines().len() == 1).then_some(()));
    central.awaits(&id, "running");
    ship1.kill();
    // At the latest when the node is back; its child processes may be ended by then or before.
    ship1.start();
    let message = central.ended(&id);
    assert_eq!(message["state"], "interrupted", "{message}");
    eventually("no child process is left", || (fleet.processes().len() == before).then_some(()));
    // The lane goes on behind it.
    assert_eq!(central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    assert_eq!(ran.lines(), ["ran"]);
}

/// L2, the other half: what is marked as harmless is run again.
#[test]
fn l2_a_command_marked_rerun_is_run_again_after_a_kill() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (ran, gate) = (fleet.file("ran"), fleet.file("gate"));
    let command = shell("ship1", &format!("echo ran >> {}; {}", ran.path(), gate.awaited()));
    let id = central.send(&with(command, json!({ "rerun": true })));
    eventually("the command runs", || (ran.lines().len() == 1).then_some(()));
    ship1.kill();
    ship1.start();
    eventually("the command runs again", || (ran.lines().len() == 2).then_some(()));
    gate.create();
    assert_eq!(central.ended(&id)["state"], "done");
}

/// A stop in good order is no worse than a kill: what may run again does, and is no `interrupted`.
#[test]
fn a_command_marked_rerun_is_run_again_after_a_stop_that_did_not_wait_for_it() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node_with("ship1", &["--stop-limit", "0s"]));
    let (ran, gate) = (fleet.file("ran"), fleet.file("gate"));
    let command = shell("ship1", &format!("echo ran >> {}; {}", ran.path(), gate.awaited()));
    let id = central.send(&with(command, json!({ "rerun": true })));
    eventually("the command runs", || (ran.lines().len() == 1).then_some(()));
    assert_eq!(ship1.terminate(), 0);
    ship1.start();
    eventually("the command runs again", || (ran.lines().len() == 2).then_some(()));
    gate.create();
    assert_eq!(central.ended(&id)["state"], "done");
}

/// L6, R9: oldest first, all of them.
#[test]
fn l6_what_is_outstanding_goes_out_oldest_first_after_a_restart() {
    let fleet = Fleet::new();
    let mut central = fleet.node("central");
    let ran = fleet.file("ran");
    central.send_all(&numbered(0..100, &ran));
    central.kill();
    central.start();
    central.send_all(&numbered(100..120, &ran));
    let _ship1 = fleet.node("ship1");
    central.all_ended(120);
    assert_eq!(ran.lines(), counted(0..120));
}

/// L7: whenever the sender is killed while it reads its input, each message is accepted once.
#[test]
fn l7_a_sender_killed_over_its_input_loses_nothing_and_doubles_nothing() {
    let fleet = Fleet::new();
    let (mut central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    for round in 0..5 {
        central.append(&Value::from(numbered(round * 50..(round + 1) * 50, &ran)).to_string());
        // Each time a little later on its way: renamed, being read, stored, erased.
        eventually("it has begun to read", || {
            (round == 0 || central.read("inmsg.txt").is_empty() || !central.dir().join("inmsg.txt").exists())
                .then_some(())
        });
        central.kill();
        central.start();
    }
    central.all_ended(250);
    assert_eq!(ran.lines(), counted(0..250));
    assert_eq!(central.rejected(), "");
}

/// The same for whatever else the sender may be doing.
#[test]
fn a_sender_killed_again_and_again_loses_nothing() {
    let fleet = Fleet::new();
    let (mut central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    central.send_all(&numbered(0..150, &ran));
    for part in 1..=4 {
        eventually("some have run", || (ran.lines().len() >= part * 25).then_some(()));
        central.kill();
        central.start();
    }
    let messages = central.all_ended(150);
    assert!(messages.iter().all(|message| message["state"] == "done"), "{messages:#?}");
    assert_eq!(ran.lines(), counted(0..150));
}

/// What ran when the receiver was killed is interrupted; everything else runs once, in order.
#[test]
fn a_receiver_killed_again_and_again_runs_nothing_twice() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    central.send_all(&numbered(0..150, &ran));
    for part in 1..=4 {
        eventually("some have run", || (ran.lines().len() >= part * 25).then_some(()));
        ship1.kill();
        ship1.start();
    }
    let messages = central.all_ended(150);
    let interrupted = messages.iter().filter(|message| message["state"] == "interrupted").count();
    let done = messages.iter().filter(|message| message["state"] == "done").count();
    assert_eq!(done + interrupted, 150, "{messages:#?}");
    assert!(interrupted <= 4, "{messages:#?}");
    let lines: Vec<usize> = ran.lines().iter().map(|line| line.parse().unwrap()).collect();
    let once: BTreeSet<usize> = lines.iter().copied().collect();
    assert_eq!(lines.len(), once.len(), "something ran twice: {lines:?}");
    assert!(lines.is_sorted(), "{lines:?}");
    for (number, message) in messages.iter().enumerate() {
        let has_run = once.contains(&number);
        assert!(has_run || message["state"] == "interrupted", "{number} has not run: {message}");
    }
}

/// The result waits on the receiver's disk until the sender has it.
#[test]
fn a_result_outlives_the_death_of_both_ends() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (gate, ran) = (fleet.file("gate"), fleet.file("ran"));
    let id = central.send(&shell("ship1", &format!("{}; echo result; echo ran >> {}", gate.awaited(), ran.path())));
    central.awaits(&id, "running");
    central.kill();
    gate.create();
    eventually("the command has run", || (ran.lines().len() == 1).then_some(()));
    eventually("ship1 has its end on disk", || {
        ship1.log_lines().iter().any(|line| line.to_string().contains(&id)).then_some(())
    });
    ship1.kill();
    ship1.start();
    central.start();
    let message = central.ended(&id);
    assert_eq!((&message["state"], &message["stdout"]), (&"done".into(), &"result\n".into()), "{message}");
    assert_eq!(ran.lines(), ["ran"]);
}

/// SIGTERM: what runs may end within the limit, and then the node goes with exit code 0.
#[test]
fn a_stop_lets_a_command_finish() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let id = central.send(&shell("ship1", &format!("sleep 0.5; echo ran >> {}; echo result", ran.path())));
    central.awaits(&id, "running");
    assert_eq!(ship1.terminate(), 0);
    assert_eq!(ran.lines(), ["ran"]);
    central.sees("ship1", "stopped");
    ship1.start();
    let message = central.ended(&id);
    assert_eq!((&message["state"], &message["stdout"]), (&"done".into(), &"result\n".into()), "{message}");
}

/// SIGTERM beyond the limit: reported as interrupted, nothing left behind.
#[test]
fn a_stop_does_not_wait_for_ever() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node_with("ship1", &["--stop-limit=0.5"]));
    let before = fleet.processes().len();
    let id = central.send(&shell("ship1", "sleep 600"));
    central.awaits(&id, "running");
    assert_eq!(ship1.terminate(), 0);
    eventually("nothing of ship1 is left", || (fleet.processes().len() < before).then_some(()));
    ship1.start();
    assert_eq!(central.ended(&id)["state"], "interrupted");
}

/// L18: a node that was frozen, on either side.
#[test]
fn l18_a_frozen_node_loses_nothing_and_repeats_nothing() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    central.send_and_wait(&shell("ship1", "true"));
    ship1.freeze();
    let impatient: Vec<Value> =
        numbered(0..20, &ran).into_iter().map(|message| with(message, json!({ "timeout": 0.1 }))).collect();
    let ids = central.send_all(&impatient);
    central.sees("ship1", "silent");
    assert!(ids.iter().all(|id| central.show(id)["finishedAt"].is_null()));
    ship1.thaw();
    central.all_ended(21);
    assert_eq!(ran.lines(), counted(0..20));

    central.freeze();
    stays("nothing more happens", &20, || ran.lines().len());
    central.thaw();
    let ids = central.send_all(&numbered(20..40, &ran));
    for id in ids {
        assert_eq!(central.ended(&id)["state"], "done");
    }
    assert_eq!(ran.lines(), counted(0..40));
}

/// One process owns a directory, and one a name.
#[test]
fn a_second_node_says_why_it_does_not_start() {
    let fleet = Fleet::new();
    let ship1 = fleet.node("ship1");
    let same_dir = ship1.command().args(["--node=ship2", "--prom-host-and-port=none"]).output().unwrap();
    let error = String::from_utf8_lossy(&same_dir.stderr);
    assert!(!same_dir.status.success() && error.contains(&ship1.pid().to_string()), "{error}");

    let mut same_name = fleet.absent_in("elsewhere", "ship1", &[]);
    same_name.launch();
    assert_ne!(same_name.ends(), 0);
    assert!(same_name.log().contains(&format!("process {}", ship1.pid())), "{}", same_name.log());

    let mut other_name = fleet.absent_in("elsewhere-too", "ship3", &[]);
    std::fs::copy(ship1.dir().join("steward.lock"), other_name.dir().join("steward.lock")).unwrap();
    other_name.launch();
    assert_ne!(other_name.ends(), 0);
    assert!(other_name.log().contains("directory of node ship1"), "{}", other_name.log());
}

/// `--take-over`: the other process is told to stop, and does, before this one goes on.
#[test]
fn a_node_may_take_its_name_over() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let mut old = fleet.node("ship1");
    central.send_and_wait(&shell("ship1", "true"));
    let before = central.sees_start_of("ship1");
    let new = fleet.node_in("elsewhere", "ship1", &["--take-over"]);
    assert_eq!(old.ends(), 1);
    assert!(old.log().contains("taken the name over"), "{}", old.log());
    eventually("central has heard of the new process", || (central.sees_start_of("ship1") != before).then_some(()));
    let message = central.send_and_wait(&shell("ship1", "pwd"));
    assert_eq!(message["stdout"].as_str().unwrap().trim(), new.dir().to_str().unwrap(), "{message}");
}
