//! The operator dies at the worst moments. Each test begins with traffic and a guard that holds when in doubt.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::wait_for;

use crate::scene::{Guard, LAST_ROLLBACK, Scene};
use crate::world;

/// The operator dies at once.
pub async fn kill(scene: &Scene) -> Result<()> {
    let pods = [
        "-n",
        world::NAMESPACE,
        "delete",
        "pod",
        "-l",
        "app.kubernetes.io/name=deployment-guard",
        "--grace-period=0",
        "--force",
    ];
    scene.cluster.kubectl(&pods).await?;
    Ok(())
}

async fn scale(scene: &Scene, replicas: u32) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    scene.cluster.kubectl(&["-n", world::NAMESPACE, "scale", world::OPERATOR, &replicas]).await?;
    Ok(())
}

/// In the analysis, at the undo, right after it, and while it is verified.
pub async fn an_operator_killed_again_and_again_undoes_a_bad_release_exactly_once(scene: Scene) -> Result<()> {
    let before = scene.guard("shop").await?;
    let turn = scene.my_turn().await;
    scene.push(&scene.bad()).await?;
    scene.until("the analysis", |guard| guard.revision() != before.revision() && guard.state() == "Judging").await?;
    kill(&scene).await?;
    world::operator_ready(&scene.cluster).await?;
    scene.until("the intent or the undo", |guard| !guard.0["status"]["undo"].is_null()).await?;
    for _ in 0..2 {
        kill(&scene).await?;
        world::operator_ready(&scene.cluster).await?;
    }
    let result = scene.undone(&before).await;
    drop(turn);
    result?;
    let guard = scene.verified().await?;
    let deployment = scene.deployment().await?;
    ensure!(deployment.generation() == 3, "not one undo: generation {}", deployment.generation());
    ensure!(deployment.last_rollback() == guard.decided("id"), "the annotation does not name the decision");
    ensure!(guard.0["status"]["rollbacksToday"] == 1, "{}", guard.0["status"]["rollbackTimes"]);
    ensure!(deployment.image() == "localhost/shop:v1", "{}", deployment.image());
    Ok(())
}

/// An administrator took `patch` out of the role: said by name, while everything is still well.
pub async fn a_right_that_the_operator_lacks_is_named_before_a_release_needs_it(scene: Scene) -> Result<()> {
    let turn = scene.my_turn().await;
    let role = scene.get(&["clusterrole", "deployment-guard"]).await?;
    let mut weaker = role.clone();
    for rule in weaker["rules"].as_array_mut().context("rules")? {
        if rule["resources"].as_array().is_some_and(|resources| resources.contains(&json!("deployments"))) {
            rule["verbs"] = json!(["get", "list", "watch"]);
        }
    }
    let result = judged_without_right(&scene, &weaker).await;
    replace_rules(&scene, &role).await?;
    kill(&scene).await?;
    world::operator_ready(&scene.cluster).await?;
    drop(turn);
    result?;
    scene.until("the right to be there again", |guard| guard.status("Ready") == "True").await?;
    Ok(())
}

async fn judged_without_right(scene: &Scene, weaker: &Value) -> Result<()> {
    replace_rules(scene, weaker).await?;
    kill(scene).await?;
    world::operator_ready(&scene.cluster).await?;
    let guard = scene.until("the missing right", |guard| guard.reason("Ready") == "Forbidden").await?;
    guard.expect("Ready", "False", "Forbidden")?;
    let wanted = format!("may not patch deployments.apps in namespace {}", scene.namespace);
    ensure!(guard.message("Ready").contains(&wanted), "{}", guard.message("Ready"));
    Ok(())
}

async fn replace_rules(scene: &Scene, role: &Value) -> Result<()> {
    let patch = json!({"rules": role["rules"]}).to_string();
    scene.cluster.kubectl(&["patch", "clusterrole", "deployment-guard", "--type=merge", "-p", &patch]).await?;
    Ok(())
}

/// One operator died between intent and patch, another between patch and status.
pub async fn an_intent_left_by_a_dead_operator_is_finished_once_or_found_done(scene: Scene) -> Result<()> {
    let done = scene.shop_named("done").replicas(1);
    scene.push(&done).await?;
    scene.apply_guard("done", json!({})).await?;
    let before_done = scene.until_of("done", "the guard to see version 1", |guard| guard.state() == "Serving").await?;
    let before = scene.guard("shop").await?;

    let turn = scene.my_turn().await;
    scale(&scene, 0).await?;
    let prepared = leave_behind(&scene, &before, &before_done).await;
    scale(&scene, 1).await?;
    let generation = prepared?;
    world::operator_ready(&scene.cluster).await?;
    let finished = scene.until("the undo to be finished", |guard| guard.decided("action") == "RolledBack").await;
    drop(turn);
    finished?;
    let expected = [("shop", 3), ("done", generation)];
    for (name, generation) in expected {
        scene.until_of(name, "the undo to be known as done", |guard| guard.decided("action") == "RolledBack").await?;
        once(&scene, name, generation).await?;
    }
    for (name, generation) in expected {
        let guard = scene
            .until_of(name, "the verified undo", |guard| guard.reason("RolledBack") == "RollbackSucceeded")
            .await?;
        ensure!(guard.0["status"]["undo"].is_null(), "{name}: the intent is still there");
        once(&scene, name, generation).await?;
    }
    Ok(())
}

/// Checks that version 1 is back by one undo, the one of the intent.
async fn once(scene: &Scene, name: &str, generation: i64) -> Result<()> {
    let deployment = scene.deployment_named(name).await?;
    ensure!(deployment.generation() == generation, "{name}: generation {}, not {generation}", deployment.generation());
    ensure!(deployment.last_rollback() == decision_of(name), "{name}: annotated {}", deployment.last_rollback());
    ensure!(deployment.image() == "localhost/shop:v1", "{name}: {}", deployment.image());
    let status = scene.guard(name).await?.0["status"].take();
    ensure!(status["rollbacksToday"] == 1, "{name}: {}", status["rollbackTimes"]);
    Ok(())
}

fn decision_of(name: &str) -> String {
    format!("by-hand-{name}")
}

/// What two dead operators leave: one bad revision that still serves, and one that is undone already. Returns the
/// generation of the latter.
async fn leave_behind(scene: &Scene, before: &Guard, before_done: &Guard) -> Result<i64> {
    let pods = [
        "-n",
        world::NAMESPACE,
        "wait",
        "--for=delete",
        "pod",
        "-l",
        "app.kubernetes.io/name=deployment-guard",
        "--timeout=40s",
    ];
    scene.cluster.kubectl(&pods).await?;
    scene.push(&scene.bad()).await?;
    scene.push(&scene.shop_named("done").replicas(1).version("v2")).await?;
    let bad = revision_of(scene, "shop", before.revision()).await?;
    let bad_done = revision_of(scene, "done", before_done.revision()).await?;
    intent(scene, "shop", before.revision(), &bad).await?;
    intent(scene, "done", before_done.revision(), &bad_done).await?;
    scene.push(&scene.shop_named("done").replicas(1)).await?;
    let annotation = format!("{LAST_ROLLBACK}={}", decision_of("done"));
    scene.kubectl(&["annotate", "deployment/done", &annotation]).await?;
    Ok(scene.deployment_named("done").await?.generation())
}

/// The hash of the ReplicaSet that is not the known one.
async fn revision_of(scene: &Scene, name: &str, known: &str) -> Result<String> {
    let selector = format!("app={name}");
    let look = async || {
        let sets = scene.get(&["replicasets", "-l", &selector]).await.map_err(|error| format!("{error:#}"))?;
        let hashes = sets["items"].as_array().into_iter().flatten();
        let mut hashes = hashes.filter_map(|set| set["metadata"]["labels"]["pod-template-hash"].as_str());
        hashes.find(|hash| *hash != known).map(str::to_owned).ok_or_else(|| "only the known one".to_owned())
    };
    Ok(wait_for("the ReplicaSet of the bad version", Duration::from_secs(20), look).await?)
}

/// Writes an intent as the operator does, under its name.
async fn intent(scene: &Scene, name: &str, good: &str, bad: &str) -> Result<()> {
    let guard = scene.guard(name).await?.0;
    let now = jiff::Timestamp::now().to_string();
    let mut status = guard["status"].clone();
    let part: Value = json!({
        "revision": bad, "startedAt": now, "firstReadyAt": now, "baseline": good, "state": "Judging",
    });
    status["current"] = part;
    status["undo"] = json!({
        "decision": decision_of(name), "workloadUid": scene.deployment_named(name).await?.uid(),
        "fromRevision": bad, "toRevision": good, "intendedAt": now,
    });
    status["lastDecision"] = json!({
        "id": decision_of(name), "decision": "ROLLBACK", "reasoning": "", "decider": "seed-formula",
        "reason": "ScoreBelowThreshold", "metrics": {}, "fromRevision": bad, "toRevision": good,
        "action": "RollingBack", "time": now, "durations": {},
    });
    let whole = json!({
        "apiVersion": guard["apiVersion"], "kind": guard["kind"],
        "metadata": {"name": name, "namespace": scene.namespace}, "status": status,
    });
    let apply = [
        "apply",
        "--server-side",
        "--subresource=status",
        "--force-conflicts",
        "--field-manager=deployment-guard/status",
        "-f",
        "-",
    ];
    scene.kubectl_with(&apply, &whole.to_string()).await.context("the intent")?;
    Ok(())
}
