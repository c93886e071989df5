//! Kayenta's judge `NetflixACAJudge`: a Mann-Whitney test of two series of values, one value a step.
//!
//! A metric is *High*, and fails, if the lower end of the 98 % confidence interval of the shift between the series
//! (Hodges-Lehmann, after Hollander and Wolfe) lies above a quarter of the estimated shift. Every metric is critical, and
//! an interval without requests has error rate 0 (`nanStrategy: replace`). Looked at every minute.

use deployment_guard::domain::assess::quantile_ms;
use deployment_guard::domain::evidence::number::{to_count, to_f64};

use super::{Rule, Seen, Verdict};
use crate::generator::BUCKETS;

/// Two-sided 98 %.
const Z98: f64 = 2.326_348;
/// The part of the shift that is tolerated.
const TOLERANCE: f64 = 0.25;
/// Steps between looks.
const MINUTE: usize = 4;

/// Values of one metric, in order.
#[derive(Default)]
struct Series {
    new: Vec<f64>,
    old: Vec<f64>,
}

impl Series {
    fn push(&mut self, new: f64, old: f64) {
        for (series, value) in [(&mut self.new, new), (&mut self.old, old)] {
            let place = series.partition_point(|other| *other < value);
            series.insert(place, value);
        }
    }

    /// Which of the sorted differences is the lower end of the interval, from 1; `None` for too few values.
    fn rank(&self) -> Option<u64> {
        let (n, m) = (length(&self.new), length(&self.old));
        let rank = n * m / 2.0 - Z98 * (n * m * (n + m + 1.0) / 12.0).sqrt();
        to_count(rank.floor()).filter(|rank| *rank >= 1)
    }

    fn high(&self) -> bool {
        let Some(rank) = self.rank() else { return false };
        // The lower end is above zero only if fewer differences than its rank are not; seldom so in a healthy release.
        let not_above: usize =
            self.new.iter().map(|new| self.old.len() - self.old.partition_point(|old| old < new)).sum();
        if u64::try_from(not_above).is_ok_and(|count| count >= rank) {
            return false;
        }
        let mut all: Vec<f64> = self.new.iter().flat_map(|new| self.old.iter().map(move |old| new - old)).collect();
        all.sort_unstable_by(f64::total_cmp);
        let lower = usize::try_from(rank - 1).ok().and_then(|index| all.get(index));
        let shift = all.get(all.len() / 2);
        lower.zip(shift).is_some_and(|(lower, shift)| *lower > TOLERANCE * shift.abs())
    }
}

fn length(values: &[f64]) -> f64 {
    to_f64(u64::try_from(values.len()).unwrap_or(0))
}

/// The judge, looking at the whole time so far.
pub struct Kayenta {
    least: usize,
    errors: Series,
    latency: Series,
}

impl Kayenta {
    /// The documentation asks for at least 50 values a metric.
    pub fn from_points(least: usize) -> Self {
        Self { least, errors: Series::default(), latency: Series::default() }
    }
}

impl Rule for Kayenta {
    fn step(&mut self, seen: &Seen) -> Option<Verdict> {
        let new = seen.all_new();
        self.errors.push(new.rate().unwrap_or(0.0), seen.old.rate().unwrap_or(0.0));
        if let Some(latency) = &seen.latency {
            let p95 = |parts: &[u64], total| quantile_ms(0.95, &BUCKETS, parts, total).map(|found| found.value);
            if let (Some(new), Some(old)) = (p95(&latency.new, new.total), p95(&latency.old, seen.old.total)) {
                self.latency.push(new, old);
            }
        }
        let points = self.errors.new.len();
        if points < self.least || !points.is_multiple_of(MINUTE) {
            return None;
        }
        (self.errors.high() || self.latency.high()).then_some(Verdict::RollBack)
    }
}
