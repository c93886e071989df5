//! The library on a real cluster: the shop is deployed, driven, measured and broken. Each test starts a cluster and
//! runs its ignored half inside. Needs root and a built testbed (`make test`).
#![allow(clippy::expect_used, clippy::panic)]

use std::process::Command;
use std::time::Duration;

use testbed::cluster::{Cluster, Component, wait_for};
use testbed::shop::{Load, Shop};

fn inside(test: &str) {
    inside_of(&[], test);
}

fn inside_of(options: &[&str], test: &str) {
    let status = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .arg("run")
        .args(options)
        .arg("--")
        .arg(std::env::current_exe().expect("test program"))
        .args(["--ignored", "--exact", "--nocapture", test])
        .env_remove("TESTBED_DIR")
        .status()
        .expect("testbed starts");
    assert!(status.success(), "{test} failed inside: {status}");
}

/// One number out of Prometheus.
async fn prometheus(cluster: &Cluster, query: &str) -> Result<f64, String> {
    let series = cluster.query(query).await.map_err(|error| error.to_string())?;
    let first = series.first().ok_or("no series")?;
    let value = first["value"][1].as_str().unwrap_or_default();
    value.parse().map_err(|_| value.to_owned())
}

#[test]
fn a_shop_is_deployed_driven_and_seen_by_prometheus() {
    inside("inside_a_shop_is_deployed_driven_and_seen");
}

#[test]
fn components_are_stopped_and_started_without_ending_the_cluster() {
    inside("inside_components_are_stopped_and_started");
}

#[test]
fn two_prometheus_servers_answer_in_turn_at_one_address() {
    inside_of(&["--prometheus-replicas", "2"], "inside_two_prometheus_servers_answer_in_turn");
}

#[test]
fn a_second_node_serves_is_lost_and_comes_back_and_images_come_from_a_registry() {
    inside_of(&["--nodes", "2"], "inside_a_second_node_and_a_registry");
}

#[tokio::test]
#[ignore = "runs inside a cluster, see above"]
async fn inside_a_second_node_and_a_registry() {
    let cluster = Cluster::join().expect("inside a testbed");
    cluster.start(Component::ImageRegistry).await.expect("registry");
    let shop = Shop::new("demo", "shop").replicas(2).from_registry("Always").over_both_nodes();
    shop.deploy(&cluster).await.expect("deployed");
    shop.rolled_out(&cluster, Duration::from_mins(1)).await.expect("rolled out");
    let nodes = ["-n", "demo", "get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"];
    let nodes = cluster.kubectl(&nodes).await.expect("pods");
    assert!(nodes.contains("node-1") && nodes.contains("node-2"), "{nodes}");
    let logs = cluster.kubectl(&["-n", "demo", "logs", "-l", "app=shop"]).await.expect("logs of both nodes");
    assert_eq!(logs.matches("listening").count(), 2, "{logs}");
    Shop::new("demo", "other").version("v9").from_registry("Always").deploy(&cluster).await.expect("deployed");
    pulls_fail_with(&cluster, "registry.test/shop:v9: not found").await;
    cluster.stop(Component::ImageRegistry).await.expect("stopped");
    shop.clone().version("v2").deploy(&cluster).await.expect("deployed");
    pulls_fail_with(&cluster, "connection refused").await;
    cluster.start(Component::ImageRegistry).await.expect("started");
    shop.rolled_out(&cluster, Duration::from_mins(1)).await.expect("rolled out after all");
    cluster.stop(Component::SecondKubelet).await.expect("stopped");
    cluster.stop(Component::SecondContainerd).await.expect("stopped");
    let wait = ["wait", "--for=condition=Ready=Unknown", "node/node-2", "--timeout=40s"];
    cluster.kubectl(&wait).await.expect("lost");
    cluster.start(Component::SecondContainerd).await.expect("started");
    cluster.start(Component::SecondKubelet).await.expect("ready again");
}

async fn pulls_fail_with(cluster: &Cluster, words: &str) {
    let look = async || {
        let messages = ["-n", "demo", "get", "events", "-o", "jsonpath={.items[*].message}"];
        let messages = cluster.kubectl(&messages).await.map_err(|error| error.to_string())?;
        if messages.contains(words) { Ok(()) } else { Err(messages) }
    };
    wait_for(words, Duration::from_secs(30), look).await.expect("a failed pull");
}

#[tokio::test]
#[ignore = "runs inside a cluster, see above"]
async fn inside_two_prometheus_servers_answer_in_turn() {
    let cluster = Cluster::join().expect("inside a testbed");
    let instance = async || -> Result<String, String> {
        let series = cluster.query(r#"up{job="prometheus"}"#).await.map_err(|error| error.to_string())?;
        let first = series.first().ok_or("no series")?;
        Ok(first["metric"]["instance"].to_string())
    };
    let turns = async || {
        let seen = [instance().await?, instance().await?, instance().await?];
        if seen[0] != seen[1] && seen[0] == seen[2] { Ok(()) } else { Err(format!("{seen:?}")) }
    };
    let limit = Duration::from_secs(30);
    wait_for("two servers in turn", limit, turns).await.expect("in turn");
    cluster.stop(Component::Prometheus).await.expect("stopped");
    assert!(instance().await.is_err(), "somebody still answers");
    cluster.start(Component::Prometheus).await.expect("started");
    wait_for("two servers in turn again", limit, turns).await.expect("in turn again");
}

#[tokio::test]
#[ignore = "runs inside a cluster, see above"]
async fn inside_a_shop_is_deployed_driven_and_seen() {
    let cluster = Cluster::join().expect("inside a testbed");
    let shop = Shop::new("demo", "shop").replicas(2);
    shop.deploy(&cluster).await.expect("deployed");
    shop.rolled_out(&cluster, Duration::from_mins(1)).await.expect("rolled out");
    let load =
        Load { name: "load".to_owned(), namespace: "demo".to_owned(), target: shop.url(), rate: 40, duration_s: 60 };
    load.start(&cluster).await.expect("started");
    let second = Duration::from_secs(30);
    let busy = async || {
        let report = load.report(&cluster).await.map_err(|error| error.to_string())?;
        if report["ok"].as_u64() >= Some(30) { Ok(()) } else { Err(report.to_string()) }
    };
    wait_for("thirty good answers in a second", second, busy).await.expect("busy");
    let query = r#"count(http_requests_total{namespace="demo",code="200"})"#;
    let both = async || match prometheus(&cluster, query).await {
        Ok(found) if found >= 2.0 => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for("the counters of two pods in Prometheus", second, both).await.expect("scraped");
    let query = r#"count(container_memory_working_set_bytes{namespace="demo",container="shop"})"#;
    let both = async || match prometheus(&cluster, query).await {
        Ok(found) if found >= 2.0 => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for("the memory of two containers in Prometheus", second, both).await.expect("scraped");
    let bad = shop.clone().version("v2").fault("ERROR_RATE", "1");
    bad.deploy(&cluster).await.expect("deployed");
    let broken = async || {
        let report = load.report(&cluster).await.map_err(|error| error.to_string())?;
        let errors = report["by_version"]["v2"]["errors"].as_u64();
        if errors > Some(0) { Ok(()) } else { Err(report.to_string()) }
    };
    wait_for("errors from v2", second, broken).await.expect("broken");
    load.stop(&cluster).await.expect("stopped");
}

#[tokio::test]
#[ignore = "runs inside a cluster, see above"]
async fn inside_components_are_stopped_and_started() {
    let cluster = Cluster::join().expect("inside a testbed");
    let answers = async || prometheus(&cluster, "count(up)").await;
    let limit = Duration::from_secs(20);
    wait_for("prometheus", limit, answers).await.expect("prometheus answers");
    cluster.stop(Component::Prometheus).await.expect("stopped");
    prometheus(&cluster, "count(up)").await.expect_err("prometheus is stopped");
    let twice = cluster.stop(Component::Prometheus).await.expect_err("stopped already");
    assert!(twice.to_string().contains("prometheus does not run"), "{twice}");
    cluster.start(Component::Prometheus).await.expect("started");
    let answers = async || prometheus(&cluster, "count(up)").await;
    wait_for("prometheus", Duration::from_secs(20), answers).await.expect("prometheus answers again");
    cluster.restart(Component::ApiServer).await.expect("restarted");
    cluster.kubectl(&["get", "nodes"]).await.expect("the API server answers again");
    cluster.start_kwok(3).await.expect("nodes");
    let nodes = cluster.kubectl(&["get", "nodes", "-o", "name"]).await.expect("nodes");
    assert_eq!(nodes.lines().count(), 4, "{nodes}");
}
