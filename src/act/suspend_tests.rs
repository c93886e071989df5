use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::domain::git_ops::{FLUX_RECONCILE, MARKER};
use crate::domain::policy::Kind;
use crate::domain::redact::Redactor;

const WORKLOAD: &str = "/apis/apps/v1/namespaces/shop/deployments/api";
const KUSTOMIZATION: &str = "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/flux-system/kustomizations/apps";
const RELEASE: &str = "/apis/helm.toolkit.fluxcd.io/v2/namespaces/web/helmreleases/shop";
const RELEASES: &str = "/apis/helm.toolkit.fluxcd.io/v2/helmreleases";
const APPLICATION: &str = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/shop";
const APPLICATIONS: &str = "/apis/argoproj.io/v1alpha1/applications";

/// Called before each patch, with the objects and the number of patches so far: a refusal, if it shall be one.
type Before = Box<dyn Fn(&mut BTreeMap<String, Value>, usize) -> Option<(u16, Value)> + Send + Sync>;

/// An API server of a few objects.
struct Server {
    objects: Mutex<BTreeMap<String, Value>>,
    patched: Mutex<Vec<String>>,
    before: Before,
}

impl Server {
    fn new(
        objects: &[(&str, Value)],
        before: impl Fn(&mut BTreeMap<String, Value>, usize) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let objects = objects.iter().map(|(path, object)| ((*path).to_owned(), object.clone())).collect();
        Arc::new(Self { objects: Mutex::new(objects), patched: Mutex::default(), before: Box::new(before) })
    }

    fn of(objects: &[(&str, Value)]) -> Arc<Self> {
        Self::new(objects, |_, _| None)
    }

    fn act(self: &Arc<Self>) -> Act {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, std::convert::Infallible>(server.handle(request).await) }
        });
        Act::new(Client::new(service, "shop"), Arc::new(Redactor::new()), Duration::from_secs(5))
    }

    fn get(&self, path: &str) -> Value {
        self.objects.lock().unwrap()[path].clone()
    }

    fn patched(&self) -> Vec<String> {
        self.patched.lock().unwrap().clone()
    }

    async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let is_patch = request.method() == "PATCH";
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut objects = self.objects.lock().unwrap();
        if !is_patch {
            return match objects.get(&path) {
                Some(object) if object["kind"] == "Forbidden" => answer(403, &forbidden(&path)),
                Some(object) => answer(200, object),
                None => answer(404, &status(404, "NotFound", "not found")),
            };
        }
        assert!(query.contains("fieldManager=deployment-guard%2Fgit-ops"), "{query}");
        let number = self.patched.lock().unwrap().len();
        self.patched.lock().unwrap().push(path.clone());
        if let Some((code, refusal)) = (self.before)(&mut objects, number) {
            return answer(code, &refusal);
        }
        let object = objects.get_mut(&path).unwrap();
        let operations: Vec<Value> = serde_json::from_slice(&body).unwrap();
        // The real one takes what is not there for null.
        let (null, rest): (Vec<Value>, Vec<Value>) =
            operations.into_iter().partition(|operation| operation["op"] == "test" && operation["value"].is_null());
        let holds = null.iter().all(|test| object.pointer(test["path"].as_str().unwrap()).is_none_or(Value::is_null));
        let patch: json_patch::Patch = serde_json::from_value(json!(rest)).unwrap();
        if !holds || json_patch::patch(object, &patch).is_err() {
            return answer(422, &status(422, "Invalid", "the server rejected our request"));
        }
        answer(200, object)
    }
}

fn answer(code: u16, body: &Value) -> Response<Body> {
    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code})
}

fn forbidden(what: &str) -> Value {
    status(403, "Forbidden", &format!("User \"deployment-guard\" cannot get {what}, password=hunter2xyz"))
}

fn workload() -> Value {
    json!({"metadata": {"uid": "u1", "name": "api", "annotations": {"team": "a"}}, "spec": {"replicas": 2}})
}

fn marker() -> Marker {
    Marker {
        decision: "bad-1".into(),
        until: "2026-01-01T01:00:00Z".parse().unwrap(),
        bad: "bad".into(),
        restored: "good".into(),
        before: Value::Null,
        kustomization: None,
        git: None,
    }
}

fn applied_by(tool: Tool, namespace: &str, name: &str) -> Applier {
    Applier { tool, name: name.into(), namespace: namespace.into() }
}

async fn suspend(server: &Arc<Server>, applier: &Applier, fence: bool) -> Result<Suspended, ActError> {
    server.act().suspend(applier, ("shop", &target(), "u1"), &marker(), &|| fence).await
}

fn flux() -> Applier {
    applied_by(Tool::FluxKustomize, "flux-system", "apps")
}

fn target() -> Target {
    Target { kind: Kind::Deployment, name: "api".into() }
}

fn place() -> Place {
    Place { namespace: "shop".into(), object: Object::Workload(target()) }
}

#[tokio::test]
async fn flux_is_told_on_the_workload_alone_and_the_workload_is_given_back_as_it_was() {
    let inventory = json!({"entries": [{"id": "shop_api_apps_Deployment", "v": "v1"}]});
    let kustomization = json!({"status": {"lastAttemptedRevision": "main@sha1:2", "inventory": inventory}});
    let server = Server::of(&[(WORKLOAD, workload()), (KUSTOMIZATION, kustomization)]);
    let git = Some("main@sha1:2".to_owned());
    assert_eq!(suspend(&server, &flux(), true).await.unwrap(), Suspended::Done { place: place(), git });
    assert_eq!(server.get(WORKLOAD)["metadata"]["annotations"][FLUX_RECONCILE], "disabled");
    let written = Marker::of(&server.get(WORKLOAD)).unwrap();
    assert_eq!(
        (written.git.as_deref(), written.kustomization.as_deref()),
        (Some("main@sha1:2"), Some("flux-system/apps"))
    );
    assert_eq!(server.act().resume(&place(), &|found| *found == written, &|| true).await.unwrap(), Resumed::Done);
    assert_eq!(server.get(WORKLOAD), workload());
    assert_eq!(server.patched(), [WORKLOAD, WORKLOAD]);
}

#[tokio::test]
async fn where_git_cannot_be_read_only_time_ends_it() {
    let server = Server::of(&[(WORKLOAD, workload()), (KUSTOMIZATION, json!({"kind": "Forbidden"}))]);
    assert_eq!(suspend(&server, &flux(), true).await.unwrap(), Suspended::Done { place: place(), git: None });
    assert_eq!(Marker::of(&server.get(WORKLOAD)).unwrap().git, None);
}

#[tokio::test]
async fn a_release_and_an_application_are_suspended_themselves_and_found_again() {
    let spec = json!({"interval": "1m", "targetNamespace": "shop"});
    let release = json!({"metadata": {"uid": "r", "name": "shop", "namespace": "web"}, "spec": spec});
    let automated = json!({"syncPolicy": {"automated": {"selfHeal": true}}});
    let resources = json!([{"group": "apps", "kind": "Deployment", "namespace": "shop", "name": "api"}]);
    let application = json!({
        "metadata": {"uid": "a", "name": "shop", "namespace": "argocd"}, "spec": automated,
        "status": {"resources": resources},
    });
    let cases = [
        (applied_by(Tool::FluxHelm, "web", "shop"), RELEASE, RELEASES, release),
        (applied_by(Tool::ArgoCd, "argocd", "shop"), APPLICATION, APPLICATIONS, application.clone()),
        // Only Argo CD knows where it is: it is looked for.
        (applied_by(Tool::ArgoCd, "", "shop"), APPLICATION, APPLICATIONS, application),
    ];
    for (applier, path, list, object) in cases {
        let server = Server::of(&[(path, object.clone()), (list, json!({"items": [object]}))]);
        let Suspended::Done { place, .. } = suspend(&server, &applier, true).await.unwrap() else {
            panic!("not suspended")
        };
        let all = json!({"items": [server.get(path)]});
        server.objects.lock().unwrap().insert(list.to_owned(), all);
        let found: Vec<Found> = server.act().suspended().await.unwrap().into_iter().flatten().flatten().collect();
        assert_eq!(found.iter().map(|found| &found.place).collect::<Vec<_>>(), [&place]);
        assert_eq!(server.act().resume(&place, &|_| true, &|| true).await.unwrap(), Resumed::Done);
        assert_eq!(server.get(path), object);
    }
}

#[tokio::test]
async fn a_missing_right_is_a_refusal_in_the_servers_words_without_secrets() {
    let applier = applied_by(Tool::FluxHelm, "web", "shop");
    for server in [
        Server::of(&[(RELEASE, json!({"kind": "Forbidden"}))]),
        Server::new(&[(RELEASE, json!({"metadata": {"uid": "r"}, "spec": {"targetNamespace": "shop"}}))], |_, _| {
            Some((403, forbidden(RELEASE)))
        }),
    ] {
        let Suspended::Refused(words) = suspend(&server, &applier, true).await.unwrap() else { panic!("not refused") };
        assert!(words.as_str().contains("cannot get"), "{words}");
        assert!(!words.as_str().contains("hunter2xyz"), "{words}");
    }
    let missing = suspend(&Server::of(&[]), &applier, true).await.unwrap();
    assert!(matches!(missing, Suspended::Refused(_)), "{missing:?}");
}

#[tokio::test]
async fn what_cannot_be_a_name_is_asked_for_nowhere() {
    let server = Server::of(&[]);
    for name in ["../../secrets/x", "a b", "shop?x=1", ""] {
        for tool in [Tool::FluxHelm, Tool::ArgoCd] {
            let refused = suspend(&server, &applied_by(tool, "web", name), true).await.unwrap();
            assert!(matches!(refused, Suspended::Refused(_)), "{name}: {refused:?}");
        }
        assert_eq!(server.act().flux_revision(&format!("flux-system/{name}"), "shop", &target()).await, None);
    }
}

#[tokio::test]
async fn two_applications_of_one_name_are_not_guessed_between() {
    let item = |namespace: &str| json!({"metadata": {"name": "shop", "namespace": namespace}});
    let server = Server::of(&[(APPLICATIONS, json!({"items": [item("a"), item("b")]}))]);
    let refused = suspend(&server, &applied_by(Tool::ArgoCd, "", "shop"), true).await.unwrap();
    assert!(matches!(refused, Suspended::Refused(_)), "{refused:?}");
}

#[tokio::test]
async fn without_the_fence_nothing_is_written() {
    let server = Server::of(&[(WORKLOAD, workload())]);
    let error = suspend(&server, &flux(), false).await.unwrap_err();
    assert_eq!(error.category(), "fence_lost");
    assert!(suspend(&server, &flux(), true).await.is_ok());
    assert!(server.act().resume(&place(), &|_| true, &|| false).await.is_err());
    assert_eq!(server.patched(), [WORKLOAD]);
}

#[tokio::test]
async fn a_write_that_comes_in_between_is_kept_and_the_suspension_made_anew() {
    let server = Server::new(&[(WORKLOAD, workload())], |objects, number| {
        if number == 0 {
            objects.get_mut(WORKLOAD).unwrap()["metadata"]["annotations"][FLUX_RECONCILE] = json!("enabled");
        }
        None
    });
    assert!(matches!(suspend(&server, &flux(), true).await.unwrap(), Suspended::Done { .. }));
    assert_eq!(Marker::of(&server.get(WORKLOAD)).unwrap().before, json!("enabled"));
    assert_eq!(server.patched().len(), 2);
}

#[tokio::test]
async fn an_object_that_keeps_changing_is_left_alone() {
    let lost = || Some((422, status(422, "Invalid", "the server rejected our request")));
    let server = Server::new(&[(WORKLOAD, workload())], move |_, _| lost());
    assert!(matches!(suspend(&server, &flux(), true).await.unwrap(), Suspended::Refused(_)));
    assert_eq!(server.patched().len(), 3);
}

#[tokio::test]
async fn what_is_not_due_when_it_is_read_again_stays_suspended() {
    let server = Server::of(&[(WORKLOAD, workload())]);
    assert!(suspend(&server, &flux(), true).await.is_ok());
    let outcome = server.act().resume(&place(), &|marker| marker.decision == "another", &|| true).await;
    assert_eq!(outcome.unwrap(), Resumed::NotDue);
    assert!(server.get(WORKLOAD)["metadata"]["annotations"][MARKER].is_string());
    let gone = Server::of(&[]);
    assert_eq!(gone.act().resume(&place(), &|_| true, &|| true).await.unwrap(), Resumed::NotDue);
}

#[tokio::test]
async fn another_workload_under_the_name_is_not_touched() {
    let mut other = workload();
    other["metadata"]["uid"] = json!("u2");
    let server = Server::of(&[(WORKLOAD, other)]);
    assert_eq!(suspend(&server, &flux(), true).await.unwrap(), Suspended::NotNeeded);
    assert!(server.patched().is_empty());
}

#[tokio::test]
async fn helm_alone_applies_nothing_again_and_is_not_suspended() {
    let server = Server::of(&[]);
    let outcome = suspend(&server, &applied_by(Tool::Helm, "web", "shop"), true).await.unwrap();
    assert_eq!(outcome, Suspended::NotNeeded);
}

#[tokio::test]
async fn a_label_does_not_make_us_suspend_what_belongs_to_others() {
    let others = json!({"metadata": {"uid": "r", "name": "shop", "namespace": "web"}, "spec": {}});
    let server = Server::of(&[(RELEASE, others.clone()), (APPLICATION, others)]);
    for applier in [applied_by(Tool::FluxHelm, "web", "shop"), applied_by(Tool::ArgoCd, "argocd", "shop")] {
        let refused = suspend(&server, &applier, true).await.unwrap();
        assert!(matches!(refused, Suspended::Refused(_)), "{refused:?}");
    }
    assert!(server.patched().is_empty());
}
