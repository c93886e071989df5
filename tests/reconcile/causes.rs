//! Other causes than the release: configuration that was changed in place, and scaling.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::api_server::{Fault, Key};
use super::deployments::{NAMESPACE, place, pods_of};
use super::rig::{BAD_IMAGE, Operator, Rig, because, is};

fn settings() -> Key {
    Key::new("", "configmaps", NAMESPACE, "settings")
}

fn written(ago: i64) -> Value {
    let time = (Timestamp::now() - SignedDuration::from_secs(ago)).to_string();
    json!([{"manager": "kubectl", "operation": "Update", "time": time, "fieldsType": "FieldsV1", "fieldsV1": {}}])
}

/// A guard of a Deployment whose pods read a ConfigMap, and a Secret that the operator may not look at.
async fn configured() -> (Rig, Operator) {
    let rig = Rig::new().await;
    rig.api.put(
        &settings(),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"url": "db-1"},
            "metadata": {"managedFields": written(86_400), "creationTimestamp": "2026-01-01T00:00:00Z"},
        }),
    );
    rig.api.change(&place("shop"), |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
            json!([{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}}]);
    });
    rig.api.break_with(|asked| {
        (asked.resource == "secrets").then(|| Fault::Refuse {
            code: 403,
            reason: "Forbidden",
            message: "secrets is forbidden",
            causes: vec![],
        })
    });
    rig.until("the world has followed", || {
        let deployment = rig.deployment();
        deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]
    })
    .await;
    rig.guard("guard", json!({}));
    let operator = rig.operator();
    rig.adopted("guard").await;
    rig.status("guard", "what the pods read is known", |s| s["configuration"]["objects"][0]["name"] == "settings")
        .await;
    (rig, operator)
}

fn change_settings(rig: &Rig) {
    rig.api.change(&settings(), |map| {
        map["data"]["url"] = json!("db-2");
        map["metadata"]["managedFields"] = written(180);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_was_changed_before_a_bad_release_is_named_and_only_its_metadata_is_read() {
    let (rig, _operator) = configured().await;
    change_settings(&rig);
    rig.api.change(&place("shop"), |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(BAD_IMAGE);
    });
    let status = rig.status("guard", "it is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
    let decision = &status["lastDecision"];
    let said = decision["configuration"].as_array().unwrap();
    let change = "ConfigMap settings, which the pods read, was changed 3 minutes before the rollout was seen";
    assert_eq!(said[0], change, "{decision:#}");
    assert!(said[1].as_str().unwrap().contains("Secrets"), "what cannot be seen is said: {decision:#}");
    assert!(decision["reasoning"].as_str().unwrap().contains(change), "{decision:#}");
    let told = || rig.api.all("events").iter().any(|(_, event)| event["reason"] == "ConfigurationChanged");
    rig.until("people are told", told).await;
    let reads = rig.api.asked().into_iter().filter(|asked| ["settings", "keys"].contains(&asked.name.as_str()));
    assert!(reads.clone().count() >= 2 && reads.clone().all(|asked| asked.is_of_metadata() && asked.verb == "get"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_the_configuration_differs_it_is_the_reason_and_nothing_is_undone() {
    let (rig, _operator) = configured().await;
    change_settings(&rig);
    let before = pods_of(&rig.api, "shop");
    rig.api.change(&place("shop"), |deployment| {
        deployment["spec"]["template"]["metadata"]["annotations"] =
            json!({"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"});
    });
    rig.status("guard", "the restart is judged", |s| s["current"]["state"] == "Judging").await;
    rig.until("its pods run", || pods_of(&rig.api, "shop").iter().all(|pod| !before.contains(pod))).await;
    for key in pods_of(&rig.api, "shop") {
        rig.api.change(&key, |pod| super::facts::crash(pod, 3));
    }
    let status = rig.status("guard", "it is judged", |s| s["lastDecision"]["decision"] == "ROLLBACK").await;
    let decision = &status["lastDecision"];
    assert_eq!(decision["clampedBy"], "something-else-differs", "{decision:#}");
    let why = decision["actionReason"].as_str().unwrap();
    assert!(why.starts_with("ConfigurationChanged: ConfigMap settings"), "{why}");
    assert!(because(&status, "Stalled", "ConfigurationChanged"), "{status:#}");
    assert_eq!(rig.undos().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_of_harm_is_held_back_after_a_change_of_the_scale_and_only_while_that_is_remembered() {
    let (rig, operator) = Rig::watching(json!({"analysis": {"window": "60s"}})).await;
    rig.push(BAD_IMAGE);
    rig.until("metrics are read", || rig.prometheus.reads() > 0).await;
    rig.api.change(&place("shop"), |deployment| deployment["spec"]["replicas"] = json!(3));
    let status = rig.status("guard", "the change of the scale is named", |s| because(s, "Healthy", "Scaling")).await;
    assert!(is(&status, "Healthy", "Unknown"), "neither bad nor good: {status:#}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let status = rig.status_of("guard");
    assert!(because(&status, "Healthy", "Scaling") && status["lastDecision"].is_null(), "{status:#}");
    assert_eq!(rig.undos().len(), 0);
    let told = rig.api.all("events").into_iter().filter(|(_, event)| event["reason"] == "RolloutHeld");
    assert_eq!(told.filter(|(_, event)| event["regarding"]["kind"] == "DeploymentGuard").count(), 1, "told once");
    // A process that has not seen the change does not hold for it.
    operator.die().await;
    let _operator = rig.operator();
    rig.status("guard", "it is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
    assert_eq!(rig.image(), "shop:v1");
}
