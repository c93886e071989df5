//! Rights: what a full run uses is what `manifests/install.yaml` grants, no more and no less.

use std::collections::BTreeSet;
use std::time::Duration;

use deployment_guard::leader::{Campaign, LeaseConfig};
use serde_json::{Value, json};

use super::api_server::Key;
use super::deployments::{guard_place, place};
use super::kinds;
use super::rig::{BAD_IMAGE, Rig, because, is};
use super::sets;

/// Asked for once by each leader, granted or not: what another one may have suspended. The file grants them in comments.
const OPTIONAL: &[(&str, &str, &str)] =
    &[("list", "helm.toolkit.fluxcd.io", "helmreleases"), ("list", "argoproj.io", "applications")];

type Right = (String, String, String);

/// Granted, but visible only where a rule of the cluster asks for it, not in requests.
const UNSEEN: &[(&str, &str, &str)] = &[("update", "deploymentguard.dev", "deploymentguards/finalizers")];

#[test]
fn optional_rights_stand_in_the_file_as_comments() {
    let text = include_str!("../../manifests/install.yaml");
    for (verb, group, resource) in OPTIONAL {
        let wanted = format!("  # - apiGroups: [{group}]\n  #   resources: [{resource}]\n  #   verbs: [");
        let rest = text.split_once(&wanted).map(|(_, rest)| rest.split(']').next().unwrap_or_default());
        assert!(rest.is_some_and(|verbs| verbs.split(", ").any(|word| word == *verb)), "{verb} {resource}.{group}");
    }
}

fn granted() -> BTreeSet<Right> {
    let text = include_str!("../../manifests/install.yaml");
    let mut rights = BTreeSet::new();
    for document in text.split("\n---\n") {
        let document: Value = serde_saphyr::from_str(document).unwrap();
        let words = |rule: &Value, field: &str| -> Vec<String> {
            let all = rule[field].as_array().cloned().unwrap_or_default();
            all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        for rule in document["rules"].as_array().cloned().unwrap_or_default() {
            for verb in words(&rule, "verbs") {
                for group in words(&rule, "apiGroups") {
                    for resource in words(&rule, "resources") {
                        rights.insert((verb.clone(), group.clone(), resource));
                    }
                }
            }
        }
    }
    rights
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_run_uses_every_right_that_is_granted_and_no_other() {
    let rig = Rig::new().await;
    rig.api.put(
        &Key::new("", "secrets", "deployment-guard", "token"),
        json!({"apiVersion": "v1", "kind": "Secret", "data": {"token": "c2VjcmV0"}}),
    );
    rig.class("default", json!({"prometheus": {"bearerTokenSecretRef": {"name": "token", "key": "token"}}}));
    let through_service = json!({"name": "port", "service": "shop", "tcp": {"port": 80}});
    rig.api.put(
        &Key::new("", "services", "shop", "shop"),
        json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80, "targetPort": 8080}]}}),
    );
    rig.guard("guard", json!({"analysis": {"window": "3s"}, "probes": [through_service]}));
    for (_, resource) in sets::BOTH {
        kinds::serving(&rig, resource, json!({}), json!({})).await;
    }
    let lease =
        LeaseConfig { namespace: "deployment-guard".into(), name: "deployment-guard".into(), identity: "me".into() };
    let (campaign, leadership) = Campaign::new(rig.api.client(), lease);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let campaign = tokio::spawn(campaign.run(async move {
        let _ = stopped.await;
    }));
    let led = tokio::time::timeout(Duration::from_secs(10), leadership.acquired()).await;
    assert!(led.is_ok() && leadership.holds(), "the Lease was not won");
    // Somebody edits a guard at the moment at which its status is written: it is read again.
    let once = std::sync::atomic::AtomicBool::new(true);
    rig.api.before(move |asked, api| {
        let written = asked.is_write() && asked.resource == "deploymentguards/status";
        if written && once.swap(false, std::sync::atomic::Ordering::SeqCst) {
            api.change(&guard_place(&asked.name), |guard| guard["metadata"]["annotations"]["edited"] = json!("now"));
        }
    });
    let operator = rig.operator_as(leadership.clone());
    rig.adopted("guard").await;
    rig.push("shop:v2");
    rig.status("guard", "a release is judged good", |s| is(s, "Healthy", "True")).await;
    // With a port of its own, which an undo takes away: Services are asked whether they miss it.
    rig.api.change(&place("shop"), |deployment| {
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        container["image"] = json!(BAD_IMAGE);
        container["ports"] = json!([{"name": "admin", "containerPort": 9000}]);
    });
    rig.status("guard", "a release is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
    for (_, resource) in sets::BOTH {
        rig.adopted(resource).await;
        sets::push(&rig.api, resource, kinds::BAD);
        kinds::undone(&rig, resource).await;
    }
    operator.die().await;
    rig.long_ago();
    rig.long_ago_of("statefulsets");
    // Pages are the other way to list; both are granted.
    rig.api.refuse_streaming();
    let operator = rig.operator_as(leadership);
    rig.status("guard", "the undo is verified", |s| because(s, "RolledBack", "RollbackSucceeded")).await;
    rig.until("a stuck pod is deleted", || !kinds::deletions(&rig).is_empty()).await;
    operator.stop().await;
    let _ = stop.send(());
    let _ = tokio::time::timeout(Duration::from_secs(5), campaign).await;

    let asked = rig.api.asked();
    let mut used: BTreeSet<Right> = asked.into_iter().map(|a| (a.verb.to_owned(), a.group, a.resource)).collect();
    used.extend(rig.api.made_by_apply().into_iter().map(|a| ("create".to_owned(), a.group, a.resource)));
    let granted = granted();
    let optional = |right: &Right| OPTIONAL.iter().any(|(v, g, r)| (*v, *g, *r) == (&*right.0, &*right.1, &*right.2));
    let more: Vec<_> = used.difference(&granted).filter(|right| !optional(right)).collect();
    assert!(more.is_empty(), "used, but not granted: {more:#?}");
    let unseen: BTreeSet<Right> =
        UNSEEN.iter().map(|(v, g, r)| (v.to_string(), g.to_string(), r.to_string())).collect();
    let unused: Vec<_> = granted.difference(&used).filter(|right| !unseen.contains(right)).collect();
    assert!(unused.is_empty(), "granted, but not used: {unused:#?}");
}
