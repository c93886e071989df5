//! The past of some pods in steps of equal length.
//!
//! Role: counts before a rollout, pod by pod, with the same rules for decreases and first sight as `replay`. Inputs:
//! counters, lives, a range. Outputs: `Binned`. Must never import: other rooms.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::counter::Anchor;
use super::{Counters, PodLife};
use crate::domain::rollout::PodName;

/// Steps of a start that are kept.
const MOST_START: usize = 1440;

/// Counts of pods in steps of equal length.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Binned {
    /// Steps that held anything, oldest first: the total and its parts of each pod.
    pub steps: Vec<BTreeMap<PodName, Vec<u64>>>,
    /// Counts of pods in their own warm-up, by steps since their first sample, which holds everything before it.
    pub start: Vec<Vec<u64>>,
}

/// Sorts what these pods counted between `from` and `to` into steps. Steps in which nothing was scraped are left out.
#[must_use]
pub fn bin(counters: &Counters, lives: &[PodLife], from: Timestamp, to: Timestamp, step: Duration) -> Binned {
    let length = i128::try_from(step.as_millis()).unwrap_or(i128::MAX).max(1);
    let index = |at: Timestamp, since: Timestamp| {
        usize::try_from(i128::from(at.as_millisecond() - since.as_millisecond()).div_euclid(length)).ok()
    };
    let mut bins: BTreeMap<usize, BTreeMap<PodName, Vec<u64>>> = BTreeMap::new();
    let mut start: Vec<Vec<u64>> = Vec::new();
    for life in lives {
        let Some(found) = counters.pods.get(&life.pod) else { continue };
        let starts: Vec<Timestamp> =
            life.container_starts.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let mut anchor: Option<Anchor> = None;
        // The new pods' first step holds everything since their creation, so the old ones' first sample must too.
        let mut first_sampled = None;
        for (time, row) in found.times.iter().zip(found.values.chunks_exact(counters.width.max(1))) {
            let sampled = time.1;
            first_sampled = first_sampled.or(Some(sampled));
            if anchor.is_none() && (life.created < from || life.created >= sampled) {
                anchor = Some(Anchor::new(sampled, row.to_vec()));
                continue;
            }
            let anchor = anchor.get_or_insert_with(|| Anchor::new(life.created, vec![0; row.len()]));
            let Some(gain) = anchor.advance(sampled, row, &starts) else { continue };
            let grown = life.grown_from.is_some_and(|grown| gain.began >= grown);
            if sampled < from || sampled >= to {
                continue;
            }
            if grown {
                if let Some(index) = index(sampled, from) {
                    add(bins.entry(index).or_default().entry(life.pod.clone()).or_default(), &gain.row);
                }
            } else if let Some(index) =
                index(sampled, first_sampled.unwrap_or(sampled)).filter(|index| *index < MOST_START)
            {
                if start.len() <= index {
                    start.resize(index + 1, Vec::new());
                }
                if let Some(sum) = start.get_mut(index) {
                    add(sum, &gain.row);
                }
            }
        }
    }
    let width = counters.width;
    for row in &mut start {
        row.resize(width, 0);
    }
    Binned { steps: bins.into_values().collect(), start }
}

fn add(sum: &mut Vec<u64>, row: &[u64]) {
    if sum.len() < row.len() {
        sum.resize(row.len(), 0);
    }
    for (sum, part) in sum.iter_mut().zip(row) {
        *sum = sum.saturating_add(*part);
    }
}
