//! The old revision before the rollout, as the judge wants it.
//!
//! Role: history lines to `judge::History`; gaps stay gaps, rows keep their order. Inputs: a header. Outputs: history,
//! and the step length that times tell. Must never import: other rooms.

use std::time::Duration;

use super::Form;
use super::header::{Header, kind};
use super::line::{Line, Reading};
use crate::domain::evidence::number::to_f64;
use crate::domain::judge::{History, MAX_HISTORY_STEPS, Row, Sides, SignalHistory};
use crate::domain::policy::Scorer;
use crate::domain::process::Counts;

/// History beyond this is long: scatter is measured on its older half.
const LONG_SECONDS: f64 = 1800.0;

impl Header {
    /// The form of each signal as far as the header tells.
    pub(super) fn forms(&self) -> Vec<Option<Form>> {
        let of = |index: usize| {
            let seen = |line: &Line| line.signals.get(index)?.as_ref()?.form();
            self.history.iter().chain(&self.start).find_map(seen)
        };
        (0..self.names.len()).map(of).collect()
    }

    /// What was seen before the rollout. `first` holds the first steps: without a history, what shows there is believed to
    /// have been there before, and a histogram takes its boundaries from the old pods there.
    pub(super) fn past(&self, forms: &[Option<Form>], first: &[Line]) -> History {
        let last = self.history.last().map_or(0.0, |line| line.t);
        let shift = if last >= 0.0 && self.rollout.is_none() { last } else { 0.0 };
        let span = last - self.history.first().map_or(0.0, |line| line.t);
        let shows = |index: usize| first.iter().any(|line| line.signals.get(index).is_some_and(Option::is_some));
        let nothing = (0..forms.len()).all(|index| !shows(index));
        // What was fixed was fixed by steps of one length.
        let longer =
            spacing(&self.history).filter(|_| self.rollout.is_none()).map(|gap| gap / self.step(first).as_secs_f64());
        let signals = forms.iter().enumerate().map(|(index, form)| {
            let bounds = self.bounds(index, first);
            let mut found = SignalHistory {
                long: span > LONG_SECONDS,
                longer,
                assumed: self.history.is_empty() && (nothing || shows(index)),
                start_growth: self.growth.get(index).cloned().unwrap_or_default(),
                ..SignalHistory::default()
            };
            match form {
                Some(Form::Values) => found.values = values(&self.history, index, shift),
                Some(_) => {
                    found.steps = rows(&self.history, index, &bounds);
                    found.start = rows(&self.start, index, &bounds);
                }
                None => {}
            }
            if *form == Some(Form::Boundaries) {
                if found.steps.is_empty() && self.history.is_empty() {
                    found.steps = seen_beside(first, index, &bounds);
                }
                found.bounds = bounds.iter().map(|thousandths| to_f64(*thousandths) / 1000.0).collect();
            }
            found
        });
        History { signals: signals.collect() }
    }

    /// The boundaries of a histogram: those that were fixed, else those of the newest reading.
    fn bounds(&self, index: usize, first: &[Line]) -> Vec<u64> {
        let fixed = self.rollout.as_ref().and_then(|rollout| rollout.boundaries.get(index).cloned().flatten());
        if let Some(fixed) = fixed {
            return fixed;
        }
        let newest = self.history.iter().rev().chain(first).find_map(|line| match line.signals.get(index)? {
            Some(Reading::Boundaries(found)) => Some(found),
            _ => None,
        });
        let mut bounds: Vec<u64> = newest.map(|all| all.iter().map(|(ms, _)| *ms).collect()).unwrap_or_default();
        bounds.sort_unstable();
        bounds
    }

    /// The usual length of a step: as fixed, as the steps tell, as the history tells, else that of most scrapes.
    pub(super) fn step(&self, first: &[Line]) -> Duration {
        let fixed = self.rollout.as_ref().and_then(|rollout| rollout.step_ms).map(Duration::from_millis);
        let told = || spacing(first).or_else(|| spacing(&self.history)).map(Duration::from_secs_f64);
        fixed.or_else(told).unwrap_or(Duration::from_secs(15))
    }

    /// Whether a formula judges.
    pub(super) fn is_seed(&self) -> bool {
        self.scorer() == Scorer::Seed
    }

    /// Whether a signal is judged as it is given.
    pub(super) fn fits(&self, index: usize, form: Form, judged: crate::domain::judge::Kind) -> bool {
        let fixed = self.rollout.as_ref().and_then(|rollout| rollout.signals.get(index)?.kind);
        fixed.is_some()
            || self.names.get(index).is_none_or(|name| {
                let has_start = self.growth.get(index).is_some_and(|growth| !growth.is_empty());
                kind(name, Some(form), has_start) == judged
            })
    }
}

/// The median of the times between lines.
fn spacing(lines: &[Line]) -> Option<f64> {
    let mut gaps: Vec<f64> = lines
        .windows(2)
        .filter_map(|pair| match pair {
            [before, after] => Some(after.t - before.t),
            _ => None,
        })
        .collect();
    gaps.sort_by(f64::total_cmp);
    // Two days between steps are no step length.
    gaps.get(gaps.len() / 2).copied().map(|gap| gap.clamp(0.001, 172_800.0))
}

fn values(lines: &[Line], index: usize, shift: f64) -> Vec<(f64, f64)> {
    let of = |line: &Line| match line.signals.get(index)? {
        Some(Reading::Values { old: Some(old), .. }) => Some((line.t - shift, *old)),
        _ => None,
    };
    lines.iter().filter_map(of).collect()
}

fn rows(lines: &[Line], index: usize, bounds: &[u64]) -> Vec<Row> {
    let of = |line: &Line| match line.signals.get(index)? {
        Some(Reading::Counts(sides)) => Some(vec![sides.old?]),
        Some(Reading::Boundaries(found)) => row(found, bounds),
        _ => None,
    };
    let mut rows: Vec<Row> = lines.iter().filter_map(of).collect();
    rows.drain(..rows.len().saturating_sub(MAX_HISTORY_STEPS));
    rows
}

/// One entry a boundary; none if one is missing.
fn row(found: &[(u64, Sides)], bounds: &[u64]) -> Option<Row> {
    bounds.iter().map(|wanted| found.iter().find(|(ms, _)| ms == wanted)?.1.old).collect()
}

/// All that old pods counted in the first steps, as one row.
fn seen_beside(first: &[Line], index: usize, bounds: &[u64]) -> Vec<Row> {
    let all = rows(first, index, bounds);
    let sum = |test: usize| all.iter().filter_map(|row| row.get(test)).copied().sum::<Counts>();
    if all.is_empty() { Vec::new() } else { vec![(0..bounds.len()).map(sum).collect()] }
}
