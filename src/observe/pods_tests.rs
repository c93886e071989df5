use serde_json::json;

use super::*;

fn pod(name: &str, status: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "shop", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"pod-template-hash": "abc"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-abc", "uid": "rs", "controller": true}]
        },
        "spec": {"containers": [{"name": "app", "resources": {"limits": {"memory": "64Mi"}}}, {"name": "sidecar"}]},
        "status": status,
    }))
    .unwrap()
}

fn ready(at: Option<&str>) -> serde_json::Value {
    let (status, at) = at.map_or(("False", "2026-01-01T09:00:00Z"), |at| ("True", at));
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": at}]})
}

fn only(index: &PodIndex) -> PodFact {
    let owner: Arc<str> = "rs".into();
    let pods = index.of_owners([&owner]);
    assert_eq!(pods.len(), 1);
    pods.into_iter().next().unwrap()
}

fn started(index: &PodIndex) {
    index.apply(Event::Init);
    index.apply(Event::InitDone);
}

#[test]
fn a_pod_is_reduced_and_mapped_to_its_workload() {
    let index = PodIndex::default();
    started(&index);
    let key = index.apply(Event::Apply(pod("a", ready(Some("2026-01-01T00:00:05Z"))))).unwrap();
    assert_eq!(key.target.name, "api");
    let fact = only(&index);
    assert_eq!(fact.revision.as_str(), "abc");
    assert_eq!(fact.containers[0].memory_limit, Some(64 << 20));
    assert_eq!(fact.containers[1].memory_limit, None);
}

#[test]
fn an_event_that_changes_no_fact_wakes_nobody() {
    let index = PodIndex::default();
    started(&index);
    assert!(index.apply(Event::Apply(pod("a", ready(None)))).is_some());
    assert!(index.apply(Event::Apply(pod("a", ready(None)))).is_none());
}

#[test]
fn flapping_readiness_does_not_make_a_pod_young_again() {
    let index = PodIndex::default();
    started(&index);
    for at in [Some("2026-01-01T00:00:05Z"), None, Some("2026-01-01T00:03:00Z")] {
        index.apply(Event::Apply(pod("a", ready(at))));
    }
    let fact = only(&index);
    assert_eq!(fact.first_ready.unwrap().to_string(), "2026-01-01T00:00:05Z");
    assert_eq!(fact.ready_since.unwrap().to_string(), "2026-01-01T00:03:00Z");
}

#[test]
fn restarts_leave_their_times_and_first_starts_do_not() {
    let index = PodIndex::default();
    started(&index);
    let with = |count: i32, at: &str| {
        json!({"containerStatuses": [{"name": "app", "ready": true, "restartCount": count, "image": "", "imageID": "",
            "state": {"running": {"startedAt": at}}}]})
    };
    index.apply(Event::Apply(pod("a", with(0, "2026-01-01T00:00:01Z"))));
    assert!(only(&index).container_starts.is_empty());
    index.apply(Event::Apply(pod("a", with(1, "2026-01-01T00:01:00Z"))));
    index.apply(Event::Apply(pod("a", with(2, "2026-01-01T00:02:00Z"))));
    assert_eq!(only(&index).container_starts.len(), 2);
    assert_eq!(only(&index).restarts, 2);
}

#[test]
fn a_new_list_replaces_the_old_one_but_keeps_what_the_api_forgot() {
    let index = PodIndex::default();
    started(&index);
    index.apply(Event::Apply(pod("a", ready(Some("2026-01-01T00:00:05Z")))));
    index.apply(Event::Apply(pod("gone", ready(None))));
    index.apply(Event::Init);
    assert_eq!(index.len(), 2, "the old list answers until the new one is complete");
    index.apply(Event::InitApply(pod("a", ready(Some("2026-01-01T00:09:00Z")))));
    index.apply(Event::InitDone);
    assert_eq!(only(&index).first_ready.unwrap().to_string(), "2026-01-01T00:00:05Z");
}

#[test]
fn deleted_pods_are_gone() {
    let index = PodIndex::default();
    started(&index);
    index.apply(Event::Apply(pod("a", ready(None))));
    assert!(index.apply(Event::Delete(pod("a", ready(None)))).is_some());
    assert!(index.is_empty());
}

#[test]
fn pods_without_a_known_owner_are_not_kept() {
    let index = PodIndex::default();
    started(&index);
    let mut bare = pod("a", ready(None));
    bare.metadata.owner_references = None;
    assert!(index.apply(Event::Apply(bare)).is_none());
    assert!(index.is_empty());
}

#[test]
fn quantities_are_read_as_kubernetes_writes_them() {
    for (text, value) in [
        ("64Mi", Some(64 << 20)),
        ("1.5Gi", Some(3 << 29)),
        ("128974848", Some(128_974_848)),
        ("129e6", Some(129_000_000)),
        ("129M", Some(129_000_000)),
        ("1500m", Some(1)),
        ("1E", Some(1_000_000_000_000_000_000)),
        ("1e3", Some(1000)),
        ("", None),
        ("lots", None),
        ("-5", None),
        ("99999999999999999999E", None),
    ] {
        assert_eq!(bytes(text), value, "{text}");
    }
}
