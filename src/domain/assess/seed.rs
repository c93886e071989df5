//! The original health formula.
//!
//! Role: 100 − 2 × errors % − ½ × (memory % − 70) − 0.01 × (p95 ms − 500), over one merged period at a time. Inputs and
//! outputs: as `assess`. Errors are required; what else is missing is shown, takes nothing off and forbids "fine". Must
//! never import: other rooms.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::describe::{reasoning, view};
use super::{
    AssessInput, AssessState, Assessment, Contribution, Measured, MissingReason, Part, Quantile, Reading,
    RecordMetrics, SignalReading, Standing, quantile_ms,
};
use crate::domain::evidence::number::{to_count, to_f64};
use crate::domain::evidence::{GaugePoint, PodLife, Step, Tally, replay};
use crate::domain::outcome::{Confidence, Decider, HealthScore, Reason};
use crate::domain::policy::Analysis;
use crate::domain::rollout::Side;
use crate::domain::signal::Term;

/// Scores below this are bad.
pub const THRESHOLD: f64 = 50.0;
/// Bad scores running that make harm.
pub const STREAK: u8 = 2;

/// What the seed formula keeps between evaluations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedState {
    /// The end of the last scored period.
    pub scored_until: Timestamp,
    /// Bad scores running.
    pub low_streak: u8,
    /// Scores given.
    #[serde(default)]
    pub scores: u32,
    /// The last score in whole points.
    #[serde(default)]
    pub last_points: Option<u8>,
    /// Whether the last score had every term that the guard measures.
    #[serde(default)]
    pub complete: bool,
}

/// The score and what each term takes off; terms that are absent take nothing.
#[must_use]
pub fn score(errors: f64, memory: Option<f64>, p95_ms: Option<f64>) -> (Option<HealthScore>, Vec<Contribution>) {
    let term = |term, value: f64, points: f64| Contribution { term, value, points };
    let mut terms = vec![term(Term::Errors, errors, 2.0 * errors.max(0.0))];
    terms.extend(memory.map(|value| term(Term::Memory, value, 0.5 * (value - 70.0).max(0.0))));
    terms.extend(p95_ms.map(|value| term(Term::Latency, value, 0.01 * (value - 500.0).max(0.0))));
    if terms.iter().any(|term| !term.value.is_finite()) {
        return (None, terms);
    }
    (HealthScore::new(100.0 - terms.iter().map(|term| term.points).sum::<f64>()), terms)
}

/// A signal with its counts as steps.
pub(super) struct Track<'a> {
    pub(super) reading: &'a SignalReading,
    pub(super) steps: Vec<Step>,
    pub(super) open: Option<Step>,
}

/// One merged period.
pub(super) struct Period {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// The value of a term on both sides.
#[derive(Default)]
pub(super) struct Values {
    pub(super) new: Option<f64>,
    pub(super) old: Option<f64>,
    pub(super) at_least: bool,
    pub(super) counts: Option<(Option<u64>, u64)>,
}

pub(super) fn assess(state: SeedState, input: &AssessInput<'_>, analysis: &Analysis) -> Assessment {
    let mut scrape = None;
    let tracks: Vec<Track<'_>> = input
        .readings
        .signals
        .iter()
        .map(|reading| Track::new(reading, input.lives, state.scored_until, &mut scrape))
        .collect();
    let mut next = state;
    let mut last = None;
    let errored =
        tracks.iter().find(|track| track.feeds(Term::Errors) && matches!(track.reading.reading, Reading::Errored(_)));
    if errored.is_none() {
        for period in periods(&tracks, state.scored_until, analysis.min_requests) {
            let scored = score_period(&tracks, &period, input.lives);
            let Some(value) = scored.score else { break };
            next.scored_until = period.to;
            next.low_streak = if value.value() < THRESHOLD { next.low_streak.saturating_add(1) } else { 0 };
            next.scores = next.scores.saturating_add(1);
            next.last_points = Some(value.points());
            next.complete = scored.missing.is_empty();
            last = Some(scored);
            if next.low_streak >= STREAK {
                break;
            }
        }
    }
    finish(next, &tracks, last.as_ref(), scrape, input, analysis)
}

impl<'a> Track<'a> {
    fn new(reading: &'a SignalReading, lives: &[PodLife], from: Timestamp, scrape: &mut Option<Duration>) -> Self {
        let Reading::Value(Measured::Ratio(counters) | Measured::Histogram(counters)) = &reading.reading else {
            return Self { reading, steps: Vec::new(), open: None };
        };
        let replayed = replay(counters, lives, from, None);
        *scrape = match (*scrape, replayed.scrape) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { reading, steps: replayed.closed, open: Some(replayed.open) }
    }

    fn feeds(&self, term: Term) -> bool {
        self.reading.term == Some(term)
    }

    /// The counts of the steps that closed within a period.
    fn tallies(&self, period: &Period) -> (Tally, Tally) {
        let (mut new, mut old) = (Tally::default(), Tally::default());
        for step in self.steps.iter().filter(|step| step.to > period.from && step.to <= period.to) {
            new.merge(&step.new);
            old.merge(&step.old);
        }
        (new, old)
    }

    /// What the signal says of a period.
    pub(super) fn values(&self, period: &Period, lives: &[PodLife]) -> Reading<Values> {
        match &self.reading.reading {
            Reading::Missing(reason) => Reading::Missing(*reason),
            Reading::Errored(text) => Reading::Errored(text.clone()),
            Reading::Value(Measured::Ratio(_)) => {
                let (new, old) = self.tallies(period);
                let bad = new.parts.first().copied();
                let new_rate = percent(&new);
                let values =
                    Values { new: new_rate, old: percent(&old), at_least: false, counts: Some((bad, new.total)) };
                if new_rate.is_some() { Reading::Value(values) } else { Reading::Missing(MissingReason::NoRequests) }
            }
            Reading::Value(Measured::Histogram(counters)) => {
                let (new, old) = self.tallies(period);
                let p95 = |tally: &Tally| quantile_ms(0.95, &counters.bounds, &tally.parts, tally.total);
                match p95(&new) {
                    Some(Quantile { value, at_least }) => Reading::Value(Values {
                        new: Some(value),
                        old: p95(&old).map(|found| found.value),
                        at_least,
                        counts: Some((None, new.total)),
                    }),
                    None => Reading::Missing(MissingReason::NoRequests),
                }
            }
            Reading::Value(Measured::Gauge(points)) => {
                gauge(points, period, lives, self.reading.term == Some(Term::Memory))
            }
        }
    }
}

fn percent(tally: &Tally) -> Option<f64> {
    let bad = tally.parts.first().copied().unwrap_or(0);
    (tally.total > 0).then(|| 100.0 * to_f64(bad.min(tally.total)) / to_f64(tally.total))
}

/// The highest value of each side; in percent of the memory limit where that is what the term needs.
fn gauge(points: &[GaugePoint], period: &Period, lives: &[PodLife], of_limit: bool) -> Reading<Values> {
    let lives: BTreeMap<_, _> = lives.iter().map(|life| (&life.pod, life)).collect();
    let mut values = Values::default();
    let (mut seen, mut limited) = (false, false);
    for point in latest(points, period) {
        let Some(life) = lives.get(&point.pod) else {
            continue;
        };
        seen = true;
        let shown =
            if of_limit { limit(life, point).map(|limit| 100.0 * point.value / limit) } else { Some(point.value) };
        let Some(shown) = shown.filter(|value| value.is_finite()) else {
            continue;
        };
        limited = true;
        let side = match life.side {
            Some(Side::New) => &mut values.new,
            Some(Side::Old) => &mut values.old,
            None => continue,
        };
        *side = Some(side.map_or(shown, |highest| highest.max(shown)));
    }
    match (values.new, seen, limited) {
        (Some(_), _, _) => Reading::Value(values),
        (None, true, false) => Reading::Missing(MissingReason::NoMemoryLimit),
        (None, _, _) => Reading::Missing(MissingReason::NoSeries),
    }
}

/// The samples of a period; of what is scraped less often than that, the last one before.
fn latest<'a>(points: &'a [GaugePoint], period: &Period) -> Vec<&'a GaugePoint> {
    let mut last: BTreeMap<_, Timestamp> = BTreeMap::new();
    for point in points.iter().filter(|point| point.sampled <= period.to) {
        let newest = last.entry((&point.pod, &point.container)).or_insert(point.sampled);
        *newest = point.sampled.max(*newest);
    }
    let counts = |point: &&GaugePoint| {
        let newest = last.get(&(&point.pod, &point.container));
        point.sampled <= period.to && (point.sampled > period.from || newest == Some(&point.sampled))
    };
    points.iter().filter(counts).collect()
}

/// A value in percent of the container's memory limit.
#[must_use]
pub fn share_of_limit(life: &PodLife, point: &GaugePoint) -> Option<f64> {
    limit(life, point).map(|limit| 100.0 * point.value / limit)
}

/// The limit of the container, or of all containers where the gauge knows pods only.
fn limit(life: &PodLife, point: &GaugePoint) -> Option<f64> {
    let bytes = match &point.container {
        Some(name) => life.containers.iter().find(|container| container.name == *name)?.memory_limit?,
        None => life.containers.iter().map(|container| container.memory_limit).sum::<Option<u64>>()?,
    };
    (bytes > 0).then(|| to_f64(bytes))
}

/// Closed steps of the first readable error signal, merged until there are enough requests.
fn periods(tracks: &[Track<'_>], since: Timestamp, min_requests: u64) -> Vec<Period> {
    let readable = |track: &&Track<'_>| {
        track.feeds(Term::Errors) && matches!(track.reading.reading, Reading::Value(Measured::Ratio(_)))
    };
    let (mut found, mut from, mut total) = (Vec::new(), since, 0_u64);
    for step in tracks.iter().find(readable).map_or(&[][..], |track| &track.steps) {
        total = total.saturating_add(step.new.total);
        if total >= min_requests.max(1) {
            found.push(Period { from, to: step.to });
            (from, total) = (step.to, 0);
        }
    }
    found
}

/// A scored period.
pub(super) struct Scored {
    pub(super) score: Option<HealthScore>,
    pub(super) terms: Vec<Contribution>,
    pub(super) missing: Vec<String>,
    pub(super) period: Period,
    pub(super) errors: Option<(u64, u64, Option<f64>)>,
}

fn score_period(tracks: &[Track<'_>], period: &Period, lives: &[PodLife]) -> Scored {
    let mut worst: BTreeMap<Term, f64> = BTreeMap::new();
    let mut missing = Vec::new();
    let mut errors = None;
    for term in Term::ALL.iter().copied() {
        let mut measured = false;
        for track in tracks.iter().filter(|track| track.feeds(term)) {
            measured = true;
            match track.values(period, lives) {
                Reading::Value(Values { new: Some(value), old, counts, .. }) => {
                    if worst.get(&term).is_none_or(|worst| value > *worst) {
                        worst.insert(term, value);
                        if let (Term::Errors, Some((Some(bad), total))) = (term, counts) {
                            errors = Some((bad, total, old));
                        }
                    }
                }
                other => missing.push(format!("{}: {}", track.reading.name, other.sentence())),
            }
        }
        if !measured {
            missing.push(format!("{term}: {}", MissingReason::NotMeasured));
        }
    }
    let period = Period { from: period.from, to: period.to };
    match worst.get(&Term::Errors) {
        Some(rate) => {
            let (score, terms) = score(*rate, worst.get(&Term::Memory).copied(), worst.get(&Term::Latency).copied());
            Scored { score, terms, missing, period, errors }
        }
        None => Scored { score: None, terms: Vec::new(), missing, period, errors },
    }
}

fn finish(
    state: SeedState,
    tracks: &[Track<'_>],
    last: Option<&Scored>,
    scrape: Option<Duration>,
    input: &AssessInput<'_>,
    analysis: &Analysis,
) -> Assessment {
    let standing = standing(state, tracks, last, input, analysis);
    let shown = last.map_or(Period { from: state.scored_until, to: input.now }, |scored| Period {
        from: scored.period.from,
        to: scored.period.to,
    });
    let signals = tracks.iter().map(|track| view(track, &shown, input.lives)).collect();
    let score = last.and_then(|scored| scored.score);
    let confidence = score.map(|score| Confidence::percent(((score.value() - THRESHOLD).abs() * 2.0).min(95.0)));
    let terms = last.as_ref().map(|scored| scored.terms.clone()).unwrap_or_default();
    let of = |term: Term, scale: f64| {
        let value = terms.iter().find(|found| found.term == term)?.value;
        to_count((value * scale).round())
    };
    let metrics = RecordMetrics {
        error_rate_ppm: of(Term::Errors, 10_000.0),
        memory_percent: of(Term::Memory, 1.0),
        response_time_ms: of(Term::Latency, 1.0),
    };
    let reasoning = reasoning(&standing, last);
    Assessment {
        standing,
        score,
        confidence,
        contributions: terms.iter().map(Part::from).collect(),
        signals,
        metrics,
        decider: Decider::SeedFormula,
        harm: Reason::ScoreBelowThreshold,
        only_recommend: None,
        no_data_fails: false,
        one_in: None,
        reasoning,
        scrape,
        state: AssessState::Seed(state),
    }
}

fn standing(
    state: SeedState,
    tracks: &[Track<'_>],
    last: Option<&Scored>,
    input: &AssessInput<'_>,
    analysis: &Analysis,
) -> Standing {
    let unsure = |reason, message: String| {
        if state.scores == 0 { Standing::NotYet { reason, message } } else { Standing::Unproven { reason, message } }
    };
    let errors: Vec<&Track<'_>> = tracks.iter().filter(|track| track.feeds(Term::Errors)).collect();
    for track in &errors {
        if let Reading::Errored(text) = &track.reading.reading {
            return unsure(Reason::PrometheusUnreachable, format!("{} could not be read: {text}", track.reading.name));
        }
    }
    if last.is_some() && state.low_streak >= STREAK {
        return Standing::Harmful;
    }
    if state.scores == 0 {
        let (reason, message) = why_not_yet(&errors, input, analysis);
        return Standing::NotYet { reason, message };
    }
    if state.low_streak > 0 {
        let message = format!("one score below {THRESHOLD}; it takes {STREAK} running");
        return Standing::Unproven { reason: Reason::InsufficientData, message };
    }
    match last {
        Some(scored) if !scored.missing.is_empty() => Standing::Unproven {
            reason: Reason::InsufficientData,
            message: format!("not measured: {}", scored.missing.join("; ")),
        },
        None if !state.complete => {
            Standing::Unproven { reason: Reason::InsufficientData, message: "the last score lacked a term".to_owned() }
        }
        _ => Standing::Fine,
    }
}

fn why_not_yet(errors: &[&Track<'_>], input: &AssessInput<'_>, analysis: &Analysis) -> (Reason, String) {
    let new: Vec<&PodLife> = input.lives.iter().filter(|life| life.side == Some(Side::New)).collect();
    if new.is_empty() || new.iter().all(|life| life.grown_from.is_none()) {
        return (Reason::NoNewRevisionPods, "no pod of the new revision is Ready yet".to_owned());
    }
    if new.iter().all(|life| life.grown_from.is_none_or(|grown| grown > input.now)) {
        return (Reason::WarmingUp, "the pods of the new revision are still warming up".to_owned());
    }
    let Some(readable) = errors.iter().find(|track| track.reading.reading.value().is_some()) else {
        let text = errors.first().map_or_else(
            || "no signal measures errors, and without them there is no score".to_owned(),
            |track| format!("{}: {}", track.reading.name, track.reading.reading.sentence()),
        );
        return (Reason::InsufficientData, text);
    };
    let steps = readable.steps.iter().chain(&readable.open);
    let total = steps.map(|step| step.new.total).fold(0, u64::saturating_add);
    let text = format!("{total} of {} requests counted on the new revision", analysis.min_requests.max(1));
    (if total == 0 { Reason::NoTraffic } else { Reason::InsufficientData }, text)
}
