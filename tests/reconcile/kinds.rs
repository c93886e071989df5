//! `StatefulSet`s and `DaemonSet`s: undone the one way, and freed where nobody replaces their pods.

use serde_json::{Value, json};

use super::api_server::{Asked, Key};
use super::facts::crash;
use super::rig::{Operator, Rig, because, find, is};
use super::sets::{self, BOTH};

const GOOD: &str = "app:1";
pub const BAD: &str = "app:bad";

/// A set that serves, watched by a guard of the name of its resource.
pub async fn serving(rig: &Rig, resource: &str, spec: Value, guard: Value) {
    sets::push(&rig.api, resource, GOOD);
    rig.api.change(&sets::place(resource), |set| json_patch::merge(&mut set["spec"], &spec));
    rig.until("the set has pods", || sets::pods_with(&rig.api, resource, GOOD).len() == sets::PODS).await;
    let mut more = json!({"targetRef": sets::target(resource), "analysis": {"window": "1h"}});
    json_patch::merge(&mut more, &guard);
    rig.guard(resource, more);
}

/// The pods of the bad release crash until the guard has seen enough.
pub async fn undone(rig: &Rig, resource: &str) -> Value {
    rig.until("a pod runs it", || !sets::pods_with(&rig.api, resource, BAD).is_empty()).await;
    for pod in sets::pods_with(&rig.api, resource, BAD) {
        rig.api.change(&pod, |pod| crash(pod, 2));
    }
    let status = rig.status(resource, "it is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
    assert_eq!(sets::image(&rig.api, resource), GOOD);
    status
}

async fn begin(resource: &str, spec: Value, guard: Value) -> (Rig, Operator) {
    let rig = Rig::empty().await;
    rig.class("default", json!({}));
    serving(&rig, resource, spec, guard).await;
    let operator = rig.operator();
    rig.adopted(resource).await;
    sets::push(&rig.api, resource, BAD);
    (rig, operator)
}

pub fn deletions(rig: &Rig) -> Vec<Asked> {
    rig.api.asked().into_iter().filter(|asked| asked.verb == "delete").collect()
}

fn events(rig: &Rig, reason: &str) -> usize {
    let about = |event: &Value| event["reason"] == reason && event["regarding"]["kind"] == "DeploymentGuard";
    rig.api.all("events").iter().filter(|(_, event)| about(event)).count()
}

/// The operator stops, a minute passes, the next one goes on.
async fn a_minute_later(rig: &Rig, resource: &str, operator: Operator) -> Operator {
    operator.die().await;
    rig.long_ago_of(resource);
    rig.operator()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateful_sets_and_daemon_sets_are_undone_once_and_verified() {
    for (kind, resource) in BOTH {
        let (rig, operator) = begin(resource, json!({}), json!({})).await;
        let status = undone(&rig, resource).await;
        let decision = &status["lastDecision"];
        assert_eq!((&decision["decision"], &decision["clampedBy"]), (&json!("ROLLBACK"), &Value::Null), "{decision:#}");
        let set = rig.api.get(&sets::place(resource)).unwrap_or_default();
        assert_eq!(
            set["metadata"]["annotations"],
            json!({"deploymentguard.dev/last-rollback": decision["id"]}),
            "{kind}"
        );
        let ours = |set: &Value| {
            let entries = set["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
            let ours = entries.into_iter().find(|entry| entry["manager"] == "deployment-guard/undo");
            ours.is_some_and(|entry| !entry["fieldsV1"]["f:spec"]["f:template"].is_null())
        };
        rig.until("it is its owner's again", || !rig.api.get(&sets::place(resource)).is_some_and(|set| ours(&set)))
            .await;
        let operator = a_minute_later(&rig, resource, operator).await;
        rig.until("nothing bad is left", || sets::pods_with(&rig.api, resource, BAD).is_empty()).await;
        let operator = a_minute_later(&rig, resource, operator).await;
        rig.status(resource, "the undo is verified", |s| because(s, "RolledBack", "RollbackSucceeded")).await;
        assert_eq!(rig.undos().len(), 1, "{kind}");
        // A DaemonSet heals itself.
        assert_eq!(deletions(&rig).len(), usize::from(kind == "StatefulSet"), "{kind}");
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_stateful_set_is_freed_pod_by_pod_with_an_event_each() {
    let resource = "statefulsets";
    let (rig, operator) = begin(resource, json!({}), json!({})).await;
    undone(&rig, resource).await;
    let stuck = sets::pods_with(&rig.api, resource, BAD);
    assert_eq!(stuck.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["db-2"], "the set waits for it");
    let uid = rig.api.get(&stuck[0]).unwrap_or_default()["metadata"]["uid"].clone();
    assert!(deletions(&rig).is_empty(), "the set had no time to do it itself");
    let _operator = a_minute_later(&rig, resource, operator).await;
    rig.until("it is replaced", || sets::pods_with(&rig.api, resource, GOOD).len() == sets::PODS).await;
    let deleted = deletions(&rig);
    assert_eq!(deleted.len(), 1, "{deleted:#?}");
    assert_eq!((deleted[0].name.as_str(), &deleted[0].body), ("db-2", &json!({"preconditions": {"uid": uid}})));
    rig.until("it is told", || events(&rig, "StuckPodDeleted") == 1).await;
    let status = rig.status_of(resource);
    assert!(is(&status, "Stalled", "False"), "{status:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_stuck_pods_the_lowest_goes_first_and_each_is_told_of() {
    let resource = "statefulsets";
    let (rig, operator) = begin(resource, json!({}), json!({})).await;
    rig.until("a pod runs it", || !sets::pods_with(&rig.api, resource, BAD).is_empty()).await;
    // A set that works in parallel would have replaced this one too.
    let key = Key::new("", "pods", "shop", "db-1");
    let bad = rig.api.get(&sets::pods_with(&rig.api, resource, BAD)[0]).unwrap_or_default();
    rig.api.change(&key, |pod| {
        for field in ["spec", "status"] {
            pod[field] = bad[field].clone();
        }
        pod["metadata"]["labels"] = bad["metadata"]["labels"].clone();
    });
    undone(&rig, resource).await;
    let _operator = a_minute_later(&rig, resource, operator).await;
    rig.until("both are replaced", || sets::pods_with(&rig.api, resource, GOOD).len() == sets::PODS).await;
    let names: Vec<String> = deletions(&rig).into_iter().map(|asked| asked.name).collect();
    assert_eq!(names, ["db-1", "db-2"]);
    rig.until("each is told of", || events(&rig, "StuckPodDeleted") == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_to_be_alerted_is_told_which_pod_to_delete_and_it_stays() {
    let resource = "statefulsets";
    let alert = json!({"rollback": {"statefulSet": {"stuckPods": "Alert"}}});
    let (rig, operator) = begin(resource, json!({}), alert).await;
    undone(&rig, resource).await;
    let _operator = a_minute_later(&rig, resource, operator).await;
    let status = rig.status(resource, "it is named", |s| because(s, "Stalled", "StuckStatefulSetPod")).await;
    let message = find(&status, "Stalled")["message"].to_string();
    assert!(is(&status, "Stalled", "True") && message.contains("kubectl -n shop delete pod db-2"), "{message}");
    rig.until("it is told", || events(&rig, "StuckPodFound") == 1).await;
    assert!(deletions(&rig).is_empty());
    // A person does it.
    rig.api.delete(&Key::new("", "pods", "shop", "db-2"));
    rig.status(resource, "it is no longer stuck", |s| is(s, "Stalled", "False")).await;
    assert_eq!(events(&rig, "StuckPodFound"), 1);
}

/// A set of which nobody replaces pods, with the bad release on two of three.
async fn by_hand(resource: &str, guard: Value) -> (Rig, Operator) {
    let (rig, operator) = begin(resource, json!({"updateStrategy": {"type": "OnDelete"}}), guard).await;
    rig.until("the push is seen", || {
        let set = rig.api.get(&sets::place(resource)).unwrap_or_default();
        set["status"]["observedGeneration"] == set["metadata"]["generation"]
    })
    .await;
    // A StatefulSet makes nothing above a broken pod: the second is deleted before the first is made.
    for pod in sets::pods_with(&rig.api, resource, GOOD).into_iter().skip(2) {
        rig.api.delete(&pod);
    }
    (rig, operator)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_nobody_replaces_are_named_or_deleted_as_the_guard_says() {
    for (_, resource) in BOTH {
        let (rig, _operator) = by_hand(resource, json!({})).await;
        undone(&rig, resource).await;
        let status = rig.status(resource, "they are named", |s| because(s, "Stalled", "OnDeleteStrategy")).await;
        let left = sets::pods_with(&rig.api, resource, BAD);
        let message = find(&status, "Stalled")["message"].to_string();
        assert!(
            !left.is_empty() && message.contains(&left[0].name) && message.contains("rollback.onDelete"),
            "{message}"
        );
        assert!(find(&status, "RolledBack")["message"].to_string().contains("OnDelete"), "{status:#}");
        assert!(deletions(&rig).is_empty());

        let (rig, _operator) = by_hand(resource, json!({"rollback": {"onDelete": "Delete"}})).await;
        undone(&rig, resource).await;
        rig.until("they are replaced", || sets::pods_with(&rig.api, resource, GOOD).len() == sets::PODS).await;
        rig.until("it is told", || events(&rig, "StuckPodDeleted") == deletions(&rig).len()).await;
        assert_eq!(deletions(&rig).len(), 1, "no pod of another revision");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_that_cannot_tell_the_revisions_of_a_stateful_set_apart_are_no_evidence() {
    let resource = "statefulsets";
    let rig = Rig::empty().await;
    rig.class("default", json!({}));
    for scorer in ["Seed", "Evidence"] {
        serving(&rig, resource, json!({}), json!({"analysis": {"window": "2s", "scorer": scorer}})).await;
        let operator = rig.operator();
        rig.adopted(resource).await;
        sets::push(&rig.api, resource, "app:2");
        let judged = |s: &Value| s["lastDecision"]["decision"] == "CONTINUE";
        let status = rig.status(resource, "its window ends", judged).await;
        assert!(is(&status, "MetricsAvailable", "False"), "{status:#}");
        assert!(find(&status, "MetricsAvailable")["message"].to_string().contains("same names"), "{status:#}");
        assert!(is(&status, "Healthy", "Unknown"), "{scorer}: {status:#}");
        assert_eq!(status["knownGood"][0]["trust"], "PodsOnly", "{scorer}: {status:#}");
        operator.die().await;
        for key in [sets::place(resource), super::deployments::guard_place(resource)] {
            rig.api.delete(&key);
        }
        for (key, _) in rig.api.all("pods").into_iter().chain(rig.api.all("controllerrevisions")) {
            rig.api.delete(&key);
        }
    }
}
