//! Allocations of the pure path: assess and decide, for 2 new and 2 old pods with three signals.
//!
//! Role: counts what one evaluation asks of the allocator. Inputs: prebuilt readings. Outputs: a count and bytes.

use std::alloc::System;
use std::hint::black_box;
use std::time::Duration;

use deployment_guard::domain::assess::{
    self, AssessInput, AssessState, Measured, MetricReadings, Reading, SignalReading,
};
use deployment_guard::domain::chain::{self, Moment};
use deployment_guard::domain::evidence::{Counters, GaugePoint, MemoryLimit, PodLife};
use deployment_guard::domain::plan::Stage;
use deployment_guard::domain::policy::{Analysis, Interval, OnInconclusive, Scorer};
use deployment_guard::domain::rollout::{PodName, Side};
use deployment_guard::domain::signal::Term;
use jiff::Timestamp;
use stats_alloc::{Region, StatsAlloc};

const ROUNDS: usize = 100;
const STEP: i64 = 5;
/// A read reaches back over a minute, on a grid of 5 s.
const ROWS: i64 = 13;
const PODS: [(&str, Side); 4] =
    [("api-new-1", Side::New), ("api-new-2", Side::New), ("api-old-1", Side::Old), ("api-old-2", Side::Old)];

/// What one evaluation asks of the allocator.
pub struct Pure {
    /// Calls for new or more memory.
    pub allocations: usize,
    /// Bytes asked for in all.
    pub bytes: usize,
}

/// Counts over many evaluations; everything here is the same each time.
pub fn measure(allocator: &StatsAlloc<System>) -> Pure {
    let (lives, readings, analysis) = (lives(), readings(), analysis());
    let state = AssessState::new(Scorer::Seed, at(0));
    let now = at(STEP * (ROWS - 1));
    let region = Region::new(allocator);
    for _ in 0..ROUNDS {
        let input = AssessInput { now, lives: &lives, readings: &readings, rollout: None };
        let found = assess::assess(Scorer::Seed, &state, &input, &analysis);
        let moment = Moment {
            now,
            window_end: at(3600),
            interval: Duration::from_secs(5),
            rollout_complete: true,
            stage: Stage::Judging,
            on_inconclusive: OnInconclusive::Continue,
        };
        black_box(chain::decide(&found, None, None, &moment));
    }
    let change = region.change();
    Pure { allocations: (change.allocations + change.reallocations) / ROUNDS, bytes: change.bytes_allocated / ROUNDS }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap_or_default()
}

fn analysis() -> Analysis {
    Analysis {
        interval: Interval::Every(Duration::from_secs(5)),
        warmup: Duration::ZERO,
        window: Duration::from_hours(1),
        min_requests: 20,
        on_inconclusive: OnInconclusive::Continue,
        scorer: Scorer::Seed,
        ..Analysis::default()
    }
}

fn lives() -> Vec<PodLife> {
    let life = |(name, side): (&str, Side)| PodLife {
        pod: PodName::new("shop", name),
        side: Some(side),
        created: at(-100),
        grown_from: Some(at(-90)),
        container_starts: Vec::new(),
        gone: None,
        containers: vec![MemoryLimit { name: "app".into(), memory_limit: Some(1000) }],
    };
    PODS.into_iter().map(life).collect()
}

fn readings() -> MetricReadings {
    let counters = |bounds: Vec<f64>, row: &[u64]| {
        let mut counters = Counters::new(row.len(), bounds);
        for (name, _) in PODS {
            for step in 0..ROWS {
                let times = u64::try_from(step).unwrap_or_default();
                let row: Vec<u64> = row.iter().map(|count| count * times).collect();
                counters.push(&PodName::new("shop", name), at(step * STEP), at(step * STEP), &row);
            }
        }
        counters
    };
    let point = |name: &str, step: i64| GaugePoint {
        pod: PodName::new("shop", name),
        container: Some("app".into()),
        sampled: at(step * STEP),
        value: 600.0,
    };
    let memory = PODS.iter().flat_map(|(name, _)| (0..ROWS).map(move |step| point(name, step))).collect();
    let signals = [
        ("http/errors", Measured::Ratio(counters(Vec::new(), &[50, 1]))),
        (
            "http/latency",
            Measured::Histogram(counters(vec![10.0, 50.0, 100.0, 500.0, 2500.0], &[50, 11, 35, 46, 50, 50])),
        ),
        ("container/memory", Measured::Gauge(memory)),
    ];
    let reading = |(name, measured): (&str, Measured)| SignalReading {
        name: name.to_owned(),
        term: Term::of(name),
        origin: String::new(),
        query: "a query".to_owned(),
        reading: Reading::Value(measured),
    };
    MetricReadings { signals: signals.into_iter().map(reading).collect() }
}
