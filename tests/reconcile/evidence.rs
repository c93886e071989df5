//! The evidence scorer in the loop: certificates, harm, restarts.

use serde_json::{Value, json};

use super::deployments::pods_of;
use super::prometheus::{GOOD, Load, Trouble};
use super::rig::{BAD_IMAGE, Rig, because, is};

/// Enough requests to certify a healthy release within seconds.
const BUSY: Load = Load { requests_per_second: 500.0, ..GOOD };

/// `shop:v1` has served for ten minutes, and a guard in a hurry watches it.
async fn long_served() -> (Rig, super::rig::Operator) {
    let rig = Rig::new().await;
    for image in ["shop:v1", "shop:v2"] {
        rig.prometheus.image(image, BUSY);
    }
    let past = (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(10)).to_string();
    for key in pods_of(&rig.api, "shop") {
        rig.prometheus.aged(&key.name, 600.0);
        rig.api.change(&key, |pod| {
            pod["metadata"]["creationTimestamp"] = json!(past);
            pod["status"]["conditions"][0]["lastTransitionTime"] = json!(past);
        });
    }
    rig.guard("guard", json!({"analysis": {"scorer": "Evidence", "window": "14s"}}));
    let operator = rig.operator();
    rig.adopted("guard").await;
    (rig, operator)
}

fn design(status: &Value) -> Value {
    status["analysis"]["design"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_of_harm_undoes_and_says_how_unlikely_it_is() {
    let (rig, _operator) = long_served().await;
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "the undo is recorded", |s| s["lastDecision"]["action"] == "RolledBack").await;
    let decision = &status["lastDecision"];
    assert_eq!(decision["reason"], "EvidenceOfHarm", "{status:#}");
    assert_eq!(decision["decider"], "evidence");
    let reasoning = decision["reasoning"].as_str().unwrap_or_default();
    assert!(reasoning.contains("error rate") && reasoning.contains("1 in "), "{reasoning}");
    assert!(decision["healthScore"].as_i64().is_some_and(|score| score <= 50), "{decision:#}");
    assert_eq!(rig.undos().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_release_is_certified_early_watched_on_and_known_good_at_the_end() {
    let (rig, _operator) = long_served().await;
    rig.push("shop:v2");
    let certified = rig.status("guard", "it is certified", |s| s["current"]["state"] == "Certified").await;
    assert!(is(&certified, "Healthy", "True") && because(&certified, "Healthy", "AnalysisPassed"), "{certified:#}");
    assert!(certified["knownGood"].is_null(), "{certified:#}");
    assert_eq!(design(&certified)["alpha"], 10_000, "{certified:#}");
    let passed = rig.status("guard", "the window is over", |s| s["current"]["state"] == "Passed").await;
    assert_eq!(passed["knownGood"][0]["revision"], passed["current"]["revision"], "{passed:#}");
    assert!(is(&passed, "Healthy", "True"), "{passed:#}");
    assert!(rig.workload_writes().is_empty(), "a good release is not touched");
    assert_eq!(passed["lastDecision"]["decision"], "CONTINUE");
    assert!(passed["history"].is_null(), "one decision, not two: {passed:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_pods_whose_names_cannot_be_asked_for_yet_are_no_missing_past() {
    let (rig, _operator) = long_served().await;
    // The old pods are gone at once, and only Prometheus still knows their names.
    rig.prometheus.trouble(Trouble::NoNames);
    rig.push("shop:v2");
    rig.status("guard", "the release is seen", |s| s["current"]["state"] == "Judging").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(design(&rig.status_of("guard")).is_null(), "nothing is fixed without the past");
    rig.prometheus.trouble(Trouble::Nothing);
    let status = rig.status("guard", "steps were counted", |s| !design(s).is_null()).await;
    let steps = design(&status)["signals"][0]["historySteps"].as_i64().unwrap_or_default();
    assert!(steps > 100, "ten minutes of it: {steps}");
}

/// A release over one that was never judged to the end: what served before that one is gone for minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_pods_that_are_gone_for_minutes_are_read_as_finely_as_they_were_scraped() {
    let (rig, _operator) = long_served().await;
    let first: Vec<_> = pods_of(&rig.api, "shop").into_iter().map(|key| key.name).collect();
    rig.push("shop:v2");
    rig.until("the first pods are gone", || pods_of(&rig.api, "shop").iter().all(|key| !first.contains(&key.name)))
        .await;
    for pod in &first {
        rig.prometheus.lived(pod, (400.0, 360.0));
    }
    let second = rig.status("guard", "the release is seen", |s| s["current"]["state"] == "Judging").await;
    rig.push("shop:v3");
    let of_third = |s: &Value| s["current"]["revision"] != second["current"]["revision"] && !design(s).is_null();
    let status = rig.status("guard", "steps of the third were counted", of_third).await;
    assert_eq!(status["current"]["baseline"], second["current"]["baseline"], "{status:#}");
    let steps = design(&status)["signals"][0]["historySteps"].as_i64().unwrap_or_default();
    assert!((30..=45).contains(&steps), "forty seconds, a step a second: {steps}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_dies_in_the_analysis_counts_nothing_twice_and_loses_nothing() {
    let (rig, operator) = long_served().await;
    let began = std::time::Instant::now();
    rig.push("shop:v2");
    rig.status("guard", "steps were counted", |s| !design(s).is_null()).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    operator.die().await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let _next = rig.operator();
    let status = rig.status("guard", "it is decided", |s| s["lastDecision"]["decision"] == "CONTINUE").await;
    assert!(is(&status, "Healthy", "True"), "{status:#}");
    let errors = status["signals"].as_array().into_iter().flatten().find(|signal| signal["name"] == "http/errors");
    let message = errors.and_then(|signal| signal["message"].as_str()).unwrap_or_default().to_owned();
    let total: f64 = message.split(" of ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(0.0);
    let most = 2.0 * BUSY.requests_per_second * (began.elapsed().as_secs_f64() + 1.0);
    assert!(total > 0.3 * most && total <= most, "{total} of at most {most}: {message}");
}
