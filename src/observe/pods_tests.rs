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

fn see(index: &PodIndex, event: Event<Pod>) -> Option<WorkloadKey> {
    index.apply(event, "2026-01-01T01:00:00Z".parse().unwrap())
}

fn only(index: &PodIndex) -> PodFact {
    let owner: Arc<str> = "rs".into();
    let pods = index.of_owners(&BTreeSet::from([owner]));
    assert_eq!(pods.len(), 1);
    pods.into_iter().next().unwrap()
}

fn started(index: &PodIndex) {
    see(index, Event::Init);
    see(index, Event::InitDone);
}

#[test]
fn a_pod_is_reduced_and_mapped_to_its_workload() {
    let index = PodIndex::default();
    started(&index);
    let key = see(&index, Event::Apply(pod("a", ready(Some("2026-01-01T00:00:05Z"))))).unwrap();
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
    assert!(see(&index, Event::Apply(pod("a", ready(None)))).is_some());
    assert!(see(&index, Event::Apply(pod("a", ready(None)))).is_none());
}

#[test]
fn flapping_readiness_does_not_make_a_pod_young_again() {
    let index = PodIndex::default();
    started(&index);
    for at in [Some("2026-01-01T00:00:05Z"), None, Some("2026-01-01T00:03:00Z")] {
        see(&index, Event::Apply(pod("a", ready(at))));
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
    see(&index, Event::Apply(pod("a", with(0, "2026-01-01T00:00:01Z"))));
    assert!(only(&index).container_starts.is_empty());
    see(&index, Event::Apply(pod("a", with(1, "2026-01-01T00:01:00Z"))));
    see(&index, Event::Apply(pod("a", with(2, "2026-01-01T00:02:00Z"))));
    assert_eq!(only(&index).container_starts.len(), 2);
    assert_eq!(only(&index).restarts, 2);
}

#[test]
fn a_new_list_replaces_the_old_one_but_keeps_what_the_api_forgot() {
    let index = PodIndex::default();
    started(&index);
    see(&index, Event::Apply(pod("a", ready(Some("2026-01-01T00:00:05Z")))));
    see(&index, Event::Apply(pod("gone", ready(None))));
    see(&index, Event::Init);
    assert_eq!(index.len(), 2, "the old list answers until the new one is complete");
    see(&index, Event::InitApply(pod("a", ready(Some("2026-01-01T00:09:00Z")))));
    see(&index, Event::InitDone);
    assert_eq!(only(&index).first_ready.unwrap().to_string(), "2026-01-01T00:00:05Z");
}

#[test]
fn deleted_pods_are_gone() {
    let index = PodIndex::default();
    started(&index);
    see(&index, Event::Apply(pod("a", ready(None))));
    assert!(see(&index, Event::Delete(pod("a", ready(None)))).is_some());
    assert!(index.is_empty());
}

#[test]
fn pods_without_a_known_owner_are_not_kept() {
    let index = PodIndex::default();
    started(&index);
    let mut bare = pod("a", ready(None));
    bare.metadata.owner_references = None;
    assert!(see(&index, Event::Apply(bare)).is_none());
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

fn owned(kind: &str, label: &str) -> Pod {
    let mut pod = pod("web-0", ready(None));
    pod.metadata.labels = Some([(label.to_owned(), "rev-7".to_owned())].into());
    let owner = &mut pod.metadata.owner_references.as_mut().unwrap()[0];
    (owner.kind, owner.name) = (kind.into(), "web".into());
    pod
}

#[test]
fn pods_of_all_three_kinds_are_mapped_to_their_workload() {
    for kind in ["StatefulSet", "DaemonSet"] {
        let index = PodIndex::default();
        started(&index);
        let key = see(&index, Event::Apply(owned(kind, "controller-revision-hash"))).unwrap();
        assert_eq!((key.target.kind.name(), key.target.name.as_str()), (kind, "web"));
        assert_eq!(only(&index).revision.as_str(), "rev-7");
    }
    assert!(see(&PodIndex::default(), Event::Apply(owned("Job", "controller-revision-hash"))).is_none());
}

fn crashed(restarts: i32, state: serde_json::Value, last: serde_json::Value) -> Pod {
    pod(
        "a",
        json!({"phase": "Running", "containerStatuses": [{"name": "app", "ready": false, "restartCount": restarts,
            "image": "", "imageID": "", "state": state, "lastState": last}]}),
    )
}

fn end(code: i32, second: u32) -> serde_json::Value {
    json!({"terminated": {"exitCode": code, "reason": "Error", "finishedAt": format!("2026-01-01T00:00:{second:02}Z")}})
}

#[test]
fn ends_are_counted_once_however_the_kubelet_alternates_between_its_words() {
    let index = PodIndex::default();
    started(&index);
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:03Z"}});
    let seen = [
        (crashed(0, end(1, 2), json!({})), 1),
        (crashed(0, waiting.clone(), end(1, 2)), 1),
        (crashed(1, running, end(1, 2)), 1),
        (crashed(1, end(1, 4), end(1, 2)), 2),
        (crashed(1, waiting, end(1, 4)), 2),
    ];
    for (pod, ended) in seen {
        see(&index, Event::Apply(pod));
        let fact = only(&index);
        assert_eq!(fact.ended(), ended);
        assert_eq!(fact.containers[0].exits.len(), usize::try_from(ended).unwrap());
    }
}

#[test]
fn ends_that_nobody_saw_are_counted_and_dated_as_early_as_they_can_be() {
    let index = PodIndex::default();
    started(&index);
    see(&index, Event::Apply(crashed(4, json!({"waiting": {"reason": "CrashLoopBackOff"}}), end(1, 50))));
    let exits = only(&index).containers[0].exits.clone();
    assert_eq!(exits.len(), 5);
    assert_eq!(exits.iter().filter(|exit| exit.code.is_none()).count(), 4);
    assert!(exits[0].at < exits[4].at);
}

#[test]
fn what_containers_do_while_their_pod_is_deleted_is_no_crash() {
    let index = PodIndex::default();
    started(&index);
    see(&index, Event::Apply(crashed(0, json!({"running": {"startedAt": "2026-01-01T00:00:01Z"}}), json!({}))));
    let mut leaving = crashed(0, end(143, 9), json!({}));
    leaving.metadata.deletion_timestamp = leaving.metadata.creation_timestamp.clone();
    see(&index, Event::Apply(leaving));
    assert_eq!(only(&index).ended(), 0);
}

#[test]
fn eviction_and_places_are_read_from_the_pods_conditions() {
    let index = PodIndex::default();
    started(&index);
    let status = json!({"phase": "Pending", "podIP": "10.0.0.7", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"},
        {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    ]});
    see(&index, Event::Apply(pod("a", status)));
    let fact = only(&index);
    assert_eq!(fact.unschedulable.as_deref(), Some("0/1 nodes"));
    assert_eq!(fact.disrupted.as_deref(), Some("EvictionByEvictionAPI"));
    assert_eq!(fact.ip.unwrap().to_string(), "10.0.0.7");
}

#[test]
fn since_when_a_pod_is_not_ready_is_read_from_its_condition_or_from_its_making() {
    let index = PodIndex::default();
    started(&index);
    see(&index, Event::Apply(pod("a", json!({"phase": "Pending"}))));
    assert_eq!(only(&index).unready_since, Some("2026-01-01T00:00:00Z".parse().unwrap()), "nobody said anything yet");
    see(&index, Event::Apply(pod("a", ready(None))));
    assert_eq!(only(&index).unready_since, Some("2026-01-01T09:00:00Z".parse().unwrap()));
    see(&index, Event::Apply(pod("a", ready(Some("2026-01-01T10:00:00Z")))));
    assert_eq!(only(&index).unready_since, None);
}
