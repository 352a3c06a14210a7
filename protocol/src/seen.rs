//! What a receiver has seen of a lane, in memory that does not grow with the number of messages.

use std::collections::BTreeMap;

use crate::message::Seq;

/// The numbers of a lane that must never run again: all below the floor, and ranges above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    floor: Seq,
    /// First number of each range to its last; neither overlapping nor touching, all at or above the floor.
    ranges: BTreeMap<u64, u64>,
}

impl Seen {
    pub(crate) fn new(floor: Seq, ranges: &[(Seq, Seq)]) -> Self {
        let mut seen = Self { floor, ranges: BTreeMap::new() };
        for (first, last) in ranges {
            seen.insert(*first, *last);
        }
        seen
    }

    pub(crate) fn floor(&self) -> Seq {
        self.floor
    }

    /// How many ranges are kept.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn rows(&self) -> Vec<(Seq, Seq)> {
        self.ranges.iter().map(|(first, last)| (Seq(*first), Seq(*last))).collect()
    }

    pub(crate) fn contains(&self, seq: Seq) -> bool {
        seq < self.floor || self.ranges.range(..=seq.0).next_back().is_some_and(|(_, last)| seq.0 <= *last)
    }

    /// The last number of what is seen from `seq` on without a gap; none if `seq` is not.
    pub(crate) fn range_end(&self, seq: Seq) -> Option<Seq> {
        let range = self.ranges.range(..=seq.0.max(self.floor.0)).next_back();
        let end = range.map(|(_, last)| *last).filter(|last| seq.0.max(self.floor.0) <= *last);
        end.or_else(|| (seq < self.floor).then(|| self.floor.0 - 1)).map(Seq)
    }

    /// Whether all numbers from `first` to `last` are seen.
    pub(crate) fn covers(&self, first: Seq, last: Seq) -> bool {
        self.range_end(first).is_some_and(|end| end >= last)
    }

    /// Adds the numbers from `first` to `last`; nothing where `last` is before `first`.
    pub(crate) fn insert(&mut self, first: Seq, last: Seq) {
        let (mut first, mut last) = (first.0.max(self.floor.0), last.0);
        if last < first {
            return;
        }
        while let Some((before, end)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            let before = *before;
            first = first.min(before);
            last = last.max(*end);
            self.ranges.remove(&before);
        }
        self.ranges.insert(first, last);
    }

    /// Raises the floor to `floor`; never lowers it.
    pub(crate) fn raise(&mut self, floor: Seq) {
        if floor <= self.floor {
            return;
        }
        self.floor = floor;
        while let Some((first, last)) = self.ranges.first_key_value().map(|(first, last)| (*first, *last)) {
            if first >= floor.0 {
                break;
            }
            self.ranges.remove(&first);
            if last >= floor.0 {
                self.ranges.insert(floor.0, last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn ranges_hold_what_a_plain_set_holds() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut seen = Seen::new(Seq(0), &[]);
            let mut plain = BTreeSet::new();
            let mut floor = 0;
            for _ in 0..60 {
                let first = rng.next() % 80;
                match rng.next() % 5 {
                    0 => {
                        floor = floor.max(first / 2);
                        seen.raise(Seq(floor));
                    }
                    _ => {
                        let last = first + rng.next() % 4;
                        seen.insert(Seq(first), Seq(last));
                        plain.extend(first..=last);
                    }
                }
                for seq in 0..90 {
                    let expected = seq < floor || plain.contains(&seq);
                    assert_eq!(seen.contains(Seq(seq)), expected, "seed {seed}, number {seq}");
                    let unseen = |seq: &u64| *seq >= floor && !plain.contains(seq);
                    let end = expected.then(|| (seq..).find(unseen).unwrap_or(0) - 1);
                    assert_eq!(seen.range_end(Seq(seq)), end.map(Seq), "seed {seed}, number {seq}");
                }
                let rows = seen.rows();
                assert!(rows.windows(2).all(|pair| pair[0].1.0 + 1 < pair[1].0.0), "ranges touch: {rows:?}");
                assert_eq!(Seen::new(seen.floor(), &rows), seen);
            }
        }
    }
}
