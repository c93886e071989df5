//! What differs between two pod templates.
//!
//! Role: one line for each field that an undo changes. Inputs: two templates, what hides secrets. Outputs: lines. Must never
//! import: a clock, a client, `console`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::redact::Redactor;
use crate::domain::undo::normalise;

/// The longest value that is shown.
const VALUE: usize = 120;

/// One changed field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: String,
    /// Nothing if it is new.
    pub(super) before: Option<String>,
    /// Nothing if it goes.
    pub(super) after: Option<String>,
}

/// Fields that differ, in the order of their paths.
pub(super) fn diff(present: &Value, good: &Value, redactor: &Redactor) -> Vec<Change> {
    let (before, after) = (leaves(&normalise(present)), leaves(&normalise(good)));
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    let differs = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    let show = |path: &str, value: Option<&String>| value.map(|value| shown(path, value, redactor));
    differs
        .map(|path| Change {
            path: path.clone(),
            before: show(path, before.get(path)),
            after: show(path, after.get(path)),
        })
        .collect()
}

/// A value without what should not stand in a log. The name of a variable says what its value is.
fn shown(path: &str, value: &str, redactor: &Redactor) -> String {
    let variable = path.strip_suffix("].value").and_then(|path| path.rsplit_once("env[")).map(|(_, name)| name);
    let Some(name) = variable else { return redactor.redact(value, VALUE).as_str().to_owned() };
    let pair = redactor.redact(&format!("{name}={value}"), VALUE + name.len());
    pair.as_str().split_once('=').map_or_else(|| pair.as_str().to_owned(), |(_, value)| value.to_owned())
}

fn leaves(value: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect("", value, &mut found);
    found
}

fn collect(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, field) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(&path, field, found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                // Containers, variables and volumes are known by their names, wherever they stand in the list.
                let name = item.get("name").and_then(Value::as_str);
                let place = name.map_or_else(|| index.to_string(), str::to_owned);
                collect(&format!("{path}[{place}]"), item, found);
            }
        }
        Value::String(text) => {
            found.insert(path.to_owned(), text.clone());
        }
        other => {
            found.insert(path.to_owned(), other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(image: &str, env: Value) -> Value {
        json!({"metadata": {"labels": {"app": "api", "pod-template-hash": image}},
            "spec": {"containers": [{"name": "api", "image": image, "env": env}]}})
    }

    fn change(path: &str, before: Option<&str>, after: Option<&str>) -> Change {
        Change { path: path.into(), before: before.map(str::to_owned), after: after.map(str::to_owned) }
    }

    #[test]
    fn what_changes_goes_and_comes_is_named_by_containers_and_variables() {
        let present = template("api:v2", json!([{"name": "NEW", "value": "1"}, {"name": "LEVEL", "value": "debug"}]));
        let good = template("api:v1", json!([{"name": "LEVEL", "value": "info"}, {"name": "OLD", "value": "2"}]));
        let env = |name: &str, field: &str| format!("spec.containers[api].env[{name}].{field}");
        assert_eq!(
            diff(&present, &good, &Redactor::new()),
            [
                change(&env("LEVEL", "value"), Some("debug"), Some("info")),
                change(&env("NEW", "name"), Some("NEW"), None),
                change(&env("NEW", "value"), Some("1"), None),
                change(&env("OLD", "name"), None, Some("OLD")),
                change(&env("OLD", "value"), None, Some("2")),
                change("spec.containers[api].image", Some("api:v2"), Some("api:v1")),
            ]
        );
        assert!(diff(&good, &good, &Redactor::new()).is_empty());
    }

    #[test]
    fn a_value_whose_name_says_secret_is_not_shown() {
        let with = |secret: &str| template("api:v1", json!([{"name": "DB_PASSWORD", "value": secret}]));
        let found = diff(&with("correct-horse-battery"), &with("staple-9"), &Redactor::new());
        let text = format!("{found:?}");
        assert_eq!(found.len(), 1);
        assert!(!text.contains("horse") && !text.contains("staple") && text.contains("redacted"), "{text}");
    }
}
