//! The world of one test, and the operator in it.
//!
//! Role: starts the API server, the Deployment controller, Prometheus and the operator; waits for what a test expects.
//! Inputs: what a test pushes. Outputs: the guard's status, and who asked what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deployment_guard::controller::{self, Ended, Settings};
use deployment_guard::domain::scope::Scope;
use deployment_guard::leader::Leadership;
use deployment_guard::telemetry::health::Health;
use deployment_guard::telemetry::metrics::Metrics;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::api_server::{ApiServer, Asked, Key};
use super::deployments::{self, NAMESPACE, guard_place, place};
use super::prometheus::{BAD, Prometheus};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// The image whose pods fail.
pub const BAD_IMAGE: &str = "shop:bad";

pub struct Rig {
    pub api: ApiServer,
    pub prometheus: Prometheus,
    world: JoinHandle<()>,
    /// Where operators record, if anywhere.
    pub record: Option<std::path::PathBuf>,
    /// Where operators look, if not everywhere.
    pub namespaces: Vec<String>,
}

/// A running operator.
pub struct Operator {
    stop: CancellationToken,
    task: JoinHandle<Ended>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.world.abort();
    }
}

impl Rig {
    /// A world with a default class and a Deployment `shop` that serves `shop:v1`.
    pub async fn new() -> Self {
        let rig = Self::empty().await;
        rig.class("default", json!({}));
        deployments::push(&rig.api, "shop", "shop:v1");
        rig.until("shop:v1 has pods", || deployments::pods_of(&rig.api, "shop").len() == deployments::REPLICAS).await;
        rig
    }

    /// A world with nothing in it.
    pub async fn empty() -> Self {
        let api = ApiServer::default();
        let prometheus = Prometheus::start().await;
        prometheus.image(BAD_IMAGE, BAD);
        let world = deployments::start(&api, &prometheus);
        Self { api, prometheus, world, record: None, namespaces: Vec::new() }
    }

    /// Makes a class, the default one if it is called so.
    pub fn class(&self, name: &str, more: Value) {
        let mut spec = json!({"prometheus": {"url": self.prometheus.url(), "timeout": "500ms"}});
        json_patch::merge(&mut spec, &more);
        let key = Key::new("deploymentguard.dev", "guardclasses", "", name);
        let default = json!({"deploymentguard.dev/is-default-class": (name == "default").to_string()});
        self.api.put(
            &key,
            json!({
                "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass",
                "metadata": {"annotations": default}, "spec": spec,
            }),
        );
    }

    /// Makes a guard of `shop` that may act and decides within seconds.
    pub fn guard(&self, name: &str, more: Value) {
        let mut spec = json!({
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"},
            "mode": "Enforce",
            "analysis": {"interval": "1s", "warmup": "0s", "window": "5s", "minRequests": 20, "scorer": "Seed"},
        });
        json_patch::merge(&mut spec, &more);
        self.api.put(
            &guard_place(name),
            json!({"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard", "metadata": {}, "spec": spec}),
        );
    }

    /// Starts an operator that leads.
    pub fn operator(&self) -> Operator {
        self.operator_as(Leadership::always())
    }

    pub fn operator_as(&self, leadership: Leadership) -> Operator {
        let settings = Settings {
            namespace: "deployment-guard".into(),
            instance: Some("operator-0".into()),
            record: self.record.clone(),
            scope: Scope::of(self.namespaces.clone()),
            leadership,
            metrics: Arc::new(Metrics::default()),
            health: Arc::new(Health::default()),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(controller::run(self.api.client(), settings, stop.clone()));
        Operator { stop, task }
    }

    /// A world in which `guard` watches a serving `shop`, and an operator.
    pub async fn watching(more: Value) -> (Self, Operator) {
        let rig = Self::new().await;
        rig.guard("guard", more);
        let operator = rig.operator();
        rig.adopted("guard").await;
        (rig, operator)
    }

    /// Waits until a guard knows its Deployment and judges nothing.
    pub async fn adopted(&self, guard: &str) {
        self.status(guard, "the serving revision is known", |status| {
            status["current"]["state"] == "Serving" && is(status, "Ready", "True")
        })
        .await;
    }

    pub fn push(&self, image: &str) {
        deployments::push(&self.api, "shop", image);
    }

    pub fn image(&self) -> String {
        deployments::image(&self.api, "shop")
    }

    pub fn deployment(&self) -> Value {
        self.api.get(&place("shop")).unwrap_or_default()
    }

    pub fn status_of(&self, guard: &str) -> Value {
        self.api.get(&guard_place(guard)).map(|guard| guard["status"].clone()).unwrap_or_default()
    }

    /// Waits until the status of a guard is as wanted, and returns it.
    pub async fn status(&self, guard: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let status = self.status_of(guard);
            if wanted(&status) {
                return status;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "waited in vain until {what}; the status is {status:#}\n{}",
                self.story()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < PATIENCE, "waited in vain until {what}\n{}", self.story());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What was written, for whoever reads a failure.
    fn story(&self) -> String {
        let writes = self.api.asked().into_iter().filter(|asked| asked.method != http::Method::GET);
        let lines = writes.map(|asked| {
            let body: String = asked.body.to_string().chars().take(300).collect();
            format!("{} {} {}", asked.verb, asked.path, body)
        });
        let pods = self.api.all("pods").into_iter().map(|(key, pod)| {
            let (meta, status) = (&pod["metadata"], &pod["status"]["conditions"]);
            format!("pod {} {} {status}", key.name, meta["labels"]["controller-revision-hash"])
        });
        let guards = self.api.all("deploymentguards").into_iter();
        let guards = guards.map(|(key, guard)| format!("guard {} {:#}", key.name, guard["status"]));
        lines.chain(pods).chain(guards).collect::<Vec<_>>().join("\n")
    }

    /// The undos that were sent, dry runs not counted.
    pub fn undos(&self) -> Vec<Asked> {
        self.api.asked().into_iter().filter(Asked::is_undo).collect()
    }

    /// Everything written to a workload, hand-backs of ownership among them.
    pub fn workload_writes(&self) -> Vec<Asked> {
        self.api
            .asked()
            .into_iter()
            .filter(|asked| asked.is_write() && asked.resource.starts_with("deployments"))
            .collect()
    }

    /// Turns the clock of a pending undo and of the pods back, so that restored pods were Ready long enough.
    pub fn long_ago(&self) {
        self.long_ago_of("guard");
    }

    /// The same where another guard's undo is pending. The process that will see it must not run yet.
    pub fn long_ago_of(&self, guard: &str) {
        let past = (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60)).to_string();
        for (key, _) in self.api.all("pods") {
            self.api.change(&key, |pod| pod["status"]["conditions"][0]["lastTransitionTime"] = json!(past));
        }
        self.api.change(&guard_place(guard), |guard| {
            guard["status"]["undo"]["sentAt"] = json!(past);
            guard["status"]["undo"]["intendedAt"] = json!(past);
        });
    }
}

impl Operator {
    /// The process dies.
    pub async fn die(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    /// The process is asked to stop.
    pub async fn stop(mut self) -> Ended {
        self.stop.cancel();
        (&mut self.task).await.unwrap()
    }
}

/// Whether a condition has this status.
pub fn is(status: &Value, condition: &str, truth: &str) -> bool {
    find(status, condition)["status"] == truth
}

/// Whether a condition has this reason.
pub fn because(status: &Value, condition: &str, reason: &str) -> bool {
    find(status, condition)["reason"] == reason
}

pub fn find(status: &Value, condition: &str) -> Value {
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|found| found["type"] == condition).unwrap_or_default()
}

/// Status writes of guards.
pub fn status_writes(asked: &[Asked]) -> usize {
    asked.iter().filter(|asked| asked.resource == "deploymentguards/status").count()
}

/// The namespace of everything, as the operator's requests name it.
pub fn in_shop(asked: &Asked) -> bool {
    asked.namespace == NAMESPACE
}
