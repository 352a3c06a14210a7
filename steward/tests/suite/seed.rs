//! The seed's own examples as they stand, pasted into `inmsg.txt` with `cat >>`, and the rows of the requirements that
//! speak of subjects, types and methods (R3–R6, R20–R22, R26–R28).

use std::process::Command;

use futures_util::StreamExt as _;
use serde_json::Value;

use crate::harness::{Fleet, Node, event, eventually, run, shell, with};

const FIRST: &str = r#"[
    {
        
        "toNode": "ship1",
        "data": ["bash","-c","ls -l ../"],
        "commandOrEvent":"CommandACK",
        "method":"ShellCommand"
            
    }
]
"#;

const SECOND: &str = r#"[
    {
        
        "toNode": "ship1",
        "data": ["bash","-c","ls -l ../"],
        "commandOrEvent":"CommandACK",
        "method":"ShellCommand"
            
    },
    {
        "toNode": "ship2",
        "data": ["bash","-c","ls -l ../"],
        "commandOrEvent":"CommandACK",
        "method":"ShellCommand"
            
    }
]
"#;

const THIRD: &str = r#"[
    {
        
        "toNode": "ship1",
        "data": ["bash","-c","netstat -an|grep -i listen"],
        "commandOrEvent":"CommandACK",
        "method":"ShellCommand",
        "timeout":3,
        "retries":3
    }
]
"#;

const FOURTH: &str = r#"[
    {
        "toNode": "central",
        "data": ["some message sent from a ship for testing\n"],
        "commandOrEvent":"EventACK",
        "method":"TextLogging"
    }
]
"#;

/// What the seed tells its reader to do: save it to `myfile.json`, and `cat myfile.json >> inmsg.txt`.
fn cat_into_inmsg(node: &Node<'_>, example: &str) {
    std::fs::write(node.dir().join("myfile.json"), example).unwrap();
    let mut cat = Command::new("sh");
    run(node.dir(), cat.current_dir(node.dir()).args(["-c", "cat myfile.json >> inmsg.txt"])).ok();
}

fn listing(message: &Value) -> &str {
    assert_eq!(message["state"], "done", "{message}");
    assert_eq!(message["exitCode"], 0, "{message}");
    message["stdout"].as_str().unwrap()
}

#[test]
fn the_first_example_runs_on_ship1_and_its_output_comes_back() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    cat_into_inmsg(&central, FIRST);
    let message = central.all_ended(1).remove(0);
    let message = central.show(message["id"].as_str().unwrap());
    // The command runs in ship1's directory, so the folder above it holds both nodes.
    assert!(listing(&message).contains("central") && listing(&message).contains("ship1"), "{message}");
    assert_eq!(message["fromNode"], "central");
    assert_eq!(message["toNode"], "ship1");
    central.has_taken_input();
}

#[test]
fn the_second_example_runs_on_two_nodes() {
    let fleet = Fleet::new();
    let (central, _ship1, _ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    cat_into_inmsg(&central, SECOND);
    for message in central.all_ended(2) {
        let message = central.show(message["id"].as_str().unwrap());
        assert!(listing(&message).contains("ship2"), "{message}");
    }
}

#[test]
fn the_third_example_has_its_own_timeout_and_retries() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    cat_into_inmsg(&central, THIRD);
    let message = central.all_ended(1).remove(0);
    // Whether netstat is there, and finds a listener, is this machine's business: the answer says which.
    assert!(message["exitCode"].is_i64(), "{message}");
    drop(ship1);
    // `retries` counts: nobody hears the second one, so it ends.
    cat_into_inmsg(&central, &THIRD.replace("ship1", "nowhere").replace("\"timeout\":3", "\"timeout\":0.1"));
    let message = central.all_ended(2).remove(1);
    assert_eq!(message["state"], "undeliverable", "{message}");
    assert!(message["reason"].as_str().unwrap().contains('3'), "{message}");
}

#[test]
fn the_fourth_example_is_logged_at_central_as_it_is() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    cat_into_inmsg(&ship1, FOURTH);
    let message = ship1.all_ended(1).remove(0);
    assert_eq!(message["state"], "done", "{message}");
    assert_eq!(central.read("textlogging.log"), "some message sent from a ship for testing\n");
}

/// R4, R5, R6: what an observer of the broker sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn type_and_method_stand_in_the_subject_and_in_the_message() {
    let fleet = Fleet::new();
    let observer = async_nats::connect(fleet.broker.address()).await.unwrap();
    let mut seen = observer.subscribe("ship1.CommandACK.ShellCommand").await.unwrap();
    observer.flush().await.unwrap();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let lanes = |node: &Node<'_>| -> Vec<Value> {
        node.json(&["ps"]).into_iter().filter(|process| process["name"] == "ship1.CommandACK.ShellCommand").collect()
    };
    assert_eq!(lanes(&central), Vec::<Value>::new(), "no process before the first message");
    central.send_and_wait(&shell("ship1", "true"));
    let message = seen.next().await.unwrap();
    let body: Value = serde_json::from_slice(&crate::harness::unpacked(&message.payload)).unwrap();
    assert_eq!(body["commandOrEvent"], "CommandACK", "{body}");
    assert_eq!(body["method"], "ShellCommand", "{body}");
    assert_eq!(lanes(&central).len(), 1, "one process after it, without configuration");
}

/// R3: the four types.
#[test]
fn each_type_does_what_its_name_says() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let command = shell("ship1", &format!("echo ran >> {0}; echo told", ran.path()));

    let answered = central.send_and_wait(&command);
    assert_eq!((&answered["state"], &answered["stdout"]), (&"done".into(), &"told\n".into()), "{answered}");
    let unanswered = central.send_and_wait(&with(command, serde_json::json!({ "commandOrEvent": "CommandNACK" })));
    assert_eq!(unanswered["state"], "sent", "{unanswered}");
    assert!(unanswered["stdout"].as_str().unwrap_or_default().is_empty(), "{unanswered}");
    eventually("both commands ran", || (ran.lines().len() == 2).then_some(()));

    let confirmed = central.send_and_wait(&event("ship1", "TextLogging", &["one"]));
    assert_eq!(confirmed["state"], "done", "{confirmed}");
    let told = event("ship1", "TextLogging", &["two"]);
    let told = central.send_and_wait(&with(told, serde_json::json!({ "commandOrEvent": "EventNACK" })));
    assert_eq!(told["state"], "sent", "{told}");
    eventually("both events are logged", || ship1.read("textlogging.log").contains("two").then_some(()));
}

/// R22, R15: an error of a node goes to the central error logger.
#[test]
fn errors_and_hellos_reach_central() {
    let fleet = Fleet::new();
    let central = fleet.node_with("central", &["--central-error-logger"]);
    let ship1 = fleet.node("ship1");
    let error = ship1.send_and_wait(&event("central", "ErrorLog", &["the bilge pump is stuck"]));
    assert_eq!(error["state"], "done", "{error}");
    eventually("the error stands in central's log", || {
        let all = central.log() + &central.read("errorlog.log");
        all.contains("the bilge pump is stuck").then_some(())
    });
    central.sees("ship1", "online");
}

/// R26: the seed's flags, as it writes them.
#[test]
fn the_seeds_flags_work_with_one_dash_or_two() {
    let fleet = Fleet::new();
    let seed_flags = [
        "-centralErrorLogger",
        "-defaultMessageRetries",
        "2",
        "--defaultMessageTimeout=1",
        "-promHostAndPort",
        "127.0.0.1:0",
        "-profilingPort=0",
    ];
    let central = fleet.node_with("central", &seed_flags);
    let lost = central.send_and_wait(&event("nowhere", "TextLogging", &["x"]));
    assert_eq!(lost["state"], "undeliverable", "{lost}");

    let help = central.cli(&["--help"]).ok().stdout;
    for flag in [
        "--node",
        "--broker-address",
        "--central-error-logger",
        "--default-message-retries",
        "--default-message-timeout",
        "--profiling-port",
        "--prom-host-and-port",
    ] {
        assert!(help.contains(flag), "--help doesn't show {flag}");
    }
}

/// R28: keys and values are case sensitive; what is wrong is put aside with its place and the reason (see also L8).
#[test]
fn keys_and_values_are_case_sensitive() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    cat_into_inmsg(&central, &FIRST.replace("toNode", "tonode"));
    cat_into_inmsg(&central, &FIRST.replace("CommandACK", "commandACK"));
    let reasons = eventually("both are put aside", || {
        let reasons = central.rejected();
        (reasons.contains("toNode") && reasons.contains("CommandACK")).then_some(reasons)
    });
    assert!(reasons.contains("did you mean"), "{reasons}");
    assert_eq!(central.messages(), Vec::<Value>::new());
}
