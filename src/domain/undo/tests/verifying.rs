use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::fixture::{self, at};
use crate::domain::rollout::{PodFact, Strategy as Updates, Workload};

fn workload() -> Workload {
    let mut object = deployment();
    object["spec"]["template"] = template("app:1");
    object["spec"]["replicas"] = json!(2);
    object["metadata"]["generation"] = json!(3);
    object["status"]["observedGeneration"] = json!(3);
    describe(Kind::Deployment, &object, &revisions()).expect("usable")
}

fn pod(name: &str, revision: &str, ready_since: Option<i64>) -> PodFact {
    PodFact { ready_since: ready_since.map(at), first_ready: ready_since.map(at), ..fixture::pod(name, revision) }
}

fn state() -> VerifyState {
    let (revision, bad) = (RevisionHash::new("good"), RevisionHash::new("bad"));
    VerifyState { uid: UID.into(), revision, bad, generation: Some(3), started: at(100) }
}

fn look(now: i64, workload: &Workload, pods: &[PodFact]) -> VerifyOutcome {
    verify(at(now), &state(), workload, pods, at(700))
}

fn both(since: i64) -> Vec<PodFact> {
    vec![pod("a", "good", Some(since)), pod("b", "good", Some(since))]
}

#[test]
fn pods_must_stay_ready_for_a_while() {
    assert!(matches!(look(149, &workload(), &both(120)), VerifyOutcome::Waiting { until, .. } if until == at(150)));
    assert_eq!(look(150, &workload(), &both(120)), VerifyOutcome::Succeeded);
}

#[test]
fn pods_that_outlived_the_bad_rollout_wait_from_the_undo_on() {
    assert!(matches!(look(129, &workload(), &both(10)), VerifyOutcome::Waiting { until, .. } if until == at(130)));
    assert_eq!(look(130, &workload(), &both(10)), VerifyOutcome::Succeeded);
}

#[test]
fn a_restart_starts_the_wait_anew() {
    let mut pods = both(110);
    pods[0].container_starts = vec![at(135)];
    assert!(matches!(look(150, &workload(), &pods), VerifyOutcome::Waiting { until, .. } if until == at(165)));
}

#[test]
fn pods_that_were_ready_in_time_are_watched_to_the_end_and_later_disturbances_are_not_forgiven() {
    assert!(matches!(look(700, &workload(), &both(690)), VerifyOutcome::Waiting { until, .. } if until == at(720)));
    assert_eq!(look(720, &workload(), &both(690)), VerifyOutcome::Succeeded);
    let mut pods = both(690);
    pods[0].container_starts = vec![at(705)];
    assert!(matches!(look(710, &workload(), &pods), VerifyOutcome::TimedOut { .. }));
}

#[test]
fn a_longer_min_ready_seconds_holds() {
    let workload = Workload { min_ready_seconds: 60, ..workload() };
    assert!(matches!(look(179, &workload, &both(120)), VerifyOutcome::Waiting { .. }));
    assert_eq!(look(180, &workload, &both(120)), VerifyOutcome::Succeeded);
}

fn why(outcome: VerifyOutcome) -> String {
    match outcome {
        VerifyOutcome::Waiting { why, .. } | VerifyOutcome::TimedOut { why } => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_missing_is_said() {
    let one = [pod("a", "good", Some(110)), pod("b", "good", None)];
    assert_eq!(why(look(200, &workload(), &one)), "1 of 2 pods are Ready on the restored revision");
    let mut left = both(110);
    left.push(pod("c", "bad", Some(50)));
    assert_eq!(why(look(200, &workload(), &left)), "1 pods of another revision are still there");
    let unseen = Workload { observed_generation: 2, ..workload() };
    assert_eq!(why(look(200, &unseen, &both(110))), "the controller has not observed the undo yet");
    let paused = Workload { paused: true, ..workload() };
    assert_eq!(why(look(200, &paused, &both(110))), "the workload was paused");
    assert!(matches!(look(700, &workload(), &one), VerifyOutcome::TimedOut { .. }));
}

#[test]
fn terminating_and_finished_pods_do_not_count() {
    let mut pods = both(110);
    let leaving = PodFact { terminating: true, ..pod("c", "bad", None) };
    let finished = PodFact { finished: true, ..pod("d", "bad", None) };
    pods.extend([leaving, finished]);
    assert_eq!(look(200, &workload(), &pods), VerifyOutcome::Succeeded);
}

#[test]
fn another_push_supersedes_and_a_stale_cache_does_not() {
    let pushed = Workload { generation: 4, current: Some(RevisionHash::new("next")), ..workload() };
    assert_eq!(look(110, &pushed, &both(105)), VerifyOutcome::Superseded);
    let stale = Workload { generation: 2, current: Some(RevisionHash::new("bad")), ..workload() };
    assert!(matches!(look(110, &stale, &both(105)), VerifyOutcome::Waiting { .. }));
    let recreated = Workload { uid: "other".into(), ..workload() };
    assert_eq!(look(110, &recreated, &both(105)), VerifyOutcome::Superseded);
}

#[test]
fn the_deadline_is_never_before_the_workloads_own() {
    assert_eq!(verify_deadline(at(100), Duration::from_mins(1), &workload()), at(700));
    assert_eq!(verify_deadline(at(100), Duration::from_mins(15), &workload()), at(1000));
    let set = Workload { kind: Kind::StatefulSet, ..workload() };
    assert_eq!(verify_deadline(at(100), Duration::from_mins(1), &set), at(160), "it has none");
}

fn set(replicas: u32, partition: u32) -> Workload {
    let update_revision = Some(RevisionHash::new("good"));
    Workload { kind: Kind::StatefulSet, replicas, partition, update_revision, ..workload() }
}

#[test]
fn pods_below_a_partition_are_not_waited_for_and_are_named() {
    let canary = set(3, 2);
    let left = [pod("db-0", "bad", Some(10)), pod("db-1", "older", None), pod("db-2", "good", Some(110))];
    assert!(matches!(look(139, &canary, &left), VerifyOutcome::Waiting { until, .. } if until == at(140)));
    assert_eq!(look(140, &canary, &left), VerifyOutcome::Succeeded);
    let said = left_alone(&state().bad, &canary, &left).expect("a partition");
    assert_eq!(
        said,
        "pods with an ordinal below 2 keep their revision (rollingUpdate.partition), of them db-0 the bad one"
    );
    assert_eq!(why(look(140, &set(3, 1), &left)), "1 of 2 pods are Ready on the restored revision");
    assert_eq!(left_alone(&state().bad, &set(3, 0), &left), None);
    let later = Workload { first_ordinal: 5, ..set(2, 1) };
    let pods = [pod("db-5", "bad", Some(10)), pod("db-6", "good", Some(110))];
    assert_eq!(look(140, &later, &pods), VerifyOutcome::Succeeded, "ordinals may begin anywhere");
}

#[test]
fn where_nobody_replaces_pods_those_of_the_bad_revision_are_named() {
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let by_hand = Workload { kind, strategy: Updates::OnDelete, ..set(2, 0) };
        let bad = [pod("db-1", "bad", Some(10)), pod("db-0", "bad", None)];
        let said = why(look(200, &by_hand, &bad));
        assert!(said.contains("OnDelete") && said.contains("db-0, db-1 still run bad"), "{said}");
        assert!(matches!(look(700, &by_hand, &bad), VerifyOutcome::TimedOut { .. }));
        let older = [pod("db-1", "older", None), pod("db-0", "good", Some(110))];
        assert_eq!(look(200, &by_hand, &older), VerifyOutcome::Succeeded, "how old others are is their owner's affair");
        assert_eq!(why(look(200, &by_hand, &older[1..])), "1 of 2 pods are there");
        let unready = [pod("db-1", "older", None), pod("db-0", "good", None)];
        assert_eq!(why(look(200, &by_hand, &unready)), "1 pods of the restored revision are not Ready");
    }
}

#[test]
fn a_surge_pod_of_a_daemon_set_is_waited_for_until_it_is_gone() {
    let surging = Workload { kind: Kind::DaemonSet, replicas: 1, ..workload() };
    let pods = [pod("a", "bad", None), pod("b", "good", Some(110))];
    assert_eq!(why(look(200, &surging, &pods)), "1 pods of another revision are still there");
    assert_eq!(look(200, &surging, &pods[1..]), VerifyOutcome::Succeeded);
}

proptest! {
    #[test]
    fn success_means_enough_good_pods_undisturbed_for_the_whole_time(
        now in 90_i64..800, replicas in 0_u32..4, observed in 2_i64..4,
        pods in prop::collection::vec(
            (any::<bool>(), prop::option::of(0_i64..700), prop::option::of(0_i64..700), any::<bool>()), 0..5,
        ),
    ) {
        let workload = Workload { replicas, observed_generation: observed, ..workload() };
        let pods: Vec<PodFact> = pods.into_iter().enumerate().map(|(number, (good, ready, start, terminating))| {
            let mut pod = pod(&number.to_string(), if good { "good" } else { "bad" }, ready);
            pod.container_starts = start.map(at).into_iter().collect();
            pod.terminating = terminating;
            pod
        }).collect();
        if look(now, &workload, &pods) == VerifyOutcome::Succeeded {
            prop_assert!(workload.rollout_complete(&RevisionHash::new("good"), &pods));
            prop_assert!(now >= 130);
            for pod in pods.iter().filter(|pod| pod.is_live()) {
                prop_assert!(pod.ready_since.is_some_and(|since| since <= at(now - 30)));
                prop_assert!(pod.container_starts.iter().all(|start| *start <= at(now - 30)));
            }
        } else {
            let fine = |pod: &PodFact| pod.revision.as_str() == "good"
                && pod.ready_since.is_some_and(|since| since <= at(now - 30))
                && pod.container_starts.iter().all(|start| *start <= at(now - 30));
            let live: Vec<&PodFact> = pods.iter().filter(|pod| pod.is_live()).collect();
            let enough = u32::try_from(live.len()).is_ok_and(|count| count >= replicas);
            prop_assert!(!(now >= 130 && observed == 3 && enough && live.iter().all(|pod| fine(pod))));
        }
    }
}
