//! The evidence scorer over raw counters: restarts, gaps, and what must not matter.

use proptest::prelude::*;

use super::*;
use crate::domain::judge::{Baseline, History, Kind, OnNoData, Overlap, Settings, SignalHistory, SignalSettings};
use crate::domain::process::Counts;
use crate::domain::rollout::{PodName, Side};

const STEP: i64 = 5;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn life(name: &str, side: Side) -> PodLife {
    PodLife {
        pod: PodName::new("shop", name),
        side: Some(side),
        created: at(-100),
        grown_from: Some(at(-50)),
        container_starts: Vec::new(),
        gone: None,
        containers: Vec::new(),
    }
}

fn settings() -> Settings {
    let errors = SignalSettings {
        name: "http/errors".into(),
        term: Some(Term::Errors),
        kind: Kind::Ratio,
        weight: 2,
        critical: true,
        max_ppm: None,
        limit: None,
        on_no_data: OnNoData::Inconclusive,
        dry_run: false,
    };
    Settings {
        alpha_ppm: 10_000,
        window: std::time::Duration::from_secs(1800),
        baseline: Baseline::Concurrent,
        min_requests: 20,
        history_may_enforce: true,
        tells_young: true,
        signals: vec![errors],
    }
}

fn past() -> History {
    let steps = (0..60).map(|_| vec![Counts::new(2, 250)]).collect();
    History { signals: vec![SignalHistory { steps, ..SignalHistory::default() }] }
}

/// Counters of two pods on each side from `from` to `to`, as a range query gives them: what a pod counted by a moment
/// depends on that moment alone.
fn counters(from: i64, to: i64, bad: u64, phase: i64) -> Counters {
    let mut counters = Counters::new(2, Vec::new());
    for (name, bad, shift) in [("a", bad, 0), ("b", bad, phase), ("c", 2, 1), ("d", 2, 3)] {
        for step in from / STEP..=to / STEP {
            let count = u64::try_from(step + 100).unwrap();
            let time = step * STEP;
            let row = [count * 125, count * bad];
            counters.push(&PodName::new("shop", name), at(time), at(time - shift), &row);
        }
    }
    counters
}

struct Look<'a> {
    state: &'a AssessState,
    now: i64,
    bad: u64,
    phase: i64,
}

fn look(one: &Look<'_>) -> Assessment {
    let (settings, history) = (settings(), past());
    let lives = [life("a", Side::New), life("b", Side::New), life("c", Side::Old), life("d", Side::Old)];
    let since = one.state.since().as_second() - 1_700_000_000;
    let found = counters(since - 60, one.now, one.bad, one.phase);
    let readings = MetricReadings {
        signals: vec![SignalReading {
            name: "http/errors".into(),
            term: Some(Term::Errors),
            query: String::new(),
            reading: Reading::Value(Measured::Ratio(found)),
        }],
    };
    let view = RolloutView {
        settings: &settings,
        history: Some(&history),
        overlap: Overlap::For(std::time::Duration::from_secs(600)),
        step: std::time::Duration::from_secs(5),
        settled: true,
        controls: &[],
    };
    let input = AssessInput { now: at(one.now), lives: &lives, readings: &readings, rollout: Some(view) };
    assess(Scorer::Evidence, one.state, &input, &Analysis::default())
}

fn start() -> AssessState {
    AssessState::new(Scorer::Evidence, at(0))
}

fn ln_e(assessment: &Assessment) -> f64 {
    match &assessment.state {
        AssessState::Evidence(EvidenceState { state: Some(state), .. }) => state.ln_e(),
        _ => f64::NAN,
    }
}

#[test]
fn five_percent_against_one_is_found_in_a_few_steps() {
    let mut state = start();
    for now in 1..10 {
        let found = look(&Look { state: &state, now: now * STEP + 4, bad: 12, phase: 2 });
        state = found.state.clone();
        if found.standing == Standing::Harmful {
            assert!(now <= 6, "{now}");
            assert!(found.reasoning.contains("error rate"), "{}", found.reasoning);
            assert_eq!(found.harm, Reason::EvidenceOfHarm);
            assert!(found.one_in.is_some());
            assert!(!found.contributions.is_empty());
            return;
        }
    }
    panic!("not found");
}

#[test]
fn without_its_past_nothing_is_judged() {
    let settings = settings();
    let readings = MetricReadings::default();
    let view = RolloutView {
        settings: &settings,
        history: None,
        overlap: Overlap::Never,
        step: std::time::Duration::from_secs(5),
        settled: false,
        controls: &[],
    };
    let input = AssessInput { now: at(5), lives: &[], readings: &readings, rollout: Some(view) };
    let found = assess(Scorer::Evidence, &start(), &input, &Analysis::default());
    assert!(matches!(found.standing, Standing::NotYet { .. }));
    assert_eq!(found.score, None);
}

#[test]
fn another_scorer_begins_at_the_beginning() {
    let seed = AssessState::new(Scorer::Seed, at(0));
    let found = look(&Look { state: &seed, now: 30, bad: 2, phase: 2 });
    assert!(matches!(found.state, AssessState::Evidence(_)));
}

proptest! {
    #[test]
    fn a_restart_at_any_moment_changes_nothing_to_the_bit(
        cuts in proptest::collection::btree_set(1_i64..60, 1..6),
        bad in 1_u64..3,
        phase in 0_i64..5,
    ) {
        // One process looks at every step, the other restarts, misses looks, and reads longer ranges.
        let mut whole = start();
        for now in 1..=60 {
            whole = look(&Look { state: &whole, now: now * STEP, bad, phase }).state;
        }
        let mut parts = start();
        for now in cuts.into_iter().chain([60]) {
            let text = serde_json::to_string(&parts).unwrap();
            let restored: AssessState = serde_json::from_str(&text).unwrap();
            prop_assert!(text.len() <= crate::domain::judge::MAX_CHECKPOINT_BYTES);
            parts = look(&Look { state: &restored, now: now * STEP, bad, phase }).state;
        }
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn pods_may_be_split_over_scrapes_without_changing_what_is_counted(phase in 0_i64..5) {
        let even = look(&Look { state: &start(), now: 120, bad: 4, phase: 0 });
        let uneven = look(&Look { state: &start(), now: 120, bad: 4, phase });
        prop_assert!((ln_e(&even) - ln_e(&uneven)).abs() < 3.0);
    }
}
