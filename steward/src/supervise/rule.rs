//! When a task that has failed runs again, and when it has failed too often.

use std::collections::VecDeque;
use std::time::Duration;

/// When a kept task that has failed runs again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// The first pause; it doubles with each failure in a row.
    pub(crate) pause_first: Duration,
    /// The longest pause.
    pub(crate) pause_max: Duration,
    /// A run of at least this length was healthy: the pause begins anew.
    pub(crate) healthy: Duration,
    /// So many failures within `window`, and the task stays down.
    pub(crate) failures_max: usize,
    /// See `failures_max`.
    pub(crate) window: Duration,
    /// A task that is down, and that nobody could start from afar, is tried again after this time.
    pub(crate) rescue: Duration,
    /// A task that somebody stops may take so long to end by itself; then it is dropped where it stands.
    pub(crate) halt: Duration,
}

impl Rule {
    /// What holds for every task of a node; how many failures are too many is up to its operator (`--restart-limit`).
    pub(crate) const NODE: Self = Self {
        pause_first: Duration::from_millis(100),
        pause_max: Duration::from_secs(30),
        healthy: Duration::from_secs(60),
        failures_max: 10,
        window: Duration::from_secs(5 * 60),
        rescue: Duration::from_secs(10 * 60),
        halt: Duration::from_secs(5),
    };
}

/// The restart rule at work for one task. Times are those of one monotonic clock.
#[derive(Debug)]
pub(super) struct Failures {
    rule: Rule,
    recent: VecDeque<Duration>,
    pause: Duration,
}

impl Failures {
    pub(super) fn new(rule: Rule) -> Self {
        Self { rule, recent: VecDeque::new(), pause: rule.pause_first }
    }

    /// A run that began at `started` has failed at `now`: the pause before the next one, none if it stays down. After
    /// that all is forgotten, for whoever starts it again.
    pub(super) fn failed(&mut self, started: Duration, now: Duration) -> Option<Duration> {
        if now.saturating_sub(started) >= self.rule.healthy {
            self.pause = self.rule.pause_first;
        }
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|at| now.saturating_sub(*at) > self.rule.window) {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.rule.failures_max {
            *self = Self::new(self.rule);
            return None;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(self.rule.pause_max);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_begin_anew_after_health_and_end_when_failures_come_too_often() {
        let at = Duration::from_secs;
        let mut failures = Failures::new(Rule::NODE);
        for expected in [100, 200, 400, 800] {
            assert_eq!(failures.failed(at(0), at(1)), Some(Duration::from_millis(expected)));
        }
        assert_eq!(failures.failed(at(2), at(62)), Some(Duration::from_millis(100)), "after a minute of health");
        for _ in 0..4 {
            assert!(failures.failed(at(62), at(63)).is_some());
        }
        assert_eq!(failures.failed(at(63), at(64)), None, "the tenth within five minutes");
        let first = Some(Rule::NODE.pause_first);
        assert_eq!(failures.failed(at(64), at(65)), first, "what was down begins anew when it is started");

        let mut rare = Failures::new(Rule::NODE);
        for run in 0..100 {
            assert!(rare.failed(at(run * 40), at(run * 40 + 39)).is_some(), "one in 40 s is not too often");
        }
        assert_eq!(rare.pause, Rule::NODE.pause_max);
    }
}
