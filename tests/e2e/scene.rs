//! One test's namespace: a shop, its traffic, its guard.
//!
//! Role: says in one word what a test does to the cluster. Inputs: kubectl, as a user has it. Outputs: what the API says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testbed::cluster::{Cluster, wait_for};
use testbed::shop::{Load, Shop};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The annotation that names the last undo.
pub const LAST_ROLLBACK: &str = "deploymentguard.dev/last-rollback";
/// Longer than a window, its grace and a rollout on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);
const REQUESTS_PER_SECOND: u32 = 30;

/// One test's namespace.
#[derive(Clone)]
pub struct Scene {
    /// The cluster it lies in.
    pub cluster: Cluster,
    /// Its name.
    pub namespace: String,
    turn: Arc<Mutex<()>>,
    waiting: Arc<AtomicBool>,
}

impl Scene {
    /// A namespace that does not exist yet.
    pub fn new(cluster: &Cluster, namespace: String, turn: Arc<Mutex<()>>) -> Self {
        Self { cluster: cluster.clone(), namespace, turn, waiting: Arc::default() }
    }

    /// Leave to disturb everybody, until it is dropped.
    pub async fn my_turn(&self) -> OwnedMutexGuard<()> {
        self.waiting.store(true, Ordering::SeqCst);
        let turn = self.turn.clone().lock_owned().await;
        self.waiting.store(false, Ordering::SeqCst);
        turn
    }

    /// Whether it stands in line, which costs a test none of its own time.
    pub fn waits_for_its_turn(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Version 1 of the shop; every later release is made from it.
    pub fn shop(&self) -> Shop {
        self.shop_named("shop")
    }

    /// The same under another name.
    pub fn shop_named(&self, name: &str) -> Shop {
        Shop::new(&self.namespace, name).replicas(2)
    }

    /// A release that fails 40 % of its requests.
    pub fn bad(&self) -> Shop {
        self.shop().version("v2").fault("ERROR_RATE", "0.4")
    }

    /// Version 1 with traffic and a guard that has seen it. `spec` is laid over the usual one.
    pub async fn begin(&self, spec: Value) -> Result<Guard> {
        self.shop().deploy(&self.cluster).await?;
        self.begin_with_deployed(spec).await
    }

    /// The same where somebody deployed the shop in another way.
    pub async fn begin_with_deployed(&self, spec: Value) -> Result<Guard> {
        self.shop().rolled_out(&self.cluster, Duration::from_mins(1)).await?;
        self.apply_guard("shop", spec).await?;
        self.load("shop").start(&self.cluster).await?;
        self.until("the guard to see version 1", |guard| guard.state() == "Serving").await
    }

    /// The traffic of a shop.
    pub fn load(&self, shop: &str) -> Load {
        Load {
            name: format!("load-{shop}"),
            namespace: self.namespace.clone(),
            target: self.shop_named(shop).url(),
            rate: REQUESTS_PER_SECOND,
            duration_s: 600,
        }
    }

    /// What users saw in the last second.
    pub async fn traffic(&self) -> Result<Value> {
        Ok(self.load("shop").report(&self.cluster).await?)
    }

    /// Applies a guard of the Deployment of the same name. `spec` is laid over the usual one.
    pub async fn apply_guard(&self, name: &str, spec: Value) -> Result<()> {
        Ok(self.cluster.apply(&self.guard_of(name, spec).to_string()).await?)
    }

    /// Its manifest.
    pub fn guard_of(&self, name: &str, spec: Value) -> Value {
        let mut whole = json!({
            "targetRef": {"name": name},
            "mode": "Enforce",
            "analysis": {"interval": "2s", "warmup": "3s", "window": "20s", "scorer": "Seed"},
        });
        lay_over(&mut whole, spec);
        json!({
            "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": whole,
        })
    }

    /// Pushes a release.
    pub async fn push(&self, shop: &Shop) -> Result<()> {
        shop.deploy(&self.cluster).await.context("the push")
    }

    /// kubectl in this namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with(arguments, "").await
    }

    /// The same with something on its input.
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let all: Vec<_> = ["-n", &self.namespace].iter().chain(arguments).copied().collect();
        Ok(self.cluster.kubectl_with(&all, input).await?)
    }

    /// Reads something as JSON.
    pub async fn get(&self, arguments: &[&str]) -> Result<Value> {
        let all: Vec<_> = ["get", "-o", "json"].iter().chain(arguments).copied().collect();
        serde_json::from_str(&self.kubectl(&all).await?).context("kubectl printed something that is no JSON")
    }

    /// The guard now.
    pub async fn guard(&self, name: &str) -> Result<Guard> {
        Ok(Guard(self.get(&["dg", name]).await?))
    }

    /// The Deployment now.
    pub async fn deployment(&self) -> Result<Deployment> {
        self.deployment_named("shop").await
    }

    /// Another one.
    pub async fn deployment_named(&self, name: &str) -> Result<Deployment> {
        Ok(Deployment(self.get(&["deployment", name, "--show-managed-fields"]).await?))
    }

    /// Waits until the shop's guard says so.
    pub async fn until(&self, what: &str, holds: impl Fn(&Guard) -> bool) -> Result<Guard> {
        self.until_of("shop", what, holds).await
    }

    /// Waits until another guard says so.
    pub async fn until_of(&self, name: &str, what: &str, holds: impl Fn(&Guard) -> bool) -> Result<Guard> {
        let look = async || {
            let guard = self.guard(name).await.map_err(|error| format!("{error:#}"))?;
            if holds(&guard) { Ok(guard) } else { Err(guard.line()) }
        };
        Ok(wait_for(&format!("{what} (guard {name})"), PATIENCE, look).await?)
    }

    /// Waits until a decision about a revision other than `before` stands.
    pub async fn decided(&self, before: &Guard) -> Result<Guard> {
        let fresh =
            |guard: &Guard| !guard.decided("fromRevision").is_empty() && guard.decided("id") != before.decided("id");
        self.until("a decision", fresh).await
    }

    /// Waits until a bad release was undone, and checks that it was done once.
    pub async fn undone(&self, before: &Guard) -> Result<Guard> {
        let guard = self.until("the undo", |guard| guard.decided("action") == "RolledBack").await?;
        let deployment = self.deployment().await?;
        ensure!(deployment.last_rollback() == guard.decided("id"), "the annotation does not name the decision");
        ensure!(guard.0["status"]["rollbacksToday"] == 1, "not one undo: {}", guard.0["status"]["rollbacksToday"]);
        ensure!(guard.revision() == before.revision(), "went to {}, not to {}", guard.revision(), before.revision());
        Ok(guard)
    }

    /// Waits until the restored pods have proved themselves.
    pub async fn verified(&self) -> Result<Guard> {
        let guard = self
            .until("the verified undo", |guard| {
                guard.reason("RolledBack") != "RollbackStarted" && guard.state() != "Restoring"
            })
            .await?;
        ensure!(guard.reason("RolledBack") == "RollbackSucceeded", "{}", guard.line());
        Ok(guard)
    }

    /// Ends it; nobody waits for that.
    pub async fn end(&self) {
        let all = ["delete", "namespace", &self.namespace, "--ignore-not-found", "--wait=false"];
        if let Err(error) = self.cluster.kubectl(&all).await {
            eprintln!("namespace {} stays: {error}", self.namespace);
        }
    }
}

fn lay_over(whole: &mut Value, part: Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.into_iter().for_each(|(key, value)| lay_over(whole.entry(key).or_insert(Value::Null), value));
        }
        (whole, part) => *whole = part,
    }
}

/// A guard as read from the cluster.
pub struct Guard(pub Value);

impl Guard {
    fn condition(&self, type_: &str, field: &str) -> &str {
        let conditions = self.0["status"]["conditions"].as_array();
        let found = conditions.into_iter().flatten().find(|condition| condition["type"] == type_);
        found.and_then(|condition| condition[field].as_str()).unwrap_or("")
    }

    /// A condition's status: True, False, Unknown or nothing.
    pub fn status(&self, type_: &str) -> &str {
        self.condition(type_, "status")
    }

    /// A condition's reason.
    pub fn reason(&self, type_: &str) -> &str {
        self.condition(type_, "reason")
    }

    /// A condition's message.
    pub fn message(&self, type_: &str) -> &str {
        self.condition(type_, "message")
    }

    /// The current revision.
    pub fn revision(&self) -> &str {
        self.0["status"]["current"]["revision"].as_str().unwrap_or("")
    }

    /// Where it stands.
    pub fn state(&self) -> &str {
        self.0["status"]["current"]["state"].as_str().unwrap_or("")
    }

    /// A field of the last decision as text.
    pub fn decided(&self, field: &str) -> &str {
        self.0["status"]["lastDecision"][field].as_str().unwrap_or("")
    }

    /// The last decision.
    pub fn decision(&self) -> &Value {
        &self.0["status"]["lastDecision"]
    }

    /// Checks a condition.
    pub fn expect(&self, type_: &str, status: &str, reason: &str) -> Result<()> {
        if self.status(type_) != status || self.reason(type_) != reason {
            bail!("{type_} is not {status} ({reason}): {}", self.line());
        }
        Ok(())
    }

    /// Every condition in one line.
    pub fn line(&self) -> String {
        let types = ["Ready", "Healthy", "Reconciling", "RolledBack", "MetricsAvailable", "Stalled"];
        let words: Vec<_> =
            types.iter().map(|type_| format!("{type_}={} ({})", self.status(type_), self.reason(type_))).collect();
        format!(
            "{}, {}, last decision {} {}",
            words.join(", "),
            self.state(),
            self.decided("decision"),
            self.decided("action")
        )
    }
}

/// A Deployment as read from the cluster.
pub struct Deployment(pub Value);

impl Deployment {
    /// Grows with each change of the spec.
    pub fn generation(&self) -> i64 {
        self.0["metadata"]["generation"].as_i64().unwrap_or_default()
    }

    /// Its uid.
    pub fn uid(&self) -> &str {
        self.0["metadata"]["uid"].as_str().unwrap_or("")
    }

    /// The image of its container.
    pub fn image(&self) -> &str {
        self.0["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or("")
    }

    /// The names in its container's environment.
    pub fn env(&self) -> Vec<&str> {
        let env = self.0["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
        env.into_iter().flatten().filter_map(|entry| entry["name"].as_str()).collect()
    }

    /// The decision that last undid something here.
    pub fn last_rollback(&self) -> &str {
        self.0["metadata"]["annotations"][LAST_ROLLBACK].as_str().unwrap_or("")
    }

    /// Checks that nothing of ours was written.
    pub fn untouched(&self, generation: i64) -> Result<()> {
        ensure!(self.generation() == generation, "generation {} instead of {generation}", self.generation());
        ensure!(self.last_rollback().is_empty(), "annotated with {}", self.last_rollback());
        let ours = self.0["metadata"]["managedFields"].to_string().contains("deployment-guard");
        ensure!(!ours, "the operator owns fields: {}", self.0["metadata"]["managedFields"]);
        Ok(())
    }
}
