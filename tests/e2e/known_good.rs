//! What is gone back to: the newest revision that proved good, also when the workload's own history has lost it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::wait_for;
use testbed::shop::Shop;

use crate::scene::{Guard, Scene};

const KEPT: [&str; 3] = ["controllerrevisions", "-l", "deploymentguard.dev/template"];

/// A release that all pods get at once, of a Deployment without any history.
fn forgetful(scene: &Scene) -> Shop {
    scene.shop().rolling("100%", "0").with_spec(&json!({"revisionHistoryLimit": 0}))
}

async fn kept(scene: &Scene) -> Result<Vec<Value>> {
    Ok(scene.get(&KEPT).await?["items"].as_array().cloned().unwrap_or_default())
}

fn image_of(kept: &Value) -> &str {
    kept["data"]["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or("")
}

/// Waits until the ReplicaSet of a revision is gone.
async fn forgotten(scene: &Scene, revision: &str) -> Result<()> {
    let look = async || {
        let label = format!("pod-template-hash={revision}");
        let sets = scene.get(&["replicasets", "-l", &label]).await.map_err(|error| format!("{error:#}"))?;
        if sets["items"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err("it is there".to_owned()) }
    };
    Ok(wait_for("the history to forget what served", Duration::from_mins(1), look).await?)
}

/// Nothing was ever judged, nothing is left in the history: the guard has kept it.
pub async fn without_any_history_a_release_is_undone_to_what_the_guard_kept(scene: Scene) -> Result<()> {
    scene.push(&forgetful(&scene)).await?;
    let before = scene.begin_with_deployed(json!({})).await?;
    ensure!(before.0["status"]["served"]["revision"] == before.revision(), "{}", before.0["status"]["served"]);
    let stored = scene.deployment().await?.0["spec"]["template"].clone();
    let object = kept(&scene).await?.pop().context("nothing is kept")?;
    ensure!(object["data"]["spec"]["template"]["spec"] == stored["spec"], "not as it was: {object}");

    scene.push(&forgetful(&scene).version("v2").fault("ERROR_RATE", "0.4")).await?;
    forgotten(&scene, before.revision()).await?;
    let guard = scene.undone(&before).await?;
    ensure!(guard.decided("toTrust") == "NeverJudged", "{}", guard.decision());
    let guard = scene.verified().await?;
    ensure!(guard.state() == "Serving", "{}", guard.line());
    let deployment = scene.deployment().await?;
    ensure!(deployment.0["spec"]["template"]["spec"] == stored["spec"], "not as it was: {}", deployment.0["spec"]);
    ensure!(deployment.generation() == 3, "not one undo: generation {}", deployment.generation());
    Ok(())
}

/// Bad releases may follow each other, and not each of them is undone.
pub async fn over_a_bad_release_that_nobody_undid_the_good_one_before_it_is_gone_back_to(scene: Scene) -> Result<()> {
    let shop = || scene.shop().with_spec(&json!({"revisionHistoryLimit": 1}));
    scene.push(&shop()).await?;
    let first = scene.begin_with_deployed(json!({})).await?;
    scene.push(&shop().version("v2")).await?;
    let good = scene
        .until("version 2 to prove good", |guard| guard.0["status"]["knownGood"][0]["template"].is_string())
        .await?;
    ensure!(good.0["status"]["knownGood"][0]["revision"] == good.revision(), "{}", good.0["status"]["knownGood"]);
    ensure!(good.revision() != first.revision(), "{}", good.line());

    mode(&scene, "Observe").await?;
    scene.push(&shop().version("v3").fault("ERROR_RATE", "0.4")).await?;
    let observed = scene.decided(&good).await?;
    ensure!(
        observed.decided("decision") == "ROLLBACK" && observed.decided("action") == "None",
        "{}",
        observed.decision()
    );
    ensure!(observed.decided("toRevision") == good.revision(), "{}", observed.decision());

    mode(&scene, "Enforce").await?;
    scene.push(&shop().version("v4").fault("ERROR_RATE", "0.5")).await?;
    forgotten(&scene, good.revision()).await?;
    let guard = scene.undone(&good).await?;
    ensure!(guard.decided("toTrust") == "Certified", "{}", guard.decision());
    ensure!(scene.deployment().await?.image() == "localhost/shop:v2", "{}", guard.decision());
    Ok(())
}

async fn mode(scene: &Scene, mode: &str) -> Result<()> {
    let patch = json!({"spec": {"mode": mode}}).to_string();
    scene.kubectl(&["patch", "dg", "shop", "--type=merge", "-p", &patch]).await?;
    Ok(())
}

/// A day on which nothing goes right.
pub async fn ten_bad_releases_in_a_row_are_each_undone_to_the_same_good_one(scene: Scene) -> Result<()> {
    let class = patient_class(&scene).await?;
    scene.push(&forgetful(&scene)).await?;
    let rollback = json!({"maxPerDay": 100, "cooldown": "0s"});
    let before = scene.begin_with_deployed(json!({"className": class, "rollback": rollback})).await?;
    let first = set_of(&scene, before.revision()).await?;
    for code in 1..=10 {
        // Ready for a moment, so that the rollout ends and the history goes.
        let bad = forgetful(&scene).version("v2").fault("EXIT_AFTER_S", "4").fault("EXIT_CODE", &code.to_string());
        scene.push(&bad).await?;
        let again = |guard: &Guard| guard.0["status"]["rollbacksToday"] == code && guard.state() == "Restoring";
        let guard = scene.until(&format!("undo {code}"), again).await?;
        ensure!(guard.decided("toRevision") == before.revision(), "{}", guard.decision());
        ensure!(scene.deployment().await?.image() == "localhost/shop:v1", "undo {code}");
    }
    scene.verified().await?;
    let kept = kept(&scene).await?;
    ensure!(kept.len() == 1 && image_of(&kept[0]) == "localhost/shop:v1", "what is bad was kept: {kept:?}");
    let deployment = scene.deployment().await?;
    ensure!(deployment.generation() == 21, "not ten pushes and ten undos: generation {}", deployment.generation());
    ensure!(deployment.env().is_empty(), "{:?}", deployment.env());
    ensure!(set_of(&scene, before.revision()).await? != first, "the history never forgot what served");
    Ok(())
}

/// The uid of a revision's ReplicaSet.
async fn set_of(scene: &Scene, revision: &str) -> Result<Value> {
    let sets = scene.get(&["replicasets", "-l", &format!("pod-template-hash={revision}")]).await?;
    Ok(sets["items"][0]["metadata"]["uid"].clone())
}

/// The default class with a storm breaker that lets ten undos pass.
async fn patient_class(scene: &Scene) -> Result<String> {
    let default: Value =
        serde_json::from_str(&scene.cluster.kubectl(&["get", "gclass", "default", "-o", "json"]).await?)?;
    let name = format!("patient-{}", scene.namespace);
    let mut spec = default["spec"].clone();
    spec["stormBreaker"] = json!({"undos": 100, "within": "10m"});
    let class = json!({
        "apiVersion": default["apiVersion"], "kind": "GuardClass", "metadata": {"name": name}, "spec": spec,
    });
    scene.cluster.apply(&class.to_string()).await?;
    Ok(name)
}

/// Owner references do it, and they name the guard alone.
pub async fn what_is_kept_goes_with_the_guard_and_nothing_else_does(scene: Scene) -> Result<()> {
    let before = scene.begin(json!({})).await?;
    let ours = kept(&scene).await?.pop().context("nothing is kept")?;
    let owners = ours["metadata"]["ownerReferences"].as_array().context("nobody owns it")?;
    ensure!(owners.len() == 1 && owners[0]["uid"] == before.0["metadata"]["uid"], "{owners:?}");
    // Somebody else's, labelled like ours.
    let mut stranger = ours.clone();
    stranger["metadata"] = json!({
        "name": "stranger", "namespace": scene.namespace, "labels": ours["metadata"]["labels"],
    });
    scene.cluster.apply(&stranger.to_string()).await?;
    let spec = scene.deployment().await?.0["spec"].clone();
    scene.kubectl(&["delete", "dg", "shop", "--timeout=10s"]).await.context("a guard must never block its deletion")?;
    let look = async || {
        let left = kept(&scene).await.map_err(|error| format!("{error:#}"))?;
        let names: Vec<_> = left.iter().map(|kept| kept["metadata"]["name"].to_string()).collect();
        if names == ["\"stranger\""] { Ok(()) } else { Err(format!("{names:?}")) }
    };
    wait_for("what is kept to go with the guard", Duration::from_secs(100), look).await?;
    let after = scene.deployment().await?;
    ensure!(after.0["spec"] == spec, "the workload changed");
    after.untouched(1)
}

/// A dry run sees no quota: the old pods are refused once the bad ones are gone.
pub async fn an_undo_whose_pods_a_quota_keeps_out_times_out_and_says_so(scene: Scene) -> Result<()> {
    let strategy = json!({"strategy": {"type": "Recreate"}, "progressDeadlineSeconds": 30});
    let first = scene.shop().with_spec(&strategy);
    scene.push(&first).await?;
    first.rolled_out(&scene.cluster, Duration::from_secs(90)).await?;
    let hurried = json!({"rollback": {"verifyTimeout": "30s"}});
    scene.apply_guard("shop", hurried).await?;
    let before = scene.until("the guard to see version 1", |guard| guard.state() == "Serving").await?;
    scene.push(&first.clone().version("v2").fault("EXIT_AFTER_S", "0.5")).await?;
    let bad = async || {
        let pods = scene.get(&["pods", "-l", "app=shop"]).await.map_err(|error| format!("{error:#}"))?;
        let all = pods["items"].as_array().cloned().unwrap_or_default();
        let new = |pod: &Value| pod["metadata"]["labels"]["pod-template-hash"] != before.revision();
        if all.len() == 2 && all.iter().all(new) { Ok(()) } else { Err(format!("{} pods", all.len())) }
    };
    wait_for("the bad pods", Duration::from_secs(60), bad).await?;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": scene.namespace}, "spec": {"hard": {"pods": "0"}}});
    scene.cluster.apply(&quota.to_string()).await?;
    let guard =
        scene.until("the end of the verification", |guard| guard.reason("RolledBack") == "RollbackTimedOut").await?;
    guard.expect("Stalled", "True", "RollbackTimedOut")?;
    ensure!(guard.message("RolledBack").contains("exceeded quota"), "{}", guard.message("RolledBack"));
    ensure!(guard.0["status"]["rollbacksToday"] == 1, "{}", guard.line());
    Ok(())
}
