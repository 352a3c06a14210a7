//! Time as the protocol sees it: passed in, never read.

use std::time::Duration;

/// A point on the node's own monotonic clock, in milliseconds since an arbitrary start. Never jumps, never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// This point and `duration` more, at millisecond resolution; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A point on the wall clock, in milliseconds since the Unix epoch in UTC. May jump either way: only deadlines and what
/// is shown to people use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Wall(pub u64);

/// Both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For timers.
    pub mono: Mono,
    /// For deadlines and for people.
    pub wall: Wall,
}
