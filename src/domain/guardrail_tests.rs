use super::*;
use crate::domain::facts::PodPolicy;
use crate::domain::fixture::{self, at};
use crate::domain::logs::LogPolicy;
use crate::domain::plan::Stage;
use crate::domain::policy::{Analysis, Interval, Kind, OnInconclusive, RollbackPolicy, Scorer, Target};
use crate::domain::probe::ProbePolicy;
use crate::domain::rollout::RevisionHash;

struct Case {
    policy: Policy,
    workload: Workload,
    current: Current,
    pods: Vec<PodFact>,
    undone: Vec<Timestamp>,
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
            pods: PodPolicy::default(),
            logs: LogPolicy::default(),
            probes: ProbePolicy::default(),
            rollback: RollbackPolicy {
                max_per_day: 2,
                cooldown: Duration::from_secs(600),
                verify_timeout: Duration::from_secs(600),
            },
        },
        workload: Workload { replicas: 1, ..fixture::workload(Some("bad"), &[("good", 1), ("bad", 2)]) },
        current: Current {
            baseline: Some(RevisionHash::new("good")),
            ..Current::new(RevisionHash::new("bad"), at(0), Stage::Judging)
        },
        pods: vec![fixture::pod("a", "bad")],
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
    let breaks: [(&str, Break); 10] = [
        ("judged-revision-is-current", |c| c.workload.current = Some(RevisionHash::new("newer"))),
        ("new-pods-exist", |c| c.pods.clear()),
        ("known-revision-to-go-back-to", |c| c.current.baseline = None),
        ("workload-not-skipped", |c| c.workload.skip = Some("migration".into())),
        ("workload-not-paused", |c| c.workload.paused = true),
        ("workload-not-owned", |c| c.workload.controlled_by = Some("App/shop".into())),
        ("mode", |c| c.policy.mode = Mode::Observe),
        ("kind-can-be-undone", |c| c.policy.target.kind = Kind::StatefulSet),
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
