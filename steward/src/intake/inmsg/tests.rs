//! What may happen to `inmsg.txt`, each with the real file system.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::intake::tests::{Taken, central, engine, engine_with};

struct World {
    dir: TempDir,
    taken: Arc<Mutex<Taken>>,
    inmsg: Inmsg,
    now: Mono,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (engine, taken) = engine();
        let intake = Intake::new(engine, central());
        let inmsg = Inmsg::open(dir.path(), intake, Timing::NODE, Mono(0)).await.unwrap();
        Self { dir, taken, inmsg, now: Mono(0) }
    }

    /// The node ends without any warning, and starts again.
    async fn restart(&mut self) {
        let intake = Intake::new(engine_with(&self.taken), central());
        self.inmsg = Inmsg::open(self.dir.path(), intake, Timing::NODE, self.now).await.unwrap();
    }

    fn append(&self, text: &str) {
        let path = self.dir.path().join("inmsg.txt");
        OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Lets time pass, in steps of the scan.
    async fn pass(&mut self, seconds: u64) {
        let end = self.now.after(Duration::from_secs(seconds));
        while self.now < end {
            self.now = self.now.after(Duration::from_secs(1));
            for _ in 0..100 {
                if !self.inmsg.tick(self.now).await {
                    break;
                }
            }
        }
    }

    /// The receivers of the messages that were accepted.
    fn accepted(&self) -> Vec<String> {
        self.taken.lock().unwrap().messages.iter().map(|message| message.to.to_string()).collect()
    }

    fn files(&self, folder: &str, ending: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.dir.path().join(folder)) else {
            return Vec::new();
        };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.to_str().unwrap().ends_with(ending));
        files.sort();
        files
    }

    fn reasons(&self) -> Vec<String> {
        let mut reasons: Vec<(usize, String)> = Vec::new();
        for path in self.files("rejected", ".reason") {
            let number = path.file_stem().unwrap().to_str().unwrap().rsplit('-').next().unwrap().parse().unwrap();
            reasons.push((number, fs::read_to_string(path).unwrap().lines().next().unwrap().to_owned()));
        }
        reasons.sort();
        reasons.into_iter().map(|(_, reason)| reason).collect()
    }

    fn assert_all_is_done(&self) {
        let files: Vec<PathBuf> = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let left: Vec<_> = files.iter().filter(|path| !path.ends_with("rejected")).collect();
        assert_eq!(left, [&self.dir.path().join("inmsg.txt")]);
        assert_eq!(fs::metadata(left[0]).unwrap().len(), 0);
    }
}

fn message(to: &str) -> String {
    format!(r#"{{"toNode":"{to}","data":["x"],"commandOrEvent":"EventACK","method":"TextLogging"}}"#)
}

fn array(names: impl IntoIterator<Item = String>) -> String {
    let messages: Vec<String> = names.into_iter().map(|name| message(&name)).collect();
    format!("[{}]\n", messages.join(",\n"))
}

#[tokio::test]
async fn what_is_appended_is_taken_in_order_and_erased() {
    let mut world = World::new().await;
    world.append(&array(["a".into(), "b".into()]));
    world.append(&array(["c".into()]));
    world.append(&message("d"));
    world.pass(1).await;
    assert_eq!(world.accepted(), ["a", "b", "c", "d"]);
    assert_eq!(fs::metadata(world.dir.path().join("inmsg.txt")).unwrap().len(), 0);
    world.append(&array(["e".into()]));
    world.pass(40).await;
    assert_eq!(world.accepted(), ["a", "b", "c", "d", "e"]);
    world.assert_all_is_done();
}

/// L8: what is good in a file is accepted, what is bad is kept with line, column and reason.
#[tokio::test]
async fn bad_parts_are_set_aside_and_the_good_ones_are_taken() {
    let mut world = World::new().await;
    let text = format!(
        "[{},\n {{\"toNode\": \"b\", \"commandOrEvent\": \"EventACK\", \"methd\": \"M\"}},\n {}]\nnonsense\n[{{\"toNode\": \"d\n]\n{}\n{{\"toNode\":\"f g\",\"commandOrEvent\":\"EventACK\",\"method\":\"M\"}}\u{0}[{{\"toNode\":\"h\u{0}\"}}]",
        message("a"),
        message("c"),
        message("e"),
    );
    world.append(&text);
    world.pass(40).await;
    assert_eq!(world.accepted(), ["a", "c", "e"]);
    let reasons = world.reasons();
    let expected = [
        "line 2, column 54: unknown key \"methd\"; did you mean \"method\"?",
        "line 4, column 1: a message begins with {",
        "line 5, column 13: a string is not closed",
        "line 8, column 1: \"toNode\": the name \"f g\" has ' ' at position 2",
        "line 8, column 72: \"toNode\": control character",
    ];
    assert_eq!(reasons.len(), expected.len(), "{reasons:#?}");
    for (reason, expected) in reasons.iter().zip(expected) {
        assert!(reason.contains(expected), "{reason} / {expected}");
    }
    assert_eq!(fs::metadata(&world.files("rejected", "-1.json")[0]).unwrap().mode() & 0o777, 0o600);
    let first = fs::read_to_string(&world.files("rejected", "-1.json")[0]).unwrap();
    assert_eq!(first, "{\"toNode\": \"b\", \"commandOrEvent\": \"EventACK\", \"methd\": \"M\"}\n");
    world.assert_all_is_done();
}

#[tokio::test]
async fn an_array_waits_for_its_end_and_then_it_is_set_aside() {
    let mut world = World::new().await;
    world.append("[ {\"toNode\":\"a\",\"data\":[\"x\"],");
    world.pass(9).await;
    assert!(world.accepted().is_empty());
    world.append("\"commandOrEvent\":\"EventACK\",\"method\":\"M\"},");
    world.pass(9).await;
    world.append(&format!("{}]", message("b")));
    world.pass(1).await;
    assert_eq!(world.accepted(), ["a", "b"]);

    world.append(&format!("[ {}, {{\"toNode\":", message("c")));
    world.pass(50).await;
    assert_eq!(world.accepted(), ["a", "b", "c"]);
    assert!(world.reasons()[0].contains("is not complete"), "{:?}", world.reasons());
    world.assert_all_is_done();
}

/// A writer that opened the file before it was renamed aside goes on writing to it.
#[tokio::test]
async fn a_writer_that_is_slow_loses_nothing_and_holds_nobody_up() {
    let mut world = World::new().await;
    let mut writer = Writer::start(world.dir.path());
    writer.line(&message("a"));
    world.pass(1).await;
    assert_eq!(world.accepted(), ["a"]);
    // The file that the writer has is aside now.
    world.append(&message("b"));
    world.pass(100).await;
    assert_eq!(world.accepted(), ["a", "b"]);
    let held = world.files("", "").into_iter().find(|path| path.to_str().unwrap().contains("taken")).unwrap();
    assert!(fs::read(&held).unwrap().iter().all(u8::is_ascii_whitespace), "what is taken in is erased");
    writer.line(&message("c"));
    writer.line("[");
    world.pass(100).await;
    world.restart().await;
    world.pass(100).await;
    writer.line(&message("d"));
    writer.line("]");
    world.pass(1).await;
    assert_eq!(world.accepted(), ["a", "b", "c", "d"]);
    writer.end();
    world.pass(40).await;
    assert_eq!(world.accepted(), ["a", "b", "c", "d"]);
    assert!(world.reasons().is_empty(), "{:?}", world.reasons());
    world.assert_all_is_done();
}

/// A process of its own that keeps `inmsg.txt` open, and says when a line is written.
struct Writer(Child);

impl Writer {
    fn start(dir: &Path) -> Self {
        let script = "exec 3>>inmsg.txt; while read -r line; do printf '%s\\n' \"$line\" >&3; echo; done";
        let child = Command::new("bash")
            .args(["-c", script])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn line(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.0.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// L7: the content is erased only after it is durable; and what is durable is not accepted twice.
#[tokio::test]
async fn a_crash_at_any_moment_neither_loses_nor_doubles() {
    let names: Vec<String> = (0..3500).map(|n| format!("ship{n}")).collect();
    for crash_after in 1..=4 {
        let mut world = World::new().await;
        world.append(&array(names.clone()));
        world.append("[nonsense]\n");
        world.taken.lock().unwrap().crash_after = Some(crash_after);
        world.pass(1).await;
        assert!(world.accepted().len() >= 1000 * crash_after.min(2), "{} after {crash_after}", world.accepted().len());
        assert!(!world.files("", "").is_empty());
        world.restart().await;
        world.append(&message("last"));
        world.pass(40).await;
        let mut expected = names.clone();
        expected.push("last".into());
        assert_eq!(world.accepted(), expected, "crash after {crash_after}");
        assert_eq!(world.reasons().len(), 1);
        world.assert_all_is_done();
    }
}

#[tokio::test]
async fn after_a_crash_before_the_removal_nothing_is_accepted_twice() {
    let mut world = World::new().await;
    world.append(&array(["a".into(), "b".into()]));
    world.pass(1).await;
    for _ in 0..3 {
        world.restart().await;
        world.pass(1).await;
    }
    world.pass(40).await;
    assert_eq!(world.accepted(), ["a", "b"]);
    assert_eq!(world.taken.lock().unwrap().offered, 8);
    world.assert_all_is_done();
}

#[tokio::test]
async fn a_full_disk_keeps_everything_until_there_is_room() {
    let mut world = World::new().await;
    world.taken.lock().unwrap().full = true;
    world.append(&array((0..1500).map(|n| format!("a{n}"))));
    world.pass(40).await;
    world.append(&message("last"));
    world.pass(40).await;
    assert!(world.accepted().is_empty());
    world.taken.lock().unwrap().full = false;
    world.pass(40).await;
    assert_eq!(world.accepted().len(), 1501);
    assert_eq!(world.accepted()[1500], "last");
    world.assert_all_is_done();
}

/// L15: long lines are taken up to the limit, and refused aloud beyond it.
#[tokio::test]
async fn long_lines_are_taken_or_refused_aloud() {
    let mut world = World::new().await;
    for (to, length) in [("a", 70_000), ("b", 512 * 1024 - 4), ("c", 512 * 1024), ("d", 6_000_000)] {
        let long = "x".repeat(length);
        world.append(&message(to).replace("[\"x\"]", &format!("[\"{long}\"]")));
        world.append("\n");
    }
    world.append(&message("e"));
    world.pass(40).await;
    assert_eq!(world.accepted(), ["a", "b", "e"]);
    let reasons = world.reasons();
    assert!(reasons[0].contains("at most 524288"), "{reasons:?}");
    assert!(reasons[1].contains("more than 4194304 bytes"), "{reasons:?}");
    assert!(reasons[2].contains("the rest of what begins in line 4"), "{reasons:?}");
    world.assert_all_is_done();
}

#[tokio::test]
async fn a_big_file_is_taken_in_chunks() {
    let mut world = World::new().await;
    world.append(&array((0..200_000).map(|n| format!("ship{n}"))));
    world.pass(40).await;
    let taken = world.taken.lock().unwrap();
    assert_eq!(taken.messages.len(), 200_000);
    assert_eq!(taken.largest, 1000);
    assert!(taken.messages.iter().enumerate().all(|(n, message)| message.to.as_str() == format!("ship{n}")));
    drop(taken);
    world.assert_all_is_done();
}

#[tokio::test]
async fn the_new_file_has_the_mode_of_the_old_one() {
    let mut world = World::new().await;
    let path = world.dir.path().join("inmsg.txt");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    fs::set_permissions(&path, Permissions::from_mode(0o662)).unwrap();
    world.append(&message("a"));
    world.pass(1).await;
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o662);
    fs::remove_file(&path).unwrap();
    world.pass(2).await;
    assert!(path.exists());
}

#[tokio::test]
async fn what_is_no_file_is_left_alone() {
    let mut world = World::new().await;
    let path = world.dir.path().join("inmsg.txt");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(world.dir.path().join("inmsg.taken-by-somebody"), message("a")).unwrap();
    world.restart_fails_or_not().await;
    world.pass(3).await;
    assert!(world.accepted().is_empty());
    fs::remove_dir(&path).unwrap();
    world.append(&message("b"));
    world.pass(1).await;
    assert_eq!(world.accepted(), ["b"]);
}

impl World {
    async fn restart_fails_or_not(&mut self) {
        let intake = Intake::new(engine_with(&self.taken), central());
        if let Ok(inmsg) = Inmsg::open(self.dir.path(), intake, Timing::NODE, self.now).await {
            self.inmsg = inmsg;
        }
    }
}

/// Many processes append at the same time as the node takes: each message arrives once, in the order of its writer.
#[tokio::test]
async fn appends_at_any_moment_arrive_once() {
    let mut world = World::new().await;
    let script = "for n in $(seq 300); do printf '[{\"toNode\":\"w%s-%s\",\"commandOrEvent\":\"EventACK\",\"method\":\"M\"}]\\n' $0 $n >> inmsg.txt; done";
    let mut writers: Vec<Child> = (0..4)
        .map(|n| {
            Command::new("bash").args(["-c", script, &n.to_string()]).current_dir(world.dir.path()).spawn().unwrap()
        })
        .collect();
    while writers.iter_mut().any(|writer| writer.try_wait().unwrap().is_none()) {
        world.pass(1).await;
    }
    world.pass(60).await;
    let accepted = world.accepted();
    assert_eq!(accepted.len(), 1200);
    for n in 0..4 {
        let prefix = format!("w{n}-");
        let of_one: Vec<&str> = accepted.iter().filter_map(|name| name.strip_prefix(&*prefix)).collect();
        assert!(of_one.iter().enumerate().all(|(index, number)| **number == (index + 1).to_string()), "{of_one:?}");
    }
    assert!(world.reasons().is_empty());
    world.assert_all_is_done();
}

#[tokio::test]
async fn a_running_intake_is_told_of_a_change_and_ends_when_asked() {
    let world = World::new().await;
    let end = CancellationToken::new();
    let run = tokio::spawn(world.inmsg.run(Clock::start(), end.clone()));
    let path = world.dir.path().join("inmsg.txt");
    for count in 1..=3 {
        OpenOptions::new().append(true).open(&path).unwrap().write_all(message("a").as_bytes()).unwrap();
        let arrived = async {
            while world.taken.lock().unwrap().messages.len() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), arrived).await.unwrap();
    }
    end.cancel();
    run.await.unwrap().unwrap();
}

/// Read once or twice, a message for several nodes is one for each of them.
#[tokio::test]
async fn a_message_for_several_nodes_is_not_doubled_by_a_crash() {
    let mut world = World::new().await;
    let several = message("x").replace(r#""toNode":"x""#, r#""toNodes":["b","a","c"]"#);
    world.append(&format!("[{several},{}]", message("d")));
    world.taken.lock().unwrap().crash_after = Some(1);
    world.pass(1).await;
    assert_eq!(world.accepted(), ["b", "a", "c", "d"]);
    world.restart().await;
    world.pass(40).await;
    assert_eq!(world.accepted(), ["b", "a", "c", "d"]);
    assert_eq!(world.taken.lock().unwrap().offered, 8);
    world.append(&several.replace("\"a\"", "\"b\""));
    world.pass(40).await;
    assert!(world.reasons()[0].contains("\"toNodes\" names b twice"), "{:?}", world.reasons());
    world.assert_all_is_done();
}
