//! Disks that are full, broken, lost or brought back from a copy.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::attacks::members::Members;
use crate::harness::{DiskKind, Fleet, event, eventually, shell, skipped};

/// The files of a node's store.
fn store(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("steward.db")).collect()
}

/// A store that is gone: what may have run is said to be interrupted, what was never sent goes out.
#[test]
fn a_receiver_whose_store_is_gone_is_noticed() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (gate, ran) = (fleet.file("gate"), fleet.file("ran"));
    let running = central.send(&shell("ship1", &gate.awaited()));
    central.awaits(&running, "running");
    let waiting = central.send(&shell("ship1", &format!("echo ran >> {}", ran.path())));
    central.awaits(&waiting, "stored");
    ship1.kill();
    // What went out before central knew that ship1 is gone may have arrived; what comes after that has not been sent.
    let unknown = central.send(&event("ship1", "TextLogging", &["to the old one"]));
    central.sees("ship1", "away");
    let unsent = central.send(&event("ship1", "TextLogging", &["to the new one"]));
    for file in store(ship1.dir()) {
        fs::remove_file(file).unwrap();
    }
    gate.create();
    ship1.start();
    for id in [&running, &waiting, &unknown] {
        assert_eq!(central.ended(id)["state"], "interrupted");
    }
    assert_eq!(central.ended(&unsent)["state"], "done");
    assert_eq!(ran.lines(), Vec::<String>::new());
}

/// A receiver's directory brought back from a backup knows nothing of what it ran since: none of it runs again.
#[test]
fn a_receiver_brought_back_from_an_older_copy_runs_nothing_twice() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let numbered = |number: usize| shell("ship1", &format!("echo {number} >> {}", ran.path()));
    central.send_and_wait(&numbered(0));
    assert_eq!(ship1.terminate(), 0);
    let copies: Vec<_> = store(ship1.dir()).into_iter().map(|file| (fs::read(&file).unwrap(), file)).collect();
    ship1.start();
    for number in 1..5 {
        central.send_and_wait(&numbered(number));
    }
    ship1.kill();
    for file in store(ship1.dir()) {
        fs::remove_file(file).unwrap();
    }
    for (bytes, file) in copies {
        fs::write(file, bytes).unwrap();
    }
    let before = central.sees_start_of("ship1");
    ship1.start();
    eventually("central has heard of the new process", || (central.sees_start_of("ship1") != before).then_some(()));
    assert_eq!(central.send_and_wait(&numbered(5))["state"], "done");
    assert_eq!(ran.lines(), ["0", "1", "2", "3", "4", "5"]);
}

/// A sender whose directory is gone begins anew: its numbers begin again, and must not be taken for the old ones.
#[test]
fn a_sender_that_begins_anew_is_not_taken_for_its_past() {
    let fleet = Fleet::new();
    let (mut central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    for number in 0..5 {
        central.send_and_wait(&shell("ship1", &format!("echo {number} >> {}", ran.path())));
    }
    central.kill();
    for file in store(central.dir()) {
        fs::remove_file(file).unwrap();
    }
    central.start();
    for number in 5..8 {
        let message = central.send_and_wait(&shell("ship1", &format!("echo {number} >> {}", ran.path())));
        assert_eq!(message["state"], "done", "{message}");
    }
    assert_eq!(ran.lines(), ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

/// A damaged store is reported, and left as it is for whoever can save something of it.
#[test]
fn a_damaged_store_is_reported_and_left_alone() {
    let fleet = Fleet::new();
    let mut central = fleet.node("central");
    central.send(&shell("ship1", "true"));
    assert_eq!(central.terminate(), 0);
    let file = central.dir().join("steward.db");
    // All of it into the one file, so that there is no second copy of what is damaged.
    let database = rusqlite::Connection::open(&file).unwrap();
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(database);
    let mut bytes = fs::read(&file).unwrap();
    bytes[..4096].fill(b'x');
    fs::write(&file, &bytes).unwrap();
    central.launch();
    assert_ne!(central.ends(), 0);
    let said = central.log().lines().last().unwrap().to_owned();
    assert!(said.contains("steward.db"), "{said}");
    assert!(fs::read(&file).unwrap() == bytes, "it is not the same any more");
}

/// A full disk: refused with the reason, nothing that was accepted is lost, and it goes on when there is room.
#[test]
fn a_full_disk_refuses_messages_and_goes_on_when_there_is_room() {
    let fleet = Fleet::new();
    let _ship1 = fleet.node("ship1");
    // A small disk of its own needs a mount, and a mount needs rights that not every machine gives to a test.
    let Some(central) = fleet.node_on_small_disk("central", 24) else {
        return skipped(
            "disk::a_full_disk_refuses_messages_and_goes_on_when_there_is_room",
            "mounting is not permitted on this machine",
        );
    };
    let ran = fleet.file("ran");
    let append = |number: usize| shell("ship1", &format!("echo {number} >> {}", ran.path()));
    let first = central.send(&append(1));
    central.ended(&first);

    let filler = central.dir().join("filler");
    let full = (0..).find(|_| {
        let more = [fs::read(&filler).unwrap_or_default(), vec![0; 1 << 20]].concat();
        fs::write(&filler, more).is_err()
    });
    assert!(full.is_some());
    let refused = eventually("it refuses, with the reason", || {
        let answer =
            central.ask("POST", "/v1/messages", &Value::from(vec![event("ship1", "TextLogging", &["x"])]).to_string());
        answer["error"].as_str().map(str::to_owned)
    });
    assert!(refused.contains("full") || refused.contains("room"), "{refused}");
    assert_eq!(central.show(&first)["state"], "done", "it can still be asked");

    fs::remove_file(&filler).unwrap();
    let accepted = eventually("it accepts again", || {
        let answer = central.ask("POST", "/v1/messages", &Value::from(vec![append(2)]).to_string());
        Some(answer["ids"][0].as_str()?.to_owned())
    });
    assert_eq!(central.ended(&accepted)["state"], "done");
    assert_eq!(ran.lines(), ["1", "2"]);
    let lines = eventually("both are in the audit log", || {
        let lines = central.read("audit.jsonl");
        (lines.contains(&first) && lines.contains(&accepted)).then_some(lines)
    });
    assert_eq!(central.cli(&["audit", "verify"]).code, 0, "{lines}");
}

/// Who a node is, is written down before anything of it is accepted, also by a disk that is full when it first shows itself: what it
/// has sent runs after a restart, too.
#[test]
fn a_member_that_shows_itself_to_a_full_disk_is_known_when_its_messages_run() {
    let (fleet, members) = (Fleet::new(), Members::new());
    let (mut central, mut ship1, mut ship2) =
        (fleet.absent("central", &[]), fleet.absent("ship1", &[]), fleet.absent("ship2", &[]));
    if let Err(why) = ship1.put_on_disk(DiskKind::Memory, 24) {
        return skipped("disk::a_member_that_shows_itself_to_a_full_disk_is_known_when_its_messages_run", &why);
    }
    for node in [&central, &ship1, &ship2] {
        members.join(node);
    }
    ship1.start();
    ship2.start();
    let fill = |name: &str| {
        let file = fs::File::create(ship1.dir().join(name)).unwrap();
        while (&file).write_all(&[0; 4096]).is_ok() {}
    };
    fill("filler");
    // Its store is stuck before it hears of central for the first time.
    let event = ship2.send(&event("ship1", "TextLogging", &["x"]));
    eventually("its store is stuck", || ship1.log().contains("the store does not take").then_some(()));
    central.start();
    let (gate, ran) = (fleet.file("gate"), fleet.file("ran"));
    let first = central.send(&shell("ship1", &gate.awaited()));
    let second = central.send(&shell("ship1", &format!("echo ran >> {}", ran.path())));
    // It has asked, and has no answer.
    central.sees("ship1", "silent");
    fs::remove_file(ship1.dir().join("filler")).unwrap();
    central.awaits(&first, "running");
    central.awaits(&second, "stored");
    ship1.kill();
    gate.create();
    ship1.start();
    assert_eq!(central.ended(&first)["state"], "interrupted");
    let second = central.ended(&second);
    assert_eq!(second["state"], "done", "{second}");
    assert_eq!((ran.lines(), &ship2.ended(&event)["state"]), (vec!["ran".to_owned()], &"done".into()));
}
