//! Files are copied whole, both ways, byte for byte and with mode and time, whatever is cut or killed in the middle, and nothing
//! is left behind.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Fleet, Node, Process, SOON, eventually, until};

/// Bytes that differ everywhere, so that a piece in the wrong place is noticed and nothing can be compressed away.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A file with a mode and a time of its own.
fn file(path: &Path, content: &[u8], mode: u32) {
    fs::write(path, content).unwrap();
    let file = File::open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789)))
        .unwrap();
    file.set_permissions(Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn same(one: &Path, other: &Path) {
    assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{} and {} differ", one.display(), other.display());
    let of = |path: &Path| {
        let is = fs::metadata(path).unwrap();
        (is.mode() & 0o7777, is.mtime(), is.mtime_nsec())
    };
    assert_eq!(of(one), of(other), "mode and time");
}

/// A folder of the fleet.
fn folder(fleet: &Fleet, name: &str) -> PathBuf {
    let path = fleet.dir().join(name);
    fs::create_dir(&path).unwrap();
    path
}

fn there(node: &str, path: &Path) -> String {
    format!("{node}:{}", path.display())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Waits until nothing of any copy is left in a node's own directory.
#[track_caller]
fn nothing_is_left(node: &Node<'_>, but: &[String]) {
    until(SOON, &format!("nothing is left in {}", node.name()), || {
        let left: Vec<String> =
            names(&node.dir().join("blobs")).into_iter().filter(|name| !but.contains(name)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// `steward cp` that runs.
fn begin(fleet: &Fleet, node: &Node<'_>, args: &[&str]) -> Process {
    let steward = node.command();
    let mut command = Command::new(steward.get_program());
    command.arg("cp").args(args).current_dir(node.dir()).env_remove("STEWARD_DIR");
    Process::start("cp", fleet.dir(), &mut command)
}

fn said(fleet: &Fleet) -> String {
    fs::read_to_string(fleet.dir().join("cp.log")).unwrap_or_default()
}

/// The id of the only copy, once it has moved some bytes.
#[track_caller]
fn under_way(node: &Node<'_>) -> String {
    until(SOON, "a copy is under way", || {
        let messages: Vec<_> =
            node.messages().into_iter().filter(|message| !message["finishedAt"].is_string()).collect();
        let Some(id) = messages
            .iter()
            .rev()
            .find(|message| message["method"] == "CopyFile")
            .map(|message| message["id"].as_str().unwrap().to_owned())
        else {
            return Err("there is none".to_owned());
        };
        let view = node.show(&id);
        if view["movedBytes"].as_u64().unwrap_or(0) > 0 { Ok(id) } else { Err(view.to_string()) }
    })
}

#[test]
fn files_come_from_a_node_as_they_are() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (from, to) = (folder(&fleet, "from"), folder(&fleet, "to"));
    for (name, content, mode) in [
        ("short", b"a text\n".to_vec(), 0o644),
        ("empty", Vec::new(), 0o600),
        ("bytes", vec![0, 255, 10, 0], 0o755),
        ("long", noise(700_000), 0o400),
    ] {
        file(&from.join(name), &content, mode);
    }
    let all: Vec<String> = names(&from).iter().map(|name| there("ship1", &from.join(name))).collect();
    let mut args = vec!["cp"];
    args.extend(all.iter().map(String::as_str));
    args.push(text(&to));
    central.cli(&args).ok();
    for name in names(&from) {
        same(&from.join(&name), &to.join(&name));
    }
    assert_eq!(names(&to), names(&from));
    // One file has a name of its own, and takes the place of what is there.
    central.cli(&["cp", &all[0], text(&to.join("long"))]).ok();
    same(&from.join("bytes"), &to.join("long"));
    nothing_is_left(&ship1, &[]);
}

#[test]
fn files_go_to_a_node_as_they_are() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (from, to) = (folder(&fleet, "from"), folder(&fleet, "to"));
    for (name, content, mode) in
        [("short", b"a text\n".to_vec(), 0o644), ("empty", Vec::new(), 0o600), ("long", noise(700_000), 0o750)]
    {
        file(&from.join(name), &content, mode);
    }
    let paths: Vec<PathBuf> = names(&from).iter().map(|name| from.join(name)).collect();
    let mut args = vec!["cp"];
    args.extend(paths.iter().map(|path| text(path)));
    let folder_there = there("ship1", &to);
    args.push(&folder_there);
    central.cli(&args).ok();
    for name in names(&from) {
        same(&from.join(&name), &to.join(&name));
    }
    assert_eq!(names(&to), names(&from));
    // In the node's own folder for files, and in place of what is there; a link is replaced and not followed.
    central.cli(&["cp", text(&from.join("short")), "ship1:note"]).ok();
    same(&from.join("short"), &ship1.dir().join("files/note"));
    symlink(to.join("empty"), to.join("link")).unwrap();
    central.cli(&["cp", text(&from.join("long")), &there("ship1", &to.join("link"))]).ok();
    same(&from.join("long"), &to.join("link"));
    assert_eq!(fs::read(to.join("empty")).unwrap(), b"");
    nothing_is_left(&central, &[]);
    nothing_is_left(&ship1, &[]);
}

#[test]
fn what_can_not_be_copied_is_told_in_words_and_leaves_nothing() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let here = folder(&fleet, "here");
    file(&here.join("a"), b"a", 0o644);
    let own = there("ship1", &ship1.dir().join("steward.db"));
    let (a, into_own) = (here.join("a"), there("ship1", ship1.dir()));
    let (absent, folder_there) = (there("ship1", &here.join("none")), there("ship1", &here));
    let no_folder = there("ship1", &here.join("no/folder"));
    for (args, code, why) in [
        ([absent.as_str(), text(&here)], 1, "No such file"),
        ([folder_there.as_str(), text(&here)], 1, "folder"),
        ([own.as_str(), text(&here)], 1, "the node's own"),
        ([text(&a), into_own.as_str()], 1, "the node's own"),
        ([text(&a), no_folder.as_str()], 1, "there is no folder"),
        ([text(&a), text(&here)], 2, "both on this machine"),
        (["ship1:/etc/../etc/motd", text(&here)], 2, ".."),
    ] {
        let ran = central.cli(&["cp", args[0], args[1]]);
        assert!(ran.code == code && ran.stderr.contains(why), "{args:?}: {ran:?}");
    }
    assert_eq!(names(&here), ["a"]);
    let message = json!({ "toNode": "ship1", "data": ["put", text(&here.join("b")), "bytes=1",
        format!("blake3={}", "0".repeat(64)), "mode=644", "modified=1.000000000"], "commandOrEvent": "CommandACK", "method": "CopyFile" });
    let ended = central.send_and_wait(&message);
    assert!(ended["state"] == "failed" && ended["reason"].as_str().unwrap().contains("nothing (any more)"), "{ended}");
    fs::write(ship1.dir().join("rules.toml"), "otherwise = \"standard\"\n[[rule]]\nfrom = \"*\"\nmethod = \"CopyFile\"\nfirstWord = \"put\"\naction = \"refuse\"\n").unwrap();
    eventually("the rules hold", || {
        let ran = central.cli(&["cp", text(&a), &folder_there]);
        (ran.code == 126).then_some(())
    });
    central.cli(&["cp", &there("ship1", &a), text(&here.join("c"))]).ok();
    nothing_is_left(&central, &[]);
    nothing_is_left(&ship1, &[]);
}

#[test]
fn a_file_from_a_node_is_whole_after_link_and_both_ends_were_lost_in_the_middle() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (from, to) = (folder(&fleet, "from"), folder(&fleet, "to"));
    file(&from.join("big"), &noise(60_000_000), 0o640);
    let mut cp = begin(&fleet, &central, &[&there("ship1", &from.join("big")), text(&to)]);
    let id = under_way(&central);
    ship1.kill();
    // What was taken is what is copied, whatever becomes of the file.
    let (original, kept) = (from.join("big"), from.join("kept"));
    fs::rename(&original, &kept).unwrap();
    ship1.start();
    fleet.broker.stop();
    fleet.broker.start();
    central.kill();
    central.start();
    assert_eq!(cp.wait(SOON).code(), Some(0), "{}", said(&fleet));
    same(&kept, &to.join("big"));
    assert_eq!((names(&to), central.messages().len()), (vec!["big".to_owned()], 1));
    assert_eq!(central.show(&id)["state"], "done");
    nothing_is_left(&ship1, &[]);
}

#[test]
fn a_file_to_a_node_is_whole_after_link_and_both_ends_were_lost_in_the_middle() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (from, to) = (folder(&fleet, "from"), folder(&fleet, "to"));
    let (original, copy) = (from.join("big"), to.join("big"));
    file(&original, &noise(60_000_000), 0o640);
    fs::write(&copy, "the old one").unwrap();
    let mut cp = begin(&fleet, &central, &[text(&original), &there("ship1", &to)]);
    let id = under_way(&central);
    // The node here has it: nobody needs the original any more.
    let kept = from.join("kept");
    fs::rename(&original, &kept).unwrap();
    ship1.kill();
    ship1.start();
    fleet.broker.stop();
    fleet.broker.start();
    central.kill();
    assert_eq!(fs::read(&copy).unwrap(), b"the old one", "it is there until the new one is whole");
    central.start();
    ship1.kill();
    ship1.start();
    assert_eq!(cp.wait(SOON).code(), Some(0), "{}", said(&fleet));
    same(&kept, &copy);
    let puts = central.messages().iter().filter(|message| message["data"][0] == "put").count();
    assert_eq!((names(&to), puts), (vec!["big".to_owned()], 1));
    assert_eq!(central.show(&id)["state"], "done");
    nothing_is_left(&central, &[]);
    nothing_is_left(&ship1, &[]);
}

#[test]
fn a_copy_that_is_taken_back_leaves_nothing() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (from, to) = (folder(&fleet, "from"), folder(&fleet, "to"));
    file(&from.join("big"), &noise(60_000_000), 0o640);
    fs::write(to.join("big"), "the old one").unwrap();
    let mut cp = begin(&fleet, &central, &[text(&from.join("big")), &there("ship1", &to)]);
    let id = under_way(&central);
    central.cli(&["cancel", &id]).ok();
    assert_eq!(cp.wait(SOON).code(), Some(123), "{}", said(&fleet));
    // Taken back while its node is away, it is told so when it comes.
    let mut cp = begin(&fleet, &central, &[text(&from.join("big")), &there("ship1", &to)]);
    let id = under_way(&central);
    ship1.kill();
    central.cli(&["cancel", &id]).ok();
    central.kill();
    central.start();
    ship1.start();
    assert_eq!(cp.wait(SOON).code(), Some(123), "{}", said(&fleet));
    nothing_is_left(&central, &[]);
    nothing_is_left(&ship1, &[]);
    assert_eq!(fs::read(to.join("big")).unwrap(), b"the old one");
    assert_eq!(names(&to), ["big"]);
}

#[test]
fn a_copy_goes_on_without_its_command_and_is_put_in_its_place_by_another() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (from, to) = (folder(&fleet, "from"), folder(&fleet, "to"));
    file(&from.join("big"), &noise(60_000_000), 0o640);
    let mut cp = begin(&fleet, &central, &[&there("ship1", &from.join("big")), text(&to)]);
    let id = under_way(&central);
    ship1.freeze();
    cp.signal(Signal::INT);
    assert_eq!(cp.wait(SOON).code(), Some(130));
    assert!(said(&fleet).contains(&format!("--resume {id}")), "{}", said(&fleet));
    assert_eq!(names(&to), Vec::<String>::new());
    ship1.thaw();
    central.cli(&["cp", "--resume", &id, text(&to)]).ok();
    same(&from.join("big"), &to.join("big"));
    // The same the other way round, killed instead of asked to end.
    let mut cp = begin(&fleet, &central, &[text(&from.join("big")), &there("ship1", &to.join("again"))]);
    under_way(&central);
    cp.kill();
    eventually("it is there", || to.join("again").exists().then_some(()));
    same(&from.join("big"), &to.join("again"));
    assert_eq!(names(&to), ["again", "big"]);
}

#[test]
fn a_file_goes_from_node_to_node_and_nothing_of_it_stays_in_between() {
    let fleet = Fleet::new();
    let (central, ship1, ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    let (from, to) = (folder(&fleet, "from"), folder(&fleet, "to"));
    file(&from.join("a"), &noise(3_000_000), 0o640);
    file(&from.join("b"), b"short", 0o600);
    for name in ["a", "b"] {
        central.cli(&["cp", &there("ship1", &from.join(name)), &there("ship2", &to)]).ok();
        same(&from.join(name), &to.join(name));
    }
    for node in [&central, &ship1, &ship2] {
        nothing_is_left(node, &[]);
    }
}

/// A folder with all kinds of things in it, and what a copy of it has: everything but the pipe.
fn charts(fleet: &Fleet) -> PathBuf {
    let root = folder(fleet, "charts");
    fs::create_dir_all(root.join("north/deep")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for (name, len) in [("a", 10), ("north/b", 400_000), ("north/deep/c", 0), ("d with spaces", 5000)] {
        file(&root.join(name), &noise(len), 0o640);
    }
    for n in 0..40 {
        file(&root.join(format!("north/deep/n{n}")), &noise(100 + n), 0o600);
    }
    symlink("../a", root.join("north/link")).unwrap();
    symlink("/etc", root.join("out")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), rustix::fs::Mode::RWXU).unwrap();
    root
}

#[track_caller]
fn same_charts(one: &Path, other: &Path) {
    let mut left = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        let (here, there) = (one.join(&below), other.join(&below));
        let mut expected = names(&here);
        expected.retain(|name| name != "pipe");
        assert_eq!(names(&there), expected, "{}", below.display());
        for name in expected {
            let (a, b) = (here.join(&name), there.join(&name));
            let is = fs::symlink_metadata(&a).unwrap();
            if is.is_symlink() {
                assert_eq!(fs::read_link(&a).unwrap(), fs::read_link(&b).unwrap());
            } else if is.is_dir() {
                assert!(fs::symlink_metadata(&b).unwrap().is_dir());
                left.push(below.join(&name));
            } else {
                same(&a, &b);
            }
        }
    }
}

#[test]
fn folders_are_copied_every_way_and_again_only_where_something_is_missing() {
    let fleet = Fleet::new();
    let (central, ship1, ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    let (root, here, far, new) =
        (charts(&fleet), folder(&fleet, "here"), folder(&fleet, "far"), fleet.dir().join("new"));
    let ran = central.cli(&["cp", "-r", &there("ship1", &root), text(&here)]).ok();
    assert!(ran.stderr.contains("pipe: not copied"), "{ran:?}");
    same_charts(&root, &here.join("charts"));
    central.cli(&["cp", "-r", text(&root), &there("ship1", &far)]).ok();
    same_charts(&root, &far.join("charts"));
    central.cli(&["cp", "-r", &there("ship1", &root), &there("ship2", &new)]).ok();
    same_charts(&root, &new.join("charts"));
    for node in [&central, &ship1, &ship2] {
        nothing_is_left(node, &[]);
    }
    let copied = || {
        central.messages().iter().filter(|message| matches!(message["data"][0].as_str(), Some("get" | "put"))).count()
    };
    let before = copied();
    fs::remove_file(here.join("charts/north/b")).unwrap();
    fs::write(far.join("charts/a"), "somebody was here").unwrap();
    central.cli(&["cp", "-r", &there("ship1", &root), text(&here)]).ok();
    central.cli(&["cp", "-r", text(&root), &there("ship1", &far)]).ok();
    same_charts(&root, &here.join("charts"));
    same_charts(&root, &far.join("charts"));
    assert_eq!(copied(), before + 2, "what is there does not travel again");
}

#[test]
fn a_folder_is_whole_after_both_ends_and_the_command_were_killed_in_the_middle() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (root, far) = (charts(&fleet), folder(&fleet, "far"));
    for n in 0..4 {
        file(&root.join(format!("big{n}")), &noise(15_000_000 + n), 0o640);
    }
    let from = there("ship1", &root);
    // So slowly that it is in the middle for a while.
    let slowly = ["-r", "--limit", "8MiB"];
    for ends in [[from.as_str(), text(&far)], [text(&root), "ship1:charts"]] {
        let args = [&slowly[..], &ends[..]].concat();
        let mut cp = begin(&fleet, &central, &args);
        under_way(&central);
        ship1.kill();
        ship1.start();
        central.kill();
        central.start();
        let mut other = begin(&fleet, &central, &args);
        cp.kill();
        assert_eq!(other.wait(SOON).code(), Some(0), "{}", said(&fleet));
    }
    same_charts(&root, &far.join("charts"));
    same_charts(&root, &ship1.dir().join("files/charts/charts"));
    nothing_is_left(&ship1, &[]);
}

#[test]
fn a_limit_holds_both_ways() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (from, to) = (folder(&fleet, "from"), folder(&fleet, "to"));
    let original = from.join("a");
    file(&original, &noise(150_000), 0o640);
    for (args, copy) in [
        ([there("ship1", &original), to.join("got").display().to_string()], "got"),
        ([original.display().to_string(), there("ship1", &to.join("put"))], "put"),
    ] {
        let begun = SystemTime::now();
        central.cli(&["cp", "--limit", "64KiB", &args[0], &args[1]]).ok();
        let took = begun.elapsed().unwrap();
        assert!(took > Duration::from_millis(900), "150 kB came within {took:?}");
        same(&original, &to.join(copy));
    }
}

#[test]
fn only_what_has_changed_travels_where_the_other_side_has_an_older_version() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (here, far) = (folder(&fleet, "here"), folder(&fleet, "far"));
    let old = noise(4_000_000);
    let mut new = old.clone();
    new.splice(1_000_000..1_000_000, b"something was put in".iter().copied());
    new.extend_from_slice(b"and appended");
    let bytes = |id: &str| {
        let view = central.show(id);
        view["wireOutBytes"].as_u64().unwrap_or(0) + view["wireInBytes"].as_u64().unwrap_or(0)
    };
    let last = || central.messages().last().unwrap()["id"].as_str().unwrap().to_owned();
    let (a, b) = (here.join("file"), far.join("file"));
    for whole in [false, true] {
        let flags: &[&str] = if whole { &["--whole"] } else { &[] };
        let cp = |from: &str, to: &str| {
            central.cli(&[&["cp"], flags, &[from, to]].concat()).ok();
            bytes(&last())
        };
        file(&a, &new, 0o640);
        file(&b, &old, 0o600);
        let put = cp(text(&a), &there("ship1", &far));
        same(&a, &b);
        file(&a, &old, 0o600);
        let got = cp(&there("ship1", &b), text(&here));
        same(&b, &a);
        assert!(fs::read(&a).unwrap() == new);
        for travelled in [put, got] {
            assert_eq!(travelled > 3_000_000, whole, "{put} and {got} bytes, whole: {whole}");
            assert!(whole || travelled < 400_000, "{travelled}");
        }
    }
    assert_eq!((names(&here), names(&far)), (vec!["file".to_owned()], vec!["file".to_owned()]));
    nothing_is_left(&central, &[]);
    nothing_is_left(&ship1, &[]);
}

#[test]
fn an_older_version_that_is_another_one_by_then_is_no_trouble() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (from, to) = (folder(&fleet, "from"), folder(&fleet, "to"));
    let (original, copy) = (from.join("big"), to.join("big"));
    let old = noise(20_000_000);
    let mut new = old.clone();
    new[10_000_000..].iter_mut().for_each(|byte| *byte ^= 0x55);
    file(&original, &new, 0o640);
    file(&copy, &old, 0o640);
    let mut cp = begin(&fleet, &central, &["--limit", "4MiB", text(&original), &there("ship1", &to)]);
    under_way(&central);
    fs::write(&copy, "somebody was here").unwrap();
    ship1.kill();
    ship1.start();
    assert_eq!(cp.wait(SOON).code(), Some(0), "{}", said(&fleet));
    same(&original, &copy);
    assert_eq!(names(&to), ["big"]);
    nothing_is_left(&central, &[]);
    nothing_is_left(&ship1, &[]);
}
