//! Where results go (`replyMethod`): each once, whole, below the node's own folder, whatever is killed meanwhile.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{DiskKind, Fleet, Node, SOON, eventually, shell, skipped, until, with};

/// A command whose result goes there.
fn replying(script: &str, reply: &str, directory: Option<&str>, file: Option<&str>) -> Value {
    let mut more = json!({ "replyMethod": reply });
    for (key, value) in [("directory", directory), ("fileName", file)] {
        if let Some(value) = value {
            more[key] = value.into();
        }
    }
    with(shell("ship1", script), more)
}

/// Waits until this is what has become of its result.
#[track_caller]
fn replied(central: &Node<'_>, id: &str, state: &str) -> Value {
    central.ended(id);
    let mut last = Value::Null;
    eventually(&format!("the result of {id} is {state}"), || {
        last = central.show(id);
        (last["reply"]["state"] == state).then_some(())
    });
    last
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_result_becomes_a_file_or_the_end_of_one_and_is_kept_as_usual() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let file = central.dir().join("results/ship1/ShellCommand.out");
    for text in ["first", "second"] {
        let id = central.send(&replying(&format!("echo {text}; echo wrong >&2; exit 3"), "file", None, None));
        let message = replied(&central, &id, "done");
        assert_eq!(
            message["reply"],
            json!({ "method": "file", "file": "results/ship1/ShellCommand.out", "state": "done" })
        );
        assert_eq!((&message["state"], &message["stdout"]), (&"failed".into(), &format!("{text}\n").into()));
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{text}\nwrong\n"));
    }
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));

    let ids: Vec<String> = (0..20)
        .map(|n| central.send(&replying(&format!("printf {n}"), "fileAppend", Some("logs/of ships"), Some("n.log"))))
        .collect();
    for id in &ids {
        replied(&central, id, "done");
    }
    let lines: String = (0..20).map(|n| format!("{n}\n")).collect();
    assert_eq!(central.read("results/logs/of ships/n.log"), lines);
    let large = central.send(&replying("head -c 9000000 /dev/zero | tr '\\0' x", "fileAppend", None, Some("large")));
    replied(&central, &large, "done");
    assert_eq!(fs::metadata(central.dir().join("results/ship1/large")).unwrap().len(), 9_000_001);
    let shown = central.cli(&["show", &ids[0]]).stdout;
    assert!(shown.contains("fileAppend results/logs/of ships/n.log, done"), "{shown}");
    let parts = fs::read_dir(file.parent().unwrap()).unwrap().flatten();
    assert_eq!(parts.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part")).count(), 0);
}

#[test]
fn a_result_goes_to_another_method_once_or_is_not_kept() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let id = central.send(&replying("echo to the log", "TextLogging", None, None));
    replied(&central, &id, "done");
    eventually("it is in the log", || (central.read("textlogging.log") == "to the log\n").then_some(()));
    let id = central.send(&replying("head -c 600000 /dev/zero | tr '\\0' x", "TextLogging", None, None));
    let message = replied(&central, &id, "given-up");
    assert!(message["reply"]["note"].as_str().unwrap().contains("at most"), "{message}");
    assert_eq!(message["stdoutBytes"], 600_000, "it is kept all the same");

    for script in ["echo short", "seq 1500000 | head -c 1000000"] {
        let id = central.send(&replying(script, "none", None, None));
        let message = replied(&central, &id, "done");
        assert_eq!((&message["state"], &message["exitCode"]), (&"done".into(), &0.into()));
        assert_eq!(central.bytes(&format!("/v1/messages/{id}/stdout")), b"");
    }
    let outputs = || fs::read_dir(central.dir().join("blobs")).unwrap().count();
    eventually("only the file of the one that is kept is left", || (outputs() == 1).then_some(()));

    let refused = central
        .send(&with(replying("true", "file", None, None), json!({ "toNode": "ship1", "method": "NoSuchMethod" })));
    let message = replied(&central, &refused, "given-up");
    assert!(message["reply"]["note"].as_str().unwrap().contains("there is no result"), "{message}");
    assert!(!central.dir().join("results").exists());
}

#[test]
fn what_makes_no_sense_is_refused_where_it_is_given() {
    let fleet = Fleet::new();
    let central = fleet.node("central");
    for (message, reason) in [
        (replying("true", "file", Some(".."), None), "\\\"directory\\\": the name"),
        (replying("true", "file", None, Some("/etc/passwd")), "has a slash in it"),
        (replying("true", "ShellCommand", None, None), "what node ship1 answers"),
        (replying("true", "fiel", None, None), "is none of console, file"),
        (with(replying("true", "file", None, None), json!({ "commandOrEvent": "CommandNACK" })), "only a CommandACK"),
    ] {
        let answer = central.ask("POST", "/v1/messages", &json!([message]).to_string()).to_string();
        assert!(answer.contains(reason), "no {reason} in {answer}");
    }
    let ran = central.cli(&[
        "send",
        "ship1",
        "--detach",
        "--reply-method=file",
        "--directory=a",
        "--file-name=b",
        "--",
        "true",
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let reply = &central.show(ran.stdout.trim())["reply"];
    assert_eq!(reply, &json!({ "method": "file", "file": "results/a/b", "state": "waiting" }));
    let ran = central.cli(&["replay", "--yes", ran.stdout.trim()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(central.show(ran.stdout.trim())["reply"]["file"], "results/a/b", "it is sent again as it was");
}

/// Killed at any point, each result is there once.
#[test]
fn results_are_there_once_whatever_is_killed() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let mut ids = Vec::new();
    for round in 0..6 {
        for n in 0..15 {
            let line = format!("{round}-{n}");
            for reply in ["fileAppend", "TextLogging"] {
                let file = Some("all").filter(|_| reply == "fileAppend");
                let message = replying(&format!("echo {line}"), reply, None, file);
                ids.push(central.send(&with(message, json!({ "rerun": true }))));
            }
        }
        if round == 3 {
            ship1.kill();
            ship1.start();
        }
        central.ended(&ids[ids.len() - 10 - round]);
        central.kill();
        central.start();
    }
    for id in &ids {
        replied(&central, id, "done");
    }
    let mut expected: Vec<String> = (0..6).flat_map(|round| (0..15).map(move |n| format!("{round}-{n}"))).collect();
    expected.sort();
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&central.read("results/ship1/all")), expected);
    until(SOON, "all is in the log, once", || {
        let found = sorted(&central.read("textlogging.log"));
        if found == expected { Ok(()) } else { Err(format!("it has {found:?}")) }
    });
}

#[test]
fn what_stands_in_the_way_holds_up_that_result_only_and_no_link_is_followed() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let outside = fleet.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "as it was").unwrap();
    fs::create_dir(central.dir().join("results")).unwrap();
    symlink(&outside, central.dir().join("results/away")).unwrap();
    fs::create_dir(central.dir().join("results/here")).unwrap();
    symlink(outside.join("file"), central.dir().join("results/here/link")).unwrap();
    let away = central.send(&replying("echo away", "file", Some("away"), Some("file")));
    let link = central.send(&replying("echo link", "fileAppend", Some("here"), Some("link")));
    let fine = central.send(&replying("echo fine", "fileAppend", Some("here"), Some("fine")));
    replied(&central, &fine, "done");
    for id in [&away, &link] {
        eventually("it says why it waits", || {
            let reply = central.show(id)["reply"].clone();
            (reply["state"] == "due" && reply["note"].as_str().is_some_and(|note| note.contains("is a link")))
                .then_some(())
        });
    }
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "as it was");
    fs::remove_file(central.dir().join("results/away")).unwrap();
    fs::remove_file(central.dir().join("results/here/link")).unwrap();
    for id in [&away, &link] {
        replied(&central, id, "done");
    }
    assert_eq!(
        (central.read("results/away/file"), central.read("results/here/link")),
        ("away\n".into(), "link\n".into())
    );
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

/// The disk has room for what came back, and not for it once more.
#[test]
fn a_full_disk_keeps_the_result_and_writes_it_when_there_is_room() {
    let fleet = Fleet::new();
    let mut central = fleet.absent("central", &[]);
    if let Err(why) = central.put_on_disk(DiskKind::Memory, 48) {
        return skipped("replies::a_full_disk_keeps_the_result_and_writes_it_when_there_is_room", &why);
    }
    central.start();
    let (_ship1, gate) = (fleet.node("ship1"), fleet.file("gate"));
    fs::create_dir_all(central.dir().join("results/ship1")).unwrap();
    fs::write(central.dir().join("results/ship1/log"), "before\n").unwrap();
    let script = format!("{}; head -c 7000000 /dev/zero | tr '\\0' x", gate.awaited());
    let ids = ["file", "fileAppend"].map(|reply| {
        let file = if reply == "file" { "whole" } else { "log" };
        central.send(&with(replying(&script, reply, None, Some(file)), json!({ "parallel": true })))
    });
    for id in &ids {
        central.awaits(id, "running");
    }
    let filler = fs::File::create(central.dir().join("filler")).unwrap();
    while rustix::fs::fstatvfs(&filler).is_ok_and(|is| is.f_bavail * is.f_frsize > 18 << 20) {
        (&filler).write_all(&[0; 65536]).unwrap();
    }
    gate.create();
    for id in &ids {
        central.ended(id);
        eventually("it says that the disk is full", || {
            let reply = central.show(id)["reply"].clone();
            (reply["state"] == "due" && reply["note"].is_string()).then_some(())
        });
    }
    assert_eq!(central.read("results/ship1/log"), "before\n", "nothing half is left");
    assert!(!central.dir().join("results/ship1/whole").exists());
    drop(filler);
    fs::remove_file(central.dir().join("filler")).unwrap();
    for id in &ids {
        assert_eq!(replied(&central, id, "done")["stdoutBytes"], 7_000_000);
    }
    assert_eq!(central.read("results/ship1/log").len(), 7 + 7_000_001);
    assert_eq!(central.read("results/ship1/whole").len(), 7_000_000);
}
