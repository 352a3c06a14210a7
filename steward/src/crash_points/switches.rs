//! The switches as they stand in the file. See the module above.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use protocol::planted::{self, Bug};
use rustix::process::{Signal, getpid, kill_process};

use super::Point;
use crate::clock::Clock;

/// How often the file is looked at, at most.
const LOOK: Duration = Duration::from_millis(10);

impl Point {
    const ALL: [Self; 25] = [
        Self::AtStart,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::BetweenEffects,
        Self::BeforePublish,
        Self::AfterPublish,
        Self::BeforeRun,
        Self::AfterRun,
        Self::BeforeAppend,
        Self::AfterAppend,
        Self::BeforeRename,
        Self::AfterRename,
        Self::InChunk,
        Self::AfterChunk,
        Self::InputTaken,
        Self::InputRead,
        Self::SpoolTaken,
        Self::SpoolRead,
        Self::SpoolNoted,
        Self::RenewalBegun,
        Self::RenewalKept,
        Self::RenewalCertified,
        Self::RenewalSwitched,
        Self::RenewalConnected,
        Self::RenewalSettled,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::AtStart => "at-start",
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
            Self::BetweenEffects => "between-effects",
            Self::BeforePublish => "before-publish",
            Self::AfterPublish => "after-publish",
            Self::BeforeRun => "before-run",
            Self::AfterRun => "after-run",
            Self::BeforeAppend => "before-append",
            Self::AfterAppend => "after-append",
            Self::BeforeRename => "before-rename",
            Self::AfterRename => "after-rename",
            Self::InChunk => "in-chunk",
            Self::AfterChunk => "after-chunk",
            Self::InputTaken => "input-taken",
            Self::InputRead => "input-read",
            Self::SpoolTaken => "spool-taken",
            Self::SpoolRead => "spool-read",
            Self::SpoolNoted => "spool-noted",
            Self::RenewalBegun => "renewal-begun",
            Self::RenewalKept => "renewal-kept",
            Self::RenewalCertified => "renewal-certified",
            Self::RenewalSwitched => "renewal-switched",
            Self::RenewalConnected => "renewal-connected",
            Self::RenewalSettled => "renewal-settled",
        }
    }
}

#[derive(Debug, Default, Clone)]
struct Settings {
    /// The point, and how often it may still be passed.
    crash: Option<(Point, u64)>,
    sync: Duration,
    clock_ms: i64,
    bug: Option<Bug>,
}

struct Switches {
    path: PathBuf,
    clock: Clock,
    text: String,
    looked_at: Option<Duration>,
    settings: Settings,
}

impl Switches {
    fn look(&mut self) {
        let now = self.clock.elapsed();
        if self.looked_at.is_some_and(|before| now.saturating_sub(before) < LOOK) {
            return;
        }
        self.looked_at = Some(now);
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        if text != self.text {
            self.settings = parse(&text);
            self.text = text;
        }
    }
}

fn parse(text: &str) -> Settings {
    let mut settings = Settings::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["crash", name, times] => {
                let point = Point::ALL.into_iter().find(|point| point.as_str() == *name);
                settings.crash = point.zip(times.parse().ok());
            }
            ["sync", millis] => settings.sync = Duration::from_millis(millis.parse().unwrap_or(0)),
            ["clock", seconds] => settings.clock_ms = seconds.parse::<i64>().unwrap_or(0).saturating_mul(1000),
            ["plant", name] => settings.bug = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == *name),
            _ => {}
        }
    }
    settings
}

/// Whether a point is passed so seldom that the switches are looked at each time: whoever has set one a moment ago means it.
fn is_rare(point: Point) -> bool {
    use Point::{RenewalBegun, RenewalCertified, RenewalConnected, RenewalKept, RenewalSettled, RenewalSwitched};
    let rare = [RenewalBegun, RenewalKept, RenewalCertified, RenewalSwitched, RenewalConnected, RenewalSettled];
    rare.contains(&point)
}

/// Asks the switches, if this process has any; `anew`: as they are at this moment.
fn ask<T>(anew: bool, question: impl FnOnce(&mut Settings) -> T) -> Option<T> {
    static SWITCHES: OnceLock<Option<Mutex<Switches>>> = OnceLock::new();
    let made = SWITCHES.get_or_init(|| {
        let path = PathBuf::from(std::env::var_os("STEWARD_SWITCHES")?);
        let (clock, settings) = (Clock::start(), Settings::default());
        Some(Mutex::new(Switches { path, clock, text: String::new(), looked_at: None, settings }))
    });
    let mut switches = made.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
    if anew {
        switches.looked_at = None;
    }
    switches.look();
    Some(question(&mut switches.settings))
}

/// Whether the process is to end at this point, now.
pub(super) fn is_due(point: Point) -> bool {
    let due = ask(is_rare(point), |settings| match &mut settings.crash {
        Some((wanted, left)) if *wanted == point => {
            *left = left.saturating_sub(1);
            *left == 0
        }
        _ => false,
    });
    due == Some(true)
}

pub(super) fn reach(point: Point) {
    if is_due(point) {
        die();
    }
}

/// Ends the process as a power cut or `kill -9` would: nobody tidies up.
pub(super) fn die() -> ! {
    kill_process(getpid(), Signal::KILL).ok();
    loop {
        std::thread::park();
    }
}

pub(super) fn sync() {
    if let Some(delay) = ask(false, |settings| settings.sync).filter(|delay| !delay.is_zero()) {
        std::thread::park_timeout(delay);
    }
}

pub(super) fn plant() {
    planted::plant(ask(false, |settings| settings.bug).flatten());
}

pub(super) fn clock_offset_ms() -> i64 {
    ask(false, |settings| settings.clock_ms).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_understood() {
        let settings = parse("crash in-chunk 3\nsync 200\nclock -86400\nplant NoRetry\nnonsense\n");
        assert_eq!(settings.crash, Some((Point::InChunk, 3)));
        assert_eq!((settings.sync, settings.clock_ms), (Duration::from_millis(200), -86_400_000));
        assert_eq!(settings.bug, Some(Bug::NoRetry));
        assert_eq!(parse("crash nowhere 3").crash, None);
    }
}
