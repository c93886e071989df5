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
        ("wild", "http_requests_total{code=~\"(\"}"),
    ] {
        scene.push(&scene.shop_named(name).replicas(1)).await?;
        let ratio = json!({"bad": selector, "total": "http_requests_total"});
        scene.apply_guard(name, json!({"signals": [{"name": "errors", "ratio": ratio}]})).await?;
    }
    for name in ["broken", "nosy", "wild"] {
        let guard = scene.until_of(name, "the guard to refuse its selector", |guard| guard.reason("Ready") == "InvalidSpec").await?;
        guard.expect("Stalled", "True", "InvalidSpec")?;
        ensure!(guard.message("Ready").contains("errors"), "does not name the signal: {}", guard.message("Ready"));
        ensure!(guard.status("Healthy") == "Unknown", "{}", guard.line());
    }
    scene.push(&scene.shop().version("v2")).await?;
    scene.kubectl(&["wait", "--for=condition=Healthy", "dg/shop", "--timeout=90s"]).await?;
    Ok(())
}
