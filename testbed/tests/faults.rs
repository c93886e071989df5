//! Everything that can be wrong with a release really happens: the kubelet itself says so. Starts a cluster and runs its
//! ignored half inside. Needs root, a built testbed and its images (`make test`).
#![allow(clippy::expect_used, clippy::panic)]

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::cluster::{Cluster, Component, wait_for};
use testbed::shop::{Kind, Shop};

#[test]
fn every_fault_is_called_by_its_name_by_the_kubelet() {
    let status = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args(["run", "--"])
        .arg(std::env::current_exe().expect("test program"))
        .args(["--ignored", "--exact", "--nocapture", "inside_every_fault_is_called_by_its_name"])
        .env_remove("TESTBED_DIR")
        .status()
        .expect("testbed starts");
    assert!(status.success(), "failed inside: {status}");
}

/// A release, and the words that pods or events must have for it.
type Fault = (Shop, &'static [&'static str]);

fn faults() -> Vec<Fault> {
    let shop = |name: &str| Shop::new("faults", name).replicas(1);
    vec![
        (
            shop("exits").fault("EXIT_AFTER_S", "0").fault("EXIT_CODE", "7"),
            &["terminated Error 7", "CrashLoopBackOff", "BackOff"],
        ),
        (shop("eats").fault("OOM_AFTER_S", "1"), &["terminated OOMKilled 137"]),
        (shop("unknown").version("v99").from_registry("Always"), &["ErrImagePull", "not found"]),
        (shop("unset").env_from_missing_key(), &["CreateContainerConfigError"]),
        (shop("lacking").with_container(&json!({"command": ["/missing"]})), &["/missing"]),
        (shop("hangs").liveness_probe().fault("LIVENESS_FAILS_AFTER_S", "2"), &["Unhealthy", "Killing"]),
        (shop("migrates").init_container(5), &["migrate terminated Error 5"]),
        (shop("proxied").failing_sidecar(), &["proxy terminated Error 3"]),
        (shop("hooked").failing_hook(), &["FailedPostStartHook", "PostStartHookError"]),
        (shop("unmounted").volume_of_missing_config_map(), &["FailedMount"]),
        (shop("never").fault("NEVER_READY", "true"), &["Readiness probe failed", "503"]),
        (shop("twice").exits_at_start(2), &["shop restarts 2 ready"]),
        (shop("waits").fault("DEPENDENCY_URL", "http://nobody/").fault("EXIT_UNTIL_DEPENDENCY", "1"), &["Error 1"]),
        (shop("set").kind(Kind::StatefulSet).fault("EXIT_AFTER_S", "0"), &["Error 1"]),
        (shop("daemon").kind(Kind::DaemonSet).exits_on_node("node-1"), &["Error 1"]),
    ]
}

#[tokio::test]
#[ignore = "runs inside a cluster, see above"]
async fn inside_every_fault_is_called_by_its_name() {
    let cluster = Cluster::join().expect("inside a testbed");
    cluster.start(Component::ImageRegistry).await.expect("registry");
    let faults = faults();
    for (shop, _) in &faults {
        shop.deploy(&cluster).await.expect("deployed");
    }
    for (shop, words) in &faults {
        let mut missing: Vec<&str> = words.to_vec();
        // States come and go: each word must have been seen once.
        let look = async || {
            let seen = seen(&cluster, &shop.name).await?;
            missing.retain(|word| !seen.contains(word));
            if missing.is_empty() { Ok(()) } else { Err(format!("no {missing:?} in\n{seen}")) }
        };
        wait_for(&shop.name, Duration::from_mins(1), look).await.expect("the fault");
    }
}

/// A line for each state of a container and for each event of a shop's pods.
async fn seen(cluster: &Cluster, app: &str) -> Result<String, String> {
    let read = async |arguments: &[&str]| -> Result<Value, String> {
        let text = cluster.kubectl(arguments).await.map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    };
    let pods = read(&["-n", "faults", "get", "pods", "-o", "json", "-l", &format!("app={app}")]).await?;
    let mut lines = Vec::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let of = |field: &str| pod["status"][field].as_array().cloned().unwrap_or_default();
        for container in of("initContainerStatuses").into_iter().chain(of("containerStatuses")) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let name = text(&container["name"]);
            for state in [&container["state"], &container["lastState"]] {
                let (waits, ended) = (&state["waiting"], &state["terminated"]);
                lines.push(format!("{name} waiting {} {}", text(&waits["reason"]), text(&waits["message"])));
                lines.push(format!("{name} terminated {} {}", text(&ended["reason"]), ended["exitCode"]));
                lines.push(text(&ended["message"]));
            }
            let ready = if container["ready"] == true { "ready" } else { "unready" };
            lines.push(format!("{name} restarts {} {ready}", container["restartCount"]));
        }
    }
    let events = read(&["-n", "faults", "get", "events", "-o", "json"]).await?;
    for event in events["items"].as_array().into_iter().flatten() {
        if event["involvedObject"]["name"].as_str().is_some_and(|name| name.starts_with(&format!("{app}-"))) {
            lines.push(format!("event {} {}", event["reason"], event["message"]).replace('"', ""));
        }
    }
    Ok(lines.join("\n"))
}
