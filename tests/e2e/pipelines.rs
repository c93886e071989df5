//! Tools that wait for a release to be well, and ask the guard as they ask any object: kstatus in Helm and in Flux.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::wait_for;
use testbed::shop::Shop;

use crate::git::{Git, NAME};
use crate::helm::Releases;
use crate::scene::{PATIENCE, Scene};

const WAITING: &[&str] = &["--wait", "--timeout", "85s"];

/// What a chart with a guard in it holds.
fn objects(scene: &Scene, shop: &Shop, spec: Value) -> Vec<Value> {
    vec![shop.workload(), shop.service(), scene.guard_of("shop", spec)]
}

/// A guard in the chart: Helm waits until its rollout is judged, and until an undo is verified.
pub async fn helm_waits_for_the_verdict_of_a_guard_in_the_chart(scene: Scene) -> Result<()> {
    let helm = Releases::new(&scene).await?;
    let spec = || json!({"rollback": {"cooldown": "0s"}});
    helm.release("install", &objects(&scene, &scene.shop(), spec()), WAITING).await?;
    scene.load("shop").start(&scene.cluster).await?;
    let first = scene.until("the guard to see version 1", |guard| guard.state() == "Serving").await?;

    helm.release("upgrade", &objects(&scene, &scene.shop().version("v2"), spec()), WAITING).await?;
    let good = scene.guard("shop").await?;
    ensure!(good.revision() != first.revision() && good.status("Reconciling") == "False", "{}", good.line());
    ensure!(good.decided("decision") == "CONTINUE", "Helm did not wait for the verdict: {}", good.decision());

    // The cluster is well again, which is all that Helm is told; whether the release is, says `wait`.
    let bad = scene.bad().version("v3");
    helm.release("upgrade", &objects(&scene, &bad, spec()), WAITING).await?;
    let undone = scene.guard("shop").await?;
    ensure!(undone.revision() == good.revision(), "Helm did not wait for the undo: {}", undone.line());
    undone.expect("RolledBack", "True", "RollbackSucceeded")
}

/// What only a person can mend fails the release, with the guard's name.
pub async fn helm_names_a_guard_that_is_stuck(scene: Scene) -> Result<()> {
    let helm = Releases::new(&scene).await?;
    let spec = json!({"targetRef": {"name": "nobody"}});
    let refused = helm.release("install", &objects(&scene, &scene.shop(), spec), WAITING).await;
    let said = format!("{:#}", refused.err().context("Helm takes a guard without a target for well")?);
    ensure!(said.contains("DeploymentGuard/") && said.contains("/shop"), "{said}");
    ensure!(said.contains("Failed") || said.contains("does not exist"), "{said}");
    Ok(())
}

/// Workload and guard among Flux's health checks: a Kustomization is Ready when the verdict is there, and is not when it
/// is bad. The guard alone would not do: it knows of a release a moment after Flux has applied it.
pub async fn a_health_check_of_flux_has_the_verdict_of_the_guard(scene: Scene) -> Result<()> {
    let git = Git::with(&scene, &scene.shop()).await?;
    let before = scene.begin_with_deployed(json!({})).await?;
    let kinds = [("apps/v1", "Deployment"), ("deploymentguard.dev/v1alpha1", "DeploymentGuard")];
    let checks = kinds.map(
        |(version, kind)| json!({"apiVersion": version, "kind": kind, "name": "shop", "namespace": scene.namespace}),
    );
    let check = json!({"spec": {"timeout": "80s", "healthChecks": checks}});
    scene.kubectl(&["patch", "kustomization", NAME, "--type=merge", "-p", &check.to_string()]).await?;
    git.push(&scene.shop().version("v2"), "main@sha1:2").await?;
    // Flux's word comes first: at that moment the guard must have had its own.
    ready(&git, "True", "main@sha1:2").await?;
    let good = scene.guard("shop").await?;
    ensure!(good.revision() != before.revision() && good.status("Reconciling") == "False", "{}", good.line());

    git.push(&scene.bad().version("v3"), "main@sha1:3").await?;
    let said = ready(&git, "False", "main@sha1:3").await?;
    ensure!(said["reason"] == "HealthCheckFailed", "{said}");
    ensure!(said["message"].as_str().is_some_and(|text| text.contains("DeploymentGuard/")), "{said}");
    scene.guard("shop").await?.expect("Stalled", "True", "SuppressedByGitOps")
}

/// Waits until Flux says so about what it attempted last; its condition `Ready`.
async fn ready(git: &Git, status: &str, revision: &str) -> Result<Value> {
    let look = async || {
        let found = git.applied().await.map_err(|error| format!("{error:#}"))?;
        let conditions = found["conditions"].as_array().into_iter().flatten();
        let ready = conditions.clone().find(|one| one["type"] == "Ready").cloned().unwrap_or_default();
        let fits = found["lastAttemptedRevision"] == revision && ready["status"] == status;
        if fits { Ok(ready) } else { Err(found["conditions"].to_string()) }
    };
    Ok(wait_for(&format!("Flux to say Ready={status} of {revision}"), PATIENCE, look).await?)
}
