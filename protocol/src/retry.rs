//! How long to wait before the next attempt.

use std::time::Duration;

use crate::limits::{BACKOFF_MAX, BACKOFF_START, PROBES_A_SECOND_MAX};
use crate::rng::Rng;

/// The pause after `failures` probes in vain, with so many nodes that are waited for: doubling from [`BACKOFF_START`] to
/// [`BACKOFF_MAX`], or to what keeps to [`PROBES_A_SECOND_MAX`]; with jitter.
pub(crate) fn pause(failures: u32, waited_for: usize, rng: &mut Rng) -> Duration {
    let fair = Duration::from_secs(waited_for as u64 / PROBES_A_SECOND_MAX);
    rng.jitter(doubled(BACKOFF_START, failures, BACKOFF_MAX.max(fair)))
}

/// How long attempt number `attempt` (from 1) of a message without limit waits for its receipt: its own timeout first,
/// then doubling up to a minute (or the timeout, where that is longer), with jitter from the second on.
pub(crate) fn patience(timeout: Duration, attempt: u32, rng: &mut Rng) -> Duration {
    match attempt {
        0 | 1 => timeout,
        _ => rng.jitter(doubled(timeout, attempt - 1, BACKOFF_MAX.max(timeout))),
    }
}

/// `start`, doubled `times` times, at most `most`.
pub(crate) fn doubled(start: Duration, times: u32, most: Duration) -> Duration {
    start.saturating_mul(1 << times.min(16)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_never_leave_their_jitter() {
        let mut rng = Rng::new(7);
        for failures in 0..40 {
            let base = doubled(BACKOFF_START, failures, BACKOFF_MAX);
            let pause = pause(failures, 1, &mut rng);
            assert!(pause >= base.mul_f64(0.79) && pause <= base.mul_f64(1.21), "{failures}: {pause:?}");
        }
        // However many stay away, they cost no more than so many probes a second.
        for waited_for in [10_usize, 10_000, 200_000] {
            let pause = pause(30, waited_for, &mut rng);
            assert!(waited_for as f64 / pause.as_secs_f64() <= PROBES_A_SECOND_MAX as f64 * 1.26, "{pause:?}");
        }
        assert_eq!(patience(Duration::from_secs(3), 1, &mut rng), Duration::from_secs(3));
        assert!(patience(Duration::from_secs(120), 9, &mut rng) >= Duration::from_secs(96));
    }
}
