#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn class() -> GuardClassSpec {
    let provider = |name: &str| json!({"name": name, "kind": "openai", "model": "m", "baseURL": "http://vllm/v1"});
    serde_json::from_value(
        json!({"prometheus": {"url": "http://p"}, "providers": [provider("together"), provider("local")]}),
    )
    .unwrap()
}

fn parsed(section: Value) -> Result<DecisionPolicy, InvalidSpec> {
    parse(&serde_json::from_value(section).unwrap(), &class())
}

#[test]
fn an_empty_chain_is_every_provider_in_the_order_of_the_class() {
    let policy = parsed(json!({})).unwrap();
    assert_eq!(policy.chain, ["together", "local"]);
    let defaults = DecisionPolicy { chain: policy.chain.clone(), ..DecisionPolicy::default() };
    assert_eq!(policy, defaults);
}

#[test]
fn the_guard_orders_and_the_algorithm_ends() {
    for (chain, expected) in [
        (json!(["local", "together"]), vec!["local", "together"]),
        (json!(["local", "algorithm"]), vec!["local"]),
        (json!(["algorithm"]), vec![]),
    ] {
        assert_eq!(parsed(json!({"chain": chain})).unwrap().chain, expected);
    }
}

#[test]
fn what_cannot_be_asked_is_named_with_its_cure() {
    for (section, field, cure) in [
        (json!({"chain": ["togehter"]}), "spec.decision.chain[0]", "did you mean together?"),
        (json!({"chain": ["local", "Algorithm"]}), "spec.decision.chain[1]", "did you mean algorithm?"),
        (json!({"chain": ["gpt"]}), "spec.decision.chain[0]", "write one of together, local, algorithm"),
        (json!({"chain": ["algorithm", "local"]}), "spec.decision.chain[0]", "put it last"),
        (json!({"chain": ["local", "local"]}), "spec.decision.chain[1]", "once"),
        (json!({"deadline": "2m"}), "spec.decision.deadline", "between 100ms and 60s"),
        (json!({"maxCallsPerRollout": 101}), "spec.decision.maxCallsPerRollout", "between 0 and 100"),
    ] {
        let error = parsed(section.clone()).unwrap_err().to_string();
        assert!(error.starts_with(field) && error.contains(cure), "{section}: {error}");
    }
}

#[test]
fn the_distance_of_words_is_symmetric_and_counts_changes() {
    for (one, other, changes) in
        [("", "", 0), ("local", "local", 0), ("lcal", "local", 1), ("", "abc", 3), ("ab", "ba", 2)]
    {
        assert_eq!((distance(one, other), distance(other, one)), (changes, changes), "{one} {other}");
    }
}
