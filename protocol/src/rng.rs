//! The node's own small source of choices (nonces, jitter): seeded from outside, so that a run can be repeated.

use std::time::Duration;

/// `SplitMix64` (Steele, Lea, Flood 2014). Not for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// `base`, give or take a fifth, so that many nodes don't act in the same instant.
    pub(crate) fn jitter(&mut self, base: Duration) -> Duration {
        base.mul_f64(0.8 + 0.4 * (self.next() % 1024) as f64 / 1024.0)
    }
}
