mod answers;
mod hand_back;
mod patch;
mod reading;
mod verifying;

use serde_json::{Value, json};

use super::*;
use crate::domain::policy::Kind;

pub(super) const UID: &str = "uid-1";

pub(super) fn request() -> UndoRequest {
    UndoRequest {
        decision_id: "decision-1".to_owned(),
        namespace: "shop".to_owned(),
        target: Target { kind: Kind::Deployment, name: "api".to_owned() },
        uid: UID.into(),
        from: RevisionHash::new("bad"),
        to: RevisionHash::new("good"),
        kept: None,
    }
}

pub(super) fn template(image: &str) -> Value {
    json!({
        "metadata": {"creationTimestamp": null, "labels": {"app": "api"}},
        "spec": {"containers": [{"name": "app", "image": image, "newerThanOurBindings": {"x": 1}}]},
    })
}

pub(super) fn replica_set(hash: &str, number: u64, template: &Value) -> Value {
    let mut template = template.clone();
    template["metadata"]["labels"][TEMPLATE_HASH] = json!(hash);
    json!({
        "metadata": {
            "name": format!("api-{hash}"), "uid": format!("uid-{hash}"), "labels": {"app": "api", TEMPLATE_HASH: hash},
            "annotations": {"deployment.kubernetes.io/revision": number.to_string()},
            "ownerReferences": [{"kind": "Deployment", "name": "api", "uid": UID, "controller": true}],
        },
        "spec": {"replicas": 1, "template": template},
    })
}

pub(super) fn revisions() -> Vec<Value> {
    vec![replica_set("good", 1, &template("app:1")), replica_set("bad", 2, &template("app:2"))]
}

pub(super) fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "api", "namespace": "shop", "uid": UID, "generation": 2, "resourceVersion": "7",
            "annotations": {"team": "shop"},
        },
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "api"}}, "template": template("app:2")},
        "status": {"observedGeneration": 2},
    })
}

pub(super) fn planned(workload: &Value) -> UndoPatch {
    match plan_undo(&request(), workload, &revisions(), None).expect("a usable workload") {
        UndoPlan::Patch(patch) => *patch,
        other => panic!("no patch but {other:?}"),
    }
}

/// Applies a patch as the API server does: there a test of null holds where nothing is.
pub(super) fn apply(workload: &Value, operations: &Value) -> Option<Value> {
    let mut rest = Vec::new();
    for operation in operations.as_array().expect("a list") {
        let path = operation["path"].as_str().expect("a path");
        let is_null_test = operation["op"] == "test" && operation["value"].is_null();
        if !is_null_test {
            rest.push(operation.clone());
        } else if workload.pointer(path).is_some_and(|value| !value.is_null()) {
            return None;
        }
    }
    let patch: json_patch::Patch = serde_json::from_value(Value::Array(rest)).expect("a JSON Patch");
    let mut patched = workload.clone();
    json_patch::patch(&mut patched, &patch).ok().map(|()| patched)
}
