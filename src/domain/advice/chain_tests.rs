use proptest::prelude::*;

use super::*;
use crate::domain::advice::Usage;
use crate::domain::outcome::Verdict;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn turn(name: &str) -> Turn {
    Turn { name: name.to_owned(), timeout: ms(3000), retries: 1, rung: Rung::JsonSchema }
}

fn known() -> Vec<Known> {
    vec![Known { id: "S1".to_owned(), abnormal: true }]
}

fn begin(names: &[&str]) -> (Chain, Step) {
    Chain::begin(names.iter().map(|name| turn(name)).collect(), known(), ms(8000))
}

fn said(text: &str) -> Event {
    Event::Answered(Answer { text: text.to_owned(), rung: Rung::Text, usage: Usage::default() })
}

fn reply(decision: &str) -> String {
    format!(
        r#"{{"decision":"{decision}","confidence":80,"failure_class":"other","reasoning":"r","evidence":["S1"],"suggested_fix":""}}"#
    )
}

fn ask(provider: usize, rung: Rung, deadline: u64) -> Step {
    Step::Ask { provider, rung, deadline: ms(deadline) }
}

fn outcomes(chain: &Chain) -> Vec<String> {
    chain.attempts().iter().map(|attempt| format!("{} {}", attempt.decider, attempt.outcome)).collect()
}

const NONE: Step = Step::Done(Outcome::NoOpinion);

#[test]
fn the_first_that_has_an_opinion_ends_the_chain() {
    let (mut chain, step) = begin(&["a", "b"]);
    assert_eq!(step, ask(0, Rung::JsonSchema, 3000));
    let done = chain.next(said(&reply("ROLLBACK")), ms(200));
    let Step::Done(Outcome::Opinion { provider: 0, opinion }) = &done else { panic!("{done:?}") };
    assert_eq!(opinion.verdict, Verdict::Rollback);
    assert_eq!(chain.next(Event::Failed(Failure::Tls), ms(300)), done, "what comes later changes nothing");
    let expected = Attempt { provider: 0, decider: "llm/a".to_owned(), outcome: "answered", milliseconds: 200 };
    assert_eq!(chain.attempts(), [expected]);
}

#[test]
fn failures_that_no_retry_heals_pass_to_the_next_at_once() {
    for failure in [
        Failure::Unauthorized,
        Failure::UnknownModel,
        Failure::Tls,
        Failure::Unreachable,
        Failure::Redirected,
        Failure::TooLarge,
        Failure::Truncated,
        Failure::Declined,
        Failure::BreakerOpen,
        Failure::BudgetExhausted,
        Failure::NotSendable,
        Failure::Timeout,
        Failure::Invalid,
    ] {
        let (mut chain, _) = begin(&["a", "b"]);
        let word = failure.word();
        assert_eq!(chain.next(Event::Failed(failure), ms(10)), ask(1, Rung::JsonSchema, 3010), "{word}");
        assert_eq!(outcomes(&chain), [format!("llm/a {word}")]);
    }
}

#[test]
fn a_server_that_is_busy_is_asked_once_more_when_it_says() {
    let (mut chain, _) = begin(&["a", "b"]);
    let later = Event::Failed(Failure::RateLimited(Some(ms(1000))));
    assert_eq!(chain.next(later.clone(), ms(100)), Step::Wait { until: ms(1100) });
    assert_eq!(chain.next(Event::TimePassed, ms(500)), Step::Wait { until: ms(1100) });
    assert_eq!(chain.next(Event::TimePassed, ms(1100)), ask(0, Rung::JsonSchema, 3000));
    assert_eq!(chain.next(later, ms(1200)), ask(1, Rung::JsonSchema, 4200), "once is enough");
    assert_eq!(outcomes(&chain), ["llm/a rate_limited", "llm/a rate_limited"]);
}

#[test]
fn a_pause_that_is_longer_than_the_time_left_is_not_waited_for() {
    let (mut chain, _) = begin(&["a"]);
    assert_eq!(chain.next(Event::Failed(Failure::RateLimited(Some(Duration::MAX))), ms(100)), NONE);
    let (mut chain, _) = begin(&["a"]);
    assert_eq!(chain.next(Event::Failed(Failure::Server(503)), ms(2900)), NONE);
}

#[test]
fn a_server_error_is_tried_again_after_a_moment() {
    let (mut chain, _) = begin(&["a"]);
    assert_eq!(chain.next(Event::Failed(Failure::Server(503)), ms(100)), Step::Wait { until: ms(350) });
    assert_eq!(chain.next(Event::TimePassed, ms(350)), ask(0, Rung::JsonSchema, 3000));
    assert_eq!(chain.next(Event::Failed(Failure::Server(502)), ms(400)), NONE);
}

#[test]
fn an_endpoint_that_refuses_a_way_to_be_asked_is_asked_another_way() {
    let (mut chain, _) = begin(&["a"]);
    assert_eq!(chain.next(Event::Failed(Failure::Refused(400)), ms(10)), ask(0, Rung::JsonObject, 3000));
    assert_eq!(chain.next(said("I cannot say."), ms(20)), ask(0, Rung::Text, 3000));
    assert_eq!(chain.rung(), Rung::Text);
    assert!(matches!(chain.next(said(&reply("CONTINUE")), ms(30)), Step::Done(Outcome::Opinion { .. })));
    assert_eq!(outcomes(&chain), ["llm/a refused", "llm/a unreadable", "llm/a answered"]);
}

#[test]
fn a_model_that_writes_garbage_every_way_is_left() {
    let (mut chain, _) = begin(&["a", "b"]);
    for now in [10, 20] {
        chain.next(said("lorem ipsum"), ms(now));
    }
    assert_eq!(chain.next(said(""), ms(30)), ask(1, Rung::JsonSchema, 3030));
}

#[test]
fn an_id_that_was_not_given_passes_to_the_next() {
    let (mut chain, _) = begin(&["a", "b"]);
    let invented = reply("ROLLBACK").replace("S1", "S9");
    assert_eq!(chain.next(said(&invented), ms(10)), ask(1, Rung::JsonSchema, 3010));
    assert_eq!(outcomes(&chain), ["llm/a invalid"]);
}

#[test]
fn an_answer_that_comes_too_late_is_none() {
    let (mut chain, _) = begin(&["a", "b"]);
    assert_eq!(chain.next(said(&reply("ROLLBACK")), ms(3000)), ask(1, Rung::JsonSchema, 6000));
    assert_eq!(chain.next(said(&reply("ROLLBACK")), ms(8000)), NONE);
    assert_eq!(outcomes(&chain), ["llm/a timeout", "llm/b timeout"]);
}

#[test]
fn what_is_left_of_the_deadline_is_all_that_the_next_one_gets() {
    let (mut chain, _) = begin(&["a", "b", "c", "d"]);
    assert_eq!(chain.next(Event::TimePassed, ms(100)), Step::Wait { until: ms(3000) });
    assert_eq!(chain.next(Event::TimePassed, ms(3000)), ask(1, Rung::JsonSchema, 6000));
    assert_eq!(chain.next(Event::TimePassed, ms(6000)), ask(2, Rung::JsonSchema, 8000));
    assert_eq!(chain.next(Event::Failed(Failure::Timeout), ms(7950)), NONE, "50 ms are worth no call");
}

#[test]
fn without_providers_the_chain_ends_at_once() {
    assert_eq!(begin(&[]).1, NONE);
}

/// The nearest peer answers "promote, confidence 0" when its models fail.
#[test]
fn a_failure_never_reads_as_continue() {
    let refusals = (400..=404).map(Failure::Refused).chain((500..=504).map(Failure::Server));
    let others = [
        Failure::Timeout,
        Failure::Unreachable,
        Failure::Tls,
        Failure::Unauthorized,
        Failure::UnknownModel,
        Failure::RateLimited(None),
        Failure::Redirected,
        Failure::TooLarge,
        Failure::Truncated,
        Failure::Declined,
        Failure::Empty,
        Failure::Unreadable,
        Failure::Invalid,
        Failure::BreakerOpen,
        Failure::BudgetExhausted,
        Failure::NotSendable,
    ];
    let texts = ["", "CONTINUE", "promote, confidence 0", "{}", r#"{"decision": "CONTINUE"}"#, r#"{"promote": true}"#];
    let events = refusals.chain(others).map(Event::Failed).chain(texts.map(said));
    for event in events {
        let (mut chain, mut step) = begin(&["a", "b"]);
        for round in 1..20 {
            step = chain.next(event.clone(), ms(300 * round));
        }
        assert_eq!(step, NONE, "{event:?}");
        let outcomes = outcomes(&chain);
        assert!(
            outcomes.len() >= 2 && outcomes.iter().all(|one| !one.ends_with("answered")),
            "{event:?}: {outcomes:?}"
        );
    }
}

fn failures() -> impl Strategy<Value = Failure> {
    prop_oneof![
        (0_u64..20_000).prop_map(|wait| Failure::RateLimited(Some(Duration::from_millis(wait)))),
        Just(Failure::RateLimited(None)),
        (500_u16..600).prop_map(Failure::Server),
        (400_u16..430).prop_map(Failure::Refused),
        prop::sample::select(vec![
            Failure::Timeout,
            Failure::Unreachable,
            Failure::Tls,
            Failure::Unauthorized,
            Failure::UnknownModel,
            Failure::Redirected,
            Failure::TooLarge,
            Failure::Truncated,
            Failure::Declined,
            Failure::Empty,
            Failure::Unreadable,
            Failure::Invalid,
            Failure::BreakerOpen,
            Failure::BudgetExhausted,
            Failure::NotSendable,
        ]),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => failures().prop_map(Event::Failed),
        2 => Just(Event::TimePassed),
        3 => ".{0,60}".prop_map(|text| said(&text)),
    ]
}

proptest! {
    /// Whatever happens, told whenever: each step is within the deadline, calls are bounded, the end comes, and it is no
    /// opinion if nobody gave one.
    #[test]
    fn any_sequence_of_events_ends_by_the_deadline_without_an_opinion(
        events in prop::collection::vec((events(), 0_u64..4000), 80), providers in 0_usize..5, timeout in 0_u64..9000,
    ) {
        let turns = (0..providers).map(|at| Turn { timeout: ms(timeout), ..turn(&at.to_string()) }).collect();
        let (mut chain, mut step) = Chain::begin(turns, known(), ms(8000));
        let (mut now, mut calls) = (Duration::ZERO, 0);
        for (event, later) in events {
            match &step {
                Step::Ask { provider, deadline, .. } => {
                    calls += 1;
                    prop_assert!(*provider < providers && *deadline <= ms(8000) && *deadline >= now);
                }
                Step::Wait { until } => prop_assert!(*until <= ms(8000)),
                Step::Done(outcome) => {
                    prop_assert_eq!(outcome, &Outcome::NoOpinion);
                    break;
                }
            }
            now += ms(later);
            step = chain.next(event, now);
            prop_assert!(now < ms(8000) || step == NONE, "{step:?} at {now:?}");
        }
        prop_assert!(calls <= providers * 4, "{calls} calls");
        prop_assert_eq!(chain.next(Event::TimePassed, ms(8000)), NONE);
        prop_assert!(chain.attempts().len() <= providers * 4);
    }

    /// A shell that does what it is told, with providers that hang: it is over at the deadline, not before, not later.
    #[test]
    fn hanging_providers_cost_the_deadline_and_no_more(providers in 1_usize..6, timeout in 200_u64..9000) {
        let turns = (0..providers).map(|at| Turn { timeout: ms(timeout), ..turn(&at.to_string()) }).collect();
        let (mut chain, mut step) = Chain::begin(turns, known(), ms(8000));
        let mut now = Duration::ZERO;
        while step != NONE {
            let (event, until) = match &step {
                Step::Ask { deadline, .. } => (Event::Failed(Failure::Timeout), *deadline),
                Step::Wait { until } => (Event::TimePassed, *until),
                Step::Done(_) => break,
            };
            prop_assert!(until >= now);
            now = until;
            step = chain.next(event, now);
        }
        prop_assert!(now <= ms(8000));
    }
}
