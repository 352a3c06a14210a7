//! Figures, and how they are shown: a table for people, a JSON object a line for programs.

use std::time::Duration;

use anstyle::Style;
use serde::{Serialize, Serializer};

use super::machine::Machine;
use crate::cli::output::{self, Output};
use crate::cli::table::Table;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// So many in a second.
    PerSecond,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// 1,000,000 bytes.
    Megabytes,
    /// 1,000,000 bytes in a second.
    MegabytesPerSecond,
    /// Hundredths of one core.
    Percent,
    /// A plain number.
    Each,
}

impl Unit {
    fn as_str(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "µs",
            Self::Megabytes => "MB",
            Self::MegabytesPerSecond => "MB/s",
            Self::Percent => "%",
            Self::Each => "",
        }
    }

    /// `31,405/s`, `3.12 ms`.
    fn show(self, value: f64) -> String {
        let number = match value {
            value if value >= 100.0 => thousands(value),
            value if value >= 10.0 => format!("{value:.1}"),
            value => format!("{value:.2}"),
        };
        match self {
            Self::PerSecond => format!("{number}/s"),
            _ => format!("{number} {}", self.as_str()),
        }
    }
}

impl Serialize for Unit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// What is wanted of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

/// What the machine can do without steward.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Limit {
    pub(super) name: &'static str,
    pub(super) value: f64,
    pub(super) unit: Unit,
}

/// Something that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) unit: Unit,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aim: Option<Aim>,
    /// Measured in the same run, before the figure.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) limits: Vec<Limit>,
}

impl Figure {
    /// So many in this time.
    pub(super) fn rate(name: impl Into<String>, count: u64, took: Duration) -> Self {
        Self::new(name, count as f64 / took.as_secs_f64(), Unit::PerSecond)
    }

    /// A duration.
    pub(super) fn time(name: impl Into<String>, took: Duration) -> Self {
        Self::new(name, took.as_secs_f64() * 1000.0, Unit::Milliseconds)
    }

    /// An amount of memory.
    pub(super) fn memory(name: impl Into<String>, bytes: u64) -> Self {
        Self::new(name, bytes as f64 / 1e6, Unit::Megabytes)
    }

    pub(super) fn new(name: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self { name: name.into(), value, unit, aim: None, limits: Vec::new() }
    }

    pub(super) fn at_least(self, aim: f64) -> Self {
        Self { aim: Some(Aim::AtLeast(aim)), ..self }
    }

    pub(super) fn at_most(self, aim: f64) -> Self {
        Self { aim: Some(Aim::AtMost(aim)), ..self }
    }

    pub(super) fn beside(mut self, limit: &Limit) -> Self {
        self.limits.push(limit.clone());
        self
    }

    fn is_met(&self) -> Option<bool> {
        self.aim.map(|aim| match aim {
            Aim::AtLeast(aim) => self.value >= aim,
            Aim::AtMost(aim) => self.value <= aim,
        })
    }

    fn shown_aim(&self) -> String {
        match self.aim {
            None => String::new(),
            Some(Aim::AtLeast(aim)) => format!("≥ {}", self.unit.show(aim).replace(".00", "")),
            Some(Aim::AtMost(aim)) => format!("≤ {}", self.unit.show(aim).replace(".00", "").replace(".0 ", " ")),
        }
    }

    /// `1 : 2.9` is a figure that is 2.9 times worse than the limit.
    fn shown_limit(&self, limit: &Limit) -> String {
        let worse = match self.unit {
            Unit::PerSecond | Unit::MegabytesPerSecond => limit.value / self.value,
            _ => self.value / limit.value,
        };
        format!("{} {} (1 : {worse:.2})", limit.unit.show(limit.value), limit.name)
    }

    /// In one line, for whoever watches.
    pub(super) fn line(&self) -> String {
        let mut line = format!("{}: {}", self.name, self.unit.show(self.value));
        if self.aim.is_some() {
            line.push_str(&format!("; aim {}", self.shown_aim()));
        }
        for limit in &self.limits {
            line.push_str(&format!("; {}", self.shown_limit(limit)));
        }
        line
    }
}

/// What has been measured so far.
#[derive(Debug)]
pub(super) struct Report {
    machine: String,
    is_json: bool,
    figures: Vec<Figure>,
}

impl Report {
    pub(super) fn new(machine: &Machine, is_json: bool) -> anyhow::Result<Self> {
        if is_json {
            print_json(machine)?;
        }
        Ok(Self { machine: machine.to_string(), is_json, figures: Vec::new() })
    }

    pub(super) fn add(&mut self, figure: Figure) -> anyhow::Result<()> {
        if self.is_json {
            print_json(&figure)?;
        }
        self.figures.push(figure);
        Ok(())
    }

    /// Prints the table, if it is for people.
    pub(super) fn finish(&self, output: &mut Output) -> anyhow::Result<()> {
        if !self.is_json {
            output.line(&self.machine)?;
            output.line("")?;
            self.table().print(output)?;
        }
        Ok(output.flush()?)
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["MEASURE", "MEASURED", "AIM", "MET", "THE MACHINE WITHOUT STEWARD"], "MET");
        for figure in &self.figures {
            let (met, style) = match figure.is_met() {
                None => ("", Style::new()),
                Some(true) => ("yes", output::GOOD),
                Some(false) => ("no", output::BAD),
            };
            let limits: Vec<String> = figure.limits.iter().map(|limit| figure.shown_limit(limit)).collect();
            let mut limits = limits.iter();
            let first = limits.next().map_or("", String::as_str);
            let (value, aim) = (figure.unit.show(figure.value), figure.shown_aim());
            table.row(&[&figure.name, &value, &aim, met, first], style);
            for limit in limits {
                table.row(&["", "", "", "", limit], Style::new());
            }
        }
        table
    }
}

fn print_json(object: &impl Serialize) -> anyhow::Result<()> {
    let mut output = Output::stdout();
    output.json(object)?;
    Ok(output.flush()?)
}

/// The value below which so many of a hundred lie.
pub(super) fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_stands_beside_its_aim_and_the_machine() {
        let limit = Limit { name: "bare", value: 88_000.0, unit: Unit::PerSecond };
        let figure = Figure::rate("events", 300_000, Duration::from_secs(10)).at_least(30_000.0).beside(&limit);
        assert_eq!(figure.line(), "events: 30,000/s; aim ≥ 30,000/s; 88,000/s bare (1 : 2.93)");
        assert_eq!(figure.is_met(), Some(true));
        let slow = Figure::time("command", Duration::from_micros(4500)).at_most(4.0);
        assert_eq!(slow.is_met(), Some(false));
        assert_eq!(slow.shown_aim(), "≤ 4 ms");
        assert_eq!(Figure::memory("idle", 11_940_000).unit.show(11.94), "11.9 MB");
        let json = serde_json::to_value(&figure).unwrap();
        assert_eq!(json["aim"]["atLeast"], 30_000.0);
        assert_eq!(json["limits"][0]["unit"], "/s");
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let mut times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut times, 50), Duration::from_millis(51));
        assert_eq!(percentile(&mut times, 99), Duration::from_millis(100));
        assert_eq!(percentile(&mut [], 50), Duration::ZERO);
    }
}
