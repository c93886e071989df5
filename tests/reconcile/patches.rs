//! What patches do to an object, and who owns its fields afterwards.
//!
//! Role: JSON Patch, merge patch and apply as the real server does them, as far as the operator uses them. Inputs: an
//! object and a patch. Outputs: the object afterwards, or a refusal.

use serde_json::{Map, Value, json};

/// Why a patch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// 409.
    Conflict,
    /// A bare 422, whatever was wrong.
    Invalid,
}

/// Applies a JSON Patch; a `test` of null holds where there is nothing, as the real server has it.
pub fn json_patch(object: &mut Value, patch: &Value) -> Result<(), Refused> {
    for operation in patch.as_array().ok_or(Refused::Invalid)? {
        let pointer = operation["path"].as_str().unwrap_or_default();
        if operation["op"] == "test"
            && operation["value"].is_null()
            && object.pointer(pointer).is_none_or(Value::is_null)
        {
            continue;
        }
        let single = serde_json::from_value(json!([operation])).map_err(|_| Refused::Invalid)?;
        let patch: ::json_patch::Patch = single;
        ::json_patch::patch(object, &patch).map_err(|_| Refused::Invalid)?;
    }
    Ok(())
}

/// Applies a merge patch.
pub fn merge(object: &mut Value, patch: &Value) {
    ::json_patch::merge(object, patch);
}

/// Server-side apply: of the status each field as a whole; of other objects what was applied before and is not any more goes away.
pub fn apply(object: &mut Value, body: &Value, last: Option<&Value>, of_status: bool) -> Result<(), Refused> {
    let version = &body["metadata"]["resourceVersion"];
    if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
        return Err(Refused::Conflict);
    }
    if of_status {
        let fields = |body: &Value| body["status"].as_object().cloned().unwrap_or_default();
        let mut status = fields(object);
        // What this manager no longer names goes away; what others wrote stays.
        for (key, _) in last.iter().flat_map(|last| fields(last)) {
            status.remove(&key);
        }
        status.extend(fields(body));
        object["status"] = Value::Object(status);
        return Ok(());
    }
    if let Some(last) = last {
        remove_missing(object, last, body);
    }
    merge(object, body);
    Ok(())
}

fn remove_missing(object: &mut Value, last: &Value, now: &Value) {
    let (Some(object), Some(last)) = (object.as_object_mut(), last.as_object()) else { return };
    for (key, value) in last {
        match (object.get_mut(key), now.get(key)) {
            (Some(_), None) => {
                object.remove(key);
            }
            (Some(inner), Some(now)) => remove_missing(inner, value, now),
            _ => {}
        }
    }
}

/// Books the template and annotations that a write changed under its manager, and takes them from everybody else.
pub fn book(before: &Value, after: &mut Value, manager: &str) {
    let mut changed = Map::new();
    for (outer, inner) in [("spec", "template"), ("metadata", "annotations")] {
        let fields = difference(&before[outer][inner], &after[outer][inner]);
        if !fields.is_empty() {
            changed.insert(format!("f:{outer}"), json!({ format!("f:{inner}"): fields }));
        }
    }
    if changed.is_empty() || manager.is_empty() || !after["metadata"]["managedFields"].is_array() {
        return;
    }
    let changed = Value::Object(changed);
    let Some(entries) = after["metadata"]["managedFields"].as_array_mut() else { return };
    for entry in entries.iter_mut().filter(|entry| entry["manager"] != manager) {
        subtract(&mut entry["fieldsV1"], &changed);
    }
    match entries.iter_mut().find(|entry| entry["manager"] == manager) {
        Some(entry) => merge(&mut entry["fieldsV1"], &changed),
        None => entries.push(managed(manager, "Update", changed)),
    }
}

/// An entry of `managedFields`.
pub fn managed(manager: &str, operation: &str, fields: Value) -> Value {
    json!({
        "manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    })
}

/// The set of all fields of a value.
pub fn fields_of(value: &Value) -> Value {
    Value::Object(difference(&Value::Null, value))
}

fn difference(before: &Value, after: &Value) -> Map<String, Value> {
    let mut found = Map::new();
    match after {
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(key, value)| before.get(key.as_str()) != Some(value)) {
                let inner = difference(before.get(key).unwrap_or(&Value::Null), value);
                found.insert(format!("f:{key}"), Value::Object(inner));
            }
        }
        Value::Array(items) => {
            for item in items.iter().filter(|item| item["name"].is_string()) {
                let same = before.as_array().and_then(|list| list.iter().find(|other| other["name"] == item["name"]));
                if same != Some(item) {
                    let inner = difference(same.unwrap_or(&Value::Null), item);
                    found.insert(format!("k:{}", json!({"name": item["name"]})), Value::Object(inner));
                }
            }
        }
        _ => {}
    }
    found
}

fn subtract(from: &mut Value, what: &Value) {
    let (Some(from), Some(what)) = (from.as_object_mut(), what.as_object()) else { return };
    for (key, inner) in what {
        let leaf = inner.as_object().is_none_or(Map::is_empty);
        if leaf {
            from.remove(key);
        } else if let Some(own) = from.get_mut(key) {
            subtract(own, inner);
        }
    }
}
