//! Chance that can be repeated: SplitMix64, so that a seed alone decides everything. Never the system's randomness.

/// A source of numbers that depends on its seed only.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// A source for `seed`; `stream` keeps sources of one seed apart.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(seed ^ stream.wrapping_mul(0xA24B_AED4_963E_E407));
        rng.next();
        rng
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // The high half of the product has next to no bias for the small ranges that are used here.
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// An index below `len`; `len` is not 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A number from `low` to `high` of which small ones are as likely as large ones on a logarithmic scale.
    pub(crate) fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let bits = self.between(0, 63 - (high - low + 1).leading_zeros() as u64);
        low + self.below((1 << bits).min(high - low) + 1)
    }

    /// Whether something happens that happens `rate` times in 10,000. A rate of 0 leaves the source as it is.
    pub(crate) fn chance(&mut self, rate: u32) -> bool {
        rate > 0 && self.below(10_000) < u64::from(rate)
    }

    /// As [`Rng::chance`], but the source goes on in the same way whatever the rate is.
    pub(crate) fn roll(&mut self, rate: u32) -> bool {
        self.below(10_000) < u64::from(rate)
    }

    /// One in two.
    pub(crate) fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    /// One of `choices`; not empty.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}

/// A number whose bits depend on all bits of `x`.
pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_each_in_its_range() {
        let (mut one, mut two) = (Rng::new(7, 1), Rng::new(7, 1));
        for _ in 0..1000 {
            assert_eq!(one.next(), two.next());
            let number = one.between(3, 9);
            assert!((3..=9).contains(&number) && number == two.between(3, 9));
            assert!((1..=100).contains(&one.skewed(1, 100)));
            two.skewed(1, 100);
        }
        assert_ne!(Rng::new(7, 1).next(), Rng::new(7, 2).next());
    }
}
