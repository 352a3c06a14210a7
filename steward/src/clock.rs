//! The one place that reads a clock. Everything else is given the time.

use std::time::{Duration, Instant, SystemTime};

use protocol::time::{Mono, Now, Wall};

use crate::crash_points;

/// Both clocks of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic side starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The monotonic time since the start, at full resolution.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// What the protocol is told.
    pub(crate) fn now(&self) -> Now {
        let mono = Mono(u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX));
        Now { mono, wall: wall() }
    }
}

/// The wall clock. A clock before 1970 reads as 1970.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn wall() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    Wall(millis.saturating_add_signed(crash_points::clock_offset_ms()))
}

/// `at` in RFC 3339, UTC, with milliseconds, as it stands in JSON.
pub(crate) fn rfc3339(at: Wall) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => "9999-12-31T23:59:59.999Z".to_owned(),
    }
}
