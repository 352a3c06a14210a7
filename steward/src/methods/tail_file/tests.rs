//! A folder in which files are written, rotated and emptied, and somebody who follows them and is killed now and then: each line
//! comes once.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::ask::Ask;
use super::follower::{Follower, LINGER};
use super::lines::PIECE_BYTES;

/// More pieces than any test needs.
const ROOM: usize = 1000;

struct Rig {
    dir: tempfile::TempDir,
    data: Vec<String>,
    follower: Follower,
    /// What was kept last: the cursor, and all lines until then.
    kept: (Option<String>, Vec<(String, String)>),
    now: Duration,
    lines: u32,
    /// Seconds since 1970 when a file was changed last: a real clock may stand still for a few of these steps.
    changed: Cell<u64>,
}

impl Rig {
    fn new(pattern: &str, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = format!("{}/{pattern}", dir.path().display());
        let data: Vec<String> = std::iter::once(path).chain(options.iter().map(|&option| option.to_owned())).collect();
        let follower = Follower::new(Ask::parse(&data).unwrap());
        Self { dir, data, follower, kept: (None, Vec::new()), now: Duration::ZERO, lines: 0, changed: Cell::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file that its writer keeps open.
    fn file(&self, name: &str) -> File {
        File::options().create(true).append(true).open(self.path(name)).unwrap()
    }

    fn changed(&self, name: &str) {
        self.changed.set(self.changed.get() + 1);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.changed.get());
        File::options().append(true).open(self.path(name)).unwrap().set_modified(time).unwrap();
    }

    /// Appends so many lines with numbers.
    fn write(&mut self, name: &str, lines: u32) {
        let mut file = self.file(name);
        for _ in 0..lines {
            self.lines += 1;
            writeln!(file, "line {:05} of a log that is written, rotated and read", self.lines).unwrap();
        }
        self.changed(name);
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Moves `x.1` to `x.2` and so on.
    fn shift(&self, base: &str) {
        for number in (1..100).rev() {
            if self.path(&format!("{base}.{number}")).exists() {
                self.rename(&format!("{base}.{number}"), &format!("{base}.{}", number + 1));
            }
        }
    }

    fn rotate(&self, base: &str) {
        self.shift(base);
        if self.path(base).exists() {
            self.rename(base, &format!("{base}.1"));
        }
    }

    fn copy_and_empty(&self, base: &str) {
        self.shift(base);
        if self.path(base).exists() {
            fs::copy(self.path(base), self.path(&format!("{base}.1"))).unwrap();
            File::options().write(true).open(self.path(base)).unwrap().set_len(0).unwrap();
            self.changed(&format!("{base}.1"));
            self.changed(base);
        }
    }

    /// Reads what is new, in up to `room` pieces, and keeps it with the cursor.
    fn pass(&mut self, room: usize) -> bool {
        let pass = self.follower.pass(self.now, room);
        for piece in pass.pieces {
            assert!(piece.bytes.len() <= PIECE_BYTES);
            let label = piece.label.rsplit('/').next().unwrap().to_owned();
            let text = String::from_utf8(piece.bytes).unwrap();
            self.kept.1.extend(text.lines().map(|line| (label.clone(), line.to_owned())));
        }
        self.kept.0 = Some(self.follower.cursor());
        pass.more
    }

    /// Is killed after it has read and before that was kept, and goes on.
    fn crash(&mut self) {
        self.follower.pass(self.now, ROOM);
        self.restart();
    }

    fn restart(&mut self) {
        let ask = Ask::parse(&self.data).unwrap();
        self.follower = match &self.kept.0 {
            None => Follower::new(ask),
            Some(cursor) => Follower::resume(ask, cursor, Duration::ZERO).unwrap(),
        };
    }

    fn finish(&mut self) -> Vec<String> {
        for _ in 0..5 {
            while self.pass(ROOM) {}
            self.now += Duration::from_secs(5);
        }
        self.kept.1.iter().map(|(_, line)| line.clone()).collect()
    }

    #[track_caller]
    fn is_whole(&mut self) {
        let number = |line: String| line.get(5..10).and_then(|digits| digits.parse().ok()).ok_or(line);
        let lines: Vec<Result<u32, String>> = self.finish().into_iter().map(number).collect();
        assert_eq!(lines, (1..=self.lines).map(Ok).collect::<Vec<_>>());
    }
}

#[test]
fn a_file_is_followed_from_its_end_or_its_start_and_one_that_comes_later_from_its_start() {
    for (option, first) in [("from=end", 4), ("from=start", 1)] {
        let mut rig = Rig::new("x.log", &[option]);
        rig.write("x.log", 3);
        rig.pass(ROOM);
        rig.restart();
        rig.write("x.log", 2);
        let lines = rig.finish();
        assert_eq!(lines.len(), 6 - first, "{option}");
        assert!(lines[0].contains(&format!("{first:05}")));
    }
    let mut rig = Rig::new("x.log", &[]);
    rig.pass(ROOM);
    rig.crash();
    rig.write("x.log", 3);
    rig.is_whole();
}

#[test]
fn half_a_line_is_waited_for_and_comes_when_nothing_can_follow() {
    let mut rig = Rig::new("x.log", &["from=start"]);
    let mut file = rig.file("x.log");
    write!(file, "half a ").unwrap();
    assert_eq!(rig.finish(), Vec::<String>::new());
    rig.crash();
    writeln!(file, "line").unwrap();
    write!(file, "no end").unwrap();
    assert_eq!(rig.finish(), ["half a line"]);
    rig.rotate("x.log");
    assert_eq!(rig.finish().len(), 1, "its writer may have it open still");
    writeln!(file, " after all").unwrap();
    write!(file, "none").unwrap();
    assert_eq!(rig.finish()[1..], ["no end after all"]);
    rig.now = LINGER * 2;
    assert_eq!(rig.finish()[2..], ["none"]);
}

#[test]
fn a_file_that_is_rotated_is_read_to_its_end_by_whatever_name_it_has() {
    let mut rig = Rig::new("x.log", &["from=start"]);
    rig.write("x.log", 3);
    rig.pass(ROOM);
    // While it runs, also if it is removed at once.
    rig.write("x.log", 3);
    rig.rotate("x.log");
    fs::remove_file(rig.path("x.log.1")).unwrap();
    rig.write("x.log", 3);
    rig.pass(ROOM);
    // While it is away: once, more than once, and to another name.
    rig.write("x.log", 3);
    rig.rotate("x.log");
    rig.restart();
    rig.is_whole();
    for _ in 0..3 {
        rig.write("x.log", 2);
        rig.rotate("x.log");
    }
    rig.restart();
    rig.is_whole();
    rig.write("x.log", 2);
    rig.is_whole();
    rig.write("x.log", 2);
    rig.rename("x.log", "x.log-20261123");
    rig.restart();
    rig.write("x.log", 2);
    rig.is_whole();
    assert_eq!(rig.follower.totals().lost_bytes, 0);
}

#[test]
fn a_file_that_is_copied_and_emptied_goes_on_in_its_copy() {
    let mut rig = Rig::new("x.log", &["from=start"]);
    for away in [false, true, false, true] {
        rig.write("x.log", 40);
        rig.pass(ROOM);
        rig.write("x.log", 3);
        rig.copy_and_empty("x.log");
        rig.write("x.log", if away { 100 } else { 1 });
        if away {
            rig.restart();
        }
        rig.is_whole();
    }
    for _ in 0..3 {
        rig.write("x.log", 3);
        rig.copy_and_empty("x.log");
    }
    rig.restart();
    rig.is_whole();
}

#[test]
fn what_was_gone_before_it_was_read_is_told_and_counted() {
    let mut rig = Rig::new("x.log", &["from=start"]);
    rig.write("x.log", 3);
    rig.pass(ROOM);
    rig.write("x.log", 2);
    rig.pass(0);
    rig.kept.0 = Some(rig.follower.cursor());
    fs::remove_file(rig.path("x.log")).unwrap();
    // Held aside, so that the next file can't have its inode.
    rig.restart();
    rig.write("x.log", 1);
    let lines = rig.finish();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[3].starts_with("[steward: the file before this one is gone; at least 108 bytes"), "{}", lines[3]);
    assert_eq!(rig.follower.totals().lost_bytes, 108);
    // Emptied without a copy, in front of our eyes.
    rig.write("x.log", 2);
    rig.pass(0);
    fs::write(rig.path("x.log"), "").unwrap();
    let lines = rig.finish();
    assert!(lines[5].starts_with("[steward: the file was emptied; at least 108 bytes"), "{lines:?}");
}

#[test]
fn several_files_are_followed_each_for_itself_and_a_rotated_one_is_no_new_one() {
    let mut rig = Rig::new("*.log*", &["from=start"]);
    rig.write("a.log", 2);
    rig.write("b.log", 2);
    rig.finish();
    rig.rotate("a.log");
    rig.write("a.log", 1);
    rig.write("a.log.1", 1);
    rig.finish();
    rig.restart();
    rig.rotate("a.log");
    rig.write("a.log", 1);
    let mut lines = rig.finish();
    lines.sort();
    assert_eq!(lines.len(), 7, "{lines:?}");
    lines.dedup();
    assert_eq!(lines.len(), 7, "none of them twice");
    let of_a = rig.kept.1.iter().filter(|(label, _)| label == "a.log").count();
    assert_eq!(of_a, 5, "{:?}", rig.kept.1);
}

#[test]
fn a_million_lines_come_in_pieces_each_once() {
    let mut rig = Rig::new("x.log", &["from=start", "match=7 of"]);
    let text: String = (1..=1_000_000).map(|line| format!("line {line} of many\n")).collect();
    fs::write(rig.path("x.log"), text).unwrap();
    for round in 0.. {
        match round % 7 {
            3 => rig.crash(),
            _ => {
                rig.pass(1 + round % 3);
                if rig.kept.1.len() == 100_000 {
                    break;
                }
            }
        }
    }
    let lines = rig.finish();
    assert_eq!(lines.len(), 100_000);
    assert!(lines.iter().enumerate().all(|(index, line)| *line == format!("line {} of many", index * 10 + 7)));
}

/// Emptied, and written anew up to the byte to which it had been read: its length says nothing.
#[test]
fn a_file_that_is_as_long_as_it_was_and_another_is_read() {
    let mut rig = Rig::new("x.log", &["from=start"]);
    rig.write("x.log", 37);
    rig.pass(ROOM);
    rig.copy_and_empty("x.log");
    rig.write("x.log", 37);
    assert_eq!(rig.finish().len(), 74);
}

#[derive(Debug, Clone)]
enum Step {
    Write(u32),
    Rotate,
    Pass(usize),
    Crash,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..40u32).prop_map(Step::Write),
        2 => Just(Step::Rotate),
        4 => (0..3usize).prop_map(Step::Pass),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn each_line_comes_once_whatever_happens(copies: bool, steps in proptest::collection::vec(step(), 1..40)) {
        let mut rig = Rig::new("x.log", &["from=start"]);
        rig.write("x.log", 1);
        rig.pass(ROOM);
        for step in steps {
            match step {
                Step::Write(lines) => rig.write("x.log", lines),
                Step::Rotate if copies => rig.copy_and_empty("x.log"),
                Step::Rotate => rig.rotate("x.log"),
                Step::Pass(room) => drop(rig.pass(room)),
                Step::Crash => rig.crash(),
                Step::Restart => rig.restart(),
            }
        }
        let mut lines = rig.finish();
        lines.sort();
        let expected: Vec<String> =
            (1..=rig.lines).map(|line| format!("line {line:05} of a log that is written, rotated and read")).collect();
        prop_assert_eq!(lines, expected);
    }
}
