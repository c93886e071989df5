//! Quiet: nothing is asked and nothing written while there is nothing to do.

use std::time::Duration;

use deployment_guard::controller::Ended;
use serde_json::json;

use super::deployments::place;
use super::rig::{Rig, in_shop, is, status_writes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_guard_lets_a_burst_of_status_changes_pass() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    rig.push("shop:v2");
    rig.status("guard", "it is judged good", |s| is(s, "Healthy", "True")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (asked, reads) = (rig.api.asked().len(), rig.prometheus.reads());
    for ready in 0..40 {
        rig.api.change(&place("shop"), |deployment| deployment["status"]["readyReplicas"] = json!(ready));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let since = rig.api.asked_since(asked);
    assert_eq!(rig.prometheus.reads(), reads, "no metric is read");
    let writes: Vec<_> = since.iter().filter(|asked| asked.is_write() && in_shop(asked)).collect();
    assert!(writes.is_empty(), "{writes:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_status_changes_while_judging_reads_metrics_no_more_often() {
    let (rig, _operator) = Rig::watching(json!({"analysis": {"interval": "3s", "window": "12s"}})).await;
    rig.push("shop:v2");
    rig.status("guard", "the release is seen", |s| s["current"]["state"] == "Judging").await;
    rig.until("the first read is over", || rig.prometheus.reads() > 0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // The signals of one look: errors, latency, memory, throttling.
    let one_look = 4;
    let (asked, before) = (rig.api.asked().len(), rig.prometheus.reads());
    for ready in 0..60 {
        rig.api.change(&place("shop"), |deployment| deployment["status"]["readyReplicas"] = json!(ready));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    // The burst takes one and a half seconds: at most one regular look falls into it.
    let read = rig.prometheus.reads() - before;
    assert!(read <= one_look, "{read} reads, and one look is {one_look}");
    assert!(status_writes(&rig.api.asked_since(asked)) <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_guard_asks_nothing_at_all() {
    let (rig, _operator) = Rig::watching(json!({})).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = rig.api.asked().len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let since: Vec<_> = rig.api.asked_since(asked).into_iter().filter(in_shop).collect();
    assert!(since.is_empty(), "{since:#?}");
    assert_eq!(rig.prometheus.reads(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_asked_to_stop_ends_as_asked_and_the_next_one_goes_on() {
    let (rig, operator) = Rig::watching(json!({"analysis": {"window": "8s"}})).await;
    rig.push("shop:v2");
    rig.status("guard", "the release is seen", |s| s["current"]["state"] == "Judging").await;
    let stopped = tokio::time::timeout(Duration::from_secs(5), operator.stop()).await;
    assert_eq!(stopped.unwrap(), Ended::Stopped);
    let asked = rig.api.asked().len();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(rig.api.asked_since(asked).is_empty(), "who stopped asks nothing");
    let _operator = rig.operator();
    let status = rig.status("guard", "it is judged good", |s| is(s, "Healthy", "True")).await;
    assert_eq!(status["history"], json!(null), "one release, one decision: {status:#}");
}
