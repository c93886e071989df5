//! Workloads that something else applies: Flux, Helm. Recommended, undone and never fought, or suspended and given back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::wait_for;
use testbed::shop::Shop;

use crate::git::{Git, NAME};
use crate::helm::Releases;
use crate::operator_faults::kill;
use crate::scene::{Deployment, Guard, PATIENCE, Scene};
use crate::world;

const MARKER: &str = "deploymentguard.dev/suspended-sync";
const FLUX_RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";
/// Long enough for Flux to apply three times.
const SEVERAL_SYNCS: Duration = Duration::from_secs(13);

/// What an annotation of the workload says.
fn annotation<'a>(deployment: &'a Deployment, key: &str) -> &'a str {
    deployment.0["metadata"]["annotations"][key].as_str().unwrap_or("")
}

/// The notes of events with a reason, on the workload.
pub async fn notes(scene: &Scene, reason: &str) -> Result<Vec<String>> {
    let events = scene.get(&["events.events.k8s.io"]).await?;
    let all = events["items"].as_array().cloned().unwrap_or_default();
    let about = |event: &&Value| event["reason"] == reason && event["regarding"]["kind"] == "Deployment";
    Ok(all.iter().filter(about).map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect())
}

/// Version 1 from Git, with traffic and a guard that has seen it.
async fn begin(scene: &Scene, rollback: Value) -> Result<(Git, Guard)> {
    let git = Git::with(scene, &scene.shop()).await?;
    let guard = scene.begin_with_deployed(json!({"rollback": rollback})).await?;
    Ok((git, guard))
}

/// The default: what Flux applies is not touched; people are told what to type.
pub async fn a_bad_release_from_flux_is_recommended_with_its_commands_and_not_touched(scene: Scene) -> Result<()> {
    let (git, before) = begin(&scene, json!({})).await?;
    git.push(&scene.bad(), "main@sha1:2").await?;
    let guard = scene.decided(&before).await?;
    let decision = guard.decision();
    ensure!(guard.decided("decision") == "ROLLBACK" && guard.decided("action") == "Recommended", "{decision}");
    ensure!(guard.decided("clampedBy") == "git-ops", "{decision}");
    let guard = scene.until("the conditions", |guard| guard.reason("Healthy") != "Analyzing").await?;
    guard.expect("GitOpsManaged", "True", "AppliedByGitOps")?;
    guard.expect("Stalled", "True", "SuppressedByGitOps")?;
    let named = format!("{}/{NAME}", scene.namespace);
    ensure!(guard.message("GitOpsManaged").contains(&named), "{}", guard.message("GitOpsManaged"));
    let commands = decision["commands"].to_string();
    for command in [
        format!("flux reconcile kustomization {NAME} -n {} --with-source", scene.namespace),
        format!("flux suspend kustomization {NAME} -n {}", scene.namespace),
        "rollout undo deployment/shop --to-revision=1".to_owned(),
    ] {
        ensure!(commands.contains(&command), "not recommended: {command}; but {commands}");
        let told = notes(&scene, "GitOpsConflict").await?;
        ensure!(told.iter().any(|note| note.contains(&command)), "no event says {command}: {told:?}");
    }
    tokio::time::sleep(SEVERAL_SYNCS).await;
    scene.deployment().await?.untouched(2)
}

/// `Rollback` vouches for Flux to leave the field alone. It does not, which is said once and not fought.
pub async fn an_undo_that_flux_reverts_is_said_with_its_name_and_not_repeated(scene: Scene) -> Result<()> {
    let (git, _) = begin(&scene, json!({"gitOps": "Rollback"})).await?;
    git.push(&scene.bad(), "main@sha1:2").await?;
    let guard = scene.until("the return", |guard| guard.reason("RolledBack") == "RollbackReverted").await?;
    ensure!(guard.message("RolledBack").contains("kustomize-controller"), "{}", guard.message("RolledBack"));
    guard.expect("Stalled", "True", "RollbackReverted")?;
    // Release, bad release, undo, what Flux made of it: and no more, however often Flux applies.
    ensure!(scene.deployment().await?.generation() == 4, "generation {}", scene.deployment().await?.generation());
    tokio::time::sleep(SEVERAL_SYNCS).await;
    let deployment = scene.deployment().await?;
    ensure!(deployment.generation() == 4 && deployment.image() == "localhost/shop:v2", "it was fought over");
    let guard = scene.guard("shop").await?;
    ensure!(guard.0["status"]["rollbacksToday"] == 1, "{}", guard.0["status"]["rollbackTimes"]);
    ensure!(annotation(&deployment, MARKER).is_empty(), "suspended though nobody asked for it");
    Ok(())
}

/// What a suspension looks like while it lasts.
async fn suspended(scene: &Scene) -> Result<Value> {
    let deployment = scene.deployment().await?;
    ensure!(annotation(&deployment, FLUX_RECONCILE) == "disabled", "Flux was not told to leave it alone");
    let marker: Value = serde_json::from_str(annotation(&deployment, MARKER)).context("no marker")?;
    ensure!(marker["decision"] == deployment.last_rollback(), "{marker} is not of {}", deployment.last_rollback());
    Ok(marker)
}

async fn given_back(scene: &Scene, limit: Duration) -> Result<()> {
    let look = async || {
        let deployment = scene.deployment().await.map_err(|error| format!("{error:#}"))?;
        let left = [MARKER, FLUX_RECONCILE].map(|key| annotation(&deployment, key));
        if left.iter().all(|text| text.is_empty()) { Ok(()) } else { Err(format!("{left:?}")) }
    };
    wait_for("the sync to be given back", limit, look).await?;
    ensure!(!notes(scene, "SyncResumed").await?.is_empty(), "no event SyncResumed");
    Ok(())
}

/// `Suspend`: the undo lasts though Flux goes on, until Git has something better.
pub async fn with_its_sync_suspended_an_undo_lasts_until_git_has_a_new_revision(scene: Scene) -> Result<()> {
    let (git, before) = begin(&scene, json!({"gitOps": "Suspend", "suspendFor": "10m"})).await?;
    let subject = format!("--serviceaccount={}:deployment-guard", world::NAMESPACE);
    let resource = "--resource=kustomizations.kustomize.toolkit.fluxcd.io";
    scene.kubectl(&["create", "role", "guard-flux", "--verb=get", resource]).await?;
    scene.kubectl(&["create", "rolebinding", "guard-flux", "--role=guard-flux", &subject]).await?;
    git.push(&scene.bad(), "main@sha1:2").await?;
    scene.undone(&before).await?;
    let marker = suspended(&scene).await?;
    ensure!(marker["git"] == "main@sha1:2", "what Git held was not read: {marker}");
    let guard = scene.verified().await?;
    guard.expect("GitOpsManaged", "True", "SyncSuspended")?;
    let status = git.applied().await?;
    ensure!(status["lastAppliedRevision"] == "main@sha1:2", "Flux itself does not go on: {status}");
    // Release, bad release, the annotation (which counts for Deployments), the undo: and no more.
    ensure!(scene.deployment().await?.generation() == 4, "generation {}", scene.deployment().await?.generation());

    git.push(&scene.shop().version("v3"), "main@sha1:3").await?;
    given_back(&scene, Duration::from_secs(30)).await?;
    let look = async || {
        let deployment = scene.deployment().await.map_err(|error| format!("{error:#}"))?;
        if deployment.image() == "localhost/shop:v3" { Ok(()) } else { Err(deployment.image().to_owned()) }
    };
    wait_for("the fix from Git", Duration::from_secs(30), look).await?;
    let guard = scene.until("the verdict on it", |guard| guard.reason("Healthy") == "AnalysisPassed").await?;
    guard.expect("GitOpsManaged", "True", "AppliedByGitOps")
}

/// Whoever suspended it is dead, and the guard is deleted: it is given back all the same, when its time is up.
pub async fn a_suspended_sync_is_given_back_in_time_though_operator_and_guard_are_gone(scene: Scene) -> Result<()> {
    let git = Git::with(&scene, &scene.shop()).await?;
    let rollback = json!({"gitOps": "Suspend", "suspendFor": "60s"});
    scene.apply_guard("shop", json!({"rollback": rollback, "analysis": {"onInconclusive": "Hold"}})).await?;
    let before = scene.guard("shop").await?;
    let turn = scene.my_turn().await;
    git.push(&scene.bad(), "main@sha1:2").await?;
    scene.undone(&before).await?;
    let marker = suspended(&scene).await?;
    ensure!(marker["git"].is_null(), "read without the right: {marker}");
    scene.kubectl(&["delete", "dg", "shop", "--wait=true"]).await?;
    kill(&scene).await?;
    let ready = world::operator_ready(&scene.cluster).await;
    drop(turn);
    ready?;
    suspended(&scene).await.context("given back too early")?;
    given_back(&scene, PATIENCE).await?;
    // Git still holds the bad version, and nobody guards the workload any more.
    let look = async || {
        let deployment = scene.deployment().await.map_err(|error| format!("{error:#}"))?;
        if deployment.image() == "localhost/shop:v2" { Ok(()) } else { Err(deployment.image().to_owned()) }
    };
    wait_for("Flux to apply what Git holds", Duration::from_secs(30), look).await?;
    Ok(())
}

/// Without the right to suspend, the undo would be reverted: it is not made, in the server's words.
pub async fn what_may_not_be_suspended_is_not_undone_and_the_server_says_why(scene: Scene) -> Result<()> {
    scene.shop().deploy(&scene.cluster).await?;
    let labels = ["label", "deployment", "shop", "helm.toolkit.fluxcd.io/name=shop"];
    scene.kubectl(&labels).await?;
    scene.kubectl(&["label", "deployment", "shop", "helm.toolkit.fluxcd.io/namespace=flux-system"]).await?;
    let before = scene.begin_with_deployed(json!({"rollback": {"gitOps": "Suspend"}})).await?;
    scene.push(&scene.bad()).await?;
    let clamped =
        |guard: &Guard| guard.decided("clampedBy") == "git-ops" && guard.decided("id") != before.decided("id");
    let guard = scene.until("the refusal", clamped).await?;
    let why = guard.decided("actionReason");
    ensure!(why.starts_with("SuppressedByGitOps") && why.contains("forbidden"), "{why}");
    ensure!(why.contains("helmreleases"), "it does not say what right is missing: {why}");
    scene.deployment().await?.untouched(2)
}

/// What the chart holds.
fn objects(shop: &Shop) -> [Value; 2] {
    [shop.workload(), shop.service()]
}

/// Version 1 and a bad version 2 by Helm, undone.
async fn undone_under_helm(scene: &Scene) -> Result<Releases> {
    let helm = Releases::new(scene).await?;
    helm.release("install", &objects(&scene.shop().fault("OLD", "1")), &[]).await?;
    let before = scene.begin_with_deployed(json!({})).await?;
    before.expect("GitOpsManaged", "False", "NotManaged")?;
    helm.release("upgrade", &objects(&scene.bad()), &[]).await?;
    scene.undone(&before).await?;
    let deployment = scene.deployment().await?;
    ensure!(deployment.generation() == 3 && deployment.env() == ["OLD"], "restored: {:?}", deployment.env());
    let started = notes(scene, "RollbackStarted").await?;
    let line = format!("helm rollback shop -n {}", scene.namespace);
    ensure!(started.iter().any(|note| note.contains(&line)), "no event says {line}: {started:?}");
    crate::ownership::handed_back(scene).await?;
    Ok(helm)
}

/// Helm knows nothing of the undo: it takes the bad release for deployed, and the next upgrade works.
pub async fn after_an_undo_the_next_helm_upgrade_succeeds(scene: Scene) -> Result<()> {
    let helm = undone_under_helm(&scene).await?;
    let history = helm.history().await?;
    ensure!(history == ["superseded: Install complete", "deployed: Upgrade complete"], "{history:?}");
    helm.release("upgrade", &objects(&scene.shop().version("v3")), &[]).await.context("the release after the undo")?;
    let deployment = scene.deployment().await?;
    ensure!(deployment.image() == "localhost/shop:v3", "{}", deployment.image());
    ensure!(deployment.env().is_empty(), "left over from before: {:?}", deployment.env());
    let history = helm.history().await?;
    ensure!(history.len() == 3 && history[2] == "deployed: Upgrade complete", "{history:?}");
    Ok(())
}

/// `helm rollback` puts Helm's record right and changes nothing in the cluster, because the undo has done that already.
pub async fn after_an_undo_helm_rollback_changes_helms_record_alone(scene: Scene) -> Result<()> {
    let helm = undone_under_helm(&scene).await?;
    helm.rollback().await?;
    let deployment = scene.deployment().await?;
    ensure!(deployment.generation() == 3 && deployment.env() == ["OLD"], "helm rollback changed the workload");
    let history = helm.history().await?;
    ensure!(history.len() == 3 && history[2] == "deployed: Rollback to 1", "{history:?}");
    helm.release("upgrade", &objects(&scene.shop().version("v3")), &[])
        .await
        .context("the release after the rollback")?;
    let deployment = scene.deployment().await?;
    ensure!(deployment.image() == "localhost/shop:v3" && deployment.env().is_empty(), "{:?}", deployment.env());
    Ok(())
}
