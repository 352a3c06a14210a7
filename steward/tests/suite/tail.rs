//! Files on other nodes are followed: each of their lines is here once and in order, whoever is killed, whatever link is cut, and
//! whatever becomes of the files.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Fleet, Node, SOON, eventually, until, with};
use crate::live::Follower;

/// Files that are kept when a log is rotated; none of these tests makes more.
const KEPT: u32 = 50;

/// A program that writes a log on a machine of its own.
struct Log {
    path: PathBuf,
    lines: u32,
}

impl Log {
    fn new(fleet: &Fleet, name: &str) -> Self {
        let folder = fleet.dir().join("logs");
        fs::create_dir_all(&folder).unwrap();
        Self { path: folder.join(name), lines: 0 }
    }

    fn line(number: u32) -> String {
        format!("line {number} of a log that is followed over a bad link\n")
    }

    fn write(&mut self, lines: u32) {
        let mut file = File::options().create(true).append(true).open(&self.path).unwrap();
        let text: String = (self.lines + 1..=self.lines + lines).map(Self::line).collect();
        file.write_all(text.as_bytes()).unwrap();
        self.lines += lines;
    }

    fn all(&self) -> String {
        (1..=self.lines).map(Self::line).collect()
    }

    fn rotated(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}.{number}", self.path.display()))
    }

    fn shift(&self) {
        for number in (1..KEPT).rev().filter(|number| self.rotated(*number).exists()) {
            fs::rename(self.rotated(number), self.rotated(number + 1)).unwrap();
        }
    }

    fn rotate(&self) {
        self.shift();
        fs::rename(&self.path, self.rotated(1)).unwrap();
    }

    fn copy_and_empty(&self) {
        self.shift();
        fs::copy(&self.path, self.rotated(1)).unwrap();
        File::options().write(true).open(&self.path).unwrap().set_len(0).unwrap();
    }

    /// Where its lines lie on the node that has asked for them.
    fn here(&self) -> String {
        // A dot at the beginning of a name could lead out of the folder.
        format!("tails/ship1{}", self.path.display()).replace("/.", "/%2E")
    }
}

fn tail(path: &Path, options: &[&str]) -> Value {
    let data: Vec<&str> = std::iter::once(path.to_str().unwrap()).chain(options.iter().copied()).collect();
    json!({ "toNode": "ship1", "commandOrEvent": "CommandACK", "method": "TailFile", "data": data })
}

fn text(node: &Node<'_>, file: &str) -> String {
    fs::read_to_string(node.dir().join(file)).unwrap_or_default()
}

/// Waits until so many lines are here.
#[track_caller]
fn has_lines(node: &Node<'_>, file: &str, lines: usize) {
    until(SOON, &format!("{lines} lines are in {file}"), || {
        let now = text(node, file).lines().count();
        if now >= lines { Ok(()) } else { Err(format!("{now} lines")) }
    });
}

#[track_caller]
fn has_all(node: &Node<'_>, log: &Log) {
    has_lines(node, &log.here(), log.lines as usize);
    let here = text(node, &log.here());
    assert!(here == log.all(), "not each line is here once and in order:\n{}", &here[..here.len().min(4000)]);
}

#[test]
fn each_line_is_here_once_whoever_is_killed_and_however_the_file_is_rotated() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let mut log = Log::new(&fleet, "x.log");
    log.write(1000);
    let id = central.send(&tail(&log.path, &["from=start"]));
    has_lines(&central, &log.here(), 500);
    for round in 0..4 {
        let before = text(&central, &log.here()).lines().count();
        log.write(3000);
        has_lines(&central, &log.here(), before + 1);
        // In the middle of it.
        ship1.kill();
        if round % 2 == 0 {
            log.rotate()
        } else {
            log.copy_and_empty()
        }
        log.write(3000);
        ship1.start();
        has_lines(&central, &log.here(), before + 3001);
        central.kill();
        log.write(2000);
        log.rotate();
        log.write(10);
        central.start();
        fleet.broker.stop();
        log.write(2000);
        ship1.kill();
        log.rotate();
        log.write(500);
        ship1.launch();
        fleet.broker.start();
        has_all(&central, &log);
    }
    assert_eq!(central.show(&id)["state"], "running");
    let cancelled = central.cli(&["cancel", &id]);
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    let ended = central.ended(&id);
    assert_eq!(ended["state"], "cancelled");
    let totals: Value = serde_json::from_str(ended["stdout"].as_str().unwrap()).unwrap();
    assert_eq!(totals, json!({ "lines": log.lines, "left_out": 0, "lost_bytes": 0 }));
}

#[test]
fn a_node_that_stops_in_good_order_goes_on_with_it() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let mut log = Log::new(&fleet, "x.log");
    let id = central.send(&tail(&log.path, &[]));
    central.awaits(&id, "running");
    // A file that is not there when it begins is followed from its start.
    log.write(10);
    has_all(&central, &log);
    assert_eq!(ship1.terminate(), 0);
    log.write(10);
    log.rotate();
    log.write(10);
    ship1.start();
    has_all(&central, &log);
    assert_eq!(central.show(&id)["state"], "running");
}

#[test]
fn many_lines_come_over_in_a_bounded_number_of_messages() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let mut log = Log::new(&fleet, "x.log");
    log.write(200_000);
    central.send(&tail(&log.path, &["from=start"]));
    let size = log.all().len() as u64;
    let here = central.dir().join(log.here());
    let got = || fs::metadata(&here).map_or(0, |here| here.len());
    until(10 * SOON, "all of them are here", || if got() >= size { Ok(()) } else { Err(format!("{} bytes", got())) });
    assert!(fs::read_to_string(&here).unwrap() == log.all());
}

#[test]
fn only_lines_that_are_wanted_travel_and_what_is_left_out_is_told() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let log = Log::new(&fleet, "x.log");
    let numbers: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    fs::write(&log.path, format!("{numbers}\u{ff}end\n")).unwrap();
    let named = json!({ "replyMethod": "fileAppend", "directory": "logs/ships", "fileName": "all.log" });
    let options = ["from=start", "match=5$", "match=end", "not=55"];
    let id = central.send(&with(tail(&log.path, &options), named));
    let wanted = |number: &u32| number % 10 == 5 && !number.to_string().contains("55");
    let expected: String = (1..=1000).filter(wanted).map(|number| format!("{number}\n")).collect();
    let here = "tails/logs/ships/all.log";
    eventually("they are here", || (text(&central, here) == format!("{expected}\u{ff}end\n")).then_some(()));
    assert_eq!(central.show(&id)["reply"]["file"], here);

    central.send(&tail(&log.path, &["from=start", "rate=100", "lineMax=16"]));
    eventually("the rest is left out", || {
        let here = text(&central, &log.here());
        (here.lines().count() == 101 && here.ends_with("[steward: 901 lines left out: more than 100 a second]\n"))
            .then_some(())
    });
    central.cli(&["cancel", &id]);
    eventually("nothing is left to do with its result", || {
        (central.show(&id)["reply"]["state"] == "done").then_some(())
    });
    assert!(!central.dir().join("results").exists());
}

#[test]
fn bytes_that_are_no_text_come_as_they_are() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let log = Log::new(&fleet, "\u{fc} x.log");
    let bytes = b"\xff\xfe\0 no text\n\r\n\x1b[31mred\n".as_slice();
    fs::write(&log.path, bytes).unwrap();
    central.send(&tail(&log.path, &["from=start"]));
    eventually("they are here", || (fs::read(central.dir().join(log.here())).ok()? == bytes).then_some(()));
}

#[test]
fn lines_are_shown_as_they_come_and_whoever_stops_looking_ends_it() {
    let fleet = Fleet::new();
    let (mut central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (mut log, mut other) = (Log::new(&fleet, "x.log"), Log::new(&fleet, "y.log"));
    log.write(5);
    let what = format!("ship1:{}/*.log", log.path.parent().unwrap().display());
    let mut shown = Follower::start(&fleet, &central, "tail", &["tail", &what, "--not=none"]);
    let order = || central.messages().iter().find(|message| message["method"] == "TailFile").cloned();
    let id = eventually("it is sent", || order()?["id"].as_str().map(str::to_owned));
    central.awaits(&id, "running");
    // Where it begins is known with the first line that it shows.
    eventually("it has begun", || {
        log.write(1);
        (!shown.text().is_empty()).then_some(())
    });
    log.write(1);
    shown.shows(&Log::line(log.lines));
    other.write(1);
    shown.shows(&format!("==> {} <==\n{}", other.path.display(), Log::line(1)));
    central.kill();
    central.start();
    log.write(1);
    shown.shows(&Log::line(log.lines));

    let mut again = Follower::start(&fleet, &central, "again", &["tail", "-f", &id, "-n", "1", "--json"]);
    again.shows(&format!(r#""file":"{}""#, log.path.display()));
    again.shows(Log::line(log.lines).trim_end());
    assert_eq!(again.text().lines().count(), 2, "{}", again.text());
    again.process.signal(Signal::INT);
    assert_eq!(again.ends(), 130);
    assert_eq!(central.show(&id)["state"], "running", "it was there before");

    shown.process.signal(Signal::INT);
    assert_eq!(shown.ends(), 130);
    assert_eq!(central.ended(&id)["state"], "cancelled");
    let expected: String = (1..=log.lines).map(Log::line).collect();
    let of_log: String = shown.text().split_inclusive('\n').filter(|line| line.starts_with("line ")).collect();
    let of_log = of_log.replacen(&Log::line(1), "", 1);
    assert!(expected.ends_with(&of_log) && !of_log.contains(&Log::line(5)), "{}", shown.text());
    let late = central.cli(&["tail", "-f", &id]);
    assert!(late.code == 1 && late.stderr.contains("it is cancelled"), "{late:?}");
    assert!(late.stdout.contains(&Log::line(log.lines)), "{late:?}");
}

#[test]
fn what_makes_no_sense_is_told_at_once_and_what_is_refused_too() {
    let fleet = Fleet::new();
    let (central, ship2) = (fleet.node("central"), fleet.node("ship2"));
    let _ship1 = fleet.node("ship1");
    for (args, reason) in [
        (&["tail", "ship1"][..], "names no file of a node"),
        (&["tail", "ship1:x.log"], "is not absolute"),
        (&["tail", "ship1:/x.log", "--match", "("], "is no regular expression"),
        (&["tail", "ship1:/x.log", "--rate", "0"], "rate=0"),
    ] {
        let said = central.cli(args);
        assert!(said.code == 2 && said.stderr.contains(reason), "{args:?}: {said:?}");
    }
    let refused = ship2.cli(&["tail", "ship1:/var/log/syslog"]);
    assert!(refused.code == 1 && refused.stderr.contains("it is refused"), "{refused:?}");
    for (message, reason) in [
        (with(tail(Path::new("/x"), &[]), json!({ "replyMethod": "none" })), "TailFile come while it runs"),
        (
            json!({ "toNode": "ship1", "commandOrEvent": "CommandACK", "method": "ShellCommand", "data": ["true"],
            "replyMethod": "TailFile" }),
            "does what its data says",
        ),
    ] {
        let answer = central.ask("POST", "/v1/messages", &json!([message]).to_string());
        assert!(answer["errors"][0]["error"].as_str().unwrap().contains(reason), "{answer}");
    }
}

/// Lines are taken from the very node that was asked for them.
#[test]
fn lines_that_nobody_has_asked_for_are_refused() {
    let fleet = Fleet::new();
    let (central, _ship1, ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    let mut log = Log::new(&fleet, "x.log");
    let order = central.send(&tail(&log.path, &[]));
    central.awaits(&order, "running");
    let other = central.send(&json!({ "toNode": "ship2", "commandOrEvent": "CommandACK", "method": "ShellCommand",
        "data": ["true"] }));
    for id in [&order, &other, &"0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b".to_owned()] {
        let head = json!({ "order": id, "file": log.path }).to_string();
        let forged = json!({ "toNode": "central", "commandOrEvent": "EventACK", "method": "TailFile",
            "data": [head, "a line that is not true\n"] });
        let ended = ship2.send_and_wait(&forged);
        assert_eq!(ended["state"], "refused", "{ended}");
        assert!(ended["reason"].as_str().unwrap().contains("nothing is known here of a tail"), "{ended}");
    }
    log.write(3);
    has_all(&central, &log);
    assert!(!central.dir().join("tails/ship2").exists());
}

/// What stands where its lines belong can't be written to: the one who asked says so, and the tail ends with that.
#[test]
fn a_tail_ends_with_the_reason_for_which_its_lines_are_not_taken() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let mut log = Log::new(&fleet, "x.log");
    fs::create_dir(central.dir().join("tails")).unwrap();
    std::os::unix::fs::symlink(fleet.dir(), central.dir().join("tails/ship1")).unwrap();
    log.write(1);
    let id = central.send(&tail(&log.path, &["from=start"]));
    let ended = central.ended(&id);
    assert_eq!(ended["state"], "failed");
    let reason = ended["reason"].as_str().unwrap();
    assert!(reason.contains("central does not take its lines") && reason.contains("is a link"), "{reason}");
}
