use proptest::prelude::*;

use super::*;

fn sample(time: &str, evidence: Value) -> Sample {
    Sample {
        schema_version: SCHEMA_VERSION,
        time: time.to_owned(),
        state: SampleState {
            error_rate: Some(5.2),
            memory_usage: None,
            response_time: Some(120.0),
            deployment_id: "shop/api@abc".to_owned(),
            evidence,
        },
        action: "ROLLBACK".to_owned(),
        confidence: 90,
        reward: None,
        decider: "seed-formula".to_owned(),
        policy_version: "1".to_owned(),
        propensity: 1.0,
        evidence_hash: "00".to_owned(),
    }
}

#[test]
fn a_sample_has_the_words_of_the_original_system() {
    let text = encode(&sample("2026-01-01T00:00:00Z", json!({})));
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value.pointer("/state/error_rate"), Some(&json!(5.2)));
    assert_eq!(value.pointer("/reward"), Some(&Value::Null));
    assert_eq!(value.pointer("/schemaVersion"), Some(&json!(1)));
    assert_eq!(value.pointer("/evidenceHash"), Some(&json!("00")));
}

#[test]
fn equal_values_have_one_canonical_text() {
    let value = json!({"b": [1, {"d": null, "c": "x"}], "a": 2});
    assert_eq!(canonical(&value), r#"{"a":2,"b":[1,{"c":"x","d":null}]}"#);
}

#[test]
fn the_oldest_leaves_first_whatever_its_key() {
    let mut ring = BTreeMap::new();
    for (key, time) in [("z", "2026-01-01T00:00:00Z"), ("a", "2026-01-02T00:00:00Z"), ("m", "not a time")] {
        ring.insert(key.to_owned(), encode(&sample(time, json!(1))));
    }
    let change = push(&ring, "new", &sample("2026-01-03T00:00:00Z", json!(1)), 2).expect("a change");
    assert_eq!(change.dropped, ["m", "z"]);
}

#[test]
fn a_decision_is_kept_once() {
    let ring = BTreeMap::from([("id".to_owned(), String::new())]);
    assert_eq!(push(&ring, "id", &sample("", json!(1)), 20), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_sample_is_always_small_and_json(
        text in prop_oneof![any::<String>(), "[\"\\\\\u{0}\u{1}a]{0,9000}", "é{0,9000}"],
        word in any::<String>(),
        many in 1_usize..400,
    ) {
        let words = vec![word.clone(); many];
        let mut big = sample("2026-01-01T00:00:00Z", json!({"text": text, "words": words}));
        big.state.deployment_id = word.repeat(many);
        let encoded = encode(&big);
        prop_assert!(encoded.len() <= MAX_SAMPLE_BYTES);
        prop_assert!(serde_json::from_str::<Sample>(&encoded).is_ok());
    }

    #[test]
    fn a_ring_stays_within_its_bounds(
        sizes in prop::collection::vec(0_usize..9000, 1..60), retain in 1_usize..80,
    ) {
        let mut ring = BTreeMap::new();
        for (number, size) in sizes.iter().enumerate() {
            let second = i64::try_from(number).expect("small");
            let time = Timestamp::from_second(second).expect("a time").to_string();
            let change = push(&ring, &format!("d/{number}"), &sample(&time, json!("x".repeat(*size))), retain);
            let change = change.expect("a new decision");
            for key in change.dropped {
                prop_assert!(ring.remove(&key).is_some());
            }
            ring.insert(change.key, change.value);
            prop_assert!(ring.len() <= retain);
            prop_assert!(ring.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() <= MAX_RING_BYTES);
            let newest = key_of(&format!("d/{number}"));
            prop_assert!(ring.contains_key(&newest));
        }
    }

    #[test]
    fn a_key_is_one_a_config_map_takes(id in any::<String>()) {
        let key = key_of(&id);
        prop_assert!((1..=253).contains(&key.len()));
        prop_assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }
}
