//! Hard facts of pods, each really happening: undone without a single metric, explained, and verified.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testbed::shop::Shop;
use tokio::sync::Mutex;

use crate::scene::{Guard, Scene};

/// Whoever pulls, or stops what is pulled from.
pub static REGISTRY: Mutex<()> = Mutex::const_new(());

const STACK_TRACE: &str = "Traceback (most recent call last):
  File \"/app/main.py\", line 3, in <module>
    import payments
ModuleNotFoundError: No module named 'payments'";

/// What a decision must say.
struct Expected<'a> {
    reason: &'a str,
    class: &'a str,
    words: &'a [&'a str],
}

/// A release that all pods get at once.
pub fn shop(scene: &Scene) -> Shop {
    scene.shop().rolling("100%", "0")
}

/// Serves before anything happens, watched by a guard whose window no fact has to race against.
pub async fn serving(scene: &Scene, shop: &Shop, pods: Value) -> Result<Guard> {
    scene.push(shop).await?;
    shop.rolled_out(&scene.cluster, Duration::from_secs(90)).await?;
    let kind = json!({"kind": shop.kind.word()});
    let analysis = json!({"window": "3m", "onInconclusive": "Hold"});
    scene.apply_guard("shop", json!({"targetRef": kind, "analysis": analysis, "pods": pods})).await?;
    scene.until("the guard to see version 1", |guard| guard.state() == "Serving").await
}

async fn undone(scene: &Scene, first: &Shop, bad: &Shop, pods: Value, expected: &Expected<'_>) -> Result<()> {
    let before = serving(scene, first, pods).await?;
    scene.push(bad).await?;
    let decided = scene.undone(&before).await?;
    let guard = scene.verified().await?;
    ensure!(guard.state() == "Serving", "{}", guard.line());
    let deployment = scene.deployment().await?;
    ensure!(deployment.generation() == 3, "not one undo: generation {}", deployment.generation());
    ensure!(deployment.image().ends_with("shop:v1"), "{}", deployment.image());
    explained(&decided, expected)
}

fn explained(guard: &Guard, expected: &Expected) -> Result<()> {
    let decision = guard.decision();
    ensure!(guard.decided("decision") == "ROLLBACK" && guard.decided("decider") == "hard-fact", "{decision}");
    ensure!(guard.decided("reason") == expected.reason, "not {}: {decision}", expected.reason);
    ensure!(guard.decided("failureClass") == expected.class, "not of class {}: {decision}", expected.class);
    let reasoning = guard.decided("reasoning");
    for word in expected.words {
        ensure!(reasoning.contains(word), "nothing about {word}: {reasoning}");
    }
    let findings = decision["findings"].as_array().cloned().unwrap_or_default();
    let whole = |finding: &Value| {
        let said = |field: &str| finding[field].as_str().is_some_and(|text| !text.is_empty());
        // What a line of a log means nobody may know; what a state of a pod means we do.
        said("issue") && said("source") && (said("suggestedFix") || finding["source"] != "pods")
    };
    ensure!(!findings.is_empty() && findings.iter().all(whole), "findings: {decision}");
    Ok(())
}

/// One fault of the program on all new pods, with the defaults.
async fn faulty(scene: &Scene, faults: &[(&str, &str)], expected: &Expected<'_>) -> Result<()> {
    let first = shop(scene);
    let bad = faults.iter().fold(first.clone().version("v2"), |shop, (name, value)| shop.fault(name, value));
    undone(scene, &first, &bad, json!({}), expected).await
}

/// The most frequent bad release of all.
pub async fn a_program_that_exits_is_undone(scene: Scene) -> Result<()> {
    let faults = [("EXIT_AFTER_S", "0"), ("EXIT_CODE", "7"), ("EXIT_MESSAGE", STACK_TRACE)];
    let expected = Expected { reason: "CrashLoop", class: "crash", words: &["shop", "7"] };
    faulty(&scene, &faults, &expected).await
}

/// With one pod on one node neither other pods nor other nodes can be compared with.
pub async fn a_workload_of_one_pod_on_one_node_that_crashes_is_undone_all_the_same(scene: Scene) -> Result<()> {
    let first = scene.shop().replicas(1);
    let bad = first.clone().version("v2").fault("EXIT_AFTER_S", "0");
    let expected = Expected { reason: "CrashLoop", class: "crash", words: &["shop"] };
    undone(&scene, &first, &bad, json!({}), &expected).await
}

/// Waiting for a database does not excuse a release that never gets up.
pub async fn a_service_that_exits_once_at_each_start_is_undone_when_it_always_does(scene: Scene) -> Result<()> {
    let first = shop(&scene).exits_at_start(1);
    let bad = first.clone().version("v2").exits_at_start(99);
    let expected = Expected { reason: "CrashLoop", class: "crash", words: &["shop"] };
    undone(&scene, &first, &bad, json!({}), &expected).await
}

/// The kernel kills it, again and again.
pub async fn a_program_that_eats_its_memory_is_undone(scene: Scene) -> Result<()> {
    let expected = Expected { reason: "OOMKilled", class: "oom", words: &["shop", "OOMKilled"] };
    faulty(&scene, &[("OOM_AFTER_S", "1")], &expected).await
}

/// The registry answers, and knows no such manifest.
pub async fn an_image_that_does_not_exist_is_undone(scene: Scene) -> Result<()> {
    let _registry = REGISTRY.lock().await;
    let first = shop(&scene).from_registry("IfNotPresent");
    let bad = first.clone().version("v99");
    let expected = Expected { reason: "ImagePullFailed", class: "image", words: &["v99", "not found"] };
    undone(&scene, &first, &bad, json!({}), &expected).await
}

/// The ConfigMap is there and lacks the key: nobody is about to make it.
pub async fn a_key_that_a_config_map_lacks_is_undone(scene: Scene) -> Result<()> {
    let first = shop(&scene);
    scene.push(&first).await?;
    scene.kubectl(&["create", "configmap", "settings", "--from-literal=other=1"]).await?;
    let bad = first.clone().version("v2").env_from_missing_key();
    let expected = Expected { reason: "ConfigError", class: "config_error", words: &["couldn't find key", "settings"] };
    undone(&scene, &first, &bad, json!({"startErrors": {"after": "1h"}}), &expected).await
}

/// Somebody may be about to make the ConfigMap, so it is waited for.
pub async fn a_variable_from_a_config_map_that_is_missing_is_undone(scene: Scene) -> Result<()> {
    let first = shop(&scene);
    let bad = first.clone().version("v2").env_from_missing_key();
    let expected = Expected { reason: "ConfigError", class: "config_error", words: &["settings", "not found"] };
    undone(&scene, &first, &bad, json!({}), &expected).await
}

/// The image lacks what the template starts.
pub async fn a_command_that_is_not_in_the_image_is_undone(scene: Scene) -> Result<()> {
    let first = shop(&scene);
    let bad = first.clone().version("v2").with_container(&json!({"command": ["/missing"]}));
    let expected = Expected { reason: "ContainerStartFailed", class: "config_error", words: &["/missing"] };
    undone(&scene, &first, &bad, json!({}), &expected).await
}

/// It runs, and never gets traffic.
pub async fn a_readiness_that_never_comes_is_undone(scene: Scene) -> Result<()> {
    let first = shop(&scene);
    let bad = first.clone().version("v2").fault("NEVER_READY", "true");
    let expected = Expected { reason: "NeverReady", class: "other", words: &["shop"] };
    undone(&scene, &first, &bad, json!({"readiness": {"deadline": "20s"}}), &expected).await
}

/// What the Deployment itself calls too late.
pub async fn a_progress_deadline_that_passes_with_unready_pods_is_undone(scene: Scene) -> Result<()> {
    let first = shop(&scene).with_spec(&json!({"progressDeadlineSeconds": 15}));
    let bad = first.clone().version("v2").fault("NEVER_READY", "true");
    let expected = Expected { reason: "ProgressDeadlineExceeded", class: "other", words: &["shop"] };
    undone(&scene, &first, &bad, json!({"readiness": {"enabled": false}}), &expected).await
}

/// Shows in events only: the container's own end looks orderly.
pub async fn a_program_that_the_kubelet_kills_for_its_liveness_is_undone(scene: Scene) -> Result<()> {
    let first = shop(&scene).liveness_probe();
    let bad = first.clone().version("v2").fault("LIVENESS_FAILS_AFTER_S", "2").fault("DRAIN_S", "0");
    let expected = Expected { reason: "LivenessProbeFailed", class: "crash", words: &["shop", "iveness"] };
    undone(&scene, &first, &bad, json!({}), &expected).await
}

/// The shop itself never starts.
pub async fn an_init_container_that_fails_is_undone(scene: Scene) -> Result<()> {
    let first = shop(&scene).init_container(0);
    let bad = first.clone().version("v2").init_container(5);
    let expected = Expected { reason: "CrashLoop", class: "crash", words: &["migrate", "5"] };
    undone(&scene, &first, &bad, json!({}), &expected).await
}

/// The shop itself never fails.
pub async fn a_sidecar_that_crashes_is_undone(scene: Scene) -> Result<()> {
    let first = shop(&scene);
    let bad = first.clone().version("v2").failing_sidecar();
    let expected = Expected { reason: "CrashLoop", class: "crash", words: &["proxy", "3"] };
    undone(&scene, &first, &bad, json!({}), &expected).await
}

/// The kubelet kills what started well.
pub async fn a_hook_that_fails_is_undone(scene: Scene) -> Result<()> {
    let first = shop(&scene);
    let bad = first.clone().version("v2").failing_hook();
    let expected = Expected { reason: "HookFailed", class: "config_error", words: &["shop"] };
    undone(&scene, &first, &bad, json!({}), &expected).await
}

/// Shows in events only: the container is being created for ever.
pub async fn a_volume_that_cannot_be_mounted_is_undone(scene: Scene) -> Result<()> {
    let first = shop(&scene);
    let bad = first.clone().version("v2").volume_of_missing_config_map();
    let expected = Expected { reason: "VolumeMountFailed", class: "config_error", words: &["templates"] };
    undone(&scene, &first, &bad, json!({"volumeMounts": {"after": "20s"}}), &expected).await
}
