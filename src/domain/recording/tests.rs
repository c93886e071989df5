//! Recordings: read, written, judged.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::domain::judge::{
    Baseline, Design, History, Kind, Observed, Overlap, Row, Seen, Settings, Sides, SignalHistory, SignalSettings,
    State,
};
use crate::domain::outcome::{Reason, Verdict};
use crate::domain::policy::{OnInconclusive, Scorer};
use crate::domain::process::Counts;

const HEADER: &str =
    r#"{"schema":"deploymentguard.dev/replay/v1","baseline":"concurrent","signals":["errors","latency","memory"]}"#;

fn errors(t: impl std::fmt::Display, new: (u64, u64), old: (u64, u64)) -> String {
    format!(
        r#"{{"t":{t},"signals":{{"errors":{{"new":{{"bad":{},"total":{}}},"old":{{"bad":{},"total":{}}}}}}}}}"#,
        new.0, new.1, old.0, old.1
    )
}

fn run(header: &str, lines: impl IntoIterator<Item = String>) -> (Vec<StepReport>, Conclusion) {
    let mut replay = Replay::start(header).unwrap();
    let mut reports = Vec::new();
    for (index, line) in lines.into_iter().enumerate() {
        reports.extend(replay.line(u64::try_from(index).unwrap() + 2, &line).unwrap());
    }
    let (rest, conclusion) = replay.finish();
    reports.extend(rest);
    (reports, conclusion)
}

fn header(more: &str) -> String {
    format!(r#"{{"schema":"{SCHEMA}","signals":["errors"]{more}}}"#)
}

fn history(steps: usize, bad: u64, total: u64) -> String {
    let line = |index: usize| {
        let t = -15 * i64::try_from(steps - index).unwrap();
        let bad = bad + u64::from(index.is_multiple_of(3));
        format!(r#"{{"t":{t},"signals":{{"errors":{{"old":{{"bad":{bad},"total":{total}}}}}}}}}"#)
    };
    format!(r#","history":[{}]"#, (0..steps).map(line).collect::<Vec<_>>().join(","))
}

fn fault(header: &str, lines: &[&str]) -> (u64, String, String) {
    let mut replay = match Replay::start(header) {
        Ok(replay) => replay,
        Err(fault) => return (fault.line, fault.field, fault.message),
    };
    for (index, line) in lines.iter().enumerate() {
        if let Err(fault) = replay.line(u64::try_from(index).unwrap() + 2, line) {
            return (fault.line, fault.field, fault.message);
        }
    }
    panic!("nothing is wrong with {lines:?}");
}

#[test]
fn a_header_without_steps_is_judged_and_proves_nothing() {
    let (reports, end) = run(&header(""), []);
    assert!(reports.is_empty());
    assert_eq!((end.decision, end.reason, end.deciding_step), (Verdict::Continue, Reason::InsufficientData, None));
    let (_, end) = run(&header(r#","analysis":{"onInconclusive":"Hold"}"#), []);
    assert_eq!(end.decision, Verdict::Inconclusive);
}

#[test]
fn a_bad_release_is_rolled_back_and_the_rest_of_the_file_is_still_checked() {
    let mut replay = Replay::start(HEADER).unwrap();
    for step in 0..30 {
        replay.line(step + 2, &errors(15 * (step + 1), (40, 750), (7, 750))).unwrap();
    }
    let fault = replay.line(32, &errors(600, (9, 7), (7, 750))).unwrap_err();
    assert_eq!(fault.to_string(), "32: signals.errors.new.bad: is 9, which is more than total (7)");
    let (_, end) = replay.finish();
    assert_eq!((end.decision, end.deciding_step), (Verdict::Rollback, Some(2)));
}

#[test]
fn lines_after_the_window_are_read_and_not_judged() {
    let late = |step: u64| if step <= 121 { (7, 750) } else { (700, 750) };
    let (reports, end) = run(&header(""), (1..200).map(|step| errors(15 * step, late(step), (7, 750))));
    let (_, unseen) = run(HEADER, (1..121).map(|step| errors(15 * step, (7, 750), (7, 750))));
    assert_eq!(unseen.reason, Reason::InsufficientData, "latency was asked for and never shown");
    assert_eq!(reports.len(), 121);
    assert_eq!((end.decision, end.reason, end.deciding_step), (Verdict::Continue, Reason::AnalysisPassed, Some(40)));
}

#[test]
fn no_requests_at_all_are_no_traffic() {
    let (_, end) = run(HEADER, (1..20).map(|step| errors(15 * step, (0, 0), (7, 750))));
    assert_eq!(
        (end.decision, end.reason, end.health_score, end.confidence),
        (Verdict::Continue, Reason::NoTraffic, None, 0)
    );
}

#[test]
fn an_incident_that_hits_both_is_never_a_continue() {
    let lines = |step: u64| {
        errors(15 * step, if step < 60 { (7, 750) } else { (300, 750) }, if step < 60 { (7, 750) } else { (300, 750) })
    };
    let (_, end) = run(&header(&history(130, 7, 750)), (1..=75).map(lines));
    assert_eq!((end.decision, end.reason, end.deciding_step), (Verdict::Inconclusive, Reason::SharedIncident, None));
}

#[test]
fn a_missing_side_and_a_missing_signal_are_simply_missing() {
    let lines = [
        r#"{"t":1,"signals":{}}"#,
        r#"{"t":2,"signals":{"errors":{}}}"#,
        r#"{"t":3,"signals":{"errors":{"new":{"bad":1,"total":2}}}}"#,
        r#"{"t":4,"signals":{"errors":null,"latency":{"new":{"value":3}}}}"#,
        r#"{"t":5,"signals":{"errors":{"old":null,"new":{}}}}"#,
    ];
    let (reports, end) = run(HEADER, lines.map(str::to_owned));
    assert_eq!((reports.len(), end.reason), (5, Reason::InsufficientData));
}

#[test]
fn what_is_wrong_is_named_with_line_field_and_cure() {
    let good = errors(15, (1, 10), (1, 10));
    for (lines, line, field, part) in [
        (vec![r#"{"t":1,"signals":{"errors":{"new":{"bad":-1,"total":2}}}}"#], 2, "signals.errors.new.bad", "negative"),
        (vec![r#"{"t":1,"signals":{"errors":{"new":{"bad":1.5,"total":2}}}}"#], 2, "signals.errors.new.bad", "whole"),
        (
            vec![r#"{"t":1,"signals":{"errors":{"new":{"bad":3,"total":2}}}}"#],
            2,
            "signals.errors.new.bad",
            "more than total",
        ),
        (vec![r#"{"t":1,"signals":{"errors":{"new":{"bad":3}}}}"#], 2, "signals.errors.new.total", "missing"),
        (
            vec![r#"{"t":1,"signals":{"errors":{"new":{"Bad":3,"total":4}}}}"#],
            2,
            "signals.errors.new.Bad",
            "written bad",
        ),
        (vec![r#"{"t":1,"signals":{"errors":{"new":[1,2]}}}"#], 2, "signals.errors.new", "must be an object"),
        (
            vec![r#"{"t":1,"signals":{"errors":{"new":{"bad":"1","total":4}}}}"#],
            2,
            "signals.errors.new.bad",
            "whole number",
        ),
        (vec![r#"{"t":1,"signals":{"errors":{"newer":{}}}}"#], 2, "signals.errors.newer", "unknown"),
        (vec![r#"{"t":1,"signals":{"cpu":{}}}"#], 2, "signals.cpu", "not among the signals of the header"),
        (vec![r#"{"t":1,"signals":{},"note":"x"}"#], 2, "note", "unknown"),
        (vec![r#"{"signals":{}}"#], 2, "t", "missing"),
        (vec![r#"{"t":1}"#], 2, "signals", "missing"),
        (vec![r#"{"t":"1","signals":{}}"#], 2, "t", "number"),
        (vec![r#"{"t":1e400,"signals":{}}"#], 2, "t", "too large"),
        (vec![r#"{"t":1700000000000,"signals":{}}"#], 2, "t", "seconds"),
        (vec![&good, r#"{"t":14.9,"signals":{}}"#], 3, "t", "time must go on"),
        (vec![&good, r#"{"t":15,"signals":{}}"#], 3, "t", "time must go on"),
        (
            vec![&good, r#"{"t":16,"signals":{"errors":{"new":{"value":3}}}}"#],
            3,
            "signals.errors",
            "line 2 gave counts",
        ),
        (
            vec![r#"{"t":1,"signals":{"errors":{"new":{"value":3},"old":{"bad":1,"total":2}}}}"#],
            2,
            "signals.errors.old.bad",
            "unknown",
        ),
        (vec![r#"{"t":1,"signals":{"memory":{"new":{"value":-3}}}}"#], 2, "signals.memory.new.value", "negative"),
        (
            vec![r#"{"t":1,"signals":{"errors":{"new":{"bad":1,"bad":1,"total":2}}}}"#],
            2,
            "signals.errors.new.bad",
            "twice",
        ),
        (vec![r#"{"t":1,"signals":{"errors":{"new":{"bad":NaN,"total":2}}}}"#], 2, "signals.errors.new.bad", "no JSON"),
        (vec![r#"{"t":1,"signals":{}"#], 2, "", "the line ends"),
        (vec!["[]"], 2, "", "must be an object"),
        (
            vec![r#"{"t":1,"signals":{"errors":{"new":{"bad":1,"total":5},"strata":{"young":{"bad":1,"total":4}}}}}"#],
            2,
            "signals.errors.strata",
            "adds up to",
        ),
    ] {
        let found = fault(HEADER, &lines);
        assert_eq!((found.0, found.1.as_str()), (line, field), "{lines:?}: {found:?}");
        assert!(found.2.contains(part), "{lines:?}: {found:?}");
    }
}

#[test]
fn what_is_wrong_with_a_header_is_named() {
    for (text, field, part) in [
        ("", "", "is empty"),
        ("{}", "schema", "is missing"),
        (r#"{"schema":"v2"}"#, "schema", "this program reads"),
        (r#"{"schema":"deploymentguard.dev/replay/v1"}"#, "signals", "list what"),
        (&header(r#","baseline":"Concurrent""#), "baseline", "written concurrent"),
        (&header(r#","analysis":{"windw":"1m"}"#), "analysis.windw", "unknown"),
        (&header(r#","analysis":{"window":"soon"}"#), "analysis.window", "no duration"),
        (&header(r#","analysis":{"window":"25h"}"#), "analysis.window", "24 h at most"),
        (&header(r#","analysis":{"falseRollbackRate":"30%"}"#), "analysis.falseRollbackRate", "at most 20%"),
        (&header(r#","analysis":{"falseRollbackRate":0.01}"#), "analysis.falseRollbackRate", "text"),
        (&header(r#","analysis":{"scorer":"seed"}"#), "analysis.scorer", "written Seed"),
        (&header(r#","phi":0.5"#), "phi", "between 1"),
        (
            &header(r#","history":[{"t":-1,"signals":{"errors":{"new":{"bad":1,"total":2}}}}]"#),
            "history[0].signals.errors",
            "more than old",
        ),
        (&header(r#","history":[{"t":-1,"signals":{}},{"t":-2,"signals":{}}]"#), "history[1].t", "time must go on"),
        (&header(r#","rollout":{"steps":1}"#), "rollout.steps", "between 2"),
        (&header(r#","rollout":{"weights":{"errors":2}}"#), "rollout.weights.errors", "between 0 and 1"),
        (&header("").replace("[\"errors\"]", "[]"), "signals", "is empty"),
        (&header("").replace("[\"errors\"]", r#"["a","b","c","d","e","f","g","h","i"]"#), "signals", "9 signals"),
        (&header("").replace("[\"errors\"]", r#"["a","a"]"#), "signals[1]", "twice"),
        (&header("").replace("[\"errors\"]", r#"[{"name":"a","max":-1}]"#), "signals[0].max", "positive"),
    ] {
        let found = fault(text, &[]);
        assert_eq!((found.0, found.1.as_str()), (1, field), "{text}: {found:?}");
        assert!(found.2.contains(part), "{text}: {found:?}");
    }
}

#[test]
fn a_history_shorter_than_asked_stands_still_and_an_empty_one_says_there_is_no_baseline() {
    let by_history = |steps: usize| header(&format!(r#","baseline":"history"{}"#, history(steps, 7, 750)));
    let lines = |bad: u64| (1..60).map(move |step| errors(15 * step, (bad, 750), (0, 0)));
    let (_, end) = run(&by_history(25), lines(75));
    assert_eq!(end.decision, Verdict::Rollback);
    for short in [0, 5] {
        let (reports, end) = run(&by_history(short), lines(75));
        assert_eq!((end.decision, end.reason, end.health_score), (Verdict::Continue, Reason::InsufficientData, None));
        assert!(reports.iter().all(|report| report.verdict == "NoBaseline"));
    }
}

#[test]
fn a_history_with_a_deploy_inside_it_is_too_noisy_rather_than_wrong() {
    let line = |index: i64| {
        let bad = if (40..80).contains(&index) { 150 } else { 7 };
        format!(r#"{{"t":{},"signals":{{"errors":{{"old":{{"bad":{bad},"total":750}}}}}}}}"#, 15 * index)
    };
    let past = (0..130).map(line).collect::<Vec<_>>().join(",");
    let asked = header(&format!(r#","baseline":"history","history":[{past}]"#));
    let (reports, end) = run(&asked, (200..260).map(|step| errors(15 * step, (7, 750), (0, 0))));
    assert_eq!((end.decision, end.reason), (Verdict::Continue, Reason::InsufficientData));
    assert!(reports.iter().all(|report| report.signals[0].message.contains("too noisy")), "{:?}", reports[0]);
}

#[test]
fn old_pods_that_vanish_leave_the_evidence_where_it_is() {
    let line = |step: u64| {
        if step < 4 {
            return errors(15 * step, (20, 750), (7, 750));
        }
        format!(r#"{{"t":{},"signals":{{"errors":{{"new":{{"bad":700,"total":750}}}}}}}}"#, 15 * step)
    };
    let (reports, end) = run(HEADER, (1..40).map(line));
    assert_eq!(end.reason, Reason::InsufficientData);
    let ln_e: Vec<f64> = reports.iter().filter_map(|report| report.ln_e).collect();
    assert!(ln_e[10..].iter().all(|value| value.to_bits() == ln_e[10].to_bits()));
}

#[test]
fn a_gap_in_time_is_no_evidence() {
    let t = |step: u64| if step < 20 { 15 * step } else { 600 + 15 * step };
    let (_, with_gap) = run(HEADER, (1..=80).map(|step| errors(t(step), (7, 750), (7, 750))));
    let (_, without) = run(HEADER, (1..=80).map(|step| errors(15 * step, (7, 750), (7, 750))));
    assert_eq!(with_gap, without);
}

#[test]
fn three_requests_a_second_and_one_pod_of_fifty_are_enough_for_a_bad_release() {
    let (_, slow) = run(HEADER, (1..=120).map(|step| errors(15 * step, (9, 45), (step % 2, 45))));
    assert_eq!(slow.decision, Verdict::Rollback);
    let canary = r#","baseline":"concurrent","rollout":{"weights":{"errors":1},"signals":{"errors":{"strata":{"young":0.2,"grown":0.8}}}}"#;
    let line = |step: u64| {
        format!(
            r#"{{"t":{},"pods":{{"new":1,"old":49}},"settled":false,"signals":{{"errors":{{"strata":{{"young":{{"bad":0,"total":3}},"grown":{{"bad":3,"total":12}}}},"old":{{"bad":7,"total":735}}}}}}}}"#,
            15 * step
        )
    };
    let (_, end) = run(&header(canary), (1..=120).map(line));
    assert_eq!(end.decision, Verdict::Rollback);
}

#[test]
fn a_window_of_six_hours_is_judged_to_its_end() {
    let asked = header(r#","baseline":"concurrent","analysis":{"window":"6h"}"#);
    let line = |step: u64| errors(15 * step, (if step < 1400 { 7 } else { 40 }, 750), (7, 750));
    let (_, end) = run(&asked, (1..=1441).map(line));
    assert_eq!(end.decision, Verdict::Rollback);
    assert!(end.deciding_step.is_some_and(|step| (1400..1430).contains(&step)), "{end:?}");
}

#[test]
fn boundaries_that_change_stand_still_and_known_ones_go_on() {
    let asked = header("").replace("errors", "latency");
    let line = |step: u64| {
        let ms = if step < 10 { [100, 250] } else { [250, 300] };
        let one = |ms: u64| {
            let slow = if ms == 250 { 60 } else { 300 };
            format!(r#"{{"ms":{ms},"new":{{"bad":{slow},"total":750}},"old":{{"bad":{slow},"total":750}}}}"#)
        };
        format!(r#"{{"t":{},"signals":{{"latency":{{"boundaries":[{},{}]}}}}}}"#, 15 * step, one(ms[0]), one(ms[1]))
    };
    let (reports, end) = run(&asked, (1..=60).map(line));
    assert_eq!(reports.len(), 60);
    assert_eq!(end.decision, Verdict::Continue);
}

#[test]
fn the_formula_rolls_back_after_two_low_scores_and_passes_only_with_all_terms() {
    let asked = r#"{"schema":"deploymentguard.dev/replay/v1","scorer":"Seed","signals":["errors","latency","memory"]}"#;
    let line = |step: u64, bad: u64, ms: u64| {
        format!(
            r#"{{"t":{},"signals":{{"errors":{{"new":{{"bad":{bad},"total":10}}}},"latency":{{"new":{{"value":{ms}}}}},"memory":{{"new":{{"value":60}}}}}}}}"#,
            15 * step
        )
    };
    let (_, bad) = run(asked, (1..=20).map(|step| line(step, 3, 200)));
    assert_eq!(
        (bad.decision, bad.reason, bad.deciding_step),
        (Verdict::Rollback, Reason::ScoreBelowThreshold, Some(4))
    );
    let (_, fine) = run(asked, (1..=20).map(|step| line(step, 1, 700)));
    assert_eq!((fine.reason, fine.health_score, fine.confidence), (Reason::AnalysisPassed, Some(78), 56));
    let (_, unproven) = run(asked, (1..=20).map(|step| errors(step, (1, 10), (0, 0))));
    assert_eq!((unproven.reason, unproven.health_score), (Reason::InsufficientData, Some(80)));
}

#[test]
fn one_signal_without_history_gives_the_numbers_of_the_reference() {
    for (steps, wanted) in [
        (vec![(38, 750, 8, 750), (41, 760, 7, 742)], vec![2.250_780_851_938, 5.625_893_997_045]),
        (
            vec![(7, 750, 8, 750), (9, 760, 7, 742), (6, 748, 9, 755)],
            vec![-0.620_526_777_200, -0.648_330_752_542, -0.685_607_953_620],
        ),
        (
            vec![(1, 3, 0, 3), (0, 2, 0, 4), (1, 3, 0, 3), (1, 4, 0, 2)],
            vec![0.247_160_328_827, 0.245_806_808_593, 0.555_416_371_691, 0.762_118_333_259],
        ),
    ] {
        let lines = steps.iter().zip(1..).map(|((a, b, c, d), step)| errors(15 * step, (*a, *b), (*c, *d)));
        let (reports, _) = run(&header(r#","baseline":"concurrent""#), lines);
        let found: Vec<f64> = reports.iter().filter_map(|report| report.ln_e).collect();
        assert_eq!(found.len(), wanted.len());
        assert!(found.iter().zip(&wanted).all(|(a, b): (&f64, &f64)| (a - b).abs() < 1e-9), "{found:?} {wanted:?}");
    }
}

fn counts(most: u64) -> impl Strategy<Value = Option<Counts>> {
    prop::option::weighted(0.8, (0..=most, 0..=most).prop_map(|(a, b)| Counts::new(a.min(b) / 20, b)))
}

fn sides() -> impl Strategy<Value = Sides> {
    (prop::option::weighted(0.3, counts(50)), counts(2000), counts(2000), prop::option::weighted(0.1, counts(500)))
        .prop_map(|(young, grown, old, history)| Sides {
            young: young.flatten(),
            grown,
            old,
            history: history.flatten(),
        })
}

fn asked(baseline: Baseline, tells_young: bool) -> Settings {
    let signal = |name: &str, kind: Kind| SignalSettings {
        name: name.to_owned(),
        term: crate::domain::signal::Term::of(name),
        kind,
        weight: 2,
        critical: true,
        max_ppm: None,
        limit: (kind == Kind::Leak).then_some(90),
        on_no_data: crate::domain::judge::OnNoData::Pass,
        dry_run: false,
        proxied: kind == Kind::Ratio && baseline == Baseline::History,
    };
    Settings {
        alpha_ppm: 12_345,
        window: Duration::from_millis(1_234_567),
        baseline,
        min_requests: 7,
        history_may_enforce: true,
        tells_young,
        first_wave: None,
        controls: 0,
        signals: vec![
            signal("web/errors", Kind::Ratio),
            signal("web/latency", Kind::Tail),
            signal("level", Kind::Level),
            signal("memory", Kind::Leak),
        ],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_live_rollout_replays_to_the_bit(
        baseline in prop_oneof![Just(Baseline::Auto), Just(Baseline::Concurrent), Just(Baseline::History)],
        tells_young in any::<bool>(),
        past in prop::collection::vec((0_u64..40, 700_u64..800, 50.0..150.0), 0..150),
        start in prop::collection::vec((0_u64..9, 50_u64..90), 0..5),
        steps in prop::collection::vec((sides(), sides(), sides(), sides(), (1.0..500.0, any::<bool>()), 1_u64..40_000_000_000), 1..40),
        settled in any::<bool>(),
        suffers in prop::option::weighted(0.2, 0_usize..40),
        pods in prop::option::of((1_u64..9, 1_u64..9)),
    ) {
        let settings = asked(baseline, tells_young);
        let row = |bad: u64, total: u64| -> Row { vec![Counts::new(bad, total)] };
        let tails = |bad: u64, total: u64| -> Row { [400, 70 + bad, 9, 0].map(|slow| Counts::new(slow, total)).to_vec() };
        let history = History { signals: vec![
            SignalHistory {
                steps: past.iter().map(|(bad, total, _)| row(*bad, *total)).collect(),
                start: start.iter().map(|(bad, total)| row(*bad, *total)).collect(),
                ..SignalHistory::default()
            },
            SignalHistory {
                bounds: vec![50.0, 99.9, 250.0, 1000.0],
                steps: past.iter().map(|(bad, total, _)| tails(*bad, *total)).collect(),
                ..SignalHistory::default()
            },
            SignalHistory {
                values: past.iter().enumerate().map(|(index, (_, _, value))| (-7.7 * (200.0 - f64::from(u32::try_from(index).unwrap())), *value)).collect(),
                ..SignalHistory::default()
            },
            SignalHistory { start_growth: past.iter().map(|(_, _, value)| value / 1e4).collect(), ..SignalHistory::default() },
        ] };
        let overlap = Overlap::For(Duration::from_secs(600));
        let design = Design::new(&settings, &history, overlap, Duration::from_mins(1), Duration::from_millis(7_700));
        let began = Timestamp::from_nanosecond(1_799_999_999_123_456_789).unwrap();
        let mut live = State::new(design.clone(), began);
        let text = write_header(&settings, &design, &history, Scorer::Evidence, OnInconclusive::Continue);
        let mut replay = Replay::start(&text).unwrap();
        let (mut wanted, mut found, mut at) = (Vec::new(), Vec::new(), began);
        for (index, (a, b, c, d, (value, both), nanos)) in steps.iter().enumerate() {
            at = at.checked_add(Duration::from_nanos(*nanos)).unwrap();
            let seen = |design: &crate::domain::judge::SignalDesign| match index % 5 {
                0 => None,
                _ => Some(Seen::Counts([*b, *c, *d].into_iter().take(design.tests()).collect())),
            };
            let gauge = Some(Seen::Values { new: Some(*value), old: both.then_some(value / 3.0) });
            let observed = Observed {
                at,
                signals: vec![Some(Seen::Counts(vec![*a])), seen(&design.signals[1]), gauge.clone(), gauge],
                pods,
                settled,
            };
            let noted: Vec<Timestamp> = if suffers == Some(index) { vec![began, at] } else { Vec::new() };
            for moment in &noted {
                live.note_shared_incident(*moment);
            }
            live.step(&history, &[None; 4], &observed);
            let judged = crate::domain::judge::judge(&settings, &live);
            wanted.push((live.ln_e().to_bits(), judged.reasoning.clone(), super::replay::word(&judged.finding)));
            let line = write_step_beside(&design, began, &observed, &noted);
            found.extend(replay.line(u64::try_from(index).unwrap() + 2, &line).unwrap());
            if matches!(judged.finding, crate::domain::judge::Finding::Harm { .. }) || at.duration_since(began).as_secs_f64() > 1234.5 {
                break;
            }
        }
        found.extend(replay.finish().0);
        let found: Vec<(u64, String, &str)> = found.into_iter().map(|report| (report.ln_e.unwrap().to_bits(), report.message, report.verdict)).collect();
        wanted.truncate(found.len());
        prop_assert!(!found.is_empty() || steps[0].5 > 1_234_000_000_000);
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn no_line_breaks_the_reader(lines in prop::collection::vec(any::<String>(), 0..4), first in any::<String>()) {
        let _ = Replay::start(&first);
        let mut replay = Replay::start(HEADER).unwrap();
        for (line, number) in lines.iter().zip(2..) {
            let _ = replay.line(number, line);
        }
    }
}

/// The line of an opinion that cites something abnormal.
fn opinion(decision: &str, authority: &str, held: bool) -> String {
    format!(
        r#"{{"opinion":{{"by":"m","decision":"{decision}","confidence":80,"authority":"{authority}","citesAbnormal":true,"held":{held}}}}}"#
    )
}

/// Steps of which each adds a little evidence, and at which the last one stands in the grey zone.
fn up_to_grey(extra: &[String]) -> (Vec<StepReport>, Conclusion) {
    let header = header("");
    let lines = |count: u32| (1..=count).map(|step| errors(15 * step, (8, 400), (4, 400))).collect::<Vec<_>>();
    let grey = (1..400).find(|count| {
        let (reports, _) = run(&header, lines(*count));
        reports.last().and_then(|report| report.ln_e).is_some_and(|ln_e| ln_e >= 10.0_f64.ln() && ln_e < 100.0_f64.ln())
    });
    let mut all = lines(grey.expect("no step in the grey zone"));
    all.extend(extra.iter().cloned());
    run(&header, all)
}

#[test]
fn an_opinion_in_the_grey_zone_decides_a_replay_as_it_decided_live() {
    let (_, alone) = up_to_grey(&[]);
    assert_ne!(alone.decision, Verdict::Rollback);
    let (reports, decided) = up_to_grey(&[opinion("ROLLBACK", "TieBreak", false)]);
    assert_eq!((decided.decision, decided.reason), (Verdict::Rollback, Reason::LLMDecision));
    assert_eq!(decided.deciding_step, reports.last().map(|report| report.step));
    for changes_nothing in [
        opinion("CONTINUE", "TieBreak", false),
        opinion("ROLLBACK", "Advisory", false),
        opinion("ROLLBACK", "TieBreak", true),
    ] {
        assert_eq!(up_to_grey(&[changes_nothing]).1, alone);
    }
}

#[test]
fn an_opinion_below_the_grey_zone_decides_nothing_in_a_replay() {
    let lines = [errors(15, (1, 400), (1, 400)), opinion("ROLLBACK", "TieBreak", false)];
    assert_ne!(run(&header(""), lines).1.decision, Verdict::Rollback);
}

#[test]
fn a_line_that_is_no_opinion_is_refused_with_its_cure() {
    let of = |line: &str| fault(&header(""), &[line]).2;
    assert!(of(&opinion("MAYBE", "TieBreak", false)).contains("write ROLLBACK, CONTINUE or INCONCLUSIVE"));
    assert!(of(&opinion("ROLLBACK", "Tie", false)).contains("write Advisory, TieBreak or Decide"));
    assert!(of(r#"{"opinion":{"by":"m"}}"#).contains("is no opinion"));
    let written = write_opinion(
        "m",
        crate::domain::advice::authority::Authority::TieBreak,
        false,
        &[],
        &crate::domain::advice::reply::Opinion {
            verdict: Verdict::Continue,
            confidence: crate::domain::outcome::Confidence::percent(80.0),
            class: crate::domain::outcome::FailureClass::Other,
            reasoning: String::new(),
            evidence: Vec::new(),
            suggested_fix: String::new(),
        },
    );
    assert_eq!(
        written,
        opinion("CONTINUE", "TieBreak", false).replace("\"citesAbnormal\":true", "\"citesAbnormal\":false")
    );
}
