//! The points in time at which something is due: of an interval, or of cron fields in a time zone. Pure: it is told what time
//! it is. The time zones are those that were built in, so that they are the same on every machine.
//!
//! * An interval is a grid from when the node took the order, by the wall clock: it neither drifts nor follows a time zone.
//! * Where a clock is put forward, a fixed time of day that does not exist runs at the first moment behind the gap; what has no
//!   fixed hour and minute (`*/15 * * * *`) just has nothing in it.
//! * Where it is put back, a fixed time of day runs once, the first time; what has no fixed hour and minute runs in both.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use protocol::time::Wall;

/// Where a text of cron is read, before it is known whether it is ever due: 2026-01-01.
const PROBE_MS: u64 = 1_767_225_600_000;

/// The farthest that anything is due, in milliseconds (50 years): the 29th of February of a Sunday comes every 28.
const FAR_MS: u64 = 50 * 366 * 24 * 3600 * 1000;

/// When something is due.
#[derive(Debug, Clone)]
pub(crate) enum Times {
    /// Every so many milliseconds.
    Every(u64),
    /// As cron has it.
    Cron(Box<Cron>, TimeZone),
}

/// A time zone of the built-in database.
#[derive(Debug, Clone)]
pub(super) struct Zone(TimeZone);

impl Zone {
    /// The one with this name; `local` is the machine's own, none is UTC.
    pub(super) fn parse(name: Option<&str>) -> Result<Self, String> {
        match name {
            None | Some("UTC") => Ok(Self(TimeZone::UTC)),
            Some("local") => Ok(Self(TimeZone::system())),
            Some(name) => jiff::tz::db().get(name).map(Self).map_err(|_| {
                format!("{name:?} is no time zone; write one as in Europe/Berlin, UTC, or local (that of the node)")
            }),
        }
    }
}

impl Times {
    /// Every so many milliseconds.
    pub(super) fn every(millis: u64) -> Result<Self, String> {
        if millis == 0 { Err("an interval of nothing".to_owned()) } else { Ok(Self::Every(millis)) }
    }

    /// As these fields have it.
    pub(super) fn cron(fields: &str, Zone(zone): Zone) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(fields).map_err(|error| format!("{fields:?} is no cron text: {error}"))?;
        let times = Self::Cron(Box::new(cron), zone);
        match times.next(Wall(PROBE_MS), Wall(PROBE_MS)) {
            Some(_) => Ok(times),
            None => Err(format!("{fields:?} is never due within 50 years")),
        }
    }

    /// The first point behind `after`; none if there is none within 50 years. `anchor` is where an interval begins, and is a
    /// point of it.
    pub(super) fn next(&self, anchor: Wall, after: Wall) -> Option<Wall> {
        match self {
            Self::Every(every) => {
                let Some(passed) = after.0.checked_sub(anchor.0) else { return Some(anchor) };
                Some(Wall(anchor.0 + (passed / every + 1) * every))
            }
            Self::Cron(cron, zone) => {
                let at = Timestamp::from_millisecond(i64::try_from(after.0).ok()?).ok()?.to_zoned(zone.clone());
                let next = cron.find_next_occurrence(&at, false).ok()?.timestamp().as_millisecond();
                let next = u64::try_from(next).ok()?;
                (next > after.0 && next - after.0 <= FAR_MS).then_some(Wall(next))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(text: &str) -> Wall {
        Wall(u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap())
    }

    /// What comes behind a point, one after the other.
    fn after(fields: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let times = Times::cron(fields, Zone::parse(Some(zone)).unwrap()).unwrap();
        let mut at = wall(from);
        let mut next = || {
            at = times.next(at, at).unwrap();
            Timestamp::from_millisecond(i64::try_from(at.0).unwrap()).unwrap().to_string()
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn an_interval_is_a_grid_from_its_beginning() {
        let times = Times::every(10_000).unwrap();
        for (after, next) in [(0, 5_000), (4_999, 5_000), (5_000, 15_000), (14_999, 15_000), (1_000_000, 1_005_000)] {
            assert_eq!(times.next(Wall(5_000), Wall(after)), Some(Wall(next)), "behind {after}");
        }
    }

    #[test]
    fn a_time_of_day_is_that_of_its_zone() {
        assert_eq!(
            after("0 3 * * *", "Europe/Berlin", "2026-10-23T12:00:00.5Z", 4),
            // The clock goes back on the 25th.
            ["2026-10-24T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-26T02:00:00Z", "2026-10-27T02:00:00Z"]
        );
        assert_eq!(after("0 3 * * *", "UTC", "2026-10-23T03:00:00Z", 1), ["2026-10-24T03:00:00Z"]);
        assert_eq!(
            after("*/20 9 * * MON", "Asia/Kolkata", "2026-11-23T03:45:00Z", 2),
            ["2026-11-23T03:50:00Z", "2026-11-23T04:10:00Z"]
        );
    }

    #[test]
    fn a_fixed_time_that_does_not_exist_runs_behind_the_gap_once() {
        // In Berlin the clock goes from 2:00 to 3:00 on 2026-03-29, at 1:00 UTC.
        assert_eq!(
            after("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            after("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 4),
            ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:00:00Z"]
        );
    }

    #[test]
    fn a_fixed_time_that_comes_twice_runs_once_and_others_in_both() {
        // In Berlin the hour from 2:00 to 3:00 comes twice on 2026-10-25, from 0:00 UTC on.
        assert_eq!(
            after("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            after("*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 5),
            [
                "2026-10-25T00:00:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-26T01:00:00Z"
            ]
        );
    }

    /// Whatever the zone does, time goes on, and no point comes twice.
    #[test]
    fn points_always_rise() {
        for zone in ["Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "America/St_Johns", "Asia/Gaza"] {
            for fields in ["*/7 * * * *", "30 2 * * *", "0 0 * * *", "0 */3 * * SUN", "15 1-3 * * *"] {
                let times = Times::cron(fields, Zone::parse(Some(zone)).unwrap()).unwrap();
                let mut at = wall("2026-01-01T00:00:00Z");
                for _ in 0..2000 {
                    let next = times.next(at, at).unwrap();
                    assert!(next > at, "{fields} in {zone} behind {}", at.0);
                    at = next;
                }
            }
        }
    }
}
