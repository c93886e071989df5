//! Which boundaries of a histogram say something about latency.
//!
//! Role: response times as shares of slow requests. Inputs: how many of all lay at or below each boundary before the
//! rollout. Outputs: up to three boundaries. Must never import: other rooms.

use super::Counts;

/// Shares of slower requests that are looked for.
const WANTED: [f64; 3] = [0.5, 0.1, 0.02];
/// A boundary with a smaller or larger share of slower requests is of no use.
const USEFUL: std::ops::RangeInclusive<f64> = 0.005..=0.6;

/// The indexes of up to `most` distinct boundaries whose share of slower requests is nearest to 50, 10 and 2 % in log.
/// `slower` holds, for each boundary, the requests that were slower.
#[must_use]
pub fn choose(slower: &[Counts], most: usize) -> Vec<usize> {
    let useful: Vec<(usize, f64)> = slower
        .iter()
        .enumerate()
        .filter_map(|(index, counts)| Some((index, counts.rate()?)))
        .filter(|(_, share)| USEFUL.contains(share))
        .collect();
    let mut chosen = Vec::new();
    // With one boundary only, 10 % is the one to have.
    let wanted: &[f64] = if most < WANTED.len() { &WANTED[1..=1] } else { &WANTED };
    for wanted in wanted.iter().take(most) {
        let distance = |share: f64| (share / wanted).ln().abs();
        let nearest = useful.iter().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
        if let Some((index, _)) = nearest
            && !chosen.contains(index)
        {
            chosen.push(*index);
        }
    }
    chosen.sort_unstable();
    chosen
}
