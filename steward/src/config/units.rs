//! Durations and sizes as people write them. Nothing here knows what they are for.

use std::time::Duration;

const DURATION_UNITS: &[(&str, f64)] =
    &[("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0), ("w", 604_800.0)];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1000),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("t", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

const RATE_UNITS: &[(&str, u64)] = &[("bit", 1), ("kbit", 1000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];

/// The least rate: below it, a signed receipt takes five seconds.
const RATE_BITS_MIN: u64 = 1000;

/// The longest duration that is taken: ten years, so that no sum of two points in time overflows.
const DURATION_SECONDS_MAX: f64 = 10.0 * 366.0 * 86_400.0;

/// `10` (seconds), `1.5s`, `500ms`, `5m`, `1h30m`, `2d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let shape =
        || format!("{text:?} is no duration; write seconds, or a number with ms, s, m, h, d or w (90, 10s, 1h30m)");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(shape());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let number: f64 = number.parse().map_err(|_| shape())?;
        // A number without a unit is in seconds, but only when it stands alone: "1h30" could mean either.
        let factor = match unit.trim() {
            "" if rest == text.trim() => 1.0,
            unit => DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(shape)?.1,
        };
        seconds += number * factor;
        rest = after;
    }
    if seconds > DURATION_SECONDS_MAX {
        return Err(format!("{text:?} is more than ten years"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| shape())
}

/// As [`duration`]; `0` and `none` are none.
pub(crate) fn duration_or_none(text: &str) -> Result<Option<Duration>, String> {
    if text == "none" {
        return Ok(None);
    }
    duration(text).map(|duration| Some(duration).filter(|duration| !duration.is_zero()))
}

/// `65536` (bytes), `64KiB`, `64MiB` (or `64M`), `64MB` (millions), `1GiB`; upper or lower case.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let shape = || format!("{text:?} is no size; write bytes, or a whole number with KiB, MiB, GiB, KB, MB or GB");
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| shape())?;
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" => 1,
        unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(shape)?.1,
    };
    number.checked_mul(unit).ok_or_else(|| format!("{text:?} is too much"))
}

/// As [`size`]; `0` and `none` are none.
pub(crate) fn size_or_none(text: &str) -> Result<Option<u64>, String> {
    if text == "none" {
        return Ok(None);
    }
    size(text).map(|size| Some(size).filter(|size| *size > 0))
}

/// `64kbit`, `2mbit`, `9600bit`, each in a second; upper or lower case, with or without `/s`. `0` and `none` are none.
pub(crate) fn bit_rate_or_none(text: &str) -> Result<Option<u64>, String> {
    if text == "none" || text == "0" {
        return Ok(None);
    }
    let shape = || format!("{text:?} is no rate; write a whole number with bit, kbit, mbit or gbit (64kbit), or none");
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("/s").unwrap_or(&lower);
    let (number, unit) = lower.split_at(lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len()));
    let number: u64 = number.parse().map_err(|_| shape())?;
    let unit = RATE_UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(shape)?.1;
    match number.checked_mul(unit) {
        None => Err(format!("{text:?} is too much")),
        Some(rate) if rate < RATE_BITS_MIN => Err(format!("{text:?} is too little; the least is 1kbit")),
        Some(rate) => Ok(Some(rate)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let good = [
            ("10", 10_000),
            ("10s", 10_000),
            ("1.5", 1_500),
            ("500ms", 500),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            (" 3 s ", 3_000),
            ("0", 0),
        ];
        for (text, millis) in good {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "-1", "1h30", "10 minutes", "1e3", "ten", "1..5", "99999999999", "."] {
            assert!(duration(bad).is_err(), "{bad:?} must be refused");
        }
        assert_eq!(duration_or_none("0"), Ok(None));
        assert_eq!(duration_or_none("none"), Ok(None));
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        let good = [("64kbit", 64_000), ("2Mbit", 2_000_000), ("9600 bit/s", 9600), ("1kbit", 1000)];
        for (text, bits) in good {
            assert_eq!(bit_rate_or_none(text), Ok(Some(bits)), "{text}");
        }
        assert_eq!((bit_rate_or_none("none"), bit_rate_or_none("0")), (Ok(None), Ok(None)));
        for bad in ["", "64", "64k", "64kb", "-1kbit", "1.5mbit", "999bit", "99999999999gbit"] {
            assert!(bit_rate_or_none(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let good = [
            ("0", 0),
            ("65536", 65536),
            ("64MiB", 64 << 20),
            ("64 m", 64 << 20),
            ("64MB", 64_000_000),
            ("1g", 1 << 30),
        ];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "MiB", "-1", "1.5MiB", "1MiBs", "99999999999GiB", "64 MiB MiB"] {
            assert!(size(bad).is_err(), "{bad:?} must be refused");
        }
    }
}
