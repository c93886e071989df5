//! Undos of what Flux applies: its sync is suspended first, and given back whatever becomes of us.

use std::sync::Arc;
use std::time::Duration;

use deployment_guard::controller::resume;
use deployment_guard::domain::scope::Scope;
use deployment_guard::leader::Leadership;
use serde_json::{Value, json};

use super::api_server::{Asked, Fault, Key};
use super::deployments::{guard_place, place};
use super::rig::{BAD_IMAGE, Operator, Rig, because, find, is};

const MARKER: &str = "deploymentguard.dev/suspended-sync";
const FLUX_RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";

/// A Deployment from Flux, and a guard that may suspend its sync.
async fn from_flux() -> (Rig, Operator) {
    let rig = Rig::new().await;
    rig.api.change(&place("shop"), |deployment| {
        deployment["metadata"]["labels"] =
            json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
    });
    rig.guard("guard", json!({"rollback": {"gitOps": "Suspend", "suspendFor": "1h"}}));
    let operator = rig.operator();
    rig.adopted("guard").await;
    (rig, operator)
}

fn annotation(rig: &Rig, key: &str) -> Value {
    rig.deployment()["metadata"]["annotations"][key].clone()
}

fn is_suspension(asked: &Asked) -> bool {
    asked.is_write() && asked.manager() == "deployment-guard/git-ops"
}

/// Its time is up, as if an hour had passed.
fn expire(rig: &Rig) {
    rig.api.change(&place("shop"), |deployment| {
        let text = deployment["metadata"]["annotations"][MARKER].as_str().unwrap_or_default().to_owned();
        let mut marker: Value = serde_json::from_str(&text).unwrap();
        marker["until"] = json!("2026-01-01T00:00:00Z");
        deployment["metadata"]["annotations"][MARKER] = json!(marker.to_string());
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_is_suspended_before_the_undo_and_given_back_when_its_time_is_up() {
    let (rig, _operator) = from_flux().await;
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "the undo is sent", |s| s["undo"]["sentAt"].is_string()).await;
    let writes = rig.workload_writes();
    assert!(is_suspension(&writes[0]) && writes[1].is_undo(), "{writes:#?}");
    let marker: Value = serde_json::from_str(annotation(&rig, MARKER).as_str().unwrap_or_default()).unwrap();
    assert_eq!(annotation(&rig, FLUX_RECONCILE), "disabled");
    assert_eq!(marker["decision"], status["lastDecision"]["id"]);
    assert_eq!(
        (&marker["bad"], &marker["restored"]),
        (&status["lastDecision"]["fromRevision"], &status["lastDecision"]["toRevision"])
    );
    let status = rig.status("guard", "it is said", |s| because(s, "GitOpsManaged", "SyncSuspended")).await;
    assert!(find(&status, "GitOpsManaged")["message"].as_str().is_some_and(|text| text.contains("flux-system/apps")));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(annotation(&rig, FLUX_RECONCILE), "disabled", "given back too early");
    expire(&rig);
    rig.until("the sync is given back", || annotation(&rig, MARKER).is_null()).await;
    assert!(annotation(&rig, FLUX_RECONCILE).is_null());
    assert_eq!(rig.undos().len(), 1);
    rig.status("guard", "Flux applies it again", |s| because(s, "GitOpsManaged", "AppliedByGitOps")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_template_on_a_suspended_workload_ends_the_suspension() {
    let (rig, _operator) = from_flux().await;
    rig.push(BAD_IMAGE);
    rig.status("guard", "the undo is sent", |s| s["undo"]["sentAt"].is_string()).await;
    rig.push("shop:v3");
    rig.until("the sync is given back", || annotation(&rig, MARKER).is_null()).await;
    assert_eq!(rig.image(), "shop:v3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dies_between_suspension_and_undo_leaves_both_to_the_next_who_needs_no_guard_to_give_back() {
    let (rig, operator) = from_flux().await;
    rig.api.break_with(|asked| is_suspension(asked).then_some(Fault::DoneButHang));
    rig.push(BAD_IMAGE);
    rig.until("the sync is suspended", || annotation(&rig, MARKER).is_string()).await;
    operator.die().await;
    assert!(rig.undos().is_empty(), "the undo waits for the suspension");
    rig.api.mend();
    let operator = rig.operator();
    rig.status("guard", "the undo is sent", |s| s["undo"]["sentAt"].is_string()).await;
    assert_eq!((rig.undos().len(), rig.image()), (1, "shop:v1".to_owned()));
    operator.die().await;
    rig.api.delete(&guard_place("guard"));
    expire(&rig);
    let _operator = rig.operator();
    rig.until("the sync is given back", || annotation(&rig, MARKER).is_null()).await;
    assert!(annotation(&rig, FLUX_RECONCILE).is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_that_is_refused_leaves_the_release_alone_and_says_why() {
    let (rig, _operator) = from_flux().await;
    rig.api.break_with(|asked| {
        let message = "annotations of the platform are frozen";
        is_suspension(asked).then_some(Fault::Refuse { code: 403, reason: "Forbidden", message, causes: Vec::new() })
    });
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "it is said", |s| because(s, "Stalled", "SuppressedByGitOps")).await;
    let decision = &status["lastDecision"];
    assert_eq!(decision["clampedBy"], "git-ops");
    let why = decision["actionReason"].as_str().unwrap_or_default();
    assert!(why.contains("frozen") && why.contains("flux suspend kustomization apps"), "{why}");
    assert!(is(&status, "Healthy", "False") && status["undo"].is_null(), "{status:#}");
    assert!(rig.undos().is_empty() && annotation(&rig, MARKER).is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_for_an_undo_that_is_not_made_is_given_back_at_once() {
    let (rig, _operator) = from_flux().await;
    rig.api.break_with(|asked| {
        let message = "the old template is no longer allowed";
        let is_undo = asked.method == http::Method::PATCH && asked.manager() == "deployment-guard/undo";
        is_undo.then_some(Fault::Refuse { code: 403, reason: "Forbidden", message, causes: Vec::new() })
    });
    rig.push(BAD_IMAGE);
    rig.status("guard", "it is said", |s| because(s, "Stalled", "AdmissionRejected")).await;
    assert_eq!(rig.api.asked().iter().filter(|asked| is_suspension(asked)).count(), 2, "suspended, and given back");
    assert!(annotation(&rig, MARKER).is_null() && annotation(&rig, FLUX_RECONCILE).is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_operator_is_removed_everything_is_given_back_whatever_its_time() {
    let (rig, operator) = from_flux().await;
    rig.push(BAD_IMAGE);
    rig.status("guard", "the undo is sent", |s| s["undo"]["sentAt"].is_string()).await;
    operator.die().await;
    rig.api.put(
        &Key::new("helm.toolkit.fluxcd.io", "helmreleases", "flux-system", "api"),
        json!({
            "apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease", "spec": {"suspend": true},
            "metadata": {
                "labels": {"deploymentguard.dev/sync-suspended": "true"},
                "annotations": {MARKER: json!({
                    "decision": "other", "until": "2099-01-01T00:00:00Z", "bad": "a", "restored": "b",
                }).to_string()},
            },
        }),
    );
    let client = rig.api.client();
    let (scope, leader) = (Scope::default(), Leadership::always());
    let returned = resume::everything(&client, &scope, &leader, None).await.unwrap();
    assert_eq!((returned.resumed.len(), returned.left.len()), (2, 0), "{returned:?}");
    assert!(annotation(&rig, MARKER).is_null() && annotation(&rig, FLUX_RECONCILE).is_null());
    let release = rig.api.get(&Key::new("helm.toolkit.fluxcd.io", "helmreleases", "flux-system", "api")).unwrap();
    assert!(release["spec"]["suspend"].is_null(), "{release}");
    assert_eq!(rig.image(), "shop:v1", "an undo stays what it is");
    let told = rig.api.all("events").into_iter().filter(|(_, event)| event["reason"] == "SyncResumed").count();
    assert_eq!(told, 2);
    let again = resume::everything(&client, &scope, &leader, None).await.unwrap();
    assert!(again.resumed.is_empty() && again.left.is_empty(), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_given_back_before_the_removal_is_named_with_the_servers_words() {
    let (rig, operator) = from_flux().await;
    rig.push(BAD_IMAGE);
    rig.status("guard", "the undo is sent", |s| s["undo"]["sentAt"].is_string()).await;
    operator.die().await;
    rig.api.break_with(|asked| {
        let message = "annotations of the platform are frozen";
        is_suspension(asked).then_some(Fault::Refuse { code: 403, reason: "Forbidden", message, causes: Vec::new() })
    });
    let client = rig.api.client();
    let returned = resume::everything(&client, &Scope::default(), &Leadership::always(), None).await.unwrap();
    let [(place, why)] = returned.left.as_slice() else { panic!("{returned:?}") };
    assert!(place.to_string().contains("shop") && why.contains("frozen"), "{place}: {why}");
    let lost = Leadership::held_while(Arc::default());
    rig.api.mend();
    let returned = resume::everything(&client, &Scope::default(), &lost, None).await.unwrap();
    assert_eq!((returned.resumed.len(), returned.left.len()), (0, 1), "written without the Lease");
    assert!(annotation(&rig, MARKER).is_string());
}
