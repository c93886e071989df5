//! Whole rollouts, judged.

use std::time::Duration;

use super::*;

fn at(step: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + step * 15).unwrap()
}

fn ratio(name: &str) -> SignalSettings {
    SignalSettings {
        name: name.to_owned(),
        term: Term::of(name),
        kind: Kind::Ratio,
        weight: 2,
        critical: true,
        max_ppm: None,
        limit: None,
        on_no_data: OnNoData::Inconclusive,
        dry_run: false,
        proxied: false,
    }
}

fn settings(baseline: Baseline) -> Settings {
    Settings {
        alpha_ppm: 10_000,
        window: Duration::from_secs(1800),
        baseline,
        min_requests: 20,
        history_may_enforce: true,
        tells_young: false,
        first_wave: None,
        controls: 0,
        signals: vec![ratio("errors")],
    }
}

fn history(rate: u64, of: u64, steps: usize) -> History {
    let wobble = |index: usize| u64::from(index.is_multiple_of(3));
    let steps: Vec<Row> = (0..steps).map(|index| vec![Counts::new(rate + wobble(index), of)]).collect();
    History { signals: vec![SignalHistory { steps, ..SignalHistory::default() }] }
}

struct Run {
    settings: Settings,
    history: History,
    state: State,
    t: i64,
}

impl Run {
    fn new(settings: Settings, history: History) -> Self {
        let long = Overlap::For(Duration::from_secs(600));
        let design = Design::new(&settings, &history, long, Duration::from_mins(1), Duration::from_secs(15));
        Self { state: State::new(design, at(0)), settings, history, t: 0 }
    }

    fn step(&mut self, new: Option<Counts>, old: Option<Counts>) -> Judgement {
        self.sides(Sides { grown: new, old, ..Sides::default() })
    }

    fn sides(&mut self, sides: Sides) -> Judgement {
        self.t += 1;
        let observed =
            Observed { at: at(self.t), signals: vec![Some(Seen::Counts(vec![sides]))], pods: None, settled: true };
        let limits: Vec<Option<u32>> = self.settings.signals.iter().map(|signal| signal.max_ppm).collect();
        self.state.step(&self.history, &limits, &observed);
        judge(&self.settings, &self.state)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a side of a step is optional")]
fn counts(bad: u64, total: u64) -> Option<Counts> {
    Some(Counts::new(bad, total))
}

#[test]
fn a_rise_from_one_to_five_percent_is_found_in_a_few_steps_and_said_in_words() {
    let mut run = Run::new(settings(Baseline::Concurrent), History::default());
    assert!(run.state.design.signals[0].unseen);
    run.settings.signals[0].weight = 2;
    let mut run = Run::new(settings(Baseline::Concurrent), history(7, 750, 60));
    run.step(counts(38, 750), counts(8, 750));
    let second = run.step(counts(41, 760), counts(7, 742));
    assert_eq!(second.finding, Finding::Harm { history_only: false });
    assert!(second.score.unwrap().value() <= 50.0);
    assert!(second.confidence.unwrap().value() >= 84);
    let words = second.reasoning;
    assert!(words.starts_with("error rate 5.2 % against 1.0 % on the old revision (79 of 1,510 requests)"), "{words}");
    assert!(words.contains("chance of this without a regression at most 1 in 277"), "{words}");
}

#[test]
fn a_healthy_release_is_certified_before_half_of_the_window() {
    let mut run = Run::new(settings(Baseline::Concurrent), history(7, 750, 60));
    let mut certified = None;
    for step in 1..=60 {
        let judged = run.step(counts(7, 750), counts(7 + u64::from(step % 2 == 0), 750));
        assert!(!matches!(judged.finding, Finding::Harm { .. } | Finding::Grey));
        if judged.finding == Finding::Certified && certified.is_none() {
            certified = Some(step);
        }
    }
    assert!(certified.is_some_and(|step| (40..60).contains(&step)), "{certified:?}");
}

#[test]
fn harm_after_the_certificate_is_still_harm() {
    let mut run = Run::new(settings(Baseline::Concurrent), history(7, 750, 60));
    for _ in 0..50 {
        run.step(counts(7, 750), counts(7, 750));
    }
    assert!(run.state.certified.is_some());
    let steps = (0..20).position(|_| matches!(run.step(counts(75, 750), counts(7, 750)).finding, Finding::Harm { .. }));
    assert!(steps.is_some_and(|steps| steps < 8), "{steps:?}");
}

#[test]
fn history_alone_finds_harm_and_says_before_the_rollout() {
    let mut run = Run::new(settings(Baseline::History), history(7, 750, 130));
    let mut found = None;
    for step in 1..=10 {
        let judged = run.step(counts(75, 750), None);
        if matches!(judged.finding, Finding::Harm { .. }) {
            found = Some((step, judged.reasoning));
            break;
        }
    }
    let (step, words) = found.unwrap();
    assert!(step <= 4, "{step}");
    assert!(words.contains("before the rollout"), "{words}");
}

#[test]
fn a_short_history_stands_still_when_it_is_used_up() {
    let mut run = Run::new(settings(Baseline::History), history(7, 750, 30));
    for _ in 0..40 {
        run.step(counts(7, 750), None);
    }
    assert_eq!(run.state.signals[0].cells[0].history.steps, 30);
    let mut run = Run::new(settings(Baseline::History), history(7, 750, 10));
    let judged = run.step(counts(75, 750), None);
    assert_eq!(judged.finding, Finding::NoBaseline);
    assert_eq!(judged.score, None);
}

#[test]
fn an_incident_that_hits_both_is_not_the_release() {
    let mut run = Run::new(settings(Baseline::Auto), history(7, 750, 130));
    for _ in 0..5 {
        run.step(counts(7, 750), counts(7, 750));
    }
    let mut seen = false;
    for _ in 0..30 {
        let judged = run.step(counts(300, 750), counts(300, 750));
        assert!(!matches!(judged.finding, Finding::Harm { .. }), "{judged:?}");
        seen |= matches!(judged.finding, Finding::SharedIncident { .. });
    }
    assert!(seen);
    for _ in 0..120 {
        let judged = run.step(counts(7, 750), counts(7, 750));
        assert!(!matches!(judged.finding, Finding::Harm { .. } | Finding::Certified));
    }
}

#[test]
fn what_the_user_limits_is_limited_without_evidence() {
    let mut asked = settings(Baseline::Concurrent);
    asked.signals[0].max_ppm = Some(500_000);
    let mut run = Run::new(asked, History::default());
    let broken = (0..12).any(|_| matches!(run.step(counts(8, 10), None).finding, Finding::LimitBroken { .. }));
    assert!(broken);
}

#[test]
fn traffic_that_stops_is_lost_and_not_fine() {
    let mut run = Run::new(settings(Baseline::History), history(7, 750, 130));
    let mut last = None;
    for _ in 0..12 {
        last = Some(run.step(counts(0, 10), None).finding);
    }
    assert!(matches!(last, Some(Finding::TrafficLost { .. })), "{last:?}");
}

#[test]
fn a_state_comes_back_to_the_bit_and_stays_small() {
    let mut asked = settings(Baseline::Auto);
    asked.tells_young = true;
    asked.signals = (0..8).map(|index| ratio(&format!("a-signal-with-a-long-name-{index}"))).collect();
    let one = history(7, 750, 130).signals[0].clone();
    let all = History { signals: vec![one; 8] };
    let long = Overlap::For(Duration::from_secs(600));
    let design = Design::new(&asked, &all, long, Duration::from_mins(1), Duration::from_secs(15));
    let mut state = State::new(design, at(0));
    let mut twin = state.clone();
    for step in 1..=50 {
        let sides = Sides {
            young: counts(step % 5, 100_000),
            grown: counts(3 + step % 7, 2_000_000),
            old: counts(5, 2_000_000),
            history: None,
        };
        let observed = Observed {
            at: at(i64::try_from(step).unwrap()),
            signals: vec![Some(Seen::Counts(vec![sides])); 8],
            pods: Some((2, 2)),
            settled: false,
        };
        state.step(&all, &[None; 8], &observed);
        twin.step(&all, &[None; 8], &observed);
        let text = twin.encode();
        assert!(text.len() <= MAX_CHECKPOINT_BYTES, "{}", text.len());
        twin = State::decode(&text).unwrap();
        assert_eq!(state, twin);
    }
    assert_eq!(State::decode("{}"), None);
    assert_eq!(State::decode(&twin.encode().replace("\"v\":1", "\"v\":2")), None);
}

/// The second release of a service's life, seconds after the first: all there is of the old pods is their own start.
fn right_after_the_first(bad_at_start: u64, bad: u64) -> (Run, Judgement) {
    let start = (0..5).map(|_| vec![Counts::new(bad_at_start, 200)]).collect();
    let history = History { signals: vec![SignalHistory { start, ..SignalHistory::default() }] };
    let mut run = Run::new(Settings { tells_young: true, ..settings(Baseline::Auto) }, history);
    let young = |bad| Sides { young: counts(bad, 200), ..Sides::default() };
    let judged = (1..=4).map(|_| run.sides(young(bad))).last().unwrap();
    (run, judged)
}

#[test]
fn a_release_right_after_the_first_is_compared_with_the_start_of_the_first() {
    let (run, judged) = right_after_the_first(0, 40);
    assert!(!run.state.design.signals[0].unseen);
    assert_eq!(judged.finding, Finding::Harm { history_only: false }, "{}", judged.reasoning);
    assert!(judged.reasoning.contains("20 % against 0 % before the rollout"), "{}", judged.reasoning);
    // What the first one did at its own start is no fault of the second.
    let (_, judged) = right_after_the_first(40, 40);
    assert!(judged.ln_e < 0.5, "{}", judged.reasoning);
    // Nobody can know from so little how bursty errors are, nor how much the rate moves by itself.
    let design = &run.state.design.signals[0];
    assert!(design.phi[1] >= 1_500_000 && design.ratio[1] >= 2_000_000, "{design:?}");
}

#[test]
fn memory_that_is_well_gives_no_score_while_errors_have_nothing_to_be_compared_with() {
    let memory = SignalSettings { kind: Kind::Level, critical: false, weight: 1, ..ratio("memory") };
    let settings = Settings { signals: vec![ratio("errors"), memory], ..settings(Baseline::Concurrent) };
    let values = (0..120).map(|step| (f64::from(step - 120) * 15.0, 50.0)).collect();
    let known = SignalHistory { values, ..SignalHistory::default() };
    let mut run = Run::new(settings, History { signals: vec![SignalHistory::default(), known] });
    let mut judged = None;
    for _ in 0..10 {
        run.t += 1;
        let errors = Sides { grown: counts(40, 200), ..Sides::default() };
        let seen = vec![Some(Seen::Counts(vec![errors])), Some(Seen::Values { new: Some(50.0), old: Some(50.0) })];
        run.state.step(
            &run.history,
            &[None, None],
            &Observed { at: at(run.t), signals: seen, pods: None, settled: true },
        );
        judged = Some(judge(&run.settings, &run.state));
    }
    let judged = judged.unwrap();
    assert_eq!((&judged.finding, judged.score), (&Finding::Inconclusive, None), "{}", judged.reasoning);
    assert_eq!(judged.uncompared, "error rate 20 % and nothing to compare it with (400 of 2,000 requests)");
}

/// A Service behind a proxy, whose requests nobody can tell apart.
fn behind_a_proxy(history: History) -> Run {
    let mut settings = settings(Baseline::Auto);
    settings.signals[0].proxied = true;
    Run::new(settings, history)
}

#[test]
fn what_a_proxy_counts_is_compared_with_history_alone_and_says_so() {
    let mut run = behind_a_proxy(history(7, 750, 60));
    let design = &run.state.design.signals[0];
    assert_eq!(design.strata, Strata { history: PPM, ..Strata::default() });
    let judged = (0..8).map(|_| run.step(counts(38, 750), None)).last().unwrap();
    assert_eq!(judged.finding, Finding::Harm { history_only: false });
    assert!(judged.reasoning.contains("before the rollout"), "{}", judged.reasoning);
    assert!(judged.signals[0].terms.contains("because the proxy counts per Service"), "{}", judged.signals[0].terms);
    run.settings.history_may_enforce = false;
    assert_eq!(judge(&run.settings, &run.state).finding, Finding::Harm { history_only: true });
    assert!(run.state.ln_e_concurrent() < 0.0);
}

#[test]
fn what_a_proxy_counts_never_proves_health_even_where_the_same_counts_of_pods_would() {
    let certified = |proxied: bool| {
        let mut settings = settings(Baseline::History);
        settings.signals[0].proxied = proxied;
        let mut run = Run::new(settings, history(7, 750, 600));
        (0..119).any(|_| {
            let judged = run.step(counts(7, 750), None);
            assert!(!proxied || !judged.reasoning.contains("is excluded"), "{}", judged.reasoning);
            assert!(!proxied || judged.signals[0].ln_safety <= 0.0);
            judged.finding == Finding::Certified
        })
    };
    assert_eq!((certified(false), certified(true)), (true, false));
}

#[test]
fn without_enough_history_or_with_old_pods_asked_for_a_proxy_gives_no_evidence() {
    let mut settings = settings(Baseline::Concurrent);
    settings.signals[0].proxied = true;
    for mut run in [behind_a_proxy(history(7, 750, 19)), Run::new(settings, history(7, 750, 60))] {
        assert_eq!(run.state.design.signals[0].weight, 0);
        let judged = (0..50).map(|_| run.step(counts(700, 750), None)).last().unwrap();
        assert_eq!(judged.finding, Finding::NoBaseline);
        assert!(judged.signals[0].terms.contains("gives no evidence"), "{}", judged.signals[0].terms);
    }
}

#[test]
fn a_state_of_what_a_proxy_counts_comes_back_to_the_bit() {
    let mut run = behind_a_proxy(history(7, 750, 60));
    for _ in 0..5 {
        run.step(counts(9, 750), None);
    }
    assert_eq!(State::decode(&run.state.encode()), Some(run.state));
}

proptest::proptest! {
    #[test]
    fn requests_that_old_pods_answer_well_never_make_the_evidence_larger(
        steps in proptest::collection::vec((0_u64..60, 0_u64..=100), 1..40),
    ) {
        let mut diluted = behind_a_proxy(history(7, 750, 60));
        let mut undiluted = behind_a_proxy(history(7, 750, 60));
        for (bad, kept) in steps {
            // Of the requests that would have failed on new pods, this part failed; the others reached old pods.
            diluted.step(counts(bad * kept / 100, 750), None);
            undiluted.step(counts(bad, 750), None);
            proptest::prop_assert!(diluted.state.ln_e() <= undiluted.state.ln_e() + 1e-12);
        }
    }
}
