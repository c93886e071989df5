//! Evidence that the new revision is worse than allowed.
//!
//! Role: one-sided, capped a step, mixed over rate ratios and over the step at which the harm began. Inputs: counts a
//! step. Outputs: ln E, whose chance of ever reaching 1/α is at most α while the null holds. Must never import: other
//! rooms.

use super::{Allowance, Counts, HARM_RATIOS, geometric, increments, ln_sum};

/// The largest ratio of the grid, in multiples of the allowed one.
pub const TOP: f64 = 60.0;
/// The smallest ratio of the grid, in multiples of the allowed one.
const LEAST: f64 = 1.25;
/// No single step may decide: the share of ln(1/α) that one step can add.
const CAP: f64 = 0.75;

/// A null hypothesis and the alternatives bet on.
#[derive(Debug, Clone, PartialEq)]
pub struct HarmTest {
    null: Allowance,
    phi: f64,
    cap: f64,
    ratios: [f64; HARM_RATIOS],
}

impl HarmTest {
    /// Tests "new share ≤ ratio × old share + excess" where events come in clusters of at most `phi`, at level `alpha`.
    #[must_use]
    pub fn new(null: Allowance, phi: f64, alpha: f64) -> Self {
        Self::with_top(null, phi, alpha, TOP)
    }

    /// As [`HarmTest::new`], with another largest ratio, in multiples of the allowed one.
    #[must_use]
    pub fn with_top(null: Allowance, phi: f64, alpha: f64, top: f64) -> Self {
        let ratios = geometric(LEAST * null.ratio, top * null.ratio);
        Self { null, phi: phi.max(1.0), cap: -CAP * alpha.ln(), ratios }
    }

    /// What one pair of counts adds to ln L for each ratio, before the cap; nothing if a side has no events.
    #[must_use]
    pub fn increments(&self, new: Counts, old: Counts) -> [f64; HARM_RATIOS] {
        increments(&self.ratios, self.null, self.phi, new, old)
    }

    /// The most one step can add.
    #[must_use]
    pub const fn cap(&self) -> f64 {
        self.cap
    }
}

/// How the bets are spread over the step at which harm may begin; fixed before the first step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Onset {
    /// The mass on the first step.
    pub start_mass: f64,
    /// Steps over which the rest is spread evenly, the first included.
    pub steps: u32,
}

impl Onset {
    /// What is left after so many steps, to the bit.
    #[must_use]
    pub fn left_after(self, steps: u32) -> f64 {
        // Beyond the last step nothing more is bet.
        (1..=steps.min(self.steps.max(1))).fold(1.0, |left, step| left - self.mass(step, left))
    }

    /// The mass that a step gets, out of what is left.
    fn mass(self, step: u32, left: f64) -> f64 {
        let share = if step == 1 {
            self.start_mass
        } else if step <= self.steps {
            (1.0 - self.start_mass) / f64::from(self.steps.saturating_sub(1).max(1))
        } else {
            0.0
        };
        share.min(left)
    }
}

/// The evidence so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Harm {
    /// ln W for each ratio: what was bet and what came of it.
    pub ln_wealth: [f64; HARM_RATIOS],
    /// Steps so far.
    pub steps: u32,
    /// Mass not yet bet.
    pub left: f64,
}

impl Default for Harm {
    fn default() -> Self {
        Self { ln_wealth: [f64::NEG_INFINITY; HARM_RATIOS], steps: 0, left: 1.0 }
    }
}

impl Harm {
    /// One more step with these increments (of one pair of counts, or summed over independent strata).
    pub fn step(&mut self, onset: Onset, cap: f64, increments: &[f64; HARM_RATIOS]) {
        self.steps = self.steps.saturating_add(1);
        let mass = onset.mass(self.steps, self.left);
        self.left -= mass;
        for (wealth, increment) in self.ln_wealth.iter_mut().zip(increments) {
            *wealth = ln_sum(&[*wealth, mass.ln()]) + increment.min(cap);
        }
    }

    /// ln E.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        let each = -f64::ln(super::steps_between(HARM_RATIOS + 1));
        let mut parts = [self.left.max(0.0).ln(); HARM_RATIOS + 1];
        for (part, wealth) in parts.iter_mut().zip(&self.ln_wealth) {
            *part = wealth + each;
        }
        ln_sum(&parts)
    }
}
