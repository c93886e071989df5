//! Suspending what would apply the bad version again, and giving it back.
//!
//! Role: what to write on which object, the marker that remembers it, and when it ends. Inputs: raw objects of a fresh
//! read, `now`. Outputs: JSON Patches that test what they replace. Must never import: other rooms. A marker is text from
//! outside: it says when to give back and what, never which object or which field.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::policy::Target;

/// The annotation that remembers a suspension, on the suspended object.
pub const MARKER: &str = "deploymentguard.dev/suspended-sync";

/// The label by which suspended objects are found that are no workloads, which are watched anyway.
pub const LABEL: &str = "deploymentguard.dev/sync-suspended";

/// Flux leaves an object alone that is annotated so.
pub const FLUX_RECONCILE: &str = "kustomize.toolkit.fluxcd.io/reconcile";

const ANNOTATIONS: &str = "/metadata/annotations";

/// The longest name of an object.
const LONGEST_NAME: usize = 253;

/// An object on which a sync is suspended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Object {
    /// The workload itself, which Flux's kustomize-controller then leaves alone; the rest of the Kustomization goes on.
    Workload(Target),
    /// A `HelmRelease` of Flux.
    HelmRelease(String),
    /// An Application of Argo CD.
    Application(String),
}

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// The object.
    pub object: Object,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = &self.namespace;
        match &self.object {
            Object::Workload(target) => write!(f, "{target} in {namespace}"),
            Object::HelmRelease(name) => write!(f, "the Flux HelmRelease {namespace}/{name}"),
            Object::Application(name) => write!(f, "the Argo CD Application {namespace}/{name}"),
        }
    }
}

/// One field of an object: the object that holds it, and its key there.
struct Field {
    holder: &'static str,
    key: &'static str,
    suspended: Value,
}

impl Object {
    /// The field that suspends, and what it says then.
    fn field(&self) -> Field {
        match self {
            Self::Workload(_) => Field { holder: ANNOTATIONS, key: FLUX_RECONCILE, suspended: json!("disabled") },
            Self::HelmRelease(_) => Field { holder: "/spec", key: "suspend", suspended: json!(true) },
            Self::Application(_) => {
                Field { holder: "/spec/syncPolicy/automated", key: "selfHeal", suspended: json!(false) }
            }
        }
    }

    /// What may be written back; anything else was not written by us.
    fn can_be(&self, value: &Value) -> bool {
        value.is_null() || if matches!(self, Self::Workload(_)) { value.is_string() } else { value.is_boolean() }
    }
}

/// What a suspension remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The decision that wanted it.
    pub decision: String,
    /// When it ends at the latest.
    pub until: Timestamp,
    /// The revision that was undone.
    pub bad: String,
    /// The revision that was put back.
    pub restored: String,
    /// What the field said before; nothing if it was not there.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub before: Value,
    /// The Flux Kustomization that applies the workload, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kustomization: Option<String>,
    /// What Git held then, where that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<String>,
}

/// Why a suspension ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its time is up.
    Expired,
    /// The workload carries a template that is neither the bad nor the restored one.
    NewTemplate,
    /// Git holds something new.
    NewRevision,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its time is up (rollback.suspendFor)",
            Self::NewTemplate => "the workload carries a new template",
            Self::NewRevision => "there is a new revision to apply",
        })
    }
}

impl Marker {
    /// Reads the marker of an object, if there is one that can be read.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        Self::parse(object.pointer("/metadata/annotations")?.get(MARKER)?.as_str()?)
    }

    /// Reads the annotation.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Whether it ends now: `template` is the workload's present revision, `git` what Git holds, where they are known.
    #[must_use]
    pub fn ends(&self, now: Timestamp, template: Option<&str>, git: Option<&str>) -> Option<Why> {
        let is_new = |template: &str| template != self.bad && template != self.restored;
        if now >= self.until {
            Some(Why::Expired)
        } else if template.is_some_and(is_new) {
            Some(Why::NewTemplate)
        } else {
            self.git.as_deref().zip(git).is_some_and(|(then, now)| then != now).then_some(Why::NewRevision)
        }
    }

    fn text(&self) -> Value {
        // A struct of strings cannot fail to be written.
        Value::String(serde_json::to_string(self).unwrap_or_default())
    }
}

/// What suspending comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum SuspendPlan {
    /// Send this JSON Patch.
    Patch(Value),
    /// Nothing would apply the bad version again: somebody suspended it already, or it heals nothing.
    NotNeeded,
}

/// Plans a suspension of an object read this moment. One of ours that lasts still is prolonged.
#[must_use]
pub fn plan_suspend(kind: &Object, object: &Value, wanted: &Marker) -> SuspendPlan {
    let field = kind.field();
    let Some(holder) = object.pointer(field.holder).or_else(|| may_be_added(kind).then_some(&Value::Null)) else {
        return SuspendPlan::NotNeeded;
    };
    let present = holder.get(field.key).cloned().unwrap_or(Value::Null);
    let before = match Marker::of(object) {
        Some(ours) if present == field.suspended => ours.before,
        _ if present == field.suspended || !applies(kind, holder) => return SuspendPlan::NotNeeded,
        _ => present,
    };
    let marker = Marker { before, ..wanted.clone() };
    let changes =
        [(ANNOTATIONS, MARKER, Some(marker.text())), (field.holder, field.key, Some(field.suspended.clone()))];
    SuspendPlan::Patch(patch(object, &with_label(kind, &changes, Some(json!("true")))))
}

/// Plans to give back what was suspended; nothing if there is no marker. What somebody changed since stays as it is.
#[must_use]
pub fn plan_resume(kind: &Object, object: &Value) -> Option<Value> {
    let marker = Marker::of(object)?;
    let field = kind.field();
    let present = object.pointer(field.holder).and_then(|holder| holder.get(field.key));
    let mut changes = vec![(ANNOTATIONS, MARKER, None)];
    if present == Some(&field.suspended) && kind.can_be(&marker.before) {
        changes.push((field.holder, field.key, Some(marker.before).filter(|before| !before.is_null())));
    }
    Some(patch(object, &with_label(kind, &changes, None)))
}

/// One change: of which object inside the object, which key, to what; nothing removes it.
type Change = (&'static str, &'static str, Option<Value>);

fn with_label(kind: &Object, changes: &[Change], to: Option<Value>) -> Vec<Change> {
    let label = (!matches!(kind, Object::Workload(_))).then_some(("/metadata/labels", LABEL, to));
    changes.iter().cloned().chain(label).collect()
}

/// A JSON Patch that tests everything it changes, and the uid.
fn patch(object: &Value, changes: &[Change]) -> Value {
    let test = |path: &str, value: &Value| json!({"op": "test", "path": path, "value": value});
    let mut tests = vec![test("/metadata/uid", object.pointer("/metadata/uid").unwrap_or(&Value::Null))];
    let mut edits = Vec::new();
    let mut holders: Vec<&str> = changes.iter().map(|(holder, ..)| *holder).collect();
    holders.dedup();
    for holder in holders {
        let changed = || changes.iter().filter(|change| change.0 == holder);
        let present = object.pointer(holder).and_then(Value::as_object);
        let mut after = present.cloned().unwrap_or_default();
        for (_, key, to) in changed() {
            match to {
                Some(value) => after.insert((*key).to_owned(), value.clone()),
                None => after.remove(*key),
            };
        }
        let Some(present) = present else {
            // Without this test what somebody writes meanwhile would be erased.
            tests.push(test(holder, &Value::Null));
            edits.push(json!({"op": "add", "path": holder, "value": after}));
            continue;
        };
        if after.is_empty() {
            tests.push(test(holder, &json!(present)));
            edits.push(json!({"op": "remove", "path": holder}));
            continue;
        }
        for (_, key, to) in changed() {
            let path = format!("{holder}/{}", key.replace('~', "~0").replace('/', "~1"));
            tests.push(test(&path, present.get(*key).unwrap_or(&Value::Null)));
            edits.extend(edit(&path, present.contains_key(*key), to.as_ref()));
        }
    }
    tests.extend(edits);
    Value::Array(tests)
}

fn edit(path: &str, is_there: bool, to: Option<&Value>) -> Option<Value> {
    match to {
        Some(value) => Some(json!({"op": "add", "path": path, "value": value})),
        None => is_there.then(|| json!({"op": "remove", "path": path})),
    }
}

/// Annotations are added where there are none; a policy of Argo CD that is not there applies nothing.
const fn may_be_added(kind: &Object) -> bool {
    !matches!(kind, Object::Application(_))
}

/// Whether what is configured would apply the bad version again.
fn applies(kind: &Object, holder: &Value) -> bool {
    let says = |key: &str, value: bool| holder.get(key).and_then(Value::as_bool) == Some(value);
    !matches!(kind, Object::Application(_)) || (says("selfHeal", true) && !says("enabled", false))
}

/// Whether a text can be the name of an object or a namespace. Labels and annotations name objects that are asked for in
/// paths, and can say anything.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    !text.is_empty() && text.len() <= LONGEST_NAME && text.chars().all(allowed) && !text.starts_with('.')
}

/// Whether an object that is not the workload itself applies it, by what its own controller says. Labels and annotations
/// of a workload can name any object, and must not make us suspend what belongs to others.
#[must_use]
pub fn applies_to(kind: &Object, object: &Value, namespace: &str, target: &Target) -> bool {
    let says = |value: &Value, key: &str, wanted: &str| value.get(key).and_then(Value::as_str) == Some(wanted);
    match kind {
        Object::Workload(own) => own == target,
        // It does not list what it applies; what it applies into can be read.
        Object::HelmRelease(_) => {
            let into = object.pointer("/spec/targetNamespace").and_then(Value::as_str).filter(|text| !text.is_empty());
            into.or_else(|| object.pointer("/metadata/namespace")?.as_str()) == Some(namespace)
        }
        Object::Application(_) => {
            let listed = object.pointer("/status/resources").and_then(Value::as_array);
            listed.into_iter().flatten().any(|one| {
                says(one, "group", "apps")
                    && says(one, "kind", target.kind.name())
                    && says(one, "namespace", namespace)
                    && says(one, "name", &target.name)
            })
        }
    }
}

/// What Git held when Flux last tried to apply it, from a Kustomization that lists the workload.
#[must_use]
pub fn revision_of_kustomization(object: &Value, namespace: &str, target: &Target) -> Option<String> {
    let status = object.get("status")?;
    let id = format!("{namespace}_{}_apps_{}", target.name, target.kind.name());
    let entries = status.pointer("/inventory/entries")?.as_array()?;
    if !entries.iter().any(|entry| entry.get("id").and_then(Value::as_str) == Some(&*id)) {
        return None;
    }
    let read = |key: &str| status.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    // What was applied lags behind while new pods do not become ready.
    read("lastAttemptedRevision").or_else(|| read("lastAppliedRevision"))
}

/// What a suspended object itself tells of Git.
#[must_use]
pub fn revision_of(kind: &Object, object: &Value) -> Option<String> {
    match kind {
        Object::Workload(_) => None,
        // While it is suspended its status stands still; a change in Git changes the rest of its spec.
        Object::HelmRelease(_) => {
            let mut spec = object.get("spec")?.as_object()?.clone();
            spec.remove("suspend");
            let sorted: std::collections::BTreeMap<_, _> = spec.into_iter().collect();
            Some(format!("{:016x}", super::undo::fingerprint(&json!(sorted))))
        }
        Object::Application(_) => object.pointer("/status/sync/revision")?.as_str().map(str::to_owned),
    }
}

#[cfg(test)]
#[path = "git_ops_tests.rs"]
mod tests;
