//! Requests and responses as the providers publish them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deployment_guard::advise::{Failed, Provider, Secrets};
use deployment_guard::domain::advice::provider::Wire;
use deployment_guard::domain::advice::{Answer, Failure, Rung, Usage};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::rig::{KEY, Open, SECOND, policy, ports, prompt, provider, secrets};
use crate::server::{Reply, Seen, Server, fixture};

fn wire(folder: &str) -> Wire {
    [Wire::OpenAi, Wire::Anthropic, Wire::Gemini].into_iter().find(|wire| wire.word() == folder).unwrap()
}

async fn asked(path: &str, status: u16, headers: &[(&str, &str)]) -> Result<Answer, Failed> {
    let folder = path.split('/').next().unwrap();
    let mut reply = Reply::new(status, fixture(path));
    for (name, value) in headers {
        reply = reply.with(name, value);
    }
    let server = Server::always(reply).await;
    let (provider, calls) = provider(wire(folder), &server.url);
    let answer = provider.ask(&prompt(), Rung::JsonSchema, SECOND * 5).await;
    let outcome = answer.as_ref().map_or_else(|failed| failed.failure.word(), |_| "success");
    assert_eq!(calls.outcomes().last(), Some(&outcome), "{path}");
    answer
}

#[tokio::test]
async fn every_published_success_is_one_text_with_its_cost() {
    let usage = Usage { input: 1200, output: 95 };
    for (path, usage) in [
        ("openai/success", usage),
        ("openai/success_together_eos", usage),
        ("openai/success_without_usage", Usage::default()),
        ("openai/success_in_parts", usage),
        ("openai/success_vllm_reasoning", usage),
        ("anthropic/success_tool", usage),
        ("anthropic/success_text", usage),
        ("gemini/success", usage),
    ] {
        let answer = asked(path, 200, &[]).await.unwrap_or_else(|failed| panic!("{path}: {failed}"));
        let reply: Value = serde_json::from_str(&answer.text).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!((&reply["decision"], &reply["confidence"]), (&json!("ROLLBACK"), &json!(85)), "{path}");
        assert_eq!((answer.usage, answer.rung), (usage, Rung::JsonSchema), "{path}");
    }
}

#[tokio::test]
async fn every_published_failure_has_its_word() {
    let after = |seconds| Failure::RateLimited(Some(Duration::from_secs(seconds)));
    for (path, status, headers, expected) in [
        ("openai/refusal", 200, &[][..], Failure::Declined),
        ("openai/content_filter", 200, &[], Failure::Declined),
        ("openai/tool_call", 200, &[], Failure::Unreadable),
        ("openai/truncated", 200, &[], Failure::Truncated),
        ("openai/empty_content", 200, &[], Failure::Empty),
        ("openai/null_content", 200, &[], Failure::Empty),
        ("openai/no_choices", 200, &[], Failure::Unreadable),
        ("openai/error_in_200", 200, &[], Failure::Server(502)),
        ("openai/error_in_choice", 200, &[], Failure::Server(503)),
        ("openai/error_401", 401, &[], Failure::Unauthorized),
        ("openai/error_402_credit", 402, &[], Failure::Refused(402)),
        ("openai/error_404_model", 404, &[], Failure::UnknownModel),
        ("openai/error_404_vllm", 404, &[], Failure::UnknownModel),
        ("openai/error_404_ollama", 404, &[], Failure::UnknownModel),
        ("openai/error_404_azure", 404, &[], Failure::UnknownModel),
        ("openai/error_400_together_model", 400, &[], Failure::UnknownModel),
        ("openai/error_400_response_format", 400, &[], Failure::Refused(400)),
        ("openai/error_400_azure_filter", 400, &[], Failure::Refused(400)),
        ("openai/error_detail", 422, &[], Failure::Refused(422)),
        ("openai/error_429", 429, &[("retry-after", "7")], after(7)),
        ("openai/error_429_quota", 429, &[], Failure::RateLimited(None)),
        ("openai/error_500", 500, &[], Failure::Server(500)),
        ("anthropic/refusal", 200, &[], Failure::Declined),
        ("anthropic/tool_call", 200, &[], Failure::Unreadable),
        ("anthropic/truncated", 200, &[], Failure::Truncated),
        ("anthropic/empty", 200, &[], Failure::Empty),
        ("anthropic/error_401", 401, &[], Failure::Unauthorized),
        ("anthropic/error_403", 403, &[], Failure::Unauthorized),
        ("anthropic/error_404_model", 404, &[], Failure::UnknownModel),
        ("anthropic/error_400_credit", 400, &[], Failure::Refused(400)),
        ("anthropic/error_429", 429, &[("retry-after", "12")], after(12)),
        ("anthropic/error_500", 500, &[], Failure::Server(500)),
        ("anthropic/error_529", 529, &[], Failure::Server(529)),
        ("gemini/safety", 200, &[], Failure::Declined),
        ("gemini/blocked_prompt", 200, &[], Failure::Declined),
        ("gemini/tool_call", 200, &[], Failure::Unreadable),
        ("gemini/truncated", 200, &[], Failure::Truncated),
        ("gemini/empty", 200, &[], Failure::Empty),
        ("gemini/error_400_key", 400, &[], Failure::Unauthorized),
        ("gemini/error_403", 403, &[], Failure::Unauthorized),
        ("gemini/error_404_model", 404, &[], Failure::UnknownModel),
        ("gemini/error_400_schema", 400, &[], Failure::Refused(400)),
        ("gemini/error_429", 429, &[], after(34)),
        ("gemini/error_500", 500, &[], Failure::Server(500)),
        ("gemini/error_503", 503, &[], Failure::Server(503)),
    ] {
        let failed = asked(path, status, headers).await.expect_err(path);
        assert_eq!(failed.failure, expected, "{path}: {}", failed.said);
        assert!(!failed.said.is_empty() && failed.said.chars().count() <= 256, "{path}: {}", failed.said);
        assert!(!failed.said.contains(KEY), "{path}: {}", failed.said);
    }
}

#[tokio::test]
async fn a_reply_that_is_no_use_is_paid_for_all_the_same() {
    for path in [
        "openai/truncated",
        "openai/empty_content",
        "openai/refusal",
        "anthropic/truncated",
        "anthropic/empty",
        "gemini/truncated",
        "gemini/safety",
    ] {
        let failed = asked(path, 200, &[]).await.expect_err(path);
        assert_eq!(failed.usage, Usage { input: 1200, output: 95 }, "{path}");
    }
}

/// What a provider of each format sends, by each rung.
async fn sent(wire: Wire, rung: Rung, base: impl Fn(&str) -> String) -> Seen {
    let path = match wire {
        Wire::OpenAi => "openai/success",
        Wire::Anthropic => "anthropic/success_text",
        Wire::Gemini => "gemini/success",
    };
    let server = Server::always(Reply::new(200, fixture(path))).await;
    let (provider, _) = provider(wire, &base(&server.url));
    provider.ask(&prompt(), rung, SECOND * 5).await.unwrap();
    server.seen().remove(0)
}

#[tokio::test]
async fn chat_completions_are_asked_as_each_rung_says() {
    let base = |url: &str| format!("{url}/v1/");
    for (rung, format) in
        [(Rung::JsonSchema, Some("json_schema")), (Rung::JsonObject, Some("json_object")), (Rung::Text, None)]
    {
        let seen = sent(Wire::OpenAi, rung, base).await;
        assert_eq!(seen.uri, "/v1/chat/completions");
        assert_eq!(seen.headers["authorization"], format!("Bearer {KEY}"));
        assert_eq!(seen.headers["content-type"], "application/json");
        let body = &seen.body;
        assert_eq!(body["response_format"]["type"].as_str(), format);
        assert_eq!((&body["model"], &body["stream"]), (&json!("a-model"), &json!(false)));
        assert_eq!((&body["temperature"], body["max_tokens"].as_u64() >= Some(2048)), (&json!(0), true));
        let system = body["messages"][0]["content"].as_str().unwrap();
        assert!(system.starts_with("You judge releases."));
        assert_eq!(system.contains("INCONCLUSIVE"), rung != Rung::JsonSchema, "the schema in the prompt");
        assert_eq!(body["messages"][1]["role"], "user");
    }
    let schema = sent(Wire::OpenAi, Rung::JsonSchema, base).await.body["response_format"]["json_schema"].clone();
    assert_eq!((&schema["schema"], &schema["strict"]), (&prompt().schema, &json!(true)));
}

#[tokio::test]
async fn azure_is_a_base_url_with_a_query_and_a_header() {
    let server = Server::always(Reply::new(200, fixture("openai/success"))).await;
    let base = format!("{}/openai/deployments/gpt?api-version=2024-10-21", server.url);
    let headers = vec![("api-key".to_owned(), SecretString::from(KEY))];
    let (ports, _) = ports(Arc::new(Open));
    let azure = Provider::new(policy(Wire::OpenAi, &base), Secrets { headers, ..Secrets::default() }, ports).unwrap();
    azure.ask(&prompt(), Rung::JsonSchema, SECOND * 5).await.unwrap();
    let seen = server.seen().remove(0);
    assert_eq!(seen.uri, "/openai/deployments/gpt/chat/completions?api-version=2024-10-21");
    assert_eq!(seen.headers["api-key"], KEY);
    assert!(!seen.headers.contains_key("authorization"));
}

#[tokio::test]
async fn messages_are_asked_by_a_tool_that_must_be_called() {
    let seen = sent(Wire::Anthropic, Rung::JsonSchema, |url| format!("{url}/v1")).await;
    assert_eq!(seen.uri, "/v1/messages");
    assert_eq!((&*seen.headers["x-api-key"], &*seen.headers["anthropic-version"]), (KEY, "2023-06-01"));
    assert!(!seen.headers.contains_key("authorization"));
    assert_eq!(seen.body["system"], "You judge releases.");
    assert_eq!(seen.body["tools"][0]["input_schema"], prompt().schema);
    assert_eq!(seen.body["tool_choice"], json!({"type": "tool", "name": seen.body["tools"][0]["name"]}));
    assert!(seen.body["max_tokens"].as_u64() >= Some(2048));
    let text = sent(Wire::Anthropic, Rung::Text, |url| format!("{url}/v1")).await.body;
    assert!(text["tools"].is_null() && text["system"].as_str().unwrap().contains("INCONCLUSIVE"));
}

#[tokio::test]
async fn generate_content_has_the_model_in_the_path_and_the_key_in_a_header() {
    for (rung, mime, schema) in [
        (Rung::JsonSchema, json!("application/json"), true),
        (Rung::JsonObject, json!("application/json"), false),
        (Rung::Text, Value::Null, false),
    ] {
        let seen = sent(Wire::Gemini, rung, |url| format!("{url}/v1beta")).await;
        assert_eq!(seen.uri, "/v1beta/models/a-model:generateContent");
        assert_eq!(seen.headers["x-goog-api-key"], KEY);
        let config = &seen.body["generationConfig"];
        assert_eq!((&config["responseMimeType"], config["responseSchema"].is_object()), (&mime, schema));
        assert!(config["responseSchema"]["additionalProperties"].is_null(), "Google refuses the word");
        assert!(seen.body["systemInstruction"]["parts"][0]["text"].as_str().unwrap().starts_with("You judge"));
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_a_parameter_is_asked_without_it_and_that_is_remembered() {
    let server = Server::start(|seen| {
        let body = &seen.body;
        if !body["max_tokens"].is_null() {
            Reply::new(400, fixture("openai/error_400_max_tokens"))
        } else if !body["temperature"].is_null() {
            Reply::new(400, fixture("openai/error_400_temperature"))
        } else {
            Reply::new(200, fixture("openai/success"))
        }
    })
    .await;
    let (newer, calls) = provider(Wire::OpenAi, &server.url);
    newer.ask(&prompt(), Rung::JsonSchema, SECOND * 5).await.unwrap();
    assert_eq!(calls.outcomes(), ["refused", "refused", "success"], "each one is counted");
    newer.ask(&prompt(), Rung::JsonSchema, SECOND * 5).await.unwrap();
    assert_eq!(server.seen().len(), 4);
    assert!(server.seen()[3].body["max_completion_tokens"].as_u64() >= Some(2048));

    let server = Server::start(|seen| match &seen.body["temperature"] {
        Value::Null => Reply::new(200, fixture("anthropic/success_tool")),
        _ => Reply::new(400, fixture("anthropic/error_400_temperature")),
    })
    .await;
    let (newer, _) = provider(Wire::Anthropic, &server.url);
    newer.ask(&prompt(), Rung::JsonSchema, SECOND * 5).await.unwrap();
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn an_endpoint_that_refuses_everything_is_not_asked_for_ever() {
    let turn = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |_| {
        let odd = turn.fetch_add(1, Ordering::SeqCst) % 2 == 1;
        Reply::new(400, fixture(if odd { "openai/error_400_temperature" } else { "openai/error_400_max_tokens" }))
    })
    .await;
    let (stubborn, _) = provider(Wire::OpenAi, &server.url);
    let failed = stubborn.ask(&prompt(), Rung::JsonSchema, SECOND * 5).await.unwrap_err();
    assert_eq!((failed.failure, server.seen().len()), (Failure::Refused(400), 3));
}

#[tokio::test]
async fn a_key_shows_in_no_debug_output() {
    let (provider, _) = provider(Wire::OpenAi, "http://127.0.0.1:1/v1");
    assert!(!format!("{provider:?} {:?}", secrets()).contains("k3y"));
}
