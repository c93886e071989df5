//! The controllers of `StatefulSet`s and `DaemonSet`s in the test's world, as far as an undo can meet them.
//!
//! Role: `ControllerRevision`s and pods follow the template. A StatefulSet works in order and waits for a broken pod for
//! ever, as the real one does; a DaemonSet replaces broken pods first. Inputs: writes. Outputs: revisions, pods, status.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::api_server::{ApiServer, Key};
use super::deployments::{NAMESPACE, hash_of};
use super::patches::{fields_of, managed};

/// Pods of each set.
pub const PODS: usize = 3;
/// Each kind with its resource.
pub const BOTH: [(&str, &str); 2] = [("StatefulSet", "statefulsets"), ("DaemonSet", "daemonsets")];

/// The place of the one set of a resource; its guard has the name of the resource.
pub fn place(resource: &str) -> Key {
    Key::new("apps", resource, NAMESPACE, if resource == "statefulsets" { "db" } else { "agent" })
}

pub fn target(resource: &str) -> Value {
    let kind = if resource == "statefulsets" { "StatefulSet" } else { "DaemonSet" };
    json!({"apiVersion": "apps/v1", "kind": kind, "name": place(resource).name})
}

/// Pods of an image with this word in it never become Ready.
const BROKEN: &str = "bad";

/// A push, applied by `kubectl`. A set is made without annotations, as is usual.
pub fn push(api: &ApiServer, resource: &str, image: &str) {
    let key = place(resource);
    let template = json!({
        "metadata": {"labels": {"app": key.name}, "creationTimestamp": null},
        "spec": {"containers": [{
            "name": "app", "image": image, "futureField": {"kept": true},
            // Who ended such a container only events say.
            "livenessProbe": {"tcpSocket": {"port": 80}},
        }]},
    });
    let owner = json!([managed("kubectl", "Apply", json!({"f:spec": {"f:template": fields_of(&template)}}))]);
    if api.get(&key).is_some() {
        api.change(&key, |set| {
            set["spec"]["template"] = template;
            set["metadata"]["managedFields"] = owner;
        });
        return;
    }
    let selector = json!({"matchLabels": {"app": key.name}});
    api.put(
        &key,
        json!({
            "apiVersion": "apps/v1", "kind": target(resource)["kind"], "metadata": {"managedFields": owner},
            "spec": {"replicas": PODS, "selector": selector, "template": template},
        }),
    );
}

/// The image that a set asks for.
pub fn image(api: &ApiServer, resource: &str) -> String {
    let set = api.get(&place(resource)).unwrap_or_default();
    set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned()
}

/// The pods of a set that run this image.
pub fn pods_with(api: &ApiServer, resource: &str, image: &str) -> Vec<Key> {
    let is = |pod: &Value| pod["spec"]["containers"][0]["image"] == image;
    pods_of(api, &place(resource)).into_iter().filter(|(_, pod)| is(pod)).map(|(key, _)| key).collect()
}

fn pods_of(api: &ApiServer, set: &Key) -> Vec<(Key, Value)> {
    api.all("pods").into_iter().filter(|(_, pod)| pod["metadata"]["labels"]["app"] == set.name.as_str()).collect()
}

/// Every set there is.
pub fn all(api: &ApiServer) -> Vec<Key> {
    BOTH.iter().flat_map(|(_, resource)| api.all(resource)).map(|(key, _)| key).collect()
}

/// Lets the world follow the set.
pub fn follow(api: &ApiServer, key: &Key) {
    let Some(set) = api.get(key) else { return };
    let revision = revision(api, key, &set);
    while step(api, key, &set, &revision) {}
    let status = json!({
        "observedGeneration": set["metadata"]["generation"], "updateRevision": revision, "desiredNumberScheduled": PODS,
    });
    if set["status"] != status {
        api.change(key, |set| set["status"] = status);
    }
}

/// What pods of the present template are labelled with; an equal revision is used again.
fn revision(api: &ApiServer, key: &Key, set: &Value) -> String {
    let mut template = set["spec"]["template"].clone();
    assert!(template["$patch"].is_null(), "the directive of a ControllerRevision is no part of a template");
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    let hash = hash_of(&template);
    let place = Key::new("apps", "controllerrevisions", NAMESPACE, &format!("{}-{hash}", key.name));
    let next = api.all("controllerrevisions").len() + 1;
    let label = if key.resource == "statefulsets" { place.name.clone() } else { hash.clone() };
    if let Some(mut known) = api.get(&place) {
        if label != set["status"]["updateRevision"] {
            known["revision"] = json!(next);
            api.put(&place, known);
        }
        return label;
    }
    template["$patch"] = json!("replace");
    let labels = json!({"app": key.name, "controller-revision-hash": hash});
    api.put(
        &place,
        json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": next,
            "metadata": {"labels": labels, "ownerReferences": [owner(set)]}, "data": {"spec": {"template": template}},
        }),
    );
    label
}

/// One thing that the controller does; whether there may be another.
fn step(api: &ApiServer, key: &Key, set: &Value, revision: &str) -> bool {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let pods = pods_of(api, key);
    let is_ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    let is_old = |pod: &Value| pod["metadata"]["labels"]["controller-revision-hash"] != revision;
    let old = || pods.iter().filter(|(_, pod)| is_old(pod));
    let ordered = key.resource == "statefulsets";
    if ordered {
        for ordinal in 0..PODS {
            let name = format!("{}-{ordinal}", key.name);
            match pods.iter().find(|(key, _)| key.name == name) {
                None => {
                    make(api, set, revision, &name);
                    return true;
                }
                // Whatever its revision: this is what gets it stuck.
                Some((_, pod)) if !is_ready(pod) => return false,
                Some(_) => {}
            }
        }
    } else if pods.len() < PODS {
        make(api, set, revision, &format!("{}-p{}", key.name, MADE.fetch_add(1, Ordering::Relaxed)));
        return true;
    }
    let goes = if set["spec"]["updateStrategy"]["type"] == "OnDelete" {
        None
    } else if ordered || pods.iter().filter(|(_, pod)| !is_old(pod)).all(|(_, pod)| is_ready(pod)) {
        old().next_back()
    } else {
        old().find(|(_, pod)| !is_ready(pod))
    };
    goes.inspect(|(pod, _)| api.delete(pod)).is_some()
}

fn owner(set: &Value) -> Value {
    let meta = &set["metadata"];
    json!({"apiVersion": "apps/v1", "kind": set["kind"], "name": meta["name"], "uid": meta["uid"], "controller": true})
}

fn make(api: &ApiServer, set: &Value, revision: &str, name: &str) {
    let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap().to_string();
    let spec = &set["spec"]["template"]["spec"];
    let ready = !spec["containers"][0]["image"].as_str().unwrap_or_default().contains(BROKEN);
    let labels = json!({"app": set["metadata"]["name"], "controller-revision-hash": revision});
    let is = if ready { "True" } else { "False" };
    api.put(
        &Key::new("", "pods", NAMESPACE, name),
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"labels": labels, "ownerReferences": [owner(set)]},
            "spec": spec,
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": is, "lastTransitionTime": now}],
                "containerStatuses": [{
                    "name": "app", "image": "app", "imageID": "", "ready": ready, "restartCount": 0,
                    "state": {"running": {"startedAt": now}},
                }],
            },
        }),
    );
}
