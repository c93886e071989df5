//! `generateContent`, the format of Google.
//!
//! Role: a prompt as a request, a response as a text. The model stands in the path, the key in a header, never in the
//! URL. Inputs: prompt, rung. Outputs: JSON; what a response says. Must never import: other rooms than `domain`.

use serde_json::{Map, Value, json};

use super::{Prompt, Said, tokens, with_schema};
use crate::domain::advice::{Failure, Rung, Usage};

/// Thoughts count too.
const TOKENS: u32 = 8192;
/// What a `responseSchema` may say; it is refused for any other word.
const KEYWORDS: &[&str] = &[
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "items",
    "minItems",
    "maxItems",
    "properties",
    "required",
    "minimum",
    "maximum",
    "anyOf",
    "propertyOrdering",
];

pub(super) fn request(prompt: &Prompt, rung: Rung) -> Value {
    let system = if rung == Rung::JsonSchema { prompt.system.clone() } else { with_schema(prompt) };
    let mut config = json!({"temperature": 0, "maxOutputTokens": TOKENS, "candidateCount": 1});
    if let Some(fields) = config.as_object_mut() {
        if rung != Rung::Text {
            fields.insert("responseMimeType".to_owned(), "application/json".into());
        }
        if rung == Rung::JsonSchema {
            fields.insert("responseSchema".to_owned(), subset(&prompt.schema));
        }
    }
    json!({
        "systemInstruction": {"parts": [{"text": system}]},
        "contents": [{"role": "user", "parts": [{"text": prompt.user}]}],
        "generationConfig": config,
    })
}

/// The part of a JSON schema that is understood; the reply is checked in full when it is read.
fn subset(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else { return schema.clone() };
    let mut kept = Map::new();
    for (name, value) in fields.iter().filter(|(name, _)| KEYWORDS.contains(&name.as_str())) {
        let value = match (name.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                Value::Object(properties.iter().map(|(name, schema)| (name.clone(), subset(schema))).collect())
            }
            ("items", schema) => subset(schema),
            ("anyOf", Value::Array(schemas)) => Value::Array(schemas.iter().map(subset).collect()),
            _ => value.clone(),
        };
        kept.insert(name.clone(), value);
    }
    Value::Object(kept)
}

pub(super) fn read(json: &Value) -> Said {
    let output = ["/usageMetadata/candidatesTokenCount", "/usageMetadata/thoughtsTokenCount"];
    let output = output.iter().map(|place| tokens(json, place)).fold(0, u64::saturating_add);
    Said { text: text(json), usage: Usage { input: tokens(json, "/usageMetadata/promptTokenCount"), output } }
}

fn text(json: &Value) -> Result<String, (Failure, String)> {
    if let Some(reason) = json.pointer("/promptFeedback/blockReason").and_then(Value::as_str) {
        return Err((Failure::Declined, format!("the prompt was blocked: {reason}")));
    }
    let Some(candidate) = json.pointer("/candidates/0") else {
        return Err((
            Failure::Unreadable,
            "it answered without candidates; is this a server of generateContent?".into(),
        ));
    };
    match candidate.get("finishReason").and_then(Value::as_str).unwrap_or_default() {
        "MAX_TOKENS" => return Err((Failure::Truncated, "the reply was cut off at the token limit".into())),
        reason @ ("SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "LANGUAGE"
        | "IMAGE_SAFETY") => return Err((Failure::Declined, format!("the reply was held back: {reason}"))),
        _ => {}
    }
    let parts = candidate.pointer("/content/parts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if parts.iter().any(|part| part.get("functionCall").is_some()) {
        return Err((Failure::Unreadable, "the model called a tool, though it was given none".into()));
    }
    let spoken = parts.iter().filter(|part| part.get("thought").and_then(Value::as_bool) != Some(true));
    Ok(spoken.filter_map(|part| part.get("text").and_then(Value::as_str)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_keeps_what_google_understands_at_every_depth() {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["a"],
            "properties": {
                "additionalProperties": {"type": "string", "maxLength": 5, "enum": ["x"]},
                "a": {"type": "array", "items": {"type": "integer", "minimum": 0, "exclusiveMaximum": 5}},
            },
        });
        let expected = json!({
            "type": "object", "required": ["a"],
            "properties": {
                "additionalProperties": {"type": "string", "enum": ["x"]},
                "a": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            },
        });
        assert_eq!(subset(&schema), expected);
    }
}
