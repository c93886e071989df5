use std::sync::Mutex;

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;

use super::*;

const SORT: Sort = Sort { suffix: "-kept", label: "deploymentguard.dev/kept", manager: "tests" };

/// An API server with one ConfigMap, which answers some patches with 409 first.
#[derive(Default)]
struct Server {
    found: Mutex<Option<Value>>,
    conflicts: Mutex<u32>,
    writes: Mutex<Vec<(Method, Value)>>,
}

impl Server {
    fn holding(found: Value) -> Arc<Self> {
        Arc::new(Self { found: Mutex::new(Some(found)), ..Self::default() })
    }

    fn rings(self: &Arc<Self>) -> Rings {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                let (code, answer) = server.answer(&head.method, serde_json::from_slice(&body).unwrap_or_default());
                let response = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, std::convert::Infallible>(response.unwrap())
            }
        });
        Rings::new(Client::new(service, "shop"), Arc::new(Redactor::new()), Duration::from_secs(5))
    }

    fn answer(&self, method: &Method, body: Value) -> (u16, Value) {
        let status = |code: u16, reason: &str| {
            let details = json!({"kind": "configmaps"});
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                "message": reason, "details": details}),
            )
        };
        if *method == Method::GET {
            return self.found.lock().unwrap().clone().map_or_else(|| status(404, "NotFound"), |found| (200, found));
        }
        self.writes.lock().unwrap().push((method.clone(), body.clone()));
        let mut conflicts = self.conflicts.lock().unwrap();
        if *conflicts > 0 {
            *conflicts -= 1;
            return status(409, "Conflict");
        }
        (200, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}))
    }
}

fn owner() -> Owner {
    Owner {
        namespace: "shop".into(),
        guard: "api".into(),
        api_version: "deploymentguard.dev/v1alpha1".into(),
        uid: "u1".into(),
    }
}

fn config_map(uid: &str, label: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"old": "1"}, "metadata": {
        "name": "api-kept", "namespace": "shop", "resourceVersion": "7", "labels": {label: "true"},
        "ownerReferences": [{"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard", "name": "api", "uid": uid}],
    }})
}

#[expect(clippy::unnecessary_wraps, reason = "as a change is asked for")]
fn one_more(ring: &BTreeMap<String, String>) -> Option<Change> {
    let added = BTreeMap::from([("new".to_owned(), "2".to_owned())]);
    Some(Change { added, dropped: ring.keys().cloned().collect() })
}

#[test]
fn a_config_map_is_named_after_its_guard_within_the_limit() {
    assert_eq!(name("api", "-samples"), "api-samples");
    let long = "a".repeat(253);
    let other = format!("{}b", "a".repeat(252));
    assert!(name(&long, "-samples").len() <= 253);
    assert_ne!(name(&long, "-samples"), name(&other, "-samples"));
    assert_ne!(name(&long, "-samples"), name(&long, "-advice"));
    let dots = format!("{}x", "a.".repeat(126));
    assert!(!name(&dots, "-samples").contains(".-"));
}

#[tokio::test]
async fn what_is_not_there_is_made_and_goes_with_its_guard() {
    let server = Arc::new(Server::default());
    assert_eq!(server.rings().write(&owner(), SORT, one_more).await.unwrap(), "api-kept");
    let writes = server.writes.lock().unwrap();
    let (method, made) = &writes[0];
    assert_eq!((method, writes.len()), (&Method::POST, 1));
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "u1");
    assert_eq!(
        made["metadata"]["labels"],
        json!({"deploymentguard.dev/kept": "true", "deploymentguard.dev/guard": "api"})
    );
    assert_eq!(made["data"], json!({"new": "2"}));
}

#[tokio::test]
async fn a_write_names_the_version_it_read_and_a_lost_race_is_run_again() {
    let server = Server::holding(config_map("u1", SORT.label));
    *server.conflicts.lock().unwrap() = 2;
    server.rings().write(&owner(), SORT, one_more).await.unwrap();
    let writes = server.writes.lock().unwrap();
    assert_eq!(writes.len(), 3);
    assert!(writes.iter().all(|(method, body)| *method == Method::PATCH
        && body["metadata"]["resourceVersion"] == "7"
        && body["data"] == json!({"new": "2", "old": null})));
}

#[tokio::test]
async fn who_always_loses_gives_up() {
    let server = Server::holding(config_map("u1", SORT.label));
    *server.conflicts.lock().unwrap() = 100;
    let error = server.rings().write(&owner(), SORT, one_more).await.unwrap_err();
    assert!(matches!(error, RingError::Conflict { .. }), "{error}");
    assert_eq!(server.writes.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_left_alone() {
    let unlabelled = config_map("u1", "another");
    let mut foreign = config_map("u2", SORT.label);
    foreign["metadata"]["ownerReferences"][0]["name"] = json!("web");
    for found in [unlabelled, foreign] {
        let server = Server::holding(found);
        let error = server.rings().write(&owner(), SORT, one_more).await.unwrap_err();
        assert!(matches!(error, RingError::NotOurs { .. }), "{error}");
        assert!(server.writes.lock().unwrap().is_empty());
    }
    // What an earlier guard of this name left is about to be collected.
    let server = Server::holding(config_map("u0", SORT.label));
    let error = server.rings().write(&owner(), SORT, one_more).await.unwrap_err();
    assert!(matches!(error, RingError::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn where_nothing_changes_nothing_is_written() {
    let server = Server::holding(config_map("u1", SORT.label));
    assert_eq!(server.rings().write(&owner(), SORT, |_| None).await.unwrap(), "api-kept");
    assert!(server.writes.lock().unwrap().is_empty());
}
