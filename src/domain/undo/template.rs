//! Which template is which revision.
//!
//! Role: compare pod templates as controllers do. Inputs: raw templates and what holds them. Outputs: equality, hashes. Must never import: other rooms.

use serde_json::Value;

use super::TEMPLATE_HASH;
use crate::domain::rollout::RevisionHash;

/// The template without what servers add: nulls at any depth, the hash label, and the patch directive that a
/// `ControllerRevision` stores with it.
#[must_use]
pub fn normalise(template: &Value) -> Value {
    let mut template = without_nulls(template);
    if let Some(map) = template.as_object_mut() {
        map.remove("$patch");
    }
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(TEMPLATE_HASH);
    }
    drop_if_empty(&mut template, "/metadata", "labels");
    drop_if_empty(&mut template, "", "metadata");
    template
}

/// Whether two templates are the same revision.
#[must_use]
pub fn same_template(a: &Value, b: &Value) -> bool {
    normalise(a) == normalise(b)
}

/// The hash label of a ReplicaSet.
pub(super) fn hash_of(set: &Value) -> Option<RevisionHash> {
    set.pointer("/metadata/labels")?.get(TEMPLATE_HASH)?.as_str().map(RevisionHash::new)
}

/// The revision number of a ReplicaSet; 0 when it has none yet.
pub(super) fn number_of(set: &Value) -> u64 {
    set.pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get("deployment.kubernetes.io/revision"))
        .and_then(Value::as_str)
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Whether the object is controlled by the workload with this uid.
pub(super) fn is_controlled_by(object: &Value, uid: &str) -> bool {
    controller_of(object).is_some_and(|owner| owner.get("uid").and_then(Value::as_str) == Some(uid))
}

/// The owner reference that controls the object.
pub(super) fn controller_of(object: &Value) -> Option<&Value> {
    object
        .pointer("/metadata/ownerReferences")?
        .as_array()?
        .iter()
        .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

fn drop_if_empty(template: &mut Value, parent: &str, key: &str) {
    let Some(parent) = template.pointer_mut(parent).and_then(Value::as_object_mut) else { return };
    if parent.get(key).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
        parent.remove(key);
    }
}
