//! Executables in a node's folder that become methods: who may run them, what they read, and what is told when they go.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Fleet, Node, eventually, shell, skipped, stays, with};

/// Puts a method into a node's folder, as one does it: aside first.
fn put(dir: &Path, name: &str, text: &str) {
    let folder = dir.join("methods.d");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    let aside = folder.join(format!(".{name}"));
    fs::write(&aside, text).unwrap();
    fs::set_permissions(&aside, Permissions::from_mode(0o755)).unwrap();
    fs::rename(&aside, folder.join(name)).unwrap();
}

fn describe(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join("methods.d").join(format!("{name}.toml")), text).unwrap();
}

/// A node that has this method from the beginning.
fn node_with_method<'a>(fleet: &'a Fleet, name: &str, text: &str, described: &str) -> Node<'a> {
    let mut node = fleet.absent("ship1", &[]);
    put(node.dir(), name, text);
    describe(node.dir(), name, described);
    node.start();
    node
}

fn call(method: &str, data: &[&str]) -> Value {
    json!({ "toNode": "ship1", "data": data, "commandOrEvent": "CommandACK", "method": method })
}

/// What central has heard of the methods of ship1.
fn heard(central: &Node<'_>) -> Vec<Value> {
    central.json(&["methods", "ship1"])
}

#[test]
fn an_executable_is_a_method_and_reads_its_message() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let refused = central.send_and_wait(&call("Report", &[]));
    assert_eq!(refused["state"], "refused", "{refused}");
    put(ship1.dir(), "Report", "#!/bin/sh\ncat\necho \"$# $STEWARD_FROM\" >&2\nexit 3\n");
    describe(ship1.dir(), "Report", "description = \"what is there\"\n");
    eventually("it is told of", || {
        heard(&central).iter().any(|told| told["description"] == "what is there").then_some(())
    });

    let message = central.send_and_wait(&call("Report", &["a b", "ä\n\"\u{0}"]));
    assert_eq!((&message["state"], &message["exitCode"]), (&"failed".into(), &3.into()), "{message}");
    assert_eq!(message["stderr"], "0 central\n");
    let input: Value = serde_json::from_str(message["stdout"].as_str().unwrap()).unwrap();
    let expected = json!({ "id": message["id"], "fromNode": "central", "toNode": "ship1", "commandOrEvent": "CommandACK",
        "method": "Report", "data": ["a b", "ä\n\"\u{0}"], "createdAt": message["createdAt"], "again": false });
    assert_eq!(input, expected);
    let event = central.send_and_wait(&with(call("Report", &[]), json!({ "commandOrEvent": "EventACK" })));
    assert!(event["state"] == "refused" && event["reason"].as_str().unwrap().contains("CommandACK"), "{event}");
    // As much as a message may have; what reads nothing of it holds nobody up.
    put(ship1.dir(), "Count", "#!/bin/sh\nwc -c\n");
    put(ship1.dir(), "Deaf", "#!/bin/sh\necho deaf\n");
    eventually("they are there", || (heard(&central).len() == 3).then_some(()));
    let most = "x".repeat(500_000);
    let counted = central.send_and_wait(&call("Count", &[&most]));
    assert!(counted["stdout"].as_str().unwrap().trim().parse::<usize>().unwrap() > 500_000, "{counted}");
    assert_eq!(central.send_and_wait(&call("Deaf", &[&most]))["stdout"], "deaf\n");

    let listed = ship1.cli(&["methods"]);
    assert!(listed.stdout.contains("what is there") && listed.stdout.contains("ShellCommand"), "{listed:?}");
    fs::set_permissions(ship1.dir().join("methods.d/Deaf"), Permissions::from_mode(0o777)).unwrap();
    eventually("it is told why not", || ship1.cli(&["methods"]).stdout.contains("go-w methods.d/Deaf").then_some(()));
    eventually("central has heard of it", || (heard(&central).len() == 2).then_some(()));
    assert_eq!(central.send_and_wait(&call("Deaf", &[]))["state"], "refused");
    eventually("it stands in the error log", || {
        ship1.told_errors().iter().any(|error| error.to_string().contains("Deaf")).then_some(())
    });
}

#[test]
fn rules_name_it_like_any_other_and_nobody_runs_it_without_one() {
    let fleet = Fleet::new();
    let (central, ship2) = (fleet.node("central"), fleet.node("ship2"));
    let ship1 = node_with_method(&fleet, "Whoami", "#!/bin/sh\nid -un\ncut -c1-6\n", "timeout = \"1m\"\n");
    let refused = ship2.send_and_wait(&call("Whoami", &[]));
    assert!(refused["reason"].as_str().unwrap().contains("--allow ship2:Whoami"), "{refused}");
    let rules = "otherwise = \"standard\"\n[[rule]]\nfrom = \"ship2\"\nmethod = \"Whoami\"\nargv = [\"you\"]\n";
    fs::write(ship1.dir().join("rules.toml"), rules).unwrap();
    let lets_in = || (ship2.send_and_wait(&call("Whoami", &["you"]))["state"] == "done").then_some(());
    eventually("the rule lets it in", lets_in);
    assert_eq!(ship2.send_and_wait(&call("Whoami", &["me"]))["state"], "refused");
    if !rustix::process::geteuid().is_root() {
        return skipped("own_methods::rules_name_it_like_any_other", "only root can run something as somebody else");
    }
    // As it is made by `steward init` and `steward join`: nobody else comes in.
    fs::set_permissions(ship1.dir(), Permissions::from_mode(0o700)).unwrap();
    let rules = "otherwise = \"refuse\"\n[[rule]]\nfrom = \"central\"\nmethod = \"Whoami\"\nuser = \"nobody\"\n";
    fs::write(ship1.dir().join("rules.toml"), rules).unwrap();
    eventually("they hold", || ship1.cli(&["rules", "show"]).stdout.contains("nobody").then_some(()));
    let message = central.send_and_wait(&call("Whoami", &[]));
    assert_eq!(message["stdout"], "nobody\n{\"id\":\n", "{message}");
}

/// The link is cut, and then both ends are killed, in the middle of it.
#[test]
fn a_method_whose_node_was_killed_runs_again_only_where_it_says_so() {
    let fleet = Fleet::new();
    let (ran, reran, gate) = (fleet.file("ran"), fleet.file("reran"), fleet.file("gate"));
    let text = |ran: &str| format!("#!/usr/bin/env bash\ngrep -o '\"again\":[a-z]*' >> {ran}\n{}\n", gate.awaited());
    let (mut central, mut ship1) = (fleet.node("central"), node_with_method(&fleet, "Once", &text(ran.path()), ""));
    put(ship1.dir(), "Again", &text(reran.path()));
    describe(ship1.dir(), "Again", "rerun = true\n");
    eventually("both are there", || (heard(&central).len() == 2).then_some(()));
    let before = fleet.processes().len();
    let (once, again) = (central.send(&call("Once", &[])), central.send(&call("Again", &[])));
    let gone = central.send(&call("Once", &["never"]));
    eventually("both run", || (ran.lines().len() == 1 && reran.lines().len() == 1).then_some(()));
    fleet.broker.stop();
    ship1.kill();
    central.kill();
    // What waits, and what ran, when its method was taken away: neither runs, and both are told.
    fs::remove_file(ship1.dir().join("methods.d/Once")).unwrap();
    ship1.start();
    eventually("what may run again does", || (reran.lines().len() == 2).then_some(()));
    fleet.broker.start();
    central.start();
    assert_eq!(central.ended(&once)["state"], "interrupted");
    let refused = central.ended(&gone);
    assert_eq!(refused["state"], "refused", "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("no method Once here any more"), "{refused}");
    gate.create();
    assert_eq!(central.ended(&again)["state"], "done");
    assert_eq!(
        (ran.lines(), reran.lines()),
        (vec!["\"again\":false".to_owned()], vec!["\"again\":false".to_owned(), "\"again\":true".to_owned()])
    );
    assert_eq!(central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    eventually("no process is left", || (fleet.processes().len() == before).then_some(()));
}

#[test]
fn what_takes_events_takes_results_too_and_a_limit_holds() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let took = fleet.file("took");
    put(central.dir(), "Collect", &format!("#!/bin/sh\ncat >> {}\n", took.path()));
    describe(central.dir(), "Collect", "event = true\n");
    put(ship1.dir(), "Slow", "#!/bin/sh\nsleep 600 & sleep 600\n");
    describe(ship1.dir(), "Slow", "timeout = \"500ms\"\n");
    eventually("it is there", || central.cli(&["methods"]).stdout.contains("Collect").then_some(()));
    eventually("so is the other", || (heard(&central).len() == 1).then_some(()));
    let sent = ship1.send_and_wait(
        &json!({ "toNode": "central", "data": ["by event"], "commandOrEvent": "EventACK", "method": "Collect" }),
    );
    assert_eq!(sent["state"], "done", "{sent}");
    let ran = central.send_and_wait(&with(shell("ship1", "echo as a result"), json!({ "replyMethod": "Collect" })));
    assert_eq!(ran["state"], "done");
    eventually("both came", || (took.lines().len() == 2).then_some(()));
    assert!(took.lines()[0].contains("by event") && took.lines()[1].contains("as a result"), "{:?}", took.lines());
    let late = central.send_and_wait(&with(call("Slow", &[]), json!({ "methodTimeout": 500 })));
    assert_eq!(late["state"], "timed_out", "{late}");
    stays("each came once", &2, || took.lines().len());
}

/// By a schedule the same holds for each run: of a script, and of a method that is there one day and gone the next.
#[test]
fn scripts_and_methods_of_the_nodes_own_run_by_a_schedule() {
    let fleet = Fleet::new();
    let (ran, file) = (fleet.file("ran"), fleet.dir().join("script.sh"));
    let text = format!("#!/bin/sh\ncat >> {}\nsleep 0.2\n", ran.path());
    let (central, mut ship1) = (fleet.node("central"), node_with_method(&fleet, "Tick", &text, ""));
    fs::write(&file, "#!/bin/sh\necho \"$1\"; sleep 0.2\n").unwrap();
    let sent = central.cli(&["script", "ship1", file.to_str().unwrap(), "--every=1s", "--", "by a schedule"]);
    let (script, tick) =
        (sent.stdout.trim(), central.send(&with(call("Tick", &["a"]), json!({ "schedule": "every 1s" }))));
    let results = |id: &str, state: &str| {
        let answer = central.ask("GET", &format!("/v1/messages/{id}/results?limit=1000"), "");
        let all = answer.as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|result| result["state"] == state).collect::<Vec<_>>()
    };
    eventually("both have run", || {
        (results(script, "done").len() >= 2 && results(&tick, "done").len() >= 2).then_some(())
    });
    assert_eq!(results(script, "done")[0]["stdout"], "by a schedule\n", "{sent:?}");
    ship1.kill();
    ship1.start();
    let known = results(&tick, "done").len();
    eventually("both go on", || {
        (results(script, "done").len() > known + 1 && results(&tick, "done").len() > known + 1).then_some(())
    });
    fs::remove_file(ship1.dir().join("methods.d/Tick")).unwrap();
    let refused = eventually("its runs are refused", || results(&tick, "refused").into_iter().next());
    // As it was known last, or as its file was just before it ran.
    let why = ["no method Tick here any more", "Tick can't be used here now"];
    assert!(why.iter().any(|why| refused["reason"].as_str().unwrap().contains(why)), "{refused}");
    put(ship1.dir(), "Tick", &text);
    let known = results(&tick, "done").len();
    eventually("it is back", || (results(&tick, "done").len() > known).then_some(()));
    for id in [script, &tick] {
        assert_eq!(central.cli(&["schedules", "remove", id]).code, 0);
    }
    eventually("each run that began has a result, also those that come behind the end", || {
        let told: usize = ["done", "interrupted", "cancelled"].map(|state| results(&tick, state).len()).iter().sum();
        (told >= ran.lines().len()).then_some(())
    });
    assert_eq!(fs::read_dir(ship1.dir().join("scripts")).unwrap().count(), 0);
}
