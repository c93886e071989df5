use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::domain::policy::{Kind, Target};
use crate::domain::redact::Redactor;
use crate::domain::retry::Retry;
use crate::domain::rollout::RevisionHash;
use crate::domain::undo::{Gone, UndoRequest};

const TIME_OUT: Duration = Duration::from_secs(5);

/// An API server in this process: a workload, what it answers to patches, and what it was asked.
struct Server {
    workload: Mutex<Option<Value>>,
    asked: Mutex<Vec<String>>,
    answer: Script,
}

/// Its answers to patches.
type Script = Box<dyn Fn(&Server, Patch) -> Reply + Send + Sync>;

/// What it answers to a patch.
enum Reply {
    Apply,
    Refuse(u16, Value),
    Silence,
}

/// A patch it received.
struct Patch {
    number: usize,
    dry_run: bool,
    operations: Value,
}

impl Patch {
    fn is_hand_back(&self) -> bool {
        self.operations[0]["path"].as_str().is_some_and(|path| path.starts_with("/metadata/managedFields"))
    }
}

impl Server {
    fn new(workload: Value, answer: impl Fn(&Server, Patch) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { workload: Mutex::new(Some(workload)), asked: Mutex::new(Vec::new()), answer: Box::new(answer) })
    }

    fn accepting() -> Arc<Self> {
        Self::new(deployment(), |_, _| Reply::Apply)
    }

    fn act(self: &Arc<Self>) -> Act {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, std::convert::Infallible>(server.handle(request).await) }
        });
        Act::new(Client::new(service, "shop"), Arc::new(Redactor::new()), TIME_OUT)
    }

    async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let method = request.method().to_string();
        let path = request.uri().path().to_owned();
        let dry_run = request.uri().query().is_some_and(|query| query.contains("dryRun=All"));
        let manager = request.uri().query().is_some_and(|query| query.contains("fieldManager=deployment-guard%2Fundo"));
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        if method == "GET" {
            self.note("get");
            return match path.as_str() {
                "/apis/apps/v1/namespaces/shop/deployments/api" => match &*self.workload.lock().expect("lock") {
                    Some(workload) => json_response(200, workload),
                    None => json_response(404, &status(404, "NotFound", &json!({}))),
                },
                "/apis/apps/v1/namespaces/shop/replicasets" => {
                    json_response(200, &json!({"kind": "ReplicaSetList", "items": replica_sets()}))
                }
                other => panic!("unexpected GET {other}"),
            };
        }
        assert!(manager, "every write names its field manager");
        let operations: Value = serde_json::from_slice(&body).expect("JSON");
        let number = self.asked.lock().expect("lock").iter().filter(|asked| *asked != "get").count();
        let received = Patch { number, dry_run, operations };
        self.note(match (received.is_hand_back(), dry_run) {
            (true, _) => "hand-back",
            (false, true) => "dry-run",
            (false, false) => "patch",
        });
        let operations = received.operations.clone();
        match (self.answer)(self, received) {
            Reply::Silence => std::future::pending().await,
            Reply::Refuse(code, status) => json_response(code, &status),
            Reply::Apply => self.apply(&operations, dry_run),
        }
    }

    fn apply(&self, operations: &Value, dry_run: bool) -> Response<Body> {
        let mut stored = self.workload.lock().expect("lock");
        let workload = stored.as_mut().expect("a workload");
        let kept: Vec<&Value> = operations.as_array().expect("a list").iter().filter(|o| !is_null_test(o)).collect();
        let patch: json_patch::Patch = serde_json::from_value(json!(kept)).expect("a JSON Patch");
        let mut patched = workload.clone();
        if json_patch::patch(&mut patched, &patch).is_err() {
            return json_response(422, &status(422, "Invalid", &json!({})));
        }
        if patched["spec"] != workload["spec"] {
            patched["metadata"]["generation"] = json!(3);
            // As the real one does, the changed leaf moves to whoever wrote it.
            let fields = &mut patched["metadata"]["managedFields"];
            fields[0]["fieldsV1"] = json!({"f:spec": {"f:template": {"f:rest": {}}}});
            fields.as_array_mut().expect("a list").push(json!({
                "manager": "deployment-guard/undo", "operation": "Update", "apiVersion": "apps/v1",
                "fieldsV1": {"f:spec": {"f:template": {"f:image": {}}}},
            }));
        }
        if !dry_run {
            *workload = patched.clone();
        }
        json_response(200, &patched)
    }

    fn note(&self, what: &str) {
        self.asked.lock().expect("lock").push(what.to_owned());
    }

    fn writes(&self) -> Vec<String> {
        self.asked.lock().expect("lock").iter().filter(|asked| *asked != "get").cloned().collect()
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        change(self.workload.lock().expect("lock").as_mut().expect("a workload"));
    }
}

fn is_null_test(operation: &Value) -> bool {
    operation["op"] == "test" && operation["value"].is_null()
}

fn json_response(code: u16, body: &Value) -> Response<Body> {
    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).expect("a response")
}

fn status(code: u16, reason: &str, details: &Value) -> Value {
    json!({
        "kind": "Status", "status": "Failure", "code": code, "reason": reason, "details": details,
        "message": "refused: Name:\"DB_PASSWORD\", Value:\"hunter2xyz\" and much more",
    })
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [{"name": "app", "image": image}]}})
}

fn replica_sets() -> Vec<Value> {
    [("good", "app:1"), ("bad", "app:2")]
        .map(|(hash, image)| {
            let mut template = template(image);
            template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
            json!({
                "metadata": {
                    "uid": hash, "labels": {"pod-template-hash": hash},
                    "ownerReferences": [{"uid": "uid-1", "controller": true}],
                },
                "spec": {"template": template},
            })
        })
        .to_vec()
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "api", "uid": "uid-1", "generation": 2, "annotations": {"team": "shop"},
            "managedFields": [{
                "manager": "helm", "operation": "Apply", "apiVersion": "apps/v1",
                "fieldsV1": {"f:spec": {"f:template": {"f:image": {}, "f:rest": {}}}},
            }],
        },
        "spec": {"selector": {"matchLabels": {"app": "api"}}, "template": template("app:2")},
    })
}

fn request() -> UndoRequest {
    UndoRequest {
        decision_id: "decision-1".to_owned(),
        namespace: "shop".to_owned(),
        target: Target { kind: Kind::Deployment, name: "api".to_owned() },
        uid: "uid-1".into(),
        from: RevisionHash::new("bad"),
        to: RevisionHash::new("good"),
        kept: None,
    }
}

async fn undo(server: &Arc<Server>) -> Result<UndoOutcome, ActError> {
    server.act().undo(&request(), &|| true).await
}

#[tokio::test]
async fn an_undo_is_tried_dry_then_sent_then_its_ownership_handed_back() {
    let server = Server::accepting();
    let outcome = undo(&server).await.expect("an outcome");
    let revision = Some(RevisionHash::new("good"));
    assert_eq!(outcome, UndoOutcome::Patched { generation: 3, revision, only_in_good: Vec::new() });
    assert_eq!(server.writes(), ["dry-run", "patch", "hand-back"]);
    let stored = server.workload.lock().expect("lock").clone().expect("a workload");
    assert_eq!(stored["spec"]["template"], template("app:1"));
    let fields = stored["metadata"]["managedFields"].as_array().expect("a list");
    assert_eq!(fields.len(), 1);
    assert_eq!(fields[0]["fieldsV1"]["f:spec"]["f:template"], json!({"f:rest": {}, "f:image": {}}));
}

#[tokio::test]
async fn a_decision_is_carried_out_once_even_if_the_bad_template_comes_back() {
    let server = Server::accepting();
    undo(&server).await.expect("an outcome");
    server.change(|workload| workload["spec"]["template"] = template("app:2"));
    assert_eq!(undo(&server).await.expect("an outcome"), UndoOutcome::AlreadyDone { generation: 3 });
    assert_eq!(server.writes(), ["dry-run", "patch", "hand-back"]);
}

#[tokio::test]
async fn a_refused_dry_run_changes_nothing_and_its_message_is_redacted() {
    let details = json!({"causes": [{"message": "denied by policy"}]});
    let server = Server::new(deployment(), move |_, _| Reply::Refuse(422, status(422, "Invalid", &details)));
    let UndoOutcome::AdmissionRejected { message } = undo(&server).await.expect("an outcome") else {
        panic!("not rejected")
    };
    assert!(!message.as_str().contains("hunter2xyz"), "{message}");
    assert_eq!(server.writes(), ["dry-run"]);
}

#[tokio::test]
async fn an_invalid_template_is_a_failure() {
    let details = json!({"causes": [{"field": "spec.template.spec.containers[0].image"}]});
    let server = Server::new(deployment(), move |_, _| Reply::Refuse(422, status(422, "Invalid", &details)));
    assert!(matches!(undo(&server).await, Ok(UndoOutcome::Failed { .. })));
}

#[tokio::test]
async fn a_push_between_dry_run_and_patch_wins() {
    let server = Server::new(deployment(), |server, patch| {
        if !patch.dry_run {
            server.change(|workload| workload["spec"]["template"] = template("app:3"));
        }
        Reply::Apply
    });
    assert_eq!(undo(&server).await.expect("an outcome"), UndoOutcome::Superseded);
    assert_eq!(server.writes(), ["dry-run", "patch"]);
}

#[tokio::test]
async fn a_pause_between_dry_run_and_patch_wins() {
    let server = Server::new(deployment(), |server, patch| {
        if patch.dry_run {
            return Reply::Apply;
        }
        server.change(|workload| workload["spec"]["paused"] = json!(true));
        Reply::Refuse(422, status(422, "Invalid", &json!({})))
    });
    assert_eq!(undo(&server).await.expect("an outcome"), UndoOutcome::Paused);
}

#[tokio::test]
async fn a_lost_race_that_left_no_trace_is_run_again_three_times() {
    let server = Server::new(deployment(), |_, _| Reply::Refuse(422, status(422, "Invalid", &json!({}))));
    assert!(matches!(undo(&server).await, Ok(UndoOutcome::Failed { .. })));
    assert_eq!(server.writes(), ["dry-run"; 3]);
    let server = Server::new(deployment(), |_, patch| match patch.number {
        0 => Reply::Refuse(409, status(409, "Conflict", &json!({}))),
        _ => Reply::Apply,
    });
    assert!(matches!(undo(&server).await, Ok(UndoOutcome::Patched { .. })));
}

#[tokio::test]
async fn a_fence_lost_between_dry_run_and_patch_stops_the_patch() {
    let server = Server::accepting();
    let asked = AtomicUsize::new(0);
    let fence = || asked.fetch_add(1, Ordering::SeqCst) == 0;
    let error = server.act().undo(&request(), &fence).await.expect_err("a lost fence");
    assert_eq!((error.category(), error.retry()), ("fence_lost", Retry::Never));
    assert_eq!(server.writes(), ["dry-run"]);
}

#[tokio::test]
async fn without_the_fence_nothing_is_written_at_all() {
    let server = Server::accepting();
    assert!(server.act().undo(&request(), &|| false).await.is_err());
    assert!(server.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_patch_without_an_answer_times_out_and_is_found_done_later() {
    let server = Server::new(deployment(), |server, patch| {
        if patch.dry_run || patch.is_hand_back() {
            return Reply::Apply;
        }
        let _ = server.apply(&patch.operations, false);
        Reply::Silence
    });
    let error = undo(&server).await.expect_err("a time-out");
    assert_eq!((error.category(), error.retry()), ("api_timeout", Retry::Backoff));
    assert_eq!(undo(&server).await.expect("an outcome"), UndoOutcome::AlreadyDone { generation: 3 });
    assert_eq!(server.writes(), ["dry-run", "patch", "hand-back"]);
}

#[tokio::test]
async fn what_is_gone_stops_quietly() {
    let server = Server::accepting();
    *server.workload.lock().expect("lock") = None;
    assert_eq!(undo(&server).await.expect("an outcome"), UndoOutcome::Gone(Gone::Absent));
    let details = json!({"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]});
    let server = Server::new(deployment(), move |_, _| Reply::Refuse(403, status(403, "Forbidden", &details)));
    assert_eq!(undo(&server).await.expect("an outcome"), UndoOutcome::Gone(Gone::Terminating));
}

#[tokio::test]
async fn an_overloaded_server_is_an_error_and_says_nothing_about_the_undo() {
    let server = Server::new(deployment(), |_, _| Reply::Refuse(500, status(500, "InternalError", &json!({}))));
    let error = undo(&server).await.expect_err("an error");
    assert_eq!((error.category(), error.retry()), ("api", Retry::Backoff));
    assert!(!error.to_string().contains("hunter2xyz"));
}

#[tokio::test]
async fn a_hand_back_that_keeps_losing_gives_up_after_five_and_the_undo_stands() {
    let server = Server::new(deployment(), |_, patch| {
        if patch.is_hand_back() { Reply::Refuse(422, status(422, "Invalid", &json!({}))) } else { Reply::Apply }
    });
    assert!(matches!(undo(&server).await, Ok(UndoOutcome::Patched { .. })));
    assert_eq!(server.writes().iter().filter(|write| *write == "hand-back").count(), 5);
    let error = server.act().give_back("shop", &request().target, &|| true).await.expect_err("still losing");
    assert_eq!((error.category(), error.retry()), ("conflict", Retry::Conflict));
}

#[tokio::test]
async fn nothing_is_handed_back_where_nothing_is_ours() {
    let server = Server::accepting();
    let outcome = server.act().give_back("shop", &request().target, &|| true).await.expect("an outcome");
    assert_eq!(outcome, GiveBack::NothingToDo);
    assert!(server.writes().is_empty());
}
