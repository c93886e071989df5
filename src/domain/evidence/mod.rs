//! Counts and steps: raw cumulative counters become events that are counted once.
//!
//! Role: decreases, first sight, absent series and steps that close, by replaying a range of samples; nothing is kept
//! between reads but the time of the last closed step. Inputs: counters per pod on a time grid, lives of pods. Outputs:
//! closed `Step`s and what is still open. Must never import: other rooms.

mod counter;
mod history;
pub mod number;
mod replay;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::pod::Role;
use super::rollout::{PodFact, PodName, Side};

pub use history::{Binned, bin};
pub use replay::{replay, scrape_interval};

/// The counters of one pod over the grid. Row `i` holds the total, then the parts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodCounters {
    /// Grid time and sample time of each row, in order of grid time.
    pub times: Vec<(Timestamp, Timestamp)>,
    /// `width` numbers a row.
    pub values: Vec<u64>,
}

/// The counters of one measure: one range query, reduced.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counters {
    /// Numbers a row: the total and its parts (one for a ratio, one for each finite bucket of a histogram).
    pub width: usize,
    /// Upper bounds of the finite buckets in milliseconds, ascending; empty for a ratio.
    pub bounds: Vec<f64>,
    /// For each bound, whether every pod has it; where one has not, its counts there belong to another bound.
    pub common: Vec<bool>,
    /// Per pod.
    pub pods: BTreeMap<PodName, PodCounters>,
}

impl Counters {
    /// Counters without rows.
    #[must_use]
    pub fn new(width: usize, bounds: Vec<f64>) -> Self {
        let common = vec![true; bounds.len()];
        Self { width, bounds, common, pods: BTreeMap::new() }
    }

    /// Adds a row; rows of a pod come in order of grid time. A row of another width is dropped.
    pub fn push(&mut self, pod: &PodName, at: Timestamp, sampled: Timestamp, row: &[u64]) {
        if row.len() != self.width {
            return;
        }
        if !self.pods.contains_key(pod) {
            self.pods.insert(pod.clone(), PodCounters::default());
        }
        if let Some(counters) = self.pods.get_mut(pod) {
            counters.times.push((at, sampled));
            counters.values.extend_from_slice(row);
        }
    }
}

/// One value of a gauge.
#[derive(Debug, Clone, PartialEq)]
pub struct GaugePoint {
    /// Whose.
    pub pod: PodName,
    /// Which container; none where the gauge is grouped by pod.
    pub container: Option<Arc<str>>,
    /// When it was sampled.
    pub sampled: Timestamp,
    /// The value.
    pub value: f64,
}

/// What the API server says about a pod's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLife {
    /// Who it is.
    pub pod: PodName,
    /// Which revision it carries, in this rollout.
    pub side: Option<Side>,
    /// When it was created.
    pub created: Timestamp,
    /// Its requests count as grown-up from here: first Ready plus warm-up.
    pub grown_from: Option<Timestamp>,
    /// When its containers were seen to start again, in whole seconds.
    pub container_starts: Vec<Timestamp>,
    /// When it went away, if it did.
    pub gone: Option<Timestamp>,
    /// Its app containers, with their memory limits.
    pub containers: Vec<MemoryLimit>,
}

/// The memory limit of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Container name.
    pub name: Arc<str>,
    /// In bytes, if one is set.
    pub memory_limit: Option<u64>,
}

impl PodLife {
    /// The life of a pod that still exists.
    #[must_use]
    pub fn of(fact: &PodFact, side: Option<Side>, warmup: Duration) -> Self {
        Self {
            pod: fact.pod.clone(),
            side,
            created: fact.created,
            grown_from: fact.first_ready.and_then(|ready| ready.checked_add(warmup).ok()),
            container_starts: fact.container_starts.clone(),
            gone: None,
            containers: fact
                .containers
                .iter()
                .filter(|container| container.role != Role::Init)
                .map(|container| MemoryLimit { name: container.name.clone(), memory_limit: container.memory_limit })
                .collect(),
        }
    }
}

/// Events of one side in a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Pods that contributed.
    pub pods: u64,
    /// All events.
    pub total: u64,
    /// Bad events, or events at or below each finite bucket's bound.
    pub parts: Vec<u64>,
}

impl Tally {
    /// Adds the counts of another stretch of time; `pods` becomes the larger of the two.
    pub fn merge(&mut self, other: &Self) {
        self.pods = self.pods.max(other.pods);
        self.count(other.total, &other.parts);
    }

    fn count(&mut self, total: u64, parts: &[u64]) {
        self.total = self.total.saturating_add(total);
        if self.parts.len() < parts.len() {
            self.parts.resize(parts.len(), 0);
        }
        for (sum, part) in self.parts.iter_mut().zip(parts) {
            *sum = sum.saturating_add(*part);
        }
    }
}

/// A stretch of time over which both sides were counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The close of the step before.
    pub from: Timestamp,
    /// Its own close.
    pub to: Timestamp,
    /// Grown-up pods of the new revision.
    pub new: Tally,
    /// Young pods of the new revision.
    pub new_young: Tally,
    /// Pods of the old revision.
    pub old: Tally,
}

/// What a replay gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Closed steps, in order, without gaps.
    pub closed: Vec<Step>,
    /// Counted, but not yet closed.
    pub open: Step,
    /// The scrape interval seen in the samples.
    pub scrape: Option<Duration>,
}

/// How far before `since` a read begins, so that the running maxima are known.
#[must_use]
pub fn look_back(resolution: Duration) -> Duration {
    resolution.saturating_mul(8).max(Duration::from_mins(1))
}

#[cfg(test)]
mod tests;
