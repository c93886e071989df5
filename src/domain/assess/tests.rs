use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::evidence::MemoryLimit;
use crate::domain::policy::{Interval, OnInconclusive};
use crate::domain::rollout::{PodName, Side};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn analysis(min_requests: u64) -> Analysis {
    Analysis {
        interval: Interval::Every(Duration::from_secs(5)),
        warmup: Duration::ZERO,
        window: Duration::from_mins(10),
        min_requests,
        on_inconclusive: OnInconclusive::Continue,
        scorer: Scorer::Seed,
        ..Analysis::default()
    }
}

fn life(name: &str, side: Side) -> PodLife {
    PodLife {
        pod: PodName::new("shop", name),
        side: Some(side),
        created: at(-100),
        grown_from: Some(at(-50)),
        container_starts: Vec::new(),
        gone: None,
        containers: vec![MemoryLimit { name: "app".into(), memory_limit: Some(1000) }],
    }
}

fn reading(name: &str, reading: Reading<Measured>) -> SignalReading {
    SignalReading { name: name.to_owned(), term: Term::of(name), origin: String::new(), query: String::new(), reading }
}

/// Counters that grow by `total` and `parts` in every step of 5 s.
fn growing(bounds: Vec<f64>, pods: &[(&str, u64, &[u64])], steps: u64) -> Counters {
    let width = 1 + pods[0].2.len();
    let mut counters = Counters::new(width, bounds);
    for (name, total, parts) in pods {
        for step in 0..=steps {
            let row: Vec<u64> = std::iter::once(total).chain(*parts).map(|count| count * step).collect();
            let time = at(i64::try_from(step).unwrap() * 5);
            counters.push(&PodName::new("shop", name), time, time, &row);
        }
    }
    counters
}

fn errors(bad: u64, total: u64, steps: u64) -> Reading<Measured> {
    Reading::Value(Measured::Ratio(growing(vec![], &[("new", total, &[bad]), ("old", total, &[0])], steps)))
}

fn memory(percent: f64) -> Reading<Measured> {
    let point = |time| GaugePoint {
        pod: PodName::new("shop", "new"),
        container: Some("app".into()),
        sampled: at(time),
        value: percent * 10.0,
    };
    Reading::Value(Measured::Gauge((0..20).map(|step| point(step * 5)).collect()))
}

fn latency() -> Reading<Measured> {
    Reading::Value(Measured::Histogram(growing(
        vec![100.0, 500.0],
        &[("new", 100, &[90, 100]), ("old", 100, &[100, 100])],
        10,
    )))
}

fn judge(signals: Vec<SignalReading>, min_requests: u64) -> Assessment {
    let lives = [life("new", Side::New), life("old", Side::Old)];
    let readings = MetricReadings { signals };
    let input = AssessInput { now: at(60), lives: &lives, readings: &readings, rollout: None };
    assess(Scorer::Seed, &AssessState::new(Scorer::Seed, at(0)), &input, &analysis(min_requests))
}

fn full(bad: u64, steps: u64) -> Vec<SignalReading> {
    vec![
        reading("web/errors", errors(bad, 100, steps)),
        reading("web/latency", latency()),
        reading("memory", memory(60.0)),
    ]
}

fn points(errors: f64, memory: f64, p95: f64) -> f64 {
    score(errors, Some(memory), Some(p95)).0.unwrap().value()
}

#[test]
fn the_worked_examples_hold() {
    assert!((points(12.5, 78.2, 450.0) - 70.9).abs() < 1e-9);
    assert!((points(25.3, 88.7, 1850.0) - 26.55).abs() < 1e-9);
    assert!((points(30.0, 10.0, 50.0) - 40.0).abs() < 1e-9);
    assert!((points(25.0, 0.0, 0.0) - 50.0).abs() < f64::EPSILON);
    assert!((points(100.0, 100.0, 9000.0)).abs() < f64::EPSILON);
}

#[test]
fn two_bad_scores_running_are_harm_and_one_is_not() {
    let two = judge(full(40, 3), 20);
    assert_eq!(two.standing, Standing::Harmful);
    assert_eq!(two.metrics.error_rate_ppm, Some(400_000));
    assert!(
        two.reasoning.contains("error rate 40.0 % against 0.0 % on the old revision (40 of 100 requests)"),
        "{}",
        two.reasoning
    );
    let one = judge(full(40, 1), 20);
    assert!(matches!(one.standing, Standing::Unproven { reason: Reason::InsufficientData, .. }), "{:?}", one.standing);
    assert_eq!(one.state.since(), at(5));
}

#[test]
fn a_quarter_of_errors_is_exactly_fifty_and_no_harm() {
    let found = judge(full(25, 5), 20);
    assert_eq!(found.score.unwrap().points(), 50);
    assert_eq!(found.standing, Standing::Fine);
    assert_eq!(found.confidence.unwrap().value(), 0);
}

#[test]
fn a_healthy_release_is_fine_and_its_signals_are_shown() {
    let found = judge(full(0, 5), 20);
    assert_eq!(found.standing, Standing::Fine);
    assert_eq!(found.confidence.unwrap().value(), 95);
    assert_eq!(found.metrics.memory_percent, Some(60));
    assert_eq!(found.metrics.response_time_ms, Some(300));
    let view = &found.signals[0];
    assert_eq!((view.counts.as_str(), view.new.as_str(), view.old.as_str()), ("0 of 100", "0.0 %", "0.0 %"));
    assert_eq!(found.signals[1].old, "95 ms");
}

#[test]
fn steps_are_merged_until_there_are_enough_requests() {
    let found = judge(full(40, 3), 150);
    assert_eq!(
        found.state,
        AssessState::Seed(SeedState {
            scored_until: at(10),
            low_streak: 1,
            scores: 1,
            last_points: Some(20),
            complete: true,
        })
    );
    let none = judge(full(40, 3), 1000);
    assert!(
        matches!(&none.standing, Standing::NotYet { reason: Reason::InsufficientData, message } if message.contains("300 of 1000"))
    );
    assert_eq!(none.score, None);
}

#[test]
fn what_is_missing_forbids_fine_and_is_named() {
    for (name, missing) in [
        ("web/latency", Reading::Missing(MissingReason::NoHistogram)),
        ("web/latency", Reading::Errored("timed out".to_owned())),
        ("memory", Reading::Missing(MissingReason::NoSeries)),
    ] {
        let mut signals = full(0, 5);
        let text = missing.sentence();
        signals.iter_mut().find(|signal| signal.name == name).unwrap().reading = missing;
        match judge(signals, 20).standing {
            Standing::Unproven { message, .. } => {
                assert!(message.contains(name) && message.contains(&text), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn unreadable_errors_are_neither_good_nor_bad() {
    let mut signals = full(40, 5);
    signals[0].reading = Reading::Errored("no connection".to_owned());
    let found = judge(signals, 20);
    assert!(matches!(found.standing, Standing::NotYet { reason: Reason::PrometheusUnreachable, .. }));
    assert_eq!(found.score, None);
    assert_eq!(found.state.since(), at(0));
}

#[test]
fn memory_that_is_scraped_less_often_than_errors_still_counts() {
    let point = |time, percent: f64| GaugePoint {
        pod: PodName::new("shop", "new"),
        container: Some("app".into()),
        sampled: at(time),
        value: percent * 10.0,
    };
    let mut signals = full(0, 5);
    signals[2].reading = Reading::Value(Measured::Gauge(vec![point(-30, 95.0), point(1, 60.0), point(50, 99.0)]));
    let found = judge(signals, 20);
    assert_eq!(found.standing, Standing::Fine);
    assert_eq!(found.metrics.memory_percent, Some(60));
}

#[test]
fn no_requests_are_no_traffic() {
    let mut signals = full(0, 3);
    signals[0].reading = errors(0, 0, 3);
    assert!(matches!(judge(signals, 20).standing, Standing::NotYet { reason: Reason::NoTraffic, .. }));
}

#[test]
fn the_last_finite_bucket_is_a_lower_bound_and_said_so() {
    assert_eq!(quantile_ms(0.95, &[100.0, 500.0], &[10, 50], 100), Some(Quantile { value: 500.0, at_least: true }));
    assert_eq!(quantile_ms(0.5, &[100.0, 500.0], &[0, 100], 100), Some(Quantile { value: 300.0, at_least: false }));
    assert_eq!(quantile_ms(0.5, &[100.0], &[0], 0), None);
}

#[test]
fn the_state_survives_json() {
    let state = AssessState::new(Scorer::Seed, at(0));
    let text = serde_json::to_string(&state).unwrap();
    assert!(text.contains("seed-v1"));
    assert_eq!(serde_json::from_str::<AssessState>(&text).unwrap(), state);
}

fn unreadable() -> impl Strategy<Value = Reading<Measured>> {
    prop_oneof![
        Just(Reading::Missing(MissingReason::NoSeries)),
        Just(Reading::Errored("x".to_owned())),
        Just(Reading::Value(Measured::Ratio(Counters::new(2, vec![])))),
    ]
}

proptest! {
    #[test]
    fn scores_are_bounded_and_fall_with_every_metric(
        e in 0.0..100.0, m in 0.0..200.0, l in 0.0..1e6, de in 0.0..50.0, dm in 0.0..50.0, dl in 0.0..1e4,
    ) {
        let base = points(e, m, l);
        prop_assert!((0.0..=100.0).contains(&base));
        prop_assert!(points(e + de, m, l) <= base);
        prop_assert!(points(e, m + dm, l) <= base);
        prop_assert!(points(e, m, l + dl) <= base);
    }

    #[test]
    fn no_verdict_comes_out_of_missing_data(first in unreadable(), latency in unreadable(), memory in unreadable()) {
        let signals = vec![reading("errors", first), reading("latency", latency), reading("memory", memory)];
        let found = judge(signals, 1);
        let not_yet = matches!(found.standing, Standing::NotYet { .. });
        prop_assert!(not_yet);
        prop_assert_eq!(found.score, None);
    }

    #[test]
    fn quantiles_stay_within_the_bounds(parts in prop::collection::vec(0_u64..1000, 3), total in 0_u64..3000, q in 0.0..1.0) {
        let mut parts = parts;
        parts.sort_unstable();
        if let Some(found) = quantile_ms(q, &[10.0, 20.0, 40.0], &parts, total) {
            prop_assert!((0.0..=40.0).contains(&found.value));
        }
    }
}
