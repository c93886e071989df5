//! Chat completions, the format that most servers speak.
//!
//! Role: a prompt as a request, a response as a text. Inputs: model, prompt, rung. Outputs: JSON; what a response says.
//! Tolerant of everything but meaning: `finish_reason` is a free string. Must never import: other rooms than `domain`.

use serde_json::{Value, json};

use super::dialect::Manner;
use super::{Prompt, Said, tokens, with_schema};
use crate::domain::advice::{Failure, Rung, Usage};

/// What a reply needs, thrice.
const TOKENS: u32 = 2048;
/// Models that think count their thoughts too.
const THINKING_TOKENS: u32 = 8192;

pub(super) fn request(model: &str, prompt: &Prompt, rung: Rung, manner: Manner) -> Value {
    let system = if rung == Rung::JsonSchema { prompt.system.clone() } else { with_schema(prompt) };
    let mut body = json!({
        "model": model,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": prompt.user}],
        "stream": false,
    });
    let mut set = |name: &str, value: Value| {
        if let Some(fields) = body.as_object_mut() {
            fields.insert(name.to_owned(), value);
        }
    };
    if manner.completion_tokens {
        set("max_completion_tokens", THINKING_TOKENS.into());
    } else {
        set("max_tokens", TOKENS.into());
    }
    if !manner.any_temperature {
        set("temperature", 0.into());
    }
    match rung {
        Rung::JsonSchema => {
            let schema = json!({"name": "reply", "strict": true, "schema": prompt.schema});
            set("response_format", json!({"type": "json_schema", "json_schema": schema}));
        }
        Rung::JsonObject => set("response_format", json!({"type": "json_object"})),
        Rung::Text => {}
    }
    body
}

pub(super) fn read(json: &Value) -> Said {
    let usage = Usage { input: tokens(json, "/usage/prompt_tokens"), output: tokens(json, "/usage/completion_tokens") };
    Said { text: text(json), usage }
}

fn text(json: &Value) -> Result<String, (Failure, String)> {
    let Some(choice) = json.pointer("/choices/0") else {
        return Err((Failure::Unreadable, "it answered without choices; is this a server of chat completions?".into()));
    };
    let finish = choice.get("finish_reason").and_then(Value::as_str).unwrap_or_default();
    if matches!(finish, "length" | "max_tokens" | "MAX_TOKENS") {
        return Err((Failure::Truncated, "the reply was cut off at the token limit".into()));
    }
    if finish == "content_filter" {
        return Err((Failure::Declined, "a content filter held the reply back".into()));
    }
    if let Some(refusal) = choice.pointer("/message/refusal").and_then(Value::as_str).filter(|text| !text.is_empty()) {
        return Err((Failure::Declined, format!("the model declined: {refusal}")));
    }
    let calls = choice.pointer("/message/tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
    if calls || choice.pointer("/message/function_call").is_some_and(|call| !call.is_null()) {
        return Err((Failure::Unreadable, "the model called a tool, though it was given none".into()));
    }
    match choice.pointer("/message/content") {
        Some(Value::String(text)) => Ok(text.clone()),
        // Parts, as some servers send them.
        Some(Value::Array(parts)) => {
            Ok(parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect())
        }
        Some(Value::Null) => Ok(String::new()),
        _ => Err((Failure::Unreadable, "the reply has no content".into())),
    }
}
