//! Guards whose Deployment, class or spec is missing, wrong or shared.

use serde_json::json;

use super::deployments::{guard_place, place, pods_of, push};
use super::rig::{Rig, because, find, is};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_before_its_deployment_says_so_and_works_when_it_appears() {
    let rig = Rig::empty().await;
    rig.class("default", json!({}));
    rig.guard("guard", json!({}));
    let _operator = rig.operator();
    let status = rig.status("guard", "the target is missed", |s| because(s, "Ready", "TargetNotFound")).await;
    assert!(is(&status, "Ready", "False") && is(&status, "Healthy", "Unknown"), "{status:#}");
    rig.push("shop:v1");
    rig.adopted("guard").await;
    rig.push("shop:v2");
    rig.status("guard", "a release is judged good", |s| is(s, "Healthy", "True")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_made_anew_under_the_same_name_is_another_one() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    let before = rig.status_of("guard");
    for (key, _) in rig.api.all("pods").into_iter().chain(rig.api.all("replicasets")) {
        rig.api.delete(&key);
    }
    rig.api.delete(&place("shop"));
    rig.status("guard", "the target is missed", |s| because(s, "Ready", "TargetNotFound")).await;
    push(&rig.api, "shop", "shop:v9");
    let status = rig
        .status("guard", "the new one is known", |s| {
            is(s, "Ready", "True")
                && s["target"]["uid"] != before["target"]["uid"]
                && s["current"]["state"].is_string()
                && s["current"]["revision"] != before["current"]["revision"]
        })
        .await;
    assert_eq!(status["current"]["state"], "Serving", "what serves alone is not judged: {status:#}");
    assert_eq!(status["lastDecision"], json!(null));
    assert_eq!(rig.workload_writes().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_class_is_named_and_the_guard_works_when_it_is_made() {
    let rig = Rig::new().await;
    rig.guard("guard", json!({"className": "fast"}));
    let _operator = rig.operator();
    let status = rig.status("guard", "the class is missed", |s| because(s, "Ready", "UnknownClass")).await;
    assert!(find(&status, "Ready")["message"].to_string().contains("fast"), "{status:#}");
    rig.class("fast", json!({}));
    rig.adopted("guard").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_guards_the_older_works_and_its_deletion_frees_the_younger() {
    let rig = Rig::new().await;
    rig.guard("older", json!({}));
    rig.api
        .change(&guard_place("older"), |guard| guard["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z"));
    rig.guard("a-younger", json!({}));
    let _operator = rig.operator();
    rig.adopted("older").await;
    let status = rig.status("a-younger", "it stands aside", |s| is(s, "Stalled", "True")).await;
    assert!(because(&status, "Stalled", "TargetAlreadyGuarded"), "{status:#}");
    assert!(find(&status, "Stalled")["message"].to_string().contains("older"), "{status:#}");
    // Nothing is under way any more that would look at the older one by chance.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    rig.api.delete(&guard_place("older"));
    rig.adopted("a-younger").await;
    let status = rig.status("a-younger", "it is no longer stalled", |s| is(s, "Stalled", "False")).await;
    assert!(is(&status, "Ready", "True"), "{status:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selector_that_does_not_parse_is_told_and_other_guards_go_on() {
    let rig = Rig::new().await;
    push(&rig.api, "cart", "cart:v1");
    rig.until("cart has pods", || !pods_of(&rig.api, "cart").is_empty()).await;
    rig.guard("guard", json!({}));
    let broken =
        json!([{"name": "errors", "ratio": {"bad": "http_requests_total{code=~", "total": "http_requests_total"}}]);
    rig.guard("broken", json!({"targetRef": {"name": "cart"}, "signals": broken}));
    let _operator = rig.operator();
    let status = rig.status("broken", "the spec is refused", |s| because(s, "Ready", "InvalidSpec")).await;
    assert!(is(&status, "Ready", "False") && is(&status, "Healthy", "Unknown"), "{status:#}");
    rig.adopted("guard").await;
    rig.push("shop:v2");
    rig.status("guard", "the other guard judges", |s| is(s, "Healthy", "True")).await;
    rig.api.change(&guard_place("broken"), |guard| guard["spec"]["signals"] = json!([]));
    rig.adopted("broken").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_the_operator_lacks_is_named_where_it_is_needed() {
    let rig = Rig::new().await;
    rig.api.forbid(true);
    rig.guard("guard", json!({}));
    let operator = rig.operator();
    let status = rig.status("guard", "the missing right is named", |s| because(s, "Ready", "Forbidden")).await;
    assert!(is(&status, "Ready", "False"), "{status:#}");
    let message = find(&status, "Ready")["message"].to_string();
    for part in ["patch deployments.apps", "namespace shop", "mode Enforce"] {
        assert!(message.contains(part), "{message}");
    }
    operator.die().await;
    // Granted later, it is noticed by the next operator at once and by the same one within half a minute.
    rig.api.forbid(false);
    let operator = rig.operator();
    rig.status("guard", "it is granted", |s| is(s, "Ready", "True")).await;
    operator.die().await;
    // Whoever only recommends needs no such right, and nobody asks.
    rig.api.forbid(true);
    rig.api.change(&guard_place("guard"), |guard| guard["spec"]["mode"] = json!("Recommend"));
    let from = rig.api.asked().len();
    let _operator = rig.operator();
    rig.push("shop:v2");
    let status = rig.status("guard", "a release is judged good", |s| is(s, "Healthy", "True")).await;
    assert!(is(&status, "Ready", "True"), "{status:#}");
    assert!(rig.api.asked_since(from).iter().all(|asked| asked.resource != "selfsubjectaccessreviews"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_flagger_releases_is_refused_with_the_canarys_name() {
    let rig = Rig::new().await;
    rig.api.change(&place("shop"), |deployment| {
        deployment["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "shop", "uid": "c", "controller": true,
        }]);
    });
    rig.guard("guard", json!({}));
    let _operator = rig.operator();
    let status = rig.status("guard", "the owner is named", |s| because(s, "Stalled", "TargetOwnedByController")).await;
    assert!(is(&status, "Stalled", "True") && is(&status, "Ready", "False"), "{status:#}");
    assert!(find(&status, "Stalled")["message"].to_string().contains("Canary/shop"), "{status:#}");
    rig.push(super::rig::BAD_IMAGE);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(rig.workload_writes().is_empty());
}
