//! Evidence from values that go up and down.
//!
//! Role: bets on a lasting rise of a level or of a slope, as a normal mixture over its size; the onset is mixed as for
//! counts. No exact guarantee is possible, because successive values depend on each other: the scatter is measured before
//! the rollout and the allowed rise widened by it. Inputs: one difference a step. Outputs: increments for `Harm`. Must
//! never import: other rooms.

use super::{HARM_RATIOS, dispersion, geometric};
use crate::domain::evidence::number::to_f64;

/// The sizes bet on, in standard deviations a step.
const SIZES: (f64, f64) = (0.15, 3.0);
/// A single value counts as at most this many standard deviations.
const MOST: f64 = 3.0;
/// Values of one block; within a block values depend on each other.
const BLOCK: usize = 10;
/// One-sided 99 %.
const Z99: f64 = 2.33;
/// One-sided 99 % of Student's t for 1 to 10 degrees of freedom.
const T99: [f64; 10] = [31.82, 6.96, 4.54, 3.75, 3.36, 3.143, 3.0, 2.9, 2.82, 2.76];
/// A safety factor on the spread that was seen.
const MARGIN: f64 = 1.1;

/// A null hypothesis about a difference: its mean is at most `allowed`, and it scatters by `sigma` a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DriftTest {
    /// The rise that is still no harm.
    pub allowed: f64,
    /// Standard deviation of one step's difference.
    pub sigma: f64,
}

impl DriftTest {
    /// What one difference adds to ln L for each size, before the cap.
    #[must_use]
    pub fn increments(&self, difference: f64) -> [f64; HARM_RATIOS] {
        let z = ((difference - self.allowed) / self.sigma).clamp(-MOST, MOST);
        let sizes: [f64; HARM_RATIOS] = geometric(SIZES.0, SIZES.1);
        sizes.map(|size| if z.is_finite() { size * z - size * size / 2.0 } else { 0.0 })
    }
}

/// How a level scattered before the rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scatter {
    /// Standard deviation of a value within its block, inflated for dependence.
    pub within: f64,
    /// Standard deviation of lasting changes from block to block beyond that.
    pub between: f64,
    /// Standard deviation of the means of blocks, as they are.
    pub means: f64,
    /// How many blocks there were.
    pub blocks: usize,
}

impl Scatter {
    /// Measured over successive values of one series; `None` for fewer than two blocks.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let blocks: Vec<&[f64]> = values.chunks_exact(BLOCK).collect();
        if blocks.len() < 2 {
            return None;
        }
        let within = mean(blocks.iter().map(|block| variance(block)));
        let means: Vec<f64> = blocks.iter().map(|block| mean(block.iter().copied())).collect();
        let between = variance(&means);
        let block = to_f64(u64::try_from(BLOCK).unwrap_or(1));
        // Successive values that depend on each other carry less than their number says.
        let successive = mean(blocks.windows(2).filter_map(|pair| match pair {
            [a, b] => Some((mean(b.iter().copied()) - mean(a.iter().copied())).powi(2) / 2.0),
            _ => None,
        }));
        let long_run = within.max(successive * block);
        Some(Self {
            within: long_run.sqrt(),
            between: (between - long_run / block).max(0.0).sqrt(),
            means: between.sqrt(),
            blocks: blocks.len(),
        })
    }

    /// The allowed rise against another series at the same time, which shares some of the lasting changes: half, as long
    /// as nobody knows.
    #[must_use]
    pub fn widened_beside(&self, allowed: f64) -> f64 {
        if self.between > 0.0 { allowed.max(MARGIN.ln() + Z99 * self.between) } else { allowed }
    }

    /// The allowed rise against the past, widened by lasting changes. From few blocks these are not told from chance, and
    /// the next block is predicted to lie where 99 % would (Student's t).
    #[must_use]
    pub fn widened(&self, allowed: f64) -> f64 {
        let reach = if self.blocks < dispersion::BLOCKS {
            let degrees = self.blocks.saturating_sub(2).min(T99.len() - 1);
            T99.get(degrees).copied().unwrap_or(Z99) * self.against_past() * self.means
        } else {
            Z99 * std::f64::consts::SQRT_2 * self.between
        };
        allowed.max(MARGIN.ln() + reach)
    }

    /// By what the mean of the past is not known exactly, as a factor on a standard deviation.
    #[must_use]
    pub fn against_past(&self) -> f64 {
        (1.0 + 1.0 / to_f64(u64::try_from(self.blocks.max(1)).unwrap_or(1))).sqrt()
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    if count > 0.0 { sum / count } else { 0.0 }
}

fn variance(values: &[f64]) -> f64 {
    let centre = mean(values.iter().copied());
    let degrees = to_f64(u64::try_from(values.len().saturating_sub(1).max(1)).unwrap_or(1));
    values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / degrees
}
