//! The judge: from closed steps to evidence of harm, a certificate of health, or neither.
//!
//! Role: what is frozen when a rollout starts (`Design`), what is kept between steps (`State`), and what it all means
//! (`Judgement`). The operator and `replay` run this same code. Inputs: counts and values of both sides, step by step, and
//! what was seen before the rollout. Outputs: evidence with a bound on false alarms. Must never import: other rooms.

mod checkpoint;
mod design;
mod history;
mod judgement;
mod state;
mod words;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::process::Counts;
use super::signal::Term;

pub use design::{Design, Overlap, SignalDesign, Strata};
pub use history::{History, MAX_HISTORY_STEPS, Row, SignalHistory};
pub use judgement::{Finding, Judgement, SignalJudgement, judge, kappa};
pub use state::{Cell, SignalState, State};
pub use words::{one_in, plan};

/// Level of the certificate: how likely it may be given to a release at the bound.
pub const BETA: f64 = 0.05;
/// Parts of a million.
pub const PPM: u32 = 1_000_000;
/// The longest serialised [`State`].
pub const MAX_CHECKPOINT_BYTES: usize = 8 * 1024;
/// Tests of all signals together (a ratio is one, a histogram one for each boundary), so that a checkpoint stays small.
const MAX_TESTS: usize = 8;

/// With what the new revision is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// Both, weighted by how long old pods are expected to serve.
    Auto,
    /// Old pods that serve at the same time.
    Concurrent,
    /// The old revision before the rollout.
    History,
    /// Nothing: only limits count.
    None,
}

/// What a signal measures, as far as the judge has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Bad events of all events.
    Ratio,
    /// Slow requests of all requests, beyond some of a histogram's boundaries.
    Tail,
    /// Slow requests of all requests, beyond one boundary that nobody knows: a recording that counts them only.
    Slow,
    /// A level that goes up and down; its ratio is compared.
    Level,
    /// A level that may be higher, but must not keep growing towards its limit: memory of pods that count as grown-up,
    /// compared with that of old pods.
    Growth,
    /// A value that must not grow faster than at the previous revision's own start.
    Leak,
}

impl Kind {
    /// Whether it is a value rather than counts.
    #[must_use]
    pub const fn is_gauge(self) -> bool {
        matches!(self, Self::Level | Self::Growth | Self::Leak)
    }

    /// Whether it is harm only while it would reach its limit soon.
    #[must_use]
    pub const fn must_not_fill(self) -> bool {
        matches!(self, Self::Growth | Self::Leak)
    }
}

/// What it means that a signal has no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNoData {
    /// Nothing is concluded.
    #[default]
    Inconclusive,
    /// Health may be certified without it.
    Pass,
    /// The end of the window is unhealthy.
    Fail,
}

/// One signal as asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalSettings {
    /// Full name.
    pub name: String,
    /// The term it feeds.
    pub term: Option<Term>,
    /// What it measures.
    pub kind: Kind,
    /// Relative weight; the defaults give errors and latency one half each.
    pub weight: u32,
    /// Whether health is certified only with this one.
    pub critical: bool,
    /// The share of bad events, in parts per million, that is never accepted.
    pub max_ppm: Option<u32>,
    /// The value that a leak must not reach, if known.
    pub limit: Option<u32>,
    /// What it means that it has no data.
    pub on_no_data: OnNoData,
    /// Shown, but of no influence.
    pub dry_run: bool,
    /// Counted by a proxy for old and new pods together, so that only the time before the rollout can be compared with.
    pub proxied: bool,
}

/// What a rollout is judged by, as asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// α: how likely a harmless rollout may ever be rolled back, in parts per million.
    pub alpha_ppm: u32,
    /// How long it is watched.
    pub window: Duration,
    /// With what it is compared.
    pub baseline: Baseline,
    /// Requests before a score is shown.
    pub min_requests: u64,
    /// Whether evidence against history alone may undo.
    pub history_may_enforce: bool,
    /// Whether young pods are told apart; recordings may not.
    pub tells_young: bool,
    /// Pods of the new revision that come first; as many as there are old ones if nobody knows.
    pub first_wave: Option<u64>,
    /// Workloads that are judged as controls beside it.
    pub controls: usize,
    /// What is measured.
    pub signals: Vec<SignalSettings>,
}

impl Settings {
    /// The users' limits, of signals that have any influence.
    #[must_use]
    pub fn limits(&self) -> Vec<Option<u32>> {
        self.signals.iter().map(|signal| signal.max_ppm.filter(|_| !signal.dry_run)).collect()
    }
}

/// Counts of one test in one step. A side that was not there is missing; one that had no requests is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sides {
    /// Pods of the new revision in their warm-up.
    pub young: Option<Counts>,
    /// The other pods of the new revision.
    pub grown: Option<Counts>,
    /// Pods of the old revision, in the same step.
    pub old: Option<Counts>,
    /// What the new revision is paired with before the rollout, where a recording says so.
    pub history: Option<Counts>,
}

impl Sides {
    /// Everything the new revision counted.
    #[must_use]
    pub fn new_total(&self) -> Counts {
        self.young.unwrap_or_default().plus(self.grown.unwrap_or_default())
    }
}

/// What one signal showed in one step.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// One entry a test: one for a ratio, one for each boundary of a histogram.
    Counts(Vec<Sides>),
    /// Values of a gauge.
    Values {
        /// New revision.
        new: Option<f64>,
        /// Old revision, at the same time.
        old: Option<f64>,
    },
}

/// One closed step.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// When it closed.
    pub at: Timestamp,
    /// One entry a signal of the design; none where nothing closed for it.
    pub signals: Vec<Option<Seen>>,
    /// Pods that were counted: new, old. None where nobody knows.
    pub pods: Option<(u64, u64)>,
    /// Whether every wanted pod carries the new revision, is Ready and out of its warm-up.
    pub settled: bool,
}

#[cfg(test)]
mod tests;
