//! What was seen before: keeps a recording from being played again, in bounded memory.
//!
//! Asked only about what is not addressed to this very process (that is fresh by construction). Such a thing is taken if
//! it was signed at most [`WINDOW`] from our time, after this process started, and was not seen before. Where more of one
//! key is seen than is remembered, what is older than all that is remembered counts as seen.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use protocol::time::Wall;

use super::keys::PublicKey;

/// How far the clocks of two nodes may be apart, and how long a publish may be on its way.
pub(crate) const WINDOW: Duration = Duration::from_secs(300);

/// Publishes of one key that are remembered. With more of them within the window, older ones than those count as seen:
/// of a key that sends a thousand a second, what is later than eight seconds is refused.
const PER_KEY_MAX: usize = 8192;

/// Publishes that are remembered of all keys together, beside one of each (30 bytes each). With more, each key's own
/// oldest go as new ones come.
const ALL_MAX: usize = 262_144;

/// Why something is not fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    /// Signed so long ago, by our clock.
    Old(Duration),
    /// Signed so far in the future, by our clock.
    Future(Duration),
    /// Signed before this process started.
    BeforeStart,
    /// Seen before.
    Seen,
}

/// What was seen. One for each process; a new one remembers nothing, and takes nothing from before its time.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    keys: HashMap<PublicKey, OfKey>,
    all: usize,
    swept: Wall,
}

#[derive(Debug, Default)]
struct OfKey {
    /// What was signed at or before this counts as seen.
    floor: Option<Wall>,
    seen: BTreeSet<(Wall, u128)>,
}

impl Replays {
    /// Whether this is fresh; from then on it is not. `mark` tells one publish from all others, `started` is when this
    /// process started.
    pub(crate) fn fresh(
        &mut self,
        key: &PublicKey,
        at: Wall,
        mark: u128,
        now: Wall,
        started: Wall,
    ) -> Result<(), Stale> {
        let apart = |later: Wall, earlier: Wall| Duration::from_millis(later.0.saturating_sub(earlier.0));
        if apart(now, at) > WINDOW {
            return Err(Stale::Old(apart(now, at)));
        }
        if apart(at, now) > WINDOW {
            return Err(Stale::Future(apart(at, now)));
        }
        if at < started {
            return Err(Stale::BeforeStart);
        }
        self.sweep(now);
        let of_key = self.keys.entry(*key).or_default();
        if of_key.floor.is_some_and(|floor| at <= floor) || !of_key.seen.insert((at, mark)) {
            return Err(Stale::Seen);
        }
        self.all += 1;
        while of_key.seen.len() > PER_KEY_MAX || (self.all > ALL_MAX && of_key.seen.len() > 1) {
            if let Some((at, _)) = of_key.seen.pop_first() {
                of_key.floor = Some(at);
                self.all -= 1;
            }
        }
        Ok(())
    }

    /// Forgets what is too old to be taken anyway, now and then.
    fn sweep(&mut self, now: Wall) {
        let half = u64::try_from(WINDOW.as_millis() / 2).unwrap_or(u64::MAX);
        if now.0.abs_diff(self.swept.0) < half {
            return;
        }
        self.swept = now;
        let end = Wall(now.0.saturating_sub(2 * half));
        self.keys.retain(|_, of_key| {
            of_key.seen = of_key.seen.split_off(&(end, 0));
            !of_key.seen.is_empty() || of_key.floor.is_some_and(|floor| floor >= end)
        });
        self.all = self.keys.values().map(|of_key| of_key.seen.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::{KeyKind, KeyPair};
    use super::*;

    const NOW: Wall = Wall(1_795_363_200_000);

    fn key() -> PublicKey {
        KeyPair::generate(KeyKind::User).unwrap().public()
    }

    fn at(seconds: i64) -> Wall {
        Wall(NOW.0.saturating_add_signed(seconds * 1000))
    }

    #[test]
    fn something_is_fresh_once_and_within_the_window() {
        let (mut replays, key, start) = (Replays::default(), key(), at(-1000));
        assert_eq!(replays.fresh(&key, at(-300), 1, NOW, start), Ok(()));
        assert_eq!(replays.fresh(&key, at(-300), 1, NOW, start), Err(Stale::Seen));
        assert_eq!(replays.fresh(&key, at(-300), 2, NOW, start), Ok(()));
        assert_eq!(replays.fresh(&key, at(300), 1, NOW, start), Ok(()));
        assert_eq!(replays.fresh(&key, at(-301), 3, NOW, start), Err(Stale::Old(Duration::from_secs(301))));
        assert_eq!(replays.fresh(&key, at(301), 3, NOW, start), Err(Stale::Future(Duration::from_secs(301))));
    }

    #[test]
    fn what_was_signed_before_the_start_is_not_taken() {
        let (mut replays, key) = (Replays::default(), key());
        assert_eq!(replays.fresh(&key, at(-2), 1, NOW, at(-1)), Err(Stale::BeforeStart));
        assert_eq!(replays.fresh(&key, at(-1), 1, NOW, at(-1)), Ok(()));
    }

    /// Whatever is forgotten is too old to be taken again.
    #[test]
    fn nothing_is_fresh_again_after_it_was_forgotten() {
        let (mut replays, another, key) = (Replays::default(), key(), key());
        assert_eq!(replays.fresh(&key, at(299), 1, NOW, at(-1000)), Ok(()));
        for later in (0..1200).step_by(10) {
            let again = replays.fresh(&key, at(299), 1, at(later), at(-1000));
            assert!(again.is_err(), "{later}: {again:?}");
        }
        let (now, other) = (at(1200), another);
        assert_eq!(replays.fresh(&other, now, 1, now, at(-1000)), Ok(()));
        assert_eq!((replays.all, replays.keys.len()), (1, 1), "what is too old takes no room");
    }

    #[test]
    fn a_flood_of_one_key_takes_bounded_room_and_is_never_taken_twice() {
        let (mut replays, quiet, key) = (Replays::default(), key(), key());
        assert_eq!(replays.fresh(&quiet, at(-200), 1, NOW, at(-1000)), Ok(()));
        let marks = PER_KEY_MAX as u64 * 2;
        for mark in 0..marks {
            assert_eq!(replays.fresh(&key, Wall(at(-250).0 + mark), u128::from(mark), NOW, at(-1000)), Ok(()));
        }
        assert_eq!(replays.all, PER_KEY_MAX + 1);
        for mark in (0..marks).step_by(97) {
            let again = replays.fresh(&key, Wall(at(-250).0 + mark), u128::from(mark), NOW, at(-1000));
            assert_eq!(again, Err(Stale::Seen), "{mark}");
        }
        assert_eq!(replays.fresh(&quiet, at(-220), 2, NOW, at(-1000)), Ok(()), "others don't suffer");
    }
}
