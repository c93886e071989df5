use super::*;
use crate::domain::advice::provider::DecisionPolicy;
use crate::domain::facts::PodPolicy;
use crate::domain::fixture::{self, at};
use crate::domain::known_good::Trust;
use crate::domain::logs::LogPolicy;
use crate::domain::plan::Stage;
use crate::domain::policy::{Analysis, Interval, Kind, OnInconclusive, RollbackPolicy, Scorer, StormPolicy, Target};
use crate::domain::probe::ProbePolicy;
use crate::domain::rollout::{Applier, Revision, RevisionHash};

struct Case {
    policy: Policy,
    workload: Workload,
    current: Current,
    pods: Vec<PodFact>,
    to: Option<Choice>,
    undone: Vec<Timestamp>,
    of_class: Vec<Timestamp>,
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
            rollback: RollbackPolicy::default(),
            storm: StormPolicy::default(),
            decision: DecisionPolicy::default(),
        },
        workload: Workload { replicas: 1, ..fixture::workload(Some("bad"), &[("good", 1), ("bad", 2)]) },
        current: Current {
            baseline: Some(RevisionHash::new("good")),
            ..Current::new(RevisionHash::new("bad"), at(0), Stage::Judging)
        },
        pods: vec![fixture::pod("a", "bad")],
        to: Some(Choice { revision: RevisionHash::new("good"), trust: Trust::Certified }),
        undone: Vec::new(),
        of_class: Vec::new(),
    }
}

fn proposal(case: &Case, now: Timestamp) -> Proposal<'_> {
    Proposal {
        policy: &case.policy,
        workload: &case.workload,
        current: &case.current,
        to: case.to.as_ref(),
        pods: &case.pods,
        undone: &case.undone,
        of_class: &case.of_class,
        now,
    }
}

fn objection(case: &Case, now: Timestamp) -> Option<&'static str> {
    first_objection(&proposal(case, now)).map(|clamp| clamp.rule)
}

fn asks(case: &Case) -> Option<&'static str> {
    asks_a_person(&proposal(case, at(0))).map(|clamp| clamp.rule)
}

fn applied_by(tool: Tool) -> Applier {
    Applier { tool, name: "shop".into(), namespace: "ops".into() }
}

fn revision<'a>(case: &'a mut Case, name: &str) -> &'a mut Revision {
    case.workload.revisions.get_mut(&RevisionHash::new(name)).unwrap()
}

#[test]
fn nothing_objects_to_an_ordinary_undo() {
    assert_eq!(objection(&case(), at(0)), None);
}

#[test]
fn each_rule_objects_on_its_own() {
    type Break = fn(&mut Case);
    let breaks: [(&str, Break); 12] = [
        ("judged-revision-is-current", |c| c.workload.current = Some(RevisionHash::new("newer"))),
        ("new-pods-exist", |c| c.pods.clear()),
        ("known-revision-to-go-back-to", |c| c.to = None),
        ("workload-not-skipped", |c| c.workload.skip = Some("migration".into())),
        ("workload-not-paused", |c| c.workload.paused = true),
        ("workload-not-owned", |c| c.workload.controlled_by = Some("App/shop".into())),
        ("something-else-differs", |c| revision(c, "bad").substance = 1),
        ("git-ops", |c| c.workload.applier = Some(applied_by(Tool::FluxKustomize))),
        ("mode", |c| c.policy.mode = Mode::Recommend),
        ("max-per-day", |c| c.undone = vec![at(-5000), at(-4000)]),
        ("cooldown", |c| c.undone = vec![at(-599)]),
        ("storm-breaker", |c| c.of_class = vec![at(-599), at(-10), at(-10)]),
    ];
    assert_eq!(breaks.len(), WORLD.len() + OWN.len(), "a rule without a test");
    for (rule, break_it) in breaks {
        let mut broken = case();
        break_it(&mut broken);
        assert_eq!(objection(&broken, at(0)), Some(rule));
    }
}

#[test]
fn what_was_put_into_the_workloads_own_hands_is_undone() {
    let mut case = case();
    case.workload.applier = Some(applied_by(Tool::Helm));
    assert_eq!(objection(&case, at(0)), None);
    case.workload.applier = Some(applied_by(Tool::ArgoCd));
    for (policy, wanted) in
        [(GitOpsPolicy::Suspend, None), (GitOpsPolicy::Rollback, None), (GitOpsPolicy::Recommend, Some("git-ops"))]
    {
        case.policy.rollback.git_ops = policy;
        assert_eq!(objection(&case, at(0)), wanted);
    }
}

#[test]
fn a_person_is_asked_where_an_undo_cannot_take_everything_back() {
    type Change = fn(&mut Case);
    let changes: [(&str, Change); 3] = [
        ("irreversible", |c| revision(c, "bad").irreversible = true),
        ("volumes", |c| c.workload.has_volumes = true),
        ("approval", |c| c.policy.mode = Mode::Approve),
    ];
    assert_eq!(changes.len(), ASKS.len(), "a rule without a test");
    assert_eq!(asks(&case()), None);
    for (rule, change) in changes {
        let mut changed = case();
        change(&mut changed);
        assert_eq!((objection(&changed, at(0)), asks(&changed)), (None, Some(rule)));
    }
    let mut sure = case();
    sure.workload.has_volumes = true;
    sure.policy.rollback.volumes_without_asking = true;
    assert_eq!(asks(&sure), None);
    revision(&mut sure, "good").irreversible = true;
    assert_eq!(asks(&sure), None, "only what is undone counts");
}

#[test]
fn what_a_person_approved_is_bound_by_the_world_alone() {
    let mut limited = case();
    limited.undone = vec![at(-1), at(-2), at(-3)];
    assert_eq!(objection_of_the_world(&proposal(&limited, at(0))), None);
    limited.workload.paused = true;
    assert!(objection_of_the_world(&proposal(&limited, at(0))).is_some());
}

#[test]
fn a_clock_that_was_set_back_closes_no_storm_breaker() {
    assert!(lies_within(at(50), Duration::from_secs(10), at(0)));
    assert!(!lies_within(at(0), Duration::from_secs(10), at(10)));
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
