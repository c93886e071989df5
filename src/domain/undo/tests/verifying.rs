use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::fixture::{self, at};
use crate::domain::rollout::{PodFact, Workload};

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
    VerifyState { uid: UID.into(), revision: RevisionHash::new("good"), generation: Some(3), started: at(100) }
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
