//! Raw calls to the API server, each with a time-out.
//!
//! Role: GET, LIST, PATCH and DELETE as JSON text, so that nothing newer than our bindings is lost. Inputs: a target. Outputs:
//! JSON, a refusal (data), or an error. Must never import: typed workload structs. kube's own `request` logs a body that
//! it cannot parse, which may hold env values; ours does not.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::core::params::{DeleteParams, GetParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::{Request, Status};
use serde_json::Value;

use super::ActError;
use crate::domain::managers;
use crate::domain::policy::{Kind, Target};
use crate::domain::redact::{Redacted, Redactor, SERVER_MESSAGE};
use crate::domain::rollout::PodName;
use crate::domain::undo::Answer;

/// A refusal: its machine-readable part and what may be shown of the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) answer: Answer,
    pub(super) message: Redacted,
}

/// What a write came to.
pub(super) enum Written {
    Object(Value),
    Refused(Refusal),
}

/// One API server, spoken to in JSON.
#[derive(Clone)]
pub(super) struct Server {
    client: Client,
    redactor: Arc<Redactor>,
    time_out: Duration,
}

impl Server {
    pub(super) fn new(client: Client, redactor: Arc<Redactor>, time_out: Duration) -> Self {
        Self { client, redactor, time_out }
    }

    /// Reads the workload itself, never a cache; `None` when it does not exist.
    pub(super) async fn workload(&self, namespace: &str, target: &Target) -> Result<Option<Value>, ActError> {
        const STEP: &str = "reading the workload";
        match self.object(STEP, &workloads(namespace, target.kind), &target.name).await? {
            Written::Object(object) => Ok(Some(object)),
            Written::Refused(refusal) if refusal.answer.code == 404 => Ok(None),
            Written::Refused(refusal) => Err(failed(STEP, refusal)),
        }
    }

    /// Reads the objects that hold the workload's revisions. The domain keeps those that it controls.
    pub(super) async fn revisions(
        &self,
        namespace: &str,
        target: &Target,
        workload: &Value,
    ) -> Result<Vec<Value>, ActError> {
        const STEP: &str = "reading the revisions";
        let params =
            selector(workload).map_or_else(ListParams::default, |labels| ListParams::default().labels(&labels));
        let holders = if target.kind == Kind::Deployment { "replicasets" } else { "controllerrevisions" };
        match self.list(STEP, &path(namespace, holders), &params).await? {
            Written::Object(mut list) => Ok(match list.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }),
            Written::Refused(refusal) => Err(failed(STEP, refusal)),
        }
    }

    /// The Services of a namespace; none where they may not be read.
    pub(super) async fn services(&self, namespace: &str) -> Result<Vec<Value>, ActError> {
        const STEP: &str = "reading the services";
        let all = format!("/api/v1/namespaces/{namespace}/services");
        match self.list(STEP, &all, &ListParams::default()).await? {
            Written::Object(mut list) => Ok(match list.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }),
            Written::Refused(_) => Ok(Vec::new()),
        }
    }

    /// Reads a template that the guard keeps; `None` when it does not exist.
    pub(super) async fn kept(&self, namespace: &str, name: &str) -> Result<Option<Value>, ActError> {
        const STEP: &str = "reading the kept template";
        match self.object(STEP, &path(namespace, "controllerrevisions"), name).await? {
            Written::Object(object) => Ok(Some(object)),
            Written::Refused(refusal) if refusal.answer.code == 404 => Ok(None),
            Written::Refused(refusal) => Err(failed(STEP, refusal)),
        }
    }

    /// Sends a JSON Patch as our undo manager.
    pub(super) async fn patch(
        &self,
        step: &'static str,
        namespace: &str,
        target: &Target,
        operations: &Value,
        dry_run: bool,
    ) -> Result<Written, ActError> {
        let params = PatchParams { dry_run, field_manager: Some(managers::UNDO.to_owned()), ..PatchParams::default() };
        self.send_patch(step, &workloads(namespace, target.kind), &target.name, operations, &params).await
    }

    /// Sends a JSON Patch as another of our managers.
    pub(super) async fn patch_as(
        &self,
        step: &'static str,
        manager: &str,
        path: &str,
        name: &str,
        operations: &Value,
    ) -> Result<Written, ActError> {
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        self.send_patch(step, path, name, operations, &params).await
    }

    /// Reads one object.
    pub(super) async fn object(&self, step: &'static str, path: &str, name: &str) -> Result<Written, ActError> {
        let request =
            Request::new(path).get(name, &GetParams::default()).map_err(|error| self.transport(step, &error))?;
        self.send(step, self.client.request_text(request)).await
    }

    /// Lists objects.
    pub(super) async fn list(&self, step: &'static str, path: &str, params: &ListParams) -> Result<Written, ActError> {
        let request = Request::new(path).list(params).map_err(|error| self.transport(step, &error))?;
        self.send(step, self.client.request_text(request)).await
    }

    /// Something to say that holds text from outside.
    pub(super) fn say(&self, text: &str) -> Redacted {
        self.redactor.redact(text, SERVER_MESSAGE)
    }

    async fn send_patch(
        &self,
        step: &'static str,
        path: &str,
        name: &str,
        operations: &Value,
        params: &PatchParams,
    ) -> Result<Written, ActError> {
        let patch: json_patch::Patch =
            serde_json::from_value(operations.clone()).map_err(|error| self.transport(step, &error))?;
        let mut request = Request::new(path)
            .patch(name, params, &Patch::<()>::Json(patch))
            .map_err(|error| self.transport(step, &error))?;
        let body = std::mem::take(request.body_mut());
        *request.body_mut() = as_the_server_writes(&body);
        self.send(step, self.client.request_text(request)).await
    }

    /// Deletes the pod that has this uid, with its own grace.
    pub(super) async fn delete_pod(&self, step: &'static str, pod: &PodName, uid: &str) -> Result<Written, ActError> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let request = Request::new(format!("/api/v1/namespaces/{}/pods", pod.namespace))
            .delete(&pod.name, &params)
            .map_err(|error| self.transport(step, &error))?;
        self.send(step, self.client.request_text(request)).await
    }

    async fn send(
        &self,
        step: &'static str,
        call: impl Future<Output = Result<String, kube::Error>>,
    ) -> Result<Written, ActError> {
        let answer = tokio::time::timeout(self.time_out, call).await;
        match answer {
            Err(_) => Err(ActError::TimedOut { step }),
            Ok(Ok(text)) => {
                serde_json::from_str(&text).map(Written::Object).map_err(|error| self.transport(step, &error))
            }
            Ok(Err(kube::Error::Api(status))) => {
                let refusal = self.refusal(&status);
                if is_refusal(refusal.answer.code) { Ok(Written::Refused(refusal)) } else { Err(failed(step, refusal)) }
            }
            Ok(Err(error)) => Err(self.transport(step, &error)),
        }
    }

    fn refusal(&self, status: &Status) -> Refusal {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        Refusal {
            answer: Answer {
                code: status.code,
                reason: status.reason.clone(),
                cause_fields: causes.clone().map(|cause| cause.field.clone()).collect(),
                cause_reasons: causes.map(|cause| cause.reason.clone()).collect(),
            },
            message: self.redactor.redact(&status.message, SERVER_MESSAGE),
        }
    }

    fn transport(&self, step: &'static str, error: &dyn std::error::Error) -> ActError {
        ActError::Transport { step, message: self.redactor.redact(&error.to_string(), SERVER_MESSAGE) }
    }
}

/// JSON as Go writes it. The server compares the values of `test` byte by byte with its own text, in which these characters
/// are escaped; `sh -c "a && b"` in a template would otherwise never be undone. They stand in strings only.
fn as_the_server_writes(json: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some((first, tail)) = rest.split_first() {
        let (written, tail): (&[u8], &[u8]) = match (first, tail) {
            (b'<', _) => (br"\u003c", tail),
            (b'>', _) => (br"\u003e", tail),
            (b'&', _) => (br"\u0026", tail),
            // U+2028 and U+2029 in UTF-8.
            (0xe2, [0x80, 0xa8, after @ ..]) => (br"\u2028", after),
            (0xe2, [0x80, 0xa9, after @ ..]) => (br"\u2029", after),
            _ => (std::slice::from_ref(first), tail),
        };
        text.extend_from_slice(written);
        rest = tail;
    }
    text
}

/// A refusal as an error, for reads and for codes that say nothing about the object.
pub(super) fn failed(step: &'static str, refusal: Refusal) -> ActError {
    ActError::Api { step, code: refusal.answer.code, message: refusal.message }
}

/// Codes that speak about the object or the rules; not about load, time or who we are.
fn is_refusal(code: u16) -> bool {
    (400..500).contains(&code) && !matches!(code, 401 | 408 | 429)
}

fn path(namespace: &str, resource: &str) -> String {
    collection("apps/v1", namespace, resource)
}

/// Where the workloads of a kind are.
pub(super) fn workloads(namespace: &str, kind: Kind) -> String {
    path(namespace, kind.plural())
}

/// Where objects of a namespace are.
pub(super) fn collection(group: &str, namespace: &str, resource: &str) -> String {
    format!("/apis/{group}/namespaces/{namespace}/{resource}")
}

/// The `matchLabels` of the workload; expressions only narrow further, and the owner decides anyway.
fn selector(workload: &Value) -> Option<String> {
    let labels = workload.pointer("/spec/selector/matchLabels")?.as_object()?;
    let pairs: Option<Vec<String>> =
        labels.iter().map(|(key, value)| value.as_str().map(|value| format!("{key}={value}"))).collect();
    pairs.filter(|pairs| !pairs.is_empty()).map(|pairs| pairs.join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_go_escapes_is_escaped_as_go_does() {
        let json = serde_json::to_vec(&serde_json::json!({"a": "x < y && z > \u{2028}\u{2029}é"})).unwrap();
        let written = String::from_utf8(as_the_server_writes(&json)).unwrap();
        assert_eq!(written, r#"{"a":"x \u003c y \u0026\u0026 z \u003e \u2028\u2029é"}"#);
    }

    proptest! {
        #[test]
        fn escaping_changes_no_value(text in "\\PC*[<>&\u{2028}\u{2029}]\\PC*") {
            let value = serde_json::json!({"test": text});
            let written = as_the_server_writes(&serde_json::to_vec(&value).unwrap());
            prop_assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), value);
        }
    }
}
