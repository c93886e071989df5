//! Releases that are not undone, each for its own reason.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::wait_for;

use crate::scene::{Guard, Scene};

const SAMPLES: [&str; 3] = ["configmap", "-l", "deploymentguard.dev/sample"];

/// The everyday case, from the push to the end of the guard.
pub async fn a_good_release_passes_and_leaves_a_sample_that_goes_with_the_guard(scene: Scene) -> Result<()> {
    let before = scene.begin(json!({})).await?;
    scene.push(&scene.shop().version("v2")).await?;
    // As a pipeline waits.
    scene.kubectl(&["wait", "--for=condition=Healthy", "dg/shop", "--timeout=90s"]).await?;
    let guard = scene.guard("shop").await?;
    guard.expect("Healthy", "True", "AnalysisPassed")?;
    guard.expect("Ready", "True", "Accepted")?;
    guard.expect("MetricsAvailable", "True", "MetricsRead")?;
    ensure!(guard.status("Stalled") == "False" && guard.status("Reconciling") == "False", "{}", guard.line());
    let decision = guard.decision();
    ensure!(decision["decision"] == "CONTINUE" && decision["action"] == "None", "{decision}");
    ensure!(decision["healthScore"].as_i64().is_some_and(|score| score >= 90), "score: {decision}");
    ensure!(decision["confidence"].as_i64().is_some_and(|percent| percent > 50), "confidence: {decision}");
    ensure!(guard.revision() != before.revision() && guard.decided("fromRevision") == guard.revision(), "{decision}");
    ensure!(guard.0["status"]["rollbacksToday"] == 0, "an undo was counted");
    scene.deployment().await?.untouched(2)?;

    sample_of(&scene, &guard, "CONTINUE").await?;
    let pods = pod_names(&scene).await?;
    let kept = scene.deployment().await?;
    scene.kubectl(&["delete", "dg", "shop", "--timeout=10s"]).await.context("a guard must never block its deletion")?;
    wait_for("the samples to go with the guard", Duration::from_secs(100), async || {
        let left = scene.get(&SAMPLES).await.map_err(|error| format!("{error:#}"))?;
        if left["items"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err("they are there".to_owned()) }
    })
    .await?;
    let after = scene.deployment().await?;
    ensure!(after.0["spec"] == kept.0["spec"] && after.uid() == kept.uid(), "the workload changed");
    ensure!(pod_names(&scene).await? == pods, "pods changed");
    Ok(())
}

/// Checks the guard's last sample.
async fn sample_of(scene: &Scene, guard: &Guard, action: &str) -> Result<()> {
    let maps = scene.get(&SAMPLES).await?;
    let map = maps["items"].as_array().and_then(|items| items.first()).context("no sample was written")?;
    let owner = &map["metadata"]["ownerReferences"][0];
    ensure!(owner["kind"] == "DeploymentGuard" && owner["uid"] == guard.0["metadata"]["uid"], "owner: {owner}");
    let texts = map["data"].as_object().context("an empty ConfigMap")?.values().filter_map(Value::as_str);
    let samples = texts.map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let sample = samples.iter().find(|sample| sample["action"] == action).with_context(|| format!("{samples:?}"))?;
    ensure!(sample["reward"].is_null() && sample["confidence"].is_i64(), "{sample}");
    ensure!(sample["state"]["error_rate"].is_number(), "state: {sample}");
    Ok(())
}

async fn pod_names(scene: &Scene) -> Result<Vec<String>> {
    let pods = scene.get(&["pods", "-l", "app=shop", "--field-selector", "status.phase=Running"]).await?;
    let live =
        pods["items"].as_array().into_iter().flatten().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let mut names: Vec<_> = live.map(|pod| pod["metadata"]["name"].to_string()).collect();
    names.sort();
    Ok(names)
}

/// The default mode: a new user can try it without any risk.
pub async fn in_observe_a_bad_release_is_reported_and_nothing_is_touched(scene: Scene) -> Result<()> {
    let before = scene.begin(json!({"mode": "Observe"})).await?;
    scene.push(&scene.bad()).await?;
    let guard = scene.decided(&before).await?;
    ensure!(guard.decided("decision") == "ROLLBACK" && guard.decided("action") == "None", "{}", guard.decision());
    ensure!(guard.decided("clampedBy") == "mode", "clamped by {}", guard.decided("clampedBy"));
    ensure!(guard.decided("toRevision") == before.revision(), "{}", guard.decision());
    guard.expect("Healthy", "False", "ScoreBelowThreshold")?;
    guard.expect("Reconciling", "False", "SuppressedByMode")?;
    guard.expect("Stalled", "False", "SuppressedByMode")?;
    ensure!(guard.message("Healthy").contains("Observe"), "{}", guard.message("Healthy"));
    let deployment = scene.deployment().await?;
    deployment.untouched(2)?;
    ensure!(deployment.image() == "localhost/shop:v2", "{}", deployment.image());
    sample_of(&scene, &guard, "ROLLBACK").await
}

/// No news is no good news, and no bad news.
pub async fn a_service_without_metrics_is_never_called_healthy_and_never_undone(scene: Scene) -> Result<()> {
    let before = scene.begin(json!({})).await?;
    // It fails, too: nobody who cannot see may guess.
    scene.push(&scene.bad().fault("SILENT", "true")).await?;
    let guard = scene.decided(&before).await?;
    ensure!(guard.decided("decision") == "CONTINUE", "{}", guard.decision());
    ensure!(guard.status("Healthy") == "Unknown", "{}", guard.line());
    let reason = guard.reason("Healthy");
    ensure!(["InsufficientData", "NoTraffic"].contains(&reason), "{}", guard.line());
    ensure!(guard.decision()["healthScore"].is_null(), "a score out of nothing: {}", guard.decision());
    ensure!(!guard.message("Healthy").is_empty(), "no sentence says why");
    scene.deployment().await?.untouched(2)
}

/// Errors in the first seconds of a pod, shorter than the warm-up.
pub async fn errors_of_a_cold_start_are_not_held_against_a_release(scene: Scene) -> Result<()> {
    let before = scene.begin(json!({"analysis": {"warmup": "10s", "window": "30s"}})).await?;
    scene.push(&scene.shop().version("v2").fault("ERRORS_FIRST_S", "6")).await?;
    let failed = async || {
        let traffic = scene.traffic().await.map_err(|error| format!("{error:#}"))?;
        let errors = traffic["by_version"]["v2"]["errors"].as_i64().unwrap_or_default();
        if errors > 0 { Ok(()) } else { Err(traffic.to_string()) }
    };
    wait_for("errors of the cold start", Duration::from_secs(40), failed).await?;
    let guard = scene.decided(&before).await?;
    ensure!(guard.decided("decision") == "CONTINUE", "{}", guard.decision());
    guard.expect("Healthy", "True", "AnalysisPassed")?;
    scene.deployment().await?.untouched(2)
}
