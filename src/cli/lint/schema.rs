//! A document against the schema of this binary's definitions.
//!
//! Role: what the API server would refuse or silently drop: types, limits, missing and unknown fields. Inputs: a schema
//! and a document as JSON. Outputs: findings. Must never import: a kube client, `console`.

use serde_json::Value;

use crate::api::decision::nearest;

/// One thing that is wrong: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) field: String,
    pub(super) what: String,
    pub(super) cure: String,
}

/// Names listed where none is near.
const LISTED: usize = 16;

pub(super) fn wrong(field: &str, what: impl Into<String>, cure: impl Into<String>) -> Wrong {
    Wrong { field: field.to_owned(), what: what.into(), cure: cure.into() }
}

/// What to write instead of a name that nobody knows.
pub(super) fn instead(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(other) => format!("did you mean {other}?"),
        None if known.len() > LISTED => "see `kubectl explain`".to_owned(),
        None => format!("write one of {}", known.join(", ")),
    }
}

/// Everything wrong with a value.
pub(super) fn check(schema: &Value, value: &Value, field: &str, found: &mut Vec<Wrong>) {
    // The API server takes null for absent.
    if value.is_null() {
        return;
    }
    let wanted = schema["type"].as_str().unwrap_or_default();
    match (wanted, value) {
        ("object", Value::Object(fields)) => object(schema, fields, field, found),
        ("array", Value::Array(items)) => array(schema, items, field, found),
        ("string", Value::String(text)) => string(schema, text, field, found),
        ("integer" | "number", Value::Number(number)) => {
            if wanted == "integer" && !number.is_i64() && !number.is_u64() {
                found.push(wrong(field, format!("is {number}"), "write a whole number"));
                return;
            }
            let number = number.as_f64().unwrap_or_default();
            let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
            if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
                let bound = |bound: Option<f64>| bound.map_or_else(|| "any".to_owned(), |bound| bound.to_string());
                let cure = format!("must lie between {} and {}", bound(least), bound(most));
                found.push(wrong(field, format!("is {number}"), cure));
            }
        }
        ("boolean", Value::Bool(_)) | ("", _) => {}
        (wanted, other) => {
            found.push(wrong(field, format!("is {}", kind(other)), format!("write {}", article(wanted))));
        }
    }
}

fn object(schema: &Value, fields: &serde_json::Map<String, Value>, field: &str, found: &mut Vec<Wrong>) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if fields.get(name).is_none_or(Value::is_null) {
            found.push(wrong(&below(field, name), "is missing", "it is required"));
        }
    }
    let Some(known) = schema["properties"].as_object() else {
        let each = &schema["additionalProperties"];
        for (name, value) in fields.iter().filter(|_| each.is_object()) {
            check(each, value, &below(field, name), found);
        }
        return;
    };
    for (name, value) in fields {
        if let Some(schema) = known.get(name) {
            check(schema, value, &below(field, name), found);
        } else {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            found.push(wrong(&below(field, name), "is no field that there is", instead(name, &names)));
        }
    }
}

fn array(schema: &Value, items: &[Value], field: &str, found: &mut Vec<Wrong>) {
    let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
    if schema["maxItems"].as_u64().is_some_and(|most| count > most) {
        found.push(wrong(field, format!("has {count} entries"), format!("{} at most", schema["maxItems"])));
    }
    if schema["minItems"].as_u64().is_some_and(|least| count < least) {
        found.push(wrong(field, format!("has {count} entries"), format!("{} at least", schema["minItems"])));
    }
    let keys: Vec<&str> =
        schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let key = |item: &Value| -> Vec<Value> { keys.iter().map(|key| item[*key].clone()).collect() };
    for (index, item) in items.iter().enumerate() {
        let place = format!("{field}[{index}]");
        if !keys.is_empty() && items.iter().take(index).any(|before| key(before) == key(item)) {
            found.push(wrong(&place, format!("has the {} of an entry before it", keys.join(" and ")), "rename it"));
        }
        check(&schema["items"], item, &place, found);
    }
}

fn string(schema: &Value, text: &str, field: &str, found: &mut Vec<Wrong>) {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        if !words.contains(&text) {
            found.push(wrong(field, format!("is {text:?}, which there is not"), instead(text, &words)));
        }
        return;
    }
    let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
    if schema["minLength"].as_u64().is_some_and(|least| length < least) {
        found.push(wrong(field, "is empty", "write something, or leave the field out"));
    } else if schema["maxLength"].as_u64().is_some_and(|most| length > most) {
        found.push(wrong(field, format!("has {length} characters"), format!("{} at most", schema["maxLength"])));
    } else if let Some(pattern) = schema["pattern"].as_str()
        && regex::Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
    {
        found.push(wrong(field, format!("is {text:?}"), format!("must look like {pattern}")));
    }
}

fn below(field: &str, name: &str) -> String {
    if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("the truth value {value}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a group of fields".to_owned(),
    }
}

fn article(wanted: &str) -> &'static str {
    match wanted {
        "object" => "a group of fields",
        "array" => "a list",
        "string" => "a text, in quotes if it looks like a number or a truth value",
        "boolean" => "true or false",
        _ => "a number",
    }
}
