//! The rules of the CRDs, checked offline; `tests/e2e` checks the same table against the real API server.

use serde_json::{Value, json};

use super::{DeploymentGuard, GuardClass};

fn guard(spec: &Value) -> DeploymentGuard {
    serde_json::from_value(json!({
        "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard",
        "metadata": {"name": "api", "namespace": "shop"}, "spec": spec,
    }))
    .unwrap()
}

fn class(prometheus: &Value) -> GuardClass {
    serde_json::from_value(json!({
        "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass",
        "metadata": {"name": "default"}, "spec": {"prometheus": prometheus},
    }))
    .unwrap()
}

fn with(field: &str, value: Value) -> Value {
    let mut spec = json!({"targetRef": {"kind": "Deployment", "name": "api"}});
    spec[field] = value;
    spec
}

#[test]
fn a_guard_of_three_lines_is_valid_and_gets_its_defaults() {
    let guard = guard(&json!({"targetRef": {"name": "api"}}));
    guard.validate_cel().unwrap();
    assert_eq!(guard.spec.target_ref.kind, "Deployment");
    assert_eq!(guard.spec.analysis.window, "30m");
    assert_eq!(guard.spec.rollback.max_per_day, 2);
}

#[test]
fn each_rule_refuses_with_a_sentence_that_names_the_field() {
    let ratio = json!({"bad": "a", "total": "b"});
    for (spec, sentence) in [
        (with("targetRef", json!({"kind": "StatefulSet", "name": "db"})), "targetRef must name an apps/v1 Deployment"),
        (with("analysis", json!({"interval": "500ms"})), "analysis.interval must be Auto or at least 1s"),
        (with("analysis", json!({"interval": "2h", "window": "6h"})), "analysis.interval can be 1h at most"),
        (with("analysis", json!({"interval": "40s", "warmup": "1s", "window": "1m"})), "analysis.window must be at least twice"),
        (with("analysis", json!({"window": "30s"})), "analysis.window must be longer than analysis.warmup"),
        (with("analysis", json!({"window": "25h"})), "analysis.window can be 24h at most"),
        (with("rollback", json!({"verifyTimeout": "5s"})), "rollback.verifyTimeout must be at least 30s"),
        (with("rollback", json!({"cooldown": "48h"})), "rollback.cooldown can be 24h at most"),
        (with("signals", json!([{"name": "x"}])), "exactly one of preset, ratio, histogram and gauge"),
        (with("signals", json!([{"name": "x", "preset": "http-generic", "ratio": ratio}])), "exactly one of"),
    ] {
        let errors = guard(&spec).validate_cel().expect_err(&format!("{spec} was accepted")).to_string();
        assert!(errors.contains(sentence), "{spec}: {errors}");
    }
}

#[test]
fn a_target_cannot_be_changed() {
    let old = guard(&json!({"targetRef": {"name": "api"}}));
    let new = guard(&json!({"targetRef": {"name": "other"}}));
    let errors = new.validate_cel_update(&old).unwrap_err().to_string();
    assert!(errors.contains("targetRef is immutable"), "{errors}");
    old.validate_cel_update(&old).unwrap();
}

#[test]
fn classes_are_refused_with_a_sentence_too() {
    class(&json!({"url": "http://prometheus.monitoring:9090"})).validate_cel().unwrap();
    let tls = json!({"caSecretRef": {"name": "ca", "key": "ca.crt"}});
    for (prometheus, sentence) in [
        (json!({"url": "prometheus:9090"}), "must start with http:// or https://"),
        (json!({"url": "http://user:pass@prometheus"}), "must not contain credentials"),
        (json!({"url": "http://prometheus", "tls": tls}), "starts with https://"),
        (json!({"url": "http://prometheus", "timeout": "10m"}), "between 100ms and 2m"),
    ] {
        let errors = class(&prometheus).validate_cel().expect_err(&prometheus.to_string()).to_string();
        assert!(errors.contains(sentence), "{prometheus}: {errors}");
    }
}

#[test]
fn every_field_says_what_it_is_for() {
    fn undocumented(path: &str, schema: &Value, found: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let place = format!("{path}.{name}");
            if property["description"].as_str().is_none_or(str::is_empty) {
                found.push(place.clone());
            }
            undocumented(&place, property, found);
            undocumented(&place, &property["items"], found);
        }
    }
    let mut found = Vec::new();
    for definition in super::crd::all() {
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
        let spec = &schema["openAPIV3Schema"]["properties"];
        undocumented("spec", &spec["spec"], &mut found);
        undocumented("status", &spec["status"], &mut found);
    }
    assert!(found.is_empty(), "without a description: {found:?}");
}

#[test]
fn no_field_has_a_format_that_the_api_server_warns_about() {
    let yaml = super::crd::yaml().unwrap();
    for format in ["uint", "float", "double"] {
        assert!(!yaml.contains(&format!("format: {format}")), "{format}");
    }
}
