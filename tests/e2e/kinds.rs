//! `StatefulSet`s and `DaemonSet`s: undone as Deployments are, and what is different about each.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::wait_for;
use testbed::shop::{Kind, Shop};

use crate::facts::REGISTRY;
use crate::scene::{Deployment, Guard, Scene};

/// 30 s for the set itself, a pod that takes its time to end, 30 s of Ready pods, and a busy machine.
const LONG: Duration = Duration::from_mins(4);

pub fn shop(scene: &Scene, kind: Kind) -> Shop {
    // A DaemonSet has one pod for the one node that it tolerates.
    scene.shop().kind(kind).replicas(if kind == Kind::StatefulSet { 3 } else { 1 })
}

/// The release that ends at once.
pub fn crashing(shop: &Shop) -> Shop {
    shop.clone().version("v2").fault("EXIT_AFTER_S", "0")
}

/// The workload now.
async fn workload(scene: &Scene, kind: Kind) -> Result<Deployment> {
    Ok(Deployment(scene.get(&[&kind.word().to_lowercase(), "shop", "--show-managed-fields"]).await?))
}

/// Name, uid, image and readiness of each pod of the shop that is not going.
async fn pods(scene: &Scene) -> Result<Vec<(String, String, String, bool)>> {
    let list = scene.get(&["pods", "-l", "app=shop"]).await?;
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let is_ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    let of = |pod: &Value| {
        let (name, uid) = (text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"]));
        (name, uid, text(&pod["spec"]["containers"][0]["image"]), is_ready(pod))
    };
    let all = list["items"].as_array().cloned().unwrap_or_default();
    let mut pods: Vec<_> = all.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).map(of).collect();
    pods.sort();
    Ok(pods)
}

async fn uid_of(scene: &Scene, name: &str) -> Result<String> {
    let pod = pods(scene).await?.into_iter().find(|pod| pod.0 == name).with_context(|| format!("no pod {name}"))?;
    Ok(pod.1)
}

/// Waits until every pod runs this version and is Ready; `kubectl rollout status` knows no `OnDelete`.
pub async fn serves(scene: &Scene, version: &str, count: usize) -> Result<()> {
    let look = async || {
        let pods = pods(scene).await.map_err(|error| format!("{error:#}"))?;
        let fine = pods.iter().filter(|pod| pod.3 && pod.2.ends_with(&format!(":{version}"))).count();
        if fine == count && pods.len() == count { Ok(()) } else { Err(format!("{pods:?}")) }
    };
    Ok(wait_for(&format!("{count} pods of {version}"), LONG, look).await?)
}

fn count(shop: &Shop) -> usize {
    if shop.kind == Kind::DaemonSet { 1 } else { usize::try_from(shop.replicas).unwrap_or(usize::MAX) }
}

async fn guarded(scene: &Scene, shop: &Shop, rollback: Value) -> Result<Guard> {
    serves(scene, &shop.version, count(shop)).await?;
    let analysis = json!({"window": "3m", "onInconclusive": "Hold"});
    let spec = json!({"targetRef": {"kind": shop.kind.word()}, "analysis": analysis, "rollback": rollback});
    scene.apply_guard("shop", spec).await?;
    scene.until("the guard to see version 1", |guard| guard.state() == "Serving").await
}

/// Version 1 serves, and its guard knows it.
pub async fn serving(scene: &Scene, shop: &Shop, rollback: Value) -> Result<Guard> {
    scene.push(shop).await?;
    guarded(scene, shop, rollback).await
}

/// Waits for the undo, and checks that it was made once and to the right revision.
pub async fn undone(scene: &Scene, kind: Kind, before: &Guard) -> Result<Guard> {
    let guard = scene.until("the undo", |guard| guard.decided("action") == "RolledBack").await?;
    let workload = workload(scene, kind).await?;
    ensure!(workload.last_rollback() == guard.decided("id"), "the annotation does not name the decision");
    ensure!(workload.generation() == 3, "not one undo: generation {}", workload.generation());
    ensure!(guard.revision() == before.revision(), "went to {}, not to {}", guard.revision(), before.revision());
    Ok(guard)
}

pub async fn verified(scene: &Scene) -> Result<Guard> {
    let look = async || {
        let guard = scene.guard("shop").await.map_err(|error| format!("{error:#}"))?;
        let done = guard.reason("RolledBack") != "RollbackStarted" && guard.state() != "Restoring";
        if done { Ok(guard) } else { Err(format!("{}: {}", guard.line(), guard.message("RolledBack"))) }
    };
    let guard: Guard = wait_for("the verified undo", LONG, look).await?;
    ensure!(guard.reason("RolledBack") == "RollbackSucceeded", "{}: {}", guard.line(), guard.message("RolledBack"));
    Ok(guard)
}

/// The pods about whose deletion the guard tells.
async fn deletions(scene: &Scene) -> Result<Vec<String>> {
    let events = scene.get(&["events", "--field-selector=reason=StuckPodDeleted"]).await?;
    let about_guard = |event: &&Value| event["involvedObject"]["kind"] == "DeploymentGuard";
    let all = events["items"].as_array().cloned().unwrap_or_default();
    Ok(all.iter().filter(about_guard).map(|event| event["message"].as_str().unwrap_or("").to_owned()).collect())
}

async fn crash_loop(scene: &Scene, kind: Kind) -> Result<()> {
    let first = shop(scene, kind);
    let before = serving(scene, &first, json!({})).await?;
    scene.push(&crashing(&first)).await?;
    let guard = undone(scene, kind, &before).await?;
    ensure!(guard.decided("reason") == "CrashLoop", "{}", guard.decision());
    verified(scene).await?;
    serves(scene, "v1", count(&first)).await?;
    let workload = workload(scene, kind).await?;
    ensure!(workload.generation() == 3, "generation {}", workload.generation());
    Ok(())
}

/// The set waits for its broken pod, whatever its template says by then.
pub async fn a_stateful_set_in_a_crash_loop_is_undone_and_verified(scene: Scene) -> Result<()> {
    crash_loop(&scene, Kind::StatefulSet).await
}

/// It replaces its broken pods itself.
pub async fn a_daemon_set_in_a_crash_loop_is_undone_and_verified(scene: Scene) -> Result<()> {
    crash_loop(&scene, Kind::DaemonSet).await?;
    let deleted = deletions(&scene).await?;
    ensure!(deleted.is_empty(), "{deleted:?}");
    Ok(())
}

/// Kubernetes issue 67250.
pub async fn a_stateful_set_stuck_on_a_missing_image_is_freed_by_the_deletion_of_one_pod(scene: Scene) -> Result<()> {
    let _registry = REGISTRY.lock().await;
    let first = shop(&scene, Kind::StatefulSet).from_registry("IfNotPresent");
    let before = serving(&scene, &first, json!({})).await?;
    let others = [uid_of(&scene, "shop-0").await?, uid_of(&scene, "shop-1").await?];
    scene.push(&first.clone().version("v99")).await?;
    let guard = undone(&scene, Kind::StatefulSet, &before).await?;
    ensure!(guard.decided("reason") == "ImagePullFailed", "{}", guard.decision());
    verified(&scene).await?;
    serves(&scene, "v1", 3).await?;
    let deleted = deletions(&scene).await?;
    ensure!(deleted.len() == 1 && deleted[0].contains("shop-2"), "{deleted:?}");
    let now = [uid_of(&scene, "shop-0").await?, uid_of(&scene, "shop-1").await?];
    ensure!(now == others, "a pod of the good revision was replaced");
    Ok(())
}

/// The guard names the pod; a person deletes it.
pub async fn a_guard_that_is_to_alert_names_the_stuck_pod_and_leaves_it(scene: Scene) -> Result<()> {
    let first = shop(&scene, Kind::StatefulSet);
    let before = serving(&scene, &first, json!({"statefulSet": {"stuckPods": "Alert"}})).await?;
    scene.push(&crashing(&first)).await?;
    undone(&scene, Kind::StatefulSet, &before).await?;
    let guard = scene.until("the alert", |guard| guard.reason("Stalled") == "StuckStatefulSetPod").await?;
    guard.expect("Stalled", "True", "StuckStatefulSetPod")?;
    let (message, command) = (guard.message("Stalled"), format!("kubectl -n {} delete pod ", scene.namespace));
    // A pod that crashes may be Ready for an instant, and the set goes on to the next: which one waits is not known before.
    let bad: Vec<&str> = ["shop-0", "shop-1", "shop-2"].into_iter().filter(|pod| message.contains(pod)).collect();
    let lowest = *bad.first().with_context(|| format!("no pod in: {message}"))?;
    ensure!(message.contains(&format!("{command}{lowest} ")), "{message}");
    let stuck = uid_of(&scene, lowest).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    ensure!(uid_of(&scene, lowest).await? == stuck, "it was deleted");
    ensure!(deletions(&scene).await?.is_empty(), "a deletion is told");
    scene.kubectl(&[&["delete", "pod"], bad.as_slice()].concat()).await?;
    let guard = verified(&scene).await?;
    ensure!(guard.status("Stalled") == "False", "{}", guard.line());
    Ok(())
}

/// Releases come with the deletion of pods only: this one is on one pod.
async fn by_hand(scene: &Scene, kind: Kind, rollback: Value) -> Result<(Shop, Guard)> {
    let first = shop(scene, kind).with_spec(&json!({"updateStrategy": {"type": "OnDelete"}}));
    let before = serving(scene, &first, rollback).await?;
    scene.push(&crashing(&first)).await?;
    let observed = async || {
        let now = workload(scene, kind).await.map_err(|error| format!("{error:#}"))?;
        let observed = now.0["status"]["observedGeneration"].as_i64();
        if observed == Some(now.generation()) { Ok(()) } else { Err(format!("{observed:?}")) }
    };
    wait_for("the controller to see the push", Duration::from_secs(20), observed).await?;
    let last = pods(scene).await?.pop().context("no pod")?.0;
    scene.kubectl(&["delete", "pod", &last]).await?;
    undone(scene, kind, &before).await?;
    Ok((first, before))
}

async fn named_for_deletion(scene: &Scene, kind: Kind) -> Result<()> {
    by_hand(scene, kind, json!({})).await?;
    let guard = scene.until("the alert", |guard| guard.reason("Stalled") == "OnDeleteStrategy").await?;
    let bad = pods(scene).await?.into_iter().find(|pod| pod.2.ends_with(":v2")).context("no bad pod is left")?.0;
    ensure!(guard.message("Stalled").contains(&bad), "{}", guard.message("Stalled"));
    ensure!(deletions(scene).await?.is_empty(), "a pod was deleted");
    scene.kubectl(&["delete", "pod", &bad]).await?;
    verified(scene).await?;
    Ok(())
}

/// Who chose `OnDelete` replaces pods by hand.
pub async fn under_on_delete_the_pods_of_a_stateful_set_are_named_and_left(scene: Scene) -> Result<()> {
    named_for_deletion(&scene, Kind::StatefulSet).await
}

/// The same of a DaemonSet.
pub async fn under_on_delete_the_pods_of_a_daemon_set_are_named_and_left(scene: Scene) -> Result<()> {
    named_for_deletion(&scene, Kind::DaemonSet).await
}

/// Unless the guard may.
pub async fn under_on_delete_a_guard_that_may_deletes_the_bad_pods_and_no_other(scene: Scene) -> Result<()> {
    let (first, _) = by_hand(&scene, Kind::StatefulSet, json!({"onDelete": "Delete"})).await?;
    verified(&scene).await?;
    serves(&scene, "v1", count(&first)).await?;
    let deleted = deletions(&scene).await?;
    ensure!(deleted.len() == 1 && deleted[0].contains("shop-2"), "{deleted:?}");
    Ok(())
}

/// A canary by partition: only pods at or above it are the release, and only they are undone.
pub async fn below_a_partition_no_pod_is_touched_or_waited_for(scene: Scene) -> Result<()> {
    let partition = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    let first = shop(&scene, Kind::StatefulSet).with_spec(&partition);
    let before = serving(&scene, &first, json!({})).await?;
    let others = [uid_of(&scene, "shop-0").await?, uid_of(&scene, "shop-1").await?];
    scene.push(&crashing(&first)).await?;
    undone(&scene, Kind::StatefulSet, &before).await?;
    let guard = verified(&scene).await?;
    ensure!(guard.message("RolledBack").contains("ordinal below 2"), "{}", guard.message("RolledBack"));
    let now = [uid_of(&scene, "shop-0").await?, uid_of(&scene, "shop-1").await?];
    ensure!(now == others, "a pod below the partition was replaced");
    serves(&scene, "v1", 3).await
}

async fn apply_server_side(scene: &Scene, shop: &Shop) -> Result<()> {
    let apply = ["apply", "--server-side", "--field-manager=platform", "-f", "-"];
    scene.kubectl_with(&apply, &shop.workload().to_string()).await?;
    Ok(())
}

/// v1, a bad v2, the undo, v3: what a platform team with server-side apply lives with.
async fn owned_again(scene: &Scene, kind: Kind) -> Result<()> {
    let one = shop(scene, kind).fault("KEPT", "1").fault("OLD", "1");
    let two = crashing(&shop(scene, kind).fault("KEPT", "2"));
    let three = shop(scene, kind).version("v3").fault("KEPT", "3");
    scene.cluster.kubectl(&["create", "namespace", &scene.namespace]).await?;
    scene.cluster.apply(&one.service().to_string()).await?;
    apply_server_side(scene, &one).await?;
    let before = guarded(scene, &one, json!({})).await?;
    apply_server_side(scene, &two).await?;
    let guard = undone(scene, kind, &before).await?;
    ensure!(guard.decision()["onlyInRestored"].is_null(), "server-side apply removes it: {}", guard.decision());
    let restored = workload(scene, kind).await?;
    ensure!(restored.env() == ["KEPT", "OLD"], "restored environment: {:?}", restored.env());
    let handed_back = async || {
        let now = workload(scene, kind).await.map_err(|error| format!("{error:#}"))?;
        let entries = now.0["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let ours = |entry: &&Value| {
            entry["manager"] == "deployment-guard/undo" && !entry["fieldsV1"]["f:spec"]["f:template"].is_null()
        };
        entries.iter().find(ours).map_or(Ok(()), |entry| Err(entry["fieldsV1"].to_string()))
    };
    wait_for("the ownership to be handed back", Duration::from_secs(20), handed_back).await?;
    let generation = workload(scene, kind).await?.generation();
    ensure!(generation == 3, "taking a field back starts no rollout, generation {generation}");
    apply_server_side(scene, &three).await.context("the release after the undo")?;
    let now = workload(scene, kind).await?;
    ensure!(now.image() == "localhost/shop:v3" && now.env() == ["KEPT"], "{} with {:?}", now.image(), now.env());
    Ok(())
}

/// Also without a map of annotations, as `StatefulSet`s often are.
pub async fn after_an_undo_a_stateful_set_is_applied_server_side_without_conflict(scene: Scene) -> Result<()> {
    owned_again(&scene, Kind::StatefulSet).await
}

/// The same of a DaemonSet.
pub async fn after_an_undo_a_daemon_set_is_applied_server_side_without_conflict(scene: Scene) -> Result<()> {
    owned_again(&scene, Kind::DaemonSet).await
}
