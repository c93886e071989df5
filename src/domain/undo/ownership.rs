//! Who owns the template's fields after an undo.
//!
//! Role: hands the fields our undo took back to whoever applies the workload, else their next apply conflicts. Inputs: a
//! raw workload. Outputs: a second JSON Patch. Must never import: other rooms.

use serde_json::{Map, Value, json};

use crate::domain::managers;

/// The second patch.
#[derive(Debug, Clone, PartialEq)]
pub struct HandBack {
    /// The JSON Patch, an array of operations on `/metadata/managedFields`.
    pub operations: Value,
    /// Who gets the fields.
    pub to: String,
}

/// An Apply entry with less than this share of the largest entry's fields is somebody's side business: it would remove
/// what it is given with its next apply.
const LEAST_SHARE: usize = 4;

/// Whether our undo still owns fields of the template.
#[must_use]
pub fn owns_template(workload: &Value) -> bool {
    entries(workload).any(|(_, entry)| is_ours(entry))
}

/// Plans the hand-back; `None` when there is nothing to hand back, or nobody who could take it.
#[must_use]
pub fn plan_hand_back(workload: &Value) -> Option<HandBack> {
    let ours: Vec<(usize, &Value)> = entries(workload).filter(|(_, entry)| is_ours(entry)).collect();
    let (_, first) = ours.first()?;
    let version = first.get("apiVersion")?;
    // Sets of another version cannot be merged: their paths may differ.
    let ours: Vec<_> = ours.into_iter().filter(|(_, entry)| entry.get("apiVersion") == Some(version)).collect();
    let (to_index, to) = main_owner(workload, version)?;

    let mut tests = vec![test(to_index, "manager", to), test(to_index, "fieldsV1", to)];
    let mut merged = to.get("fieldsV1")?.clone();
    let mut changes = Vec::new();
    let mut removals = Vec::new();
    for (index, entry) in ours {
        tests.push(test(index, "manager", entry));
        tests.push(test(index, "fieldsV1", entry));
        let (rest, template) = without_template(entry.get("fieldsV1")?)?;
        merge(&mut merged, &json!({"f:spec": {"f:template": template}}));
        if rest.is_empty() {
            removals.push((index, json!({"op": "remove", "path": path(index, None)})));
        } else {
            changes.push(json!({"op": "replace", "path": path(index, Some("fieldsV1")), "value": rest}));
        }
    }
    changes.push(json!({"op": "replace", "path": path(to_index, Some("fieldsV1")), "value": merged}));
    // From the last to the first: a removal moves the entries behind it.
    removals.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
    let operations = tests.into_iter().chain(changes).chain(removals.into_iter().map(|(_, removal)| removal));
    Some(HandBack {
        operations: Value::Array(operations.collect()),
        to: to.get("manager").and_then(Value::as_str).unwrap_or_default().to_owned(),
    })
}

/// Whether whoever gets the fields applies on the server, and so removes what a release no longer names.
pub(super) fn is_server_side_applied(workload: &Value) -> bool {
    let version = workload.get("apiVersion").cloned().unwrap_or_else(|| json!("apps/v1"));
    main_owner(workload, &version).is_some_and(|(_, entry)| applies(entry))
}

/// The entry that owns most of the template (or, where nobody does, of the spec), Apply before Update.
fn main_owner<'a>(workload: &'a Value, version: &Value) -> Option<(usize, &'a Value)> {
    let candidates = || {
        entries(workload).filter(|(_, entry)| {
            entry.get("manager").and_then(Value::as_str) != Some(managers::UNDO)
                && entry.get("subresource").and_then(Value::as_str).unwrap_or_default().is_empty()
                && entry.get("apiVersion") == Some(version)
        })
    };
    let best = |pointer: &str| {
        let size = |entry: &Value| entry.pointer(pointer).map_or(0, leaves);
        let largest = candidates().map(|(_, entry)| size(entry)).max()?;
        candidates()
            .filter(|(_, entry)| size(entry) > 0 && size(entry).saturating_mul(LEAST_SHARE) >= largest)
            // The earlier entry wins a tie, so that the choice does not depend on the iterator.
            .max_by_key(|(index, entry)| (applies(entry), size(entry), std::cmp::Reverse(*index)))
    };
    best("/fieldsV1/f:spec/f:template").or_else(|| best("/fieldsV1/f:spec"))
}

/// The entries that own fields of the template.
pub(super) fn managers_of_template(workload: &Value) -> impl Iterator<Item = &Value> {
    let owns = |entry: &Value| entry.pointer("/fieldsV1/f:spec/f:template").is_some();
    entries(workload).map(|(_, entry)| entry).filter(move |entry| owns(entry))
}

fn entries(workload: &Value) -> impl Iterator<Item = (usize, &Value)> {
    workload.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten().enumerate()
}

fn is_ours(entry: &Value) -> bool {
    entry.get("manager").and_then(Value::as_str) == Some(managers::UNDO)
        && entry.pointer("/fieldsV1/f:spec/f:template").is_some()
}

fn applies(entry: &Value) -> bool {
    entry.get("operation").and_then(Value::as_str) == Some("Apply")
}

fn path(index: usize, field: Option<&str>) -> String {
    match field {
        Some(field) => format!("/metadata/managedFields/{index}/{field}"),
        None => format!("/metadata/managedFields/{index}"),
    }
}

fn test(index: usize, field: &str, entry: &Value) -> Value {
    json!({"op": "test", "path": path(index, Some(field)), "value": entry.get(field)})
}

/// The set without its template part, and that part.
fn without_template(fields: &Value) -> Option<(Map<String, Value>, Value)> {
    let mut rest = fields.as_object()?.clone();
    let spec = rest.get_mut("f:spec")?.as_object_mut()?;
    let template = spec.remove("f:template")?;
    if spec.is_empty() {
        rest.remove("f:spec");
    }
    Some((rest, template))
}

/// Sets of fields are maps of maps; their union is the merge.
fn merge(into: &mut Value, from: &Value) {
    let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) else { return };
    for (key, value) in from {
        merge(into.entry(key.clone()).or_insert_with(|| json!({})), value);
    }
}

fn leaves(fields: &Value) -> usize {
    match fields.as_object() {
        Some(map) if !map.is_empty() => map.values().map(leaves).sum(),
        _ => 1,
    }
}
