//! The Deployment controller and the kubelets of the test's world; `sets` has the other two controllers.
//!
//! Role: what happens after a template changed: a ReplicaSet is made or reused, pods come and go. Inputs: writes to
//! Deployments. Outputs: ReplicaSets, pods, status; Prometheus is told which pods live.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::api_server::{ApiServer, Key};
use super::patches::{fields_of, managed};
use super::prometheus::Prometheus;
use super::sets;

pub const NAMESPACE: &str = "shop";
/// Pods of every Deployment.
pub const REPLICAS: usize = 2;

/// The place of a Deployment.
pub fn place(name: &str) -> Key {
    Key::new("apps", "deployments", NAMESPACE, name)
}

/// The place of a guard.
pub fn guard_place(name: &str) -> Key {
    Key::new("deploymentguard.dev", "deploymentguards", NAMESPACE, name)
}

fn template(name: &str, image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": name}, "creationTimestamp": null},
        "spec": {"containers": [{
            "name": "app", "image": image, "futureField": {"kept": true},
            "env": [{"name": "SECRET", "value": "hunter2-of-the-old-days"}],
            "resources": {"limits": {"memory": "64Mi"}},
        }]},
    })
}

/// A push: the Deployment carries this image from now on, applied by `kubectl`.
pub fn push(api: &ApiServer, name: &str, image: &str) {
    let template = template(name, image);
    let fields = json!({"f:spec": {"f:template": fields_of(&template)}});
    let owner = json!([managed("kubectl", "Apply", fields)]);
    if api.get(&place(name)).is_some() {
        api.change(&place(name), |deployment| {
            deployment["spec"]["template"] = template;
            deployment["metadata"]["managedFields"] = owner;
        });
        return;
    }
    api.put(
        &place(name),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"annotations": {"team": "checkout"}, "managedFields": owner},
            "spec": {"replicas": REPLICAS, "selector": {"matchLabels": {"app": name}}, "template": template},
        }),
    );
}

/// The image that the Deployment asks for.
pub fn image(api: &ApiServer, name: &str) -> String {
    let deployment = api.get(&place(name)).unwrap_or_default();
    deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned()
}

/// Runs the controller: a moment after each write of a Deployment the world follows.
pub fn start(api: &ApiServer, prometheus: &Prometheus) -> tokio::task::JoinHandle<()> {
    let (to, mut from) = mpsc::unbounded_channel();
    api.tell_of_workloads(to);
    let (api, prometheus) = (api.clone(), prometheus.clone());
    tokio::spawn(async move {
        while let Some(key) = from.recv().await {
            tokio::time::sleep(Duration::from_millis(30)).await;
            match key.resource.as_str() {
                "deployments" => follow(&api, &prometheus, &key),
                "pods" => sets::all(&api).iter().for_each(|set| sets::follow(&api, set)),
                _ => sets::follow(&api, &key),
            }
        }
    })
}

fn follow(api: &ApiServer, prometheus: &Prometheus, key: &Key) {
    let Some(deployment) = api.get(key) else { return };
    if deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"] {
        return;
    }
    if deployment["spec"]["paused"] != json!(true) {
        roll_out(api, prometheus, key, &deployment);
    }
    let generation = deployment["metadata"]["generation"].clone();
    api.change(key, |deployment| deployment["status"]["observedGeneration"] = generation);
}

pub fn hash_of(template: &Value) -> String {
    let text = template.to_string();
    let sum = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:x}").chars().take(10).collect()
}

fn roll_out(api: &ApiServer, prometheus: &Prometheus, key: &Key, deployment: &Value) {
    // What the operator copies out of a ReplicaSet has no nulls; the controller sees through that.
    let mut template = deployment["spec"]["template"].clone();
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    let uid = deployment["metadata"]["uid"].as_str().unwrap_or_default();
    let hash = format!("{}{}", hash_of(&template), uid.trim_start_matches("uid-"));
    let name = format!("{}-{hash}", key.name);
    let place = Key::new("apps", "replicasets", &key.namespace, &name);
    let number = |set: &Value| {
        let number = set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str();
        number.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
    };
    let next = api.all("replicasets").iter().map(|(_, set)| number(set)).max().unwrap_or(0) + 1;
    let image = template["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned();
    let set = if let Some(mut set) = api.get(&place) {
        set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!(next.to_string());
        api.put(&place, set)
    } else {
        template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        api.put(
            &place,
            json!({
                "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "metadata": {
                    "labels": {"app": key.name, "pod-template-hash": hash},
                    "annotations": {"deployment.kubernetes.io/revision": next.to_string()},
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "Deployment", "name": key.name, "uid": uid, "controller": true,
                    }],
                },
                "spec": {"replicas": REPLICAS, "template": template},
            }),
        )
    };
    let before: Vec<Key> = pods_of(api, &key.name);
    for index in 0..REPLICAS {
        let pod = Key::new("", "pods", &key.namespace, &format!("{name}-{next}{index}"));
        prometheus.born(&pod.name, &image);
        api.put(&pod, running(&set, &hash, &template["spec"]));
    }
    for pod in before {
        prometheus.died(&pod.name);
        api.delete(&pod);
    }
    if deployment["spec"]["revisionHistoryLimit"] == json!(0) {
        for (old, set) in api.all("replicasets") {
            if old != place && set["metadata"]["ownerReferences"][0]["uid"] == deployment["metadata"]["uid"] {
                api.delete(&old);
            }
        }
    }
}

/// The pods of a Deployment.
pub fn pods_of(api: &ApiServer, name: &str) -> Vec<Key> {
    let all = api.all("pods").into_iter();
    all.filter(|(_, pod)| pod["metadata"]["labels"]["app"] == name).map(|(key, _)| key).collect()
}

fn running(set: &Value, hash: &str, spec: &Value) -> Value {
    let now = Timestamp::now().round(jiff::Unit::Second).unwrap().to_string();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "labels": {"app": set["metadata"]["labels"]["app"], "pod-template-hash": hash},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set["metadata"]["name"],
                "uid": set["metadata"]["uid"], "controller": true,
            }],
        },
        "spec": spec,
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
            "containerStatuses": [{
                "name": "app", "image": "app", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }],
        },
    })
}
