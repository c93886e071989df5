//! What the evidence so far means.
//!
//! Role: one value for every place the evidence can be in, a score, a confidence, a sentence for each signal. Inputs: a
//! state and the settings. Outputs: `Judgement`. Must never import: other rooms.

use jiff::{SignedDuration, Timestamp};

use super::Kind;
use super::design::percent;
use super::words::{allowance, boundary, compared, excluded, grouped, loudest, one_in, reasoning, sentence};
use super::{Settings, State};
use crate::domain::outcome::{Confidence, HealthScore};
use crate::domain::process::Counts;

/// The prior chance that a release is bad.
const PRIOR: f64 = 0.05;
/// The highest confidence in a release that nothing was proven about.
const UNPROVEN_MOST: f64 = 0.90;
/// How long an incident is waited out.
const INCIDENT_HOLD: SignedDuration = SignedDuration::from_mins(5);
/// What a growth may take off the score that has no reference.
const LEAK_POINTS: f64 = 20.0;
/// The most by which a deciding model may widen α.
const KAPPA_MOST: f64 = 10.0;
/// The widest α may ever become.
const ALPHA_MOST: f64 = 0.2;

/// Where the evidence stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Nothing was counted on the new revision yet.
    Nothing,
    /// Counted, and nothing to compare with.
    NoBaseline,
    /// E ≥ 1/α: worse than allowed.
    Harm {
        /// Whether only the comparison with the past says so.
        history_only: bool,
    },
    /// A limit of the user's was broken by these counts.
    LimitBroken {
        /// Of which signal.
        signal: String,
        /// What was counted.
        counts: Counts,
    },
    /// Old pods suffer at the same time.
    SharedIncident {
        /// Whether it was waited out.
        over: bool,
    },
    /// The new revision gets next to no traffic.
    TrafficLost {
        /// Since when.
        since: Timestamp,
    },
    /// 1/(κα) ≤ E < 1/α: room for another opinion.
    Grey,
    /// Not worse so far, proven.
    Certified,
    /// Neither.
    Inconclusive,
}

/// One signal, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalJudgement {
    /// ln E of harm.
    pub ln_e: f64,
    /// ln E of health.
    pub ln_safety: f64,
    /// Points its evidence takes off the score.
    pub points: f64,
    /// Its value on the new revision with a unit; empty if there is none.
    pub new: String,
    /// The value it is compared with.
    pub old: String,
    /// Bad of all events of the new revision, of the other side.
    pub counts: Option<(Counts, Counts)>,
    /// What there is to say.
    pub message: String,
    /// φ, allowance and weight in a sentence.
    pub terms: String,
}

/// What the evidence means.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Where it stands.
    pub finding: Finding,
    /// ln E.
    pub ln_e: f64,
    /// The largest ln E so far.
    pub most: f64,
    /// Health, 0–100; none without data.
    pub score: Option<HealthScore>,
    /// Confidence in the finding.
    pub confidence: Option<Confidence>,
    /// By signal, in the order of the design.
    pub signals: Vec<SignalJudgement>,
    /// Metric, value, comparator and chance in a sentence.
    pub reasoning: String,
    /// Critical signals that were counted and cannot be compared, in a sentence; empty if there are none.
    pub uncompared: String,
}

/// Reads a state.
#[must_use]
pub fn judge(settings: &Settings, state: &State) -> Judgement {
    let ln_e = state.ln_e();
    let threshold = state.design.threshold();
    let requests = state.signals.iter().filter_map(|signal| signal.cells.first()).map(|cell| cell.new.total).max();
    let measured = state.signals.iter().any(|signal| signal.values.is_some());
    let compares = |critical_only: bool| {
        let mut pairs = state.signals.iter().zip(&state.design.signals);
        pairs.any(|(signal, design)| (design.critical || !critical_only) && is_compared(signal, design))
    };
    let compared = compares(false);
    let finding = finding(settings, state, ln_e, requests.unwrap_or(0) > 0 || measured, compared);
    let enough = requests.unwrap_or(0) >= settings.min_requests || measured;
    let leaks = state.signals.iter().zip(&state.design.signals).any(|(signal, design)| {
        design.kind.must_not_fill() && design.weight == 0 && signal.steps >= 20 && signal.fills_up(design)
    });
    let leak = if leaks { LEAK_POINTS } else { 0.0 };
    let value = match finding {
        Finding::LimitBroken { .. } => 0.0,
        _ => 100.0 - 50.0 * ln_e.max(0.0) / threshold - leak,
    };
    // Memory that is well says nothing about errors that nobody can compare.
    let telling = compares(state.design.signals.iter().any(|design| design.critical));
    let shown = enough && (telling || matches!(finding, Finding::LimitBroken { .. }));
    let score = if shown { HealthScore::new(value) } else { None };
    let confidence = score.map(|_| confidence(&finding, state, ln_e));
    let mut text = reasoning(state);
    if finding == Finding::Inconclusive || finding == Finding::Certified {
        let unseen = smallest_unseen(state);
        text = [text, unseen].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    }
    let off = score.map_or(0.0, |score| 100.0 - leak - score.value());
    Judgement {
        signals: signals(state, off.max(0.0)),
        finding,
        ln_e,
        most: state.most,
        score,
        confidence,
        reasoning: text,
        uncompared: uncompared(state),
    }
}

/// Whether any part of its evidence had something on both sides.
fn is_compared(signal: &super::SignalState, design: &super::SignalDesign) -> bool {
    let steps = |steps: u32, weight: u32| weight > 0 && steps > 0;
    design.weight > 0
        && signal.cells.iter().any(|cell| {
            steps(cell.young.steps, design.strata.young)
                || steps(cell.grown.steps, design.strata.grown)
                || steps(cell.history.steps, design.strata.history)
        })
}

fn uncompared(state: &State) -> String {
    let pairs = state.signals.iter().zip(&state.design.signals);
    let blind = pairs.filter(|(signal, design)| {
        let counted = signal.cells.first().is_some_and(|cell| cell.new.total > 0);
        design.critical && counted && !is_compared(signal, design)
    });
    let sentences: Vec<_> = blind.map(|(signal, design)| sentence(signal, design)).collect();
    sentences.join("; ")
}

fn finding(settings: &Settings, state: &State, ln_e: f64, counted: bool, compared: bool) -> Finding {
    let threshold = state.design.threshold();
    let beside = state.ln_e_concurrent() >= threshold;
    let broken = state.signals.iter().zip(&state.design.signals).find_map(|(signal, design)| {
        Some(Finding::LimitBroken { signal: design.name.clone(), counts: signal.limit_broken? })
    });
    if let Some(broken) = broken {
        return broken;
    }
    if ln_e >= threshold && (beside || state.incident.is_none()) {
        let enforces = beside || settings.history_may_enforce;
        return Finding::Harm { history_only: !beside && !enforces };
    }
    if let Some((since, last)) = state.incident {
        let over = state.last.duration_since(since) >= INCIDENT_HOLD;
        let fresh = state.last.duration_since(last) < INCIDENT_HOLD;
        if ln_e >= threshold || fresh {
            return Finding::SharedIncident { over };
        }
    }
    if let Some(since) = state.starved() {
        return Finding::TrafficLost { since };
    }
    if !counted {
        return Finding::Nothing;
    }
    if !compared {
        return Finding::NoBaseline;
    }
    if ln_e >= threshold - kappa(state.design.alpha_share()).ln() {
        Finding::Grey
    } else if state.certified.is_some() && state.incident.is_none() {
        Finding::Certified
    } else {
        Finding::Inconclusive
    }
}

/// By how much a deciding model may widen α: κ = min(10, 0.2/α), at least 1.
#[must_use]
pub fn kappa(alpha: f64) -> f64 {
    (ALPHA_MOST / alpha).clamp(1.0, KAPPA_MOST)
}

/// The chance that the finding is right, with a prior of 5 % that a release is bad.
fn confidence(finding: &Finding, state: &State, ln_e: f64) -> Confidence {
    let odds = (PRIOR / (1.0 - PRIOR)).ln() + ln_e;
    let bad = 1.0 / (1.0 + (-odds).exp());
    let percent = match finding {
        Finding::LimitBroken { .. } => 1.0,
        Finding::Harm { .. } => bad,
        _ if ln_e >= state.design.threshold() => bad,
        Finding::Certified => {
            let least = state
                .signals
                .iter()
                .zip(&state.design.signals)
                .filter(|(_, design)| design.critical && design.weight > 0)
                .map(|(signal, design)| signal.ln_safety(design))
                .fold(f64::INFINITY, f64::min);
            let odds = (PRIOR / (1.0 - PRIOR)).ln() - least.max(-super::BETA.ln());
            1.0 - 1.0 / (1.0 + (-odds).exp())
        }
        _ => (1.0 - bad).min(UNPROVEN_MOST),
    };
    Confidence::percent(percent * 100.0)
}

fn signals(state: &State, off: f64) -> Vec<SignalJudgement> {
    // A part's share of what is taken off: its share of the evidence.
    let ln_e = state.ln_e();
    state
        .signals
        .iter()
        .zip(&state.design.signals)
        .map(|(signal, design)| {
            let own = signal.ln_e(design);
            let weight = super::design::share(design.weight);
            let points = if weight > 0.0 { off * (weight.ln() + own - ln_e).exp() } else { 0.0 };
            let (new, old, counts) = shown(signal, design);
            let mut message = sentence(signal, design);
            if let (Some(chance), true) = (one_in(own), design.weight > 0) {
                message = format!("{message}; chance of this without a regression at most {chance}");
            }
            SignalJudgement {
                ln_e: own,
                ln_safety: signal.ln_safety(design),
                points: points.min(off),
                new,
                old,
                counts,
                message,
                terms: terms(design, signal),
            }
        })
        .collect()
}

fn shown(signal: &super::SignalState, design: &super::SignalDesign) -> (String, String, Option<(Counts, Counts)>) {
    if let Some((new, old)) = signal.values {
        let old = if old.is_finite() { format!("{old:.1}") } else { String::new() };
        return (format!("{new:.1}"), old, None);
    }
    let Some((test, cell)) = loudest(signal) else { return (String::new(), String::new(), None) };
    let (_, old) = compared(cell, design);
    let beyond = if design.kind == Kind::Tail { format!(" over {}", boundary(design, test)) } else { String::new() };
    let text = |counts: Counts| counts.rate().map(|rate| format!("{} %{beyond}", percent(rate))).unwrap_or_default();
    (text(cell.new), text(old), Some((cell.new, old)))
}

/// What is said of every signal that a proxy counts.
const PROXIED: &str = "compared with the time before the rollout only, because the proxy counts per Service, old and new \
                       pods together; it may show harm, never health";

/// What the signal is measured by.
fn terms(design: &super::SignalDesign, signal: &super::SignalState) -> String {
    let own = own_terms(design, signal);
    if design.proxied { format!("{PROXIED}; {own}") } else { own }
}

fn own_terms(design: &super::SignalDesign, signal: &super::SignalState) -> String {
    if design.unseen && design.weight == 0 {
        return "not seen before the rollout, so it gives no evidence".to_owned();
    }
    if design.kind == Kind::Tail && design.boundaries.is_empty() {
        return "buckets too coarse: no boundary has 0.5 to 60 % slower requests, so it gives no evidence".to_owned();
    }
    if design.weight == 0 && design.noisy {
        return "too noisy: it changes by itself more than threefold, so it gives no evidence".to_owned();
    }
    if design.proxied && design.strata == super::Strata::default() {
        return "there is no time before the rollout to compare with, so it gives no evidence".to_owned();
    }
    if design.weight == 0 {
        return "shown only".to_owned();
    }
    let against_history = design.strata.grown == 0 || signal.cells.iter().all(|cell| cell.old.total == 0);
    let phi = design.phi(against_history);
    let bursts = if phi > 1.0 { format!(", bursts of {phi:.1}") } else { String::new() };
    format!(
        "weight {} %; allowed is {}{bursts}",
        design.weight / (super::PPM / 100),
        allowance(design, against_history)
    )
}

/// The smallest regression that would have been seen by now.
fn smallest_unseen(state: &State) -> String {
    let parts: Vec<String> = state
        .signals
        .iter()
        .zip(&state.design.signals)
        // Other pods behind the same proxy hide a rise, so nothing is excluded by it.
        .filter(|(_, design)| design.weight > 0 && !design.proxied)
        .filter_map(|(signal, design)| {
            let total = signal.cells.first()?.new.total;
            match excluded(signal, design) {
                Some(rise) => Some(format!("{}: a rise to {rise} times the old share is excluded", design.name)),
                None if little_to_compare(signal, design) => {
                    Some(format!("{}: there is too little of the old revision to compare with", design.name))
                }
                None if total > 0 => Some(format!(
                    "{}: {} requests are too few to exclude even a rise to 50 times the old share",
                    design.name,
                    grouped(total)
                )),
                None => None,
            }
        })
        .collect();
    parts.join("; ")
}

/// Whether what is compared with is a small part of what was counted.
fn little_to_compare(signal: &super::SignalState, design: &super::SignalDesign) -> bool {
    signal.cells.first().is_some_and(|cell| compared(cell, design).1.total < cell.new.total / 20)
}
