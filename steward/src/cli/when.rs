//! Times as people write and read them: local, short, today without the date. Times in JSON are left as they are.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::clock;
use crate::config::units;

fn now() -> Zoned {
    let millis = i64::try_from(clock::wall().0).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX).to_zoned(TimeZone::system())
}

/// An RFC 3339 time as a local one: `10:42:07` today, `Nov 21 10:42` this year, else with the year.
pub(super) fn local(at: &str) -> String {
    shown(at, &now())
}

fn shown(at: &str, now: &Zoned) -> String {
    let Ok(time) = at.parse::<Timestamp>() else { return at.to_owned() };
    let time = time.to_zoned(now.time_zone().clone());
    let format = if time.date() == now.date() {
        "%H:%M:%S"
    } else if time.year() == now.year() {
        "%b %d %H:%M"
    } else {
        "%Y-%m-%d %H:%M"
    };
    time.strftime(format).to_string()
}

/// An RFC 3339 time as a local one, in full.
pub(super) fn local_in_full(at: &str) -> String {
    match at.parse::<Timestamp>() {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f %:z").to_string(),
        Err(_) => at.to_owned(),
    }
}

/// How long it is from one RFC 3339 time to another; nothing where that can't be said.
pub(super) fn between(from: &str, to: &str) -> Option<Duration> {
    let (from, to): (Timestamp, Timestamp) = (from.parse().ok()?, to.parse().ok()?);
    Duration::try_from(to.duration_since(from)).ok()
}

/// How long ago an RFC 3339 time was.
pub(super) fn since(at: &str) -> Option<Duration> {
    between(at, &clock::rfc3339(clock::wall()))
}

/// A duration in its two largest units: `340 ms`, `12 s`, `3 min 5 s`, `2 d 4 h`.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        small => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// The start of a range, for `--since`: a duration back from now, or a point in time; local unless it says otherwise.
pub(super) fn read_since(text: &str) -> Result<Timestamp, String> {
    read_since_at(text, &now())
}

/// Such a start, in milliseconds since the Unix epoch; what lies before that is its beginning.
pub(super) fn since_ms(since: Timestamp) -> u64 {
    u64::try_from(since.as_millisecond()).unwrap_or(0)
}

fn read_since_at(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let local = |time: DateTime| time.to_zoned(now.time_zone().clone()).map(|time| time.timestamp());
    let point = if let Ok(duration) = units::duration(text) {
        now.timestamp().checked_sub(duration)
    } else if let Ok(time) = text.parse::<Timestamp>() {
        Ok(time)
    } else if let Ok(time) = text.parse::<DateTime>() {
        local(time)
    } else if let Ok(date) = text.parse::<Date>() {
        local(date.at(0, 0, 0, 0))
    } else if let Ok(time) = text.parse::<Time>() {
        local(now.date().to_datetime(time))
    } else {
        let shapes = "a duration (10m, 2d), a time (10:42), a date (2026-11-22), both (2026-11-22T10:42) or RFC 3339";
        return Err(format!("{text:?} is no point in time; write {shapes}"));
    };
    point.map_err(|error| format!("{text:?}: {error}"))
}

/// A deadline: `+10m` from now, or a point in time that says its offset.
pub(super) fn read_deadline(text: &str) -> Result<Timestamp, String> {
    let shape = || format!("{text:?} is no deadline; write +10m, or RFC 3339 (2026-11-22T10:42:00Z)");
    match text.strip_prefix('+') {
        Some(duration) => {
            let duration = units::duration(duration).map_err(|_| shape())?;
            now().timestamp().checked_add(duration).map_err(|error| format!("{text:?}: {error}"))
        }
        None => text.parse().map_err(|_| shape()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Zoned {
        "2026-11-22T12:00:00+01:00[+01:00]".parse().unwrap()
    }

    #[test]
    fn a_time_is_as_short_as_it_can_be() {
        assert_eq!(shown("2026-11-22T09:42:07.123Z", &noon()), "10:42:07");
        assert_eq!(shown("2026-11-20T09:42:07Z", &noon()), "Nov 20 10:42");
        assert_eq!(shown("2025-11-20T09:42:07Z", &noon()), "2025-11-20 10:42");
        assert_eq!(shown("whenever", &noon()), "whenever");
    }

    #[test]
    fn a_span_has_two_units() {
        let shown = |seconds: f64| span(Duration::from_secs_f64(seconds));
        assert_eq!(shown(0.0123), "12 ms");
        assert_eq!(shown(1.25), "1.2 s");
        assert_eq!(shown(59.9), "59 s");
        assert_eq!(shown(185.0), "3 min 5 s");
        assert_eq!(shown(7200.0), "2 h");
        assert_eq!(shown(187_200.0), "2 d 4 h");
    }

    #[test]
    fn since_is_taken_in_every_usual_form() {
        let at = |text: &str| read_since_at(text, &noon()).map(|time| time.to_string());
        assert_eq!(at("10m").as_deref(), Ok("2026-11-22T10:50:00Z"));
        assert_eq!(at("2026-11-22T10:00:00+02:00").as_deref(), Ok("2026-11-22T08:00:00Z"));
        assert_eq!(at("2026-11-22T10:00").as_deref(), Ok("2026-11-22T09:00:00Z"));
        assert_eq!(at("2026-11-22 10:00").as_deref(), Ok("2026-11-22T09:00:00Z"));
        assert_eq!(at("2026-11-21").as_deref(), Ok("2026-11-20T23:00:00Z"));
        assert_eq!(at("10:42").as_deref(), Ok("2026-11-22T09:42:00Z"));
        assert!(at("yesterday").is_err());
    }

    #[test]
    fn a_deadline_says_where_it_counts_from() {
        assert!(read_deadline("+10m").unwrap() > now().timestamp());
        assert_eq!(read_deadline("2026-11-22T10:42:00Z").unwrap().to_string(), "2026-11-22T10:42:00Z");
        for bad in ["10m", "10:42", "+", "+-5", "2026-11-22T10:42:00"] {
            assert!(read_deadline(bad).is_err(), "{bad}");
        }
    }
}
