#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn class(extra: &Value) -> GuardClassSpec {
    let mut spec = json!({"prometheus": {"url": "http://p"}});
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn with(extra: &Value) -> Result<LlmPolicy, InvalidSpec> {
    let mut provider = json!({"name": "a", "kind": "openai", "model": "m"});
    for (field, value) in extra.as_object().unwrap() {
        provider[field] = value.clone();
    }
    parse(&class(&json!({"providers": [provider]})))
}

#[test]
fn three_lines_make_a_provider() {
    let policy = with(&json!({})).unwrap();
    let provider = &policy.providers[0];
    assert_eq!(provider.base_url, "https://api.openai.com/v1");
    assert_eq!((provider.timeout, provider.retries), (Duration::from_secs(8), 1));
    assert_eq!(policy.data, Data::Redacted);
    assert_eq!((policy.budgets.calls_per_hour, policy.budgets.calls_per_day), (Some(100), Some(1000)));
    for (kind, url) in [("anthropic", "https://api.anthropic.com/v1"), ("gemini", "googleapis.com/v1beta")] {
        assert!(with(&json!({"kind": kind})).unwrap().providers[0].base_url.contains(url));
    }
    assert_eq!(parse(&class(&json!({}))).unwrap().providers, []);
}

#[test]
fn money_is_counted_exactly_in_millionths() {
    for (text, expected) in
        [("0", 0), ("2.5", 2_500_000), ("0.000001", 1), ("0.88", 880_000), ("999999.999999", 999_999_999_999)]
    {
        assert_eq!(micros(text), Some(expected), "{text}");
    }
    for text in ["", ".", "1.", ".5", "-1", "1e3", "1.0000001", "1234567", "1,5", "+1"] {
        assert_eq!(micros(text), None, "{text}");
    }
}

#[test]
fn what_cannot_be_used_is_named_with_its_cure() {
    for (extra, field, cure) in [
        (json!({"baseURL": "http://169.254.169.254/v1"}), "baseURL", "never asked"),
        (json!({"baseURL": "http://api.example.com/v1"}), "baseURL", "allowPlainHTTP"),
        (json!({"baseURL": "https://k:s@host"}), "baseURL", "apiKeySecretRef"),
        (json!({"baseURL": "http://vllm/v1", "tls": {"caSecretRef": {"name": "a", "key": "b"}}}), "tls", "https://"),
        (json!({"proxy": "http://169.254.1.1:3128"}), "proxy", "never asked"),
        (json!({"timeout": "2m"}), "timeout", "between 100ms and 60s"),
        (json!({"timeout": "soon"}), "timeout", "no duration"),
        (json!({"retries": 2}), "retries", "0 or 1"),
        (json!({"model": " "}), "model", "no name"),
        (json!({"name": "algorithm"}), "name", "another"),
        (json!({"headers": [{"name": "Host", "value": "x"}]}), "headers[0]", "leave it out"),
        (json!({"headers": [{"name": "a"}]}), "headers[0]", "exactly one"),
        (json!({"price": {"inputPerMillion": "cheap", "outputPerMillion": "1"}}), "price.inputPerMillion", "0.88"),
    ] {
        let error = with(&extra).expect_err(&extra.to_string()).to_string();
        assert!(error.starts_with(&format!("spec.providers[0].{field} ")) && error.contains(cure), "{extra}: {error}");
    }
    let provider = json!({"name": "a", "kind": "gemini", "model": "m"});
    for (extra, field) in [
        (json!({"providers": [provider, provider]}), "spec.providers[1].name"),
        (json!({"providers": [provider], "budgets": {"spendPerDay": "1"}}), "spec.providers[0].price"),
        (json!({"budgets": {"callsPerHour": -1}}), "spec.budgets.callsPerHour"),
        (json!({"budgets": {"spendPerDay": "much"}}), "spec.budgets.spendPerDay"),
        (json!({"redactionPatterns": ["ok+", "("]}), "spec.redactionPatterns[1]"),
    ] {
        let error = parse(&class(&extra)).expect_err(&extra.to_string()).to_string();
        assert!(error.starts_with(field), "{extra}: {error}");
    }
}
