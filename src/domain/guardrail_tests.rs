use std::collections::BTreeMap;

use super::*;
use crate::domain::plan::Stage;
use crate::domain::policy::{Analysis, Interval, Kind, OnInconclusive, RollbackPolicy, Scorer, Target};
use crate::domain::rollout::{PodName, Revision, RevisionHash};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

struct Case {
    policy: Policy,
    workload: Workload,
    current: Current,
    pods: Vec<PodFact>,
    undone: Vec<Timestamp>,
}

fn revision(name: &str) -> (RevisionHash, Revision) {
    let hash = RevisionHash::new(name);
    (
        hash.clone(),
        Revision { hash, uid: name.into(), number: 1, images: Vec::new(), pod_prefix: format!("api-{name}-") },
    )
}

fn case() -> Case {
    Case {
        policy: Policy {
            target: Target { kind: Kind::Deployment, name: "api".into() },
            mode: Mode::Enforce,
            asked_mode: Mode::Enforce,
            analysis: Analysis {
                interval: Interval::Auto,
                warmup: Duration::ZERO,
                window: Duration::from_secs(60),
                min_requests: 20,
                on_inconclusive: OnInconclusive::Continue,
                scorer: Scorer::Seed,
                ..Analysis::default()
            },
            signals: Vec::new(),
            rollback: RollbackPolicy {
                max_per_day: 2,
                cooldown: Duration::from_secs(600),
                verify_timeout: Duration::from_secs(600),
            },
        },
        workload: Workload {
            uid: "w".into(),
            generation: 1,
            observed_generation: 1,
            replicas: 1,
            paused: false,
            waves: Some(2),
            min_ready_seconds: 0,
            progress_deadline_seconds: 600,
            controlled_by: None,
            skip: None,
            last_rollback: None,
            owns_template: false,
            current: Some(RevisionHash::new("bad")),
            revisions: BTreeMap::from([revision("good"), revision("bad")]),
            terminating: false,
        },
        current: Current {
            revision: RevisionHash::new("bad"),
            started: at(0),
            first_ready: None,
            baseline: Some(RevisionHash::new("good")),
            stage: Stage::Judging,
        },
        pods: vec![PodFact {
            pod: PodName::new("shop", "a"),
            uid: "a".into(),
            owner: "bad".into(),
            revision: RevisionHash::new("bad"),
            created: at(0),
            ready_since: None,
            first_ready: None,
            terminating: false,
            finished: false,
            restarts: 0,
            container_starts: Vec::new(),
            containers: Vec::new(),
        }],
        undone: Vec::new(),
    }
}

fn objection(case: &Case, now: Timestamp) -> Option<&'static str> {
    let proposal = Proposal {
        policy: &case.policy,
        workload: &case.workload,
        current: &case.current,
        pods: &case.pods,
        undone: &case.undone,
        now,
    };
    first_objection(&proposal).map(|clamp| clamp.rule)
}

#[test]
fn nothing_objects_to_an_ordinary_undo() {
    assert_eq!(objection(&case(), at(0)), None);
}

#[test]
fn each_rule_objects_on_its_own() {
    type Break = fn(&mut Case);
    let breaks: [(&str, Break); 9] = [
        ("judged-revision-is-current", |c| c.workload.current = Some(RevisionHash::new("newer"))),
        ("new-pods-exist", |c| c.pods.clear()),
        ("known-revision-to-go-back-to", |c| c.current.baseline = None),
        ("workload-not-skipped", |c| c.workload.skip = Some("migration".into())),
        ("workload-not-paused", |c| c.workload.paused = true),
        ("workload-not-owned", |c| c.workload.controlled_by = Some("App/shop".into())),
        ("mode", |c| c.policy.mode = Mode::Observe),
        ("max-per-day", |c| c.undone = vec![at(-5000), at(-4000)]),
        ("cooldown", |c| c.undone = vec![at(-599)]),
    ];
    assert_eq!(breaks.len(), RULES.len(), "a rule without a test");
    for (rule, break_it) in breaks {
        let mut broken = case();
        break_it(&mut broken);
        assert_eq!(objection(&broken, at(0)), Some(rule));
    }
}

#[test]
fn a_baseline_that_no_longer_exists_cannot_be_gone_back_to() {
    let mut broken = case();
    broken.workload.revisions.remove(&RevisionHash::new("good"));
    assert_eq!(objection(&broken, at(0)), Some("known-revision-to-go-back-to"));
}

#[test]
fn limits_end_with_time() {
    let mut limited = case();
    limited.undone = vec![at(0)];
    assert_eq!(objection(&limited, at(599)), Some("cooldown"));
    assert_eq!(objection(&limited, at(600)), None);
    limited.undone = vec![at(0), at(1)];
    assert_eq!(objection(&limited, at(86_399)), Some("max-per-day"));
    assert_eq!(objection(&limited, at(86_401)), None);
}
