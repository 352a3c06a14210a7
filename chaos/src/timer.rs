//! How long a world has been there, and waiting for a point of that time.

use std::time::{Duration, Instant};

/// Time since the world began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timer(Instant);

impl Timer {
    /// Begins now.
    #[expect(clippy::disallowed_methods, reason = "the world is real, and so is its time")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// How long it has been.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Waits until it has been so long.
    pub(crate) fn wait_until(&self, at: Duration) {
        while let Some(left) = at.checked_sub(self.elapsed()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
    }
}
