//! How much more than independent events the counts scatter, measured before a rollout.
//!
//! Role: φ (bursts) and τ (lasting differences between pods or stretches of time), each with its uncertainty on the safe
//! side. Inputs: counts of the old revision. Outputs: factors of at least 1. Must never import: other rooms.

use super::Counts;
use crate::domain::evidence::number::to_f64;

/// One-sided 95 % of the normal distribution.
const Z95: f64 = 1.64;
/// One-sided 99 %.
const Z99: f64 = 2.33;
/// Below this many effective events φ is not believed to be small.
const FEW_EVENTS: f64 = 10.0;
/// What φ is then at least.
pub const UNSURE: f64 = 1.5;
/// Bad events a pod must have for its own rate to say something.
const EVENTS_A_POD: u64 = 5;
/// Steps of one block of history.
const BLOCK: usize = 10;
/// Fewer blocks say nothing about lasting changes.
pub(crate) const BLOCKS: usize = 12;
/// The allowance for history that is too short to know its own changes.
const SHORT_HISTORY_RATIO: f64 = 2.0;
/// A safety factor on the spread that was seen.
const MARGIN: f64 = 1.1;

/// φ from pods that served side by side: each step holds the counts of the pods. `None` if no step had two pods and an
/// event.
#[must_use]
pub fn phi_between_pods<'a>(steps: impl IntoIterator<Item = &'a [Counts]>) -> Option<f64> {
    let (mut weighted, mut events, mut freedom) = (0.0, 0.0, 0.0);
    for pods in steps {
        let serving: Vec<&Counts> = pods.iter().filter(|counts| counts.total > 0).collect();
        let all: Counts = serving.iter().map(|counts| **counts).sum();
        if serving.len() < 2 || all.bad == 0 {
            continue;
        }
        let degrees = length(serving.len()) - 1.0;
        let expected = |counts: &Counts| to_f64(counts.total) * to_f64(all.bad) / to_f64(all.total);
        let q: f64 =
            serving.iter().map(|counts| (to_f64(counts.bad) - expected(counts)).powi(2) / expected(counts)).sum();
        weighted += to_f64(all.bad) * q / degrees;
        events += to_f64(all.bad);
        freedom += degrees;
    }
    (events > 0.0).then(|| upper(weighted / events, freedom, events))
}

/// φ from one series: the successive differences of its rate. `None` without two steps and an event.
#[must_use]
pub fn phi_over_time(steps: &[Counts]) -> Option<f64> {
    let serving: Vec<Counts> = steps.iter().copied().filter(|counts| counts.total > 0).collect();
    let all: Counts = serving.iter().copied().sum();
    let rate = all.rate().filter(|rate| *rate > 0.0)?;
    let share = |counts: &Counts| to_f64(counts.bad) / to_f64(counts.total);
    let squares: Vec<f64> = serving
        .windows(2)
        .filter_map(|pair| {
            let [before, after] = pair else { return None };
            let noise = rate * (1.0 / to_f64(after.total) + 1.0 / to_f64(before.total));
            Some((share(after) - share(before)).powi(2) / noise)
        })
        .collect();
    if squares.is_empty() {
        return None;
    }
    let with_events = length(serving.iter().filter(|counts| counts.bad > 0).count());
    Some(upper(squares.iter().sum::<f64>() / length(squares.len()), with_events, to_f64(all.bad)))
}

/// The value to use for an estimate of φ: its upper limit where it is above 1 for sure, and doubt where events are few.
fn upper(estimate: f64, freedom: f64, events: f64) -> f64 {
    let effective = if estimate > 0.0 { events / estimate } else { events };
    let m = freedom.min(effective).max(1.0);
    let wide = Z95 * (2.0 / m).sqrt();
    let phi = if estimate * (1.0 - wide) > 1.0 { estimate * (1.0 + wide) } else { estimate.max(1.0) };
    if effective < FEW_EVENTS { phi.max(UNSURE) } else { phi }
}

/// The squared relative spread of rates beyond what bursts of `phi` explain (after `DerSimonian` and Laird, 1986).
fn excess(groups: &[Counts], phi: f64) -> f64 {
    let all: Counts = groups.iter().copied().sum();
    let Some(rate) = all.rate().filter(|rate| *rate > 0.0) else { return 0.0 };
    let total = to_f64(all.total);
    let q: f64 = groups
        .iter()
        .filter(|group| group.total > 0)
        .map(|group| (to_f64(group.bad) - to_f64(group.total) * rate).powi(2) / (to_f64(group.total) * rate))
        .sum();
    let squares: f64 = groups.iter().map(|group| to_f64(group.total).powi(2)).sum();
    let weight = rate * (total - squares / total);
    let degrees = length(groups.iter().filter(|group| group.total > 0).count()) - 1.0;
    if weight > 0.0 { ((q - phi * degrees) / weight).max(0.0) } else { 0.0 }
}

/// τ² of pods by their counts over the whole history; pods with few events do not speak.
#[must_use]
pub fn spread_between_pods(pods: &[Counts], phi: f64) -> f64 {
    let speaking: Vec<Counts> = pods.iter().copied().filter(|pod| pod.bad >= EVENTS_A_POD).collect();
    if speaking.len() < 2 { 0.0 } else { excess(&speaking, phi) }
}

/// τ² of blocks of ten steps; `None` for fewer than twelve blocks.
#[must_use]
pub fn spread_over_time(steps: &[Counts], phi: f64) -> Option<f64> {
    let blocks: Vec<Counts> = steps.chunks_exact(BLOCK).map(|block| block.iter().copied().sum()).collect();
    (blocks.len() >= BLOCKS).then(|| excess(&blocks, phi))
}

/// The allowed ratio, widened by the spread. `pods` are those of both sides; for history there are none, and `spread` is
/// `None` where it is too short to know.
#[must_use]
pub fn widened(ratio: f64, spread: Option<f64>, pods: Option<(u64, u64)>) -> f64 {
    let Some(spread) = spread else { return ratio.max(SHORT_HISTORY_RATIO) };
    let reach = match pods {
        Some((new, old)) => (1.0 / to_f64(new.max(1)) + 1.0 / to_f64(old.max(1))).sqrt(),
        None => 2.0_f64.sqrt(),
    };
    ratio.max(MARGIN * (Z99 * spread.sqrt() * reach).exp())
}

fn length(count: usize) -> f64 {
    to_f64(u64::try_from(count).unwrap_or(u64::MAX))
}
