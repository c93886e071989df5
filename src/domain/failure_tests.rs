use proptest::prelude::*;

use super::*;
use crate::domain::finding::Source;

fn fact(word: FactWord) -> FactClue<'static> {
    FactClue { word, sentence: "the fact", exit_code: None, message: "" }
}

fn finding(class: FailureClass, novelty: Novelty) -> Finding {
    Finding {
        source: Source::Logs { container: "api".into() },
        issue: class.as_str().replace('_', " "),
        context: "the line".into(),
        suggested_fix: String::new(),
        service: None,
        class,
        new: 3,
        old: Some(0),
        novelty,
    }
}

fn signal(term: Option<Term>, worse: bool, grows: bool) -> SignalClue<'static> {
    let name = term.map_or("queue", Term::as_str);
    SignalClue { name, term, worse, grows, sentence: name }
}

fn class(fact: Option<FactClue<'_>>, findings: &[Finding], signals: &[SignalClue<'_>]) -> FailureClass {
    classify(&Clues { fact, findings, signals }).class
}

use FactWord as F;
use FailureClass as C;
use Novelty as N;

#[test]
fn facts_that_name_their_cause_stand_by_themselves() {
    let noise = [finding(C::DatabaseTimeout, N::New), finding(C::Performance, N::New)];
    for (word, expected) in [
        (F::OomKilled, C::Oom),
        (F::ImagePull, C::Image),
        (F::ConfigError, C::ConfigError),
        (F::StartError, C::ConfigError),
        (F::VolumeMount, C::ConfigError),
    ] {
        assert_eq!(class(Some(fact(word)), &[], &[]), expected, "{word:?}");
        assert_eq!(class(Some(fact(word)), &noise, &[signal(Some(Term::Latency), true, false)]), expected, "{word:?}");
    }
}

#[test]
fn facts_that_say_only_how_it_ended_have_a_class_of_their_own_at_most() {
    for (word, expected) in [
        (F::CrashLoop, C::Crash),
        (F::Hook, C::ConfigError),
        (F::Liveness, C::Other),
        (F::NeverReady, C::Other),
        (F::Progress, C::Other),
        (F::SilentRevision, C::Other),
    ] {
        assert_eq!(class(Some(fact(word)), &[], &[]), expected, "{word:?}");
    }
}

#[test]
fn findings_sharpen_a_vague_fact() {
    for (word, found, expected) in [
        (F::CrashLoop, C::DatabaseTimeout, C::DatabaseTimeout),
        (F::CrashLoop, C::ConfigError, C::ConfigError),
        (F::CrashLoop, C::DependencyUnavailable, C::DependencyUnavailable),
        (F::CrashLoop, C::RateLimit, C::RateLimit),
        (F::CrashLoop, C::Oom, C::Oom),
        (F::CrashLoop, C::Crash, C::Crash),
        (F::CrashLoop, C::Performance, C::Crash),
        (F::CrashLoop, C::Other, C::Crash),
        (F::Liveness, C::DependencyUnavailable, C::DependencyUnavailable),
        (F::Liveness, C::Performance, C::Performance),
        (F::Liveness, C::Crash, C::Crash),
        (F::NeverReady, C::DependencyUnavailable, C::DependencyUnavailable),
        (F::NeverReady, C::DatabaseTimeout, C::DatabaseTimeout),
        (F::NeverReady, C::ConfigError, C::ConfigError),
        (F::Progress, C::DatabaseTimeout, C::DatabaseTimeout),
        (F::SilentRevision, C::ConfigError, C::ConfigError),
        (F::Hook, C::DependencyUnavailable, C::DependencyUnavailable),
    ] {
        assert_eq!(class(Some(fact(word)), &[finding(found, N::New)], &[]), expected, "{word:?} {found:?}");
        let known = class(Some(fact(word)), &[finding(found, N::Known)], &[]);
        assert_eq!(known, class(Some(fact(word)), &[], &[]), "{word:?} {found:?}: what is known weighs nothing");
    }
}

#[test]
fn among_findings_the_newer_and_then_the_more_precise_one_speaks() {
    for (one, other, expected) in [
        ((C::Crash, N::New), (C::ConfigError, N::New), C::ConfigError),
        ((C::DependencyUnavailable, N::New), (C::DatabaseTimeout, N::New), C::DatabaseTimeout),
        ((C::DependencyUnavailable, N::New), (C::DatabaseTimeout, N::More), C::DependencyUnavailable),
        ((C::DependencyUnavailable, N::Unknown), (C::RateLimit, N::More), C::RateLimit),
        ((C::Performance, N::Unknown), (C::ConfigError, N::Known), C::Performance),
        ((C::Other, N::New), (C::Performance, N::Unknown), C::Performance),
    ] {
        let findings = [finding(one.0, one.1), finding(other.0, other.1)];
        assert_eq!(class(None, &findings, &[]), expected, "{one:?} {other:?}");
    }
}

#[test]
fn a_kill_after_growth_is_a_leak() {
    let (grows, high) = (signal(Some(Term::Memory), true, true), signal(Some(Term::Memory), true, false));
    let exit = |code| Some(FactClue { exit_code: Some(code), ..fact(F::CrashLoop) });
    for (fact, findings, signal, expected) in [
        (Some(fact(F::OomKilled)), vec![], grows, C::MemoryLeak),
        (Some(fact(F::OomKilled)), vec![], high, C::Oom),
        (Some(fact(F::OomKilled)), vec![finding(C::MemoryLeak, N::New)], high, C::MemoryLeak),
        (Some(fact(F::OomKilled)), vec![finding(C::MemoryLeak, N::Known)], high, C::Oom),
        (Some(fact(F::CrashLoop)), vec![finding(C::Oom, N::New)], grows, C::MemoryLeak),
        (Some(fact(F::Liveness)), vec![], grows, C::MemoryLeak),
        (exit(137), vec![], grows, C::MemoryLeak),
        (exit(137), vec![], high, C::Crash),
        (exit(1), vec![], grows, C::Crash),
        (None, vec![finding(C::Oom, N::New)], grows, C::MemoryLeak),
        (None, vec![], grows, C::MemoryLeak),
        (None, vec![], high, C::Other),
    ] {
        assert_eq!(class(fact, &findings, &[signal]), expected, "{fact:?} {findings:?} {signal:?}");
    }
}

#[test]
fn last_words_and_exit_codes_speak_when_no_finding_does() {
    for (word, code, message, expected) in [
        (F::CrashLoop, Some(127), "", C::ConfigError),
        (F::CrashLoop, Some(126), "", C::ConfigError),
        (F::CrashLoop, Some(1), "java.lang.OutOfMemoryError: Java heap space", C::Oom),
        (F::CrashLoop, Some(134), "FATAL ERROR: JavaScript heap out of memory", C::Oom),
        (F::CrashLoop, Some(1), "lookup db: no such host", C::DependencyUnavailable),
        (F::CrashLoop, Some(1), "exec /api: exec format error", C::Image),
        (F::CrashLoop, Some(2), "panic: boom", C::Crash),
        (F::Liveness, None, "Get \"http://…\": context deadline exceeded", C::Performance),
        (F::Liveness, None, "HTTP probe failed with statuscode: 500", C::Other),
        (F::ImagePull, None, "toomanyrequests: You have reached your pull rate limit", C::RateLimit),
        (F::ImagePull, None, "manifest unknown", C::Image),
    ] {
        let fact = FactClue { exit_code: code, message, ..fact(word) };
        assert_eq!(class(Some(fact), &[], &[]), expected, "{word:?} {code:?} {message}");
    }
    let fact = FactClue { exit_code: Some(127), ..fact(F::CrashLoop) };
    assert_eq!(class(Some(fact), &[finding(C::DatabaseTimeout, N::New)], &[]), C::DatabaseTimeout);
}

#[test]
fn signals_speak_last() {
    let (slow, errors) = (signal(Some(Term::Latency), true, false), signal(Some(Term::Errors), true, false));
    let throttled = SignalClue { name: "cpu/throttling", ..signal(None, true, false) };
    for (fact, findings, signals, expected) in [
        (None, vec![], vec![slow], C::Performance),
        (None, vec![], vec![errors], C::Other),
        (None, vec![], vec![errors, slow], C::Performance),
        (None, vec![], vec![throttled], C::Performance),
        (None, vec![], vec![signal(None, true, true)], C::Other),
        (None, vec![], vec![SignalClue { worse: false, ..slow }], C::Other),
        (None, vec![finding(C::DependencyUnavailable, N::Unknown)], vec![slow], C::DependencyUnavailable),
        (None, vec![finding(C::Other, N::New)], vec![slow], C::Performance),
        (Some(fact(F::Liveness)), vec![], vec![slow], C::Performance),
        (Some(fact(F::CrashLoop)), vec![], vec![slow], C::Crash),
        (None, vec![], vec![], C::Other),
    ] {
        assert_eq!(class(fact, &findings, &signals), expected, "{fact:?} {findings:?} {signals:?}");
    }
}

#[test]
fn the_evidence_is_named_best_first() {
    let crash = FactClue { exit_code: Some(1), ..fact(F::CrashLoop) };
    let more = Finding { old: Some(2), ..finding(C::DatabaseTimeout, N::More) };
    let findings = [more, finding(C::DatabaseTimeout, N::New), finding(C::Crash, N::New)];
    let signals = [signal(Some(Term::Errors), true, false), signal(Some(Term::Latency), false, false)];
    let said = classify(&Clues { fact: Some(crash), findings: &findings, signals: &signals });
    assert_eq!(said.class, C::DatabaseTimeout);
    assert_eq!(
        said.because,
        [
            "database timeout in logs/api, 3 times, not on the old revision: the line",
            "database timeout in logs/api, 3 times, 2 times on the old revision: the line",
            "the fact",
            "errors",
        ]
    );
    let leak = [signal(Some(Term::Memory), true, true)];
    let said = classify(&Clues { fact: Some(fact(F::OomKilled)), findings: &[], signals: &leak });
    assert_eq!(said.because, ["memory", "the fact"]);
    assert_eq!(classify(&Clues::default()).because, ["nothing that was seen names a cause"]);
}

fn words() -> impl Strategy<Value = FactWord> {
    prop::sample::select(vec![
        F::CrashLoop,
        F::OomKilled,
        F::ImagePull,
        F::ConfigError,
        F::StartError,
        F::Hook,
        F::Liveness,
        F::NeverReady,
        F::Progress,
        F::VolumeMount,
        F::SilentRevision,
    ])
}

fn findings() -> impl Strategy<Value = Vec<Finding>> {
    let one = (prop::sample::select(C::ALL), 0_usize..4, 0_u64..9, "[a-z]{0,4}").prop_map(
        |(class, novelty, new, context)| {
            let novelty = [N::New, N::More, N::Unknown, N::Known][novelty];
            Finding { context, new, ..finding(class, novelty) }
        },
    );
    prop::collection::vec(one, 0..7)
}

fn signals() -> impl Strategy<Value = Vec<SignalClue<'static>>> {
    let term = prop::sample::select(vec![None, Some(Term::Errors), Some(Term::Latency), Some(Term::Memory)]);
    let one = (term, any::<bool>(), any::<bool>()).prop_map(|(term, worse, grows)| signal(term, worse, grows));
    prop::collection::vec(one, 0..6)
}

proptest! {
    #[test]
    fn no_order_of_the_clues_shows_and_no_rollback_is_for_nothing(
        word in prop::option::of(words()), code in prop::option::of(prop::sample::select(vec![1, 126, 137])),
        findings in findings(), signals in signals(), turn in 0_usize..6,
    ) {
        let fact = word.map(|word| FactClue { exit_code: code, ..fact(word) });
        let said = classify(&Clues { fact, findings: &findings, signals: &signals });
        prop_assert_ne!(said.class, C::None);
        prop_assert!((1..=MOST_EVIDENCE).contains(&said.because.len()));

        let (mut turned, mut other) = (findings.clone(), signals.clone());
        turned.rotate_left(turn.min(findings.len()));
        turned.reverse();
        other.rotate_left(turn.min(signals.len()));
        other.reverse();
        prop_assert_eq!(&classify(&Clues { fact, findings: &turned, signals: &other }), &said);

        let weighty: Vec<_> = findings.into_iter().filter(|one| one.novelty != N::Known).collect();
        prop_assert_eq!(&classify(&Clues { fact, findings: &weighty, signals: &signals }), &said);

        // Other is the answer only where nothing of the inputs names a class.
        if said.class == C::Other && fact.is_none() {
            prop_assert!(!weighty.iter().any(speaks));
        }
    }
}
