//! At most one undo, whatever dies when: an operator with fail points dies at each step of an undo, one after the other.
//!
//! Each story names its fail points. The operator ends the moment it comes to one that it did not die at before; a fresh
//! pod goes on from what status says.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::images::{FAILPOINTS_IMAGE, OPERATOR_IMAGE, failpoints_archive};
use testbed::shop::Kind;

use crate::kinds;
use crate::operator_faults::kill;
use crate::scene::{Guard, Scene};
use crate::world;

/// Each death costs the time that the Lease of the dead takes to expire, and a stuck set is given 30 s to move by itself.
const EACH: Duration = Duration::from_secs(75);

/// From the verdict to the patch.
const BEFORE: &[&str] = &["before-intent", "after-intent", "before-dry-run", "before-patch"];
/// From the patch to the hand-back and the record.
const BETWEEN: &[&str] = &["after-patch", "before-hand-back", "after-hand-back", "before-undo-is-recorded"];
/// From the record to the end of the verification.
const AFTER: &[&str] = &["before-verification", "before-verification-is-recorded"];
/// Around the pod that a StatefulSet waits for.
const FREEING: &[&str] = &["before-stuck-pod-is-deleted", "after-stuck-pod-is-deleted"];
/// Around a person.
const APPROVED: &[&str] = &["before-approval-is-asked", "after-approval-is-read", "after-intent"];

pub async fn an_operator_that_dies_at_each_step_before_the_patch_undoes_once(scene: Scene) -> Result<()> {
    story(scene, "Enforce", BEFORE).await
}

pub async fn an_operator_that_dies_at_each_step_after_the_patch_undoes_once(scene: Scene) -> Result<()> {
    story(scene, "Enforce", BETWEEN).await
}

pub async fn an_operator_that_dies_at_each_step_of_the_verification_undoes_once(scene: Scene) -> Result<()> {
    story(scene, "Enforce", AFTER).await
}

pub async fn an_operator_that_dies_around_an_approval_asks_once_and_undoes_once(scene: Scene) -> Result<()> {
    story(scene, "Approve", APPROVED).await
}

/// The pod that is not Ready goes once; a pod of the good revision that has its name afterwards stays.
pub async fn an_operator_that_dies_around_a_stuck_pod_frees_the_set_once(scene: Scene) -> Result<()> {
    // It takes the place of the Deployment that every test of this list begins with.
    scene.kubectl(&["delete", "dg/shop", "deployment/shop", "--cascade=foreground", "--timeout=60s"]).await?;
    let first = kinds::shop(&scene, Kind::StatefulSet);
    let before = kinds::serving(&scene, &first, json!({})).await?;
    with_fail_points(&scene, FREEING, async |marks| {
        scene.push(&kinds::crashing(&first)).await?;
        died_at_each(&scene, FREEING, marks).await?;
        kinds::undone(&scene, Kind::StatefulSet, &before).await?;
        kinds::verified(&scene).await?;
        kinds::serves(&scene, "v1", 3).await
    })
    .await
}

async fn story(scene: Scene, mode: &str, points: &[&str]) -> Result<()> {
    scene.apply_guard("shop", json!({"mode": mode})).await?;
    let before = scene.until("the guard to follow its spec", |guard| guard.status("Ready") == "True").await?;
    with_fail_points(&scene, points, async |marks| {
        scene.push(&scene.bad()).await?;
        died_at_each(&scene, points, marks).await?;
        scene.until("the verified undo", |guard| guard.reason("RolledBack") == "RollbackSucceeded").await?;
        complete(&scene, &before).await
    })
    .await
}

/// Plays this with an operator that dies at these points, and has the ordinary one back afterwards, whatever came out.
async fn with_fail_points(scene: &Scene, points: &[&str], play: impl AsyncFnOnce(&Path) -> Result<()>) -> Result<()> {
    let turn = scene.my_turn().await;
    let marks = testbed::operator::recordings()?.join(format!("failpoints-{}", scene.namespace));
    let result = match prepare(scene, points, &marks).await {
        Ok(()) => play(&marks).await,
        Err(error) => Err(error),
    };
    let mended = install(scene, OPERATOR_IMAGE, &[], &marks).await;
    drop(turn);
    result.and(mended)
}

async fn prepare(scene: &Scene, points: &[&str], marks: &Path) -> Result<()> {
    scene.cluster.import_image(&failpoints_archive()?).await.context("`testbed images --failpoints` builds it")?;
    std::fs::create_dir_all(marks)?;
    std::fs::set_permissions(marks, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    install(scene, FAILPOINTS_IMAGE, points, marks).await
}

/// The operator with this image, dying at these points.
async fn install(scene: &Scene, image: &str, points: &[&str], marks: &Path) -> Result<()> {
    let folder = marks.file_name().context("a folder")?.to_string_lossy();
    let patch = json!({"spec": {"template": {"spec": {"containers": [{
        "name": "operator", "image": image,
        "env": [
            {"name": "DEPLOYMENT_GUARD_FAILPOINT", "value": points.join(",")},
            {"name": "DEPLOYMENT_GUARD_FAILPOINT_DIR", "value": format!("/recordings/{folder}")},
        ],
    }]}}}});
    let patch = patch.to_string();
    scene.cluster.kubectl(&["-n", world::NAMESPACE, "patch", world::OPERATOR, "-p", &patch]).await?;
    world::operator_ready(&scene.cluster).await
}

/// Waits for death after death; a fresh pod spares the kubelet's ever longer pauses. Approves what is asked meanwhile.
async fn died_at_each(scene: &Scene, points: &[&str], marks: &Path) -> Result<()> {
    let mut seen = Vec::new();
    let mut deadline = Instant::now() + EACH;
    while seen.len() < points.len() {
        let fresh = points.iter().find(|point| !seen.contains(*point) && marks.join(point).exists());
        if let Some(point) = fresh {
            println!("    died at {point}");
            seen.push(*point);
            kill(scene).await?;
            deadline = Instant::now() + EACH;
            continue;
        }
        approve(scene).await?;
        ensure!(Instant::now() < deadline, "died at {seen:?} and nowhere else: {}", scene.guard("shop").await?.line());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn approve(scene: &Scene) -> Result<()> {
    let guard = scene.guard("shop").await?;
    let Some(decision) = guard.0["status"]["pendingAction"]["decision"].as_str() else { return Ok(()) };
    let me = scene.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]).await?;
    let answer = format!("deploymentguard.dev/approve={decision} by {}", me.trim());
    scene.kubectl(&["annotate", "--overwrite", "dg/shop", &answer]).await?;
    Ok(())
}

/// One undo, one decision, ownership given back, nothing left open.
async fn complete(scene: &Scene, before: &Guard) -> Result<()> {
    let guard = scene.undone(before).await?;
    let status = &guard.0["status"];
    ensure!(status["undo"].is_null() && status["pendingAction"].is_null(), "something is still open: {status}");
    ensure!(guard.decided("actionReason") == "RollbackSucceeded", "{}", guard.decision());
    ensure!(guard.decision()["durations"]["undoToRestored"].is_string(), "{}", guard.decision());
    ensure!(status["badRevisions"].as_array().is_some_and(|bad| bad.len() == 1), "{}", status["badRevisions"]);
    let deployment = scene.deployment().await?;
    ensure!(deployment.generation() == 3, "not one undo: generation {}", deployment.generation());
    ensure!(deployment.image() == "localhost/shop:v1", "{}", deployment.image());
    let fields = deployment.0["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let ours = fields.iter().find(|entry| {
        entry["manager"] == "deployment-guard/undo" && !entry["fieldsV1"]["f:spec"]["f:template"].is_null()
    });
    ensure!(ours.is_none(), "fields of the template are still ours: {ours:?}");
    Ok(())
}
