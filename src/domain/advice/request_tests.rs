use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::advice::fixture::{BOUNDARY, all_over, case, everywhere, request};
use crate::domain::advice::prompt::{DataPolicy, write};
use crate::domain::redact::SecretKind;
use crate::domain::redact::tests::PLANTED;

static REDACTORS: LazyLock<Vec<(DataPolicy, Redactor)>> = LazyLock::new(|| {
    DataPolicy::ALL.iter().map(|policy| (*policy, policy.redactor(&[], b"a key of this cluster").unwrap())).collect()
});

fn redactor() -> &'static Redactor {
    &REDACTORS[1].1
}

/// Whether a policy lets the kind out.
fn told(policy: DataPolicy, kind: SecretKind) -> bool {
    policy == DataPolicy::Full && matches!(kind, SecretKind::Email | SecretKind::Ip)
}

/// The texts of a request, as the provider decodes them.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn on_the_wire(sent: &Sendable, hidden: &str) -> bool {
    let mut found = Vec::new();
    texts(&serde_json::from_str(sent.as_str()).unwrap(), &mut found);
    sent.as_str().contains(hidden) || found.iter().any(|text| text.contains(hidden))
}

#[test]
fn a_secret_of_any_class_in_any_field_never_reaches_the_wire() {
    // Each secret under one of the policies; the next test has all of both.
    for ((kind, secret, hidden), (policy, redactor)) in PLANTED.iter().zip(REDACTORS.iter().cycle()) {
        let case = all_over(&format!("at first {secret} and then"));
        let prompt = write(&case, *policy, BOUNDARY, redactor).unwrap();
        let sent = redact_request(&request(&prompt), redactor).unwrap_or_else(|_| panic!("{secret} is not sendable"));
        let gone = told(*policy, *kind) || !on_the_wire(&sent, hidden);
        assert!(gone, "{secret} under {policy:?}: {}", sent.as_str());
    }
}

#[test]
fn it_is_the_way_out_that_holds_not_what_comes_before_it() {
    let mut refused = Vec::new();
    for (kind, secret, hidden) in PLANTED {
        for (_, redactor) in REDACTORS.iter().filter(|(policy, _)| !told(*policy, *kind)) {
            let body = json!({"messages": [{"role": "user", "content": format!("one\n{secret}\nthree")}], "n": 1});
            let Ok(sent) = redact_request(&body.to_string(), redactor) else {
                refused.push(*secret);
                continue;
            };
            assert!(!on_the_wire(&sent, hidden), "{secret}: {}", sent.as_str());
            assert!(sent.taken().values().sum::<u64>() > 0, "{secret}");
        }
    }
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn full_tells_addresses_and_no_credentials() {
    let (_, redactor) = REDACTORS.last().unwrap();
    let body = json!({"content": "jane.doe@example.com from 192.0.2.17 with password=hunter2xyz"});
    let sent = redact_request(&body.to_string(), redactor).unwrap();
    assert!(
        sent.as_str().contains("jane.doe@example.com from 192.0.2.17 with password=[redacted:credential:"),
        "{sent:?}"
    );
}

#[test]
fn an_ordinary_request_is_sent_as_it_is() {
    let prompt = write(&case(), DataPolicy::Redacted, BOUNDARY, redactor()).unwrap();
    let sent = redact_request(&request(&prompt), redactor()).unwrap();
    let (sent, asked): (Value, Value) =
        (serde_json::from_str(sent.as_str()).unwrap(), serde_json::from_str(&request(&prompt)).unwrap());
    assert_eq!(sent, asked);
}

#[test]
fn equal_values_stay_recognisable() {
    let body = json!({"content": "from 192.0.2.17 to 192.0.2.18, again 192.0.2.17"}).to_string();
    let once = redact_request(&body, redactor()).unwrap();
    assert_eq!(once, redact_request(&body, redactor()).unwrap());
    let text = once.as_str();
    let marks: Vec<&str> = text.split(['[', ']']).filter(|part| part.starts_with("redacted:ip:")).collect();
    assert!(marks.len() == 3 && marks[0] == marks[2] && marks[0] != marks[1], "{text}");
}

#[test]
fn patterns_of_users_hold_too() {
    let patterns = [r"\bEMP-[0-9]{6}\b".to_owned()];
    for policy in DataPolicy::ALL {
        let redactor = policy.redactor(&patterns, b"key").unwrap();
        let sent = redact_request(&json!({"content": "EMP-123456 called"}).to_string(), &redactor).unwrap();
        assert!(sent.as_str().contains("[redacted:custom:") && !sent.as_str().contains("123456"), "{}", sent.as_str());
    }
}

#[test]
fn what_cannot_be_shown_to_be_clean_is_not_sent() {
    for body in [
        "no json".to_owned(),
        "{\"content\":\"cut o".to_owned(),
        // Names and numbers are ours; what is found in them is a mistake that no mark can heal.
        json!({"ghp_16C7e42F292c6912E7710c838347Ae178B4a": 1}).to_string(),
        json!({"card": 4_111_111_111_111_111_u64}).to_string(),
        format!("{{\"content\":\"{}\"}}", "x".repeat(MOST_BYTES)),
    ] {
        let refused = redact_request(&body, redactor()).map(|sent| sent.as_str().to_owned());
        assert_eq!(refused, Err(Failure::NotSendable), "{}", &body[..body.len().min(80)]);
    }
}

#[test]
fn a_name_that_says_secret_hides_its_value() {
    let body =
        json!({"metadata": {"password": "correct horse", "api_key": "hunter2xyz", "tokens": "12"}, "max_tokens": 2048});
    let sent = redact_request(&body.to_string(), redactor()).unwrap();
    assert!(!sent.as_str().contains("horse") && !sent.as_str().contains("hunter2xyz"), "{}", sent.as_str());
    assert!(sent.as_str().contains("2048"), "{}", sent.as_str());
}

#[test]
fn what_is_sent_is_not_shown_by_accident() {
    let sent = redact_request(&json!({"content": "words of a customer"}).to_string(), redactor()).unwrap();
    assert!(!format!("{sent:?}").contains("customer"), "{sent:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Two secrets in any surroundings: gone, or nothing is sent.
    #[test]
    fn planted_secrets_never_survive_in_any_surroundings(
        before in "(?s)[\\PC\n\"'\\\\]{0,24}", after in "(?s)[\\PC\n\"'\\\\]{0,24}", which in 0..PLANTED.len(),
        other in 0..PLANTED.len(), place in 0_usize..17,
    ) {
        let ((kind, secret, hidden), (_, second, _)) = (PLANTED[which], PLANTED[other]);
        prop_assume!(!before.contains(hidden) && !after.contains(hidden));
        let text = format!("{before}\n {secret} \n{after} {second}");
        let case = everywhere(&text).swap_remove(place);
        for (policy, redactor) in REDACTORS.iter().filter(|(policy, _)| !told(*policy, kind)) {
            let prompt = write(&case, *policy, BOUNDARY, redactor).unwrap();
            if let Ok(sent) = redact_request(&request(&prompt), redactor) {
                prop_assert!(!on_the_wire(&sent, hidden), "{}", sent.as_str());
            }
        }
    }

    /// It stays JSON of the same shape, and a second time changes nothing.
    #[test]
    fn json_stays_json(text in "(?s).{0,200}", name in "[a-z_]{1,12}") {
        let body = json!({"a": [text, 1, null, {name.clone(): text, "b": true}]});
        if let Ok(sent) = redact_request(&body.to_string(), redactor()) {
            let value: Value = serde_json::from_str(sent.as_str()).unwrap();
            prop_assert!(value.pointer("/a/3").is_some_and(|inner| inner.get(&name).is_some() && inner["b"] == json!(true)));
            let again = redact_request(sent.as_str(), redactor()).unwrap();
            prop_assert_eq!(again.as_str(), sent.as_str());
        }
    }
}
