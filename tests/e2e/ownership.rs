//! After an undo the workload is its owner's again: the next release works, whichever way it is applied.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::wait_for;
use testbed::shop::Shop;

use crate::scene::Scene;

/// Versions 1 to 3: `OLD` only in the first, `NEW` only in the second, which fails.
fn versions(scene: &Scene) -> [Shop; 3] {
    let one = scene.shop().fault("KEPT", "1").fault("OLD", "1");
    let two = scene.bad().fault("KEPT", "2").fault("NEW", "2");
    let three = scene.shop().version("v3").fault("KEPT", "3");
    [one, two, three]
}

async fn apply_server_side(scene: &Scene, shop: &Shop) -> Result<()> {
    let apply = ["apply", "--server-side", "--field-manager=platform", "-f", "-"];
    scene.kubectl_with(&apply, &shop.workload().to_string()).await?;
    Ok(())
}

/// Waits until no field of the template belongs to an undo.
pub async fn handed_back(scene: &Scene) -> Result<()> {
    let look = async || {
        let deployment = scene.deployment().await.map_err(|error| format!("{error:#}"))?;
        let entries = deployment.0["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let ours = |entry: &Value| {
            entry["manager"] == "deployment-guard/undo" && !entry["fieldsV1"]["f:spec"]["f:template"].is_null()
        };
        match entries.into_iter().find(ours) {
            None => Ok(()),
            Some(entry) => Err(entry["fieldsV1"].to_string()),
        }
    };
    wait_for("the ownership to be handed back", Duration::from_secs(20), look).await?;
    Ok(())
}

/// What a platform team with server-side apply lives with.
pub async fn after_an_undo_server_side_apply_has_no_conflict_and_removes_what_only_the_old_version_had(
    scene: Scene,
) -> Result<()> {
    let [one, two, three] = versions(&scene);
    scene.cluster.kubectl(&["create", "namespace", &scene.namespace]).await?;
    scene.cluster.apply(&one.service().to_string()).await?;
    apply_server_side(&scene, &one).await?;
    let before = scene.begin_with_deployed(json!({})).await?;
    apply_server_side(&scene, &two).await?;
    let guard = scene.undone(&before).await?;
    let deployment = scene.deployment().await?;
    ensure!(deployment.env() == ["KEPT", "OLD"], "restored environment: {:?}", deployment.env());
    ensure!(guard.decision()["onlyInRestored"].is_null(), "server-side apply removes it: {}", guard.decision());
    handed_back(&scene).await?;
    // Taking a field back changes no spec: it starts no rollout.
    ensure!(scene.deployment().await?.generation() == 3, "generation {}", scene.deployment().await?.generation());
    apply_server_side(&scene, &three).await.context("the release after the undo")?;
    let deployment = scene.deployment().await?;
    ensure!(deployment.image() == "localhost/shop:v3", "{}", deployment.image());
    ensure!(deployment.env() == ["KEPT"], "environment of version 3: {:?}", deployment.env());
    Ok(())
}

/// Client-side apply removes what it applied last; what it cannot know of stands in the record.
pub async fn after_an_undo_client_side_apply_has_no_conflict_and_the_record_says_what_stays(
    scene: Scene,
) -> Result<()> {
    let [one, two, three] = versions(&scene);
    scene.push(&one).await?;
    let before = scene.begin_with_deployed(json!({})).await?;
    scene.push(&two).await?;
    let guard = scene.undone(&before).await?;
    let stays = guard.decision()["onlyInRestored"].to_string();
    ensure!(stays.contains("OLD") && !stays.contains("KEPT") && !stays.contains("NEW"), "onlyInRestored: {stays}");
    handed_back(&scene).await?;
    scene.push(&three).await.context("the release after the undo")?;
    let deployment = scene.deployment().await?;
    ensure!(deployment.image() == "localhost/shop:v3", "{}", deployment.image());
    let mut env = deployment.env();
    env.sort_unstable();
    ensure!(env == ["KEPT", "OLD"], "as the record says, OLD stays and nothing else: {env:?}");
    Ok(())
}
