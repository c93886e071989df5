//! What the next release may leave behind.
//!
//! Role: names the fields that only the good template has. Inputs: both templates and the workload. Outputs: paths for
//! people. Must never import: other rooms.

use serde_json::Value;

use super::ownership::is_server_side_applied;

/// More than this nobody reads.
const MOST: usize = 50;

/// Where client-side apply keeps what was applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Fields that only the good template has and that client-side apply or helm 3 would not remove, in order.
#[must_use]
pub fn only_in_good(bad: &Value, good: &Value, workload: &Value) -> Vec<String> {
    if is_server_side_applied(workload) {
        return Vec::new();
    }
    let mut found = Vec::new();
    collect(good, bad, &last_applied(workload), "", &mut found);
    found.sort();
    found.truncate(MOST);
    found
}

fn last_applied(workload: &Value) -> Value {
    workload
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get(LAST_APPLIED)?.as_str())
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        .and_then(|applied| applied.pointer("/spec/template").cloned())
        .unwrap_or(Value::Null)
}

/// Collects the highest paths that `good` has and neither `bad` nor `applied` (which apply would remove) has.
fn collect(good: &Value, bad: &Value, applied: &Value, path: &str, found: &mut Vec<String>) {
    match (good, bad) {
        (Value::Object(good), Value::Object(bad)) => {
            for (key, value) in good.iter().filter(|(_, value)| !value.is_null()) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let applied = applied.get(key).unwrap_or(&Value::Null);
                match bad.get(key).filter(|value| !value.is_null()) {
                    Some(bad) => collect(value, bad, applied, &path, found),
                    None if applied.is_null() => found.push(path),
                    None => {}
                }
            }
        }
        (Value::Array(good), Value::Array(bad)) => {
            // Lists without a merge key are replaced as a whole by every apply.
            let Some(key) = merge_key(path) else { return };
            for item in good {
                let Some(name) = item.get(key) else { continue };
                let same = |list: &[Value]| list.iter().find(|other| other.get(key) == Some(name)).cloned();
                let path = format!("{path}[{}]", name.as_str().map_or_else(|| name.to_string(), str::to_owned));
                let applied = applied.as_array().and_then(|list| same(list)).unwrap_or(Value::Null);
                match same(bad) {
                    Some(bad) => collect(item, &bad, &applied, &path, found),
                    None if applied.is_null() => found.push(path),
                    None => {}
                }
            }
        }
        _ => {}
    }
}

/// The key by which apply merges a list of a pod template.
fn merge_key(path: &str) -> Option<&'static str> {
    match path.rsplit('.').next().unwrap_or_default() {
        "containers" | "initContainers" | "ephemeralContainers" | "env" | "volumes" | "imagePullSecrets" => {
            Some("name")
        }
        "ports" => Some("containerPort"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "hostAliases" => Some("ip"),
        "topologySpreadConstraints" => Some("topologyKey"),
        _ => None,
    }
}
