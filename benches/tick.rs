//! What one evaluation costs while 1, 100 and 1,000 guards analyse at the same time, and how many questions they ask.
//!
//! Each guard watches a real Deployment in the middle of a rollout: 2 old and 2 new kwok pods, held there by
//! `minReadySeconds`. Their counters come from one exporter through the real Prometheus.

mod shared;

#[path = "shared/pure.rs"]
mod pure;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use testbed::cluster::{Cluster, wait_for};
use testbed::images::CROWD_IMAGE;

use shared::Operator;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const SIZES: [usize; 3] = [1, 100, 1000];
const SPACES: usize = 10;
const INTERVAL: u32 = 5;
const MEASURED: Duration = Duration::from_secs(30);
/// One step of setting up may take this long; then the size is given up and said to be.
const PATIENCE: Duration = Duration::from_mins(3);

#[tokio::main]
async fn main() -> Result<()> {
    let pure = pure::measure(ALLOCATOR);
    let cluster = Cluster::join().context("run this with make bench")?;
    let client = Client::try_default().await?;
    shared::install(&cluster).await?;
    cluster.start_kwok(10).await?;
    for space in 0..SPACES {
        shared::namespace(&cluster, &space_of(space)).await?;
    }
    let crowd = crowd(&cluster).await?;
    let class = json!({"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass",
        "metadata": {"name": "default", "annotations": {"deploymentguard.dev/is-default-class": "true"}},
        "spec": {"prometheus": {"url": cluster.prometheus_url()}}});
    cluster.apply(&class.to_string()).await?;
    let operator = Operator::start(&shared::SHIPPED)?;
    operator.ready().await?;

    let (mut rows, mut json, mut done, mut notes) = (Vec::new(), Vec::new(), 0, Vec::new());
    for size in SIZES {
        match grow(&client, &operator, &crowd, done..size).await {
            Ok(seconds) => {
                done = size;
                let found = measure(&cluster, &client, &operator, size).await?;
                eprintln!("tick: {size} guards set up in {seconds:.0} s");
                rows.push(found.row());
                json.push(found.json());
            }
            Err(error) => {
                notes.push(format!("{size} guards: given up, {error:#}"));
                break;
            }
        }
    }
    let mut conditions = vec![
        format!(
            "interval {INTERVAL} s, measured over {} s; each guard: 2 old and 2 new pods, 3 signals",
            MEASURED.as_secs()
        ),
        "API requests: of the whole cluster, every component included".to_owned(),
        format!(
            "pure path (assess and decide, 2 + 2 pods, 3 signals): {} allocations, {} bytes an evaluation",
            pure.allocations, pure.bytes
        ),
    ];
    conditions.append(&mut notes);
    let json = json!({"sizes": json, "allocationsPerEvaluation": pure.allocations, "bytesPerEvaluation": pure.bytes});
    shared::publish("tick", &conditions, &Found::HEADS, &rows, &json)
}

fn space_of(number: usize) -> String {
    format!("tick-{}", number % SPACES)
}

/// The exporter as a pod; its address.
async fn crowd(cluster: &Cluster) -> Result<String> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "crowd", "namespace": space_of(0), "annotations": {
            "prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/honor-labels": "true"}},
        "spec": {"containers": [{"name": "crowd", "image": CROWD_IMAGE, "imagePullPolicy": "Never"}]}});
    cluster.apply(&pod.to_string()).await?;
    let look = async || {
        let address = ["-n", &space_of(0), "get", "pod", "crowd", "-o", "jsonpath={.status.podIP}"];
        let address = cluster.kubectl(&address).await.map_err(|error| error.to_string())?;
        let url = format!("http://{address}:8080");
        let healthy = reqwest::get(format!("{url}/healthz")).await.map_err(|error| error.to_string())?;
        if healthy.status().is_success() { Ok(url) } else { Err(healthy.status().to_string()) }
    };
    Ok(wait_for("the exporter", Duration::from_mins(1), look).await?)
}

/// Adds guards with their Deployments, lets them see the old revision, and pushes the new one.
async fn grow(client: &Client, operator: &Operator, crowd: &str, more: std::ops::Range<usize>) -> Result<f64> {
    let (started, total) = (Instant::now(), more.end);
    shared::create(client, "deployments", more.clone().map(deployment)).await?;
    shared::all_run(client, 2 * total, PATIENCE).await?;
    shared::create(client, "deploymentguards", more.clone().map(guard)).await?;
    in_state(operator, "Serving", more.len()).await?;
    let push = json!({"spec": {"minReadySeconds": 7200, "progressDeadlineSeconds": 14400,
        "template": {"metadata": {"labels": {"version": "v2"}}}}});
    let patches = stream::iter(more).map(|number| {
        let api = shared::api(client, "apps/v1", "Deployment", "deployments", Some(&space_of(number)));
        let push = &push;
        async move { api.patch(&name_of(number), &PatchParams::default(), &Patch::Merge(push)).await.map(|_| ()) }
    });
    patches.buffer_unordered(32).try_for_each(|()| async { Ok(()) }).await?;
    shared::all_run(client, 4 * total, PATIENCE).await?;
    in_state(operator, "Judging", total).await?;
    let pods = shared::api(client, "v1", "Pod", "pods", None);
    let list = pods.list_metadata(&ListParams::default().labels("bench=tick")).await?;
    let lines = list
        .items
        .into_iter()
        .map(|pod| json!({"namespace": pod.metadata.namespace, "pod": pod.metadata.name, "rate": 10.0}));
    let lines: Vec<Value> = lines.collect();
    reqwest::Client::new().post(format!("{crowd}/pods")).json(&lines).send().await?.error_for_status()?;
    // Signals that were not there when first looked for are looked for again after 15 s.
    tokio::time::sleep(Duration::from_secs(25)).await;
    Ok(started.elapsed().as_secs_f64())
}

async fn in_state(operator: &Operator, state: &str, wanted: usize) -> Result<()> {
    let series = format!("deployment_guard_guards{{state=\"{state}\"}}");
    let wanted_text = format!("{wanted} guards in state {state}");
    let look = async || match operator.metric(&series).await {
        Ok(found) if found.round() >= f64::from(u32::try_from(wanted).unwrap_or(u32::MAX)) => Ok(()),
        Ok(found) => Err(found.to_string()),
        Err(error) => Err(error.to_string()),
    };
    Ok(wait_for(&wanted_text, PATIENCE, look).await?)
}

/// Readings of counters at one moment.
struct Counts {
    at: Instant,
    cpu: f64,
    looks: f64,
    asked: f64,
    failed: f64,
    answered: f64,
    requests: f64,
}

impl Counts {
    async fn read(cluster: &Cluster, client: &Client, operator: &Operator) -> Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let server = client.request_text(request).await?;
        let url = format!("{}/metrics", cluster.prometheus_url());
        let prometheus = reqwest::get(url).await?.text().await?;
        let queries = "deployment_guard_prometheus_queries_total";
        let asked = operator.metric(queries).await?;
        let good = operator.metric(&format!("{queries}{{outcome=\"success\"")).await?
            + operator.metric(&format!("{queries}{{outcome=\"ok\"")).await?;
        Ok(Self {
            at: Instant::now(),
            cpu: operator.cpu()?,
            looks: operator.metric("deployment_guard_reconcile_seconds_count").await?,
            asked,
            failed: asked - good,
            answered: shared::sum(&prometheus, &["prometheus_http_requests_total", "handler=\"/api/v1/query_range\""]),
            requests: shared::sum(&server, &["apiserver_request_total"]),
        })
    }
}

/// What one size showed.
struct Found {
    guards: usize,
    judging: f64,
    looks: f64,
    wanted: f64,
    cpu_ms: f64,
    core: f64,
    asked: f64,
    failed: f64,
    answered: f64,
    requests: f64,
    memory: f64,
}

impl Found {
    const HEADS: [&'static str; 10] = [
        "guards",
        "judging",
        "evaluations of those wanted",
        "CPU ms an evaluation",
        "CPU % of a core",
        "queries a tick",
        "of them failed",
        "range queries a tick, as Prometheus counts",
        "API requests/s",
        "RSS MiB",
    ];

    fn row(&self) -> Vec<String> {
        vec![
            self.guards.to_string(),
            format!("{:.0}", self.judging),
            format!("{:.0} of {:.0}", self.looks, self.wanted),
            format!("{:.2}", self.cpu_ms),
            format!("{:.1}", self.core),
            format!("{:.1}", self.asked),
            format!("{:.1}", self.failed),
            format!("{:.1}", self.answered),
            format!("{:.1}", self.requests),
            format!("{:.1}", self.memory),
        ]
    }

    fn json(&self) -> Value {
        json!({"guards": self.guards, "judging": self.judging, "evaluations": self.looks, "evaluationsWanted": self.wanted,
            "cpuMsPerEvaluation": self.cpu_ms, "cpuPercentOfCore": self.core, "queriesPerTick": self.asked,
            "failedPerTick": self.failed, "rangeQueriesPerTickByPrometheus": self.answered,
            "apiRequestsPerSecond": self.requests, "rssMiB": self.memory})
    }
}

async fn measure(cluster: &Cluster, client: &Client, operator: &Operator, guards: usize) -> Result<Found> {
    let before = Counts::read(cluster, client, operator).await?;
    tokio::time::sleep(MEASURED).await;
    let after = Counts::read(cluster, client, operator).await?;
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let ticks = seconds / f64::from(INTERVAL);
    let (cpu, looks) = (after.cpu - before.cpu, after.looks - before.looks);
    Ok(Found {
        guards,
        judging: operator.metric("deployment_guard_guards{state=\"Judging\"}").await?,
        looks,
        wanted: ticks * f64::from(u32::try_from(guards)?),
        cpu_ms: 1000.0 * cpu / looks.max(1.0),
        core: 100.0 * cpu / seconds,
        asked: (after.asked - before.asked) / ticks,
        failed: (after.failed - before.failed) / ticks,
        answered: (after.answered - before.answered) / ticks,
        requests: (after.requests - before.requests) / seconds,
        memory: operator.memory("VmRSS")?,
    })
}

fn name_of(number: usize) -> String {
    format!("api-{number:04}")
}

fn deployment(number: usize) -> Value {
    let labels = json!({"app": name_of(number), "bench": "tick", "version": "v1"});
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name_of(number), "namespace": space_of(number)},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name_of(number)}},
            "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}},
            "template": {"metadata": {"labels": labels}, "spec": {
                "nodeSelector": {"type": "kwok"},
                "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
                "containers": [{"name": "app", "image": "app:v1", "resources": {"limits": {"memory": "64Mi"}}}]}}}})
}

fn guard(number: usize) -> Value {
    json!({"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard",
        "metadata": {"name": name_of(number), "namespace": space_of(number)},
        "spec": {"targetRef": {"name": name_of(number)},
            "analysis": {"interval": format!("{INTERVAL}s"), "warmup": "1s", "window": "1h"}}})
}
