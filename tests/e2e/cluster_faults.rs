//! Parts of the cluster that are away for a while. Each test begins with traffic and a guard that holds when in doubt.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::cluster::Component;

use crate::scene::Scene;

/// A guard that cannot see neither acts nor praises; when it sees again it goes on.
pub async fn without_prometheus_a_good_release_is_neither_undone_nor_called_healthy(scene: Scene) -> Result<()> {
    let before = scene.guard("shop").await?;
    let turn = scene.my_turn().await;
    scene.cluster.stop(Component::Prometheus).await?;
    let blind = async {
        scene.push(&scene.shop().version("v2")).await?;
        let guard = scene.until("the loss to be named", |guard| guard.status("MetricsAvailable") == "False").await?;
        guard.expect("MetricsAvailable", "False", "PrometheusUnreachable")?;
        let guard = scene.decided(&before).await?;
        ensure!(guard.decided("decision") == "INCONCLUSIVE", "{}", guard.decision());
        guard.expect("Healthy", "Unknown", "PrometheusUnreachable")?;
        scene.deployment().await?.untouched(2)
    };
    let result = blind.await;
    scene.cluster.start(Component::Prometheus).await?;
    drop(turn);
    result?;
    let guard = scene.until("the metrics to be back", |guard| guard.status("MetricsAvailable") == "True").await?;
    ensure!(guard.decided("decision") != "ROLLBACK", "{}", guard.decision());
    let guard = scene.until("a verdict after all", |guard| guard.status("Healthy") == "True").await?;
    guard.expect("Healthy", "True", "AnalysisPassed")?;
    scene.deployment().await?.untouched(2)
}

/// The good release passes, the bad one is undone once, as if nothing had happened.
pub async fn a_restart_of_the_api_server_loses_no_verdict_and_causes_no_undo(scene: Scene) -> Result<()> {
    let good = "good";
    scene.push(&scene.shop_named(good)).await?;
    scene.apply_guard(good, json!({})).await?;
    scene.load(good).start(&scene.cluster).await?;
    let before = scene.guard("shop").await?;
    let first = scene.until_of(good, "the guard to see version 1", |guard| guard.state() == "Serving").await?;
    let turn = scene.my_turn().await;
    scene.push(&scene.bad()).await?;
    scene.push(&scene.shop_named(good).version("v2")).await?;
    for (name, known) in [("shop", before.revision()), (good, first.revision())] {
        scene.until_of(name, "the analysis", |guard| guard.revision() != known && guard.state() == "Judging").await?;
    }
    scene.cluster.restart(Component::ApiServer).await?;
    drop(turn);
    scene.undone(&before).await.context("the bad release")?;
    let generation = scene.deployment().await?.generation();
    ensure!(generation == 3, "not one undo: generation {generation}");
    let guard = scene.until_of(good, "the end of the window", |guard| !guard.decided("decision").is_empty()).await?;
    ensure!(guard.decided("decision") == "CONTINUE", "{}", guard.decision());
    guard.expect("Healthy", "True", "AnalysisPassed")?;
    scene.deployment_named(good).await?.untouched(2)
}
