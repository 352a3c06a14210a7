//! `steward demo` shows what it says, and leaves nothing behind.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Fleet, Process, SOON, eventually, nats_server, run};

/// The demo with a temporary folder of its own.
fn demo(fleet: &Fleet, args: &[&str]) -> Command {
    verb(fleet, &[&["demo"], args].concat())
}

fn verb(fleet: &Fleet, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steward"));
    command.args(args).env("TMPDIR", fleet.dir()).env("NATS_SERVER_BIN", nats_server());
    // It must not matter where it is run, or with what settings for nodes.
    command.current_dir("/").env("STEWARD_NODE", "somebody-else");
    command
}

fn folders(fleet: &Fleet) -> Vec<String> {
    let entries = fs::read_dir(fleet.dir()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("steward-")).collect()
}

/// Nothing is left.
fn is_gone(fleet: &Fleet) {
    eventually("no process is left", || fleet.processes().is_empty().then_some(()));
    assert_eq!(folders(fleet), Vec::<String>::new());
}

#[test]
fn the_demo_keeps_its_promises_and_leaves_nothing_behind() {
    let fleet = Fleet::without_broker();
    let ran = run(fleet.dir(), &mut demo(&fleet, &[])).ok();
    for part in ["away, queued", "nothing that was accepted is lost", "a stranger gets nowhere", "promises kept"] {
        assert!(ran.stdout.contains(part), "no {part:?} in {}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\u{1b}'), "colours where nobody sees them: {}", ran.stdout);
    is_gone(&fleet);
}

#[test]
fn ctrl_c_ends_the_demo_and_all_that_it_started() {
    let fleet = Fleet::without_broker();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut process = Process::start("demo", fleet.dir(), &mut demo(&fleet, &[]));
        eventually("the demo has come far", || {
            let log = fs::read_to_string(fleet.dir().join("demo.log")).unwrap_or_default();
            log.contains("ship2    ready").then_some(())
        });
        process.signal(signal);
        assert!(!process.wait(SOON).success());
        is_gone(&fleet);
        fs::remove_file(fleet.dir().join("demo.log")).unwrap();
    }
}

/// The demo, or a measurement, once all of its nodes run.
fn far(fleet: &Fleet, name: &str, command: &mut Command) -> Process {
    let process = Process::start(name, fleet.dir(), command);
    eventually("its nodes run", || {
        let nodes = fleet.processes().into_iter().filter(|(_, line)| line.contains(" run --node "));
        (nodes.count() >= 2).then_some(())
    });
    process
}

#[test]
fn what_the_demo_started_ends_with_it_even_if_it_is_killed() {
    let fleet = Fleet::without_broker();
    let mut process = far(&fleet, "demo", &mut demo(&fleet, &[]));
    process.kill();
    is_gone(&fleet);
    // `--keep` keeps what it has shown, and not what it had no time to show.
    let mut process = far(&fleet, "demo", &mut demo(&fleet, &["--keep"]));
    process.kill();
    is_gone(&fleet);
}

#[test]
fn what_a_measurement_started_ends_with_it_even_if_it_is_killed() {
    let fleet = Fleet::without_broker();
    let mut process = far(&fleet, "bench", &mut verb(&fleet, &["bench", "--quick", "--only", "idle"]));
    process.kill();
    is_gone(&fleet);
}

#[test]
fn a_demo_that_is_kept_can_be_played_with_and_stopped() {
    let fleet = Fleet::without_broker();
    let ran = run(fleet.dir(), &mut demo(&fleet, &["--keep"])).ok();
    let typed = |start: &str| -> String {
        let line =
            ran.stdout.lines().filter_map(|line| line.trim().strip_prefix("$ ")).find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no {start:?} in {}", ran.stdout)).to_owned()
    };
    let play = format!("{}\n{}", typed("export"), typed("steward send"));
    let played = run(fleet.dir(), Command::new("sh").args(["-c", &play])).ok();
    assert_eq!(played.stdout.matches("exit code 0").count(), 2, "{played:?}");
    run(fleet.dir(), Command::new("sh").args(["-c", &typed("sh ")])).ok();
    is_gone(&fleet);
}

#[test]
fn without_a_nats_server_the_demo_says_how_to_get_one() {
    let fleet = Fleet::without_broker();
    let mut command = demo(&fleet, &[]);
    let ran = run(fleet.dir(), command.env("NATS_SERVER_BIN", "/no/such/nats-server"));
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("/no/such/nats-server"), "{ran:?}");
    assert_eq!(folders(&fleet), Vec::<String>::new());
}
