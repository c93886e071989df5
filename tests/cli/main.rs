//! The command line as a person runs it, against an API server in the process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

mod answers;
mod names;
mod pages;
mod reading;
mod server;
mod undoing;
mod waiting;

use serde_json::{Value, json};

use server::Reply;

const GUARDS: &str = "/apis/deploymentguard.dev/v1alpha1/namespaces/shop/deploymentguards";
const ALL: &str = "/apis/deploymentguard.dev/v1alpha1/deploymentguards";
const GUARD: &str = "/apis/deploymentguard.dev/v1alpha1/namespaces/shop/deploymentguards/api";
const WORKLOAD: &str = "/apis/apps/v1/namespaces/shop/deployments/api";
const SETS: &str = "/apis/apps/v1/namespaces/shop/replicasets";

fn guard(status: Value) -> Value {
    json!({
        "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard",
        "metadata": {"name": "api", "namespace": "shop", "uid": "u1", "generation": 1, "resourceVersion": "5"},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}, "mode": "Enforce"},
        "status": status,
    })
}

fn list(kind: &str, items: &[Value], next: &str) -> Reply {
    let (api, kind) =
        if kind == "ReplicaSet" { ("apps/v1", "ReplicaSetList") } else { ("deploymentguard.dev/v1alpha1", kind) };
    Reply::Json(
        200,
        json!({"apiVersion": api, "kind": kind, "metadata": {"resourceVersion": "9", "continue": next}, "items": items}),
    )
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [{"name": "api", "image": image}]}})
}

/// A Deployment at a generation with an image.
fn deployment(generation: i64, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "api", "namespace": "shop", "uid": "w", "generation": generation, "resourceVersion": "3"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "api"}}, "template": template(image)},
        "status": {"observedGeneration": generation},
    })
}

/// The ReplicaSets of v1 and v2.
fn sets() -> Reply {
    let set = |hash: &str, number: i64, image: &str| {
        let mut template = template(image);
        template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": format!("api-{hash}"), "namespace": "shop", "uid": format!("rs-{hash}"),
                "labels": {"app": "api", "pod-template-hash": hash},
                "annotations": {"deployment.kubernetes.io/revision": number.to_string()},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "api", "uid": "w", "controller": true}]},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "api"}}, "template": template},
        })
    };
    list("ReplicaSet", &[set("old", 1, "api:v1"), set("new", 2, "api:v2")], "")
}
