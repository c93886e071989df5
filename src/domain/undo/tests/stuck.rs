//! Which pod may be deleted after an undo, and above all which may not.

use proptest::prelude::*;

use super::*;
use crate::domain::fixture::{self, at};
use crate::domain::outcome::Reason;
use crate::domain::rollout::{PodFact, Strategy as Updates, Workload};

/// The undo was sent at 100.
fn state() -> VerifyState {
    let (revision, bad) = (RevisionHash::new("good"), RevisionHash::new("bad"));
    VerifyState { uid: "w".into(), revision, bad, generation: None, started: at(100) }
}

fn set() -> Workload {
    Workload {
        kind: Kind::StatefulSet,
        replicas: 3,
        update_revision: Some(RevisionHash::new("good")),
        ..fixture::workload(Some("good"), &[("good", 3), ("bad", 2)])
    }
}

fn ready(ordinal: u32, revision: &str, since: i64) -> PodFact {
    PodFact { ready_since: Some(at(since)), ..fixture::pod(&format!("db-{ordinal}"), revision) }
}

fn broken(ordinal: u32, revision: &str, since: i64) -> PodFact {
    PodFact { unready_since: Some(at(since)), ..fixture::pod(&format!("db-{ordinal}"), revision) }
}

fn look(now: i64, workload: &Workload, pods: &[PodFact]) -> Freeing {
    stuck_pod(at(now), &state(), workload, pods)
}

fn deleted(freeing: &Freeing) -> Option<&str> {
    match freeing {
        Freeing::Delete(found) => Some(&found.pod.name),
        Freeing::Nothing | Freeing::Wait(_) => None,
    }
}

/// The usual way into it: the last pod of an ordered set was replaced first and never became Ready.
fn stuck() -> Vec<PodFact> {
    vec![ready(0, "good", 0), ready(1, "good", 0), broken(2, "bad", 40)]
}

#[test]
fn the_broken_pod_of_the_bad_revision_goes_once_the_set_had_its_time() {
    assert_eq!(look(129, &set(), &stuck()), Freeing::Wait(at(130)));
    let Freeing::Delete(found) = look(130, &set(), &stuck()) else { panic!("nothing found") };
    assert_eq!((&*found.pod.name, &*found.uid, found.reason), ("db-2", "db-2", Reason::StuckStatefulSetPod));
    assert!(found.why.contains("has not been Ready for 90 s"), "{}", found.why);
}

#[test]
fn a_pod_has_to_be_broken_for_30_seconds_on_end_or_to_have_restarted_twice() {
    let mut pods = stuck();
    pods[2] = broken(2, "bad", 120);
    assert_eq!(look(149, &set(), &pods), Freeing::Wait(at(150)));
    assert_eq!(deleted(&look(150, &set(), &pods)), Some("db-2"));
    pods[2].restarts = 1;
    assert_eq!(look(149, &set(), &pods), Freeing::Wait(at(150)));
    pods[2].restarts = 2;
    assert_eq!(deleted(&look(130, &set(), &pods)), Some("db-2"));
    assert_eq!(look(129, &set(), &pods), Freeing::Wait(at(130)), "the set has its own time all the same");
    pods[2] = PodFact { restarts: 9, ..ready(2, "bad", 125) };
    assert_eq!(look(200, &set(), &pods), Freeing::Nothing, "what is Ready the set replaces itself");
}

#[test]
fn the_lowest_of_all_unavailable_pods_goes_first_or_none() {
    let pods = [ready(0, "bad", 0), broken(1, "bad", 40), broken(2, "bad", 40)];
    let Freeing::Delete(found) = look(200, &set(), &pods) else { panic!("nothing found") };
    assert_eq!((&*found.pod.name, found.all.as_str()), ("db-1", "db-0, db-1, db-2"));
    let good_first = [broken(0, "good", 0), broken(1, "bad", 40), ready(2, "good", 0)];
    assert_eq!(look(200, &set(), &good_first), Freeing::Nothing, "a good one is waited for");
    let absent = [ready(0, "good", 0), broken(2, "bad", 40)];
    assert_eq!(look(200, &set(), &absent), Freeing::Nothing, "the set is making db-1");
    let mut going = stuck();
    going[1].terminating = true;
    assert_eq!(look(200, &set(), &going), Freeing::Nothing, "db-1 is on its way");
}

#[test]
fn a_pod_that_is_ready_and_not_yet_available_is_waited_for() {
    let patient = Workload { min_ready_seconds: 20, ..set() };
    let pods = [ready(0, "good", 190), ready(1, "good", 0), broken(2, "bad", 40)];
    assert_eq!(look(200, &patient, &pods), Freeing::Wait(at(210)));
    assert_eq!(deleted(&look(210, &patient, &pods)), Some("db-2"));
}

#[test]
fn nothing_is_deleted_before_the_set_itself_says_that_it_makes_restored_pods() {
    let stale = [
        Workload { update_revision: Some(RevisionHash::new("bad")), ..set() },
        Workload { update_revision: None, ..set() },
        Workload { observed_generation: 1, ..set() },
        Workload { current: Some(RevisionHash::new("next")), ..set() },
        Workload { uid: "another".into(), ..set() },
        Workload { terminating: true, ..set() },
    ];
    for workload in stale {
        assert_eq!(look(500, &workload, &stuck()), Freeing::Nothing);
    }
}

#[test]
fn kinds_that_heal_themselves_are_left_alone() {
    for kind in [Kind::Deployment, Kind::DaemonSet] {
        assert_eq!(look(500, &Workload { kind, ..set() }, &stuck()), Freeing::Nothing);
    }
}

#[test]
fn pods_below_a_partition_are_never_deleted_because_they_would_come_back_as_they_were() {
    let canary = Workload { partition: 2, ..set() };
    let pods = [broken(0, "bad", 0), ready(1, "good", 0), broken(2, "bad", 0)];
    assert_eq!(look(500, &canary, &pods), Freeing::Nothing);
    let pods = [ready(0, "bad", 0), ready(1, "good", 0), broken(2, "bad", 0)];
    let Freeing::Delete(found) = look(500, &canary, &pods) else { panic!("nothing found") };
    assert_eq!(found.all, "db-2");
}

fn by_hand(kind: Kind) -> Workload {
    Workload { kind, strategy: Updates::OnDelete, ..set() }
}

#[test]
fn where_nobody_replaces_pods_each_goes_once_the_one_before_is_ready_again() {
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let workload = by_hand(kind);
        let all_bad = [ready(0, "bad", 0), broken(1, "bad", 0), ready(2, "bad", 0)];
        let Freeing::Delete(found) = look(101, &workload, &all_bad) else { panic!("nothing found") };
        assert_eq!(
            (&*found.pod.name, found.reason),
            ("db-1", Reason::OnDeleteStrategy),
            "what serves nobody goes first"
        );
        let mut going = all_bad.clone();
        going[1].terminating = true;
        assert_eq!(look(102, &workload, &going), Freeing::Nothing);
        let absent = [ready(0, "bad", 0), ready(2, "bad", 0)];
        assert_eq!(look(103, &workload, &absent), Freeing::Nothing);
        let starting = [ready(0, "bad", 0), broken(1, "good", 103), ready(2, "bad", 0)];
        assert_eq!(look(104, &workload, &starting), Freeing::Nothing);
        let next = [ready(0, "bad", 0), ready(1, "good", 105), ready(2, "bad", 0)];
        assert_eq!(deleted(&look(106, &workload, &next)), Some("db-0"));
        let patient = Workload { min_ready_seconds: 10, ..workload.clone() };
        assert_eq!(look(106, &patient, &next), Freeing::Wait(at(115)));
        let older = [ready(0, "good", 0), ready(1, "good", 0), ready(2, "older", 0)];
        assert_eq!(look(106, &workload, &older), Freeing::Nothing, "other revisions are their owner's affair");
    }
}

fn any_pod(ordinal: u32) -> impl Strategy<Value = PodFact> {
    let revision = prop_oneof![3 => Just("bad"), 3 => Just("good"), 1 => Just("older")];
    let time = prop_oneof![0_i64..200, Just(0_i64)];
    (revision, any::<bool>(), time, 0_u32..4, prop::bool::weighted(0.1), prop::bool::weighted(0.1)).prop_map(
        move |(revision, is_ready, since, restarts, terminating, finished)| {
            let pod = if is_ready { ready(ordinal, revision, since) } else { broken(ordinal, revision, since) };
            PodFact { terminating, finished, restarts, ..pod }
        },
    )
}

fn any_pods() -> impl Strategy<Value = Vec<PodFact>> {
    let some = |ordinal| prop::option::weighted(0.9, any_pod(ordinal));
    (some(0), some(1), some(2), some(3)).prop_map(|(a, b, c, d)| [a, b, c, d].into_iter().flatten().collect())
}

fn any_set() -> impl Strategy<Value = Workload> {
    let kind = prop_oneof![5 => Just(Kind::StatefulSet), 1 => Just(Kind::DaemonSet), 1 => Just(Kind::Deployment)];
    let strategy = prop_oneof![4 => Just(Updates::Rolling), 2 => Just(Updates::OnDelete), 1 => Just(Updates::Recreate)];
    let revision = || prop_oneof![6 => Just("good"), 1 => Just("bad")].prop_map(RevisionHash::new);
    (kind, strategy, revision(), revision(), 0_u32..3, prop_oneof![6 => Just(2_i64), 1 => Just(1)], 0_u32..30).prop_map(
        |(kind, strategy, update, current, partition, observed_generation, min_ready_seconds)| Workload {
            kind,
            strategy,
            update_revision: (kind == Kind::StatefulSet).then_some(update),
            current: Some(current),
            partition: if kind == Kind::StatefulSet && strategy == Updates::Rolling { partition } else { 0 },
            observed_generation,
            min_ready_seconds,
            ..set()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_pods_do_only_a_live_pod_of_the_bad_revision_goes_for_a_reason(
        now in 90_i64..250, workload in any_set(), pods in any_pods(),
    ) {
        let Freeing::Delete(found) = look(now, &workload, &pods) else { return Ok(()) };
        let pod = pods.iter().find(|pod| pod.uid == found.uid).expect("one that is there");
        prop_assert_eq!(pod.revision.as_str(), "bad");
        prop_assert!(pod.is_live() && !workload.leaves_alone(pod));
        prop_assert!(workload.kind != Kind::Deployment);
        prop_assert_eq!(workload.current.as_ref().map(RevisionHash::as_str), Some("good"));
        prop_assert!(workload.observed_generation >= workload.generation);
        let is_set = workload.kind == Kind::StatefulSet;
        prop_assert!(!is_set || workload.update_revision == workload.current);
        if workload.strategy == Updates::OnDelete {
            prop_assert!(pods.iter().all(|other| !other.terminating));
            prop_assert!(pods.iter().filter(|o| o.is_live() && o.revision.as_str() == "good").all(|o| o.ready_since.is_some()));
            return Ok(());
        }
        prop_assert!(is_set && workload.strategy == Updates::Rolling);
        prop_assert!(now >= 130 && pod.ready_since.is_none());
        prop_assert!(pod.restarts >= 2 || pod.unready_since.is_some_and(|since| since <= at(now - 30)));
        for lower in 0..pod.ordinal().expect("an ordinal") {
            let other = pods.iter().find(|other| other.is_live() && other.ordinal() == Some(lower));
            prop_assert!(other.is_some_and(|other| other.ready_since.is_some()), "db-{} is not available", lower);
        }
    }

    #[test]
    fn a_wait_is_never_for_the_past_and_at_its_end_something_else_holds_or_the_pod_goes(
        now in 90_i64..250, workload in any_set(), pods in any_pods(),
    ) {
        let Freeing::Wait(until) = look(now, &workload, &pods) else { return Ok(()) };
        prop_assert!(until > at(now));
        let then = stuck_pod(until, &state(), &workload, &pods);
        prop_assert!(!matches!(then, Freeing::Wait(again) if again <= until));
    }

    /// A set whose controller does what the real one does: it makes what is missing and waits for the lowest broken one.
    #[test]
    fn one_after_the_other_frees_every_set_and_touches_no_good_pod(
        bad in prop::collection::vec(any::<bool>(), 4), dies in any::<bool>(),
    ) {
        let workload = Workload { replicas: 4, ..set() };
        let mut pods: Vec<PodFact> = bad.iter().zip(0_u32..).map(|(is_bad, ordinal)| {
            if *is_bad { broken(ordinal, "bad", 0) } else { ready(ordinal, "good", 0) }
        }).collect();
        let mut gone = 0;
        for now in (130..1000).step_by(10) {
            // A new leader knows no more than the world shows.
            let look = stuck_pod(at(now), &state(), &workload, &pods);
            let again = stuck_pod(at(now), &state(), &workload, &pods);
            prop_assert_eq!(&look, &again);
            if let Freeing::Delete(found) = look {
                let place = pods.iter().position(|pod| pod.uid == found.uid).expect("there");
                prop_assert_eq!(pods[place].revision.as_str(), "bad");
                let ordinal = pods[place].ordinal().expect("an ordinal");
                pods[place] = broken(ordinal, "good", now);
                gone += 1;
            } else if !dies {
                for pod in &mut pods {
                    if pod.revision.as_str() == "good" && pod.ready_since.is_none() {
                        *pod = ready(pod.ordinal().expect("an ordinal"), "good", now);
                    }
                }
            }
        }
        let wanted = bad.iter().filter(|is_bad| **is_bad).count();
        // Where restored pods do not come up either, no second one is sacrificed.
        prop_assert_eq!(gone, if dies { wanted.min(1) } else { wanted });
    }
}
