//! When the n-th request of an open loop is due, and percentiles of what came back. Pure arithmetic.

use std::time::Duration;

/// Requests at an even rate from a start, whether or not earlier ones were answered.
#[derive(Clone, Copy, Debug)]
pub struct Pacing {
    rate: f64,
    total: u32,
}

impl Pacing {
    /// `rate` per second over `seconds`.
    pub fn new(rate: u32, seconds: u32) -> Self {
        Self { rate: f64::from(rate), total: rate.saturating_mul(seconds) }
    }

    /// Time from the start to the request with this index; none when all are sent.
    pub fn due(&self, index: u32) -> Option<Duration> {
        (index < self.total).then(|| Duration::from_secs_f64(f64::from(index) / self.rate))
    }
}

/// The smallest value that `percent` of the sorted values do not exceed.
pub fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_evenly_spaced_and_do_not_drift() {
        let pacing = Pacing::new(100, 3600);
        assert_eq!(pacing.due(0), Some(Duration::ZERO));
        assert_eq!(pacing.due(1), Some(Duration::from_millis(10)));
        assert_eq!(pacing.due(359_999), Some(Duration::from_millis(3_599_990)));
        assert_eq!(pacing.due(360_000), None);
    }

    #[test]
    fn a_rate_that_divides_no_second_still_meets_every_whole_one() {
        let pacing = Pacing::new(3, 10);
        assert_eq!(pacing.due(27), Some(Duration::from_secs(9)));
        let gap = pacing.due(2).unwrap().abs_diff(pacing.due(1).unwrap());
        assert!(gap.abs_diff(Duration::from_nanos(333_333_333)) < Duration::from_nanos(2));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<Duration> = (1..=20).map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 50), Some(Duration::from_millis(10)));
        assert_eq!(percentile(&values, 95), Some(Duration::from_millis(19)));
        assert_eq!(percentile(&values, 100), Some(Duration::from_millis(20)));
        assert_eq!(percentile(&values[..1], 50), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&[], 50), None);
    }
}
