//! Keeps strangers from filling the log: what is dropped is counted always, and logged once per kind, peer and minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// How long the same thing about the same peer stays silent.
const SILENCE: Duration = Duration::from_secs(60);

/// Kinds and peers that are remembered. A stranger can make up names; beyond this many, all of it stays silent until
/// the oldest are forgotten.
const REMEMBERED_MAX: usize = 256;

/// What was logged lately.
#[derive(Debug)]
pub(crate) struct Noise {
    clock: Clock,
    last: Mutex<HashMap<(&'static str, String), Duration>>,
}

impl Noise {
    /// Nothing was logged yet.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, last: Mutex::default() }
    }

    /// Whether this is worth a line now.
    pub(crate) fn worth_a_line(&self, kind: &'static str, peer: &str) -> bool {
        let now = self.clock.elapsed();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= REMEMBERED_MAX {
            last.retain(|_, at| now.saturating_sub(*at) < SILENCE);
        }
        let peer: String = peer.chars().take(64).collect();
        let key = (kind, peer);
        let known = last.get(&key).is_some_and(|at| now.saturating_sub(*at) < SILENCE);
        if known || (last.len() >= REMEMBERED_MAX && !last.contains_key(&key)) {
            return false;
        }
        last.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_is_said_once_and_strangers_cannot_fill_the_memory() {
        let noise = Noise::new(Clock::start());
        assert!(noise.worth_a_line("mismatch", "ship1"));
        assert!(!noise.worth_a_line("mismatch", "ship1"));
        assert!(noise.worth_a_line("mismatch", "ship2"));
        let lines = (0..10_000).filter(|name| noise.worth_a_line("bad JSON", &name.to_string())).count();
        assert!(lines <= REMEMBERED_MAX);
    }
}
