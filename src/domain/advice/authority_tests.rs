use proptest::prelude::*;

use super::*;
use crate::domain::assess::AssessState;
use crate::domain::outcome::{Confidence, FailureClass, Reason};
use crate::domain::policy::Scorer;

const ALPHA: f64 = 0.01;
/// ln 10 and ln 100: where the grey zone of α = 1 % begins, and where it ends.
const GREY: f64 = std::f64::consts::LN_10;
const HARM: f64 = 2.0 * GREY;

fn opinion(verdict: Verdict, evidence: &[&str]) -> Opinion {
    Opinion {
        verdict,
        confidence: Confidence::percent(100.0),
        class: FailureClass::Other,
        reasoning: "because".to_owned(),
        evidence: evidence.iter().map(|id| (*id).to_owned()).collect(),
        suggested_fix: String::new(),
    }
}

fn known() -> Vec<Known> {
    vec![Known { id: "S1".to_owned(), abnormal: true }, Known { id: "F1".to_owned(), abnormal: false }]
}

fn at(ln_e: f64) -> Ground {
    Ground { ln_e: Some(ln_e), alpha: ALPHA, fact: false, harmful: false, held: false, blind: false, certified: false }
}

fn by(ruling: &Ruling) -> Option<&'static str> {
    match ruling {
        Ruling::Clamped(clamped) => Some(clamped.by.as_str()),
        Ruling::Rollback | Ruling::Stands => None,
    }
}

#[test]
fn the_grey_zone_is_the_judges() {
    assert_eq!(at(GREY).zone(), Zone::Grey);
    assert_eq!(at(GREY - 1e-9).zone(), Zone::Below);
    assert_eq!(Ground { harmful: true, ..at(HARM) }.zone(), Zone::Harm);
    // With α = 20 % there is no room left.
    assert_eq!(Ground { alpha: 0.2, ..at(1.6) }.zone(), Zone::Below);
}

#[test]
fn an_assessment_says_where_the_evidence_stands() {
    let state = AssessState::new(Scorer::Evidence, jiff::Timestamp::UNIX_EPOCH);
    let harmful = Assessment::of_fact(Reason::EvidenceOfHarm, "", None, state);
    let standing = |standing: Standing, ln_e: f64| Assessment { standing, ln_e: Some(ln_e), ..harmful.clone() };
    let zone =
        |assessment: &Assessment, certified, blind| Ground::of(assessment, ALPHA, false, certified, blind).zone();
    let held = Standing::Held { reason: Reason::SharedIncident, message: String::new() };
    let unproven = Standing::Unproven { reason: Reason::InsufficientData, message: String::new() };
    assert_eq!(zone(&standing(Standing::Harmful, 5.0), true, true), Zone::Harm);
    assert_eq!(zone(&standing(held, 5.0), true, true), Zone::Held);
    assert_eq!(zone(&standing(Standing::Grey, 3.0), false, false), Zone::Grey);
    assert_eq!(zone(&standing(Standing::Grey, 3.0), false, true), Zone::Blind);
    // A certificate of an earlier look is not overruled by an opinion either.
    assert_eq!(zone(&standing(Standing::Grey, 3.0), true, false), Zone::Certified);
    assert_eq!(zone(&standing(Standing::Fine, -3.0), false, false), Zone::Certified);
    assert_eq!(zone(&standing(unproven, 1.0), false, false), Zone::Below);
    assert_eq!(Ground::of(&harmful, ALPHA, true, false, false).zone(), Zone::Fact);
}

#[test]
fn what_clamps_is_named_in_a_word_and_a_sentence() {
    let proposals = opinion(Verdict::Rollback, &["F1"]);
    let grounds = [
        (Authority::TieBreak, at(1.0), "below-grey-zone", "E = 2.7 is below 10.0, where authority TieBreak begins"),
        (Authority::TieBreak, Ground { ln_e: None, ..at(0.0) }, "below-grey-zone", "no evidence to break a tie of"),
        (Authority::Advisory, at(3.0), "advisory", "authority Advisory lets it explain only"),
        (Authority::Decide, at(3.0), "no-abnormal-evidence", "cites nothing that is worse"),
        (Authority::Decide, Ground { certified: true, ..at(3.0) }, "certified-health", "certified health"),
        (Authority::Decide, Ground { held: true, ..at(3.0) }, "held", "something else is wrong"),
        (Authority::Decide, Ground { blind: true, ..at(3.0) }, "blind", "blind is not bad"),
    ];
    for (authority, ground, word, sentence) in grounds {
        let Ruling::Clamped(clamped) = rule(authority, &ground, &known(), &proposals) else { panic!("{word}") };
        assert_eq!(clamped.by.as_str(), word);
        assert!(
            clamped.message.starts_with("the model proposed ROLLBACK at 100 % confidence; "),
            "{}",
            clamped.message
        );
        assert!(clamped.message.contains(sentence), "{}", clamped.message);
    }
    let lenient = opinion(Verdict::Continue, &[]);
    let fact = rule(Authority::Decide, &Ground { fact: true, ..at(0.0) }, &known(), &lenient);
    assert_eq!(by(&fact), Some("hard-fact"));
    let harm = rule(Authority::Decide, &Ground { harmful: true, ..at(HARM) }, &known(), &lenient);
    assert_eq!(by(&harm), Some("evidence"));
}

#[test]
fn in_the_grey_zone_a_tie_is_broken() {
    assert_eq!(rule(Authority::TieBreak, &at(3.0), &known(), &opinion(Verdict::Rollback, &[])), Ruling::Rollback);
    assert_eq!(rule(Authority::TieBreak, &at(3.0), &known(), &opinion(Verdict::Continue, &["S1"])), Ruling::Stands);
    assert_eq!(rule(Authority::TieBreak, &at(3.0), &known(), &opinion(Verdict::Inconclusive, &[])), Ruling::Stands);
}

#[test]
fn decide_rolls_back_below_the_grey_zone_if_it_cites_what_is_worse() {
    let ground = at(-3.0);
    assert_eq!(
        rule(Authority::Decide, &ground, &known(), &opinion(Verdict::Rollback, &["F1", "S1"])),
        Ruling::Rollback
    );
    let empty = rule(Authority::Decide, &ground, &known(), &opinion(Verdict::Rollback, &[]));
    assert_eq!(by(&empty), Some("no-abnormal-evidence"));
}

#[test]
fn the_bound_is_alpha_kappa_alpha_or_none() {
    assert_eq!(Authority::Advisory.bound(ALPHA), Some(0.01));
    assert!(Authority::TieBreak.bound(ALPHA).is_some_and(|bound| (bound - 0.1).abs() < 1e-12));
    assert!(Authority::TieBreak.bound(0.05).is_some_and(|bound| (bound - 0.2).abs() < 1e-12));
    assert_eq!(Authority::Decide.bound(ALPHA), None);
}

fn occasion(ground: &Ground) -> Occasion<'_> {
    let (authority, answered) = (Authority::TieBreak, &[]);
    Occasion { authority, ground, signs: false, hash: "now", answered, calls_left: 3 }
}

#[test]
fn it_is_asked_in_the_grey_zone_and_where_signs_are_new() {
    assert_eq!(ask(&occasion(&at(3.0))), Ok(()));
    assert_eq!(ask(&occasion(&at(1.0))), Err(NotAsked::NothingToDecide));
    assert_eq!(ask(&Occasion { signs: true, ..occasion(&at(1.0)) }), Ok(()));
    assert_eq!(ask(&Occasion { authority: Authority::Decide, ..occasion(&at(1.0)) }), Ok(()));
    let decided = Ground { fact: true, ..at(3.0) };
    assert_eq!(ask(&occasion(&decided)), Err(NotAsked::Decided));
}

#[test]
fn it_is_not_asked_twice_about_the_same_evidence_nor_without_calls() {
    let (ground, answered) = (at(3.0), ["now".to_owned()]);
    assert_eq!(ask(&Occasion { answered: &answered, ..occasion(&ground) }), Err(NotAsked::SameEvidence));
    assert_eq!(ask(&Occasion { calls_left: 0, ..occasion(&ground) }), Err(NotAsked::NoCallsLeft));
    assert_eq!(ask(&Occasion { calls_left: 1, ..occasion(&ground) }), Ok(()));
}

#[test]
fn signs_leave_the_last_call_to_the_grey_zone() {
    let ground = at(1.0);
    let signs = Occasion { signs: true, ..occasion(&ground) };
    assert_eq!(ask(&Occasion { calls_left: 2, ..signs }), Ok(()));
    assert_eq!(ask(&Occasion { calls_left: 1, ..signs }), Err(NotAsked::NoCallsLeft));
}

#[test]
fn explanations_come_after_the_act() {
    assert_eq!(explain(false, 3), Err(NotAsked::NothingToDecide));
    assert_eq!(explain(true, 1), Ok(()));
    assert_eq!(explain(true, 0), Err(NotAsked::NoCallsLeft));
}

/// What the algorithm and a model come to together: whether the release is rolled back.
fn rolls_back(authority: Authority, ground: &Ground, known: &[Known], opinion: &Opinion) -> bool {
    let alone = matches!(ground.zone(), Zone::Fact | Zone::Harm);
    alone || rule(authority, ground, known, opinion) == Ruling::Rollback
}

prop_compose! {
    fn grounds()(
        ln_e in prop_oneof![Just(None), (-50.0_f64..50.0).prop_map(Some), Just(Some(f64::NAN)), Just(Some(f64::INFINITY))],
        alpha in 0.0001_f64..=0.2, fact: bool, harmful: bool, held: bool, blind: bool, certified: bool,
    ) -> Ground {
        Ground { ln_e, alpha, fact, harmful, held, blind, certified }
    }
}

prop_compose! {
    fn opinions()(
        verdict in prop::sample::select(Verdict::ALL), percent in 0.0_f64..=100.0,
        evidence in prop::collection::vec("[SFP][1-3]", 0..4),
    ) -> Opinion {
        Opinion { confidence: Confidence::percent(percent), evidence, ..opinion(verdict, &[]) }
    }
}

prop_compose! {
    fn pieces()(abnormal in prop::collection::vec(any::<bool>(), 3)) -> Vec<Known> {
        ["S1", "F1", "P1"].iter().zip(abnormal).map(|(id, abnormal)| Known { id: (*id).to_owned(), abnormal }).collect()
    }
}

proptest! {
    #[test]
    fn a_tie_breaker_causes_no_rollback_outside_the_grey_zone(
        ground in grounds(), known in pieces(), opinion in opinions(),
    ) {
        if rule(Authority::TieBreak, &ground, &known, &opinion) == Ruling::Rollback {
            prop_assert_eq!(ground.zone(), Zone::Grey);
            prop_assert!(ground.ln_e.unwrap() >= -ground.alpha.ln() - kappa(ground.alpha).ln());
            prop_assert!(!ground.held && !ground.blind && !ground.certified);
        }
    }

    #[test]
    fn no_opinion_stops_a_rollback(ground in grounds(), known in pieces(), opinion in opinions()) {
        for authority in Authority::ALL {
            if ground.fact || ground.harmful {
                prop_assert!(rolls_back(*authority, &ground, &known, &opinion));
            }
        }
    }

    #[test]
    fn no_opinion_overrules_certified_health_but_evidence_does(
        ground in grounds(), known in pieces(), opinion in opinions(),
    ) {
        let ground = Ground { certified: true, ..ground };
        for authority in Authority::ALL {
            let alone = ground.fact || ground.harmful;
            prop_assert_eq!(rolls_back(*authority, &ground, &known, &opinion), alone);
        }
    }

    #[test]
    fn nothing_is_rolled_back_by_opinion_while_blind_or_held(
        ground in grounds(), known in pieces(), opinion in opinions(), blind: bool,
    ) {
        let ground = Ground { blind, held: !blind || ground.held, ..ground };
        for authority in Authority::ALL {
            prop_assert_ne!(rule(*authority, &ground, &known, &opinion), Ruling::Rollback);
        }
    }

    #[test]
    fn a_rollback_by_a_model_that_decides_cites_what_is_abnormal(
        ground in grounds(), known in pieces(), opinion in opinions(),
    ) {
        if rule(Authority::Decide, &ground, &known, &opinion) == Ruling::Rollback {
            prop_assert!(known.iter().any(|piece| piece.abnormal && opinion.evidence.contains(&piece.id)));
        }
    }

    #[test]
    fn an_adviser_changes_nothing(ground in grounds(), known in pieces(), opinion in opinions()) {
        prop_assert_ne!(rule(Authority::Advisory, &ground, &known, &opinion), Ruling::Rollback);
    }

    #[test]
    fn only_a_rollback_rolls_back(ground in grounds(), known in pieces(), opinion in opinions()) {
        prop_assume!(opinion.verdict != Verdict::Rollback);
        for authority in Authority::ALL {
            prop_assert_ne!(rule(*authority, &ground, &known, &opinion), Ruling::Rollback);
        }
    }

    #[test]
    fn nobody_is_asked_whose_rollback_would_be_clamped_for_sure(
        ground in grounds(), known in pieces(), signs: bool, calls_left in 0_u32..5,
    ) {
        // Signs ask below the grey zone, where a tie-breaker is clamped: its words are for people.
        let all: Vec<&str> = known.iter().map(|piece| piece.id.as_str()).collect();
        let answered = [];
        let occasion = Occasion {
            authority: Authority::TieBreak, ground: &ground, signs: false, hash: "h", answered: &answered, calls_left,
        };
        if ask(&occasion).is_ok() {
            prop_assert_eq!(rule(Authority::TieBreak, &ground, &known, &opinion(Verdict::Rollback, &all)), Ruling::Rollback);
        }
        let with_signs = ask(&Occasion { signs, ..occasion });
        prop_assert!(with_signs.is_err() || (calls_left > 0 && !ground.blind && !ground.held && !ground.fact));
    }
}
