//! Links in a node's directory that lead out of it: nothing there is read, written, cut off, removed or given another mode,
//! and nothing in there runs. A node that can't do without the file says which one it is, and starts once the link is gone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::still_works;
use crate::harness::{Fleet, Node, event, eventually, shell, with};

/// What a taken file is called.
const TAKEN: &str = "inmsg.taken-0193a5b2-7c1e-7d3a-9b52-5a1f00000000";

/// Everything below a folder: its mode, and its content if it is a file.
fn look(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is = fs::symlink_metadata(&path).unwrap();
            let text = if is.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            seen.insert(path.clone(), (is.permissions().mode(), text));
            if is.is_dir() {
                folders.push(path);
            }
        }
    }
    seen
}

/// What lies outside: a file with a message that must not run, and a folder with files whose names are those of ours.
fn outside(fleet: &Fleet, ran: &str) -> PathBuf {
    let outside = fleet.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    let text = Value::from(vec![shell("ship1", &format!("echo ran >> {ran}"))]).to_string() + "\n[{\"no message\"}]\n";
    fs::write(outside.join("file"), &text).unwrap();
    fs::set_permissions(outside.join("file"), PermissionsExt::from_mode(0o644)).unwrap();
    let folder = outside.join("folder");
    fs::create_dir(&folder).unwrap();
    for name in ["steward.sock", "in-1.stdout", "in-1.stdout.part", "2026-01-01T00-00-00-000Z-000000-1.json"] {
        fs::write(folder.join(name), "not ours").unwrap();
    }
    outside
}

/// Each is in the other's place, in one step: the node makes anew what is missing.
fn exchange(one: &Path, other: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

/// Uses every file of its directory that a node has.
fn busy(ship1: &Node<'_>) {
    for message in [
        event("ship1", "TextLogging", &["a line"]),
        event("ship1", "ErrorLog", &["an error"]),
        shell("ship1", "seq 1 20000"),
    ] {
        // Where its file can't be written, it ends with that reason.
        ship1.send_and_wait(&message);
    }
    if fs::symlink_metadata(ship1.dir().join("inmsg.txt")).unwrap().is_file() {
        ship1.append("[{\"toNode\": \"no name\"}]");
    }
    eventually("it is put aside, or said that it can't be", || {
        let said = ship1.log().contains("can't be taken in");
        (said || ship1.rejected().contains("no name")).then_some(())
    });
}

#[test]
fn no_link_leads_out_of_the_nodes_directory() {
    for (name, to) in [
        ("steward.lock", "file"),
        ("steward.db", "file"),
        ("steward.db-wal", "file"),
        ("messages.jsonl", "file"),
        ("textlogging.log", "file"),
        ("textlogging.journal", "file"),
        ("errorlog.log", "file"),
        ("engine.died", "file"),
        ("audit.jsonl", "file"),
        ("inmsg.txt", "file"),
        (TAKEN, "file"),
        ("steward.sock", "folder/steward.sock"),
        (".steward.sock.new", "folder"),
        ("rejected", "folder"),
        ("blobs", "folder"),
    ] {
        let fleet = Fleet::new();
        let ran = fleet.file("ran");
        let outside = outside(&fleet, ran.path());
        let mut ship1 = fleet.absent("ship1", &[]);
        symlink(outside.join(to), ship1.dir().join(name)).unwrap();
        let before = look(&outside);
        ship1.launch();
        let runs = eventually("it answers or ends", || match ship1.runs() {
            false => Some(false),
            true => ship1.answers().then_some(true),
        });
        if runs {
            busy(&ship1);
        } else {
            let log = ship1.log();
            assert!(log.contains(name) && log.contains("is a link"), "{name}: {log}");
            assert_eq!(ship1.ends(), 1, "{name}");
        }
        assert_eq!(look(&outside), before, "{name} -> {to}");
        assert!(ran.lines().is_empty(), "{name}: what lies outside has run");

        // Without the link everything is as ever.
        if runs {
            assert_eq!(ship1.terminate(), 0, "{name}");
        }
        // What has its place now (the socket, a new file) is no link any more.
        if fs::symlink_metadata(ship1.dir().join(name)).is_ok_and(|is| is.is_symlink()) {
            fs::remove_file(ship1.dir().join(name)).unwrap();
        }
        ship1.start();
        still_works(&fleet.node("central"), &ship1);
        assert_eq!(look(&outside), before, "{name} -> {to}, afterwards");
    }
}

/// A link that is put there while the node runs.
#[test]
fn no_link_that_comes_later_leads_out_either() {
    let fleet = Fleet::new();
    let ran = fleet.file("ran");
    let outside = outside(&fleet, ran.path());
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    busy(&ship1);
    let before = look(&outside);
    for name in ["rejected", "blobs", "textlogging.log", "inmsg.txt"] {
        symlink(outside.join(if name.contains('.') { "file" } else { "folder" }), fleet.dir().join(name)).unwrap();
        exchange(&fleet.dir().join(name), &ship1.dir().join(name));
    }
    let refused = ship1.send_and_wait(&event("ship1", "TextLogging", &["another line"]));
    assert!(refused["state"] == "failed" && refused["reason"].as_str().unwrap().contains("is a link"), "{refused}");
    let large = central.send_and_wait(&shell("ship1", "seq 1 20000"));
    assert_eq!((&large["state"], &large["truncated"]), (&json!("done"), &json!(true)), "{large}");
    eventually("it says that inmsg.txt is no file", || ship1.log().contains("no regular file").then_some(()));
    assert_eq!(look(&outside), before);
    assert!(ran.lines().is_empty());
    for name in ["rejected", "blobs", "textlogging.log", "inmsg.txt"] {
        exchange(&fleet.dir().join(name), &ship1.dir().join(name));
    }
    still_works(&central, &ship1);
    let logged = ship1.send_and_wait(&event("ship1", "TextLogging", &["the last line"]));
    assert_eq!(logged["state"], "done", "{logged}");
    assert!(ship1.read("textlogging.log").ends_with("a line\nthe last line\n"), "{}", ship1.read("textlogging.log"));
    ship1.append(&Value::from(vec![with(event("ship1", "TextLogging", &["by file"]), json!({}))]).to_string());
    eventually("the file is taken in", || ship1.read("textlogging.log").contains("by file").then_some(()));
    assert!(ship1.runs());
}
