//! Bad releases, and what may keep them from being undone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::wait_for;

use crate::scene::{Guard, Scene};

/// The main job.
pub async fn a_release_with_40_percent_errors_is_undone_once_and_verified(scene: Scene) -> Result<()> {
    let before = scene.begin(json!({})).await?;
    scene.push(&scene.bad()).await?;
    let guard = scene.undone(&before).await?;
    ensure!(
        guard.decided("decision") == "ROLLBACK" && guard.decided("reason") == "ScoreBelowThreshold",
        "{}",
        guard.decision()
    );
    ensure!(guard.decided("toRevision") == before.revision(), "{}", guard.decision());
    ensure!(guard.decision()["healthScore"].as_i64().is_some_and(|score| score < 50), "{}", guard.decision());
    ensure!(
        guard.decision()["metrics"]["errorRatePpm"].as_i64().is_some_and(|ppm| ppm > 250_000),
        "{}",
        guard.decision()
    );
    let bad = guard.decided("fromRevision").to_owned();

    let guard = scene.verified().await?;
    ensure!(guard.state() == "Serving", "{}", guard.line());
    ensure!(
        guard.decided("fromRevision") == bad && guard.decided("action") == "RolledBack",
        "the undo was judged as a release: {}",
        guard.decision()
    );
    ensure!(guard.0["status"]["undo"].is_null(), "the intent is still there");
    let deployment = scene.deployment().await?;
    ensure!(deployment.generation() == 3, "not one undo: generation {}", deployment.generation());
    ensure!(deployment.image() == "localhost/shop:v1" && deployment.env().is_empty(), "{}", deployment.image());
    only_revision(&scene, before.revision()).await?;
    let traffic = scene.traffic().await?;
    ensure!(traffic["errors"] == 0 && traffic["by_version"]["v2"].is_null(), "users still see it: {traffic}");
    for kind in ["DeploymentGuard", "Deployment"] {
        let seen = events_of(&scene, kind).await?;
        for reason in ["RolloutDetected", "AnalysisFailed", "RollbackStarted", "RollbackSucceeded"] {
            ensure!(seen.iter().any(|event| event == reason), "no event {reason} on the {kind}: {seen:?}");
        }
    }
    Ok(())
}

async fn only_revision(scene: &Scene, revision: &str) -> Result<()> {
    let pods = scene.get(&["pods", "-l", "app=shop"]).await?;
    let live =
        pods["items"].as_array().into_iter().flatten().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let hashes: Vec<_> =
        live.map(|pod| pod["metadata"]["labels"]["pod-template-hash"].as_str().unwrap_or("")).collect();
    ensure!(hashes.len() == 2 && hashes.iter().all(|hash| *hash == revision), "pods: {hashes:?}, wanted {revision}");
    Ok(())
}

async fn events_of(scene: &Scene, kind: &str) -> Result<Vec<String>> {
    let selector = format!("regarding.kind={kind}");
    let events = scene.get(&["events.v1.events.k8s.io", "--field-selector", &selector]).await?;
    let items = events["items"].as_array().into_iter().flatten();
    Ok(items.filter_map(|event| event["reason"].as_str()).map(str::to_owned).collect())
}

/// Waits until a revision other than the one before is being judged.
async fn judging(scene: &Scene, before: &Guard) -> Result<Guard> {
    scene.until("the analysis", |guard| guard.revision() != before.revision() && guard.state() == "Judging").await
}

/// The fix of a person who was faster stands, and is measured against what served before the fault.
pub async fn a_fix_pushed_while_the_bad_release_is_judged_is_not_undone(scene: Scene) -> Result<()> {
    let before = scene.begin(json!({})).await?;
    scene.push(&scene.bad()).await?;
    let bad = judging(&scene, &before).await?.revision().to_owned();
    scene.push(&scene.shop().version("v3")).await?;
    let guard =
        scene.until("the analysis of the fix", |guard| guard.revision() != bad && guard.state() == "Judging").await?;
    let baseline = guard.0["status"]["current"]["baseline"].as_str().unwrap_or("");
    ensure!(baseline == before.revision(), "baseline {baseline}, bad {bad}, good {}", before.revision());
    let guard = scene.decided(&before).await?;
    ensure!(
        guard.decided("decision") == "CONTINUE" && guard.decided("fromRevision") == guard.revision(),
        "{}",
        guard.decision()
    );
    guard.expect("Healthy", "True", "AnalysisPassed")?;
    let deployment = scene.deployment().await?;
    ensure!(deployment.image() == "localhost/shop:v3", "{}", deployment.image());
    deployment.untouched(3)
}

/// A platform team's policy is stronger than a guard.
pub async fn a_policy_that_refuses_the_undo_is_named_and_the_workload_is_left_alone(scene: Scene) -> Result<()> {
    let before = scene.begin(json!({})).await?;
    scene.cluster.apply(&policy(&scene.namespace).to_string()).await?;
    policy_in_force(&scene).await?;
    scene.push(&scene.bad()).await?;
    let guard = scene.until("the refusal", |guard| guard.reason("Stalled") == "AdmissionRejected").await?;
    guard.expect("Healthy", "False", "AdmissionRejected")?;
    guard.expect("Stalled", "True", "AdmissionRejected")?;
    ensure!(guard.decided("decision") == "ROLLBACK" && guard.decided("action") == "None", "{}", guard.decision());
    ensure!(guard.message("Stalled").contains("templates are frozen"), "{}", guard.message("Stalled"));
    ensure!(guard.0["status"]["undo"].is_null() && guard.0["status"]["rollbacksToday"] == 0, "an undo is under way");
    ensure!(guard.revision() != before.revision(), "{}", guard.line());
    let deployment = scene.deployment().await?;
    ensure!(deployment.image() == "localhost/shop:v2", "{}", deployment.image());
    deployment.untouched(2)
}

fn policy(namespace: &str) -> Value {
    let api = "admissionregistration.k8s.io/v1";
    let metadata = json!({"name": format!("frozen-{namespace}")});
    let operator = "system:serviceaccount:deployment-guard:deployment-guard";
    let policy = json!({
        "apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": metadata,
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]},
            ]},
            "matchConditions": [
                {"name": "not-people", "expression": format!("request.userInfo.username == '{operator}'")},
            ],
            "validations": [
                {"expression": "object.spec.template == oldObject.spec.template", "message": "templates are frozen"},
            ],
        },
    });
    let binding = json!({
        "apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata,
        "spec": {
            "policyName": format!("frozen-{namespace}"),
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}},
        },
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [policy, binding]})
}

/// A policy takes a few seconds until the API server knows it.
async fn policy_in_force(scene: &Scene) -> Result<()> {
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"probe": "x"}}}}}).to_string();
    let operator = "--as=system:serviceaccount:deployment-guard:deployment-guard";
    let probe = ["patch", "deployment", "shop", "--dry-run=server", operator, "-p", &patch];
    let look = async || match scene.kubectl(&probe).await {
        Ok(_) => Err("accepted".to_owned()),
        Err(error) if format!("{error:#}").contains("templates are frozen") => Ok(()),
        Err(error) => Err(format!("{error:#}")),
    };
    wait_for("the policy to be in force", Duration::from_secs(30), look).await.context("policy")?;
    Ok(())
}

/// An undo of a paused Deployment would change no pod; resuming is the user's.
pub async fn a_deployment_paused_while_it_is_judged_is_not_undone(scene: Scene) -> Result<()> {
    let before = scene.begin(json!({})).await?;
    scene.push(&scene.bad()).await?;
    judging(&scene, &before).await?;
    scene.kubectl(&["rollout", "pause", "deployment/shop"]).await?;
    let guard = scene.decided(&before).await?;
    ensure!(
        guard.decided("decision") == "ROLLBACK" && guard.decided("action") == "Recommended",
        "{}",
        guard.decision()
    );
    let command = guard.decision()["commands"][0].as_str().unwrap_or("").to_owned();
    ensure!(command.contains("rollout resume deployment/shop && "), "{command}");
    guard.expect("Stalled", "True", "WorkloadPaused")?;
    ensure!(guard.message("Stalled").contains("kubectl rollout resume"), "{}", guard.message("Stalled"));
    let deployment = scene.deployment().await?;
    ensure!(deployment.0["spec"]["paused"] == true, "it was resumed");
    deployment.untouched(3)
}
