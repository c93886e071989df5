//! What a team may ask to be measured.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::scene::Scene;

/// A tenant's text never reaches a query that other guards share.
pub async fn a_selector_that_is_no_promql_is_named_and_other_guards_go_on(scene: Scene) -> Result<()> {
    scene.begin(json!({})).await?;
    for (name, selector) in [
        ("broken", "http_requests_total{code=~\"5.."),
        ("nosy", "http_requests_total{namespace=\"kube-system\"} or vector(1)"),
    ] {
        scene.push(&scene.shop_named(name).replicas(1)).await?;
        let ratio = json!({"bad": selector, "total": "http_requests_total"});
        scene.apply_guard(name, json!({"signals": [{"name": "errors", "ratio": ratio}]})).await?;
    }
    for name in ["broken", "nosy"] {
        let guard = scene
            .until_of(name, "the guard to refuse its selector", |guard| guard.reason("Ready") == "InvalidSpec")
            .await?;
        guard.expect("Stalled", "True", "InvalidSpec")?;
        ensure!(
            guard.message("Ready").contains("spec.signals[0].ratio.bad"),
            "names no field: {}",
            guard.message("Ready")
        );
        ensure!(guard.status("Healthy") == "Unknown", "{}", guard.line());
    }
    scene.push(&scene.shop().version("v2")).await?;
    scene.kubectl(&["wait", "--for=condition=Healthy", "dg/shop", "--timeout=90s"]).await?;
    Ok(())
}

/// What only Prometheus can refuse is the sender's alone: others ask the same server at the same moment.
pub async fn a_selector_that_prometheus_refuses_blinds_its_own_guard_only(scene: Scene) -> Result<()> {
    scene.begin(json!({})).await?;
    let wild = "wild";
    scene.push(&scene.shop_named(wild).replicas(1)).await?;
    let ratio = json!({"bad": "http_requests_total{code=~\"(\"}", "total": "http_requests_total"});
    scene.apply_guard(wild, json!({"signals": [{"name": "errors", "ratio": ratio}]})).await?;
    scene.until_of(wild, "version 1", |guard| guard.state() == "Serving").await?;
    scene.push(&scene.shop().version("v2")).await?;
    scene.push(&scene.shop_named(wild).replicas(1).version("v2")).await?;
    let guard = scene.until_of(wild, "the end of the window", |guard| !guard.decided("decision").is_empty()).await?;
    ensure!(guard.decided("decision") == "CONTINUE" && guard.status("Healthy") == "Unknown", "{}", guard.line());
    let signal = &guard.0["status"]["signals"][0];
    ensure!(signal["state"] == "Errored" && signal["message"].to_string().contains("pars"), "{signal}");
    scene.deployment_named(wild).await?.untouched(2)?;
    let guard = scene.until("the verdict on the other", |guard| guard.status("Healthy") == "True").await?;
    guard.expect("MetricsAvailable", "True", "MetricsRead")
}
