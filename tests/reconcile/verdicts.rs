//! Verdicts: what is concluded from a release, and what is done about it.

use http::Method;
use serde_json::json;

use super::api_server::{ApiServer, Key};
use super::deployments::{NAMESPACE, push};
use super::rig::{BAD_IMAGE, Rig, because, is};

fn samples(api: &ApiServer) -> Vec<(Key, serde_json::Value)> {
    let all = api.all("configmaps").into_iter();
    all.filter(|(_, map)| !map["metadata"]["labels"]["deploymentguard.dev/sample"].is_null()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_release_is_continued_recorded_and_left_alone() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    rig.push("shop:v2");
    let seen = rig
        .status("guard", "the release is seen", |s| {
            because(s, "Healthy", "NewRevisionDetected") || s["current"]["state"] == "Judging"
        })
        .await;
    assert!(is(&seen, "Healthy", "Unknown"), "a new template is neither good nor bad: {seen:#}");
    let status = rig.status("guard", "it is decided", |s| s["lastDecision"]["decision"] == "CONTINUE").await;
    assert!(is(&status, "Healthy", "True") && because(&status, "Healthy", "AnalysisPassed"), "{status:#}");
    assert!(is(&status, "Reconciling", "False") && is(&status, "RolledBack", "False"), "{status:#}");
    assert_eq!(status["healthScore"], 100);
    assert_eq!(status["current"]["state"], "Passed");
    assert_eq!(status["lastDecision"]["action"], "None");
    assert_eq!(status["lastDecision"]["metrics"]["errorRatePpm"], 0, "{status:#}");
    rig.until("the sample is written", || samples(&rig.api).len() == 1).await;
    let (place, sample) = samples(&rig.api).remove(0);
    assert_eq!(place.namespace, NAMESPACE);
    assert!(sample["data"].to_string().contains("CONTINUE"), "{sample:#}");
    let reference = status["lastDecision"]["sampleRef"].as_str().unwrap_or_default();
    assert!(reference.starts_with(&format!("{}/", place.name)), "{reference}");
    assert_eq!(rig.workload_writes().len(), 0, "a good release is not touched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_release_is_undone_once_with_the_intent_written_first_and_verified() {
    let (rig, operator) = Rig::watching(json!({})).await;
    let before = rig.deployment();
    rig.push(BAD_IMAGE);
    rig.until("the undo is sent", || !rig.undos().is_empty()).await;
    let status = rig.status("guard", "the undo is recorded", |s| s["lastDecision"]["action"] == "RolledBack").await;
    assert_eq!(rig.image(), "shop:v1");
    assert!(is(&status, "RolledBack", "True") && because(&status, "RolledBack", "RollbackStarted"), "{status:#}");
    assert_eq!(status["lastDecision"]["decision"], "ROLLBACK");
    assert_eq!(status["lastDecision"]["reason"], "ScoreBelowThreshold");
    assert_eq!(status["rollbacksToday"], 1);

    // The order: intent in status, dry run, patch.
    let asked = rig.api.asked();
    let at = |what: &str, found: &dyn Fn(&super::api_server::Asked) -> bool| {
        asked.iter().position(found).unwrap_or_else(|| panic!("{what} is not among the requests"))
    };
    let intent = at("the intent", &|a| a.resource == "deploymentguards/status" && !a.body["status"]["undo"].is_null());
    let rehearsal = at("the dry run", &|a| a.resource == "deployments" && a.is_dry_run());
    let undo = at("the undo", &|a| a.is_undo());
    assert!(intent < rehearsal && rehearsal < undo, "{intent} {rehearsal} {undo}");
    assert_eq!(asked[intent].body["status"]["undo"]["sentAt"], json!(null));

    // What is sent tests all that was judged.
    let undo = &asked[undo];
    assert_eq!((&undo.method, undo.manager()), (&Method::PATCH, "deployment-guard/undo"));
    assert_eq!(undo.body, asked[rehearsal].body, "what was rehearsed is what is sent");
    let operations = undo.body.as_array().cloned().unwrap_or_default();
    let value = |op: &str, path: &str| {
        let mut all = operations.iter();
        all.find(|o| o["op"] == op && o["path"] == path).unwrap_or_else(|| panic!("no {op} {path}: {operations:#?}"))["value"].clone()
    };
    assert_eq!(value("test", "/metadata/uid"), before["metadata"]["uid"]);
    assert_eq!(value("test", "/spec/paused"), json!(null));
    assert_eq!(value("test", "/spec/template")["spec"]["containers"][0]["image"], BAD_IMAGE);
    let good = value("replace", "/spec/template");
    assert_eq!(good["spec"], before["spec"]["template"]["spec"], "not a field is lost, also one nobody knows yet");
    assert_eq!(good["metadata"]["labels"], json!({"app": "shop"}), "the hash is the controller's business");
    let annotation = "/metadata/annotations/deploymentguard.dev~1last-rollback";
    assert_eq!(value("add", annotation), status["lastDecision"]["id"]);
    let now = rig.deployment();
    assert_eq!(now["metadata"]["annotations"]["team"], "checkout", "annotations of others stay");
    let managers = now["metadata"]["managedFields"].to_string();
    rig.until("ownership is handed back", || {
        let fields = rig.deployment()["metadata"]["managedFields"].clone();
        let ours = fields
            .as_array()
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .find(|e| e["manager"] == "deployment-guard/undo");
        ours.is_none_or(|entry| entry["fieldsV1"]["f:spec"].is_null())
    })
    .await;
    assert!(managers.contains("kubectl"), "{managers}");

    // Events follow the status they speak of.
    let told = |reason: &str| rig.api.all("events").iter().any(|(_, event)| event["reason"] == reason);
    for reason in ["RolloutDetected", "AnalysisFailed", "RollbackStarted"] {
        rig.until(&format!("there is an event {reason}"), || told(reason)).await;
    }

    // Restored pods must stay Ready for half a minute: another process finds that half a minute gone.
    operator.die().await;
    rig.long_ago();
    let _operator = rig.operator();
    let status = rig.status("guard", "the undo is verified", |s| because(s, "RolledBack", "RollbackSucceeded")).await;
    assert!(is(&status, "RolledBack", "True") && status["undo"].is_null(), "{status:#}");
    assert!(!is(&status, "Healthy", "True"), "what was restored was not judged: {status:#}");
    assert_eq!(rig.undos().len(), 1);
    rig.until("there is an event RollbackSucceeded", || told("RollbackSucceeded")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_undo_is_not_judged_as_a_release() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "it is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
    let (decided, reads) = (status["lastDecision"]["id"].clone(), rig.prometheus.reads());
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let later = rig.status_of("guard");
    assert_eq!(later["lastDecision"]["id"], decided);
    assert_eq!(later["current"]["state"], "Restoring", "{later:#}");
    assert_eq!(rig.prometheus.reads(), reads, "verifying counts pods and asks no metrics");
    let detected = rig.api.all("events").into_iter().filter(|(_, event)| event["reason"] == "RolloutDetected");
    assert_eq!(detected.filter(|(_, event)| event["regarding"]["kind"] == "DeploymentGuard").count(), 1);
    assert_eq!(rig.undos().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_observe_a_bad_release_is_judged_and_nothing_is_patched() {
    let (rig, _operator) = Rig::watching(json!({"mode": "Observe"})).await;
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "it is judged", |s| s["lastDecision"]["decision"] == "ROLLBACK").await;
    assert!(is(&status, "Healthy", "False"), "{status:#}");
    assert_eq!(status["lastDecision"]["clampedBy"], "mode");
    assert_eq!(status["lastDecision"]["action"], "None");
    assert!(is(&status, "Stalled", "False"), "it does what it was asked to: {status:#}");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!((rig.image().as_str(), rig.workload_writes().len()), (BAD_IMAGE, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_that_allows_observe_at_most_clamps_a_guard_that_asks_for_more() {
    let rig = Rig::new().await;
    rig.class("default", json!({"maxMode": "Observe"}));
    rig.guard("guard", json!({}));
    let _operator = rig.operator();
    rig.adopted("guard").await;
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "it is judged", |s| s["lastDecision"]["decision"] == "ROLLBACK").await;
    assert_eq!(status["lastDecision"]["clampedBy"], "mode");
    let why = status["lastDecision"]["actionReason"].as_str().unwrap_or_default();
    assert!(why.contains("class"), "{why}");
    assert_eq!(rig.workload_writes().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_deployment_is_not_patched_and_says_so() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    rig.push(BAD_IMAGE);
    rig.status("guard", "the release is seen", |s| s["current"]["state"] == "Judging").await;
    rig.api.change(&super::deployments::place("shop"), |deployment| deployment["spec"]["paused"] = json!(true));
    let status = rig.status("guard", "it is judged", |s| s["lastDecision"]["decision"] == "ROLLBACK").await;
    assert_eq!(status["lastDecision"]["clampedBy"], "workload-not-paused", "{status:#}");
    rig.api.change(&super::deployments::place("shop"), |deployment| deployment["status"]["readyReplicas"] = json!(1));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let status = rig.status_of("guard");
    assert!(is(&status, "Stalled", "True") && because(&status, "Stalled", "WorkloadPaused"), "{status:#}");
    assert_eq!((rig.image().as_str(), rig.workload_writes().len()), (BAD_IMAGE, 0));
    assert_eq!(rig.deployment()["spec"]["paused"], true, "and it is not resumed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_during_the_judgement_of_another_is_judged_against_the_last_good_one() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    let serving = rig.status_of("guard")["current"]["revision"].clone();
    rig.push("shop:v2");
    let first = rig.status("guard", "the first is judged", |s| s["current"]["state"] == "Judging").await;
    push(&rig.api, "shop", "shop:v3");
    let second = rig
        .status("guard", "the second is judged", |s| {
            s["current"]["state"] == "Judging" && s["current"]["revision"] != first["current"]["revision"]
        })
        .await;
    assert_eq!((&first["current"]["baseline"], &second["current"]["baseline"]), (&serving, &serving));
}
