//! The old revision before the rollout, and which part of it each step is compared with.
//!
//! Role: every step of history is used once: step t is paired with history steps t, t+T, t+2T … Inputs: counts and values
//! before the rollout. Outputs: pairs, and the facts a design is made from. Must never import: other rooms.

use crate::domain::process::Counts;

/// The most steps of history that are kept.
pub const MAX_HISTORY_STEPS: usize = 1440;
/// Fewer steps are no history.
pub(super) const LEAST_STEPS: usize = 20;
/// Requests a recorded start must have to be compared with.
const LEAST_START: u64 = 100;

/// One step: counts for each possible test (one for a ratio, one for each boundary of a histogram).
pub type Row = Vec<Counts>;

/// One signal before the rollout.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SignalHistory {
    /// Upper bounds in milliseconds; empty for a ratio.
    pub bounds: Vec<f64>,
    /// Grown-up pods, all together, oldest first.
    pub steps: Vec<Row>,
    /// The same pods one by one, for the scatter between them: a list of pods, each with its steps.
    pub pods: Vec<Vec<Row>>,
    /// Pods of the previous revision in their own warm-up, by age.
    pub start: Vec<Row>,
    /// Values of a gauge, oldest first, in pairs of seconds before the rollout (negative) and value.
    pub values: Vec<(f64, f64)>,
    /// How much a leak's gauge grew a step, by age, at the previous revision's own start.
    pub start_growth: Vec<f64>,
    /// Whether it reaches back further than half an hour; then its older half is for measuring scatter.
    pub long: bool,
    /// How many times longer a step of the history is than one of the rollout, where a recording has both.
    pub longer: Option<f64>,
    /// Nobody looked before the rollout, and the signal is believed to have been there: a recording without history.
    pub assumed: bool,
}

impl SignalHistory {
    /// The part that scatter and boundaries are measured on.
    pub(super) fn older(&self) -> &[Row] {
        let end = if self.long { self.steps.len() / 2 } else { self.steps.len() };
        self.steps.get(..end).unwrap_or_default()
    }

    /// Whether there is enough of it.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.steps.len() >= LEAST_STEPS
    }

    /// Whether the previous revision's own start was recorded, which young pods can be compared with.
    pub(super) fn has_start(&self) -> bool {
        SignalHistory::column(&self.start, 0).into_iter().map(|counts| counts.total).sum::<u64>() >= LEAST_START
    }

    /// The column of one test.
    pub(super) fn column(rows: &[Row], test: usize) -> Vec<Counts> {
        rows.iter().map(|row| row.get(test).copied().unwrap_or_default()).collect()
    }

    /// What step `t` (from 1) of a test is paired with; none when the history is used up.
    #[must_use]
    pub fn paired(&self, test: usize, t: u32, stride: u32) -> Option<Counts> {
        if !self.is_enough() {
            return None;
        }
        let first = usize::try_from(t.saturating_sub(1)).ok()?;
        let stride = usize::try_from(stride.max(1)).ok()?;
        self.steps.get(first)?;
        Some(self.steps.iter().skip(first).step_by(stride).filter_map(|row| row.get(test)).copied().sum())
    }

    /// The previous revision's own start, at the same age in steps (from 1), if enough of it was recorded.
    pub(super) fn started(&self, test: usize, age: u32) -> Option<Counts> {
        let index = usize::try_from(age.saturating_sub(1)).ok()?;
        let all: Counts = Self::column(&self.start, test).into_iter().sum();
        (all.total >= LEAST_START).then(|| self.start.get(index)?.get(test).copied()).flatten()
    }

    /// Whether anything was counted or measured.
    #[must_use]
    pub fn has_data(&self) -> bool {
        self.assumed
            || !self.values.is_empty()
            || self.steps.iter().flatten().any(|counts| counts.total > 0)
            // A release that follows the first one within minutes: all there is of the old pods is their own start.
            || self.has_start()
    }

    /// The value at the same time of day on earlier days where that is known, else the mean of all: values are no bets, so
    /// they are not used up.
    pub(super) fn paired_value(&self, seconds: f64, step: f64) -> Option<f64> {
        const DAY: f64 = 86_400.0;
        let span = self.values.first().map_or(0.0, |(at, _)| -at);
        let chosen: Vec<f64> = if span >= DAY {
            let near = |at: f64| {
                let days = ((seconds - at) / DAY).round();
                days >= 1.0 && (seconds - at - days * DAY).abs() <= step.max(60.0)
            };
            self.values.iter().filter(|(at, _)| near(*at)).map(|(_, value)| *value).collect()
        } else {
            self.values.iter().map(|(_, value)| *value).collect()
        };
        if chosen.is_empty() || self.values.len() < LEAST_STEPS {
            return None;
        }
        let count = crate::domain::evidence::number::to_f64(u64::try_from(chosen.len()).ok()?);
        Some(chosen.iter().sum::<f64>() / count)
    }
}

/// Everything seen before the rollout, one entry a signal of the settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// By signal.
    pub signals: Vec<SignalHistory>,
}
