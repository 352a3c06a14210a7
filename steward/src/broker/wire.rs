//! What stands on the wire, and nothing about when it is sent: subjects, bodies, limits. `docs/wire.md` says the same
//! for other languages.
//!
//! Everything that comes in is hostile until it has passed a `decode` in here: sizes, counts, names and numbers are
//! checked, the body has to agree with the subject that it came on, and no input makes it panic.

pub(crate) mod chunk;
pub(crate) mod content;
pub(crate) mod control;
pub(crate) mod envelope;
pub(crate) mod forward;
pub(crate) mod hello;
pub(crate) mod live;
pub(crate) mod namesake;
pub(crate) mod pack;
pub(crate) mod receipts;
pub(crate) mod subject;
mod text;

pub(crate) use self::text::is_array_of_strings;

use protocol::name::NodeName;
use serde::Deserialize;

/// The version of every body. One that says another number is dropped: an incompatible format gets a new number.
pub(crate) const VERSION: u64 = 1;

/// The longest body, in bytes, after it was decompressed. A broker's `max_payload` is usually lower (1 MiB).
pub(crate) const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Messages in one envelope, and receipts in one publish.
pub(crate) const ITEMS_MAX: usize = 512;

/// The `data` of one message, in bytes of its JSON.
pub(crate) const DATA_BYTES_MAX: usize = 512 * 1024;

/// Confirmed results in one publish.
pub(crate) const TICKETS_MAX: usize = 4096;

/// Output that is taken inside a receipt, both streams together, in bytes. Nodes send up to 4 KiB.
pub(crate) const INLINE_BYTES_MAX: usize = 64 * 1024;

/// The longest reason of a final state, in bytes.
pub(crate) const REASON_BYTES_MAX: usize = 8 * 1024;

/// The longest text that a node says of itself, in bytes.
pub(crate) const INFO_BYTES_MAX: usize = 16 * 1024;

/// The longest raw piece of an output in one publish, in bytes.
pub(crate) const CHUNK_BYTES_MAX: usize = 128 * 1024;

/// The highest number: what SQLite's integers hold.
pub(crate) const NUMBER_MAX: u64 = i64::MAX as u64;

/// The latest time, in milliseconds since the Unix epoch: the end of the year 9999.
pub(crate) const WALL_MS_MAX: u64 = 253_402_300_799_999;

/// The longest timeout, in milliseconds: a hundred years.
pub(crate) const DURATION_MS_MAX: u64 = 100 * 366 * 24 * 3600 * 1000;

/// Why something that arrived is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// The body is not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// The body is no JSON of this form.
    #[error("the body can't be read: {0}")]
    Json(String),
    /// The body has another version.
    #[error("the body has version {0}; this node reads version {VERSION}")]
    Version(u64),
    /// Two places that have to agree do not.
    #[error("{0} in the body does not agree with the subject")]
    Mismatch(&'static str),
    /// Something is larger, longer or more than it may be.
    #[error("{what} is {found}; the limit is {max}")]
    Limit {
        /// What.
        what: &'static str,
        /// How large, or how many.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// A value makes no sense.
    #[error("{0}")]
    Value(&'static str),
    /// A header is missing or makes no sense.
    #[error("the header {0} is missing or makes no sense")]
    Header(&'static str),
    /// The body's encoding is unknown, or the body is not what it says.
    #[error("the body can't be decompressed")]
    Encoding,
    /// A body that this version does not know.
    #[error("the control {0:?} is unknown here")]
    UnknownControl(String),
}

impl WireError {
    /// A short name for counters and for log lines that are limited by kind.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not UTF-8",
            Self::Json(_) => "bad JSON",
            Self::Version(_) => "other version",
            Self::Mismatch(_) => "mismatch",
            Self::Limit { .. } => "over a limit",
            Self::Value(_) => "bad value",
            Self::Header(_) => "bad header",
            Self::Encoding => "bad encoding",
            Self::UnknownControl(_) => "unknown control",
        }
    }
}

/// Reads a body as `T`. A body of another version says so, even where its form has changed.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, WireError> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u64,
    }
    let text = std::str::from_utf8(body).map_err(|_| WireError::NotUtf8)?;
    serde_json::from_str(text).map_err(|error| match serde_json::from_str::<Versioned>(text) {
        Ok(Versioned { v }) if v != VERSION => WireError::Version(v),
        Ok(_) | Err(_) => {
            // The text quotes what a stranger sent, so it is kept short and escaped before it gets near a log.
            WireError::Json(error.to_string().chars().take(200).flat_map(char::escape_default).collect())
        }
    })
}

/// Checks what every body has: its version, and that it goes from and to whom its subject says.
fn check_head(version: u64, from: &NodeName, to: &NodeName, subject: &subject::Ends<'_>) -> Result<(), WireError> {
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    if subject.from.is_some_and(|name| name != from.as_str()) {
        return Err(WireError::Mismatch("fromNode"));
    }
    if to.as_str() != subject.to {
        return Err(WireError::Mismatch("toNode"));
    }
    Ok(())
}

/// Refuses what is above its limit.
pub(super) fn limit(what: &'static str, found: usize, max: usize) -> Result<(), WireError> {
    if found > max {
        return Err(WireError::Limit { what, found: found as u64, max: max as u64 });
    }
    Ok(())
}

/// Takes a number if it is within `max`.
fn number(what: &'static str, found: u64, max: u64) -> Result<u64, WireError> {
    if found > max { Err(WireError::Limit { what, found, max }) } else { Ok(found) }
}

/// `duration` in milliseconds, cut at the longest that others accept.
fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(DURATION_MS_MAX)
}

#[cfg(test)]
mod tests;
