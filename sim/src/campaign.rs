//! Many seeds on all cores: one simulation a thread at a time. The first seed that fails, by its number, is what counts.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Options, Stats, check};

/// What came of many seeds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Seeds that were simulated, each twice.
    pub seeds: u64,
    /// What happened in all of them, once each; the longest of what has a longest.
    pub stats: Stats,
    /// The first seed that failed, with the rule that was broken and what happened.
    pub failed: Option<(u64, &'static str, String)>,
}

/// Simulates each of `seeds` until one fails or `more` says no, on as many threads as there are cores.
pub fn run(seeds: Range<u64>, options: &Options, more: impl Fn(&Tally) -> bool + Sync) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let tally = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = check(seed, options);
                    let mut tally = tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    tally.seeds += 1;
                    tally.stats.add(&outcome.stats);
                    if let Some((rule, text)) = outcome.wrong
                        && tally.failed.as_ref().is_none_or(|(first, ..)| seed < *first)
                    {
                        tally.failed = Some((seed, rule, text));
                    }
                    // Seeds are given out in order: those below a failed one are under way on other threads.
                    if tally.failed.is_some() || !more(&tally) {
                        next.fetch_max(seeds.end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}
