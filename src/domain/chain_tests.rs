use proptest::prelude::*;

use super::*;
use crate::domain::assess::{RecordMetrics, SeedState};
use crate::domain::outcome::HealthScore;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn assessment(standing: Standing, score: Option<f64>) -> Assessment {
    let low = score.is_some_and(|score| score < 50.0);
    Assessment {
        standing,
        score: score.and_then(HealthScore::new),
        confidence: None,
        contributions: Vec::new(),
        signals: Vec::new(),
        metrics: RecordMetrics::default(),
        decider: Decider::SeedFormula,
        harm: Reason::ScoreBelowThreshold,
        only_recommend: None,
        no_data_fails: false,
        one_in: None,
        plan: None,
        reasoning: "because".into(),
        scrape: None,
        steps: Vec::new(),
        ln_e: None,
        state: AssessState::Seed(SeedState {
            scored_until: at(0),
            low_streak: u8::from(low),
            scores: u32::from(score.is_some()),
            last_points: None,
            complete: true,
        }),
    }
}

fn not_yet() -> Standing {
    Standing::NotYet { reason: Reason::NoTraffic, message: "too few requests".into() }
}

fn unproven() -> Standing {
    Standing::Unproven { reason: Reason::InsufficientData, message: "no latency".into() }
}

fn moment(now: i64) -> Moment {
    Moment {
        now: at(now),
        window_end: at(60),
        interval: Duration::from_secs(5),
        rollout_complete: true,
        stage: Stage::Judging,
        on_inconclusive: OnInconclusive::Continue,
    }
}

fn verdict(step: &Step) -> Option<(Verdict, Health)> {
    match step {
        Step::Watch(..) | Step::WatchCertified(_) | Step::Confirm(_) => None,
        Step::Decide(decision) => Some((decision.verdict, decision.health)),
    }
}

#[test]
fn harm_is_acted_on_at_once() {
    let step = decide(&assessment(Standing::Harmful, Some(10.0)), None, None, &moment(1));
    assert_eq!(verdict(&step), Some((Verdict::Rollback, Health::Bad)));
}

#[test]
fn a_good_release_passes_at_the_end_of_the_window_and_not_before() {
    let good = assessment(Standing::Fine, Some(99.0));
    assert_eq!(verdict(&decide(&good, None, None, &moment(59))), None);
    assert_eq!(verdict(&decide(&good, None, None, &moment(60))), Some((Verdict::Continue, Health::Good)));
}

#[test]
fn an_evaluation_between_two_scores_changes_nothing() {
    let quiet = assessment(not_yet(), None);
    let good = assessment(Standing::Fine, Some(99.0));
    let step = decide(&quiet, Some(&good), None, &moment(60));
    assert_eq!(verdict(&step), Some((Verdict::Continue, Health::Good)));
}

#[test]
fn a_dead_prometheus_at_the_end_proves_nothing() {
    let good = assessment(Standing::Fine, Some(99.0));
    let quiet = assessment(not_yet(), None);
    assert_eq!(verdict(&decide(&quiet, Some(&good), Some("refused"), &moment(61))), None, "it is given a moment");
    let step = decide(&quiet, Some(&good), Some("refused"), &moment(75));
    assert_eq!(verdict(&step), Some((Verdict::Continue, Health::Unknown)));
    let Step::Decide(decision) = step else { panic!() };
    assert_eq!(decision.reason, Reason::PrometheusUnreachable);
}

#[test]
fn one_low_score_at_the_end_is_given_time_to_be_confirmed() {
    let low = assessment(unproven(), Some(10.0));
    assert_eq!(verdict(&decide(&low, None, None, &moment(61))), None);
    assert_eq!(verdict(&decide(&low, None, None, &moment(75))), Some((Verdict::Continue, Health::Unknown)));
}

#[test]
fn a_rollout_that_is_not_complete_never_passes() {
    let good = assessment(Standing::Fine, Some(99.0));
    let stuck = Moment { rollout_complete: false, ..moment(60) };
    assert_eq!(verdict(&decide(&good, None, None, &stuck)), Some((Verdict::Continue, Health::Unknown)));
}

#[test]
fn hold_says_inconclusive_once_and_keeps_watching() {
    let nothing = assessment(not_yet(), None);
    let hold = Moment { on_inconclusive: OnInconclusive::Hold, ..moment(60) };
    assert_eq!(verdict(&decide(&nothing, None, None, &hold)), Some((Verdict::Inconclusive, Health::Unknown)));
    let held = Moment { stage: Stage::Held, ..hold };
    assert_eq!(verdict(&decide(&nothing, None, None, &held)), None);
    let good = assessment(Standing::Fine, Some(99.0));
    assert_eq!(verdict(&decide(&good, None, None, &held)), Some((Verdict::Continue, Health::Good)));
}

proptest! {
    #[test]
    fn only_harm_rolls_back_and_only_what_was_measured_in_full_passes(
        which in 0_usize..4,
        score in proptest::option::of(0.0_f64..100.0),
        earlier in any::<bool>(),
        blind in any::<bool>(),
        now in 0_i64..200,
        complete in any::<bool>(),
    ) {
        let standing = [Standing::Fine, Standing::Harmful, not_yet(), unproven()][which].clone();
        let current = assessment(standing.clone(), score);
        let good = assessment(Standing::Fine, Some(90.0));
        let moment = Moment { rollout_complete: complete, ..moment(now) };
        let step = decide(&current, earlier.then_some(&good), blind.then_some("refused"), &moment);
        match verdict(&step) {
            Some((Verdict::Rollback, _)) => prop_assert_eq!(standing, Standing::Harmful),
            Some((_, Health::Good)) => {
                prop_assert!(!blind && complete && now >= 60);
                prop_assert!(standing == Standing::Fine || (earlier && score.is_none()));
            }
            Some((_, health)) => prop_assert_eq!(health, Health::Unknown),
            None => {}
        }
    }
}

fn evidence(standing: Standing) -> Assessment {
    Assessment { decider: Decider::Evidence, harm: Reason::EvidenceOfHarm, ..assessment(standing, Some(99.0)) }
}

#[test]
fn a_certificate_passes_early_and_is_confirmed_at_the_end() {
    let fine = evidence(Standing::Fine);
    let Step::Decide(early) = decide(&fine, None, None, &moment(20)) else { panic!("not decided") };
    assert_eq!((early.verdict, early.health, early.is_final), (Verdict::Continue, Health::Good, false));
    let certified = |now| Moment { stage: Stage::Certified, ..moment(now) };
    assert!(matches!(decide(&fine, None, None, &certified(30)), Step::WatchCertified(_)));
    assert!(matches!(decide(&fine, None, None, &certified(60)), Step::Confirm(_)));
}

#[test]
fn harm_after_a_certificate_is_acted_on() {
    let moment = Moment { stage: Stage::Certified, ..moment(30) };
    let step = decide(&evidence(Standing::Harmful), None, None, &moment);
    assert_eq!(verdict(&step), Some((Verdict::Rollback, Health::Bad)));
}

#[test]
fn what_is_wrong_elsewhere_never_passes() {
    let held = evidence(Standing::Held { reason: Reason::SharedIncident, message: "both suffer".into() });
    assert!(matches!(decide(&held, None, None, &moment(30)), Step::Watch(Reason::SharedIncident, _)));
    assert_eq!(verdict(&decide(&held, None, None, &moment(60))), Some((Verdict::Inconclusive, Health::Unknown)));
    let moment = Moment { stage: Stage::Held, ..moment(90) };
    assert!(matches!(decide(&held, None, None, &moment), Step::Watch(Reason::SharedIncident, _)));
}

#[test]
fn between_the_thresholds_the_algorithm_keeps_watching() {
    let grey = evidence(Standing::Grey);
    assert!(matches!(decide(&grey, None, None, &moment(30)), Step::Watch(Reason::Analyzing, _)));
    assert_eq!(verdict(&decide(&grey, None, None, &moment(60))), Some((Verdict::Continue, Health::Unknown)));
}

#[test]
fn a_signal_that_must_have_data_fails_without_it_and_undoes_nothing() {
    let silent = Assessment { no_data_fails: true, ..evidence(unproven()) };
    assert_eq!(verdict(&decide(&silent, None, None, &moment(60))), Some((Verdict::Continue, Health::Bad)));
}

#[test]
fn evidence_of_harm_is_held_back_while_something_else_may_be_the_cause_and_nothing_passes_by_that() {
    let doubt = Hold { reason: Reason::Scaling, message: "scaled a moment ago".into() };
    let held = doubted(evidence(Standing::Harmful), Some(&doubt));
    assert_eq!(held.standing, Standing::Held { reason: Reason::Scaling, message: "scaled a moment ago".into() });
    assert_eq!(doubted(evidence(Standing::Harmful), None).standing, Standing::Harmful, "and counts again afterwards");
    for standing in [Standing::Fine, Standing::Grey, unproven()] {
        assert_eq!(doubted(evidence(standing.clone()), Some(&doubt)).standing, standing);
    }
}
