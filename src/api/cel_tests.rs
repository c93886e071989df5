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

fn class(spec: &Value) -> GuardClass {
    serde_json::from_value(json!({
        "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass",
        "metadata": {"name": "default"}, "spec": spec,
    }))
    .unwrap()
}

/// A class in which only what the case names is unusual.
fn class_of(case: &Value) -> Value {
    let mut spec = json!({"prometheus": {"url": "http://prometheus"}});
    for field in ["prometheus", "presets", "budgets"].into_iter().filter(|field| !case[field].is_null()) {
        spec[field] = case[field].clone();
    }
    if let Some(fields) = case["provider"].as_object() {
        let mut provider = json!({"name": "local", "kind": "openai", "model": "m"});
        for (name, value) in fields {
            provider[name] = value.clone();
        }
        spec["providers"] = json!([provider]);
    }
    spec
}

/// What must be refused, and a part of the sentence that says why.
fn cases(of: &str) -> Vec<Value> {
    let table: Value = serde_json::from_str(include_str!("../../tests/cel_cases.json")).unwrap();
    table[of].as_array().cloned().unwrap()
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
    for case in cases("guards") {
        let (spec, sentence) = (&case["spec"], case["sentence"].as_str().unwrap());
        let errors = guard(spec).validate_cel().expect_err(&format!("{spec} was accepted")).to_string();
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
    class(&json!({"prometheus": {"url": "http://prometheus.monitoring:9090"}})).validate_cel().unwrap();
    let fine = json!({"provider": {"price": {"inputPerMillion": "0", "outputPerMillion": "0"}}, "budgets": {"spendPerDay": "1"}});
    class(&class_of(&fine)).validate_cel().unwrap();
    for case in cases("classes") {
        let (spec, sentence) = (class_of(&case), case["sentence"].as_str().unwrap());
        let errors = class(&spec).validate_cel().expect_err(&spec.to_string()).to_string();
        assert!(errors.contains(sentence), "{spec}: {errors}");
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
fn every_default_is_allowed_by_its_own_schema() {
    // The API server refuses the whole definition otherwise.
    fn wrong(path: &str, schema: &Value, found: &mut Vec<String>) {
        let bound = |name: &str, otherwise: usize| {
            schema[name].as_u64().map_or(otherwise, |bound| usize::try_from(bound).unwrap())
        };
        let length = schema["default"].as_str().map(str::len);
        if length.is_some_and(|length| length < bound("minLength", 0) || length > bound("maxLength", usize::MAX)) {
            found.push(path.to_owned());
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            wrong(&format!("{path}.{name}"), property, found);
        }
        if schema["items"].is_object() {
            wrong(&format!("{path}[]"), &schema["items"], found);
        }
    }
    let mut found = Vec::new();
    for definition in super::crd::all() {
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).unwrap();
        wrong(&definition.spec.names.kind, &schema["openAPIV3Schema"], &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn no_field_has_a_format_that_the_api_server_warns_about() {
    let yaml = super::crd::yaml().unwrap();
    for format in ["uint", "float", "double"] {
        assert!(!yaml.contains(&format!("format: {format}")), "{format}");
    }
}
