//! Many worlds, some at the same time, and what they add up to.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::audit::Audited;
use crate::timer::Timer;
use crate::world::{self, Outcome, Terms};

/// What came of one seed.
pub(crate) struct Told {
    /// The seed.
    pub(crate) seed: u64,
    /// The world, or why there is none.
    pub(crate) outcome: Result<Outcome, String>,
}

impl Told {
    /// Whether every promise was kept.
    pub(crate) fn is_fine(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|outcome| outcome.audited.wrong.is_empty())
    }
}

/// What is counted of the worlds in which a fault struck.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count {
    pub(crate) worlds: u64,
    pub(crate) strikes: u64,
    pub(crate) messages: u64,
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    pub(crate) other: u64,
}

/// What all worlds add up to.
#[derive(Default)]
pub(crate) struct Total {
    pub(crate) worlds: u64,
    pub(crate) failed: Vec<u64>,
    pub(crate) faults: BTreeMap<&'static str, Count>,
    pub(crate) skipped: BTreeMap<&'static str, String>,
    /// The counts of all audits.
    pub(crate) audited: Audited,
    pub(crate) longest: Duration,
    pub(crate) took: Duration,
}

impl Total {
    fn add(&mut self, told: &Told) {
        self.worlds += 1;
        if !told.is_fine() {
            self.failed.push(told.seed);
        }
        let Ok(outcome) = &told.outcome else { return };
        let audited = &outcome.audited;
        for (fault, strikes) in &outcome.struck {
            let count = self.faults.entry(fault).or_default();
            count.worlds += 1;
            count.strikes += strikes;
            count.messages += audited.messages;
            count.lost += audited.lost;
            count.twice += audited.twice;
            count.other += audited.other;
        }
        self.skipped.extend(outcome.skipped.iter().map(|(fault, why)| (*fault, why.clone())));
        self.audited.add(audited);
        self.longest = self.longest.max(outcome.settled_in);
    }
}

/// Which worlds.
#[derive(Debug, Clone)]
pub(crate) struct Seeds {
    /// One for each of these.
    pub(crate) range: Range<u64>,
    /// No more are begun after this time.
    pub(crate) limit: Option<Duration>,
    /// So many at the same time.
    pub(crate) jobs: usize,
}

/// What comes after a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next one.
    World,
    /// No more are begun.
    Nothing,
}

/// Runs worlds; tells each as it ends.
pub(crate) fn run(seeds: &Seeds, terms: &Terms, tell: &(impl Fn(&Told) -> Next + Sync)) -> Total {
    let timer = Timer::start();
    let (next, total) = (AtomicU64::new(seeds.range.start), Mutex::new(Total::default()));
    std::thread::scope(|scope| {
        for _ in 0..seeds.jobs {
            scope.spawn(|| {
                while seeds.limit.is_none_or(|limit| timer.elapsed() < limit) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.range.end {
                        return;
                    }
                    let told = one(seed, terms);
                    let after = tell(&told);
                    if let Ok(mut total) = total.lock() {
                        total.add(&told);
                    }
                    if after == Next::Nothing {
                        next.store(seeds.range.end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut total = total.into_inner().unwrap_or_default();
    total.failed.sort_unstable();
    total.took = timer.elapsed();
    total
}

/// One world. A panic in it, such as the harness's word for what did not happen in time, is a failure of this seed.
pub(crate) fn one(seed: u64, terms: &Terms) -> Told {
    let ran = std::panic::catch_unwind(|| world::run(seed, terms));
    let outcome = match ran {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(panic) => Err(format!("the world ended in a panic: {}", panic_text(&*panic))),
    };
    Told { seed, outcome }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no text)")
}

/// The folder of a world that was kept.
pub(crate) fn kept(told: &Told) -> Option<&PathBuf> {
    told.outcome.as_ref().ok()?.kept.as_ref()
}
