//! Workloads that are missing, made anew, paused, or guarded twice; classes that are missing.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::scene::Scene;

const LIMIT: Duration = Duration::from_mins(1);

/// No traffic is needed for any of these.
async fn small(scene: &Scene, guard: Value) -> Result<()> {
    let shop = scene.shop().replicas(1);
    scene.push(&shop).await?;
    scene.apply_guard("shop", guard).await?;
    Ok(shop.rolled_out(&scene.cluster, LIMIT).await?)
}

/// A template pushed into a paused Deployment has no pods that could be judged.
pub async fn a_paused_deployment_is_left_alone_until_it_is_resumed(scene: Scene) -> Result<()> {
    small(&scene, json!({})).await?;
    scene.until("the guard to see version 1", |guard| guard.state() == "Serving").await?;
    scene.kubectl(&["rollout", "pause", "deployment/shop"]).await?;
    scene.kubectl(&["set", "image", "deployment/shop", "shop=localhost/shop:v2"]).await?;
    let guard = scene.until("the pause to be named", |guard| guard.reason("Healthy") == "WorkloadPaused").await?;
    guard.expect("Healthy", "Unknown", "WorkloadPaused")?;
    ensure!(guard.message("Healthy").contains("kubectl rollout resume"), "{}", guard.message("Healthy"));
    scene.deployment().await?.untouched(3)?;
    scene.kubectl(&["rollout", "resume", "deployment/shop"]).await?;
    let guard = scene.until("the analysis after the pause", |guard| guard.state() == "Judging").await?;
    ensure!(guard.status("Ready") == "True" && guard.status("Reconciling") == "True", "{}", guard.line());
    Ok(())
}

/// The order in which a pipeline creates things does not matter.
pub async fn a_guard_waits_for_its_deployment_and_follows_it_when_it_is_made_anew(scene: Scene) -> Result<()> {
    scene.cluster.kubectl(&["create", "namespace", &scene.namespace]).await?;
    scene.apply_guard("shop", json!({})).await?;
    let guard =
        scene.until("the missing target to be named", |guard| guard.reason("Ready") == "TargetNotFound").await?;
    guard.expect("Ready", "False", "TargetNotFound")?;
    guard.expect("Stalled", "True", "TargetNotFound")?;
    small(&scene, json!({})).await?;
    let guard = scene.until("the guard to see its target", |guard| guard.state() == "Serving").await?;
    guard.expect("Ready", "True", "Accepted")?;
    ensure!(guard.status("Stalled") == "False", "{}", guard.line());
    let first = guard.0["status"]["target"]["uid"].clone();

    scene.kubectl(&["delete", "deployment", "shop", "--timeout=30s"]).await?;
    let guard = scene.until("the deletion to be seen", |guard| guard.reason("Ready") == "TargetNotFound").await?;
    ensure!(guard.status("Healthy") == "Unknown", "{}", guard.line());
    small(&scene, json!({})).await?;
    let guard = scene
        .until("the new Deployment to be seen", |guard| {
            guard.status("Ready") == "True" && guard.0["status"]["target"]["uid"] != first
        })
        .await?;
    ensure!(guard.0["status"]["target"]["uid"] == scene.deployment().await?.uid(), "{}", guard.0["status"]["target"]);
    scene.deployment().await?.untouched(1)
}

/// A class made late is found without touching the guard.
pub async fn a_guard_of_an_unknown_class_waits_until_the_class_exists(scene: Scene) -> Result<()> {
    let class = format!("late-{}", scene.namespace);
    small(&scene, json!({"className": class})).await?;
    let guard = scene.until("the unknown class to be named", |guard| guard.reason("Ready") == "UnknownClass").await?;
    guard.expect("Stalled", "True", "UnknownClass")?;
    ensure!(guard.message("Ready").contains(&class), "{}", guard.message("Ready"));
    let manifest = json!({
        "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass", "metadata": {"name": class},
        "spec": {"prometheus": {"url": "http://prometheus.monitoring:9090"}},
    });
    scene.cluster.apply(&manifest.to_string()).await?;
    let guard = scene.until("the class to be found", |guard| guard.status("Ready") == "True").await?;
    ensure!(guard.status("Stalled") == "False", "{}", guard.line());
    scene.cluster.kubectl(&["wait", "--for=condition=Ready", "gclass", &class, "--timeout=30s"]).await?;
    scene.cluster.kubectl(&["delete", "gclass", &class]).await?;
    Ok(())
}

/// Two guards on one workload would undo it twice.
pub async fn of_two_guards_on_one_deployment_the_younger_stands_aside(scene: Scene) -> Result<()> {
    small(&scene, json!({})).await?;
    scene.until("the first guard", |guard| guard.state() == "Serving").await?;
    // The order counts in whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let second = json!({"targetRef": {"name": "shop"}});
    scene.apply_guard("second", second).await?;
    let guard =
        scene.until_of("second", "the second guard to stand aside", |guard| guard.status("Stalled") == "True").await?;
    guard.expect("Ready", "False", "TargetAlreadyGuarded")?;
    ensure!(guard.message("Ready").contains("shop"), "{}", guard.message("Ready"));
    scene.guard("shop").await?.expect("Ready", "True", "Accepted")?;
    scene.kubectl(&["delete", "dg", "shop", "--timeout=10s"]).await?;
    let guard =
        scene.until_of("second", "the second guard to take over", |guard| guard.status("Ready") == "True").await?;
    guard.expect("Stalled", "False", "Accepted")?;
    scene.deployment().await?.untouched(1)
}
