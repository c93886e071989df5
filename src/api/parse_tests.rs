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
    let names: Vec<String> = policy.signals.iter().flat_map(crate::domain::signal::Signal::full_names).collect();
    assert_eq!(names, ["http/errors", "http/latency", "container/memory", "cpu/throttling"]);
}

#[test]
fn percentages_are_read_to_the_millionth() {
    for (text, ppm) in [("1%", 10_000), ("0.5%", 5_000), ("0.0001%", 1), ("20%", 200_000), ("100%", 1_000_000)] {
        assert_eq!(parse::percent("f", text).unwrap(), ppm, "{text}");
    }
    for text in ["1", "%", "1.00001%", "-1%", "101%", "100.1%", "1 %", ".5%"] {
        assert!(parse::percent("f", text).is_err(), "{text}");
    }
    let policy = parse::policy(&spec(&json!({"analysis": {"falseRollbackRate": "0.5%"}})), &class("Enforce")).unwrap();
    assert_eq!(policy.settings().alpha_ppm, 5_000);
    assert_eq!(policy.settings().signals.len(), 4);
}

#[test]
fn the_class_clamps_the_mode() {
    let policy = parse::policy(&spec(&json!({"mode": "Enforce"})), &class("Observe")).unwrap();
    assert_eq!((policy.mode, policy.asked_mode), (Mode::Observe, Mode::Enforce));
}

#[test]
fn what_cannot_be_used_is_named_with_its_cure() {
    for (extra, field) in [
        (json!({"targetRef": {"kind": "Job", "name": "a"}}), "spec.targetRef.kind"),
        (json!({"analysis": {"window": "soon"}}), "spec.analysis.window"),
        (json!({"analysis": {"interval": "10ms"}}), "spec.analysis.interval"),
        (json!({"analysis": {"window": "10s"}}), "spec.analysis.window"),
        (json!({"analysis": {"minRequests": 0}}), "spec.analysis.minRequests"),
        (json!({"analysis": {"falseRollbackRate": "0%"}}), "spec.analysis.falseRollbackRate"),
        (json!({"analysis": {"falseRollbackRate": "21%"}}), "spec.analysis.falseRollbackRate"),
        (json!({"analysis": {"falseRollbackRate": "one"}}), "spec.analysis.falseRollbackRate"),
        (json!({"analysis": {"controls": [{"name": "api"}]}}), "spec.analysis.controls[0].name"),
        (json!({"signals": [{"name": "a", "preset": "http-generic", "max": "101%"}]}), "spec.signals[0].max"),
        (json!({"signals": [{"name": "m", "gauge": {"selector": "x"}, "max": "5%"}]}), "spec.signals[0].max"),
        (json!({"signals": [{"name": "a", "preset": "nginx-ingress"}]}), "spec.signals[0].service"),
        (json!({"signals": [{"name": "a", "preset": "traefik", "service": "we.b"}]}), "spec.signals[0].service"),
        (json!({"signals": [{"name": "a", "preset": "istio", "service": "web"}]}), "spec.signals[0].service"),
        (
            json!({"signals": [{"name": "a", "preset": "traefik", "service": "web", "critical": true}]}),
            "spec.signals[0].critical",
        ),
        (
            json!({"signals": [{"name": "a", "preset": "traefik", "service": "web", "max": "50%"}]}),
            "spec.signals[0].max",
        ),
        (json!({"signals": [{"name": "m", "gauge": {"selector": "x"}, "service": "web"}]}), "spec.signals[0].service"),
        (
            json!({"signals": [{"name": "a", "preset": "traefik", "service": "web"}], "analysis": {"scorer": "Seed"}}),
            "spec.signals[0].preset",
        ),
        (json!({"signals": [{"name": "m", "gauge": {"selector": "x"}, "critical": true}]}), "spec.signals[0].critical"),
        (json!({"signals": [{"name": "m", "gauge": {"selector": "x"}, "weight": 101}]}), "spec.signals[0].weight"),
        (
            json!({"signals": (0..5).map(|i| json!({"name": format!("a{i}"), "preset": "http-generic"})).collect::<Vec<_>>()}),
            "spec.signals",
        ),
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

#[test]
fn throttling_is_shown_only_unless_it_is_given_a_weight() {
    let of = |extra: Value| parse::policy(&spec(&extra), &class("Enforce")).unwrap().settings();
    let auto = of(json!({}));
    let cpu = auto.signals.iter().find(|signal| signal.name == "cpu/throttling").unwrap();
    assert_eq!((cpu.weight, cpu.critical), (0, false));
    let asked = of(json!({"signals": [{"name": "cpu", "preset": "container-cpu-throttling", "weight": 1}]}));
    assert_eq!((asked.signals[0].weight, asked.signals[0].critical), (1, false));
}

#[test]
fn presets_of_a_class_that_are_called_the_same_get_numbers_and_none_stands_twice() {
    let class: GuardClassSpec = serde_json::from_value(json!({
        "prometheus": {"url": "http://p"}, "presets": ["istio", "otel", "istio", "Auto", "container-memory"],
    }))
    .unwrap();
    let policy = parse::policy(&spec(&json!({})), &class).unwrap();
    let names: Vec<&str> = policy.signals.iter().map(|signal| signal.name.as_str()).collect();
    assert_eq!(names, ["http", "http-2", "http-3", "container", "cpu"]);
}

#[test]
fn every_preset_of_the_table_can_be_written() {
    use crate::domain::signal::{Preset, Source};
    for preset in Preset::ALL.iter().copied().chain([Preset::Auto]) {
        let mut signal = json!({"name": "a", "preset": preset.as_str()});
        if preset.is_proxied() {
            signal["service"] = json!("web");
        }
        let spec = spec(&json!({"signals": [signal]}));
        let policy = parse::policy(&spec, &class("Enforce")).unwrap();
        let named = Source::Proxied { preset, service: "web".to_owned() };
        assert_eq!(policy.signals[0].source, if preset.is_proxied() { named } else { Source::Preset(preset) });
    }
}
