use std::time::Duration;

use serde_json::{Value, json};

use super::class::GuardClassSpec;
use super::guard::DeploymentGuardSpec;
use super::parse;
use crate::domain::policy::{Interval, Mode};

fn class(max_mode: &str) -> GuardClassSpec {
    serde_json::from_value(json!({"prometheus": {"url": "http://p"}, "maxMode": max_mode})).unwrap()
}

fn spec(extra: &Value) -> DeploymentGuardSpec {
    let mut spec = json!({"targetRef": {"name": "api"}});
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

#[test]
fn defaults_make_a_policy() {
    let policy = parse::policy(&spec(&json!({})), &class("Enforce")).unwrap();
    assert_eq!(policy.mode, Mode::Observe);
    assert_eq!(policy.analysis.interval, Interval::Auto);
    assert_eq!(policy.analysis.window, Duration::from_secs(1800));
    assert_eq!(policy.signals.len(), 2);
}

#[test]
fn the_class_clamps_the_mode() {
    let policy = parse::policy(&spec(&json!({"mode": "Enforce"})), &class("Observe")).unwrap();
    assert_eq!((policy.mode, policy.asked_mode), (Mode::Observe, Mode::Enforce));
}

#[test]
fn what_cannot_be_used_is_named_with_its_cure() {
    for (extra, field) in [
        (json!({"targetRef": {"kind": "DaemonSet", "name": "a"}}), "spec.targetRef.kind"),
        (json!({"analysis": {"window": "soon"}}), "spec.analysis.window"),
        (json!({"analysis": {"interval": "10ms"}}), "spec.analysis.interval"),
        (json!({"analysis": {"window": "10s"}}), "spec.analysis.window"),
        (json!({"analysis": {"minRequests": 0}}), "spec.analysis.minRequests"),
        (json!({"rollback": {"maxPerDay": 0}}), "spec.rollback.maxPerDay"),
        (
            json!({"signals": [{"name": "errors", "ratio": {"bad": "rate(x[5m])", "total": "x"}}]}),
            "spec.signals[0].ratio.bad",
        ),
        (
            json!({"signals": [{"name": "a", "preset": "http-generic"}, {"name": "a", "preset": "http-generic"}]}),
            "spec.signals[1].name",
        ),
        (
            json!({"signals": [{"name": "m", "gauge": {"selector": "x{namespace=\"other\"}"}}]}),
            "spec.signals[0].gauge.selector",
        ),
    ] {
        let error = parse::policy(&spec(&extra), &class("Enforce")).expect_err(&extra.to_string()).to_string();
        assert!(error.starts_with(field), "{extra}: {error}");
    }
}
