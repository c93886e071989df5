//! What both benches need: the operator as a process, many objects at once, tables.
//!
//! Role: measures from outside, through `/proc` and `/metrics`. Inputs: a cluster of the testbed, the release binary.
//! Outputs: numbers, a table, a JSON file.
#![allow(dead_code, reason = "each bench uses its part")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use kube::{Client, core::GroupVersionKind};
use serde_json::{Value, json};
use testbed::cluster::Cluster;

const CRDS: [&str; 2] = [
    include_str!("../../crds/deploymentguards.deploymentguard.dev.yaml"),
    include_str!("../../crds/guardclasses.deploymentguard.dev.yaml"),
];
/// The environment that `manifests/install.yaml` gives the operator.
pub const SHIPPED: [(&str, &str); 1] = [("MIMALLOC_ARENA_EAGER_COMMIT", "0")];

/// Clock ticks of `/proc/PID/stat` in a second, on every Linux that matters.
const TICKS: f64 = 100.0;
/// Where the operator under measurement listens.
const LISTEN: &str = "127.0.0.1:18080";
/// How many writes are under way at once.
const WRITERS: usize = 32;

/// Where cargo builds.
pub fn target() -> Result<PathBuf> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_deployment-guard"));
    Ok(program.parent().and_then(|folder| folder.parent()).context("no target folder")?.to_owned())
}

/// The static release binary that `testbed images` builds, or the one that the environment names.
fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("DEPLOYMENT_GUARD_BINARY") {
        return Ok(path.into());
    }
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let path = target()?.join(triple).join("release/deployment-guard");
    if path.is_file() { Ok(path) } else { bail!("{} does not exist; run testbed images", path.display()) }
}

/// A running operator; ends when dropped.
pub struct Operator {
    child: Child,
    started: Instant,
    http: reqwest::Client,
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Operator {
    /// Starts the release binary against the cluster; its log goes to the target folder.
    pub fn start(env: &[(&str, &str)]) -> Result<Self> {
        let folder = target()?.join("bench");
        fs::create_dir_all(&folder)?;
        let log = File::create(folder.join("operator.log"))?;
        let child = Command::new(program()?)
            .args(["run", "--no-leader-election", "--listen", LISTEN])
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { child, started: Instant::now(), http: reqwest::Client::new() })
    }

    /// Waits until the first lists are complete; seconds since the start. A standby is ready too, so it must act first,
    /// and be ready in two looks running.
    pub async fn ready(&self) -> Result<f64> {
        let mut seen = 0;
        while self.started.elapsed() < Duration::from_mins(2) {
            let acts = self.metric("deployment_guard_leader").await.is_ok_and(|value| value > 0.5);
            let ready = self.http.get(format!("http://{LISTEN}/readyz")).send().await;
            let ready = acts && ready.is_ok_and(|answer| answer.status().is_success());
            seen = if ready { seen + 1 } else { 0 };
            if seen == 2 {
                return Ok(self.started.elapsed().as_secs_f64());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the operator is not ready after two minutes; see bench/operator.log in the target folder")
    }

    /// The sum of the operator's own series whose text begins like this.
    pub async fn metric(&self, prefix: &str) -> Result<f64> {
        let text = self.http.get(format!("http://{LISTEN}/metrics")).send().await?.text().await?;
        Ok(sum(&text, &[prefix]))
    }

    /// A line of `/proc/PID/status` in MiB, such as `VmHWM`.
    pub fn memory(&self, field: &str) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).context("no such line")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    /// Seconds of processor time so far.
    pub fn cpu(&self) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: f64 = fields.filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS)
    }
}

/// The sum of all series of an exposition that begin with the first word and contain the others.
pub fn sum(text: &str, words: &[&str]) -> f64 {
    let wanted = |line: &&str| {
        words.first().is_some_and(|first| line.starts_with(first)) && words.iter().all(|word| line.contains(word))
    };
    text.lines().filter(wanted).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Waits for the namespace's service account, without which pods are refused.
pub async fn namespace(cluster: &Cluster, name: &str) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string();
    cluster.apply(&object).await?;
    let look = async || cluster.kubectl(&["-n", name, "get", "serviceaccount", "default"]).await;
    testbed::cluster::wait_for("the service account", Duration::from_secs(30), look).await?;
    Ok(())
}

/// Installs the definitions and waits until they are served.
pub async fn install(cluster: &Cluster) -> Result<()> {
    for definition in CRDS {
        cluster.kubectl_with(&["apply", "--server-side", "-f", "-"], definition).await?;
    }
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await?;
    Ok(())
}

/// The API of a kind in all namespaces or in one.
pub fn api(client: &Client, version: &str, kind: &str, plural: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Creates objects, several at once.
pub async fn create(client: &Client, plural: &str, objects: impl IntoIterator<Item = Value>) -> Result<()> {
    stream::iter(objects)
        .map(|object| async move {
            let object: DynamicObject = serde_json::from_value(object)?;
            let types = object.types.clone().unwrap_or_default();
            let api = api(client, &types.api_version, &types.kind, plural, object.metadata.namespace.as_deref());
            api.create(&PostParams::default(), &object).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(WRITERS)
        .try_for_each(|()| async { Ok(()) })
        .await
}

/// Waits until every pod runs.
pub async fn all_run(client: &Client, at_least: usize, limit: Duration) -> Result<()> {
    let pods = api(client, "v1", "Pod", "pods", None);
    let started = Instant::now();
    loop {
        let waiting = pods.list_metadata(&ListParams::default().fields("status.phase!=Running").limit(1)).await?;
        let some = pods.list_metadata(&ListParams::default().limit(1)).await?;
        let all = some.items.len() + usize::try_from(some.metadata.remaining_item_count.unwrap_or(0))?;
        if waiting.items.is_empty() && all >= at_least {
            return Ok(());
        }
        if started.elapsed() > limit {
            bail!("{all} of {at_least} pods exist, and not all of them run, after {limit:?}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Prints a table and writes it as JSON.
pub fn publish(name: &str, conditions: &[String], heads: &[&str], rows: &[Vec<String>], json: &Value) -> Result<()> {
    println!("\n== bench {name}");
    for condition in conditions {
        println!("   {condition}");
    }
    println!("| {} |", heads.join(" | "));
    println!("|{}|", vec!["---"; heads.len()].join("|"));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    let folder = target()?.join("bench");
    fs::create_dir_all(&folder)?;
    let body = json!({"bench": name, "conditions": conditions, "results": json});
    fs::write(folder.join(format!("{name}.json")), serde_json::to_vec_pretty(&body)?)?;
    Ok(())
}
