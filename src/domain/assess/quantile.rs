//! Quantiles of cumulative buckets, by linear interpolation as Prometheus does it.
//!
//! Role: the 95th percentile of counted requests. Inputs: bounds and counts at or below them. Outputs: a value and
//! whether it is only a lower bound. Must never import: other rooms.

use crate::domain::evidence::number::to_f64;

/// A quantile in the unit of the bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantile {
    /// The value.
    pub value: f64,
    /// The quantile lies beyond the last finite bound, and this is that bound.
    pub at_least: bool,
}

/// The `q` quantile of `total` events, of which `parts[i]` were at or below `bounds[i]`.
#[must_use]
pub fn quantile_ms(q: f64, bounds: &[f64], parts: &[u64], total: u64) -> Option<Quantile> {
    if total == 0 || bounds.is_empty() || bounds.len() != parts.len() {
        return None;
    }
    let rank = q.clamp(0.0, 1.0) * to_f64(total);
    let (mut lower, mut below) = (0.0, 0);
    for (bound, part) in bounds.iter().zip(parts) {
        // Counts of different series may disagree by a scrape; buckets never shrink.
        let count = (*part).clamp(below, total);
        if to_f64(count) >= rank && count > below {
            let share = (rank - to_f64(below)) / to_f64(count - below);
            // A negative or zero first bound leaves nothing to interpolate.
            let start = if lower == 0.0 && *bound <= 0.0 { *bound } else { lower };
            return Some(Quantile { value: start + (bound - start) * share.clamp(0.0, 1.0), at_least: false });
        }
        (lower, below) = (*bound, count);
    }
    bounds.last().map(|bound| Quantile { value: *bound, at_least: true })
}
