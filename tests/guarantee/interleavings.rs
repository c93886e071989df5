//! Stories: first every single crash, then everything at once in any order.

use deployment_guard::domain::policy::Kind;
use proptest::prelude::*;
use serde_json::json;

use super::replica::Fate;
use super::stage::{Event, Stage};
use super::world::BAD;

const KINDS: [Kind; 3] = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];

fn block_on<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(story)
}

fn undone_once(stage: &Stage, kind: Kind, what: &str) {
    assert_eq!(stage.broken(), Vec::<String>::new(), "{kind:?}, {what}");
    assert_eq!(stage.undos(), 1, "{kind:?}, {what}: {:#}", stage.world.status());
    let (status, workload) = (stage.world.status(), stage.world.workload());
    assert_eq!(workload["spec"]["template"]["spec"]["containers"][0]["image"], "api:v1", "{kind:?}, {what}");
    assert_eq!(workload["metadata"]["generation"], 3, "{kind:?}, {what}");
    assert_eq!(status["lastDecision"]["action"], "RolledBack", "{kind:?}, {what}: {status:#}");
    assert_eq!(status["lastDecision"]["actionReason"], "RollbackSucceeded", "{kind:?}, {what}: {status:#}");
    assert_eq!(status["rollbacksToday"], 1, "{kind:?}, {what}: {status:#}");
    assert_eq!(status["badRevisions"].as_array().map(Vec::len), Some(1), "{kind:?}, {what}: {status:#}");
}

/// A leader that undoes a bad release, stopped before its request of that number.
async fn stopped_at(kind: Kind, request: usize) -> Stage {
    let mut stage = Stage::with_bad_release(kind, "Enforce").await;
    stage.play(Event::Look(0)).await;
    for _ in 0..request {
        stage.step(0, Fate::Answered).await;
    }
    stage
}

/// The other one decides for itself while the request of the first is on its way.
async fn overtake(stage: &mut Stage) {
    for event in [Event::Lease(1), Event::Pass(2), Event::Refresh(1), Event::Look(1), Event::Run(1), Event::Run(0)] {
        stage.play(event).await;
    }
}

#[test]
fn a_bad_release_is_undone_once_when_nothing_goes_wrong() {
    for kind in KINDS {
        block_on(async {
            let mut stage = Stage::with_bad_release(kind, "Enforce").await;
            stage.play(Event::Look(0)).await;
            stage.play(Event::Run(0)).await;
            stage.come_to_rest().await.unwrap();
            undone_once(&stage, kind, "undisturbed");
        });
    }
}

#[test]
fn an_operator_killed_at_any_request_leaves_one_undo_and_a_complete_record() {
    for kind in KINDS {
        for fate in [Fate::Lost, Fate::AnswerLost] {
            let requests = (0..100).take_while(|request| block_on(killed_at(kind, *request, fate))).count();
            assert!(requests >= 8, "an undo is more than {requests} requests");
        }
    }
}

/// Kills the leader at its request of that number; says whether there was one.
async fn killed_at(kind: Kind, request: usize, fate: Fate) -> bool {
    let mut stage = stopped_at(kind, request).await;
    let there = stage.step(0, fate).await;
    stage.play(Event::Crash(0)).await;
    stage.come_to_rest().await.unwrap();
    undone_once(&stage, kind, &format!("killed at request {request}, {fate:?}"));
    there
}

#[test]
fn leadership_lost_at_any_request_leaves_one_undo_and_a_complete_record() {
    for kind in KINDS {
        for request in 0..24 {
            block_on(async {
                let mut stage = stopped_at(kind, request).await;
                overtake(&mut stage).await;
                stage.come_to_rest().await.unwrap();
                assert_eq!(stage.broken(), Vec::<String>::new(), "{kind:?}, request {request}");
                assert_eq!(stage.undos(), 1, "{kind:?}, request {request}");
            });
        }
    }
}

#[test]
fn an_approved_undo_is_carried_out_once_wherever_the_operator_is_killed() {
    for kind in KINDS {
        for request in 0..24 {
            block_on(async {
                let mut stage = Stage::with_bad_release(kind, "Approve").await;
                for event in
                    [Event::Look(0), Event::Run(0), Event::Answer("approve"), Event::Refresh(0), Event::Look(0)]
                {
                    stage.play(event).await;
                }
                assert_eq!(stage.undos(), 0, "nothing before the approval");
                for _ in 0..request {
                    stage.step(0, Fate::Answered).await;
                }
                stage.step(0, Fate::AnswerLost).await;
                stage.play(Event::Crash(0)).await;
                stage.come_to_rest().await.unwrap();
                undone_once(&stage, kind, &format!("killed at request {request}"));
                assert_eq!(stage.world.status()["lastDecision"]["answeredBy"], json!("eve"), "{kind:?}");
            });
        }
    }
}

/// The worst case of a status that is written late: what the other one has done since is not to be forgotten by it.
#[test]
fn a_status_that_arrives_after_the_next_leader_wrote_does_not_make_it_forget_what_was_undone() {
    for kind in KINDS {
        for request in 0..24 {
            block_on(async {
                let mut stage = stopped_at(kind, request).await;
                overtake(&mut stage).await;
                for event in [Event::Reapply(BAD), Event::Controllers, Event::Crash(1), Event::Pass(2)] {
                    stage.play(event).await;
                }
                stage.come_to_rest().await.unwrap();
                assert_eq!(stage.broken(), Vec::<String>::new(), "{kind:?}, request {request}");
                assert_eq!(stage.undos(), 1, "{kind:?}, request {request}");
            });
        }
    }
}

fn image() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just(BAD), 1 => Just("api:v1"), 1 => Just("api:fixed")]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![8 => Just(Fate::Answered), 1 => Just(Fate::Lost), 1 => Just(Fate::AnswerLost)]
}

fn event() -> impl Strategy<Value = Event> {
    let who = || prop_oneof![3 => Just(0_usize), 1 => Just(1_usize)];
    prop_oneof![
        10 => (who(), fate()).prop_map(|(who, fate)| Event::Step(who, fate)),
        4 => who().prop_map(Event::Run),
        5 => who().prop_map(Event::Look),
        5 => who().prop_map(Event::Refresh),
        4 => Just(Event::Controllers),
        4 => prop_oneof![Just(2_u16), Just(40_u16), Just(70_u16)].prop_map(Event::Pass),
        2 => who().prop_map(Event::Crash),
        2 => who().prop_map(Event::Lease),
        2 => image().prop_map(Event::Push),
        2 => image().prop_map(Event::Reapply),
        1 => (1_u64..4).prop_map(Event::Scale),
        1 => Just(Event::Annotate),
        1 => Just(Event::Churn),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => image().prop_map(Event::Recreate),
        1 => prop_oneof![4 => Just("approve"), 1 => Just("reject")].prop_map(Event::Answer),
    ]
}

fn story() -> impl Strategy<Value = (&'static str, Vec<Event>)> {
    (prop_oneof![3 => Just("Enforce"), 1 => Just("Approve")], prop::collection::vec(event(), 0..30))
}

fn holds(kind: Kind, mode: &str, story: &[Event]) -> Result<(), TestCaseError> {
    let (broken, rest) = block_on(async {
        let mut stage = Stage::with_bad_release(kind, mode).await;
        for event in story {
            stage.play(*event).await;
        }
        let rest = stage.come_to_rest().await;
        (stage.broken(), rest)
    });
    prop_assert!(broken.is_empty(), "{}", broken.join("\n"));
    prop_assert!(rest.is_ok(), "{}", rest.unwrap_err());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, max_shrink_iters: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_crashes_pushes_and_leaders_breaks_the_guarantee_of_a_deployment((mode, story) in story()) {
        holds(Kind::Deployment, mode, &story)?;
    }

    #[test]
    fn no_order_of_crashes_pushes_and_leaders_breaks_the_guarantee_of_a_stateful_set((mode, story) in story()) {
        holds(Kind::StatefulSet, mode, &story)?;
    }

    #[test]
    fn no_order_of_crashes_pushes_and_leaders_breaks_the_guarantee_of_a_daemon_set((mode, story) in story()) {
        holds(Kind::DaemonSet, mode, &story)?;
    }
}
