//! The definitions as the real API server takes them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::scene::Scene;

const CASES: &str = include_str!("../cel_cases.json");

fn object(kind: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "deploymentguard.dev/v1alpha1", "kind": kind, "metadata": {"name": "case"}, "spec": spec,
    })
    .to_string()
}

async fn namespace(scene: &Scene) -> Result<()> {
    scene.cluster.kubectl(&["create", "namespace", &scene.namespace]).await?;
    Ok(())
}

/// The same table as the offline tests in `src/api`.
pub async fn the_api_server_refuses_each_bad_spec_with_its_sentence(scene: Scene) -> Result<()> {
    namespace(&scene).await?;
    let cases: Value = serde_json::from_str(CASES)?;
    let guards = cases["guards"].as_array().context("guards")?.iter();
    let guards = guards.map(|case| (object("DeploymentGuard", &case["spec"]), case));
    let classes = cases["classes"].as_array().context("classes")?.iter();
    let classes = classes.map(|case| (object("GuardClass", &class_of(case)), case));
    for (manifest, case) in guards.chain(classes) {
        let sentence = case["sentence"].as_str().context("sentence")?;
        refused(&scene, &manifest, sentence).await?;
    }
    for (spec, sentence) in [
        (json!({"targetRef": {"name": "api"}, "mode": "Auto"}), "spec.mode: Unsupported value"),
        (json!({"targetRef": {"name": "api"}, "analysis": {"window": "soon"}}), "spec.analysis.window"),
        (json!({"targetRef": {"name": "api"}, "rollback": {"maxPerDay": 0}}), "spec.rollback.maxPerDay"),
        (json!({"targetRef": {}}), "spec.targetRef.name: Required value"),
        (json!({"targetRef": {"name": "api"}, "analisys": {}}), "unknown field \"spec.analisys\""),
    ] {
        refused(&scene, &object("DeploymentGuard", &spec), sentence).await?;
    }
    for (provider, sentence) in [
        (json!({"kind": "cohere"}), "spec.providers[0].kind: Unsupported value"),
        (json!({"retries": 2}), "spec.providers[0].retries"),
        // Secrets lie in the operator's namespace; there is no word for another.
        (
            json!({"apiKeySecretRef": {"name": "k", "key": "k", "namespace": "shop"}}),
            "unknown field \"spec.providers[0].apiKeySecretRef.namespace\"",
        ),
        (json!({"apiKeySecretRef": {"name": "shop/k", "key": "k"}}), "spec.providers[0].apiKeySecretRef.name"),
    ] {
        refused(&scene, &object("GuardClass", &class_of(&json!({"provider": provider}))), sentence).await?;
    }
    Ok(())
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

async fn refused(scene: &Scene, manifest: &str, sentence: &str) -> Result<()> {
    let create = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
    let error = scene.kubectl_with(&create, manifest).await.err();
    let error = error.with_context(|| format!("was accepted: {manifest}"))?.to_string();
    ensure!(error.contains(sentence), "{manifest}\nexpected: {sentence}\nsaid: {error}");
    Ok(())
}

/// What a person and a pipeline do with it.
pub async fn a_guard_of_three_lines_is_accepted_without_warnings_and_reads_well(scene: Scene) -> Result<()> {
    namespace(&scene).await?;
    let guard = object("DeploymentGuard", &json!({"targetRef": {"name": "api"}}));
    let apply = ["apply", "--server-side", "--warnings-as-errors", "-f", "-"];
    scene.kubectl_with(&apply, &guard).await?;
    // A second time, now that the operator has written the status.
    scene.until_of("case", "the operator's first word", |guard| guard.reason("Ready") == "TargetNotFound").await?;
    scene.kubectl_with(&apply, &guard).await?;
    let stored = scene.guard("case").await?.0;
    ensure!(stored["spec"]["mode"] == "Observe" && stored["spec"]["analysis"]["window"] == "30m", "defaults: {stored}");

    let other = object("DeploymentGuard", &json!({"targetRef": {"name": "other"}}));
    let error = scene.kubectl_with(&apply, &other).await.err().context("the target was changed")?.to_string();
    ensure!(error.contains("targetRef is immutable"), "{error}");

    let window = scene.kubectl(&["explain", "dg.spec.analysis.window"]).await?;
    ensure!(window.contains("How long a rollout is watched"), "{window}");
    let table = scene.kubectl(&["get", "dg", "-o", "wide"]).await?;
    let head = table.lines().next().unwrap_or_default();
    let columns: Vec<_> = head.split_whitespace().collect();
    let expected = [
        "NAME",
        "TARGET",
        "MODE",
        "HEALTHY",
        "STATE",
        "SCORE",
        "DECISION",
        "CONFIDENCE",
        "DECIDER",
        "REVISION",
        "ROLLBACKS",
        "NEXT",
        "MESSAGE",
        "AGE",
    ];
    let mut sorted = columns.clone();
    sorted.sort_unstable();
    let mut wanted = expected.to_vec();
    wanted.sort_unstable();
    ensure!(sorted == wanted, "columns: {columns:?}");

    for (selector, count) in [("spec.targetRef.name=api", 1), ("spec.targetRef.name=shop", 0), ("spec.mode=Observe", 1)]
    {
        let found = scene.kubectl(&["get", "dg", "--no-headers", "--field-selector", selector]).await?;
        ensure!(found.lines().count() == count, "{selector} found: {found}");
    }
    for name in ["deploymentguards", "gclass", "deploymentguard"] {
        scene.kubectl(&["get", name]).await.with_context(|| format!("kubectl get {name}"))?;
    }
    Ok(())
}
