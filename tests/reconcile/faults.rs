//! Faults of the world: nothing is undone out of blindness, and nothing is lost.

use std::time::Duration;

use deployment_guard::leader::{Campaign, LeaseConfig};
use serde_json::json;

use super::api_server::{Fault, Key};
use super::prometheus::Trouble;
use super::rig::{BAD_IMAGE, Rig, is};

/// A good release while Prometheus is in trouble: said, not undone, never called healthy; judged once it is over.
async fn blind(trouble: Trouble) {
    let (rig, _operator) = Rig::watching(json!({"analysis": {"window": "6s"}})).await;
    rig.prometheus.trouble(trouble);
    rig.push("shop:v2");
    let status = rig.status("guard", "the blindness is said", |s| is(s, "MetricsAvailable", "False")).await;
    assert!(!is(&status, "Healthy", "True"), "{trouble:?} {status:#}");
    assert_eq!(status["lastDecision"], json!(null), "{trouble:?}: nothing is concluded from blindness");
    rig.prometheus.trouble(Trouble::Nothing);
    let status = rig.status("guard", "it sees again", |s| is(s, "MetricsAvailable", "True")).await;
    assert!(!is(&status, "Healthy", "False"), "{trouble:?} {status:#}");
    let status = rig.status("guard", "it is decided", |s| s["lastDecision"]["decision"] == "CONTINUE").await;
    assert!(is(&status, "Healthy", "True"), "{trouble:?} {status:#}");
    assert_eq!(rig.workload_writes().len(), 0, "{trouble:?}");
}

macro_rules! blindness {
    ($($name:ident: $trouble:ident,)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            blind(Trouble::$trouble).await;
        }
    )+};
}

blindness! {
    a_prometheus_that_answers_500_is_blindness: ServerError,
    a_prometheus_that_answers_404_is_blindness: NotFound,
    a_prometheus_that_answers_html_is_blindness: Html,
    a_prometheus_whose_answer_is_huge_is_blindness: HugeBody,
    a_prometheus_that_answers_with_warnings_is_blindness: Warnings,
    a_prometheus_that_is_too_slow_is_blindness: Slow,
    a_prometheus_with_the_same_series_twice_is_blindness: SeveralSeries,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_release_while_prometheus_is_off_is_undone_only_when_it_is_seen() {
    let (rig, _operator) = Rig::watching(json!({"analysis": {"window": "10s"}})).await;
    rig.prometheus.off();
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "the blindness is said", |s| is(s, "MetricsAvailable", "False")).await;
    assert!(is(&status, "Healthy", "Unknown"), "{status:#}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.workload_writes().len(), 0, "nobody saw anything bad");
    rig.prometheus.on().await;
    rig.status("guard", "it is seen and undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
    assert_eq!(rig.image(), "shop:v1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_spent_blind_ends_without_proof_and_without_an_undo() {
    let (rig, _operator) = Rig::watching(json!({"analysis": {"window": "2s"}})).await;
    rig.prometheus.off();
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "the window ends", |s| !s["lastDecision"].is_null()).await;
    assert_eq!(status["lastDecision"]["decision"], "CONTINUE", "{status:#}");
    assert_eq!(status["lastDecision"]["reason"], "PrometheusUnreachable");
    assert!(is(&status, "Healthy", "Unknown"), "{status:#}");
    assert_eq!(rig.workload_writes().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_are_none_are_no_verdict() {
    let (rig, _operator) = Rig::watching(json!({"analysis": {"window": "3s"}})).await;
    rig.prometheus.trouble(Trouble::NotANumber);
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "the window ends", |s| !s["lastDecision"].is_null()).await;
    assert_eq!(status["lastDecision"]["decision"], "CONTINUE", "{status:#}");
    assert!(is(&status, "Healthy", "Unknown"), "{status:#}");
    assert_eq!(rig.workload_writes().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_lead_writes_nothing() {
    let rig = Rig::new().await;
    rig.guard("guard", json!({}));
    let lease =
        LeaseConfig { namespace: "deployment-guard".into(), name: "deployment-guard".into(), identity: "me".into() };
    // A campaign that is never run leads never.
    let (_campaign, leadership) = Campaign::new(rig.api.client(), lease);
    let _operator = rig.operator_as(leadership);
    rig.until("the Deployment is read", || rig.api.asked().iter().any(|asked| asked.verb == "get")).await;
    rig.push(BAD_IMAGE);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let writes: Vec<_> = rig.api.asked().into_iter().filter(|asked| asked.method != http::Method::GET).collect();
    assert!(writes.is_empty(), "{writes:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_the_lease_writes_nothing_any_more() {
    let rig = Rig::new().await;
    rig.guard("guard", json!({}));
    let lease =
        LeaseConfig { namespace: "deployment-guard".into(), name: "deployment-guard".into(), identity: "me".into() };
    let (campaign, leadership) = Campaign::new(rig.api.client(), lease);
    let campaign = tokio::spawn(campaign.run(std::future::pending()));
    let led = tokio::time::timeout(Duration::from_secs(5), leadership.acquired()).await;
    assert!(led.is_ok() && leadership.holds(), "the Lease was not won");
    let _operator = rig.operator_as(leadership.clone());
    rig.adopted("guard").await;
    let place = Key::new("coordination.k8s.io", "leases", "deployment-guard", "deployment-guard");
    rig.api.change(&place, |lease| {
        lease["spec"]["holderIdentity"] = json!("somebody else");
        lease["spec"]["renewTime"] = json!(format!("{:.6}", jiff::Timestamp::now()));
    });
    rig.until("the loss is noticed", || !leadership.holds()).await;
    let asked = rig.api.asked().len();
    rig.push(BAD_IMAGE);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let since = rig.api.asked_since(asked).into_iter();
    let writes: Vec<_> =
        since.filter(|asked| asked.method != http::Method::GET && asked.resource != "leases").collect();
    assert!(writes.is_empty(), "{writes:#?}");
    campaign.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_for_a_while_loses_nothing() {
    let (rig, _operator) = Rig::watching(json!({"analysis": {"window": "10s"}})).await;
    rig.push(BAD_IMAGE);
    rig.status("guard", "the release is seen", |s| s["current"]["state"] == "Judging").await;
    rig.api.break_with(|_| Some(Fault::Drop));
    rig.api.break_watches();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.image(), BAD_IMAGE);
    rig.api.mend();
    rig.status("guard", "it is undone", |s| s["lastDecision"]["action"] == "RolledBack").await;
    assert_eq!(rig.image(), "shop:v1");
    let undone = rig.deployment()["metadata"]["generation"].clone();
    assert_eq!(undone, 3, "the first, the bad release and one undo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_makes_no_good_release_bad() {
    let (rig, _operator) = Rig::watching(json!({"analysis": {"window": "8s"}})).await;
    rig.push("shop:v2");
    rig.status("guard", "the release is seen", |s| s["current"]["state"] == "Judging").await;
    rig.api.break_with(|_| Some(Fault::Drop));
    rig.api.break_watches();
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.api.mend();
    rig.status("guard", "it is judged good", |s| is(s, "Healthy", "True")).await;
    assert_eq!(rig.workload_writes().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_streaming_lists_the_lists_come_in_pages_of_fifty() {
    let rig = Rig::new().await;
    rig.api.refuse_streaming();
    let (key, pod) = rig.api.all("pods").remove(0);
    for index in 0..60 {
        let mut other = pod.clone();
        other["metadata"]["labels"] = json!({});
        other["metadata"]["ownerReferences"] = json!([]);
        let mut key = key.clone();
        key.name = format!("bystander-{index:02}");
        rig.api.put(&key, other);
    }
    rig.guard("guard", json!({}));
    let _operator = rig.operator();
    rig.adopted("guard").await;
    let lists: Vec<_> = rig.api.asked().into_iter().filter(|a| a.verb == "list" && a.resource == "pods").collect();
    assert!(lists.len() >= 2, "62 pods are two pages");
    assert!(lists.iter().all(|asked| asked.query.get("limit").is_some_and(|limit| limit == "50")), "{lists:#?}");
    rig.push("shop:v2");
    rig.status("guard", "the watch after the list works", |s| s["current"]["state"] == "Judging").await;
}
