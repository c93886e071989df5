//! Decisions that a person has a say in, and undos that are held back.

use std::time::Duration;

use serde_json::{Value, json};

use super::api_server::Key;
use super::deployments::{guard_place, place};
use super::rig::{BAD_IMAGE, Operator, Rig, because, find, is};

const APPROVE: &str = "deploymentguard.dev/approve";
const REJECT: &str = "deploymentguard.dev/reject";
const RETRY: &str = "deploymentguard.dev/retry";

fn annotate(rig: &Rig, key: &str, value: &str) {
    rig.api.change(&guard_place("guard"), |guard| guard["metadata"]["annotations"][key] = json!(value));
}

/// A bad release of which a person is asked.
async fn asked(more: Value) -> (Rig, Operator, String) {
    let (rig, operator) = Rig::watching(more).await;
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "a person is asked", |s| s["pendingAction"]["decision"].is_string()).await;
    let id = status["pendingAction"]["decision"].as_str().unwrap_or_default().to_owned();
    assert_eq!(status["lastDecision"]["id"], json!(id));
    assert_eq!(status["lastDecision"]["action"], "AwaitingApproval", "{status:#}");
    assert_eq!(status["current"]["state"], "AwaitingApproval");
    assert!(is(&status, "Healthy", "False") && is(&status, "Stalled", "False"), "{status:#}");
    assert!(is(&status, "Reconciling", "True") && because(&status, "Reconciling", "AwaitingApproval"), "{status:#}");
    for field in ["approve", "reject"] {
        let command = status["pendingAction"][field].as_str().unwrap_or_default();
        assert!(command.contains(&id) && command.contains("dg/guard"), "{command}");
    }
    assert!(rig.workload_writes().is_empty(), "nothing is touched before the answer");
    (rig, operator, id)
}

/// A while later nothing was done to the workload.
async fn untouched(rig: &Rig) -> Value {
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(rig.workload_writes().is_empty(), "{:#?}", rig.workload_writes());
    assert_eq!(rig.image(), BAD_IMAGE);
    rig.status_of("guard")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_approves_is_undone_once_and_the_record_names_them() {
    let (rig, _operator, id) = asked(json!({"mode": "Approve"})).await;
    annotate(&rig, APPROVE, &format!("{id} by ada@example.org"));
    let status = rig.status("guard", "the undo is sent", |s| s["undo"]["sentAt"].is_string()).await;
    assert_eq!(rig.image(), "shop:v1");
    assert_eq!(status["lastDecision"]["id"], json!(id));
    assert_eq!(status["lastDecision"]["action"], "RolledBack");
    assert!(status["lastDecision"]["answeredBy"].is_string(), "{status:#}");
    assert!(status["pendingAction"].is_null());
    assert_eq!(rig.undos().len(), 1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(rig.undos().len(), 1, "an answer that stays there does nothing twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_another_decision_does_nothing_and_says_so() {
    let (rig, _operator, id) = asked(json!({"mode": "Approve"})).await;
    annotate(&rig, APPROVE, "another-1 by ada");
    let status = rig.status("guard", "the answer was read", |s| s["pendingAction"]["ignored"].is_string()).await;
    let ignored = status["pendingAction"]["ignored"].as_str().unwrap_or_default();
    assert!(ignored.contains("another-1") && ignored.contains(&id) && ignored.contains("does nothing"), "{ignored}");
    let reconciling = find(&status, "Reconciling")["message"].as_str().unwrap_or_default().to_owned();
    assert!(reconciling.contains("does nothing"), "{reconciling}");
    untouched(&rig).await;
    annotate(&rig, APPROVE, &id);
    rig.status("guard", "a name is asked for", |s| {
        s["pendingAction"]["ignored"].as_str().is_some_and(|why| why.contains("names nobody"))
    })
    .await;
    untouched(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_rejects_stays() {
    let (rig, _operator, id) = asked(json!({"mode": "Approve"})).await;
    annotate(&rig, REJECT, &format!("{id} by ada"));
    let status = rig.status("guard", "the rejection is recorded", |s| because(s, "Healthy", "Rejected")).await;
    assert_eq!(status["lastDecision"]["action"], "None");
    assert!(
        status["lastDecision"]["actionReason"].as_str().is_some_and(|why| why.starts_with("Rejected")),
        "{status:#}"
    );
    assert!(is(&status, "Stalled", "False"), "{status:#}");
    annotate(&rig, APPROVE, &format!("{id} by eve"));
    let status = untouched(&rig).await;
    assert!(status["pendingAction"].is_null() && because(&status, "Healthy", "Rejected"), "{status:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_that_comes_too_late_does_nothing() {
    let (rig, _operator, id) = asked(json!({"mode": "Approve", "rollback": {"approval": {"timeout": "10s"}}})).await;
    let status = rig.status("guard", "the time is over", |s| because(s, "Healthy", "ApprovalExpired")).await;
    assert!(status["pendingAction"].is_null() && is(&status, "Stalled", "True"), "{status:#}");
    annotate(&rig, APPROVE, &format!("{id} by ada"));
    untouched(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_approved_is_looked_at_again_before_it_is_done() {
    let (rig, _operator, id) = asked(json!({"mode": "Approve"})).await;
    rig.api.change(&place("shop"), |deployment| {
        deployment["metadata"]["annotations"]["deploymentguard.dev/skip"] = json!("we are on it");
    });
    annotate(&rig, APPROVE, &format!("{id} by ada"));
    let status = rig.status("guard", "the approval was read", |s| because(s, "Healthy", "SkippedByAnnotation")).await;
    assert!(
        find(&status, "Healthy")["message"].as_str().is_some_and(|text| text.contains("ada approved")),
        "{status:#}"
    );
    untouched(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_while_a_person_thinks_takes_the_question_back() {
    let (rig, _operator, id) = asked(json!({"mode": "Approve"})).await;
    rig.push("shop:fixed");
    rig.status("guard", "the fix is looked at", |s| s["pendingAction"].is_null()).await;
    annotate(&rig, APPROVE, &format!("{id} by ada"));
    rig.status("guard", "the fix is judged good", |s| is(s, "Healthy", "True")).await;
    assert_eq!((rig.image().as_str(), rig.undos().len()), ("shop:fixed", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_while_a_person_thinks_is_followed_by_one_that_listens() {
    let (rig, operator, id) = asked(json!({"mode": "Approve"})).await;
    operator.die().await;
    annotate(&rig, APPROVE, &format!("{id} by ada"));
    let _next = rig.operator();
    rig.status("guard", "the undo is sent", |s| s["undo"]["sentAt"].is_string()).await;
    assert_eq!((rig.image().as_str(), rig.undos().len()), ("shop:v1", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_recommend_people_are_told_what_to_type_and_nothing_is_touched() {
    let (rig, _operator) = Rig::watching(json!({"mode": "Recommend"})).await;
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "the release is judged", |s| s["lastDecision"]["decision"] == "ROLLBACK").await;
    let decision = &status["lastDecision"];
    assert_eq!((&decision["action"], &decision["clampedBy"]), (&json!("Recommended"), &json!("mode")), "{decision:#}");
    assert_eq!(decision["commands"], json!(["kubectl -n shop rollout undo deployment/shop --to-revision=1"]));
    assert!(is(&status, "Stalled", "False"), "{status:#}");
    untouched(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_back_needs_a_person_in_every_mode() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    rig.api.change(&place("shop"), |deployment| {
        let template = &mut deployment["spec"]["template"];
        template["metadata"]["annotations"] = json!({"deploymentguard.dev/irreversible": "true"});
        template["spec"]["containers"][0]["image"] = json!(BAD_IMAGE);
    });
    let status = rig.status("guard", "a person is asked", |s| s["pendingAction"]["decision"].is_string()).await;
    assert_eq!(status["lastDecision"]["clampedBy"], "irreversible", "{status:#}");
    let why = status["pendingAction"]["why"].as_str().unwrap_or_default();
    assert!(why.contains("migration"), "{why}");
    untouched(&rig).await;
}

/// A bad release that was undone and is verified.
async fn undone(rig: &Rig) {
    rig.status("guard", "the undo is sent", |s| s["undo"]["sentAt"].is_string()).await;
    rig.long_ago();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_undone_and_comes_back_stands_and_its_writer_is_named() {
    let more = json!({"rollback": {"cooldown": "0s", "maxPerDay": 10}});
    let (rig, operator) = Rig::watching(more).await;
    rig.push(BAD_IMAGE);
    rig.status("guard", "the undo is sent", |s| s["undo"]["sentAt"].is_string()).await;
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "the return is seen", |s| because(s, "Healthy", "RollbackReverted")).await;
    assert!(is(&status, "Stalled", "True") && status["undo"].is_null(), "{status:#}");
    let message = find(&status, "Healthy")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("kubectl wrote it") && message.contains(RETRY), "{message}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((rig.image().as_str(), rig.undos().len()), (BAD_IMAGE, 1), "no fight");
    let status = rig.status_of("guard");
    assert_eq!(status["current"]["state"], "KnownBad");
    assert!(is(&status, "Stalled", "True") && because(&status, "Healthy", "RollbackReverted"), "{status:#}");

    // Also after a restart; and a person can have it judged again.
    operator.die().await;
    let _next = rig.operator();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.undos().len(), 1);
    annotate(&rig, RETRY, "1");
    rig.until("it is judged and undone again", || rig.undos().len() == 2).await;
    assert_eq!(rig.image(), "shop:v1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fixed_version_is_judged_after_one_that_was_known_as_bad() {
    let more = json!({"rollback": {"cooldown": "0s", "maxPerDay": 10}});
    let (rig, _operator) = Rig::watching(more).await;
    rig.push(BAD_IMAGE);
    rig.status("guard", "the undo is sent", |s| s["undo"]["sentAt"].is_string()).await;
    rig.push(BAD_IMAGE);
    rig.status("guard", "the return is seen", |s| because(s, "Healthy", "RollbackReverted")).await;
    rig.push("shop:fixed");
    let status = rig.status("guard", "the fix is judged good", |s| is(s, "Healthy", "True")).await;
    assert!(is(&status, "Stalled", "False"), "{status:#}");
    assert_eq!(rig.undos().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_undos_of_a_class_that_something_else_must_be_wrong_are_recommended_only() {
    let rig = Rig::new().await;
    rig.class("default", json!({"stormBreaker": {"undos": 1}}));
    rig.guard("guard", json!({"rollback": {"cooldown": "0s", "maxPerDay": 10}}));
    let operator = rig.operator();
    rig.adopted("guard").await;
    rig.push(BAD_IMAGE);
    undone(&rig).await;
    let class = Key::new("deploymentguard.dev", "guardclasses", "", "default");
    let storm = || rig.api.get(&class).unwrap_or_default()["status"]["stormBreaker"].clone();
    rig.until("the class counts it", || storm()["open"] == true).await;
    assert_eq!(storm()["undos"][0]["guard"], "shop/guard");

    // The count survives the process.
    operator.die().await;
    rig.long_ago();
    let _next = rig.operator();
    rig.status("guard", "the undo is verified", |s| s["undo"].is_null()).await;
    rig.prometheus.image("shop:worse", super::prometheus::BAD);
    rig.push("shop:worse");
    let status = rig.status("guard", "the second is judged", |s| because(s, "Stalled", "StormBreakerOpen")).await;
    let decision = &status["lastDecision"];
    assert_eq!((&decision["action"], &decision["clampedBy"]), (&json!("Recommended"), &json!("storm-breaker")));
    assert!(decision["commands"][0].as_str().is_some_and(|line| line.contains("rollout undo")), "{decision:#}");
    assert_eq!((rig.image().as_str(), rig.undos().len()), ("shop:worse", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_flux_applies_is_recommended_and_not_fought_over() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    rig.api.change(&place("shop"), |deployment| {
        deployment["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] = json!("apps");
        deployment["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/namespace"] = json!("flux-system");
    });
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "the release is judged", |s| because(s, "Stalled", "SuppressedByGitOps")).await;
    assert!(is(&status, "GitOpsManaged", "True"), "{status:#}");
    let commands = status["lastDecision"]["commands"].to_string();
    assert!(commands.contains("flux reconcile kustomization apps -n flux-system"), "{commands}");
    assert!(commands.contains("flux suspend kustomization apps"), "{commands}");
    untouched(&rig).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_alone_is_not_undone_because_the_same_code_would_run_again() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    rig.prometheus.image("shop:v1", super::prometheus::BAD);
    rig.api.change(&place("shop"), |deployment| {
        deployment["spec"]["template"]["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": "now"});
    });
    let status = rig.status("guard", "it is judged", |s| because(s, "Stalled", "SameRevisionRestarted")).await;
    assert_eq!(status["lastDecision"]["clampedBy"], "something-else-differs", "{status:#}");
    assert!(rig.undos().is_empty());
}
