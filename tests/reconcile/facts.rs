//! Hard facts: pods alone prove a release bad, whatever Prometheus does, and what else may explain it holds.

use serde_json::{Value, json};

use super::api_server::Key;
use super::deployments::{self, pods_of};
use super::kinds;
use super::prometheus::Trouble;
use super::rig::{Rig, because, find, is};
use super::sets;

const CRASHES: &str = "shop:crashes";

/// Waits for the pods of an image.
async fn pods_with(rig: &Rig, image: &str) -> Vec<Key> {
    let of = || -> Vec<Key> {
        let with = |key: &Key| rig.api.get(key).is_some_and(|pod| pod["spec"]["containers"][0]["image"] == image);
        pods_of(&rig.api, "shop").into_iter().filter(with).collect()
    };
    rig.until("the release has pods", || of().len() == deployments::REPLICAS).await;
    of()
}

/// What the kubelet writes of a container that ended for the `restarts + 1`st time and backs off.
pub fn crash(pod: &mut Value, restarts: u32) {
    let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap().to_string();
    pod["status"]["conditions"] = json!([
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
        {"type": "Ready", "status": "False", "lastTransitionTime": now}
    ]);
    pod["status"]["containerStatuses"] = json!([{
        "name": "app", "image": "app", "imageID": "", "ready": false, "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}},
        "lastState": {"terminated": {
            "exitCode": 3, "reason": "Error", "finishedAt": now, "message": "panic: password=hunter2swordfish is wrong",
        }},
    }]);
}

fn crash_all(rig: &Rig, pods: &[Key], restarts: u32) {
    for key in pods {
        rig.api.change(key, |pod| crash(pod, restarts));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loop_is_undone_while_prometheus_keeps_everybody_waiting() {
    let (rig, _operator) = Rig::watching(json!({"analysis": {"window": "1h"}})).await;
    rig.class("default", json!({"prometheus": {"timeout": "60s"}}));
    rig.prometheus.trouble(Trouble::Slow);
    rig.push(CRASHES);
    let pods = pods_with(&rig, CRASHES).await;
    crash_all(&rig, &pods, 0);
    rig.status("guard", "the first ends are shown", |s| s["findings"][0]["source"] == "pods").await;
    assert_eq!(rig.undos().len(), 0, "once each is no loop");
    crash_all(&rig, &pods, 1);
    let status = rig.status("guard", "it is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
    let decision = &status["lastDecision"];
    assert_eq!(decision["decider"], "hard-fact", "{decision:#}");
    assert_eq!(
        (&decision["reason"], &decision["failureClass"]),
        (&json!("CrashLoop"), &json!("crash")),
        "{decision:#}"
    );
    assert_eq!((&decision["healthScore"], &decision["confidence"]), (&json!(0), &json!(99)), "{decision:#}");
    let reasoning = decision["reasoning"].as_str().unwrap();
    assert!(reasoning.contains("exit code 3 (Error)"), "{reasoning}");
    assert!(!status.to_string().contains("hunter2"), "a secret of a termination message was stored");
    assert_eq!(rig.undos().len(), 1);
    assert_eq!(rig.image(), "shop:v1");
    let sample = || rig.api.all("configmaps").into_iter().find_map(|(_, map)| Some(map["data"].as_object()?.clone()));
    rig.until("the sample is kept", || sample().is_some_and(|data| !data.is_empty())).await;
    let sample: Value = serde_json::from_str(sample().unwrap().values().next().unwrap().as_str().unwrap()).unwrap();
    let seen = &sample["state"]["evidence"]["pods"];
    assert_eq!(seen["pods"][0]["containers"][0]["ended"], 2, "what decided stands in the sample: {seen:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_ends_as_the_old_revision_had_at_its_start_are_no_crash_loop() {
    let rig = Rig::new().await;
    for key in pods_of(&rig.api, "shop") {
        rig.api.change(&key, |pod| {
            pod["status"]["containerStatuses"][0]["restartCount"] = json!(1);
            let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap().to_string();
            let end = json!({"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": now}});
            pod["status"]["containerStatuses"][0]["lastState"] = end;
        });
    }
    rig.guard("guard", json!({"analysis": {"window": "1h"}}));
    let _operator = rig.operator();
    rig.adopted("guard").await;
    rig.push(CRASHES);
    let pods = pods_with(&rig, CRASHES).await;
    crash_all(&rig, &pods, 1);
    rig.status("guard", "the ends are shown", |s| s["findings"][0]["new"] == 2).await;
    let status = rig.status("guard", "the old start is known", |s| s["current"]["baselineStartExits"] == 1).await;
    assert_eq!(status["lastDecision"], json!(null), "{status:#}");
    crash_all(&rig, &pods, 2);
    rig.status("guard", "more than that is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_without_a_place_hold_the_verdict_and_say_why() {
    let (rig, _operator) = Rig::watching(json!({"analysis": {"window": "1h"}})).await;
    rig.push("shop:v2");
    for key in pods_with(&rig, "shop:v2").await {
        rig.api.change(&key, |pod| {
            pod["status"] = json!({"phase": "Pending", "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: Insufficient cpu",
            }]});
        });
    }
    let status = rig.status("guard", "it is held", |s| because(s, "Healthy", "Unschedulable")).await;
    assert!(is(&status, "Healthy", "Unknown") && is(&status, "Reconciling", "True"), "{status:#}");
    assert!(find(&status, "Healthy")["message"].to_string().contains("Insufficient cpu"));
    assert_eq!(rig.workload_writes().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loop_of_a_stateful_set_or_a_daemon_set_is_undone_by_the_same_fact() {
    for (_, resource) in sets::BOTH {
        let rig = Rig::empty().await;
        rig.class("default", json!({}));
        kinds::serving(&rig, resource, json!({}), json!({})).await;
        let _operator = rig.operator();
        rig.adopted(resource).await;
        sets::push(&rig.api, resource, kinds::BAD);
        let status = kinds::undone(&rig, resource).await;
        let decision = &status["lastDecision"];
        assert_eq!(
            (&decision["decider"], &decision["reason"]),
            (&json!("hard-fact"), &json!("CrashLoop")),
            "{decision:#}"
        );
        assert_eq!(decision["toTrust"], "NeverJudged", "{decision:#}");
        assert_eq!(rig.undos().len(), 1);
    }
}
