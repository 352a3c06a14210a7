//! The error kernel (R14, R15): a part that fails, or is stopped, takes nothing else with it and is seen from everywhere;
//! what goes wrong anywhere is read at central, in order, once, and as a sum where it is a storm.
//!
//! What can be made to fail from outside is made to fail here: the job guard, the intake by file, the API, methods. The
//! other tasks handle whatever comes from outside by themselves; that a panic or an error in one of them ends its run
//! alone is shown with tasks that do so on purpose (`supervise/tests.rs`, `api/tests.rs`, `metrics/tests.rs`).

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::harness::{Fleet, Node, Port, event, eventually, get, kill, parent, shell, stays, with};

const LOGGER: [&str; 1] = ["--central-error-logger"];

/// The process that ends the commands of a node if it is killed; 0 while there is none.
fn guard(fleet: &Fleet, node: &Node<'_>) -> u32 {
    let guards = fleet.processes().into_iter().filter(|(_, line)| line.contains("job-guard"));
    let mut of_node = guards.filter(|(pid, _)| parent(*pid) == Some(node.pid()));
    of_node.next().map_or(0, |(pid, _)| pid)
}

/// Kills the guard of a node so many times, each time when it is there.
fn kill_guard(fleet: &Fleet, node: &Node<'_>, times: usize) {
    let mut last = 0;
    for _ in 0..times {
        last = eventually("there is a job guard", || Some(guard(fleet, node)).filter(|pid| *pid != 0 && *pid != last));
        kill(last);
    }
}

/// The number in "and 4,812 more of this kind".
fn summed(text: &str) -> Option<usize> {
    text.strip_prefix("and ")?.split(" more of this kind").next()?.replace(',', "").parse().ok()
}

/// R15: kept while the link is away, in order, and bounded.
#[test]
fn a_storm_of_failing_commands_is_told_in_order_and_summed_up_when_the_link_is_back() {
    const FAILING: usize = 300;
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node_with("central", &LOGGER), fleet.node("ship1"));
    let gate = fleet.file("gate");
    let commands = (0..FAILING).map(|number| shell("ship1", &format!("echo trouble {number} >&2; exit 3")));
    let ids = central.send_all(&std::iter::once(shell("ship1", &gate.awaited())).chain(commands).collect::<Vec<_>>());
    central.awaits(ids.last().unwrap(), "stored");
    fleet.broker.stop();
    gate.create();
    let lane = || {
        ship1.json(&["ps"]).into_iter().find(|process| process["name"] == "ship1.CommandACK.ShellCommand from central")
    };
    eventually("all of them have failed", || lane().filter(|lane| lane["state"] == "confirming"));
    eventually("they are summed up", || {
        let counted: usize =
            ship1.told_errors().iter().map(|error| summed(error["data"][0].as_str().unwrap()).unwrap_or(1)).sum();
        (counted == FAILING).then_some(())
    });
    let told = ship1.told_errors();
    assert!(told.len() < 20 && told.iter().all(|error| error["state"] == "queued"), "{told:#?}");
    fleet.broker.start();
    let errors = eventually("all of it is at central", || {
        Some(central.errors_of("ship1")).filter(|errors| errors.len() == told.len())
    });
    for (number, text) in errors[..10].iter().enumerate() {
        let expected = format!(
            "ShellCommand for central failed: it ended with exit code 3: trouble {number} (message {})",
            ids[number + 1]
        );
        assert_eq!(*text, expected);
    }
    let rest: usize = errors[10..].iter().map(|text| summed(text).unwrap_or_else(|| panic!("no sum: {text}"))).sum();
    assert_eq!(rest, FAILING - 10, "{errors:#?}");
    let told: Vec<&str> = told.iter().map(|error| error["data"][0].as_str().unwrap()).collect();
    assert_eq!(errors, told, "in the order in which they were told");
    let log = central.read("errorlog.log");
    assert_eq!(log.lines().count(), errors.len(), "{log}");
    assert!(log.lines().zip(&errors).all(|(line, text)| line.ends_with(&format!(" ship1 {text}"))), "{log}");
}

/// A message that nobody waits for is the only one whose failure nobody else would hear of.
#[test]
fn a_command_without_ack_that_fails_is_told() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node_with("central", &LOGGER), fleet.node("ship1"));
    // It is handed over once, so somebody has to be there.
    central.send_and_wait(&shell("ship1", "true"));
    let id = central.send(&with(shell("ship1", "exit 5"), json!({ "commandOrEvent": "CommandNACK" })));
    let errors = eventually("central knows", || Some(central.errors_of("ship1")).filter(|errors| !errors.is_empty()));
    assert!(errors[0].contains(&id) && errors[0].contains("exit_code: 5"), "{errors:?}");
}

/// The log and the table have each error once and in order, whatever happens to the node that keeps them.
#[test]
fn errors_are_kept_once_and_in_order_though_central_is_killed() {
    const ERRORS: usize = 300;
    let fleet = Fleet::new();
    let (mut central, ship1) = (fleet.node_with("central", &LOGGER), fleet.node("ship1"));
    let expected: Vec<String> = (0..ERRORS).map(|number| format!("error {number}")).collect();
    for part in expected.chunks(ERRORS / 6) {
        ship1.send_all(&part.iter().map(|text| event("central", "ErrorLog", &[text])).collect::<Vec<_>>());
        central.kill();
        central.start();
    }
    eventually("all of them have ended", || {
        let told = ship1.told_errors();
        (told.len() == ERRORS && told.iter().all(|error| error["state"] == "done")).then_some(())
    });
    assert_eq!(central.errors_of("ship1"), expected);
    let log = central.read("errorlog.log");
    let logged: Vec<&str> = log.lines().map(|line| line.split_once(" ship1 ").unwrap().1).collect();
    assert_eq!(logged, expected);

    // What an operator types, with the node and without it.
    let newest = central.json(&["errors", "--limit=2"]);
    assert_eq!((newest.len(), &newest[1]["text"], &newest[1]["node"]), (2, &"error 299".into(), &"ship1".into()));
    for key in ["at", "receivedAt", "id"] {
        assert!(newest[0][key].is_string(), "no {key} in {}", newest[0]);
    }
    assert_eq!(central.json(&["errors", "--node=ship2"]), Vec::<Value>::new());
    assert_eq!(central.json(&["errors", "--since=1h", "--limit=1000"]).len(), ERRORS);
    let table = central.cli(&["errors", "--limit=3"]).ok().stdout;
    let table: Vec<&str> = table.lines().collect();
    assert!(table.len() == 4 && table[0].contains("ERROR") && table[3].ends_with("error 299"), "{table:?}");
    assert_eq!(central.terminate(), 0);
    assert_eq!(central.json(&["errors", "--limit=2"]), newest);
}

/// What was only counted so far is told before the node is gone; and errors wait for ever, whatever holds for other
/// messages.
#[test]
fn a_node_that_is_stopped_in_a_storm_sums_it_up_first() {
    const FAILING: usize = 30;
    let fleet = Fleet::new();
    let mut ship1 = fleet.node_with("ship1", &["--default-message-retries=1", "--default-message-timeout=0.05"]);
    ship1.send_all(&vec![shell("ship1", "exit 1"); FAILING]);
    ship1.all_ended(FAILING);
    assert_eq!(ship1.terminate(), 0);
    ship1.start();
    let given_up = ship1.send_and_wait(&event("central", "TextLogging", &["nobody is there"]));
    assert_eq!(given_up["state"], "undeliverable", "{given_up}");
    let central = fleet.node_with("central", &LOGGER);
    eventually("central knows of all of them", || {
        let told = central.errors_of("ship1");
        let count: usize = told.iter().map(|text| summed(text).unwrap_or(1)).sum();
        (count == FAILING && told.len() < FAILING).then_some(())
    });
}

/// However long central is away, what waits for it has a limit.
#[test]
fn errors_that_wait_for_central_have_a_limit_and_what_is_beyond_comes_later() {
    const WAITING: usize = 1000;
    let fleet = Fleet::new();
    let ship1 = fleet.node("ship1");
    let errors: Vec<Value> = (0..WAITING).map(|number| event("central", "ErrorLog", &[&number.to_string()])).collect();
    ship1.send_all(&errors);
    ship1.send_and_wait(&shell("ship1", "exit 1"));
    stays("no more wait", &WAITING, || ship1.told_errors().len());
    let central = fleet.node_with("central", &LOGGER);
    let last = eventually("what was beyond the limit comes", || central.errors_of("ship1").into_iter().nth(WAITING));
    assert!(last.starts_with("ShellCommand for ship1 failed"), "{last}");
}

/// Told by the process after it, because the one that dies can tell nobody.
#[test]
fn the_death_of_an_engine_is_told_once_the_node_runs_again() {
    let fleet = Fleet::new();
    let central = fleet.node_with("central", &LOGGER);
    let mut ship1 = fleet.absent("ship1", &[]);
    fs::write(ship1.dir().join("engine.died"), "index out of bounds").unwrap();
    ship1.start();
    let errors = eventually("central knows", || Some(central.errors_of("ship1")).filter(|errors| !errors.is_empty()));
    assert!(errors[0].contains("engine") && errors[0].contains("index out of bounds"), "{errors:?}");
    assert!(!ship1.dir().join("engine.died").exists());
}

/// An error about an error would be told for ever.
#[test]
fn an_error_about_errors_makes_no_further_errors() {
    let fleet = Fleet::new();
    let central = fleet.absent("central", &LOGGER);
    fs::create_dir(central.dir().join("errorlog.log")).unwrap();
    let mut central = central;
    central.start();
    let ship1 = fleet.node("ship1");
    central.send_and_wait(&shell("ship1", "exit 1"));
    let told = eventually("ship1 has told it", || {
        Some(ship1.told_errors()).filter(|told| told.first().is_some_and(|error| error["finishedAt"].is_string()))
    });
    assert_eq!(told[0]["state"], "failed", "{told:#?}");
    assert!(told[0]["reason"].as_str().unwrap().contains("errorlog.log"), "{told:#?}");
    stays("nobody tells of it", &(1, 0), || (ship1.told_errors().len(), central.told_errors().len()));
    assert!(ship1.log().contains("errorlog.log"), "the node's own log says so");
}

/// R14: seen in `ps`, in metrics, at central in `nodes`, and with the reason in central's `errors`.
#[test]
fn a_part_that_fails_too_often_stays_down_and_is_seen_from_everywhere() {
    let fleet = Fleet::new();
    let port = Port::reserve();
    let central = fleet.node_with("central", &LOGGER);
    let ship1 = fleet.node_with("ship1", &["--restart-limit=3", "--prom-host-and-port", &port.address()]);
    kill_guard(&fleet, &ship1, 3);
    let down = eventually("it is down", || Some(ship1.task("job guard")).filter(|task| task["state"] == "down"));
    assert_eq!(down["restarts"], 2, "{down}");
    let reason = "the job guard ended by itself";
    assert!(down["note"].as_str().unwrap().contains(reason), "{down}");
    let metrics = String::from_utf8(get(&port.address(), "/metrics")).unwrap();
    for line in ["steward_tasks{state=\"down\"} 1.0", "steward_task_restarts_total{task=\"job guard\"} 2"] {
        assert!(metrics.lines().any(|known| known == line), "{line}\n{metrics}");
    }
    let part = eventually("central hears of it", || {
        Some(central.sees("ship1", "online")["info"]["resting"][0].clone()).filter(Value::is_object)
    });
    assert_eq!((&part["task"], &part["state"]), (&"job guard".into(), &"down".into()), "{part}");
    assert!(part["why"].as_str().unwrap().contains(reason), "{part}");
    let table = central.cli(&["nodes"]).ok().stdout;
    assert!(table.contains("down: job guard"), "{table}");
    let errors = eventually("central has the errors", || {
        let errors = central.errors_of("ship1");
        errors.last().is_some_and(|last| last.contains("failed too often")).then_some(errors)
    });
    assert!(errors.iter().all(|error| error.contains("job guard") && error.contains(reason)), "{errors:#?}");

    // The rest of the node goes on, and an operator far away starts the part again.
    let started = central.json(&["start-process", "job guard", "--node=ship1"]);
    assert_eq!(started[0]["state"], "running", "{started:?}");
    eventually("there is a guard again", || Some(guard(&fleet, &ship1)).filter(|pid| *pid != 0));
    eventually("central hears of that, too", || {
        central.sees("ship1", "online")["info"].get("resting").is_none().then_some(())
    });
    assert_eq!(ship1.task("job guard")["state"], "running");
}

#[test]
fn the_intake_by_file_can_be_stopped_and_started_and_loses_nothing() {
    let fleet = Fleet::new();
    let (mut central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let append = |central: &Node<'_>, number: usize| {
        let message = shell("ship1", &format!("echo {number} >> {}", ran.path()));
        central.append(&serde_json::to_string_pretty(&[message]).unwrap());
    };
    append(&central, 0);
    central.all_ended(1);
    assert_eq!(central.cli(&["stop-process", "inmsg.txt"]).ok().stdout, "inmsg.txt: stopped\n");
    assert_eq!(central.task("inmsg.txt")["state"], "stopped");
    (1..50).for_each(|number| append(&central, number));
    stays("nothing is taken", &1, || central.messages().len());
    assert_eq!(central.cli(&["start-process", "inmsg.txt"]).ok().stdout, "inmsg.txt: running\n");
    central.all_ended(50);
    // Stopped once more, in the middle of whatever it does; a node that starts runs all its parts.
    (50..60).for_each(|number| append(&central, number));
    central.cli(&["stop-process", "inmsg.txt"]).ok();
    (60..70).for_each(|number| append(&central, number));
    central.kill();
    central.start();
    assert_eq!(central.task("inmsg.txt")["state"], "running");
    central.all_ended(70);
    assert_eq!(ran.lines(), (0..70).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// `OpProcessList`, `OpProcessStop`, `OpProcessStart`: messages like any other.
#[test]
fn processes_of_another_node_are_listed_stopped_and_started() {
    let fleet = Fleet::new();
    let port = Port::reserve();
    let central = fleet.node("central");
    let mut ship1 = fleet.node_with("ship1", &["--prom-host-and-port", &port.address()]);
    get(&port.address(), "/metrics");
    let there = |central: &Node<'_>| {
        let tasks = central.json(&["ps", "--node=ship1"]);
        tasks.into_iter().find(|task| task["name"] == "metrics").unwrap()
    };
    assert_eq!(there(&central)["state"], "running");
    let stopped = central.json(&["stop-process", "metrics", "--node=ship1"]);
    assert_eq!((&stopped[0]["name"], &stopped[0]["state"]), (&"metrics".into(), &"stopped".into()));
    assert!(TcpStream::connect(port.address()).is_err(), "nobody listens any more");
    assert_eq!(there(&central)["state"], "stopped");
    eventually("the list of nodes says so", || {
        central.cli(&["nodes"]).ok().stdout.contains("stopped: metrics").then_some(())
    });
    let table = central.cli(&["ps", "--node=ship1"]).ok().stdout;
    assert!(table.contains("KIND") && table.contains("broker link") && table.contains("engine"), "{table}");
    assert_eq!(central.cli(&["start-process", "metrics", "--node=ship1"]).ok().stdout, "metrics: running\n");
    eventually("it can be read again", || TcpStream::connect(port.address()).ok());
    get(&port.address(), "/metrics");
    // It is on record like any other message.
    let of_processes = |message: &&Value| message["method"].as_str().unwrap().starts_with("OpProcess");
    assert!(central.messages().iter().filter(of_processes).count() >= 5);

    // To a node that is away it waits until the node comes.
    ship1.terminate();
    let id = central.send(&with(shell("ship1", ""), json!({ "method": "OpProcessStop", "data": ["inmsg.txt"] })));
    ship1.start();
    assert_eq!(central.ended(&id)["state"], "done");
    assert_eq!(ship1.task("inmsg.txt")["state"], "stopped");
}

#[test]
fn what_must_not_be_stopped_is_refused_with_the_reason() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    central.send_and_wait(&shell("ship1", "true"));
    let refused = |args: &[&str], reason: &str| {
        let ran = central.cli(&[&["stop-process"], args].concat());
        let code = if args.last().unwrap().starts_with("--node") { 126 } else { 1 };
        assert!(ran.code == code && ran.stderr.contains(reason), "{args:?}: {ran:#?}");
    };
    refused(&["engine"], "nothing works without it");
    refused(&["runner"], "messages that run would not come to an end");
    refused(&["api"], "nobody there could start it again");
    refused(&["ship1.CommandACK.ShellCommand"], "is a lane");
    refused(&["no such thing"], "\"no such thing\"");
    refused(&["engine", "--node=ship1"], "nothing works without it");
    for part in ["link", "incoming", "outgoing"] {
        refused(&["broker", part, "--node=ship1"], "not even its start");
    }
    refused(&["job", "guard", "--node=ship1"], "it would end the commands that run");
    refused(&["nonsense", "--node=ship1"], "nonsense");
    let running =
        ship1.json(&["ps"]).iter().filter(|process| process["kind"] == "task").all(|task| task["state"] == "running");
    assert!(running, "{:#?}", ship1.json(&["ps"]));
    // Who may not give commands may not stop anything either.
    let ran = ship1.cli(&["stop-process", "metrics", "--node=central"]);
    assert_eq!(ran.code, 126, "{ran:?}");
}

#[test]
fn the_link_can_be_taken_down_and_up_at_the_node_itself() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    central.send_and_wait(&shell("ship1", "true"));
    for _ in 0..2 {
        ship1.cli(&["stop-process", "broker", "link"]).ok();
        assert_eq!(ship1.ask("GET", "/v1/info", "")["link"], "down");
        let id = central.send(&shell("ship1", "echo $STEWARD_NODE"));
        central.sees("ship1", "away");
        assert!(central.show(&id)["finishedAt"].is_null());
        ship1.cli(&["start-process", "broker", "link"]).ok();
        assert_eq!(central.ended(&id)["stdout"], "ship1\n");
    }
    for part in ["incoming", "outgoing"] {
        ship1.cli(&["stop-process", "broker", part]).ok();
        let id = central.send(&shell("ship1", "true"));
        stays("it does not come through", &false, || central.show(&id)["finishedAt"].is_string());
        ship1.cli(&["start-process", "broker", part]).ok();
        assert_eq!(central.ended(&id)["state"], "done");
    }
}

/// Something in the node's directory that nobody can read, and that looks like a part of `inmsg.txt`.
#[test]
fn an_intake_that_fails_is_tried_again_and_works_when_the_cause_is_gone() {
    let fleet = Fleet::new();
    let central = fleet.node_with("central", &LOGGER);
    // Whoever wants a quiet log still wants central to know.
    let ship1 = fleet.node_with("ship1", &["--log-level=error"]);
    ship1.cli(&["stop-process", "inmsg.txt"]).ok();
    let trap = ship1.dir().join("inmsg.taken-0193f2a0-0000-7000-8000-000000000000");
    // A socket can't be opened, and nobody could say what it stands for.
    let _socket = std::os::unix::net::UnixListener::bind(&trap).unwrap();
    ship1.cli(&["start-process", "inmsg.txt"]).ok();
    let failing =
        eventually("it fails", || Some(ship1.task("inmsg.txt")).filter(|task| task["restarts"].as_u64().unwrap() >= 1));
    assert!(failing["note"].as_str().unwrap().contains("No such device"), "{failing}");
    assert_eq!(ship1.send_and_wait(&shell("ship1", "true"))["state"], "done", "the others go on");
    fs::remove_file(&trap).unwrap();
    ship1.append(&json!([event("central", "TextLogging", &["through"])]).to_string());
    eventually("it works again", || central.read("textlogging.log").contains("through").then_some(()));
    eventually("central knows why it did not", || {
        central
            .errors_of("ship1")
            .iter()
            .any(|error| error.contains("task: inmsg.txt") && error.contains("No such device"))
            .then_some(())
    });
}

/// Another process has put its own socket where the node's is to be.
#[test]
fn an_api_that_can_not_listen_is_tried_again_until_it_can() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let socket = ship1.dir().join("steward.sock");
    central.cli(&["stop-process", "api", "--node=ship1"]).ok();
    assert!(!socket.exists(), "its file goes with it");
    let other = UnixListener::bind(&socket).unwrap();
    central.cli(&["start-process", "api", "--node=ship1"]).ok();
    let api = || central.json(&["ps", "--node=ship1"]).into_iter().find(|task| task["name"] == "api").unwrap();
    let failing = eventually("it fails", || Some(api()).filter(|task| task["note"].is_string()));
    assert!(failing["note"].as_str().unwrap().contains("another process answers"), "{failing}");
    assert_eq!(central.send_and_wait(&shell("ship1", "true"))["state"], "done", "the others go on");
    drop(other);
    fs::remove_file(&socket).unwrap();
    eventually("it listens", || std::os::unix::net::UnixStream::connect(&socket).ok());
    assert_eq!(ship1.ask("GET", "/v1/info", "")["node"], "ship1");
}

/// A method that can't do its work fails its message, and nothing else.
#[test]
fn a_method_that_fails_ends_its_message_alone() {
    let fleet = Fleet::new();
    let central = fleet.node_with("central", &LOGGER);
    let mut ship1 = fleet.absent("ship1", &[]);
    fs::create_dir(ship1.dir().join("textlogging.log")).unwrap();
    ship1.start();
    let failed = central.send_and_wait(&event("ship1", "TextLogging", &["a line"]));
    assert_eq!(failed["state"], "failed", "{failed}");
    assert_eq!(central.send_and_wait(&shell("ship1", "true"))["state"], "done");
    eventually("central has it among the errors", || {
        let id = failed["id"].as_str().unwrap();
        central
            .errors_of("ship1")
            .iter()
            .any(|error| error.starts_with("TextLogging") && error.contains(id))
            .then_some(())
    });
    assert_eq!(ship1.task("text log")["state"], "running");
    fs::remove_dir(ship1.dir().join("textlogging.log")).unwrap();
    assert_eq!(central.send_and_wait(&event("ship1", "TextLogging", &["a line"]))["state"], "done");
    assert_eq!(ship1.read("textlogging.log"), "a line\n");
}
