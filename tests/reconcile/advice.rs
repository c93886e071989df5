//! Language models in the loop: what they may decide, what they explain, and that their death changes a sentence only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};

use super::api_server::Key;
use super::prometheus::{GOOD, Load};
use super::rig::{BAD_IMAGE, Operator, Rig, because, is};

/// A model on a port of its own; answers as a test says, and keeps what it was asked.
#[derive(Clone)]
struct Model {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Model {
    /// `answer` makes a status and the reply's text from the case.
    async fn start(answer: impl Fn(&str) -> (u16, String) + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let record = asked.clone();
        let app = axum::Router::new().fallback(move |request: Request| {
            let (record, answer) = (record.clone(), answer.clone());
            async move {
                let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap();
                let case = body["messages"][1]["content"].as_str().unwrap().to_owned();
                record.lock().unwrap().push(case.clone());
                let (status, text) = answer(&case);
                let reply = json!({
                    "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
                });
                Response::builder().status(status).body(Body::from(reply.to_string())).unwrap()
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn opinion(decision: &str, evidence: &[&str]) -> String {
    json!({
        "decision": decision, "confidence": 80, "failure_class": "performance", "evidence": evidence,
        "reasoning": "the model says so", "suggested_fix": "look at the last change",
    })
    .to_string()
}

/// A guard that knows these models, in this order.
async fn watching(models: &[&Model], guard: Value) -> (Rig, Operator) {
    let rig = Rig::empty().await;
    let provider = |(place, model): (usize, &&Model)| json!({"name": format!("m{place}"), "kind": "openai", "model": "m", "baseURL": model.url, "timeout": "7s"});
    let providers: Vec<Value> = models.iter().enumerate().map(provider).collect();
    rig.class("default", json!({"providers": providers}));
    super::deployments::push(&rig.api, "shop", "shop:v1");
    rig.until("shop:v1 has pods", || super::deployments::pods_of(&rig.api, "shop").len() == 2).await;
    rig.guard("guard", guard);
    let operator = rig.operator();
    rig.adopted("guard").await;
    (rig, operator)
}

fn class(rig: &Rig) -> Value {
    let key = Key::new("deploymentguard.dev", "guardclasses", "", "default");
    rig.api.get(&key).unwrap_or_default()["status"].take()
}

fn events(rig: &Rig, reason: &str) -> usize {
    rig.api.all("events").into_iter().filter(|(_, event)| event["reason"] == reason).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_is_explained_afterwards_and_a_model_that_disagrees_is_shown_as_clamped() {
    let model = Model::start(|_| (200, opinion("CONTINUE", &["S1"]))).await;
    let (rig, _operator) = watching(&[&model], json!({})).await;
    rig.push(BAD_IMAGE);
    let undone = rig.status("guard", "the undo", |s| s["lastDecision"]["action"] == "RolledBack").await;
    assert_eq!(undone["lastDecision"]["decider"], "seed-formula", "{undone:#}");
    let status = rig.status("guard", "the explanation", |s| s["lastDecision"]["advice"].is_object()).await;
    let decision = &status["lastDecision"];
    assert_eq!(decision["advice"]["by"], "llm/m0", "{decision:#}");
    assert_eq!(decision["advice"]["clampedBy"], "evidence", "{decision:#}");
    assert_eq!(decision["attempts"][0]["outcome"], "answered", "{decision:#}");
    assert_eq!((rig.undos().len(), rig.image().as_str()), (1, "shop:v1"));
    rig.until("the class says that it answers", || is(&class(&rig), "LLMAvailable", "True")).await;
    let class = class(&rig);
    assert_eq!(class["providers"][0]["callsToday"], 1, "{class:#}");
    assert_eq!(class["budget"]["day"]["tokens"], 1100, "{class:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_that_are_dead_change_nothing_but_a_sentence() {
    let dead = Model::start(|_| (500, String::new())).await;
    let liar = Model::start(|_| (200, opinion("ROLLBACK", &["S99"]))).await;
    let (rig, _operator) = watching(&[&dead, &liar], json!({})).await;
    rig.push(BAD_IMAGE);
    let status = rig.status("guard", "the attempts", |s| s["lastDecision"]["attempts"].is_array()).await;
    let decision = &status["lastDecision"];
    assert_eq!((&decision["decision"], &decision["decider"]), (&json!("ROLLBACK"), &json!("seed-formula")));
    let outcomes: Vec<_> = decision["attempts"].as_array().unwrap().iter().map(|one| one["outcome"].clone()).collect();
    assert_eq!(outcomes, ["server_error", "server_error", "invalid"], "{decision:#}");
    assert!(decision["advice"].is_null(), "{decision:#}");
    rig.until("it is told", || events(&rig, "LLMFallback") > 0).await;
    assert_eq!(rig.image(), "shop:v1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_decide_a_rollback_that_cites_nothing_abnormal_is_not_done_and_is_shown() {
    let hostile = Model::start(|_| (200, opinion("ROLLBACK", &["S1"]))).await;
    let (rig, _operator) = watching(&[&hostile], json!({"decision": {"authority": "Decide"}})).await;
    // Too few requests to say anything.
    rig.prometheus.image("shop:v2", Load { requests_per_second: 1.0, ..GOOD });
    rig.api.change(&Key::new("apps", "deployments", super::deployments::NAMESPACE, "shop"), |shop| {
        shop["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!("a pool of 20, password=hunter2xyz");
    });
    rig.push("shop:v2");
    let clamped = |s: &Value| s["lastDecision"]["advice"]["clampedBy"].is_string();
    let status = rig.status("guard", "the end of the window", clamped).await;
    let decision = &status["lastDecision"];
    assert_eq!(
        (&decision["decision"], &decision["advice"]["clampedBy"]),
        (&json!("CONTINUE"), &json!("no-abnormal-evidence"))
    );
    assert_eq!((rig.undos().len(), rig.image().as_str()), (0, "shop:v2"));
    let asked = hostile.asked();
    assert!(asked.len() <= 3, "maxCallsPerRollout: {}", asked.len());
    let told = |case: &String| case.contains("note: change cause: a pool of 20") && !case.contains("hunter2xyz");
    assert!(asked.iter().all(told), "{asked:#?}");
}

/// 2 % of errors where there were none, in few requests: evidence grows slowly.
const SLIGHT: Load = Load { requests_per_second: 50.0, errors: 0.024, ..GOOD };

async fn in_the_grey_zone(model: &Model, authority: &str) -> (Rig, Operator) {
    let rig = Rig::empty().await;
    rig.prometheus.image("shop:v1", GOOD);
    rig.prometheus.image("shop:slight", SLIGHT);
    let provider = json!({"name": "m0", "kind": "openai", "model": "m", "baseURL": model.url});
    rig.class("default", json!({"providers": [provider]}));
    super::deployments::push(&rig.api, "shop", "shop:v1");
    rig.until("shop:v1 has pods", || super::deployments::pods_of(&rig.api, "shop").len() == 2).await;
    let past = (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(10)).to_string();
    for key in super::deployments::pods_of(&rig.api, "shop") {
        rig.prometheus.aged(&key.name, 600.0);
        rig.api.change(&key, |pod| {
            pod["metadata"]["creationTimestamp"] = json!(past);
            pod["status"]["conditions"][0]["lastTransitionTime"] = json!(past);
        });
    }
    let analysis = json!({"scorer": "Evidence", "window": "30m", "falseRollbackRate": "1%"});
    rig.guard("guard", json!({"analysis": analysis, "decision": {"authority": authority}}));
    let operator = rig.operator();
    rig.adopted("guard").await;
    rig.push("shop:slight");
    (rig, operator)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_grey_zone_a_model_decides_and_the_record_names_it() {
    let model = Model::start(|_| (200, opinion("ROLLBACK", &["S1"]))).await;
    let (rig, _operator) = in_the_grey_zone(&model, "TieBreak").await;
    let status = rig.status("guard", "the undo", |s| s["lastDecision"]["action"] == "RolledBack").await;
    let decision = &status["lastDecision"];
    assert_eq!((&decision["decider"], &decision["reason"]), (&json!("llm/m0"), &json!("LLMDecision")), "{decision:#}");
    assert!(
        because(&status, "Healthy", "RollbackStarted") || because(&status, "Healthy", "RollbackSucceeded"),
        "{status:#}"
    );
    assert_eq!(decision["advice"]["proposed"], "ROLLBACK", "{decision:#}");
}

/// Takes every question and answers none.
async fn silence() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_hangs_puts_the_end_of_the_window_off_by_the_deadline_at_most() {
    let mut decisions = Vec::new();
    for chain in [json!(["algorithm"]), json!(["silent"])] {
        let rig = Rig::empty().await;
        let silent =
            json!({"name": "silent", "kind": "openai", "model": "m", "baseURL": silence().await, "timeout": "1m"});
        rig.class("default", json!({"providers": [silent]}));
        super::deployments::push(&rig.api, "shop", "shop:v1");
        rig.until("shop:v1 has pods", || super::deployments::pods_of(&rig.api, "shop").len() == 2).await;
        let decision = json!({"authority": "Decide", "deadline": "2s", "maxCallsPerRollout": 100, "chain": chain});
        rig.guard("guard", json!({"decision": decision}));
        let _operator = rig.operator();
        rig.adopted("guard").await;
        rig.prometheus.image("shop:v2", Load { requests_per_second: 1.0, ..GOOD });
        rig.push("shop:v2");
        let status = rig.status("guard", "the end", |s| s["lastDecision"]["decision"] == "CONTINUE").await;
        let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let took = time(&status["lastDecision"]["time"]).duration_since(time(&status["current"]["startedAt"]));
        decisions.push((took.as_secs_f64(), status["lastDecision"].clone()));
    }
    let [(alone, without), (beside, with)] = decisions.as_slice() else { panic!("{decisions:#?}") };
    for field in ["decision", "decider", "reason", "confidence", "healthScore", "advice"] {
        assert_eq!(with[field], without[field], "{field}");
    }
    assert!(*beside <= alone + 2.0 + 1.5, "{alone} s without, {beside} s with a model that hangs");
    assert!(with["attempts"].as_array().unwrap().iter().all(|one| one["outcome"] == "timeout"), "{with:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_undo_while_a_model_is_being_asked_is_explained_by_the_next_answer() {
    let (asked, undone) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (heard, release) = (asked.clone(), undone.clone());
    let model = Model::start(move |case| {
        // The first question takes longer than the undo.
        if !case.contains("P1 | ") {
            heard.store(true, Ordering::Relaxed);
            let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while !release.load(Ordering::Relaxed) && std::time::Instant::now() < until {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        (200, opinion("CONTINUE", &["S1"]))
    })
    .await;
    let (rig, _operator) = watching(&[&model], json!({"decision": {"authority": "Decide"}})).await;
    rig.prometheus.image("shop:v2", Load { requests_per_second: 1.0, ..GOOD });
    rig.push("shop:v2");
    rig.until("the model is being asked", || asked.load(Ordering::Relaxed)).await;
    let old: Vec<_> = super::deployments::pods_of(&rig.api, "shop");
    for key in old {
        rig.api.change(&key, |pod| {
            if pod["spec"]["containers"][0]["image"] == "shop:v2" {
                super::facts::crash(pod, 3);
            }
        });
    }
    let status = rig.status("guard", "the explanation", |s| s["lastDecision"]["advice"].is_object()).await;
    let decision = &status["lastDecision"];
    assert_eq!(
        (&decision["decider"], &decision["decision"]),
        (&json!("hard-fact"), &json!("ROLLBACK")),
        "{decision:#}"
    );
    assert_eq!(decision["advice"]["clampedBy"], "hard-fact", "{decision:#}");
    let explained: Vec<bool> = model.asked().iter().map(|case| case.contains("P1 | ")).collect();
    assert_eq!(explained, [false, true], "one question was under way, and the explanation came after it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_disagrees_in_the_grey_zone_is_clamped_when_evidence_decides() {
    let model = Model::start(|_| (200, opinion("CONTINUE", &["S1"]))).await;
    let (rig, _operator) = in_the_grey_zone(&model, "TieBreak").await;
    let status = rig.status("guard", "the undo", |s| s["lastDecision"]["action"] == "RolledBack").await;
    let decision = &status["lastDecision"];
    assert_eq!((&decision["decider"], &decision["reason"]), (&json!("evidence"), &json!("EvidenceOfHarm")));
    assert_eq!(decision["advice"]["proposed"], "CONTINUE", "{decision:#}");
    assert_eq!(decision["advice"]["clampedBy"], "evidence", "{decision:#}");
}
