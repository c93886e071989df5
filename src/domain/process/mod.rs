//! Evidence that may be looked at after every step: products of likelihood ratios that are fair bets under the null.
//!
//! Role: the two e-processes of a signal, one against "not worse" and its mirror, and what widens them: bursts and
//! lasting differences. Inputs: counts of both sides, step by step. Outputs: ln E. Sources: Ville (1939), Robbins (1970),
//! Grünwald, de Heide and Koolen (2024) on safe testing. Must never import: other rooms.

mod dispersion;
mod gauge;
mod harm;
mod safety;
mod tail;

use serde::{Deserialize, Serialize};

pub use dispersion::{phi_between_pods, phi_over_time, spread_between_pods, spread_over_time, widened};
pub use gauge::{DriftTest, Scatter};
pub use harm::{Harm, HarmTest, Onset};
pub use safety::{Safety, SafetyTest};
pub use tail::choose as choose_boundaries;

/// Rate ratios of a harm test.
pub const HARM_RATIOS: usize = 12;
/// Rate ratios of a safety test.
pub const SAFETY_RATIOS: usize = 8;

/// Bad events of all events, on one side and in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Bad events; never more than `total`.
    pub bad: u64,
    /// All events.
    pub total: u64,
}

impl Counts {
    /// Bad of all; what is beyond the total is cut off, because counters of two scrapes may disagree by a request.
    #[must_use]
    pub const fn new(bad: u64, total: u64) -> Self {
        Self { bad: if bad < total { bad } else { total }, total }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { bad: self.bad.saturating_add(other.bad), total: self.total.saturating_add(other.total) }
    }

    /// The share of bad events, if there were any events.
    #[must_use]
    pub fn rate(self) -> Option<f64> {
        use super::evidence::number::to_f64;
        (self.total > 0).then(|| to_f64(self.bad) / to_f64(self.total))
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Self::plus)
    }
}

/// What a rise may be before it counts: new share ≤ `ratio` × old share + `excess`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// Times the old share; at least 1.
    pub ratio: f64,
    /// On top, as a share of all events.
    pub excess: f64,
}

/// ln(Σ eˣ) without overflow; −∞ for nothing.
#[must_use]
pub fn ln_sum(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    most + values.iter().map(|value| (value - most).exp()).sum::<f64>().ln()
}

/// `count` ratios from `least` to `most`, each the same multiple of the one before.
fn geometric<const COUNT: usize>(least: f64, most: f64) -> [f64; COUNT] {
    let step = (most / least).ln() / steps_between(COUNT);
    let mut ratios = [0.0; COUNT];
    let mut index = 0.0;
    for ratio in &mut ratios {
        *ratio = least * f64::exp(step * index);
        index += 1.0;
    }
    ratios
}

fn steps_between(count: usize) -> f64 {
    super::evidence::number::to_f64(u64::try_from(count.saturating_sub(1).max(1)).unwrap_or(u64::MAX))
}

/// Per step, what each ratio `r` of a grid adds to ln L. Written without differences of near-equal numbers: with
/// `s = ln((r0 n_c + n_b) / (r n_c + n_b))`, `ln A = ln(r / r0) + s`, `ln B = s` and
/// `A - 1 = n_b (r - r0) / (r0 (r n_c + n_b))`.
fn increments<const COUNT: usize>(
    ratios: &[f64; COUNT],
    null: Allowance,
    phi: f64,
    new: Counts,
    old: Counts,
) -> [f64; COUNT] {
    use super::evidence::number::to_f64;
    let mut found = [0.0; COUNT];
    if new.total == 0 || old.total == 0 {
        return found;
    }
    let (x_c, n_c, x_b, n_b) = (to_f64(new.bad), to_f64(new.total), to_f64(old.bad), to_f64(old.total));
    for (found, r) in found.iter_mut().zip(ratios) {
        let all = r * n_c + n_b;
        let shrink = (-(r - null.ratio) * n_c / all).ln_1p();
        let a_minus_1 = n_b * (r - null.ratio) / (null.ratio * all);
        *found = (x_c * ((r / null.ratio).ln() + shrink) + x_b * shrink - n_c * null.excess * a_minus_1) / phi;
    }
    found
}

#[cfg(test)]
mod tests;
