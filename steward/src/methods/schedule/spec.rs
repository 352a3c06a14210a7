//! When something is to run, as people write it and as it travels: a text, or an object of these keys. What makes no sense is
//! told in words, where it is written and once more where it is to run.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::times::{Times, Zone};
use crate::config::units;

/// Bytes of the text of a schedule at most.
const TEXT_BYTES_MAX: usize = 256;

/// The shortest interval, in milliseconds: each run is written down before it begins and when it has ended.
const EVERY_MS_MIN: u64 = 1000;

/// The longest interval and the widest spread, in milliseconds (a year).
const EVERY_MS_MAX: u64 = 366 * 24 * 3600 * 1000;

/// What becomes of runs that were due while the node was away, or while the run before still went on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Missed {
    /// They are counted, and left out.
    #[default]
    Skip,
    /// One run stands for all of them.
    Once,
    /// Each is run, one after the other, the newest [`ALL_MAX`](super::state::ALL_MAX) of them.
    All,
}

/// A schedule as it is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Spec {
    /// The time between two runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) every: Option<String>,
    /// Five fields as cron has them, and behind them a time zone, where there is no `zone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cron: Option<String>,
    /// The time zone of `cron`: one of the IANA database, `UTC`, or `local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
    /// What becomes of runs that could not be when they were due.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) missed: Missed,
    /// Whether a run may begin while others go on.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) overlap: bool,
    /// Each node begins later by a part of this that is its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jitter: Option<String>,
    /// Seconds that each run may take; none is without limit. From the message's own key where people write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method_timeout: Option<f64>,
    /// Whether a run whose node died in the middle is run again. From the message's own key where people write it.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) rerun: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Spec {
    /// What a text says: `every 15m`, `15m`, or five fields of cron with or without a time zone.
    pub(crate) fn of_text(text: &str) -> Self {
        let text = text.trim();
        let every =
            text.strip_prefix("every ").or_else(|| (!text.contains(' ') && !text.starts_with('@')).then_some(text));
        match every {
            Some(every) => Self { every: Some(every.trim().to_owned()), ..Self::default() },
            None => Self { cron: Some(text.to_owned()), ..Self::default() },
        }
    }

    /// When that is, or why it makes no sense.
    pub(crate) fn times(&self) -> Result<Times, String> {
        for text in [&self.every, &self.cron, &self.zone, &self.jitter].into_iter().flatten() {
            if text.len() > TEXT_BYTES_MAX || !text.is_ascii() {
                let shown: String = text.chars().take(40).collect();
                return Err(format!(
                    "{shown:?} … is no schedule: it is longer than {TEXT_BYTES_MAX} bytes, or not plain ASCII"
                ));
            }
        }
        match (&self.every, &self.cron) {
            (Some(every), None) if self.zone.is_none() => Times::every(interval("every", every, EVERY_MS_MIN)?),
            (Some(_), None) => Err("\"zone\" goes with \"cron\": an interval is the same everywhere".to_owned()),
            (None, Some(cron)) => {
                let (fields, zone) = self.fields(cron)?;
                Times::cron(&fields, Zone::parse(zone)?)
            }
            (Some(_), Some(_)) => Err("\"every\" and \"cron\" stand there both; keep one".to_owned()),
            (None, None) => {
                Err("it says neither \"every\" (an interval: \"15m\") nor \"cron\" (\"0 3 * * *\")".to_owned())
            }
        }
    }

    /// How wide the beginnings of several nodes are spread, in milliseconds.
    pub(crate) fn jitter_ms(&self) -> Result<u64, String> {
        self.jitter.as_deref().map_or(Ok(0), |jitter| interval("jitter", jitter, 0))
    }

    /// The fields and the zone of a cron text; the zone may stand behind the fields.
    fn fields<'a>(&'a self, cron: &'a str) -> Result<(String, Option<&'a str>), String> {
        let words: Vec<&str> = cron.split_whitespace().collect();
        let wanted = if cron.starts_with('@') { 1 } else { 5 };
        match (words.len().checked_sub(wanted), &self.zone) {
            (Some(0), zone) => Ok((words.join(" "), zone.as_deref())),
            (Some(1), None) => Ok((words[..wanted].join(" "), words.last().copied())),
            (Some(1), Some(_)) => Err(format!("{cron:?} names a time zone, and \"zone\" does so as well; keep one")),
            _ => Err(format!(
                "{cron:?} has not the five fields of cron: minute, hour, day of month, month, day of week, as in \
                 \"0 3 * * *\" (a time zone may stand behind them)"
            )),
        }
    }

    /// In a line, for people.
    pub(crate) fn words(&self) -> String {
        let mut words = match (&self.every, &self.cron) {
            (Some(every), _) => format!("every {every}"),
            (None, cron) => cron.clone().unwrap_or_default(),
        };
        if let Some(zone) = &self.zone {
            words = format!("{words} {zone}");
        }
        words
    }
}

/// An interval in milliseconds.
fn interval(key: &str, text: &str, least_ms: u64) -> Result<u64, String> {
    let length = units::duration(text).map_err(|error| format!("\"{key}\": {error}"))?;
    let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    if (least_ms..=EVERY_MS_MAX).contains(&millis) {
        return Ok(millis);
    }
    Err(format!("\"{key}\": {text:?} is not between {least_ms} ms and a year"))
}

/// A schedule in a message as people write it: a text, or the object.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Written(pub(crate) Spec);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenVisitor)
    }
}

struct WrittenVisitor;

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schedule as in \"every 15m\", \"0 3 * * * Europe/Berlin\" or { \"cron\": \"0 3 * * *\", \"missed\": \"once\" }")
    }

    fn visit_str<E>(self, text: &str) -> Result<Written, E> {
        Ok(Written(Spec::of_text(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
        Spec::deserialize(MapAccessDeserializer::new(map)).map(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Result<(), String> {
        Spec::of_text(text).times().map(drop)
    }

    #[test]
    fn what_people_write_is_understood_or_told_in_words() {
        for good in [
            "every 15m",
            "15m",
            "90",
            "1h30m",
            "0 3 * * *",
            "0 3 * * * Europe/Berlin",
            "*/5 8-18 * * MON-FRI UTC",
            "@daily",
            "@daily America/New_York",
            "0 0 29 2 *",
            "0 3 * * 0 local",
        ] {
            text(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for (bad, reason) in [
            ("", "is no duration"),
            ("every", "is no duration"),
            ("every 999ms", "is not between 1000 ms and a year"),
            ("every 2d and then some", "is no duration"),
            ("every 600d", "a year"),
            ("0 3 * *", "five fields"),
            ("0 0 3 * * * UTC", "five fields"),
            ("0 3 * * * Mars/Base", "Mars/Base"),
            ("61 3 * * *", "\"61 3 * * *\""),
            ("0 0 30 2 *", "never"),
            ("@reboot", "\"@reboot\""),
            ("0 3 * * * Ä", "plain ASCII"),
            (&"1".repeat(300), "longer than 256"),
        ] {
            let error = text(bad).unwrap_err();
            assert!(error.contains(reason), "{bad:?}: {error}");
        }
    }

    #[test]
    fn an_object_says_the_same_and_more_and_is_written_as_it_was_read() {
        let read = |text: &str| serde_json::from_str::<Written>(text).map(|written| written.0);
        let spec =
            read(r#"{"cron":"0 3 * * *","zone":"Europe/Berlin","missed":"all","overlap":true,"jitter":"5m"}"#).unwrap();
        assert_eq!((spec.missed, spec.overlap, spec.jitter_ms()), (Missed::All, true, Ok(300_000)));
        assert_eq!(spec.words(), "0 3 * * * Europe/Berlin");
        assert_eq!(read(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
        assert_eq!(read(r#""every 15m""#).unwrap(), Spec::of_text("15m"));
        for (bad, reason) in [
            (r#"{"evry":"5m"}"#, "unknown field"),
            (r#"{"every":"5m","missed":"never"}"#, "unknown variant"),
            ("5", "a schedule as in"),
        ] {
            assert!(read(bad).unwrap_err().to_string().contains(reason), "{bad}");
        }
        for (bad, reason) in [
            ("{}", "neither"),
            (r#"{"every":"5m","cron":"0 3 * * *"}"#, "keep one"),
            (r#"{"every":"5m","zone":"UTC"}"#, "goes with \"cron\""),
            (r#"{"cron":"0 3 * * * UTC","zone":"UTC"}"#, "keep one"),
        ] {
            assert!(read(bad).unwrap().times().unwrap_err().contains(reason), "{bad}");
        }
    }
}
