//! Random numbers that a seed repeats: which requests fail. Never for secrets.

use std::sync::atomic::{AtomicU64, Ordering};

/// The step of splitmix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// splitmix64 behind one atomic, so that requests need no lock.
#[derive(Debug)]
pub struct Dice(AtomicU64);

impl Dice {
    /// The same seed throws the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// True for this share of the throws.
    pub fn hits(&self, share: f64) -> bool {
        f64::from(self.throw()) < share * 4_294_967_296.0
    }

    /// A number from the standard normal distribution, 7 at most.
    pub fn normal(&self) -> f64 {
        // Above 0, because of the logarithm.
        let [radius, angle] = [self.throw(), self.throw()].map(|bits| (f64::from(bits) + 0.5) / 4_294_967_296.0);
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// Thirty-two random bits.
    pub fn throw(&self) -> u32 {
        let mut bits = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        u32::try_from(bits >> 32).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_share_lies_within_five_deviations_of_the_binomial() {
        let throws = 100_000_u32;
        for share in [0.001, 0.02, 0.4, 0.9] {
            let dice = Dice::new(7);
            let hits: u32 = (0..throws).map(|_| u32::from(dice.hits(share))).sum();
            let expected = f64::from(throws) * share;
            let deviation = (expected * (1.0 - share)).sqrt();
            let off = (f64::from(hits) - expected).abs();
            assert!(off < 5.0 * deviation, "{share}: {hits} of {throws}");
        }
    }

    #[test]
    fn a_normal_number_has_the_mean_and_the_spread_of_its_kind() {
        let (throws, dice) = (100_000_u32, Dice::new(7));
        let numbers: Vec<f64> = (0..throws).map(|_| dice.normal()).collect();
        let mean = numbers.iter().sum::<f64>() / f64::from(throws);
        let square = numbers.iter().map(|number| number * number).sum::<f64>() / f64::from(throws);
        // Five standard deviations of either.
        assert!(mean.abs() < 0.016 && (square - 1.0).abs() < 0.023, "{mean} {square}");
    }

    #[test]
    fn never_and_always_are_exact() {
        let dice = Dice::new(1);
        assert!((0..10_000).all(|_| !dice.hits(0.0)));
        assert!((0..10_000).all(|_| dice.hits(1.0)));
    }

    #[test]
    fn a_seed_repeats_itself_and_another_does_not() {
        let throws = |seed| {
            let dice = Dice::new(seed);
            std::array::from_fn::<u32, 8, _>(|_| dice.throw())
        };
        assert_eq!(throws(3), throws(3));
        assert_ne!(throws(3), throws(4));
    }
}
