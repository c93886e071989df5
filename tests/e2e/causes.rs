//! Other causes than the release: configuration that was changed in place, and scaling in the middle of a rollout.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::shop::Shop;

use crate::facts;
use crate::scene::{Guard, Scene};

/// A release whose faults stand in a ConfigMap.
fn configured(scene: &Scene) -> Shop {
    scene.shop().with_container(&json!({"envFrom": [{"configMapRef": {"name": "settings"}}]}))
}

/// Version 1 with a ConfigMap that says that all is well.
async fn begin(scene: &Scene) -> Result<Guard> {
    scene.cluster.kubectl(&["create", "namespace", &scene.namespace]).await?;
    scene.kubectl(&["create", "configmap", "settings", "--from-literal=ERROR_RATE=0"]).await?;
    scene.push(&configured(scene)).await?;
    let guard = scene.begin_with_deployed(json!({})).await?;
    let known = &guard.0["status"]["configuration"]["objects"][0];
    ensure!(known["kind"] == "ConfigMap" && known["name"] == "settings", "not remembered: {known}");
    Ok(guard)
}

async fn set(scene: &Scene, name: &str, value: &str) -> Result<()> {
    let patch = json!({"data": {name: value}}).to_string();
    scene.kubectl(&["patch", "configmap", "settings", "--type=merge", "-p", &patch]).await?;
    Ok(())
}

/// Somebody edits a ConfigMap and restarts the pods, so that they read it.
pub async fn a_config_map_changed_in_place_is_named_and_not_undone(scene: Scene) -> Result<()> {
    let before = begin(&scene).await?;
    set(&scene, "ERROR_RATE", "0.4").await?;
    scene.kubectl(&["rollout", "restart", "deployment/shop"]).await?;
    let guard = scene.decided(&before).await?;
    ensure!(guard.decided("decision") == "ROLLBACK" && guard.decided("action") == "None", "{}", guard.decision());
    ensure!(guard.decided("clampedBy") == "something-else-differs", "{}", guard.decision());
    guard.expect("Stalled", "True", "ConfigurationChanged")?;
    ensure!(guard.message("Stalled").contains("ConfigMap settings"), "{}", guard.message("Stalled"));
    scene.deployment().await?.untouched(2)
}

/// `kubectl rollout restart` while a database is down: the old pods got up in better times.
pub async fn a_restart_that_fails_for_reasons_of_its_own_is_not_undone(scene: Scene) -> Result<()> {
    let database = scene.shop_named("db").replicas(1);
    scene.push(&database).await?;
    database.rolled_out(&scene.cluster, Duration::from_mins(1)).await?;
    let shop = facts::shop(&scene).fault("DEPENDENCY_URL", &database.url()).fault("EXIT_UNTIL_DEPENDENCY", "true");
    let before = facts::serving(&scene, &shop, json!({})).await?;
    scene.kubectl(&["scale", "deployment/db", "--replicas=0"]).await?;
    scene.kubectl(&["wait", "--for=delete", "pod", "-l", "app=db", "--timeout=60s"]).await?;
    scene.kubectl(&["rollout", "restart", "deployment/shop"]).await?;
    let guard = scene.decided(&before).await?;
    ensure!(guard.decided("decision") == "ROLLBACK" && guard.decided("action") == "None", "{}", guard.decision());
    ensure!(guard.decided("clampedBy") == "something-else-differs", "{}", guard.decision());
    guard.expect("Stalled", "True", "SameRevisionRestarted")?;
    scene.deployment().await?.untouched(2)
}

/// The release is bad for its own reasons; that something else changed too is said.
pub async fn a_config_map_that_was_changed_before_a_bad_release_is_named_beside_the_undo(scene: Scene) -> Result<()> {
    let before = begin(&scene).await?;
    set(&scene, "GREETING", "hello").await?;
    scene.push(&configured(&scene).version("v2").fault("ERROR_RATE", "0.4")).await?;
    let guard = scene.undone(&before).await?;
    let said = guard.decision()["configuration"].to_string();
    ensure!(
        said.contains("ConfigMap settings") && said.contains("before the rollout was seen"),
        "{}",
        guard.decision()
    );
    ensure!(guard.decided("reasoning").contains("ConfigMap settings"), "{}", guard.decision());
    ensure!(!guard.0["status"].to_string().contains("hello"), "the contents were stored");
    let events = scene.get(&["events.v1.events.k8s.io"]).await?;
    let told = events["items"].as_array().into_iter().flatten().any(|event| event["reason"] == "ConfigurationChanged");
    ensure!(told, "nobody was told");
    Ok(())
}

/// An autoscaler or a person scales in the middle of a rollout: evidence waits, and counts afterwards.
pub async fn evidence_of_harm_waits_for_a_minute_after_scaling_and_counts_then(scene: Scene) -> Result<()> {
    let before = scene.begin(json!({"analysis": {"window": "4m"}})).await?;
    scene.push(&scene.bad()).await?;
    scene.until("the analysis", |guard| !guard.0["status"]["analysis"]["checkpoint"].is_null()).await?;
    let patch: Value = json!({"spec": {"replicas": 3}});
    scene.kubectl(&["patch", "deployment", "shop", "--subresource=scale", "-p", &patch.to_string()]).await?;
    let scaled = std::time::Instant::now();
    let guard = scene.until("the scaling to be named", |guard| guard.reason("Healthy") == "Scaling").await?;
    guard.expect("Healthy", "Unknown", "Scaling")?;
    let guard = scene.undone(&before).await?;
    ensure!(scaled.elapsed() > Duration::from_secs(55), "after {:?}: {}", scaled.elapsed(), guard.decision());
    ensure!(scene.deployment().await?.0["spec"]["replicas"] == 3, "the scale was touched");
    Ok(())
}
