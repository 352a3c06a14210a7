//! What an operator types, and what a script reads: verbs, exit codes, JSON.

use serde_json::Value;

use crate::harness::{Fleet, eventually, run, shell};

#[test]
fn send_prints_the_output_and_ends_with_the_remote_exit_code() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = central.cli(&["send", "ship1", "--", "bash", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (7, "out\n"), "{ran:?}");
    assert!(ran.stderr.contains("err\n"), "{ran:?}");
    let quiet = central.cli(&["send", "--to=ship1", "--", "true"]).ok();
    assert_eq!(quiet.stdout, "");
    for (script, code) in [("kill -TERM $$", 128 + 15), ("exit 255", 255)] {
        assert_eq!(central.cli(&["send", "ship1", "--", "bash", "-c", script]).code, code);
    }
    let timed_out = central.cli(&["send", "ship1", "--method-timeout=0.3", "--", "sleep", "600"]);
    assert_eq!(timed_out.code, 124, "{timed_out:?}");
    let undeliverable = central.cli(&["send", "nowhere", "--timeout=0.1", "--retries=2", "--", "true"]);
    assert_eq!(undeliverable.code, 121, "{undeliverable:?}");
}

#[test]
fn send_to_several_nodes_ends_with_a_table() {
    let fleet = Fleet::new();
    let (central, _ship1, _ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    let good = central.cli(&["send", "ship1,ship2", "--", "bash", "-c", "echo $STEWARD_NODE"]).ok();
    assert!(good.stdout.contains("ship1\n") && good.stdout.contains("ship2\n"), "{good:?}");
    let mixed = central.cli(&["send", "ship1", "ship2", "--", "bash", "-c", "[ $STEWARD_NODE = ship1 ]"]);
    assert_eq!(mixed.code, 1, "{mixed:?}");
    let all = mixed.stdout + &mixed.stderr;
    assert!(all.contains("done") && all.contains("failed"), "{all}");
}

#[test]
fn send_says_that_a_node_is_away_and_what_becomes_of_the_message() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    // Ctrl-C while it waits, as a terminal sends it.
    let script = format!(
        "{} send ship2 -- echo hello & id=$!; until grep -q away err; do sleep 0.02; done; kill -INT $id; wait $id",
        env!("CARGO_BIN_EXE_steward")
    );
    let mut bash = std::process::Command::new("bash");
    // A job of a script without job control ignores SIGINT unless it says otherwise.
    let ran = run(
        fleet.dir(),
        bash.current_dir(central.dir()).args(["-c", &format!("set -m; touch err; {{ {script}; }} 2>err")]),
    );
    let said = central.read("err");
    assert_eq!(ran.code, 130, "{ran:?} {said}");
    assert!(said.contains("ship2") && said.contains("away") && said.contains("queued"), "{said}");
    let _ship2 = fleet.node("ship2");
    assert_eq!(central.all_ended(1)[0]["state"], "done");
}

#[test]
fn a_detached_message_is_shown_with_its_way() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let id = central.json(&["send", "--detach", "ship1", "--", "bash", "-c", "echo out; exit 3"])[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let message = central.ended(&id);
    for key in [
        "id",
        "fromNode",
        "toNode",
        "commandOrEvent",
        "method",
        "data",
        "state",
        "reason",
        "attempts",
        "createdAt",
        "finishedAt",
        "exitCode",
        "signal",
        "stdout",
        "stderr",
        "truncated",
        "history",
    ] {
        assert!(message.get(key).is_some(), "no {key} in {message}");
    }
    assert_eq!(central.json(&["show", &id])[0], message);
    let states: Vec<&str> =
        message["history"].as_array().unwrap().iter().map(|moment| moment["state"].as_str().unwrap()).collect();
    assert_eq!((states.first(), states.last()), (Some(&"queued"), Some(&"failed")), "{message}");
    let shown = central.cli(&["show", &id]).ok().stdout;
    assert!(shown.contains("failed") && shown.contains("exit") && shown.contains("out"), "{shown}");
    // The beginning or the end of an id is enough, and outputs come alone.
    assert_eq!(central.cli(&["show", &id[24..], "--stdout"]).ok().stdout, "out\n");
}

#[test]
fn messages_are_listed_newest_first_and_filtered() {
    let fleet = Fleet::new();
    // It tells somebody else of its failures, so that nothing but our messages is listed here.
    let (central, _ship1) =
        (fleet.node("central"), fleet.node_with("ship1", &["--central=elsewhere", "--allow=central:*"]));
    let first = central.send_and_wait(&shell("ship1", "exit 1"));
    let second = central.send_and_wait(&shell("ship1", "true"));
    let third = central.send(&shell("ship9", "true"));
    let ids =
        |args: &[&str]| -> Vec<Value> { central.json(args).into_iter().map(|message| message["id"].clone()).collect() };
    let (first, second, third) = (first["id"].clone(), second["id"].clone(), Value::from(third));
    assert_eq!(ids(&["messages"]), [third.clone(), second.clone(), first.clone()]);
    assert_eq!(ids(&["messages", "--node=ship1"]), [second.clone(), first.clone()]);
    assert_eq!(ids(&["messages", "--state=failed"]), [first]);
    assert_eq!(ids(&["messages", "--state=queued"])[0], third);
    assert_eq!(ids(&["messages", "--limit=1"]), [third]);
    assert_eq!(ids(&["messages", "--since=10m"]).len(), 3);
    let table = central.cli(&["messages"]).ok().stdout;
    assert!(table.contains("failed") && table.contains("ship9"), "{table}");
}

/// R12: at any time, also of a node that does not run.
#[test]
fn what_is_stored_can_be_read_without_a_running_node() {
    let fleet = Fleet::new();
    let (mut central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let message = central.send_and_wait(&shell("ship1", "echo out"));
    let id = message["id"].as_str().unwrap();
    assert_eq!(central.terminate(), 0);
    assert_eq!(central.json(&["messages"])[0]["id"], id);
    assert_eq!(central.json(&["show", id])[0]["stdout"], "out\n");
    assert_eq!(central.json(&["nodes"])[0]["node"], "ship1");
    let refused = central.cli(&["send", "ship1", "--", "true"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(refused.stderr.contains("no node runs"), "{refused:?}");
}

#[test]
fn what_makes_no_sense_is_said_with_what_would() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    for (args, code, hint) in [
        (&["sned", "ship1"][..], 2, "send"),
        (&["send"][..], 2, "NODE"),
        (&["send", "ship 1", "--", "true"][..], 2, "' '"),
        (&["show", "0193"][..], 1, "messages"),
        (&["messages", "--state=finished"][..], 2, "done"),
        (&["--brokerAdress=x"][..], 2, "broker-address"),
    ] {
        let ran = central.cli(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(hint), "{args:?}: {ran:?}");
    }
}

#[test]
fn flag_environment_and_file_are_heard_in_this_order() {
    let fleet = Fleet::new();
    let mut node = fleet.absent("x", &[]);
    let config = node.dir().join("steward.toml");
    std::fs::write(&config, "label = [\"from=file\"]\ncentral = \"boss\"\nhelloInterval = \"1s\"\n").unwrap();
    node.set_flags(&["--config", config.to_str().unwrap(), "--hello-interval=2s"]);
    node.start();
    let boss = fleet.node("boss");
    eventually("x says hello to the node that its file names, with its label", || {
        boss.json(&["nodes"]).into_iter().find(|node| node["info"].to_string().contains("file"))
    });
}

#[test]
fn replay_sends_again_what_the_message_log_holds() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let first = central.send_and_wait(&shell("ship1", &format!("echo ran >> {}", ran.path())));
    central.cli(&["replay", "--yes", "--id", first["id"].as_str().unwrap()]).ok();
    let messages = central.all_ended(2);
    assert_ne!(messages[0]["id"], messages[1]["id"]);
    assert_eq!(messages[0]["data"], messages[1]["data"]);
    assert_eq!(ran.lines(), ["ran", "ran"]);
}

#[test]
fn completions_and_man_page_name_every_verb() {
    let fleet = Fleet::new();
    let node = fleet.absent("x", &[]);
    let help = node.cli(&["--help"]).ok().stdout;
    for verb in [
        "run",
        "send",
        "messages",
        "show",
        "cancel",
        "nodes",
        "ps",
        "stop-process",
        "start-process",
        "errors",
        "replay",
        "demo",
        "completions",
        "man",
    ] {
        assert!(help.contains(&format!("  {verb}")), "{verb} is not in --help");
        node.cli(&[verb, "--help"]).ok();
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(node.cli(&["completions", shell]).ok().stdout.contains("messages"), "{shell}");
    }
    assert!(node.cli(&["man"]).ok().stdout.starts_with(".ie"), "a man page");
}
