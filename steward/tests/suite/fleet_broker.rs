//! A fleet's own broker (R18, R19): `steward init`, `steward broker` and `steward up`, with the real nats-server.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::harness::{Fleet, Node, Process, event, eventually, kill, nats_server, parent, run, shell};

/// The program in this directory, with the nats-server of this machine.
fn steward(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steward"));
    command.arg("--dir").arg(dir).args(args).env("NATS_SERVER_BIN", nats_server());
    // Tests share the machine, and its ports.
    command.env("STEWARD_PROM_HOST_AND_PORT", "none");
    command
}

/// A node that is central of a fleet with a broker on the port that the harness has reserved. Neither runs.
fn central(fleet: &Fleet) -> Node<'_> {
    let central = fleet.absent("central", &[]);
    let ran = run(fleet.dir(), &mut steward(central.dir(), &["init", "--address", &fleet.broker.address()])).ok();
    assert!(ran.stdout.contains("steward") && ran.stdout.contains(" up "), "{}", ran.stdout);
    central
}

/// All files below a folder with their modes and texts.
fn everything(folder: &Path, all: &mut BTreeMap<String, (u32, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777;
        let text = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        all.insert(path.display().to_string(), (mode, text));
        if path.is_dir() {
            everything(&path, all);
        }
    }
}

/// The nats-server that belongs to a process of ours.
fn server_of(fleet: &Fleet, owner: u32) -> u32 {
    eventually("there is a nats-server", || {
        let ours = |id: u32| parent(id) == Some(owner);
        let is_server = |line: &str| line.ends_with("-c nats-server.conf") && !line.contains("bound-child");
        fleet.processes().into_iter().find(|(id, line)| is_server(line) && ours(*id)).map(|(id, _)| id)
    })
}

fn delivers(central: &Node<'_>) {
    let done = central.send_and_wait(&shell("central", "echo safe"));
    assert_eq!((&done["state"], &done["stdout"]), (&"done".into(), &"safe\n".into()), "{done}");
}

#[test]
fn one_command_makes_a_fleet_and_another_one_runs_it() {
    let fleet = Fleet::without_broker();
    let central = central(&fleet);
    let mut up = Process::start("up", fleet.dir(), &mut steward(central.dir(), &["up"]));
    eventually("the node answers", || central.answers().then_some(()));
    delivers(&central);
    let info = central.ask("GET", "/v1/info", "");
    assert_eq!((&info["linkState"], &info["node"]), (&"up".into(), &"central".into()), "{info}");
    // Nobody comes in who has no login of the fleet, and nobody without TLS.
    {
        let stranger = fleet.node("stranger");
        let link = || stranger.ask("GET", "/v1/info", "")["linkState"].as_str().unwrap().to_owned();
        eventually("a stranger is kept out", || (link() == "untrusted").then_some(()));
    }
    up.signal(rustix::process::Signal::INT);
    assert!(up.wait(crate::harness::SOON).success());
    let log = fs::read_to_string(fleet.dir().join("up.log")).unwrap();
    let at = |what: &str| log.find(what).unwrap_or_else(|| panic!("{what} is not in the log:\n{log}"));
    assert!(at("the node has stopped") < at("Initiating Shutdown"), "{log}");
    eventually("no process is left", || fleet.processes().is_empty().then_some(()));
}

#[test]
fn a_fleet_is_made_once_and_only_its_owner_can_read_it() {
    let fleet = Fleet::without_broker();
    let central = central(&fleet);
    let mut before = BTreeMap::new();
    everything(central.dir(), &mut before);
    for (path, (mode, _)) in &before {
        assert_eq!(mode & 0o077, 0, "{path}");
    }
    for args in [&["init", "--address", "hq.example.org"][..], &["init", "--external"]] {
        let again = run(fleet.dir(), &mut steward(central.dir(), args));
        assert!(again.code == 1 && again.stderr.contains("nothing was changed"), "{again:?}");
    }
    let mut after = BTreeMap::new();
    everything(central.dir(), &mut after);
    assert!(before == after, "something was changed");
    let none = run(fleet.dir(), &mut steward(&fleet.dir().join("new"), &["init"]));
    assert!(none.code == 2 && none.stderr.contains("--address HOST:PORT"), "{none:?}");
    let wrong = run(fleet.dir(), &mut steward(&fleet.dir().join("new"), &["init", "--address", "0.0.0.0:4222"]));
    assert!(wrong.code == 2 && wrong.stderr.contains("no address that nodes could connect to"), "{wrong:?}");
    let mixed =
        run(fleet.dir(), &mut steward(&fleet.dir().join("new"), &["init", "--address", "a", "--broker-creds", "x"]));
    assert!(mixed.code == 2 && mixed.stderr.contains("--external"), "{mixed:?}");
}

/// A machine that burnt down: what is needed is the copy of one folder.
#[test]
fn a_fleet_that_is_put_back_from_its_copy_has_a_central_again() {
    let fleet = Fleet::without_broker();
    let mut central = central(&fleet);
    for folder in ["identity", "steward.toml"] {
        let path = central.dir().join(folder);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    run(fleet.dir(), &mut steward(central.dir(), &["init"])).ok();
    let _broker = Process::start("broker", fleet.dir(), &mut steward(central.dir(), &["broker"]));
    central.start();
    delivers(&central);
    let again = run(fleet.dir(), &mut steward(central.dir(), &["init"]));
    assert!(again.code != 0, "{again:?}");
}

#[test]
fn a_broker_that_dies_comes_back_and_one_without_its_keeper_goes() {
    let fleet = Fleet::without_broker();
    let mut central = central(&fleet);
    let mut keeper = Process::start("broker", fleet.dir(), &mut steward(central.dir(), &["broker"]));
    let server = server_of(&fleet, keeper.id());
    central.start();
    delivers(&central);
    kill(server);
    eventually("another nats-server is there", || (server_of(&fleet, keeper.id()) != server).then_some(()));
    delivers(&central);
    let server = server_of(&fleet, keeper.id());
    keeper.kill();
    eventually("it has gone, too", || fleet.processes().iter().all(|(id, _)| *id != server).then_some(()));
    let id = central.send(&event("central", "TextLogging", &["kept\n"]));
    let mut keeper = Process::start("broker", fleet.dir(), &mut steward(central.dir(), &["broker"]));
    assert_eq!(central.ended(&id)["state"], "done");
    keeper.signal(rustix::process::Signal::TERM);
    assert!(keeper.wait(crate::harness::SOON).success());
    let log = fs::read_to_string(fleet.dir().join("broker.log")).unwrap();
    assert!(log.contains("nats-server: Server is ready"), "{log}");
    let left = fleet.processes().into_iter().filter(|(_, line)| line.contains("nats-server")).count();
    assert_eq!(left, 0);
}

#[test]
fn a_fleet_can_use_a_broker_that_is_there() {
    let fleet = Fleet::with_broker("authorization { token: \"hush-hush\" }\n");
    let token = fleet.dir().join("token");
    fs::write(&token, "hush-hush").unwrap();
    let mut central = fleet.absent("central", &[]);
    let args = ["init", "--external", "--broker-address", &fleet.broker.address(), "--broker-token-file"];
    run(fleet.dir(), steward(central.dir(), &args).arg(&token)).ok();
    central.start();
    delivers(&central);
    let broker = run(fleet.dir(), &mut steward(central.dir(), &["broker"]));
    assert!(broker.code == 1 && broker.stderr.contains("not ours"), "{broker:?}");
}

#[test]
fn without_a_nats_server_it_says_how_to_get_one() {
    let fleet = Fleet::without_broker();
    let central = central(&fleet);
    // A copy of the program outside of any checkout, which may have one in its .tools.
    let program = fleet.dir().join("steward");
    fs::copy(env!("CARGO_BIN_EXE_steward"), &program).unwrap();
    for verb in ["broker", "up"] {
        let mut command = Command::new(&program);
        command.arg("--dir").arg(central.dir()).arg(verb).env("PATH", "/var/empty").env_remove("NATS_SERVER_BIN");
        let ran = run(fleet.dir(), command.current_dir(fleet.dir()));
        if ["/usr/sbin", "/usr/local/sbin"].iter().any(|folder| Path::new(folder).join("nats-server").exists()) {
            return crate::harness::skipped("without_a_nats_server", "there is one where Debian puts it");
        }
        assert!(ran.code == 1 && ran.stderr.contains("https://github.com/nats-io/nats-server/releases"), "{ran:?}");
    }
    let chosen = run(fleet.dir(), steward(central.dir(), &["up"]).env("NATS_SERVER_BIN", "/does/not/exist"));
    assert!(chosen.code == 1 && chosen.stderr.contains("/does/not/exist can't be run"), "{chosen:?}");
}
