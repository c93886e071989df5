use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn call(ask: &str, second: i64) -> Call {
    Call {
        ask: ask.to_owned(),
        number: 1,
        decision: None,
        revision: "7f9c".to_owned(),
        at: Timestamp::from_second(second).unwrap(),
        provider: "together".to_owned(),
        model: "llama".to_owned(),
        prompt_version: 1,
        outcome: "answered",
        milliseconds: 412,
        usage: Usage { input: 900, output: 120 },
        sent: r#"{"model":"llama"}"#.to_owned(),
        replied: "{}".to_owned(),
    }
}

fn kept(call: &Call) -> KeptCall {
    serde_json::from_str(&encode(call, &Redactor::new())).unwrap()
}

fn after(ring: &BTreeMap<String, String>, change: Change) -> BTreeMap<String, String> {
    let mut ring = ring.clone();
    ring.retain(|key, _| !change.dropped.contains(key));
    ring.extend(change.added);
    ring
}

fn bytes(ring: &BTreeMap<String, String>) -> usize {
    ring.iter().map(|(key, value)| key.len() + value.len()).sum()
}

#[test]
fn a_prompt_is_kept_to_the_byte_as_it_left() {
    let prompt = include_str!("../domain/advice/prompt/golden/redacted.txt");
    let sent = json!({"model": "llama", "messages": [{"role": "system", "content": prompt}], "max_tokens": 2048});
    let one = Call { sent: sent.to_string(), ..call("a", 5) };
    let kept = kept(&one);
    assert!(kept.exact);
    assert_eq!(kept.sent, one.sent);
    assert_eq!((kept.at.as_str(), kept.outcome.as_str()), ("1970-01-01T00:00:05Z", "answered"));
}

#[test]
fn what_the_policy_full_let_out_is_not_stored_and_that_is_said() {
    let one = Call { sent: r#"{"content":"from 192.0.2.17 by jo@example.org"}"#.to_owned(), ..call("a", 5) };
    let kept = kept(&one);
    assert!(!kept.exact && !kept.sent.contains("192.0.2.17") && !kept.sent.contains("jo@"), "{}", kept.sent);
}

#[test]
fn a_reply_is_kept_without_secrets_and_cut() {
    let secret = "AKIAZ7Q4XK2M9PD1VB3T";
    let replied = format!("password=hunter2 {secret} {}", "é".repeat(MAX_REPLIED));
    let kept = kept(&Call { replied, ..call("a", 5) });
    assert!(
        !kept.replied.contains("hunter2") && !kept.replied.contains(secret),
        "{}",
        kept.replied.chars().take(80).collect::<String>()
    );
    assert!(kept.replied.len() <= MAX_REPLIED);
}

#[test]
fn keys_are_what_a_config_map_takes_and_differ_for_each_call_of_a_question() {
    let first = call("7f9c/ä 1", 5);
    let second = Call { number: 2, ..first.clone() };
    assert_eq!((key(&first).as_str(), key(&second).as_str()), ("7f9c---1", "7f9c---1.2"));
    let long = Call { number: u32::MAX, ..call(&"x".repeat(400), 5) };
    assert!(key(&long).len() <= 253);
}

#[test]
fn the_same_calls_again_change_nothing() {
    let entries = BTreeMap::from([("a".to_owned(), encode(&call("a", 5), &Redactor::new()))]);
    let ring = after(&BTreeMap::new(), push(&BTreeMap::new(), &entries).unwrap());
    assert_eq!(push(&ring, &entries), None);
    assert_eq!(push(&ring, &BTreeMap::new()), None);
}

#[test]
fn the_largest_call_there_can_be_fits_and_what_cannot_be_read_goes_first() {
    let one = Call { sent: "\u{1}".repeat(MAX_SENT + 1), replied: "\u{1}".repeat(MAX_REPLIED + 1), ..call("new", 5) };
    let entries = BTreeMap::from([("new".to_owned(), encode(&one, &Redactor::new()))]);
    let ring: BTreeMap<String, String> = (0..MAX_CALLS).map(|n| (format!("n{n}"), "no JSON".to_owned())).collect();
    let ring = after(&ring, push(&ring, &entries).unwrap());
    assert!(ring.contains_key("new") && ring.len() <= MAX_CALLS && bytes(&ring) <= MAX_BYTES, "{}", bytes(&ring));
}

proptest! {
    #[test]
    fn a_ring_stays_within_its_bounds_and_keeps_the_newest(
        calls in prop::collection::vec((0_i64..1000, 0_usize..MAX_SENT, 0_usize..MAX_REPLIED), 1..40),
    ) {
        let mut ring = BTreeMap::new();
        let mut newest = (i64::MIN, String::new());
        for (place, (second, sent, replied)) in calls.into_iter().enumerate() {
            let key = format!("ask-{place:03}");
            let at = Timestamp::from_second(second).unwrap().to_string();
            let one = KeptCall { at, sent: "\"".repeat(sent), replied: "x".repeat(replied), ..KeptCall::default() };
            let one = serde_json::to_string(&one).unwrap();
            let change = push(&ring, &BTreeMap::from([(key.clone(), one)]));
            ring = change.map_or_else(|| ring.clone(), |change| after(&ring, change));
            newest = newest.max((second, key));
            prop_assert!(ring.len() <= MAX_CALLS && bytes(&ring) <= MAX_BYTES);
            prop_assert!(ring.contains_key(&newest.1), "{:?} of {:?}", newest, ring.keys());
        }
    }
}

#[test]
fn a_kept_call_of_another_version_can_be_read() {
    let read: KeptCall = serde_json::from_value(json!({"provider": "x", "later": [1]})).unwrap();
    assert_eq!((read.provider.as_str(), read.exact), ("x", false));
    assert_eq!(serde_json::to_value(&read).unwrap()["usage"], json!({"input": 0, "output": 0}));
    assert_eq!(config_map_name("api"), "api-advice");
    let _: Value = serde_json::from_str(&encode(&call("a", 1), &Redactor::new())).unwrap();
}
