//! The mirror: evidence that the new revision is not worse than a bound.
//!
//! Role: certifies health. Inputs: counts a step. Outputs: ln E against "new share ≥ ratio × old share + excess"; no
//! onset, because it asks about the whole time so far. Must never import: other rooms.

use super::{Allowance, Counts, SAFETY_RATIOS, geometric, increments, ln_sum};

/// The grid, in multiples of the bound.
const GRID: (f64, f64) = (0.02, 0.75);
/// The share of ln(1/β) that one step can add.
const CAP: f64 = 0.5;

/// A bound that health is shown to stay below.
#[derive(Debug, Clone, PartialEq)]
pub struct SafetyTest {
    bound: Allowance,
    phi: f64,
    cap: f64,
    ratios: [f64; SAFETY_RATIOS],
}

impl SafetyTest {
    /// Tests "new share ≥ ratio × old share + excess" at level `beta`.
    #[must_use]
    pub fn new(bound: Allowance, phi: f64, beta: f64) -> Self {
        let ratios = geometric(GRID.0 * bound.ratio, GRID.1 * bound.ratio);
        Self { bound, phi: phi.max(1.0), cap: -CAP * beta.ln(), ratios }
    }

    /// What one pair of counts adds to ln L for each ratio, before the cap.
    #[must_use]
    pub fn increments(&self, new: Counts, old: Counts) -> [f64; SAFETY_RATIOS] {
        increments(&self.ratios, self.bound, self.phi, new, old)
    }

    /// The most one step can add.
    #[must_use]
    pub const fn cap(&self) -> f64 {
        self.cap
    }
}

/// The evidence of health so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Safety {
    /// ln L for each ratio.
    pub ln_wealth: [f64; SAFETY_RATIOS],
}

impl Safety {
    /// One more step.
    pub fn step(&mut self, cap: f64, increments: &[f64; SAFETY_RATIOS]) {
        for (wealth, increment) in self.ln_wealth.iter_mut().zip(increments) {
            *wealth += increment.min(cap);
        }
    }

    /// ln E.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        ln_sum(&self.ln_wealth) - f64::ln(super::steps_between(SAFETY_RATIOS + 1))
    }
}
