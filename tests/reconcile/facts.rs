//! Hard facts: pods alone prove a release bad, whatever Prometheus does, and what else may explain it holds.

use serde_json::{Value, json};

use super::api_server::Key;
use super::deployments::{self, NAMESPACE, guard_place, pods_of};
use super::prometheus::Trouble;
use super::rig::{Rig, because, find, is};

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

/// A `StatefulSet` or `DaemonSet` with two revisions, and a pod of the second.
pub fn put_set(rig: &Rig, kind: &str, resource: &str) -> Key {
    let (template, name) = (|image: &str| json!({"spec": {"containers": [{"name": "app", "image": image}]}}), "db");
    let set = rig.api.put(
        &Key::new("apps", resource, NAMESPACE, name),
        json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": {"generation": 2},
            "spec": {"replicas": 1, "template": template("db:2")},
            "status": {"observedGeneration": 2, "desiredNumberScheduled": 1},
        }),
    );
    let owner = json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": set["metadata"]["uid"], "controller": true}]);
    for number in 1..=2 {
        rig.api.put(
            &Key::new("apps", "controllerrevisions", NAMESPACE, &format!("{name}-{resource}-{number}")),
            json!({
                "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": number,
                "metadata": {"ownerReferences": owner, "labels": {"controller-revision-hash": format!("db-{resource}-{number}")}},
                "data": {"spec": {"template": template(&format!("db:{number}"))}},
            }),
        );
    }
    for number in 1..=2 {
        let key = Key::new("", "pods", NAMESPACE, &format!("{name}-{resource}-pod-{number}"));
        rig.api.put(
            &key,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"ownerReferences": owner, "labels": {"controller-revision-hash": format!("db-{resource}-{number}")}},
                "spec": template("db")["spec"],
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            }),
        );
    }
    Key::new("", "pods", NAMESPACE, &format!("{name}-{resource}-pod-2"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateful_sets_and_daemon_sets_are_judged_and_only_reported() {
    let rig = Rig::new().await;
    let _operator = rig.operator();
    for (kind, resource) in [("StatefulSet", "statefulsets"), ("DaemonSet", "daemonsets")] {
        let pod = put_set(&rig, kind, resource);
        let target = json!({"apiVersion": "apps/v1", "kind": kind, "name": "db"});
        rig.guard(resource, json!({"targetRef": target, "analysis": {"window": "1h"}}));
        rig.api.change(&pod, |pod| crash(pod, 2));
        let judged = |s: &Value| s["lastDecision"]["decision"] == "ROLLBACK";
        let status = rig.status(resource, "it is judged by its pods", judged).await;
        let decision = &status["lastDecision"];
        assert_eq!(decision["clampedBy"], "kind-can-be-undone", "{decision:#}");
        assert!(decision["actionReason"].to_string().contains("kubectl rollout undo"), "{decision:#}");
    }
    let writes = rig.api.asked().into_iter().filter(|asked| asked.is_write() && asked.group == "apps").count();
    assert_eq!(writes, 0);
    assert!(rig.api.get(&guard_place("statefulsets")).is_some());
}
