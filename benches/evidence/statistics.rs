//! Limits, quantiles and the bound that no rule can beat.

use deployment_guard::domain::evidence::number::to_f64;
use deployment_guard::domain::process::Allowance;

/// Two-sided 95 % of the normal distribution.
const Z95: f64 = 1.959_964;

/// The 95 % limits of a share (Wilson 1927).
pub fn limits(hits: u64, of: u64) -> (f64, f64) {
    let n = to_f64(of.max(1));
    let share = to_f64(hits) / n;
    let z2 = Z95 * Z95;
    let centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z95 / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// The value that a share `q` of all runs does not exceed; `None` if it is among those that never came to an end.
pub fn quantile(delays: &[Option<u32>], q: f64) -> Option<u32> {
    let mut sorted: Vec<u32> = delays.iter().map(|delay| delay.unwrap_or(u32::MAX)).collect();
    sorted.sort_unstable();
    let all = to_f64(u64::try_from(sorted.len()).unwrap_or(0));
    let index = sorted.iter().scan(0.0, |rank, _| {
        *rank += 1.0;
        Some(*rank)
    });
    let index = index.take_while(|rank| *rank < q * all).count();
    sorted.get(index).copied().filter(|delay| *delay < u32::MAX)
}

/// Rates and requests a step of both sides.
#[derive(Clone, Copy)]
pub struct Pair {
    pub new_rate: f64,
    pub old_rate: f64,
    pub new_total: f64,
    pub old_total: f64,
}

/// Steps that any test at level `alpha` of the composite null needs, in expectation, even one that knows both true rates:
/// ln(1/α) divided by the information of a step against the nearest point of the null. With rates λ = n·p of both streams
/// and D(p‖q) = p ln(p/q) − p + q (events are rare: Poisson), the information is
/// min over `q_b` of `n_c` D(`p_c` ‖ ratio·`q_b` + excess) + `n_b` D(`p_b` ‖ `q_b`).
pub fn two_stream_bound(pair: Pair, null: Allowance, alpha: f64) -> f64 {
    let divergence = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() - p + q } else { q };
    let information = |q: f64| {
        pair.new_total * divergence(pair.new_rate, null.ratio * q + null.excess)
            + pair.old_total * divergence(pair.old_rate, q)
    };
    // Convex in q: golden section.
    let (mut low, mut high) = (1e-9, 1.0);
    let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
    for _ in 0..200 {
        let (a, b) = (high - golden * (high - low), low + golden * (high - low));
        if information(a) < information(b) { high = b } else { low = a }
    }
    -alpha.ln() / information(f64::midpoint(low, high))
}
