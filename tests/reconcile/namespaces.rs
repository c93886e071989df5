//! An operator that looks in some namespaces only: it works there, and asks nothing of others.

use std::collections::BTreeSet;

use serde_json::json;

use super::api_server::Key;
use super::rig::{BAD_IMAGE, Rig};

/// What has no namespace.
const OF_THE_CLUSTER: [&str; 4] = ["guardclasses", "guardclasses/status", "nodes", "selfsubjectaccessreviews"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_named_namespaces_a_release_is_undone_and_nothing_is_asked_of_others() {
    let mut rig = Rig::new().await;
    rig.namespaces = vec!["api".into(), "shop".into()];
    let elsewhere = Key::new("deploymentguard.dev", "deploymentguards", "elsewhere", "guard");
    rig.api.put(
        &elsewhere,
        json!({"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard", "metadata": {},
            "spec": {"targetRef": {"kind": "Deployment", "name": "shop"}, "mode": "Enforce"}}),
    );
    rig.guard("guard", json!({}));
    let operator = rig.operator();
    rig.adopted("guard").await;
    rig.push(BAD_IMAGE);
    rig.status("guard", "a release is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
    operator.stop().await;
    let asked = rig.api.asked();
    let places: BTreeSet<_> = asked
        .iter()
        .filter(|asked| !OF_THE_CLUSTER.contains(&asked.resource.as_str()))
        .map(|asked| (asked.namespace.as_str(), asked.resource.as_str()))
        .collect();
    let outside: Vec<_> = places.iter().filter(|(namespace, _)| !["api", "shop"].contains(namespace)).collect();
    assert!(outside.is_empty(), "asked outside of the named namespaces: {outside:?}");
    assert!(places.contains(&("api", "pods")) && places.contains(&("shop", "pods")), "{places:?}");
    assert!(rig.api.get(&elsewhere).is_some_and(|guard| guard["status"].is_null()), "a guard elsewhere was looked at");
}
