//! Memory and time of the first list: 5,000 pods of about 15 KB, from the real API server to the release binary.
//!
//! Pods are written straight with their node and owner while the controller manager is stopped: the watch reads what
//! stands in a pod, not who made it. Their status comes from kwok.

mod shared;

use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use kube::api::ListParams;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, Component};

use shared::Operator;

const PODS: usize = 5000;
const OWNERS: usize = 500;
const NODES: usize = 50;
const REPEATS: usize = 3;
const GOAL: f64 = 40.0;

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = Cluster::join().context("run this with make bench")?;
    let client = Client::try_default().await?;
    shared::install(&cluster).await?;
    cluster.start_kwok(u32::try_from(NODES)?).await?;
    shared::namespace(&cluster, "crowd").await?;
    let nodes = nodes(&client).await?;

    let mut rows = vec![measure("few", &shared::SHIPPED, 1).await?];
    cluster.stop(Component::ControllerManager).await?;
    shared::create(&client, "pods", (0..PODS).map(|number| pod(number, &nodes[number % nodes.len()]))).await?;
    shared::all_run(&client, PODS, Duration::from_mins(3)).await?;
    let size = size(&client).await?;
    rows.push(measure("5,000", &shared::SHIPPED, REPEATS).await?);
    rows.push(measure("5,000, the allocator's defaults", &[], REPEATS).await?);
    cluster.start(Component::ControllerManager).await?;

    let conditions = vec![
        format!("{PODS} pods of {OWNERS} owners on {NODES} kwok nodes; a pod is {size:.1} KB as JSON"),
        format!("medians of {REPEATS} starts; memory in MiB, from /proc; goal: peak at most {GOAL} MiB"),
        "streaming list; the list in pages of 50 is not measured here".to_owned(),
    ];
    let heads = ["pods", "s to the first list", "peak RSS", "RSS after 5 s", "of it anonymous", "of it the binary"];
    let text = |row: &(String, [f64; 5])| {
        std::iter::once(row.0.clone()).chain(row.1.iter().map(|value| format!("{value:.1}"))).collect()
    };
    let table: Vec<Vec<String>> = rows.iter().map(text).collect();
    let json = rows.iter().map(|(pods, [seconds, peak, rss, anonymous, file])| {
        json!({"pods": pods, "secondsToFirstList": seconds, "peakMiB": peak, "rssMiB": rss, "anonymousMiB": anonymous, "fileMiB": file})
    });
    shared::publish("watch", &conditions, &heads, &table, &json.collect())
}

/// Medians over several starts of the operator.
async fn measure(what: &str, env: &[(&str, &str)], repeats: usize) -> Result<(String, [f64; 5])> {
    let mut seen: [Vec<f64>; 5] = Default::default();
    for _ in 0..repeats {
        let operator = Operator::start(env)?;
        let seconds = operator.ready().await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let found = [
            seconds,
            operator.memory("VmHWM")?,
            operator.memory("VmRSS")?,
            operator.memory("RssAnon")?,
            operator.memory("RssFile")?,
        ];
        for (values, value) in seen.iter_mut().zip(found) {
            values.push(value);
        }
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Ok((what.to_owned(), seen.map(median)))
}

async fn nodes(client: &Client) -> Result<Vec<String>> {
    let nodes = shared::api(client, "v1", "Node", "nodes", None);
    let list = nodes.list_metadata(&ListParams::default().labels("type=kwok")).await?;
    Ok(list.items.into_iter().filter_map(|node| node.metadata.name).collect())
}

/// Mean size of a pod as the API server sends it, in KB.
async fn size(client: &Client) -> Result<f64> {
    let pods = shared::api(client, "v1", "Pod", "pods", Some("crowd"));
    let list = pods.list(&ListParams::default().limit(20)).await?;
    let bytes: usize = list.items.iter().filter_map(|pod| serde_json::to_vec(pod).ok()).map(|text| text.len()).sum();
    Ok(f64::from(u32::try_from(bytes)?) / f64::from(u32::try_from(list.items.len().max(1))?) / 1000.0)
}

/// A pod as platforms make them: much environment, a sidecar, annotations of several tools.
fn pod(number: usize, node: &str) -> Value {
    let owner = number % OWNERS;
    let (hash, name) = (format!("{owner:010x}"), format!("service-{owner:03}"));
    let set = format!("{name}-{hash}");
    let env = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|i| json!({"name": format!("SETTING_NUMBER_{i:02}"), "value": format!("https://service-{i}.{name}.svc.cluster.local:8443/v1/{}", "x".repeat(30))}))
            .collect()
    };
    let container = |container: &str, settings| {
        json!({"name": container, "image": format!("registry.example.com/team/{container}@sha256:{}", "ab".repeat(32)), "env": env(settings),
            "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 5}})
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{set}-{number:05}"), "namespace": "crowd",
            "labels": {"app": name, "pod-template-hash": hash, "team": "payments", "app.kubernetes.io/part-of": "shop"},
            "annotations": {"sidecar.example.com/status": "{\"x\":1}".repeat(300), "checksum/config": "cd".repeat(32)},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "controller": true,
                "uid": format!("00000000-0000-4000-8000-{owner:012}")}],
        },
        "spec": {"nodeName": node, "tolerations": [{"operator": "Exists"}],
            "containers": [container("app", 30), container("sidecar", 15)]},
    })
}
