//! What looks like a bad release and is none: said with its reason, and never undone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::{Component, wait_for};
use testbed::shop::Kind;
use tokio::sync::Mutex;

use crate::facts::{REGISTRY, serving, shop};
use crate::scene::{Guard, Scene};

/// Whoever needs the second node as it is, or takes it away.
static SECOND_NODE: Mutex<()> = Mutex::const_new(());
/// Long enough for a wrong decision to be made.
const WAIT: Duration = Duration::from_secs(12);

fn needs_two_nodes(scene: &Scene) -> Result<()> {
    let nodes = scene.cluster.options().map_or(1, |options| options.nodes);
    ensure!(nodes == 2, "this test needs a second node: start it with `testbed run --nodes 2 -- …`");
    Ok(())
}

/// Nothing was undone, now and a while later, and this is why.
async fn held(scene: &Scene, reasons: &[&str], generation: i64) -> Result<()> {
    let named = |guard: &Guard| reasons.contains(&guard.reason("Healthy"));
    let guard = scene.until(&format!("Healthy for {reasons:?}"), named).await?;
    ensure!(guard.status("Healthy") == "Unknown", "{}", guard.line());
    ensure!(!guard.message("Healthy").is_empty(), "no sentence says why");
    kept(scene, generation).await
}

async fn kept(scene: &Scene, generation: i64) -> Result<()> {
    tokio::time::sleep(WAIT).await;
    let guard = scene.guard("shop").await?;
    ensure!(guard.decided("decision") != "ROLLBACK", "{}", guard.decision());
    scene.deployment().await?.untouched(generation)
}

/// A rollout runs into a node that is lost: pods there stay unready, whatever their version.
pub async fn a_node_that_is_lost_while_a_release_rolls_out_is_not_held_against_it(scene: Scene) -> Result<()> {
    needs_two_nodes(&scene)?;
    let _node = SECOND_NODE.lock().await;
    // Two of four may be missing, so that the rollout would end without that node.
    let first = scene.shop().replicas(4).rolling("50%", "50%").over_both_nodes();
    serving(&scene, &first, json!({"readiness": {"deadline": "20s"}})).await?;
    scene.cluster.stop(Component::SecondContainerd).await?;
    scene.push(&first.clone().version("v2")).await?;
    let pending = async || new_pods_on(&scene, "node-2").await;
    let result = async {
        wait_for("a new pod on the second node", Duration::from_secs(20), pending).await?;
        scene.cluster.stop(Component::SecondKubelet).await?;
        held(&scene, &["NodeProblem"], 2).await
    }
    .await;
    scene.cluster.start(Component::SecondContainerd).await?;
    // It may still run if the test failed before it was stopped.
    let _ = scene.cluster.start(Component::SecondKubelet).await;
    result?;
    first.rolled_out(&scene.cluster, Duration::from_mins(1)).await.context("the node is back")?;
    // The time that the node took is not the release's either.
    kept(&scene, 2).await
}

async fn new_pods_on(scene: &Scene, node: &str) -> Result<(), String> {
    let place = format!("spec.nodeName={node}");
    let pods = scene.get(&["pods", "-l", "app=shop", "--field-selector", &place]).await;
    let pods = pods.map_err(|error| format!("{error:#}"))?;
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().is_some_and(|name| name.ends_with(":v2"));
    let found = pods["items"].as_array().into_iter().flatten().any(image);
    if found { Ok(()) } else { Err(format!("only old pods on {node}")) }
}

/// The node is Ready as far as the API knows, yet what is started there ends: pods of both versions.
pub async fn a_node_on_which_every_version_crashes_is_not_held_against_a_release(scene: Scene) -> Result<()> {
    needs_two_nodes(&scene)?;
    let _node = SECOND_NODE.lock().await;
    let first = scene.shop().replicas(4).rolling("2", "2").over_both_nodes();
    serving(&scene, &first, json!({})).await?;
    // From now on everything that starts there ends, also what a second workload starts.
    let other = scene.shop_named("other").replicas(2).on_node("node-2").exits_on_node("node-2");
    scene.push(&other).await?;
    // Until something else has ended there too, nobody can know that it is the node.
    let ended = async || {
        let pods = scene.get(&["pods", "-l", "app=other"]).await.map_err(|error| format!("{error:#}"))?;
        let items = pods["items"].as_array().cloned().unwrap_or_default();
        let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(0);
        if items.iter().any(|pod| restarts(pod) > 0) { Ok(()) } else { Err("nothing ended there yet".to_owned()) }
    };
    wait_for("the other workload to end on the node", Duration::from_secs(60), ended).await?;
    scene.push(&first.clone().version("v2").exits_on_node("node-2")).await?;
    held(&scene, &["NodeProblem"], 2).await
}

/// Somebody drains the node while the new pods start, and then the node itself runs out of memory.
pub async fn evicted_pods_are_not_held_against_a_release(scene: Scene) -> Result<()> {
    let first = shop(&scene);
    serving(&scene, &first, json!({})).await?;
    scene.push(&first.clone().version("v2").fault("READY_AFTER_S", "8")).await?;
    for round in 0..4 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        for pod in new_pods(&scene).await? {
            evict(&scene, &pod, round % 2 == 0).await?;
        }
    }
    first.rolled_out(&scene.cluster, Duration::from_mins(1)).await?;
    kept(&scene, 2).await
}

async fn new_pods(scene: &Scene) -> Result<Vec<String>> {
    let pods = scene.get(&["pods", "-l", "app=shop"]).await?;
    let items = pods["items"].as_array().into_iter().flatten();
    let new = items.filter(|pod| {
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        image.ends_with(":v2") && pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] != "Failed"
    });
    Ok(new.filter_map(|pod| pod["metadata"]["name"].as_str()).map(str::to_owned).collect())
}

/// As `kubectl drain` does, or as a kubelet under pressure: it ends the pod, which stays as a record.
async fn evict(scene: &Scene, pod: &str, drained: bool) -> Result<()> {
    let metadata = json!({"name": pod, "namespace": scene.namespace});
    if drained {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata});
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", scene.namespace);
        return scene.kubectl_with(&["create", "--raw", &path, "-f", "-"], &eviction.to_string()).await.map(|_| ());
    }
    let status = json!({"status": {"phase": "Failed", "reason": "Evicted",
        "message": "The node was low on resource: memory.",
        "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    scene.kubectl(&["patch", "pod", pod, "--subresource=status", "-p", &status.to_string()]).await.map(|_| ())
}

/// The namespace is full: no new pod is even made.
pub async fn a_quota_that_lets_no_new_pod_in_is_not_held_against_a_release(scene: Scene) -> Result<()> {
    let first = shop(&scene);
    serving(&scene, &first, json!({})).await?;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "full", "namespace": scene.namespace}, "spec": {"hard": {"pods": "2"}}});
    scene.cluster.apply(&quota.to_string()).await?;
    let counted = async || {
        let used = scene.kubectl(&["get", "quota", "full", "-o", "jsonpath={.status.used.pods}"]).await;
        match used.as_deref() {
            Ok("2") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    };
    wait_for("the quota to count", Duration::from_secs(20), counted).await?;
    scene.push(&first.clone().version("v2")).await?;
    held(&scene, &["ReplicaFailure"], 2).await
}

/// No node takes the new pods, and the release did not change what it asks of a node.
pub async fn pods_that_no_node_takes_are_not_held_against_a_release(scene: Scene) -> Result<()> {
    needs_two_nodes(&scene)?;
    let _node = SECOND_NODE.lock().await;
    let first = shop(&scene).on_node("node-2");
    serving(&scene, &first, json!({"readiness": {"deadline": "20s"}})).await?;
    scene.cluster.kubectl(&["cordon", "node-2"]).await?;
    let result = async {
        scene.push(&first.clone().version("v2")).await?;
        held(&scene, &["Unschedulable"], 2).await
    }
    .await;
    scene.cluster.kubectl(&["uncordon", "node-2"]).await?;
    result?;
    first.rolled_out(&scene.cluster, Duration::from_mins(1)).await.context("a node takes them")
}

/// Nobody can pull, old or new, this workload or another.
pub async fn a_registry_that_is_down_for_everybody_is_not_held_against_a_release(scene: Scene) -> Result<()> {
    let _registry = REGISTRY.lock().await;
    let first = shop(&scene).from_registry("Always");
    let other = scene.shop_named("other").from_registry("Always");
    scene.push(&other).await?;
    serving(&scene, &first, json!({"imagePull": {"after": "20s"}})).await?;
    other.rolled_out(&scene.cluster, Duration::from_mins(1)).await?;
    scene.cluster.stop(Component::ImageRegistry).await?;
    let result = async {
        scene.push(&first.clone().version("v2")).await?;
        // What runs is not pulled: old pods have to start, too.
        for app in ["app=shop", "app=other"] {
            scene.kubectl(&["delete", "pod", "-l", app, "--wait=false"]).await?;
        }
        held(&scene, &["RegistryUnavailable", "SharedIncident"], 2).await
    }
    .await;
    scene.cluster.start(Component::ImageRegistry).await?;
    result?;
    first.rolled_out(&scene.cluster, Duration::from_mins(1)).await.context("the registry is back")
}

/// It waits for its database like that at every start, and always did.
pub async fn a_service_that_exits_twice_at_each_start_as_before_is_kept(scene: Scene) -> Result<()> {
    let first = shop(&scene).exits_at_start(2);
    serving(&scene, &first, json!({})).await?;
    let second = first.version("v2");
    scene.push(&second).await?;
    second.rolled_out(&scene.cluster, Duration::from_mins(1)).await?;
    kept(&scene, 2).await
}

/// Two broken nodes of two hundred say nothing about a release.
pub async fn two_bad_nodes_under_a_large_daemon_set_undo_nothing(scene: Scene) -> Result<()> {
    const NODES: u32 = 200;
    scene.cluster.start_kwok(NODES).await?;
    let tolerated = json!([{"key": "kwok.x-k8s.io/node", "operator": "Exists"}]);
    let place = json!({"nodeSelector": {"type": "kwok"}, "tolerations": tolerated});
    let first = scene.shop().kind(Kind::DaemonSet).rolling("0", "100%").with_pod(&place);
    let before = serving(&scene, &first, json!({})).await?;
    let second = first.version("v2");
    scene.push(&second).await?;
    second.rolled_out(&scene.cluster, Duration::from_mins(1)).await?;
    let revised = |guard: &Guard| guard.revision() != before.revision();
    scene.until("the guard to see version 2", revised).await?;
    for restarts in 1..=6 {
        for node in ["kwok-1", "kwok-2"] {
            crash_once_more(&scene, node, restarts).await?;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    tokio::time::sleep(WAIT).await;
    let guard = scene.guard("shop").await?;
    ensure!(guard.decided("decision") != "ROLLBACK", "{}", guard.decision());
    let generation = scene.get(&["daemonset", "shop"]).await?["metadata"]["generation"].as_i64();
    ensure!(generation == Some(2), "generation {generation:?}");
    Ok(())
}

/// What a kubelet would report of the pod there; kwok leaves it as it is.
async fn crash_once_more(scene: &Scene, node: &str, restarts: u32) -> Result<()> {
    let place = format!("spec.nodeName={node}");
    let pods = scene.get(&["pods", "-l", "app=shop", "--field-selector", &place]).await?;
    let items = pods["items"].as_array().into_iter().flatten();
    let mut live = items.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let pod = live.next().with_context(|| format!("no pod on {node}"))?;
    let now = scene
        .kubectl(&["create", "configmap", "now", "--dry-run=server", "-o", "jsonpath={.metadata.creationTimestamp}"])
        .await?;
    let ended = json!({"exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now});
    let container = json!({"name": "shop", "image": pod["spec"]["containers"][0]["image"], "imageID": "",
        "ready": false, "started": false, "restartCount": restarts, "lastState": {"terminated": ended},
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}});
    let now = |type_: &str| {
        json!({"type": type_, "status": "False", "lastTransitionTime": now,
        "reason": "ContainersNotReady"})
    };
    let status = json!({"status": {"containerStatuses": [container],
        "conditions": [now("Ready"), now("ContainersReady")]}});
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    scene.kubectl(&["patch", "pod", name, "--subresource=status", "-p", &status.to_string()]).await.map(|_| ())
}
