use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use unicode_width::UnicodeWidthStr;

use super::list::Row;
use super::*;

const WIDE: Look = Look { width: 100, colour: false, ascii: false, program: "kubectl guard" };
const NARROW: Look = Look { width: 60, ascii: true, ..WIDE };

/// 12 minutes and 5 seconds after the release was seen.
fn now() -> Timestamp {
    "2026-11-21T09:41:26Z".parse().unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message, "observedGeneration": 2})
}

fn guard(status: Value) -> Value {
    json!({
        "apiVersion": "deploymentguard.dev/v1alpha1",
        "kind": "DeploymentGuard",
        "metadata": {"name": "api", "namespace": "shop", "generation": 2, "uid": "u1", "creationTimestamp": "2026-11-01T00:00:00Z"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "api"}, "mode": "Enforce",
            "analysis": {"warmup": "60s", "window": "30m", "falseRollbackRate": "1%"}},
        "status": status,
    })
}

fn current(state: &str) -> Value {
    json!({"revision": "7f9c5b6d84", "baseline": "5b6d84b55c", "images": ["shop/api:v2"], "state": state,
        "startedAt": "2026-11-21T09:29:21Z", "firstReadyAt": "2026-11-21T09:29:41Z"})
}

fn signals() -> Value {
    json!([
        {"name": "http/errors", "state": "Worse", "value": "22 %", "baseline": "0.4 %",
         "message": "206 of 945 requests against 4 of 1,002"},
        {"name": "http/latency", "state": "Unproven", "value": "61 ms", "baseline": "48 ms"},
        {"name": "container/memory", "state": "Waiting"},
    ])
}

fn findings() -> Value {
    json!([{"issue": "connection refused", "context": "dial tcp (ip):(n): connect: connection refused orders",
        "suggestedFix": "check that the service listens and that network policies let it through",
        "source": "logs/api", "class": "dependency_unavailable", "new": 14, "old": 0, "novelty": "New"}])
}

fn record(action: &str) -> Value {
    json!({"id": "7f9c5b6d84-1763717369603", "decision": "ROLLBACK", "confidence": 93, "decider": "evidence",
        "reason": "EvidenceOfHarm", "oneIn": "1 in 263", "fromRevision": "7f9c5b6d84", "toRevision": "5b6d84b55c",
        "reasoning": "error rate 22 % against 0.4 % on the old revision (206 of 945 requests); chance of this without a \
                      regression at most 1 in 263",
        "action": action, "time": "2026-11-21T09:31:12Z", "metrics": {},
        "durations": {"detectionToDecision": "111.0s", "decisionToUndo": "0.2s", "undoToRestored": "34.2s"}})
}

fn analysing() -> Value {
    guard(json!({
        "conditions": [
            condition("Ready", "True", "Accepted", ""),
            condition("Healthy", "Unknown", "Analyzing", "error rate 1.2 % against 0.4 %; not proven either way yet"),
            condition("Reconciling", "True", "Analyzing", ""),
        ],
        "current": current("Judging"), "signals": signals(), "nextEvaluation": "2026-11-21T09:41:31Z",
        "analysis": {"checkpoint": "x", "oneIn": "1 in 12", "countedUntil": "2026-11-21T09:41:16Z"},
    }))
}

fn rolled_back() -> Value {
    let mut restored = current("Passed");
    restored["revision"] = json!("5b6d84b55c");
    restored["baseline"] = Value::Null;
    restored["images"] = json!(["shop/api:v1"]);
    guard(json!({
        "conditions": [
            condition("Healthy", "True", "RollbackSucceeded", "revision 5b6d84b55c serves again"),
            condition("RolledBack", "True", "RollbackSucceeded", "went back"),
        ],
        "current": restored, "lastDecision": record("RolledBack"), "findings": findings(),
    }))
}

fn approval() -> Value {
    let mut asking = guard(json!({
        "conditions": [condition("Healthy", "False", "EvidenceOfHarm", "revision 7f9c5b6d84 is bad, waiting for approval")],
        "current": current("AwaitingApproval"), "lastDecision": record("AwaitingApproval"),
        "pendingAction": {"decision": "7f9c5b6d84-1763717369603", "fromRevision": "7f9c5b6d84", "toRevision": "5b6d84b55c",
            "why": "the guard's mode is Approve", "askedAt": "2026-11-21T09:31:12Z", "expiresAt": "2026-11-21T09:46:12Z"},
    }));
    asking["spec"]["mode"] = json!("Approve");
    asking
}

fn blind() -> Value {
    guard(json!({
        "conditions": [
            condition("Healthy", "Unknown", "PrometheusUnreachable", "metrics could not be read for 2m"),
            condition("MetricsAvailable", "False", "PrometheusUnreachable",
                "http://prometheus.monitoring:9090 does not answer within 10 s"),
        ],
        "current": current("Judging"), "nextEvaluation": "2026-11-21T09:41:31Z",
        "signals": [{"name": "http/errors", "state": "Errored", "message": "connection refused"}],
    }))
}

fn healthy() -> Value {
    guard(json!({
        "healthScore": 98,
        "conditions": [condition("Healthy", "True", "AnalysisPassed", "not worse to the end of the window")],
        "current": current("Passed"),
        "lastDecision": {"id": "d", "decision": "CONTINUE", "decider": "evidence", "reason": "AnalysisPassed",
            "fromRevision": "7f9c5b6d84", "action": "None", "time": "2026-11-21T09:40:00Z", "confidence": 99,
            "reasoning": "error rate 0.4 % against 0.4 % on the old revision (8 of 2,001 requests)"},
        "signals": [{"name": "http/errors", "state": "Good", "value": "0.4 %", "baseline": "0.4 %"}],
    }))
}

fn stalled() -> Value {
    let mut last = record("Recommended");
    last["commands"] = json!(["kubectl -n shop rollout undo deployment/api --to-revision=7"]);
    last["actionReason"] = json!("SuppressedByGitOps: Flux applies it");
    let message = "the Flux Kustomization flux-system/shop applies the workload and would revert an undo";
    guard(json!({
        "conditions": [
            condition("Healthy", "False", "SuppressedByGitOps", message),
            condition("Stalled", "True", "SuppressedByGitOps", message),
        ],
        "current": current("Condemned"), "lastDecision": last,
    }))
}

macro_rules! is_drawn {
    ($name:ident, $story:ident, $look:ident, $file:literal) => {
        #[test]
        fn $name() {
            let text = status::screen(&$story(), now(), $look);
            assert!(text == include_str!(concat!("golden/", $file)), "@@@{}\n{text}@@@", $file);
        }
    };
}

is_drawn!(an_analysis_under_way_is_drawn, analysing, WIDE, "analysing.txt");
is_drawn!(a_rollback_is_drawn, rolled_back, WIDE, "rolled-back.txt");
is_drawn!(a_decision_that_waits_is_drawn_with_the_line_to_paste, approval, WIDE, "approval.txt");
is_drawn!(a_decision_that_waits_fits_a_narrow_terminal_of_ascii, approval, NARROW, "approval-narrow.txt");
is_drawn!(blindness_is_drawn_as_neither_good_nor_bad, blind, WIDE, "blind.txt");
is_drawn!(health_is_drawn, healthy, WIDE, "healthy.txt");
is_drawn!(a_guard_that_needs_a_person_is_drawn_with_what_to_type, stalled, WIDE, "stalled.txt");
is_drawn!(an_analysis_fits_a_narrow_terminal_of_ascii, analysing, NARROW, "analysing-narrow.txt");

#[test]
fn what_a_guard_does_not_set_is_taken_as_the_operator_takes_it() {
    let mut unset = analysing();
    unset["spec"]["analysis"] = Value::Null;
    assert_eq!(status::screen(&unset, now(), WIDE), status::screen(&analysing(), now(), WIDE));
}

#[test]
fn colours_are_there_only_where_they_are_wanted() {
    let coloured = status::screen(&analysing(), now(), Look { colour: true, ..WIDE });
    assert!(coloured.contains("\u{1b}[31m"));
    let bare: String = coloured
        .split("\u{1b}[")
        .enumerate()
        .map(|(at, part)| if at == 0 { part } else { part.split_once('m').unwrap().1 })
        .collect();
    assert_eq!(
        bare.lines().map(str::trim_end).collect::<Vec<_>>(),
        status::screen(&analysing(), now(), WIDE).lines().collect::<Vec<_>>()
    );
}

#[test]
fn what_is_pasted_is_one_command_again_in_a_shell_however_narrow_the_terminal() {
    let long = format!("kubectl guard approve -n shop {} 7f9c5b6d84-1763717369603", "x".repeat(150));
    for (command, width) in [(long.as_str(), 60), ("kubectl guard approve -n shop api 7f9c5b6d84-1763717369603", 30)] {
        let mut page = Page::new(Look { width, ..WIDE });
        page.command(command);
        let text = page.finish();
        assert!(text.lines().all(|line| line.width() <= width), "{text}");
        let output = std::process::Command::new("sh").arg("-c").arg(format!("printf '%s ' {text}")).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), command, "{text}");
    }
}

#[test]
fn a_table_leaves_out_what_matters_least_until_it_fits() {
    let mut wrong = stalled();
    wrong["metadata"]["name"] = json!("orders");
    wrong["status"]["conditions"] = json!([condition("Ready", "False", "UnknownClass", "there is no GuardClass fast")]);
    let rows: Vec<Row> = [analysing(), rolled_back(), wrong].iter().map(|guard| Row::of(guard, now())).collect();
    let (wide, narrow) = (list::screen(&rows, true, Look { width: 200, ..WIDE }), list::screen(&rows, false, NARROW));
    assert!(wide.starts_with("NAMESPACE  NAME    TARGET          MODE     HEALTHY  STATE"), "{wide}");
    assert!(wide.contains("UnknownClass") && wide.contains("there is no GuardClass fast"), "{wide}");
    assert!(narrow.starts_with("NAME    MODE     HEALTHY  STATE"), "{narrow}");
    assert!(narrow.lines().all(|line| line.width() <= 60), "{narrow}");
}

#[test]
fn a_history_tells_each_decision_with_its_reward() {
    let mut guard = rolled_back();
    guard["status"]["history"] = json!([{"id": "6c6c-1", "decision": "CONTINUE", "reason": "AnalysisPassed", "action": "None",
        "fromRevision": "5b6d84b55c", "healthScore": 97, "time": "2026-11-20T10:00:00Z"}]);
    let rewards = history::Rewards::from([("6c6c-1".to_owned(), 1.0)]);
    let text = history::screen(&guard, &rewards, now(), Look { width: 200, ..WIDE });
    assert_eq!(
        text,
        "WHEN                  AGO         DECISION  REASON          ACTION      REVISION    SCORE  REWARD  ID\n\
         09:31:12Z             10m14s ago  ROLLBACK  EvidenceOfHarm  RolledBack  7f9c5b6d84  -      -       7f9c5b6d84-1763717369603\n\
         2026-11-20 10:00:00Z  23h41m ago  CONTINUE  AnalysisPassed  None        5b6d84b55c  97     +1.00   6c6c-1\n"
    );
    let value = history::value(&guard, &rewards);
    assert_eq!(
        (value["decisions"][0]["reward"].clone(), value["decisions"][1]["reward"].clone()),
        (Value::Null, json!(1.0))
    );
    let none = history::screen(&self::guard(json!({})), &rewards, now(), WIDE);
    assert_eq!(none, "shop/api has decided nothing yet.\n");
}

/// Any text, with what terminals obey, wide and invisible characters.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,80}",
        any::<String>(),
        Just("\u{1b}]0;owned\u{7}\u{1b}[2J".to_owned()),
        Just("界\u{fe0f}\u{200d}👩\u{1f3fd}\u{202e}".repeat(9)),
        "[0-9.,]{1,12} (%|ms|MiB)",
        Just("1 in 263".to_owned()),
        Just("2026-11-21T09:29:21Z".to_owned()),
        Just("-009999-01-02T01:59:59Z".to_owned()),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-zA-Z]{1,8}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Every place of a value at which there is no object.
fn leaves(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, field) in fields {
                found.push(format!("{place}/{key}"));
                leaves(field, &format!("{place}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, &format!("{place}/{index}"), found);
            }
        }
        _ => found.push(place.to_owned()),
    }
}

fn stories() -> Vec<Value> {
    vec![analysing(), rolled_back(), approval(), blind(), healthy(), stalled()]
}

proptest! {
    #[test]
    fn whatever_a_status_holds_no_line_is_too_wide_and_nothing_moves_a_cursor(
        story in 0..6_usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any_value()), 0..6),
        width in 20..140_usize,
        (colour, ascii) in any::<(bool, bool)>(),
        second in any::<i64>(),
    ) {
        let mut guard = stories().remove(story);
        let mut places = Vec::new();
        leaves(&guard, "", &mut places);
        for (at, value) in changes {
            if let Some(found) = guard.pointer_mut(at.get(&places[..]).as_str()) {
                *found = value;
            }
        }
        let now = Timestamp::from_second(second).unwrap_or(now());
        let look = Look { width, colour: false, ascii, program: "kubectl guard" };
        let rows = [Row::of(&guard, now)];
        let screens = [
            status::screen(&guard, now, look),
            list::screen(&rows, true, look),
            history::screen(&guard, &history::Rewards::new(), now, look),
        ];
        for text in &screens {
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            prop_assert!(!ascii || text.is_ascii(), "{text:?}");
            for line in text.lines() {
                prop_assert!(line.width() <= width, "{} > {width}: {line:?}", line.width());
            }
        }
        let coloured = status::screen(&guard, now, Look { colour, ..look });
        let escapes = |text: &str| text.contains('\u{1b}');
        prop_assert!(!escapes(&status::line(&guard)));
        prop_assert!(colour || !escapes(&coloured));
    }
}

#[test]
fn a_text_for_wide_terminals_fits_narrow_ones_and_says_its_signs_in_ascii() {
    let text = include_str!("../explain/golden/grey-zone.txt");
    let look = |width, ascii| Look { width, colour: false, ascii, program: "deployment-guard" };
    assert_eq!(relaid(text, look(200, false)), text);
    for width in [20, 60] {
        let narrow = relaid(text, look(width, true));
        assert!(narrow.lines().all(|line| line.chars().count() <= width), "{narrow}");
        assert!(narrow.is_ascii() && !narrow.contains('?') && narrow.contains("alpha"), "{narrow}");
    }
}
