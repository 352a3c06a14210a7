//! What is sent: messages whose effects can be counted and whose outputs are known.
//!
//! Each has a tag. A command appends it, with the number of the process that ran it, to a file of its node outside of
//! the node's own directory, before it does anything else; an event has it in its text.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::dice::Dice;
use crate::harness::{event, shell, with};
use crate::payload::{Payload, Slice};

/// Bytes up to which an output travels in the receipt; what is more is fetched in pieces.
const INLINE_BYTES: usize = 4096;

/// Of so many plain commands in a hundred an order with a schedule is made.
const REPEATED_PERCENT: u64 = 10;

/// The largest output that a command prints.
const BULK_BYTES_MAX: u64 = 400 * 1024;

/// One message.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// By which its effects are known: unique in its world, and of one length.
    pub(crate) tag: String,
    /// The machine that sends it.
    pub(crate) from: usize,
    /// The machine that it is for.
    pub(crate) to: usize,
    /// What it is.
    pub(crate) what: What,
    /// So long after it was accepted somebody takes it back.
    pub(crate) cancel_after: Option<Duration>,
}

/// What a message is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// A command that is answered.
    Command(Command),
    /// A command that is not.
    CommandWithoutAck,
    /// An event that is answered, with so many bytes beside its tag.
    Event(usize),
    /// An event that is not.
    EventWithoutAck,
    /// A command that its receiver does not take from this sender.
    Forbidden,
    /// A command with a schedule: it runs every second, until it is taken back when the faults are over.
    Repeated(Repeat),
}

/// A command that is answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Command {
    /// How long it sleeps once it has said that it runs; one without end sleeps until it is stopped.
    pub(crate) sleep_ms: u64,
    /// Printed to standard output; otherwise its tag.
    pub(crate) stdout: Option<Slice>,
    /// In so many parts, with a pause behind each but the last; then somebody looks on. 0 is one part as well.
    pub(crate) parts: usize,
    /// Printed to standard error.
    pub(crate) stderr: Option<Slice>,
    /// Whether it travels as a script with its own first line, which lies on the disk of its node while it runs.
    pub(crate) is_script: bool,
    /// How it ends.
    pub(crate) exit_code: u8,
    /// Whether a second run would be harmless.
    pub(crate) rerun: bool,
    /// Whether it may start beside the one before it.
    pub(crate) parallel: bool,
    /// How long it may run.
    pub(crate) method_timeout_ms: Option<u64>,
    /// When it may not be started any more, from its acceptance on.
    pub(crate) deadline_ms: Option<u64>,
    /// Attempts, and the time between them.
    pub(crate) attempts: Option<(u32, u64)>,
}

/// A command with a schedule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Repeat {
    /// What becomes of runs that were missed.
    pub(crate) missed: &'static str,
    /// How long each run sleeps once it has said that it runs.
    pub(crate) sleep_ms: u64,
    /// Whether a second run would be harmless.
    pub(crate) rerun: bool,
}

/// The parts in which an output is printed at which somebody looks on, at most, and the pause between them.
const PARTS_MAX: u64 = 8;
/// See [`PARTS_MAX`].
const PARTS_PAUSE: &str = "sleep 0.15";

/// Of so many orders one that is a command travels as a script.
const SCRIPT_EVERY: usize = 4;

/// How such a script begins.
pub(crate) const SCRIPT_HEAD: &str = "#!/bin/sh\n";

/// A sleep without end.
const FOR_EVER_MS: u64 = 600_000;

impl Command {
    /// A command of some kind, all kinds in turn.
    fn thrown(dice: &mut Dice) -> Self {
        let plain = Self::default();
        match dice.throw(100) {
            0..28 => plain,
            28..36 => {
                let len = dice.index(INLINE_BYTES - 64) + 1;
                Self { stdout: Some(Slice::thrown(dice, true, len)), ..plain }
            }
            36..50 => {
                let len = dice.between(INLINE_BYTES as u64 + 1, BULK_BYTES_MAX) as usize;
                let errors = dice.chance(30).then(|| dice.index(40_000) + 1);
                let (is_text, stderr) = (dice.chance(30), errors.map(|len| Slice::thrown(dice, true, len)));
                Self { stdout: Some(Slice::thrown(dice, is_text, len)), stderr, ..plain }
            }
            50..58 => Self { sleep_ms: dice.between(50, 400), ..plain },
            // Some hold up what comes after them in their lane, so that deadlines pass there.
            58..60 => Self { sleep_ms: dice.between(1000, 2500), ..plain },
            60..66 => Self { exit_code: dice.between(1, 120) as u8, ..plain },
            66..70 => Self { sleep_ms: FOR_EVER_MS, method_timeout_ms: Some(dice.between(200, 600)), ..plain },
            70..76 => Self { sleep_ms: dice.between(0, 300), rerun: true, ..plain },
            76..84 => Self { sleep_ms: dice.between(0, 200), parallel: true, ..plain },
            84..92 => Self { sleep_ms: dice.between(0, 100), deadline_ms: Some(dice.between(100, 1500)), ..plain },
            _ => {
                let attempts = (dice.between(1, 3) as u32, dice.between(100, 1000));
                Self { attempts: Some(attempts), ..plain }
            }
        }
    }
}

impl Order {
    /// The order with this number, between some of so many machines. The first of them is central, which may do more.
    pub(crate) fn thrown(number: usize, machines: usize, dice: &mut Dice) -> Self {
        let ship = |dice: &mut Dice| 1 + dice.index(machines - 1);
        let (from, to, what) = match dice.throw(100) {
            0..68 => (0, ship(dice), What::Command(Command::thrown(dice))),
            68..73 => (0, ship(dice), What::CommandWithoutAck),
            73..92 => {
                let from = dice.index(machines);
                let to = (from + 1 + dice.index(machines - 1)) % machines;
                let padding = if dice.chance(20) { dice.index(60_000) } else { dice.index(100) };
                (from, to, What::Event(padding))
            }
            92..96 => (ship(dice), 0, What::EventWithoutAck),
            _ => (ship(dice), 0, What::Forbidden),
        };
        let mut order = Self { tag: format!("m{number:05}"), from, to, what, cancel_after: None };
        if let What::Command(command) = &mut order.what {
            // No throw, so that what a seed has meant before it means still.
            command.is_script = number.is_multiple_of(SCRIPT_EVERY);
        }
        if let What::Command(command) = &mut order.what
            && dice.chance(8)
        {
            command.sleep_ms = dice.pick(&[0, 200, FOR_EVER_MS]);
            // Whatever happens to the cancellation, it ends.
            command.method_timeout_ms = Some(3000);
            order.cancel_after = Some(dice.millis(0, 1500));
        }
        order
    }

    /// Has the output of some commands be printed bit by bit, as text, so that there is something to look on at.
    pub(crate) fn slow_down(&mut self, dice: &mut Dice) {
        let may = self.cancel_after.is_none() && dice.chance(60);
        if let What::Command(command) = &mut self.what
            && may
            && let Some(slice) = &mut command.stdout
        {
            slice.text = true;
            command.parts = dice.between(2, PARTS_MAX) as usize;
            if let Some(errors) = &mut command.stderr {
                errors.text = true;
            }
        }
    }

    /// Makes an order with a schedule of a command that is nothing special.
    pub(crate) fn repeat(&mut self, dice: &mut Dice) {
        let is_plain = matches!(&self.what, What::Command(command) if *command == Command::default());
        if is_plain && self.cancel_after.is_none() && dice.chance(REPEATED_PERCENT) {
            let missed = dice.pick(&["skip", "once", "all", "all"]);
            self.what = What::Repeated(Repeat { missed, sleep_ms: dice.between(0, 700), rerun: dice.chance(25) });
        }
    }

    /// Whether somebody looks on while it runs.
    pub(crate) fn is_followed(&self) -> bool {
        matches!(&self.what, What::Command(command) if command.parts > 1)
    }

    /// The message as it stands in `inmsg.txt`.
    pub(crate) fn message(&self, names: &[String], effects: &Effects, payload: &Payload) -> Value {
        let to = names[self.to].as_str();
        // Whoever may come too late says when it came.
        let has_deadline = matches!(&self.what, What::Command(command) if command.deadline_ms.is_some());
        let time = if has_deadline { " $(date +%s%3N)" } else { "" };
        let line = format!("echo {} $PPID{time} >> {}", self.tag, effects.file(to).display());
        let command = |script: &str| with(shell(to, ""), json!({ "data": ["sh", "-c", script] }));
        match &self.what {
            What::Command(it) if it.is_script => {
                let text = format!("{SCRIPT_HEAD}{}\n", self.script(&line, it, payload));
                let script = json!({ "method": "Script", "data": [text] });
                with(with(shell(to, ""), script), options(it))
            }
            What::Command(it) => with(command(&self.script(&line, it, payload)), options(it)),
            What::CommandWithoutAck => with(command(&line), json!({ "commandOrEvent": "CommandNACK" })),
            What::Event(padding) => event(to, "TextLogging", &[&format!("{} {}", self.tag, "x".repeat(*padding))]),
            What::EventWithoutAck => {
                with(event(to, "TextLogging", &[&self.tag]), json!({ "commandOrEvent": "EventNACK" }))
            }
            What::Forbidden => command(&line),
            What::Repeated(it) => {
                // What it prints is the very line, so that a result is known to be of one run.
                let file = effects.file(to).display().to_string();
                let pause = format!("sleep {}.{:03}", it.sleep_ms / 1000, it.sleep_ms % 1000);
                let script = format!("echo {} $PPID $(date +%s%N) | tee -a {file}; {pause}", self.tag);
                let schedule = json!({ "every": "1s", "missed": it.missed });
                with(command(&script), json!({ "schedule": schedule, "rerun": it.rerun }))
            }
        }
    }

    fn script(&self, line: &str, command: &Command, payload: &Payload) -> String {
        let mut script = vec![line.to_owned()];
        script.push(command.stdout.map_or_else(
            || format!("echo {}", self.tag),
            |slice| {
                let parts: Vec<String> = slice.parts(command.parts).map(|part| payload.print(part)).collect();
                parts.join(&format!("; {PARTS_PAUSE}; "))
            },
        ));
        script.extend(command.stderr.map(|slice| format!("({}) >&2", payload.print(slice))));
        if command.sleep_ms > 0 {
            script.push(format!("sleep {}.{:03}", command.sleep_ms / 1000, command.sleep_ms % 1000));
        }
        script.push(format!("exit {}", command.exit_code));
        script.join("; ")
    }

    /// What it is, in a word or two, for reports.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.what {
            What::Command(_) if self.cancel_after.is_some() => "command taken back",
            What::Command(command) => match command {
                Command { rerun: true, .. } => "command, rerun",
                Command { parallel: true, .. } => "command, parallel",
                Command { deadline_ms: Some(_), .. } => "command with a deadline",
                Command { attempts: Some(_), .. } => "command with few attempts",
                Command { method_timeout_ms: Some(_), .. } => "command beyond its limit",
                Command { stdout: Some(slice), .. } if slice.len > INLINE_BYTES => "command, bulk output",
                Command { is_script: true, .. } => "script",
                _ => "command",
            },
            What::CommandWithoutAck => "command without ACK",
            What::Event(_) => "event",
            What::EventWithoutAck => "event without ACK",
            What::Forbidden => "forbidden command",
            What::Repeated(_) => "order with a schedule",
        }
    }

    /// The bytes that it prints if it comes to its end.
    pub(crate) fn output(&self, payload: &Payload) -> (Vec<u8>, Vec<u8>) {
        let What::Command(command) = &self.what else { return (Vec::new(), Vec::new()) };
        let of = |slice: Option<Slice>| slice.map(|slice| payload.bytes(slice).to_vec());
        (
            of(command.stdout).unwrap_or_else(|| format!("{}\n", self.tag).into_bytes()),
            of(command.stderr).unwrap_or_default(),
        )
    }
}

fn options(command: &Command) -> Value {
    let seconds = |millis: u64| millis as f64 / 1000.0;
    let mut options = json!({});
    if command.rerun {
        options["rerun"] = true.into();
    }
    if command.parallel {
        options["parallel"] = true.into();
    }
    if let Some(millis) = command.method_timeout_ms {
        options["methodTimeout"] = seconds(millis).into();
    }
    if let Some(millis) = command.deadline_ms {
        options["deadline"] = seconds(millis).into();
    }
    if let Some((attempts, millis)) = command.attempts {
        options["retries"] = attempts.into();
        options["timeout"] = seconds(millis).into();
    }
    options
}

/// The folder of what commands did, a file a node.
#[derive(Debug)]
pub(crate) struct Effects(PathBuf);

impl Effects {
    /// Makes the folder.
    pub(crate) fn make(dir: &Path) -> std::io::Result<Self> {
        let folder = dir.join("effects");
        std::fs::create_dir(&folder)?;
        Ok(Self(folder))
    }

    fn file(&self, node: &str) -> PathBuf {
        self.0.join(node)
    }

    /// What commands did on a node, in that order.
    pub(crate) fn read(&self, node: &str) -> Vec<Ran> {
        let text = std::fs::read_to_string(self.file(node)).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let (tag, process) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
            Some(Ran { tag, process, at_ms: words.next().map(str::parse).transpose().ok()? })
        };
        // A line that can't be read counts as one that nobody knows, so that it is not overlooked.
        let unknown = |text: &str| Ran { tag: text.to_owned(), process: 0, at_ms: None };
        text.lines().map(|text| line(text).unwrap_or_else(|| unknown(text))).collect()
    }
}

/// What a command has said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Its order.
    pub(crate) tag: String,
    /// The process that ran it.
    pub(crate) process: u32,
    /// When, in milliseconds since 1970, if it was asked to say so.
    pub(crate) at_ms: Option<u64>,
}
