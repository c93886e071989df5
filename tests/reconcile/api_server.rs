//! A small Kubernetes API server in memory that records what it is asked.
//!
//! Role: the world outside the operator. Inputs: requests of a `kube::Client`, objects and faults of a test. Outputs:
//! answers, watch events, the list of requests. It knows just enough: versions, generations, patches, watches, pages.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body as AnswerBody;
use futures::StreamExt;
use http::{Method, Response};
use jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::patches::{self, Refused};

/// What is guarded.
const WORKLOADS: [&str; 3] = ["deployments", "statefulsets", "daemonsets"];

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub group: String,
    pub resource: String,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        let [group, resource, namespace, name] = [group, resource, namespace, name].map(str::to_owned);
        Self { group, resource, namespace, name }
    }
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    /// As RBAC names it.
    pub verb: &'static str,
    pub group: String,
    /// With its subresource, as in `deployments/status`.
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub query: BTreeMap<String, String>,
    pub body: Value,
    content_type: String,
    metadata_only: bool,
}

impl Asked {
    pub fn manager(&self) -> &str {
        self.query.get("fieldManager").map_or("", String::as_str)
    }

    pub fn is_dry_run(&self) -> bool {
        self.query.contains_key("dryRun")
    }

    pub fn is_write(&self) -> bool {
        self.method != Method::GET && !self.is_dry_run()
    }

    /// A patch of a workload's template, not merely of who owns it.
    pub fn is_undo(&self) -> bool {
        self.is_write()
            && WORKLOADS.contains(&self.resource.as_str())
            && self.body.to_string().contains("/spec/template\"")
    }

    /// Asks for no more than metadata.
    pub fn is_of_metadata(&self) -> bool {
        self.metadata_only
    }

    fn plain(&self) -> &str {
        self.resource.split('/').next().unwrap_or_default()
    }

    fn key(&self) -> Key {
        Key::new(&self.group, self.plain(), &self.namespace, &self.name)
    }

    fn covers(&self, key: &Key) -> bool {
        let Asked { group, namespace, .. } = self;
        *group == key.group && self.plain() == key.resource && (namespace.is_empty() || *namespace == key.namespace)
    }
}

/// What may go wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answered with this code and these causes, as `(reason, field)`.
    Refuse { code: u16, reason: &'static str, message: &'static str, causes: Vec<(&'static str, Option<&'static str>)> },
    /// The connection breaks before anything is done.
    Drop,
    /// Nothing is done, and no answer ever comes.
    Hang,
    /// It is done, but no answer ever comes.
    DoneButHang,
}

type Faults = Arc<dyn Fn(&Asked) -> Option<Fault> + Send + Sync>;
type Hook = Arc<dyn Fn(&Asked, &ApiServer) + Send + Sync>;

struct Watcher {
    asked: Asked,
    to: mpsc::UnboundedSender<Vec<u8>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    version: u64,
    made: u64,
    watchers: Vec<Watcher>,
    log: Vec<(u64, Key, &'static str, Value)>,
    asked: Vec<Asked>,
    applied: BTreeMap<(Key, String), Value>,
    made_by_apply: Vec<Asked>,
    faults: Option<Faults>,
    hook: Option<Hook>,
    no_streaming: bool,
    forbids: bool,
}

/// The server. Clones are the same server.
#[derive(Clone, Default)]
pub struct ApiServer {
    state: Arc<Mutex<State>>,
    /// Told about every workload and pod that was written.
    workloads: Arc<Mutex<Option<mpsc::UnboundedSender<Key>>>>,
}

/// An answer before it is put into HTTP.
enum Answer {
    Object(u16, Value),
    Stream(mpsc::UnboundedReceiver<Vec<u8>>),
}

impl ApiServer {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of this server.
    pub fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let server = server.clone();
            async move { server.serve(request).await }
        });
        kube::Client::new(service, "default")
    }

    /// From now on requests go wrong as `faults` says.
    pub fn break_with(&self, faults: impl Fn(&Asked) -> Option<Fault> + Send + Sync + 'static) {
        self.locked().faults = Some(Arc::new(faults));
    }

    /// From now on nothing goes wrong.
    pub fn mend(&self) {
        self.locked().faults = None;
    }

    /// Something happens in the world right before a request is carried out.
    pub fn before(&self, hook: impl Fn(&Asked, &Self) + Send + Sync + 'static) {
        self.locked().hook = Some(Arc::new(hook));
    }

    /// Whether the operator's account lacks the rights that it asks for.
    pub fn forbid(&self, forbids: bool) {
        self.locked().forbids = forbids;
    }

    /// Streaming lists are refused, as by a server without the feature.
    pub fn refuse_streaming(&self) {
        self.locked().no_streaming = true;
    }

    /// Every watch breaks.
    pub fn break_watches(&self) {
        self.locked().watchers.clear();
    }

    /// Who is told about written workloads.
    pub fn tell_of_workloads(&self, to: mpsc::UnboundedSender<Key>) {
        *self.workloads.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.locked().asked.clone()
    }

    /// What was asked since the first `from` requests.
    pub fn asked_since(&self, from: usize) -> Vec<Asked> {
        self.locked().asked.get(from..).unwrap_or_default().to_vec()
    }

    /// Applies that made an object: they need the right to create it too.
    pub fn made_by_apply(&self) -> Vec<Asked> {
        self.locked().made_by_apply.clone()
    }

    pub fn get(&self, key: &Key) -> Option<Value> {
        self.locked().objects.get(key).cloned()
    }

    /// Every object of a resource.
    pub fn all(&self, resource: &str) -> Vec<(Key, Value)> {
        let state = self.locked();
        state.objects.iter().filter(|(key, _)| key.resource == resource).map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Puts an object there as somebody else would.
    pub fn put(&self, key: &Key, mut object: Value) -> Value {
        let stored = {
            let mut state = self.locked();
            if object["metadata"].is_null() {
                object["metadata"] = json!({});
            }
            object["metadata"]["name"] = json!(key.name);
            if !key.namespace.is_empty() {
                object["metadata"]["namespace"] = json!(key.namespace);
            }
            state.store(key, object)
        };
        self.tell(key);
        stored
    }

    /// Changes an object as somebody else would.
    pub fn change(&self, key: &Key, change: impl FnOnce(&mut Value)) {
        {
            let mut state = self.locked();
            let mut object = state.objects.get(key).cloned().unwrap_or_else(|| panic!("{key:?} is not there"));
            change(&mut object);
            state.store(key, object);
        }
        self.tell(key);
    }

    /// Deletes an object as somebody else would.
    pub fn delete(&self, key: &Key) {
        self.locked().remove(key);
        self.tell(key);
    }

    fn tell(&self, key: &Key) {
        if (key.resource == "pods" || WORKLOADS.contains(&key.resource.as_str()))
            && let Some(to) = &*self.workloads.lock().unwrap_or_else(PoisonError::into_inner)
        {
            let _ = to.send(key.clone());
        }
    }

    /// Answers one request.
    pub async fn serve(&self, request: http::Request<Body>) -> Result<Response<AnswerBody>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.map_err(|error| std::io::Error::other(error.to_string()))?;
        let asked = read(&parts, &bytes);
        let (fault, hook) = {
            let mut state = self.locked();
            state.asked.push(asked.clone());
            (state.faults.clone(), state.hook.clone())
        };
        if let Some(hook) = hook {
            hook(&asked, self);
        }
        match fault.and_then(|fault| fault(&asked)) {
            None => Ok(respond(self.answer(&asked))),
            Some(Fault::Drop) => Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "connection reset")),
            Some(Fault::Refuse { code, reason, message, causes }) => {
                let cause = |(reason, field): (&str, Option<&str>)| {
                    field.map_or_else(|| json!({"reason": reason}), |field| json!({"reason": reason, "field": field}))
                };
                let causes: Vec<_> = causes.into_iter().map(cause).collect();
                let details = if causes.is_empty() { json!({}) } else { json!({"causes": causes}) };
                Ok(respond(Answer::Object(code, status(code, reason, message, &details))))
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::DoneButHang) => {
                drop(self.answer(&asked));
                std::future::pending().await
            }
        }
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let answer = self.locked().answer(asked);
        if asked.is_write() && matches!(answer, Answer::Object(200..300, _)) {
            self.tell(&asked.key());
        }
        answer
    }
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Answer {
        match asked.verb {
            "watch" => self.watch(asked),
            "list" => Answer::Object(200, self.list(asked)),
            "get" => {
                self.objects.get(&asked.key()).map_or_else(|| absent(asked), |o| Answer::Object(200, shown(asked, o)))
            }
            "create" => self.create(asked),
            "patch" => self.patch(asked),
            "update" => self.update(asked),
            "delete" => self.delete(asked),
            other => Answer::Object(405, status(405, "MethodNotAllowed", other, &json!({}))),
        }
    }

    fn store(&mut self, key: &Key, mut object: Value) -> Value {
        let before = self.objects.get(key).cloned();
        self.version += 1;
        let meta = &mut object["metadata"];
        meta["resourceVersion"] = json!(self.version.to_string());
        match &before {
            None => {
                self.made += 1;
                let now = Timestamp::now().round(jiff::Unit::Second).unwrap().to_string();
                if meta["creationTimestamp"].is_null() {
                    meta["creationTimestamp"] = json!(now);
                }
                meta["uid"] = json!(format!("uid-{}", self.made));
                meta["generation"] = json!(1);
            }
            Some(before) => {
                meta["uid"] = before["metadata"]["uid"].clone();
                let generation = before["metadata"]["generation"].as_i64().unwrap_or(1);
                let moved = i64::from(before["spec"] != object["spec"]);
                object["metadata"]["generation"] = json!(generation + moved);
            }
        }
        self.objects.insert(key.clone(), object.clone());
        self.announce(key, if before.is_none() { "ADDED" } else { "MODIFIED" }, object.clone());
        object
    }

    fn announce(&mut self, key: &Key, kind: &'static str, object: Value) {
        self.watchers.retain(|watcher| {
            !watcher.asked.covers(key) || watcher.to.send(event(kind, &watcher.asked, &object)).is_ok()
        });
        self.log.push((self.version, key.clone(), kind, object));
    }

    fn list(&self, asked: &Asked) -> Value {
        let labels = asked.query.get("labelSelector").map_or("", String::as_str);
        let found: Vec<Value> = self
            .objects
            .iter()
            .filter(|(key, object)| asked.covers(key) && selected(object, labels))
            .map(|(_, object)| shown(asked, object))
            .collect();
        let number = |name: &str| asked.query.get(name).and_then(|text| text.parse::<usize>().ok());
        let from = number("continue").unwrap_or(0);
        let to = number("limit").filter(|limit| *limit > 0).map_or(found.len(), |limit| found.len().min(from + limit));
        let next = if to < found.len() { json!(to.to_string()) } else { Value::Null };
        json!({
            "kind": "List", "apiVersion": "v1",
            "metadata": {"resourceVersion": self.version.to_string(), "continue": next},
            "items": found.get(from..to).unwrap_or_default(),
        })
    }

    fn watch(&mut self, asked: &Asked) -> Answer {
        let (to, from) = mpsc::unbounded_channel();
        if asked.query.get("sendInitialEvents").is_some_and(|value| value == "true") {
            if self.no_streaming {
                let message =
                    "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the feature is on";
                return Answer::Object(422, status(422, "Invalid", message, &json!({})));
            }
            for (_, object) in self.objects.iter().filter(|(key, _)| asked.covers(key)) {
                let _ = to.send(event("ADDED", asked, object));
            }
            let bookmark = json!({
                "apiVersion": "v1", "kind": "Bookmark",
                "metadata": {
                    "resourceVersion": self.version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"},
                },
            });
            let _ = to.send(line("BOOKMARK", &bookmark));
        } else {
            let seen = asked.query.get("resourceVersion").and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            for (_, _, kind, object) in self.log.iter().filter(|(at, key, ..)| *at > seen && asked.covers(key)) {
                let _ = to.send(event(kind, asked, object));
            }
        }
        self.watchers.push(Watcher { asked: asked.clone(), to });
        Answer::Stream(from)
    }

    fn create(&mut self, asked: &Asked) -> Answer {
        if asked.resource == "selfsubjectaccessreviews" {
            let mut review = asked.body.clone();
            review["status"] = json!({"allowed": !self.forbids});
            return Answer::Object(201, review);
        }
        let mut key = asked.key();
        asked.body["metadata"]["name"].as_str().unwrap_or_default().clone_into(&mut key.name);
        if self.objects.contains_key(&key) {
            return Answer::Object(409, status(409, "AlreadyExists", "it exists already", &json!({})));
        }
        if asked.is_dry_run() {
            return Answer::Object(201, asked.body.clone());
        }
        let mut body = asked.body.clone();
        if !key.namespace.is_empty() {
            body["metadata"]["namespace"] = json!(key.namespace);
        }
        Answer::Object(201, self.store(&key, body))
    }

    fn update(&mut self, asked: &Asked) -> Answer {
        let Some(before) = self.objects.get(&asked.key()) else { return absent(asked) };
        let wanted = &asked.body["metadata"]["resourceVersion"];
        if !wanted.is_null() && *wanted != before["metadata"]["resourceVersion"] {
            return Answer::Object(409, status(409, "Conflict", "the object has been modified", &json!({})));
        }
        Answer::Object(200, self.store(&asked.key(), asked.body.clone()))
    }

    fn delete(&mut self, asked: &Asked) -> Answer {
        let key = asked.key();
        let Some(before) = self.objects.get(&key) else { return absent(asked) };
        let wanted = &asked.body["preconditions"]["uid"];
        if !wanted.is_null() && *wanted != before["metadata"]["uid"] {
            return Answer::Object(409, status(409, "Conflict", "the uid is another one", &json!({})));
        }
        self.remove(&key);
        Answer::Object(200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}))
    }

    fn remove(&mut self, key: &Key) {
        let Some(mut object) = self.objects.remove(key) else { return };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.announce(key, "DELETED", object);
    }

    fn patch(&mut self, asked: &Asked) -> Answer {
        let key = asked.key();
        let before = self.objects.get(&key).cloned();
        let of_status = asked.resource.ends_with("/status");
        let applying = asked.content_type.contains("apply-patch");
        let Some(before) = before else {
            if !applying || of_status {
                return absent(asked);
            }
            let mut body = asked.body.clone();
            if !key.namespace.is_empty() {
                body["metadata"]["namespace"] = json!(key.namespace);
            }
            self.applied.insert((key.clone(), asked.manager().to_owned()), asked.body.clone());
            self.made_by_apply.push(asked.clone());
            return Answer::Object(201, self.store(&key, body));
        };
        let mut after = before.clone();
        let done = if applying {
            let by = (key.clone(), asked.manager().to_owned());
            let done = patches::apply(&mut after, &asked.body, self.applied.get(&by), of_status);
            // What was refused was never applied.
            if done.is_ok() {
                self.applied.insert(by, asked.body.clone());
            }
            done
        } else if asked.content_type.contains("json-patch") {
            patches::json_patch(&mut after, &asked.body)
        } else {
            patches::merge(&mut after, &asked.body);
            let version = &asked.body["metadata"]["resourceVersion"];
            if version.is_null() || *version == before["metadata"]["resourceVersion"] {
                Ok(())
            } else {
                Err(Refused::Conflict)
            }
        };
        match done {
            Err(Refused::Conflict) => {
                return Answer::Object(409, status(409, "Conflict", "the object has been modified", &json!({})));
            }
            Err(Refused::Invalid) => {
                let message = "the server rejected our request due to an error in our request";
                return Answer::Object(422, status(422, "Invalid", message, &json!({})));
            }
            Ok(()) => {}
        }
        if of_status {
            let new = after["status"].take();
            after = before.clone();
            after["status"] = new;
        } else if let Some(status) = before.get("status") {
            after["status"] = status.clone();
        }
        patches::book(&before, &mut after, asked.manager());
        if asked.is_dry_run() || after == before {
            return Answer::Object(200, after);
        }
        Answer::Object(200, self.store(&key, after))
    }
}

fn read(parts: &http::request::Parts, bytes: &[u8]) -> Asked {
    let pieces: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
    let (group, rest) = match pieces.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => ("", &[][..]),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let text = |index: usize| rest.get(index).copied().unwrap_or_default();
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let watching = query.get("watch").is_some_and(|value| matches!(value.as_str(), "true" | "1" | ""));
    let verb = match (parts.method.as_str(), text(1).is_empty()) {
        ("GET", _) if watching => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", _) => "create",
        ("PATCH", _) => "patch",
        ("PUT", _) => "update",
        ("DELETE", _) => "delete",
        _ => "unknown",
    };
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    Asked {
        method: parts.method.clone(),
        path: parts.uri.path().to_owned(),
        verb,
        group: group.to_owned(),
        resource: if text(2).is_empty() { text(0).to_owned() } else { format!("{}/{}", text(0), text(2)) },
        namespace: namespace.to_owned(),
        name: text(1).to_owned(),
        query,
        body: serde_json::from_slice(bytes).unwrap_or(Value::Null),
        content_type: header("content-type"),
        metadata_only: header("accept").contains("PartialObjectMetadata"),
    }
}

fn respond(answer: Answer) -> Response<AnswerBody> {
    let (code, body) = match answer {
        Answer::Object(code, value) => (code, AnswerBody::from(value.to_string())),
        Answer::Stream(lines) => {
            let lines = futures::stream::unfold(lines, |mut lines| async move { Some((lines.recv().await?, lines)) });
            (200, AnswerBody::from_stream(lines.map(Ok::<_, Infallible>)))
        }
    };
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}

/// A `Status` as the server answers it.
fn status(code: u16, reason: &str, message: &str, details: &Value) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {}, "code": code, "reason": reason,
        "message": message, "details": details,
    })
}

fn absent(asked: &Asked) -> Answer {
    Answer::Object(
        404,
        status(404, "NotFound", &format!("{} \"{}\" not found", asked.resource, asked.name), &json!({})),
    )
}

fn event(kind: &str, asked: &Asked, object: &Value) -> Vec<u8> {
    line(kind, &shown(asked, object))
}

fn line(kind: &str, object: &Value) -> Vec<u8> {
    format!("{}\n", json!({"type": kind, "object": object})).into_bytes()
}

/// Who asks for metadata gets no more than that.
fn shown(asked: &Asked, object: &Value) -> Value {
    if asked.metadata_only {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
    } else {
        object.clone()
    }
}

fn selected(object: &Value, labels: &str) -> bool {
    labels.split(',').filter_map(|pair| pair.split_once('=')).all(|(key, value)| {
        object["metadata"]["labels"].get(key).and_then(Value::as_str) == Some(value.trim_start_matches('='))
    })
}
