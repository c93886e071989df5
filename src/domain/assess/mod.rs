//! From readings to an assessment, whoever judges.
//!
//! Role: what is known about a rollout so far, in numbers and sentences. Inputs: readings, lives of pods, the state of
//! the last evaluation, the policy. Outputs: `Assessment` with the next state. Missing is never bad and never good. Must
//! never import: other rooms.

mod describe;
mod evidence;
mod proxied;
mod quantile;
mod seed;
mod show;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::evidence::{Counters, GaugePoint, PodLife};
use super::judge::{History, Observed, Overlap, Settings};
use super::outcome::{Confidence, Decider, HealthScore, Reason};
use super::policy::{Analysis, Scorer};
use super::process::Counts;
use super::signal::Term;

pub use evidence::EvidenceState;
pub use proxied::lives;
pub use quantile::{Quantile, quantile_ms};
pub use seed::{STREAK, SeedState, THRESHOLD, score, share_of_limit};

/// Why there is nothing to read, without anything being broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MissingReason {
    /// No series matched.
    NoSeries,
    /// None of the known request counters exists.
    NoRequestCounter,
    /// A request counter exists, but no label carries the status.
    NoStatusLabel,
    /// None of the known histograms exists.
    NoHistogram,
    /// No proxy counts requests of a Service of that name.
    NoSuchService,
    /// No container has a memory limit.
    NoMemoryLimit,
    /// No pods were asked for.
    NoPods,
    /// Series exist, but nothing was counted in this period.
    NoRequests,
    /// The guard measures nothing of the kind.
    NotMeasured,
    /// Pods of both revisions have the same names.
    SharedNames,
}

impl MissingReason {
    /// The reason as a clause.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NoSeries => "Prometheus has no such series for these pods",
            Self::NoRequestCounter => "none of the known request counters exists for these pods",
            Self::NoStatusLabel => "the request counter has no label that carries the status",
            Self::NoHistogram => "none of the known response time histograms exists for these pods",
            Self::NoSuchService => "no proxy counts requests of a Service of that name in this namespace",
            Self::NoMemoryLimit => "no container has a memory limit",
            Self::NoPods => "there are no pods to read",
            Self::NoRequests => "no requests were counted in this period",
            Self::NotMeasured => "no signal measures it",
            Self::SharedNames => {
                "the pods of both revisions of a StatefulSet have the same names, so that metrics cannot tell them apart"
            }
        }
    }
}

impl fmt::Display for MissingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// A value, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading<T> {
    /// Read.
    Value(T),
    /// Nothing there.
    Missing(MissingReason),
    /// Could not be read; the text was redacted by the caller.
    Errored(String),
}

impl<T> Reading<T> {
    /// The value, if there is one.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Missing(_) | Self::Errored(_) => None,
        }
    }

    /// Why there is no value, as a clause; empty if there is one.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Value(_) => String::new(),
            Self::Missing(reason) => reason.sentence().to_owned(),
            Self::Errored(text) => format!("could not be read: {text}"),
        }
    }
}

/// What one signal read.
#[derive(Debug, Clone, PartialEq)]
pub enum Measured {
    /// Bad events of all events.
    Ratio(Counters),
    /// Buckets; bounds in milliseconds.
    Histogram(Counters),
    /// Values that go up and down.
    Gauge(Vec<GaugePoint>),
}

/// The reading of one signal.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalReading {
    /// The full name, `<signal>` or `<signal>/<term>`.
    pub name: String,
    /// The term it feeds.
    pub term: Option<Term>,
    /// The preset it comes from, and why that one; empty if it comes from none.
    pub origin: String,
    /// The resolved query; empty if nothing was resolved.
    pub query: String,
    /// What was read.
    pub reading: Reading<Measured>,
}

/// Everything read from metrics for one evaluation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetricReadings {
    /// One entry a full signal name.
    pub signals: Vec<SignalReading>,
}

impl MetricReadings {
    /// The same error for every signal.
    #[must_use]
    pub fn unreadable(signals: &[super::signal::Signal], text: &str) -> Self {
        Self::all(signals, &Reading::Errored(text.to_owned()))
    }

    fn all(signals: &[super::signal::Signal], reading: &Reading<Measured>) -> Self {
        let names = signals.iter().flat_map(super::signal::Signal::full_names);
        let entry = |name: String| SignalReading {
            term: Term::of(&name),
            name,
            origin: String::new(),
            query: String::new(),
            reading: reading.clone(),
        };
        Self { signals: names.map(entry).collect() }
    }

    /// Nothing for any signal, and why.
    #[must_use]
    pub fn missing(signals: &[super::signal::Signal], reason: MissingReason) -> Self {
        Self::all(signals, &Reading::Missing(reason))
    }

    /// The first error, if nothing can be said about errors or about anything. Without another signal the judge goes on,
    /// and says what is missing.
    #[must_use]
    pub fn blinding_error(&self) -> Option<&str> {
        let errored = |signal: &SignalReading| matches!(signal.reading, Reading::Errored(_));
        let needed = self.signals.iter().any(|signal| errored(signal) && signal.term == Some(Term::Errors));
        let all = self.signals.iter().all(errored);
        self.error().filter(|_| needed || all)
    }

    /// The first error, if any signal could not be read.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.signals.iter().find_map(|signal| match &signal.reading {
            Reading::Errored(text) => Some(text.as_str()),
            Reading::Value(_) | Reading::Missing(_) => None,
        })
    }
}

/// What one evaluation leaves for the next, as JSON in status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "version")]
pub enum AssessState {
    /// The evidence scorer, first version.
    #[serde(rename = "evidence-v1")]
    Evidence(EvidenceState),
    /// The seed formula, first version.
    #[serde(rename = "seed-v1")]
    Seed(SeedState),
}

impl AssessState {
    /// The state of a rollout whose first pod of interest appeared at `start`.
    #[must_use]
    pub const fn new(scorer: Scorer, start: Timestamp) -> Self {
        match scorer {
            Scorer::Evidence => {
                Self::Evidence(EvidenceState { began: start, state: None, controls: std::collections::BTreeMap::new() })
            }
            Scorer::Seed => Self::Seed(SeedState {
                scored_until: start,
                low_streak: 0,
                scores: 0,
                last_points: None,
                complete: false,
            }),
        }
    }

    /// Whether judging goes on and nothing was counted on the new revision so far.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        match self {
            Self::Evidence(EvidenceState { state: Some(state), .. }) => {
                // What a proxy counts says nothing about which pods serve.
                let mut own = state.signals.iter().zip(&state.design.signals).filter(|(_, design)| !design.proxied);
                own.clone().next().is_some()
                    && own.all(|(signal, _)| signal.cells.iter().all(|cell| cell.new.total == 0))
            }
            Self::Evidence(_) | Self::Seed(_) => false,
        }
    }

    /// Where the judging began, as far as is known.
    const fn began(&self) -> Timestamp {
        match self {
            Self::Evidence(state) => state.began,
            Self::Seed(state) => state.scored_until,
        }
    }

    /// From where the next read has to begin (the reader adds its own look-back).
    #[must_use]
    pub fn since(&self) -> Timestamp {
        match self {
            Self::Evidence(state) => state.since(),
            Self::Seed(state) => state.scored_until,
        }
    }

    /// The moment of the last step that was judged.
    #[must_use]
    pub fn judged_until(&self) -> Timestamp {
        match self {
            Self::Evidence(state) => state.judged_until(),
            Self::Seed(state) => state.scored_until,
        }
    }
}

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub struct AssessInput<'a> {
    /// When.
    pub now: Timestamp,
    /// Pods of both sides.
    pub lives: &'a [PodLife],
    /// What was read.
    pub readings: &'a MetricReadings,
    /// What the evidence scorer needs besides; the seed formula does without.
    pub rollout: Option<RolloutView<'a>>,
}

/// The rollout as the evidence scorer sees it.
#[derive(Debug, Clone, Copy)]
pub struct RolloutView<'a> {
    /// What was asked for.
    pub settings: &'a Settings,
    /// What was seen before the rollout; none until it was read.
    pub history: Option<&'a History>,
    /// How long both revisions are expected to serve side by side.
    pub overlap: Overlap,
    /// The expected length of a step.
    pub step: std::time::Duration,
    /// Whether every wanted pod carries the new revision, is Ready and out of its warm-up.
    pub settled: bool,
    /// Workloads whose trouble at the same time means a shared incident.
    pub controls: &'a [ControlView<'a>],
    /// Whether the new pods were Ready and scraped for long, and how many there are; asked only while nothing was counted
    /// on them.
    pub scraped: Option<u64>,
}

/// A control: another workload, compared with its own past.
#[derive(Debug, Clone, Copy)]
pub struct ControlView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its pods, as those of a new revision.
    pub lives: &'a [PodLife],
    /// What was read.
    pub readings: &'a MetricReadings,
    /// What was seen before the rollout.
    pub history: &'a History,
}

/// What the evaluations so far say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No score yet.
    NotYet {
        /// Why.
        reason: Reason,
        /// As a sentence.
        message: String,
    },
    /// The new revision is bad enough to be undone.
    Harmful,
    /// Nearly: room for another opinion.
    Grey,
    /// Something else is wrong at the same time: nothing is concluded, and it never passes.
    Held {
        /// What.
        reason: Reason,
        /// As a sentence.
        message: String,
    },
    /// Measured in full, and not bad.
    Fine,
    /// Not bad as far as measured, but something that was asked for is missing.
    Unproven {
        /// Why.
        reason: Reason,
        /// As a sentence.
        message: String,
    },
}

/// What a signal took off the score, in words.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The signal or term.
    pub name: String,
    /// Its value with a unit.
    pub value: String,
    /// Points taken off.
    pub points: f64,
}

/// What a term took off the score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contribution {
    /// The term.
    pub term: Term,
    /// Percent for errors and memory, milliseconds for latency.
    pub value: f64,
    /// Points taken off.
    pub points: f64,
}

/// What is said about one signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignalVerdict {
    /// It takes nothing off the score.
    Good,
    /// It takes points off.
    Worse,
    /// Neither proven good nor bad.
    Unproven,
    /// It feeds no term.
    Shown,
    /// Not enough events.
    Waiting,
    /// Nothing there.
    Missing,
    /// Could not be read.
    Errored,
}

impl SignalVerdict {
    /// The word for status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "Good",
            Self::Worse => "Worse",
            Self::Unproven => "Unproven",
            Self::Shown => "Shown",
            Self::Waiting => "Waiting",
            Self::Missing => "Missing",
            Self::Errored => "Errored",
        }
    }
}

/// One signal as status shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalView {
    /// Full name.
    pub name: String,
    /// The term it feeds.
    pub term: Option<Term>,
    /// The word.
    pub verdict: SignalVerdict,
    /// The new revision's value with its unit; empty if there is none.
    pub new: String,
    /// The old revision's value with its unit; empty if there is none.
    pub old: String,
    /// `bad of total` or `total` events of the new revision; empty for gauges.
    pub counts: String,
    /// The same as numbers, new and old, if they were compared.
    pub counted: Option<(Counts, Counts)>,
    /// ln E of harm, if it gave evidence.
    pub ln_e: Option<f64>,
    /// Weight and what is allowed, in words; empty if nothing is.
    pub terms: String,
    /// What there is to say.
    pub message: String,
    /// The preset it comes from, and why that one; empty if it comes from none.
    pub origin: String,
    /// The resolved query.
    pub query: String,
}

/// The metrics of a decision record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordMetrics {
    /// Failed requests in parts per million.
    pub error_rate_ppm: Option<u64>,
    /// Memory in whole percent of the limit.
    pub memory_percent: Option<u64>,
    /// 95th percentile of response times in whole milliseconds.
    pub response_time_ms: Option<u64>,
}

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// What the evaluations so far say.
    pub standing: Standing,
    /// The score of the last scored period; absent if this evaluation scored none.
    pub score: Option<HealthScore>,
    /// How sure.
    pub confidence: Option<Confidence>,
    /// What each term took off.
    pub contributions: Vec<Part>,
    /// Every signal.
    pub signals: Vec<SignalView>,
    /// For the decision record.
    pub metrics: RecordMetrics,
    /// Who judged.
    pub decider: Decider,
    /// The reason of a harmful standing.
    pub harm: Reason,
    /// Why harm may only be recommended to be undone, if so.
    pub only_recommend: Option<(Reason, String)>,
    /// A signal that had to have data had none.
    pub no_data_fails: bool,
    /// With what the rollout is compared, and what can be seen.
    pub plan: Option<String>,
    /// The chance of this without a regression, "1 in N", at its smallest.
    pub one_in: Option<String>,
    /// Metric, value, comparator and threshold in a sentence.
    pub reasoning: String,
    /// The scrape interval seen in the samples.
    pub scrape: Option<std::time::Duration>,
    /// The steps that closed in this evaluation, as they were judged, and whether a control suffered.
    pub steps: Vec<(Observed, bool)>,
    /// ln E to the bit, for replays.
    pub ln_e: Option<f64>,
    /// For the next evaluation.
    pub state: AssessState,
}

impl Assessment {
    /// What a hard fact leaves to be said: score 0, and what was measured until then.
    #[must_use]
    pub fn of_fact(reason: Reason, sentence: &str, measured: Option<&Self>, state: AssessState) -> Self {
        /// A fact is seen, not inferred; it may still have another cause.
        const SURE: f64 = 99.0;
        Self {
            standing: Standing::Harmful,
            score: HealthScore::new(0.0),
            confidence: Some(Confidence::percent(SURE)),
            contributions: Vec::new(),
            signals: measured.map(|measured| measured.signals.clone()).unwrap_or_default(),
            metrics: measured.map(|measured| measured.metrics).unwrap_or_default(),
            decider: Decider::HardFact,
            harm: reason,
            only_recommend: None,
            no_data_fails: false,
            plan: None,
            one_in: measured.and_then(|measured| measured.one_in.clone()),
            reasoning: sentence.to_owned(),
            scrape: None,
            steps: Vec::new(),
            ln_e: measured.and_then(|measured| measured.ln_e),
            state,
        }
    }
}

/// Judges what was read since the last evaluation.
#[must_use]
pub fn assess(scorer: Scorer, state: &AssessState, input: &AssessInput<'_>, analysis: &Analysis) -> Assessment {
    match (scorer, state) {
        (Scorer::Seed, AssessState::Seed(state)) => seed::assess(*state, input, analysis),
        (Scorer::Evidence, AssessState::Evidence(state)) => evidence::assess(state, input, analysis),
        // The scorer was changed while a rollout was being judged: the new one begins at the beginning.
        (scorer, other) => assess(scorer, &AssessState::new(scorer, other.began()), input, analysis),
    }
}

#[cfg(test)]
mod evidence_tests;
#[cfg(test)]
mod tests;
