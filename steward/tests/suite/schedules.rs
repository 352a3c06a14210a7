//! Orders with a schedule: they run on their node whatever becomes of link, broker and both nodes, each run has one result, and
//! nobody else can tell of them or stop them.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::harness::{Fleet, Node, eventually, shell, stays, with};

/// An order that runs this by that schedule.
fn ordered(script: &str, schedule: Value) -> Value {
    with(shell("ship1", script), json!({ "schedule": schedule }))
}

fn results(node: &Node<'_>, id: &str) -> Vec<Value> {
    let answer = node.ask("GET", &format!("/v1/messages/{id}/results?limit=1000"), "");
    answer.as_array().cloned().unwrap_or_default()
}

fn order(node: &Node<'_>, id: &str) -> Value {
    let orders = node.ask("GET", "/v1/schedules", "");
    orders.as_array().unwrap().iter().find(|order| order["id"] == id).cloned().unwrap_or_default()
}

/// Waits for so many results.
#[track_caller]
fn has_results(node: &Node<'_>, id: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} results of {id}"), || {
        let results = results(node, id);
        (results.len() >= count).then_some(results)
    })
}

/// Takes an order back. All its results, which may come after its end.
#[track_caller]
fn removes(node: &Node<'_>, id: &str) -> Vec<Value> {
    let ran = node.cli(&["schedules", "remove", id]);
    assert!(ran.code == 0 && ran.stdout.contains("cancelled"), "{ran:?}");
    let reason = node.show(id)["reason"].as_str().unwrap().to_owned();
    let begun = reason.split(' ').find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{reason}"));
    has_results(node, id, begun)
}

#[test]
fn an_order_runs_at_once_and_then_again_and_again_and_its_results_come_back() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let args = ["send", "ship1", "--every", "1s", "--reply-method=fileAppend", "--file-name=log", "--"];
    let sent = central.cli(&[&args[..], &["sh", "-c", "echo out; echo err >&2; exit 3"]].concat());
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(sent.stderr.contains("steward schedules results"), "{sent:?}");
    let id = sent.stdout.trim();
    let got = has_results(&central, id, 3);
    for (number, result) in (1..).zip(&got) {
        assert_eq!(
            (&result["run"], &result["state"], &result["exitCode"]),
            (&json!(number), &json!("failed"), &json!(3))
        );
        assert_eq!((&result["stdout"], &result["stderr"]), (&json!("out\n"), &json!("err\n")), "{result}");
    }
    assert_eq!(central.show(id)["state"], "running");
    let listed = central.cli(&["schedules", "ship1"]);
    assert!(listed.stdout.contains("every 1s") && listed.stdout.contains("stands"), "{listed:?}");
    assert_eq!(central.cli(&["schedules", "ship2"]).stdout, "");
    let printed = central.cli(&["schedules", "results", &id[id.len() - 12..], "--output", "--limit=2"]);
    assert_eq!(printed.stdout, "out\nerr\nout\nerr\n", "{printed:?}");
    let all = removes(&central, id);
    eventually("each result is in the file", || {
        (central.read("results/ship1/log") == "out\nerr\n".repeat(all.len())).then_some(())
    });
    assert_eq!(central.json(&["schedules", "--json"]), [Value::Null; 0]);
    stays("nothing runs any more", &all.len(), || results(&central, id).len());
}

/// Whatever is killed, each run has one result with its number, and what has a result of its own has run once.
#[test]
fn each_run_has_one_result_whatever_is_killed() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let effects = fleet.file("effects");
    let script = format!("echo $PPID $$ >> {}; sleep 0.3; echo $$", effects.path());
    let reply = json!({ "replyMethod": "fileAppend", "fileName": "log" });
    let id = central.send(&with(ordered(&script, json!({ "every": "1s", "missed": "all" })), reply));
    has_results(&central, &id, 1);
    for round in 0..4 {
        let before = effects.lines().len();
        eventually("a run goes on", || (effects.lines().len() > before).then_some(()));
        match round {
            0 => {
                ship1.kill();
                ship1.start();
            }
            1 => {
                // Without a link it runs all the same, also behind a restart.
                fleet.broker.stop();
                eventually("it runs without a link", || (effects.lines().len() > before + 3).then_some(()));
                ship1.kill();
                ship1.start();
                let known = effects.lines().len();
                eventually("and goes on", || (effects.lines().len() > known + 1).then_some(()));
                central.kill();
                fleet.broker.start();
                central.start();
            }
            2 => {
                central.kill();
                central.start();
            }
            _ => {
                ship1.terminate();
                ship1.start();
            }
        }
    }
    let so_far = results(&central, &id).len();
    has_results(&central, &id, so_far + 2);
    let got = removes(&central, &id);
    let numbers: Vec<u64> = got.iter().map(|result| result["run"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "each run has its result");
    let ran: Vec<String> = effects.lines().iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
    let told: Vec<&str> = got
        .iter()
        .filter(|result| result["state"] == "done")
        .map(|result| result["stdout"].as_str().unwrap().trim_end())
        .collect();
    for process in &told {
        assert_eq!(ran.iter().filter(|ran| ran == process).count(), 1, "{process} has run once");
    }
    let mut states = BTreeMap::new();
    for result in &got {
        *states.entry(result["state"].as_str().unwrap()).or_insert(0) += 1;
    }
    assert!(states.keys().all(|state| ["done", "interrupted", "cancelled"].contains(state)), "{states:?}");
    assert!(
        states["interrupted"] >= 2 && ran.len() <= got.len() && ran.len() + 4 > got.len(),
        "{states:?}, {} ran",
        ran.len()
    );
    let due: Vec<&str> = got.iter().map(|result| result["dueAt"].as_str().unwrap()).collect();
    assert!(due.is_sorted_by(|a, b| a < b), "no time comes twice: {due:?}");
    eventually("each result is in the file once and in order", || {
        (central.read("results/ship1/log").lines().eq(told.iter().copied())).then_some(())
    });
}

#[test]
fn a_run_that_may_run_again_does_and_has_one_result() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (effects, go) = (fleet.file("effects"), fleet.file("go"));
    let script = format!("echo $STEWARD_NODE >> {}; {}; echo done", effects.path(), go.awaited());
    let id = central.send(&with(ordered(&script, json!("@yearly")), json!({ "rerun": true })));
    let soon = central.send(&with(ordered(&script, json!({ "every": "300d" })), json!({ "rerun": true })));
    eventually("the run goes on", || (effects.lines().len() == 1).then_some(()));
    ship1.kill();
    ship1.start();
    eventually("it runs again", || (effects.lines().len() == 2).then_some(()));
    assert_eq!(ship1.terminate(), 0);
    ship1.start();
    eventually("and again", || (effects.lines().len() == 3).then_some(()));
    go.create();
    let got = has_results(&central, &soon, 1);
    assert_eq!((&got[0]["run"], &got[0]["state"], &got[0]["stdout"]), (&json!(1), &json!("done"), &json!("done\n")));
    eventually("it is due next in 300 days", || (order(&central, &soon)["runs"] == 1).then_some(()));
    assert_eq!(results(&central, &id), [Value::Null; 0], "a time of day is waited for");
    assert!(order(&central, &id)["nextAt"].as_str().unwrap().ends_with("-01-01T00:00:00.000Z"));
}

#[test]
fn an_order_is_paused_and_goes_on_and_stays_so_through_restarts() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let id = central.send(&ordered("true", json!({ "every": "1s", "missed": "all" })));
    has_results(&central, &id, 1);
    let ran = central.cli(&["schedules", "pause", &id]);
    assert!(ran.code == 0 && ran.stdout.ends_with("paused\n"), "{ran:?}");
    ship1.kill();
    ship1.start();
    eventually("it is paused", || (order(&central, &id)["paused"] == true).then_some(()));
    assert!(central.cli(&["schedules"]).stdout.contains("paused"));
    let before = results(&central, &id).len();
    stays("nothing runs", &before, || results(&central, &id).len());
    let ran = central.cli(&["schedules", "resume", &id]);
    assert!(ran.code == 0 && ran.stdout.ends_with("stands\n"), "{ran:?}");
    let got = has_results(&central, &id, before + 2);
    assert_eq!(got.last().unwrap()["run"], json!(got.len()), "what was due meanwhile is not made up for");
    assert_eq!(order(&central, &id)["missed"], 0);
    let listed =
        central.ended(&central.send(
            &json!({ "toNode": "ship1", "data": ["list"], "commandOrEvent": "CommandACK", "method": "OpSchedule" }),
        ));
    let listed: Value = serde_json::from_str(listed["stdout"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&listed["id"], &listed["method"], &listed["paused"]),
        (&json!(id), &json!("ShellCommand"), &json!(false))
    );
    let ended = central.cli(&["schedules", "pause", "0193a5b2-7c1e-7d3a-9b52-5a1f0e6c2d10"]);
    assert!(ended.code == 1 && ended.stderr.contains("no order that stands"), "{ended:?}");
}

/// Who has not given an order can neither stop it nor tell anything of it.
#[test]
fn an_order_is_between_its_sender_and_its_node() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node_with("ship1", &["--allow=ship2:OpSchedule"]));
    let ship2 = fleet.node("ship2");
    let id = central.send(&ordered("echo right", json!({ "every": "300d" })));
    has_results(&central, &id, 1);
    let op = |word: &str| json!({ "toNode": "ship1", "data": [word, id], "commandOrEvent": "CommandACK", "method": "OpSchedule" });
    let refused = ship2.send_and_wait(&op("pause"));
    assert_eq!(refused["state"], "refused");
    assert!(refused["reason"].as_str().unwrap().contains("no order"), "{refused}");
    let told = json!({ "v": 1, "order": id, "serial": 99, "atMs": 1, "runs": 9, "missed": 9, "paused": true,
        "run": { "number": 2, "dueMs": 1, "startedMs": 1, "finishedMs": 1, "state": "done", "base64": [false, false] } });
    let lie = json!({ "toNode": "central", "data": [told.to_string(), "wrong\n", ""], "commandOrEvent": "EventACK", "method": "ScheduleResult" });
    let ended = ship2.send_and_wait(&lie);
    assert_eq!(ended["state"], "refused");
    assert!(ended["reason"].as_str().unwrap().contains("has given ship2 no order"), "{ended}");
    assert_eq!((results(&central, &id).len(), &order(&central, &id)["paused"]), (1, &json!(false)));
    // Its own node may, and a number that is there already stays as it is.
    let again =
        with(lie.clone(), json!({ "data": [told.to_string().replace("\"number\":2", "\"number\":1"), "wrong\n", ""] }));
    assert_eq!(ship1.send_and_wait(&again)["state"], "done");
    assert_eq!(results(&central, &id)[0]["stdout"], "right\n");
    let nonsense = with(lie, json!({ "data": ["{}"] }));
    assert_eq!(ship1.send_and_wait(&nonsense)["state"], "refused");
}

/// Nobody could take it back any more.
#[test]
fn an_order_ends_whose_sender_has_forgotten_it() {
    let fleet = Fleet::new();
    let (mut central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let id = central.send(&ordered("true", json!({ "every": "1s" })));
    has_results(&central, &id, 1);
    central.kill();
    for entry in fs::read_dir(central.dir()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("steward.db") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    central.start();
    let ended = eventually("the order has ended", || {
        ship1.log_lines().into_iter().find(|line| line["message"] == "received message ended" && line["id"] == *id)
    });
    assert_eq!(ended["state"], "failed", "{ended}");
    assert!(ended["reason"].as_str().unwrap().contains("does not know the order any more"), "{ended}");
}

/// As long as no more may be outstanding nothing runs that could not be told, and nothing of what has run is lost.
#[test]
fn nothing_runs_that_could_not_be_told() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node_with("ship1", &["--maxOutstanding=3"]));
    let effects = fleet.file("effects");
    let id = central.send(&ordered(&format!("echo x >> {}", effects.path()), json!({ "every": "1s" })));
    has_results(&central, &id, 1);
    fleet.broker.stop();
    eventually("it runs while that can be kept", || (effects.lines().len() >= 4).then_some(()));
    let held = || (effects.lines().len() <= 6).then_some(()).is_some();
    stays("and not much more", &true, held);
    stays("and not much more", &true, held);
    fleet.broker.start();
    let ran = effects.lines().len();
    eventually("it goes on", || (effects.lines().len() > ran + 1).then_some(()));
    let got = removes(&central, &id);
    assert!(got.iter().all(|result| result["state"] != "interrupted"), "{got:?}");
    let numbers: Vec<u64> = got.iter().map(|result| result["run"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

/// Both the order and what it has run must be let in, and the rules are asked again before each run.
#[test]
fn the_rules_of_the_node_decide_before_each_run() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let mut ship1 = fleet.absent("ship1", &[]);
    fs::create_dir_all(ship1.dir()).unwrap();
    let dir = ship1.dir().to_owned();
    let rules = |methods: &str, words: &str| {
        let text = format!(
            "otherwise = \"refuse\"\n[[rule]]\nfrom = \"*\"\nmethod = \"Schedule\"\ntimeout = \"1s\"\n[[rule]]\nfrom = \"*\"\ntype = \"event\"\nmethod = \"*\"\n[[rule]]\nfrom = \"central\"\nmethod = {methods}\nargv = {words}\ntimeout = \"1s\"\n"
        );
        fs::write(dir.join("rules.new"), text).unwrap();
        fs::rename(dir.join("rules.new"), dir.join("rules.toml")).unwrap();
    };
    rules("\"ShellCommand\"", "[[\"sleep\", \"600\"], [\"true\"]]");
    ship1.start();
    let order = |words: &[&str]| json!({ "toNode": "ship1", "data": words, "commandOrEvent": "CommandACK", "method": "ShellCommand", "schedule": "every 1s" });
    let refused = central.send_and_wait(&order(&["reboot"]));
    assert_eq!(refused["state"], "refused", "{refused}");
    let (long, id) = (central.send(&order(&["sleep", "600"])), central.send(&order(&["true"])));
    has_results(&central, &id, 1);
    assert_eq!(has_results(&central, &long, 1)[0]["state"], "timed_out", "a rule limits each run");
    assert_eq!(central.show(&long)["state"], "running", "and not the order");
    rules("\"ShellCommand\"", "[[\"false\"]]");
    let refused =
        eventually("a run is refused", || results(&central, &id).into_iter().find(|run| run["state"] == "refused"));
    assert!(refused["reason"].as_str().unwrap().contains("had been accepted before"), "{refused}");
    rules("\"ShellCommand\"", "[[\"true\"]]");
    eventually("it runs again", || (results(&central, &id).last()?["state"] == "done").then_some(()));
}

#[test]
fn runs_do_not_overlap_unless_that_is_asked_for() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (one, many) = (fleet.file("one"), fleet.file("many"));
    let script = |file: &str| format!("echo $STEWARD_MESSAGE_ID >> {file}; sleep 600");
    let alone = central.send(&ordered(&script(one.path()), json!({ "every": "1s" })));
    let beside = central.send(&with(
        ordered(&script(many.path()), json!({ "every": "1s", "overlap": true })),
        json!({ "methodTimeout": 600 }),
    ));
    eventually("eight go on at once", || (many.lines().len() == 8).then_some(()));
    stays("and no more", &(8, 1), || (many.lines().len(), one.lines().len()));
    let mut ids = many.lines();
    ids.sort();
    ids.dedup();
    assert!(ids.len() == 8 && ids.contains(&beside), "each has an id of its own: {ids:?}");
    removes(&central, &alone);
    assert_eq!(removes(&central, &beside).len(), 8);
    eventually("nothing of them runs any more", || {
        fleet.processes().iter().all(|(_, line)| !line.contains("sleep 600")).then_some(())
    });
}

#[test]
fn output_comes_whole_up_to_its_limit_and_what_is_cut_is_marked() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let reply = json!({ "replyMethod": "file", "fileName": "bytes" });
    let id = central.send(&with(ordered("head -c 200000 /dev/urandom", json!({ "every": "300d" })), reply));
    let result = &has_results(&central, &id, 1)[0];
    assert_eq!((&result["stdoutBytes"], &result["truncated"]), (&json!(200_000), &json!(false)));
    let file = central.dir().join("results/ship1/bytes");
    eventually("its bytes are in the file", || (fs::metadata(&file).ok()?.len() == 200_000).then_some(()));
    let id = central.send(&ordered("seq 1000000", json!({ "every": "300d" })));
    let result = &has_results(&central, &id, 1)[0];
    assert_eq!(
        (&result["stdoutBytes"], &result["truncated"], &result["state"]),
        (&json!(262_144), &json!(true), &json!("done"))
    );
}

#[test]
fn a_web_page_is_asked_for_again_and_again() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let port = crate::harness::Port::reserve();
    let _ship1 = fleet.node_with("ship1", &[&format!("--promHostAndPort={}", port.address())]);
    let url = format!("http://{}/metrics", port.address());
    let sent = central.cli(&[
        "send",
        "ship1",
        "--every=1s",
        "--method=HttpGet",
        "--reply-method=fileAppend",
        "--",
        &url,
        "as=body",
    ]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let got = has_results(&central, sent.stdout.trim(), 2);
    assert!(got[1]["stdout"].as_str().unwrap().contains("steward_"), "{}", got[1]);
    eventually("they are in the file", || {
        (central.read("results/ship1/HttpGet.out").matches("# EOF").count() >= 2).then_some(())
    });
}

#[test]
fn what_makes_no_sense_is_refused_where_it_is_given() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    for (message, reason) in [
        (ordered("true", json!("every now and then")), "is no duration"),
        (ordered("true", json!("0 3 * * * Mars/Base")), "is no time zone"),
        (ordered("true", json!({ "cron": "0 0 31 2 *" })), "is never due"),
        (ordered("true", json!({ "every": "5m", "evry": 1 })), "unknown field `evry`"),
        (ordered("true", json!(5)), "a schedule as in"),
        (
            with(ordered("true", json!("5m")), json!({ "commandOrEvent": "EventACK", "method": "TextLogging" })),
            "only a CommandACK",
        ),
        (with(ordered("true", json!("5m")), json!({ "method": "Schedule" })), "makes no sense"),
    ] {
        let answer = central.ask("POST", "/v1/messages", &json!([message]).to_string()).to_string();
        assert!(answer.contains(reason), "no {reason} in {answer}");
    }
    for (args, reason) in [
        (&["--every", "5m", "--cron", "* * * * *"][..], "cannot be used with"),
        (&["--zone", "UTC"], "--cron"),
        (&["--missed", "all"], "neither"),
        (&["--every", "never"], "is no duration"),
    ] {
        let ran = central.cli(&[&["send", "central"], args, &["--", "true"]].concat());
        assert!(ran.code != 0 && ran.stderr.contains(reason), "{args:?}: {ran:?}");
    }
    // A YAML file says it as well.
    fs::write(central.dir().join("order.yaml"), "toNode: central\ncommandOrEvent: CommandACK\nmethod: ShellCommand\ndata: [echo, hello]\nschedule: {every: 300d, missed: once}\n").unwrap();
    let ran = central.cli(&["send", "--detach", "--file", "order.yaml"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(has_results(&central, ran.stdout.trim(), 1)[0]["stdout"], "hello\n", "a node gives itself an order");
}

/// Each start sends what lies in `startup/` once, and nothing that leads out of it.
#[test]
fn a_folder_of_messages_is_sent_with_each_start() {
    let fleet = Fleet::new();
    let mut central = fleet.node("central");
    let ship1 = fleet.node("ship1");
    let folder = central.dir().join("startup");
    eventually("the folder is there", || folder.is_dir().then_some(()));
    assert_eq!(central.terminate(), 0);
    let put = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let log = |to: &str, text: &str| json!({ "toNode": to, "data": [format!("{text}\n")], "commandOrEvent": "EventACK", "method": "TextLogging" });
    put("10-own.json", &json!([log("central", "own"), log("ship1", "first")]).to_string());
    put("20-other.yaml", "toNode: ship1\ncommandOrEvent: EventACK\nmethod: TextLogging\ndata: [\"second\\n\"]\n");
    put("30-bad.json", "[{\"toNode\": \"ship1\"}]");
    put("40-order.json", &json!([ordered("true", json!("5m"))]).to_string());
    put("notes.txt", "none of ours");
    let outside = fleet.dir().join("outside.json");
    fs::write(&outside, json!([log("ship1", "outside")]).to_string()).unwrap();
    std::os::unix::fs::symlink(&outside, folder.join("50-link.json")).unwrap();
    for start in 1..=2 {
        central.start();
        let expected = "first\nsecond\n".repeat(start);
        eventually("what is for ship1 is there", || (ship1.read("textlogging.log") == expected).then_some(()));
        eventually("and our own", || (central.read("textlogging.log") == "own\n".repeat(start)).then_some(()));
        eventually("all files are done", || folder.join("40-order.json.reason").exists().then_some(()));
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let ids = read("10-own.json.ids");
        let lines: Vec<(&str, &str)> = ids.lines().map(|line| line.split_once(' ').unwrap()).collect();
        assert_eq!((lines.len(), lines[0].1, lines[1].1), (2, "central", "ship1"));
        assert_eq!(central.ended(lines[1].0)["data"][0], "first\n");
        assert!(read("30-bad.json.reason").contains("is missing"));
        assert!(read("40-order.json.reason").contains("each start would add another one"));
        // A part of a node that is started again has sent its files already.
        for verb in ["stop-process", "start-process"] {
            assert_eq!(central.cli(&[verb, "startup"]).code, 0);
        }
        stays("nothing comes twice", &expected, || ship1.read("textlogging.log"));
        if start == 1 {
            central.kill();
        }
    }
    assert!(!folder.join("50-link.json.ids").exists() && central.log().contains("a file is left alone: it is a link"));
}
