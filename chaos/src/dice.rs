//! Chance that a seed alone decides: Knuth's linear congruential generator, so that what a seed did can be done again.

/// Chance that is the same for the same seed.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// Dice for one purpose of many that have the same seed.
    pub fn of(seed: u64, purpose: u64) -> Self {
        let mut dice = Self(seed ^ purpose.wrapping_mul(0xA24B_AED4_963E_E407));
        // Neighbouring seeds look alike until they were stirred.
        for _ in 0..8 {
            dice.throw(2);
        }
        dice
    }

    /// A number from 0 to below `sides`, which is not 0.
    pub fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.throw(high - low + 1)
    }

    /// Whether something happens that happens so many times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.throw(100) < percent
    }

    /// An index below `len`, which is not 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.throw(len as u64)).unwrap_or(0)
    }

    /// One of these, of which there is at least one.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// A point in time or a pause, in milliseconds, both limits included.
    pub fn millis(&mut self, low: u64, high: u64) -> std::time::Duration {
        std::time::Duration::from_millis(self.between(low, high))
    }

    /// Dice for a part of the purpose of these, which go on independently.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        let seed = self.throw(u64::from(u32::MAX)) << 32 | self.throw(u64::from(u32::MAX));
        Self::of(seed, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_and_neighbours_differ() {
        let numbers = |seed| {
            let mut dice = Dice::of(seed, 7);
            (0..20).map(|_| dice.throw(1000)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(5), numbers(5));
        assert_ne!(numbers(5), numbers(6));
        let mut dice = Dice::of(1, 1);
        assert!((0..100).all(|_| (3..=5).contains(&dice.between(3, 5))));
        assert_ne!(dice.fork().throw(1 << 30), dice.fork().throw(1 << 30));
    }
}
