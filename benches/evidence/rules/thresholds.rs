//! Rules that compare the new revision with a fixed number.
//!
//! Flagger: each `interval` one check of the metric over that interval; `threshold` failed checks roll back, good checks
//! in between take none of them back. Argo Rollouts: each `interval` one measurement; more than `failureLimit` failed ones
//! abort. The seed formula is the project's own code.

use std::collections::VecDeque;

use deployment_guard::domain::assess::{quantile_ms, score};
use deployment_guard::domain::evidence::number::to_f64;
use deployment_guard::domain::process::Counts;

use super::{Rule, Seen, Verdict};
use crate::generator::BUCKETS;

/// Steps of a minute.
const MINUTE: usize = 4;

/// Counts and buckets of the last steps.
struct Window {
    length: usize,
    steps: VecDeque<(Counts, Vec<u64>)>,
}

impl Window {
    fn new(length: usize) -> Self {
        Self { length, steps: VecDeque::new() }
    }

    fn push(&mut self, seen: &Seen) {
        let parts = seen.latency.as_ref().map(|latency| latency.new.clone()).unwrap_or_default();
        self.steps.push_back((seen.all_new(), parts));
        if self.steps.len() > self.length {
            self.steps.pop_front();
        }
    }

    fn counts(&self) -> Counts {
        self.steps.iter().map(|(counts, _)| *counts).sum()
    }

    /// A quantile of response times in milliseconds, if there is a histogram.
    fn quantile(&self, q: f64) -> Option<f64> {
        let mut parts = vec![0; BUCKETS.len()];
        for (_, step) in self.steps.iter().filter(|(_, step)| step.len() == BUCKETS.len()) {
            for (sum, part) in parts.iter_mut().zip(step) {
                *sum += part;
            }
        }
        let seen = self.steps.iter().any(|(_, step)| !step.is_empty());
        let found = quantile_ms(q, &BUCKETS, &parts, self.counts().total).filter(|_| seen)?;
        Some(found.value)
    }

    fn success(&self) -> Option<f64> {
        self.counts().rate().map(|rate| 1.0 - rate)
    }
}

/// Flagger's rule, and the same with another limit.
pub struct Threshold {
    least_success: f64,
    most_p99: Option<f64>,
    allowed: u32,
    failed: u32,
    steps: usize,
    window: Window,
}

impl Threshold {
    /// `request-success-rate` min 99, `request-duration` (99th percentile) max 500 ms, interval 1 m, threshold 5. Without
    /// traffic there is no value; Flagger counts that as failed, which is left out here.
    pub fn flagger() -> Self {
        Self::every_minute(0.99, Some(500.0), 5)
    }

    /// Somebody who knows the service's usual rate chose the limit.
    pub fn tuned(least_success: f64, allowed: u32) -> Self {
        Self::every_minute(least_success, None, allowed)
    }

    fn every_minute(least_success: f64, most_p99: Option<f64>, allowed: u32) -> Self {
        Self { least_success, most_p99, allowed, failed: 0, steps: 0, window: Window::new(MINUTE) }
    }
}

impl Rule for Threshold {
    fn step(&mut self, seen: &Seen) -> Option<Verdict> {
        self.window.push(seen);
        self.steps += 1;
        if !self.steps.is_multiple_of(MINUTE) {
            return None;
        }
        let errors = self.window.success().is_some_and(|success| success < self.least_success);
        let slow = self.most_p99.zip(self.window.quantile(0.99)).is_some_and(|(most, found)| found > most);
        self.failed += u32::from(errors || slow);
        (self.failed >= self.allowed).then_some(Verdict::RollBack)
    }
}

/// Argo Rollouts' rule.
pub struct Argo {
    least_success: f64,
    interval: usize,
    limit: u32,
    failed: u32,
    steps: usize,
    window: Window,
}

impl Argo {
    /// The example of the documentation: interval 5 m, `result >= 0.95`, `failureLimit` 3, and `irate`, which reads the
    /// last two samples only. Asked about the new pods only, and from the first step on, which it is not.
    pub fn documented() -> Self {
        Self { least_success: 0.95, interval: 5 * MINUTE, limit: 3, failed: 0, steps: 0, window: Window::new(1) }
    }

    /// The example of the same page with `interval: 60s`, at 99 % over the last minute.
    pub fn every_minute() -> Self {
        Self { least_success: 0.99, interval: MINUTE, limit: 3, failed: 0, steps: 0, window: Window::new(MINUTE) }
    }
}

impl Rule for Argo {
    fn step(&mut self, seen: &Seen) -> Option<Verdict> {
        self.window.push(seen);
        self.steps += 1;
        if !self.steps.is_multiple_of(self.interval) {
            return None;
        }
        self.failed += u32::from(self.window.success().is_some_and(|success| success < self.least_success));
        (self.failed > self.limit).then_some(Verdict::RollBack)
    }
}

/// The seed formula over periods of at least 20 requests, two scores below 50 running.
#[derive(Default)]
pub struct SeedFormula {
    period: Vec<Seen>,
    low: u32,
}

impl Rule for SeedFormula {
    fn step(&mut self, seen: &Seen) -> Option<Verdict> {
        self.period.push(seen.clone());
        let mut window = Window::new(usize::MAX);
        self.period.iter().for_each(|seen| window.push(seen));
        let counts = window.counts();
        if counts.total < 20 {
            return None;
        }
        let percent = 100.0 * to_f64(counts.bad) / to_f64(counts.total);
        let (found, _) = score(percent, None, window.quantile(0.95));
        self.period.clear();
        self.low = if found.is_some_and(|found| found.value() < 50.0) { self.low + 1 } else { 0 };
        (self.low >= 2).then_some(Verdict::RollBack)
    }
}
