//! What the nodes do while they are recorded, and which message is which: each has a number, which says what it is, and
//! stands in its data, so that everybody can tell it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::disk::{self, Content, Rest};
use super::recorder::{NotAllowed, Part, Recorder};
use super::trace::{Moment, Trace, What};
use super::tracker::Tracker;
use crate::harness::{Fleet, Node, event, hold, shell, with};

/// The two nodes.
pub(super) const NODES: [&str; 2] = ["central", "ship1"];

/// The length of an output that does not fit a receipt.
const LONG_BYTES: usize = 150_000;

/// From this number on, messages go from the ship to central, as events: a ship may run nothing there.
const FROM_SHIP: usize = 80;

/// Messages that the ship sends.
const SHIP_SENDS: usize = 10;

/// A piece of `inmsg.txt` that is no message.
pub(super) const REJECT: &str = r#"{"toNode": "ship1", "method": "this is to be rejected"}"#;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A command that leaves a mark.
    Plain,
    /// One that may start beside others.
    Parallel,
    /// One that may run twice.
    Rerun,
    /// One that takes a while.
    Slow,
    /// One with a long output.
    Long,
    /// A line for a log file.
    Line,
}

/// What the message with this number is.
pub(super) fn kind(number: usize) -> Kind {
    match number % 8 {
        _ if number >= FROM_SHIP => Kind::Line,
        2 | 6 => Kind::Line,
        0 | 4 => Kind::Long,
        1 => Kind::Slow,
        3 => Kind::Parallel,
        5 => Kind::Rerun,
        _ => Kind::Plain,
    }
}

/// The message with this number.
fn message(number: usize) -> Value {
    let (to, mark) = ("ship1", format!("echo {number} >> ../ran"));
    match kind(number) {
        Kind::Plain => shell(to, &mark),
        Kind::Parallel => with(shell(to, &mark), json!({ "parallel": true })),
        Kind::Rerun => with(shell(to, &mark), json!({ "rerun": true })),
        Kind::Slow => shell(to, &format!("{mark}; sleep 0.05")),
        Kind::Long => shell(to, &format!("{mark}; yes {number} | head -c {LONG_BYTES}")),
        Kind::Line => event(if number < FROM_SHIP { to } else { "central" }, "TextLogging", &[&line(number)]),
    }
}

fn messages(numbers: Range<usize>) -> Vec<Value> {
    numbers.map(message).collect()
}

/// What a line says.
pub(super) fn line(number: usize) -> String {
    format!("line {number}")
}

/// What a command with a long output prints.
pub(super) fn long(number: usize) -> Vec<u8> {
    format!("{number}\n").into_bytes().into_iter().cycle().take(LONG_BYTES).collect()
}

/// The numbers of the messages whose data stands in this text.
pub(super) fn numbers(text: &str) -> BTreeSet<usize> {
    let after = |word: &str| text.match_indices(word).map(|(at, word)| at + word.len()).collect::<Vec<_>>();
    let number = |at: usize| {
        let end = text[at..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |end| at + end);
        text[at..end].parse().ok()
    };
    after("echo ").into_iter().chain(after("line ")).filter_map(number).collect()
}

/// The number of a message that a node shows.
pub(super) fn number(message: &Value) -> Option<usize> {
    numbers(&message["data"].to_string()).first().copied()
}

/// What was recorded.
pub(super) struct Recording {
    pub(super) trace: Trace,
    /// The numbers of all messages, by their ids.
    pub(super) numbers: BTreeMap<String, usize>,
    /// The messages that were interrupted when their node was killed on purpose.
    pub(super) interrupted: BTreeSet<String>,
}

/// A file system in memory, if there is one: what is rebuilt there is rebuilt quickly.
pub(super) fn folder() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

/// Lets the nodes do everything that they can do, with these settings of their stores.
pub(super) fn record(settings: &'static str) -> Result<Recording, NotAllowed> {
    let fleet = Fleet::within(folder());
    fleet.broker.start();
    let (central, ship1) = (fleet.absent("central", &[]), fleet.absent("ship1", &[]));
    let mut tracker = Tracker::default();
    for node in [&central, &ship1] {
        tracker.follow(node.name(), &node.dir().canonicalize().unwrap()).unwrap();
    }
    let part = |label: &'static str, node: &'static str, mut command: Command, until| {
        command.env("STORE_SETTINGS_IN_TESTS", settings);
        let dir = fleet.dir().to_owned();
        Part { label, node, start: Box::new(move || hold(label, &dir, &command)), until }
    };
    let of = |label: &'static str, node: &Node<'_>, until| {
        let name = NODES.into_iter().find(|name| *name == node.name()).unwrap();
        part(label, name, node.start_command(), until)
    };
    let mut writer = Command::new("sh");
    writer.args(["-c", r#"while IFS= read -r text; do printf '%s\n' "$text" >> inmsg.txt; done"#]);
    writer.current_dir(central.dir());
    let parts = vec![
        of("ship1, to its first file", &ship1, Some(|what| made(what, "steward.db"))),
        of("ship1, to its first folder", &ship1, Some(|what| made(what, "blobs"))),
        of("ship1", &ship1, None),
        of("ship1 again", &ship1, None),
        of("central", &central, None),
        of("central again", &central, None),
        part("writer", "writer", writer, None),
    ];
    let mut recorder = Recorder::start(tracker, parts)?;
    play(&mut recorder, &central, &ship1);
    let messages = central.messages().into_iter().chain(ship1.messages());
    let numbered = |message: Value| Some((text(&message["id"]), (number(&message)?, text(&message["state"]))));
    let messages: BTreeMap<String, (usize, String)> = messages.filter_map(numbered).collect();
    let trace = recorder.finish();
    for node in [&central, &ship1] {
        has_everything(&trace, node);
    }
    let interrupted = messages.iter().filter(|(_, (_, state))| state == "interrupted");
    let interrupted = interrupted.map(|(id, _)| id.clone()).collect();
    let numbers = messages.into_iter().map(|(id, (number, _))| (id, number)).collect();
    Ok(Recording { trace, numbers, interrupted })
}

/// Records a node that starts on what lies in its directory, until `look` has seen what it wants to see.
pub(super) fn record_start(fleet: &Fleet, node: &Node<'_>, look: impl FnOnce()) -> Trace {
    let mut tracker = Tracker::default();
    tracker.follow(node.name(), &node.dir().canonicalize().unwrap()).unwrap();
    let (dir, command) = (fleet.dir().to_owned(), node.start_command());
    let name = NODES.into_iter().find(|name| *name == node.name()).unwrap();
    let start = Box::new(move || hold(name, &dir, &command));
    let mut recorder = Recorder::start(tracker, vec![Part { label: name, node: name, start, until: None }]).unwrap();
    begin(&mut recorder, name, node);
    look();
    let trace = recorder.finish();
    has_everything(&trace, node);
    trace
}

fn made(what: &What, wanted: &str) -> bool {
    matches!(what, What::Link { name, .. } if name == wanted)
}

/// Messages in all ways and of all kinds, while both nodes die and come back.
fn play(recorder: &mut Recorder, central: &Node<'_>, ship1: &Node<'_>) {
    let array = |numbers| Value::from(messages(numbers)).to_string();
    let ended = |node: &Node<'_>, count: usize| {
        let messages = node.messages();
        let own = messages.iter().filter(|message| message["fromNode"] == *node.name());
        own.filter(|message| message["finishedAt"].is_string()).count() >= count
    };
    for label in ["ship1, to its first file", "ship1, to its first folder"] {
        recorder.go(label);
        recorder.has_ended(label);
    }
    begin(recorder, "ship1", ship1);
    begin(recorder, "central", central);
    recorder.go("writer");
    central.send_all(&messages(0..1));
    recorder.eventually("the first one has ended", || ended(central, 1));
    central.send_all(&messages(1..16));
    recorder.say("writer", &format!("{}\n{REJECT}\n{}\n", array(16..20), array(20..24)));
    recorder.eventually("some have ended", || ended(central, 8));
    central.send_all(&messages(24..32));
    recorder.kill("ship1");
    recorder.has_ended("ship1");
    let halves = array(32..40);
    let (first, second) = halves.split_at(halves.find(',').unwrap() + 1);
    recorder.say("writer", &format!("{first}\n"));
    central.send_all(&messages(40..48));
    begin(recorder, "ship1 again", ship1);
    recorder.say("writer", &format!("{second}\n"));
    recorder.eventually("some more have ended", || ended(central, 32));
    central.send_all(&messages(48..56));
    rustix::process::kill_process(recorder.process("central"), Signal::TERM).unwrap();
    recorder.has_ended("central");
    recorder.say("writer", &format!("{}\n", array(56..64)));
    begin(recorder, "central again", central);
    ship1.send_all(&messages(FROM_SHIP..FROM_SHIP + SHIP_SENDS));
    for part in 0..4 {
        central.send_all(&messages(64 + part * 4..68 + part * 4));
    }
    recorder.eventually("everything has ended", || ended(central, FROM_SHIP) && ended(ship1, SHIP_SENDS));
}

fn begin(recorder: &mut Recorder, label: &str, node: &Node<'_>) {
    recorder.go(label);
    recorder.eventually(&format!("{label} answers"), || node.answers());
}

/// What was recorded must give what lies there in the end: then nothing was missed.
fn has_everything(trace: &Trace, node: &Node<'_>) {
    let tree = disk::rebuild(trace, node.name(), Moment::MAX, Rest::Kept, disk::to_nothing, 0);
    let mut real = BTreeSet::new();
    let mut folders = vec![node.dir().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            real.insert(path.strip_prefix(node.dir()).unwrap().to_owned());
        }
    }
    assert_eq!(real, tree.keys().cloned().collect(), "names in the directory of {}", node.name());
    for (path, (_, content)) in &tree {
        let Content::File(bytes) = content else { continue };
        let is_same = disk::is_unseen(path) || fs::read(node.dir().join(path)).unwrap() == *bytes;
        assert!(is_same, "{} in the directory of {} holds something else", path.display(), node.name());
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
