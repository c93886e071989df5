//! The new revision's signatures against the old one's.
//!
//! Role: says what is new, what became more, and what both have. Inputs: a tally of each side and how long its pods were
//! looked at. Outputs: findings, the most telling first; they are no evidence. Must never import: other rooms.

use std::cmp::Reverse;

use super::severity::Severity;
use super::tally::{Counted, Key, Tally};
use crate::domain::evidence::number::to_f64;
use crate::domain::finding::{Finding, Novelty, Source};
use crate::domain::outcome::FailureClass;

/// Findings, at most.
pub const MOST_FINDINGS: usize = 16;
/// How many times as often makes more.
const TIMES: f64 = 4.0;
/// How unlikely it must be by chance. Errors come in bursts, so this is no promise, only a sieve.
const CHANCE: f64 = 1e-3;

/// How long the pods of each side were looked at, added up, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposure {
    /// Of the new revision.
    pub new_pod_seconds: f64,
    /// Of the old revision.
    pub old_pod_seconds: f64,
}

/// Compares. `old` is `None` if there are no pods of the old revision to look at.
#[must_use]
pub fn findings(new: &Tally, old: Option<&Tally>, exposure: Exposure) -> Vec<Finding> {
    let mut found: Vec<_> = new
        .counts()
        .iter()
        .map(|(key, counted)| {
            let (novelty, before) = against(key, counted, old, exposure);
            (counted, finding(key, counted, novelty, before))
        })
        .collect();
    found.sort_by_key(|(counted, finding)| {
        let telling = counted.issue.is_some() || counted.severity == Severity::Fatal;
        (finding.novelty, Reverse(telling), Reverse(counted.severity), Reverse(counted.count))
    });
    found.into_iter().map(|(_, finding)| finding).take(MOST_FINDINGS).collect()
}

fn against(key: &Key, counted: &Counted, old: Option<&Tally>, exposure: Exposure) -> (Novelty, Option<u64>) {
    let Some(old) = old else { return (Novelty::Unknown, None) };
    if let Some(before) = old.counts().get(key).map(|counted| counted.count) {
        let share = exposure.new_pod_seconds / (exposure.new_pod_seconds + exposure.old_pod_seconds);
        let novelty = if exposure.old_pod_seconds <= 0.0 || !share.is_finite() || share <= 0.0 {
            Novelty::Unknown
        } else if is_more(counted.count, before, share) {
            Novelty::More
        } else {
            Novelty::Known
        };
        return (novelty, Some(before));
    }
    // A container that only the new revision has was not there to be read; one that could not be read is another thing.
    let was_read = old.volumes().contains_key(&key.container);
    if old.volumes().is_empty() || old.overflow() > 0 || (!was_read && !old.unreadable().is_empty()) {
        (Novelty::Unknown, None)
    } else {
        (Novelty::New, Some(0))
    }
}

fn finding(key: &Key, counted: &Counted, novelty: Novelty, old: Option<u64>) -> Finding {
    let (issue, suggested_fix, class) = match &counted.issue {
        Some(issue) => (issue.name.clone(), issue.suggested_fix.clone(), issue.class),
        None => (format!("logged {}", counted.severity), String::new(), FailureClass::Other),
    };
    Finding {
        source: Source::Logs { container: key.container.clone() },
        issue,
        context: counted.example.clone(),
        suggested_fix,
        service: counted.service.clone(),
        class,
        new: counted.count,
        old,
        novelty,
    }
}

/// Whether the rate on the new side is clearly higher. `share`: the new side's share of the time.
fn is_more(new: u64, old: u64, share: f64) -> bool {
    let times = to_f64(new) * (1.0 - share) / (to_f64(old) * share);
    times >= TIMES && at_least(new, new.saturating_add(old), share) < CHANCE
}

/// The chance that of `n` at least `k` fall on one side whose share is `p`: the exact binomial tail.
#[must_use]
pub fn at_least(k: u64, n: u64, p: f64) -> f64 {
    let (k, n) = (to_f64(k), to_f64(n));
    if k <= n * p {
        return 1.0;
    }
    if p >= 1.0 {
        return 1.0;
    }
    let odds = p / (1.0 - p);
    let mut term =
        (ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k) + k * p.ln() + (n - k) * (1.0 - p).ln()).exp();
    let (mut sum, mut at) = (0.0, k);
    // Beyond the mean every term is smaller than the one before it by a growing factor.
    while at <= n && term > sum * 1e-12 {
        sum += term;
        term *= (n - at) / (at + 1.0) * odds;
        at += 1.0;
    }
    sum.min(1.0)
}

/// `ln n!`: summed for small numbers, Stirling's series for the others (error below 1e-12).
fn ln_factorial(n: f64) -> f64 {
    if n < 32.0 {
        let (mut sum, mut at) = (0.0, 2.0);
        while at <= n {
            sum += f64::ln(at);
            at += 1.0;
        }
        return sum;
    }
    let inverse = 1.0 / n;
    n.mul_add(n.ln(), -n) + 0.5 * (std::f64::consts::TAU * n).ln() + inverse / 12.0 - inverse.powi(3) / 360.0
        + inverse.powi(5) / 1260.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_exact_binomial_one() {
        assert!((at_least(8, 10, 0.5) - 56.0 / 1024.0).abs() < 1e-12);
        assert!((at_least(1, 1, 0.25) - 0.25).abs() < 1e-12);
        assert!((at_least(3, 3, 0.1) - 0.001).abs() < 1e-12);
        assert!((at_least(0, 5, 0.3) - 1.0).abs() < 1e-12);
        assert!(at_least(40_000, 50_000, 0.5) < 1e-300);
        assert!((ln_factorial(32.0) - (2..=32).map(|n| f64::from(n).ln()).sum::<f64>()).abs() < 1e-11);
    }
}
