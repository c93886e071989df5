//! The evidence scorer over raw counters: restarts, gaps, and what must not matter.

use proptest::prelude::*;

use super::*;
use crate::domain::evidence::Tally;
use crate::domain::judge::{
    Baseline, Design, History, Kind, OnNoData, Overlap, Settings, Sides, SignalDesign, SignalHistory, SignalSettings,
};
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
        proxied: false,
    };
    Settings {
        alpha_ppm: 10_000,
        window: std::time::Duration::from_secs(1800),
        baseline: Baseline::Concurrent,
        min_requests: 20,
        history_may_enforce: true,
        tells_young: true,
        first_wave: None,
        controls: 0,
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
            origin: String::new(),
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
        scraped: None,
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
        scraped: None,
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
    fn a_checkpoint_divides_the_steps_that_it_holds_from_those_that_a_later_process_judges(
        cuts in proptest::collection::btree_set(1_i64..60, 1..6),
        phase in 0_i64..5,
    ) {
        // A recording is cut off there after a restart; a step on the wrong side would be lost, or stand there twice.
        let mut state = start();
        for now in cuts {
            let before = state.judged_until();
            let found = look(&Look { state: &state, now: now * STEP, bad: 1, phase });
            for (step, _) in &found.steps {
                prop_assert!(before < step.at && step.at <= found.state.judged_until());
            }
            state = found.state;
            prop_assert!(state.since() <= state.judged_until());
        }
    }

    #[test]
    fn pods_may_be_split_over_scrapes_without_changing_what_is_counted(phase in 0_i64..5) {
        let even = look(&Look { state: &start(), now: 120, bad: 4, phase: 0 });
        let uneven = look(&Look { state: &start(), now: 120, bad: 4, phase });
        prop_assert!((ln_e(&even) - ln_e(&uneven)).abs() < 3.0);
    }
}

/// No request on new pods that are Ready and scraped, while the old ones got theirs at their own start.
fn silent(start: Vec<Vec<Counts>>) -> Assessment {
    let settings = settings();
    let mut history = past();
    history.signals[0].start = start;
    let readings = MetricReadings { signals: Vec::new() };
    let view = RolloutView {
        settings: &settings,
        history: Some(&history),
        overlap: Overlap::Never,
        step: std::time::Duration::from_secs(5),
        settled: true,
        controls: &[],
        scraped: Some(2),
    };
    let input = AssessInput { now: at(400), lives: &[], readings: &readings, rollout: Some(view) };
    assess(Scorer::Evidence, &AssessState::new(Scorer::Evidence, at(0)), &input, &Analysis::default())
}

#[test]
fn a_revision_that_serves_nobody_is_a_fact_only_where_the_last_one_served_at_its_start() {
    let proven = silent(vec![vec![Counts::new(0, 50)]]);
    assert_eq!((proven.standing, proven.harm), (Standing::Harmful, Reason::SilentRevision));
    let unknown = silent(Vec::new());
    assert!(matches!(unknown.standing, Standing::Held { reason: Reason::SilentRevision, .. }));
    let usual = silent(vec![vec![Counts::new(0, 0)]]);
    assert!(matches!(usual.standing, Standing::NotYet { .. }), "{:?}", usual.standing);
}

#[test]
fn a_boundary_that_a_pod_lacks_makes_the_signal_stand_still() {
    let mut design =
        Design::new(&settings(), &past(), Overlap::Never, std::time::Duration::ZERO, std::time::Duration::from_secs(5));
    let design = design.signals.remove(0);
    let tails = SignalDesign { boundaries: vec![100_000], ..design };
    let mut counters = Counters::new(3, vec![100.0, 500.0]);
    let none = |_: &dyn Fn(&Tally) -> u64| Sides::default();
    assert!(super::evidence::tests(&counters, &tails, &none).is_some());
    counters.common = vec![false, true];
    assert!(super::evidence::tests(&counters, &tails, &none).is_none());
}

#[test]
fn that_a_proxy_counts_nothing_does_not_make_a_revision_silent() {
    let state = |proxied: bool| {
        let mut settings = settings();
        settings.signals[0].proxied = proxied;
        let second = std::time::Duration::from_secs(1);
        let design = Design::new(&settings, &past(), Overlap::Never, std::time::Duration::from_mins(1), second);
        let state = Some(Box::new(crate::domain::judge::State::new(design, at(0))));
        AssessState::Evidence(EvidenceState { began: at(0), state, controls: std::collections::BTreeMap::new() })
    };
    assert!(state(false).is_silent());
    assert!(!state(true).is_silent());
}

/// A state whose every process has seen steps, with names as long as they may be.
fn full_state(signals: usize) -> crate::domain::judge::State {
    let one = settings().signals.remove(0);
    let name = |index: usize| format!("{}{index}/errors", "n".repeat(55));
    let signals: Vec<SignalSettings> =
        (0..signals).map(|index| SignalSettings { name: name(index), ..one.clone() }).collect();
    let count = signals.len();
    let settings = Settings { baseline: Baseline::Auto, signals, ..settings() };
    let history = History { signals: vec![past().signals.remove(0); count] };
    let long = Overlap::For(std::time::Duration::from_secs(600));
    let second = std::time::Duration::from_secs(1);
    let design = Design::new(&settings, &history, long, std::time::Duration::from_mins(1), second);
    let mut state = crate::domain::judge::State::new(design, at(0));
    for step in 1..=40_u64 {
        let counts = |bad: u64| Some(Counts::new(bad, 1 << 40));
        let sides = Sides { young: counts(step), grown: counts(2 * step), old: counts(3 * step), history: None };
        let observed = crate::domain::judge::Observed {
            at: at(i64::try_from(step).unwrap()),
            signals: vec![Some(crate::domain::judge::Seen::Counts(vec![sides])); count],
            pods: Some((2, 2)),
            settled: false,
        };
        state.step(&history, &vec![Some(500_000); count], &observed);
    }
    state
}

#[test]
fn the_largest_checkpoint_fits_into_status() {
    for (signals, controls) in [(8, 0), (6, 2), (4, 4)] {
        let state = EvidenceState {
            began: at(0),
            state: Some(Box::new(full_state(signals))),
            controls: (0..controls).map(|index| (format!("{}{index}", "c".repeat(60)), full_state(1))).collect(),
        };
        // What was fixed stands beside it, readable.
        let mut whole = serde_json::to_value(AssessState::Evidence(state)).unwrap();
        let design = whole["state"]["design"].take().to_string().len();
        let most = crate::domain::judge::MAX_CHECKPOINT_BYTES;
        let packed = whole.to_string().len();
        assert!(packed <= most && design <= most, "{signals} signals, {controls} controls: {packed}, {design}");
    }
}
