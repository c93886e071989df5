//! The undo when something comes between: a crash, a push, a policy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use super::api_server::Fault;
use super::deployments::push;
use super::rig::{BAD_IMAGE, Rig, because, is};

/// A bad release whose undo never answers; the process dies while it waits. Says whether the world still is as judged.
async fn die_while_patching(fault: Fault) -> Rig {
    let (rig, operator) = Rig::watching(json!({})).await;
    let (sender, mut arrives) = mpsc::unbounded_channel();
    rig.api.break_with(move |asked| {
        asked.is_undo().then(|| {
            let _ = sender.send(());
            fault.clone()
        })
    });
    rig.push(BAD_IMAGE);
    let patience = tokio::time::timeout(super::rig::PATIENCE, arrives.recv());
    assert!(patience.await.is_ok(), "the undo never arrived; the status is {:#}", rig.status_of("guard"));
    operator.die().await;
    rig.api.mend();
    let status = rig.status_of("guard");
    assert!(status["undo"]["intendedAt"].is_string() && status["undo"]["sentAt"].is_null(), "{status:#}");
    assert_eq!(status["lastDecision"]["action"], "RollingBack");
    rig
}

/// What the next process must make of it.
async fn finished_by_the_next(rig: &Rig) -> serde_json::Value {
    let decided = rig.status_of("guard")["lastDecision"]["id"].clone();
    let _operator = rig.operator();
    let status = rig.status("guard", "the undo is recorded", |s| s["undo"]["sentAt"].is_string()).await;
    assert_eq!(rig.image(), "shop:v1");
    assert_eq!(status["lastDecision"]["id"], decided, "it is the same decision");
    assert_eq!(status["lastDecision"]["action"], "RolledBack", "{status:#}");
    assert_eq!(status["rollbacksToday"], 1);
    let done = rig.deployment();
    assert_eq!(done["metadata"]["annotations"]["deploymentguard.dev/last-rollback"], decided);
    // The first generation, the bad release, the undo.
    assert_eq!(done["metadata"]["generation"], 3, "one undo had an effect");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.deployment()["metadata"]["generation"], 3);
    status
}

/// Nothing goes on without a person, and later looks do not forget it.
async fn stays_stalled(rig: &Rig, reason: &str) -> serde_json::Value {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = rig.status_of("guard");
    assert!(is(&status, "Stalled", "True") && because(&status, "Stalled", reason), "{status:#}");
    assert!(is(&status, "Healthy", "False"), "{status:#}");
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_before_its_undo_arrived_has_it_sent_by_the_next() {
    let rig = die_while_patching(Fault::Hang).await;
    assert_eq!(rig.image(), BAD_IMAGE);
    finished_by_the_next(&rig).await;
    assert_eq!(rig.undos().len(), 2, "the lost one and the one that worked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_after_its_undo_was_carried_out_has_it_found_done_by_the_next() {
    let rig = die_while_patching(Fault::DoneButHang).await;
    rig.until("the world has followed", || rig.image() == "shop:v1").await;
    finished_by_the_next(&rig).await;
    assert_eq!(rig.undos().len(), 1, "nothing is sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_between_judgement_and_undo_stands_and_is_judged_itself() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    let once = AtomicBool::new(true);
    rig.api.before(move |asked, api| {
        if asked.is_undo() && once.swap(false, Ordering::SeqCst) {
            push(api, "shop", "shop:fixed");
        }
    });
    rig.push(BAD_IMAGE);
    let status = rig
        .status("guard", "the undo gives way", |s| {
            s["lastDecision"]["actionReason"].as_str().is_some_and(|why| why.starts_with("Superseded"))
        })
        .await;
    assert_eq!(status["lastDecision"]["action"], "None", "{status:#}");
    assert_eq!(status["rollbacksToday"], 0);
    let judged = rig.status("guard", "the fix is judged good", |s| s["lastDecision"]["decision"] == "CONTINUE").await;
    assert!(is(&judged, "Healthy", "True"), "{judged:#}");
    assert_eq!((rig.image().as_str(), rig.undos().len()), ("shop:fixed", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_between_judgement_and_undo_stands() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    let once = AtomicBool::new(true);
    rig.api.before(move |asked, api| {
        if asked.is_undo() && once.swap(false, Ordering::SeqCst) {
            api.change(&super::deployments::place("shop"), |deployment| deployment["spec"]["paused"] = json!(true));
        }
    });
    rig.push(BAD_IMAGE);
    rig.status("guard", "the undo gives way", |s| {
        s["lastDecision"]["actionReason"].as_str().is_some_and(|why| why.starts_with("WorkloadPaused"))
    })
    .await;
    let status = stays_stalled(&rig, "WorkloadPaused").await;
    assert!(status["undo"].is_null(), "{status:#}");
    assert_eq!(rig.image(), BAD_IMAGE);
    let done = rig.deployment()["metadata"]["generation"].clone();
    assert_eq!(done, 3, "the first, the bad release and the pause");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_refuses_the_undo_is_named_and_nothing_is_sent() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    rig.api.break_with(|asked| {
        (asked.resource == "deployments" && asked.verb == "patch").then(|| Fault::Refuse {
            code: 422,
            reason: "Invalid",
            message: "ValidatingAdmissionPolicy 'only-signed-images' denied request: shop:v1 is not signed",
            causes: vec![("FieldValueInvalid", None)],
        })
    });
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "the refusal is recorded", |s| because(s, "Healthy", "AdmissionRejected")).await;
    assert!(is(&status, "Healthy", "False"), "{status:#}");
    assert!(status["lastDecision"]["actionReason"].to_string().contains("only-signed-images"), "{status:#}");
    stays_stalled(&rig, "AdmissionRejected").await;
    assert_eq!(rig.undos().len(), 0, "the dry run was refused already");
    assert_eq!(rig.image(), BAD_IMAGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_a_service_targets_by_its_name_is_not_taken_away() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    rig.api.put(
        &super::api_server::Key::new("", "services", super::deployments::NAMESPACE, "shop"),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {},
            "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80, "targetPort": "grpc"}]}}),
    );
    rig.api.change(&super::deployments::place("shop"), |deployment| {
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        container["image"] = json!(BAD_IMAGE);
        container["ports"] = json!([{"name": "grpc", "containerPort": 9000}]);
    });
    let status = rig.status("guard", "the port is named", |s| because(s, "Stalled", "ServicePortMissing")).await;
    let message = super::rig::find(&status, "Stalled")["message"].to_string();
    assert!(message.contains("Service shop") && message.contains("grpc"), "{message}");
    assert_eq!((rig.image().as_str(), rig.undos().len()), (BAD_IMAGE, 0));
}
