//! The original formula over a recording.
//!
//! Role: steps merged until there are enough requests, a score for each such period, ROLLBACK after low scores running.
//! Inputs: steps. Outputs: scores, one decision. A term that is missing takes nothing off and forbids "fine". Must never
//! import: other rooms.

use super::conclude::Conclusion;
use super::line::{Line, Reading};
use crate::domain::assess::{STREAK, THRESHOLD, quantile_ms, score};
use crate::domain::evidence::number::to_f64;
use crate::domain::outcome::{Confidence, HealthScore, Reason, Verdict};
use crate::domain::policy::OnInconclusive;
use crate::domain::process::Counts;
use crate::domain::signal::Term;

/// The 95th percentile is what the formula asks for.
const QUANTILE: f64 = 0.95;

/// What was counted and measured since the last score.
#[derive(Debug, Clone, Default)]
struct Merged {
    counts: Counts,
    /// Requests at or below each boundary in milliseconds, and all of them.
    below: Vec<(f64, u64)>,
    total: u64,
    value: Option<f64>,
}

/// The formula under way.
#[derive(Debug, Clone)]
pub(super) struct SeedRun {
    terms: Vec<Option<Term>>,
    min_requests: u64,
    merged: Vec<Merged>,
    counted: u64,
    low: u8,
    last: Option<(HealthScore, u64)>,
    complete: bool,
    text: String,
}

impl SeedRun {
    pub(super) fn new(names: &[String], min_requests: u64) -> Self {
        let terms: Vec<Option<Term>> = names.iter().map(|name| Term::of(name)).collect();
        let merged = vec![Merged::default(); terms.len()];
        Self {
            terms,
            min_requests: min_requests.max(1),
            merged,
            counted: 0,
            low: 0,
            last: None,
            complete: false,
            text: "no score yet".to_owned(),
        }
    }

    /// One step; a decision when low scores run.
    pub(super) fn step(&mut self, line: &Line, step: u64) -> Option<Conclusion> {
        for (merged, reading) in self.merged.iter_mut().zip(&line.signals) {
            if let Some(reading) = reading {
                merged.add(reading);
            }
        }
        let errors = self.terms.iter().position(|term| *term == Some(Term::Errors));
        let counts = errors.and_then(|index| self.merged.get(index)).map(|merged| merged.counts)?;
        self.counted = self.counted.max(counts.total);
        if counts.total < self.min_requests {
            return None;
        }
        let (score, text, complete) = self.score();
        let score = score?;
        self.low = if score.value() < THRESHOLD { self.low.saturating_add(1) } else { 0 };
        (self.last, self.complete, self.text) = (Some((score, step)), complete, text);
        for merged in &mut self.merged {
            *merged = Merged { value: None, ..Merged::default() };
        }
        (self.low >= STREAK).then(|| self.conclusion(Verdict::Rollback, Reason::ScoreBelowThreshold, Some(step)))
    }

    /// The worst of each term.
    fn score(&self) -> (Option<HealthScore>, String, bool) {
        let worst = |term: Term| {
            let of = self.terms.iter().zip(&self.merged).filter(|(found, _)| **found == Some(term));
            of.filter_map(|(_, merged)| merged.value(term)).reduce(f64::max)
        };
        let Some(errors) = worst(Term::Errors) else { return (None, String::new(), false) };
        let (memory, latency) = (worst(Term::Memory), worst(Term::Latency));
        let (score, terms) = score(errors, memory, latency);
        let mut parts: Vec<String> =
            terms.iter().map(|term| format!("{} {:.1} takes off {:.1}", term.term, term.value, term.points)).collect();
        for (missing, term) in [(memory.is_none(), Term::Memory), (latency.is_none(), Term::Latency)] {
            if missing {
                parts.push(format!("{term} not measured"));
            }
        }
        (score, parts.join("; "), memory.is_some() && latency.is_some())
    }

    /// What the end decides.
    pub(super) fn finish(&self, on_inconclusive: OnInconclusive) -> Conclusion {
        let Some((_, step)) = self.last else {
            let reason = if self.counted == 0 { Reason::NoTraffic } else { Reason::InsufficientData };
            return Conclusion::unproven(reason, self.text.clone(), on_inconclusive);
        };
        if self.low == 0 && self.complete {
            return self.conclusion(Verdict::Continue, Reason::AnalysisPassed, Some(step));
        }
        let unproven = Conclusion::unproven(Reason::InsufficientData, String::new(), on_inconclusive);
        self.conclusion(unproven.decision, Reason::InsufficientData, None)
    }

    /// The last score and what it is made of.
    pub(super) fn shown(&self) -> (Option<u8>, &str) {
        (self.last.map(|(score, _)| score.points()), &self.text)
    }

    fn conclusion(&self, decision: Verdict, reason: Reason, step: Option<u64>) -> Conclusion {
        let value = self.last.map(|(score, _)| score);
        let far = value.map_or(0.0, |score| ((score.value() - THRESHOLD).abs() * 2.0).min(95.0));
        Conclusion {
            decision,
            confidence: Confidence::percent(far).value(),
            health_score: value.map(HealthScore::points),
            reason,
            deciding_step: step,
            message: self.text.clone(),
        }
    }
}

impl Merged {
    fn add(&mut self, reading: &Reading) {
        match reading {
            Reading::Nothing => {}
            // Pods in their warm-up do not count.
            Reading::Counts(sides) => self.counts = self.counts.plus(sides.grown.unwrap_or_default()),
            Reading::Boundaries(found) => {
                let grown = |sides: &crate::domain::judge::Sides| sides.grown.unwrap_or_default();
                self.total = self.total.saturating_add(found.first().map_or(0, |(_, sides)| grown(sides).total));
                for (thousandths, sides) in found {
                    let (ms, counts) = (to_f64(*thousandths) / 1000.0, grown(sides));
                    let fast = counts.total.saturating_sub(counts.bad);
                    match self.below.iter_mut().find(|(known, _)| known.total_cmp(&ms).is_eq()) {
                        Some((_, below)) => *below = below.saturating_add(fast),
                        None => self.below.push((ms, fast)),
                    }
                }
            }
            Reading::Values { new, .. } => {
                self.value = new.map(|new| self.value.map_or(new, |before| before.max(new))).or(self.value);
            }
        }
    }

    /// Errors in percent, latency in milliseconds, memory in percent.
    fn value(&self, term: Term) -> Option<f64> {
        match term {
            Term::Errors => self.counts.rate().map(|rate| 100.0 * rate),
            Term::Memory => self.value,
            Term::Latency => self.value.or_else(|| {
                let mut below = self.below.clone();
                below.sort_by(|a, b| a.0.total_cmp(&b.0));
                let (bounds, parts): (Vec<f64>, Vec<u64>) = below.into_iter().unzip();
                quantile_ms(QUANTILE, &bounds, &parts, self.total).map(|found| found.value)
            }),
        }
    }
}
