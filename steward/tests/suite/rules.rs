//! Rules on real nodes (R13): what a file lets in, within which limits, and what becomes of a file that is bad.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Fleet, Node, event, eventually, shell, skipped, with};

fn write(node: &Node<'_>, rules: &str) {
    fs::write(node.dir().join("rules.toml"), rules).unwrap();
}

/// How the rules of a node are, in `steward ps`.
fn state(node: &Node<'_>) -> (String, String) {
    let rows = node.json(&["ps"]);
    let row = rows.iter().find(|row| row["kind"] == "rules").unwrap();
    (row["state"].as_str().unwrap().to_owned(), row["note"].as_str().unwrap_or_default().to_owned())
}

fn becomes(node: &Node<'_>, wanted: &str) -> String {
    eventually(&format!("the rules are {wanted}"), || {
        let (state, note) = state(node);
        (state == wanted).then_some(note)
    })
}

fn argv(to: &str, words: &[&str]) -> Value {
    with(shell(to, ""), json!({ "data": words }))
}

const DISK: &str = r#"
otherwise = "refuse"
[[rule]]
name = "echoes"
from = ["central", "ship2"]
type = "command"
method = "ShellCommand"
regex = ["echo", "[a-z]+"]
"#;

#[test]
fn a_file_says_who_may_run_what_and_is_followed_while_the_node_runs() {
    let fleet = Fleet::new();
    let (central, ship1, ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    assert_eq!(state(&ship1), ("standard".to_owned(), String::new()));
    assert_eq!(ship2.send_and_wait(&argv("ship1", &["echo", "a"]))["state"], "refused");
    write(&ship1, DISK);
    becomes(&ship1, "good");
    for node in [&central, &ship2] {
        let message = node.send_and_wait(&argv("ship1", &["echo", "a"]));
        assert_eq!((&message["state"], &message["stdout"]), (&"done".into(), &"a\n".into()), "{message}");
    }
    let message = central.send_and_wait(&argv("ship1", &["echo", "a;b"]));
    assert_eq!(message["state"], "refused");
    let reason = message["reason"].as_str().unwrap();
    assert!(reason.contains("no rule there lets it in with this data") && !reason.contains("[a-z]"), "{reason}");
    let message = ship2.send_and_wait(&event("ship1", "TextLogging", &["x"]));
    assert_eq!(message["state"], "refused");
    // The command line of the node itself says the same before anybody sends anything.
    let tried = ship1.cli(&["rules", "try", "--from", "ship2", "--", "echo", "a"]).ok().stdout;
    assert_eq!(tried, "accepted by \"echoes\"\n");
    let tried = ship1.cli(&["rules", "try", "--from", "ship3", "--", "echo", "a"]);
    assert_eq!(tried.code, 126, "{tried:?}");
    assert!(ship1.cli(&["rules", "show"]).ok().stdout.contains("regex = [\"echo\", \"[a-z]+\"]"));
}

#[test]
fn a_bad_file_changes_nothing_and_is_told_everywhere_also_after_a_restart() {
    let fleet = Fleet::new();
    let central = fleet.node_with("central", &["--central-error-logger"]);
    let mut ship1 = fleet.node("ship1");
    write(&ship1, DISK);
    becomes(&ship1, "good");
    write(&ship1, "otherwise = \"standard\"\n[[rule]]\nfrom = \"ship2\"\nmetod = \"*\"\n");
    let note = becomes(&ship1, "kept");
    assert!(note.contains("line 4, column 1") && note.contains("metod"), "{note}");
    let told = |errors: Vec<Value>| {
        errors.into_iter().find(|error| {
            let text = error["text"].as_str().unwrap_or_default();
            error["node"] == "ship1" && text.contains("line 4, column 1")
        })
    };
    eventually("central is told", || told(central.json(&["errors"])));
    let checked = ship1.cli(&["rules", "check", "rules.toml"]);
    assert_eq!(checked.code, 1);
    assert!(checked.stderr.contains("line 4, column 1"), "{checked:?}");
    ship1.kill();
    ship1.start();
    assert_eq!(state(&ship1).0, "kept");
    assert_eq!(central.send_and_wait(&argv("ship1", &["echo", "a"]))["state"], "done");
    assert_eq!(central.send_and_wait(&argv("ship1", &["true"]))["state"], "refused");
    // A file that goes is no change either.
    fs::remove_file(ship1.dir().join("rules.toml")).unwrap();
    eventually("it is missed", || state(&ship1).1.contains("gone").then_some(()));
    assert_eq!(central.send_and_wait(&argv("ship1", &["true"]))["state"], "refused");
    write(&ship1, "otherwise = \"standard\"\n");
    becomes(&ship1, "good");
    assert_eq!(central.send_and_wait(&argv("ship1", &["true"]))["state"], "done");
}

#[test]
fn without_any_good_file_nothing_is_accepted() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let mut ship1 = fleet.absent("ship1", &[]);
    fs::create_dir_all(ship1.dir()).unwrap();
    write(&ship1, "otherwise");
    ship1.start();
    assert_eq!(state(&ship1).0, "closed");
    for message in [shell("ship1", "true"), event("ship1", "TextLogging", &["x"])] {
        let message = central.send_and_wait(&message);
        assert_eq!(message["state"], "refused", "{message}");
        assert!(message["reason"].as_str().unwrap().contains("until they are mended"), "{message}");
    }
    write(&ship1, "otherwise = \"standard\"");
    becomes(&ship1, "good");
    assert_eq!(central.send_and_wait(&shell("ship1", "true"))["state"], "done");
}

/// What waits in a lane was accepted by rules that may have changed when its turn comes.
#[test]
fn what_was_accepted_is_judged_again_before_it_runs() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (running, proof) = (fleet.file("running"), fleet.file("proof"));
    let first = central.send(&shell("ship1", &format!("touch {}; exec sleep 600", running.path())));
    eventually("it runs", || Path::new(running.path()).exists().then_some(()));
    let second = central.send(&shell("ship1", &format!("touch {}", proof.path())));
    central.awaits(&second, "stored");
    write(&ship1, "otherwise = \"refuse\"");
    becomes(&ship1, "good");
    assert!(central.cli(&["cancel", &first]).code == 0);
    let second = central.ended(&second);
    assert_eq!(second["state"], "refused", "{second}");
    assert!(second["reason"].as_str().unwrap().contains("accepted before that changed"), "{second}");
    assert!(!Path::new(proof.path()).exists());
}

#[test]
fn a_rule_limits_time_and_output_and_the_smaller_limit_counts() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    let ship1 = fleet.node("ship1");
    let rule = |more: &str| {
        format!("otherwise = \"refuse\"\n[[rule]]\nfrom = \"central\"\nmethod = \"ShellCommand\"\n{more}\n")
    };
    write(&ship1, &rule("timeout = \"300ms\"\nmaxOutput = \"10\""));
    becomes(&ship1, "good");
    let message = central.send_and_wait(&with(shell("ship1", "sleep 600"), json!({ "methodTimeout": 500 })));
    assert_eq!(message["state"], "timed_out", "{message}");
    let message = central.send_and_wait(&shell("ship1", "printf 0123456789abcdef"));
    assert_eq!((&message["stdout"], &message["truncated"]), (&"0123456789".into(), &true.into()), "{message}");
    write(&ship1, &rule("timeout = \"1h\""));
    eventually("they hold", || ship1.cli(&["rules", "show"]).stdout.contains("1h").then_some(()));
    let message = central.send_and_wait(&with(shell("ship1", "sleep 600"), json!({ "methodTimeout": 0.3 })));
    assert_eq!(message["state"], "timed_out", "{message}");
}

#[test]
fn a_rule_runs_a_command_as_another_user() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let rule = "otherwise = \"refuse\"\n[[rule]]\nfrom = \"central\"\nmethod = \"ShellCommand\"\n";
    write(&ship1, &format!("{rule}user = \"nobody\"\n"));
    becomes(&ship1, "good");
    let message = central.send_and_wait(&argv("ship1", &["id"]));
    if !rustix::process::geteuid().is_root() {
        assert_eq!(message["state"], "refused", "{message}");
        assert!(message["reason"].as_str().unwrap().contains("runs as root"), "{message}");
        return skipped("rules::a_rule_runs_a_command_as_another_user", "only root can run something as somebody else");
    }
    let id = message["stdout"].as_str().unwrap();
    assert!(message["state"] == "done" && id.contains("(nobody)") && !id.contains("(root)"), "{message}");
    let script = "echo $USER $HOME; cat /proc/self/status | grep -E '^(Uid|Gid|CapEff)'; touch /root/x";
    let message = central.send_and_wait(&shell("ship1", script));
    let out = message["stdout"].as_str().unwrap();
    assert!(out.starts_with("nobody ") && out.contains("CapEff:\t0000000000000000"), "{message}");
    assert!(message["state"] == "failed" && message["stderr"].as_str().unwrap().contains("denied"), "{message}");
    // It can still be stopped with all that it has started, and what can't be started is told as a shell would.
    let timeout = json!({ "methodTimeout": 0.5 });
    let message = central.send_and_wait(&with(shell("ship1", "sleep 600 & sleep 600"), timeout));
    assert_eq!(message["state"], "timed_out", "{message}");
    let message = central.send_and_wait(&argv("ship1", &["/no/such/program"]));
    assert_eq!((&message["state"], &message["exitCode"]), (&"failed".into(), &127.into()), "{message}");
    write(&ship1, &format!("{rule}user = \"no-such-user\"\n"));
    eventually("they hold", || ship1.cli(&["rules", "show"]).stdout.contains("no-such-user").then_some(()));
    let message = central.send_and_wait(&argv("ship1", &["id"]));
    assert!(message["state"] == "refused" && message["reason"].as_str().unwrap().contains("/etc/passwd"), "{message}");
}

/// The socket is for the user who runs the node and for root, whatever its mode says.
#[test]
fn another_user_is_turned_away_at_the_socket() {
    const TEST: &str = "rules::another_user_is_turned_away_at_the_socket";
    if !rustix::process::geteuid().is_root() {
        return skipped(TEST, "only root can try something as somebody else");
    }
    let fleet = Fleet::new();
    let ship1 = fleet.node("ship1");
    for path in [fleet.dir(), ship1.dir(), &ship1.dir().join("steward.sock")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let connect = "import socket,sys,os;os.setuid(65534);s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);\
                   s.sendall(b'GET /v1/info HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n');print(len(s.recv(9)))";
    let socket = ship1.dir().join("steward.sock");
    let Ok(ran) = Command::new("python3").args(["-c", connect]).arg(&socket).output() else {
        return skipped(TEST, "there is no python3 here");
    };
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    // Turned away is the end of the connection, without a word.
    assert!(out.trim() == "0" || err.contains("ConnectionReset") || err.contains("BrokenPipe"), "{out}{err}");
    assert!(ship1.log().contains("65534"));
    assert!(ship1.answers());
}

/// Central takes its own fleet's rules as every node does.
#[test]
fn rules_of_the_fleet_only_take_away() {
    let fleet = Fleet::with_broker("authorization { token: \"hush-hush\" }\n");
    let token = fleet.dir().join("token");
    fs::write(&token, "hush-hush").unwrap();
    let mut central = fleet.absent("central", &[]);
    let address = fleet.broker.address();
    let args = ["init", "--external", "--broker-address", &address, "--broker-token-file", token.to_str().unwrap()];
    central.cli(&args).ok();
    central.start();
    let file = fleet.dir().join("fleet-rules.toml");
    let push = |text: &str| {
        fs::write(&file, text).unwrap();
        central.cli(&["rules", "push", file.to_str().unwrap(), "--node", "central"])
    };
    let first =
        "otherwise = \"refuse\"\n[[rule]]\nfrom = \"central\"\nmethod = \"ShellCommand\"\nfirstWord = \"echo\"\n";
    let ran = push(first).ok();
    assert!(ran.stdout.contains("central has version") && ran.stdout.contains("1 rules"), "{ran:?}");
    // The same file is the same version.
    assert_eq!(push(first).ok().stdout, ran.stdout);
    assert_eq!(central.send_and_wait(&argv("central", &["echo", "a"]))["state"], "done");
    let refused = central.send_and_wait(&argv("central", &["true"]));
    assert_eq!(refused["state"], "refused");
    assert!(refused["reason"].as_str().unwrap().contains("no rule of the fleet"), "{refused}");
    let bad = push("otherwise = \"refuse\"\n[[rule]]\n");
    assert!(bad.code == 1 && bad.stderr.contains("line 2, column 1"), "{bad:?}");
    central.kill();
    central.start();
    assert_eq!(central.send_and_wait(&argv("central", &["true"]))["state"], "refused");
    assert!(state(&central).1.contains("of the fleet"));
    // Its own rules may refuse to be given any.
    let push = |text: &str| {
        fs::write(&file, text).unwrap();
        central.cli(&["rules", "push", file.to_str().unwrap(), "--node", "central"])
    };
    push("otherwise = \"accept\"").ok();
    assert_eq!(central.send_and_wait(&argv("central", &["true"]))["state"], "done");
    let none = "otherwise = \"standard\"\n[[rule]]\nfrom = \"*\"\nmethod = \"OpRulesApply\"\naction = \"refuse\"\n";
    write(&central, none);
    becomes(&central, "good");
    let refused = push(first);
    assert_eq!(refused.code, 126, "{refused:?}");
    // A node without a fleet can't know who has signed them.
    let alone = fleet.node_with("alone", &["--broker-token-file", token.to_str().unwrap()]);
    let refused = alone.send_and_wait(&with(argv("alone", &["x"]), json!({ "method": "OpRulesApply" })));
    assert!(refused["reason"].as_str().unwrap().contains("belongs to no fleet"), "{refused}");
}
