//! Messages, the format of Anthropic.
//!
//! Role: a prompt as a request, a response as a text. A tool that must be called holds the model to the schema; its
//! input is the reply. Inputs: model, prompt, rung. Outputs: JSON; what a response says. Must never import: other rooms
//! than `domain`.

use serde_json::{Value, json};

use super::dialect::Manner;
use super::{Prompt, Said, tokens, with_schema};
use crate::domain::advice::{Failure, Rung, Usage};

const TOKENS: u32 = 2048;
const TOOL: &str = "reply";

pub(super) fn request(model: &str, prompt: &Prompt, rung: Rung, manner: Manner) -> Value {
    let system = if rung == Rung::JsonSchema { prompt.system.clone() } else { with_schema(prompt) };
    let mut body = json!({
        "model": model,
        "max_tokens": TOKENS,
        "system": system,
        "messages": [{"role": "user", "content": prompt.user}],
        "stream": false,
    });
    if let Some(fields) = body.as_object_mut() {
        if !manner.any_temperature {
            fields.insert("temperature".to_owned(), 0.into());
        }
        if rung == Rung::JsonSchema {
            let tool = json!({"name": TOOL, "description": "Gives the reply.", "input_schema": prompt.schema});
            fields.insert("tools".to_owned(), json!([tool]));
            fields.insert("tool_choice".to_owned(), json!({"type": "tool", "name": TOOL}));
        }
    }
    body
}

pub(super) fn read(json: &Value) -> Said {
    // What was read from the provider's cache was sent all the same.
    let input = ["/usage/input_tokens", "/usage/cache_read_input_tokens", "/usage/cache_creation_input_tokens"];
    let input = input.iter().map(|place| tokens(json, place)).fold(0, u64::saturating_add);
    Said { text: text(json), usage: Usage { input, output: tokens(json, "/usage/output_tokens") } }
}

fn text(json: &Value) -> Result<String, (Failure, String)> {
    let Some(blocks) = json.get("content").and_then(Value::as_array) else {
        return Err((Failure::Unreadable, "it answered without content; is this a server of messages?".into()));
    };
    match json.get("stop_reason").and_then(Value::as_str).unwrap_or_default() {
        "max_tokens" | "model_context_window_exceeded" => {
            return Err((Failure::Truncated, "the reply was cut off at the token limit".into()));
        }
        "refusal" => return Err((Failure::Declined, "the model declined".into())),
        _ => {}
    }
    let mut text = String::new();
    for block in blocks {
        match block.get("type").and_then(Value::as_str) {
            Some("tool_use") if block.get("name").and_then(Value::as_str) == Some(TOOL) => {
                return Ok(block.get("input").unwrap_or(&Value::Null).to_string());
            }
            Some("tool_use") => return Err((Failure::Unreadable, "the model called a tool it was not given".into())),
            Some("text") => text.push_str(block.get("text").and_then(Value::as_str).unwrap_or_default()),
            // Thoughts, and whatever comes next.
            _ => {}
        }
    }
    Ok(text)
}
