//! Brings the components up in an order that wastes no time, and waits for each with a deadline that names it.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::fleet::Fleet;
use super::nodes::Node;
use super::prometheus;

/// How long a component may take; a machine that compiles at the same time is slow.
const PATIENCE: Duration = Duration::from_secs(90);

/// Starts everything and returns when every node is ready and Prometheus answers.
///
/// # Errors
/// When a component is not ready in time; the message names it.
pub async fn bring_up(fleet: &Fleet, images: &[std::path::PathBuf]) -> Result<()> {
    fleet.start("etcd")?;
    fleet.nodes().iter().try_for_each(|node| fleet.start(node.containerd))?;
    fleet.start("kube-apiserver")?;
    tokio::try_join!(control_plane(fleet), images_ready(fleet, images))?;
    fleet.nodes().iter().try_for_each(|node| fleet.start(node.kubelet))?;
    fleet.start("kube-proxy")?;
    fleet.start("coredns")?;
    start_servers(fleet)?;
    let services = fleet.dir().join("services.yaml");
    let services = services.to_string_lossy();
    kubectl(fleet.dir(), &["create", "-f", &services]).await.context("cannot create the services of the cluster")?;
    tokio::try_join!(nodes_ready(fleet), prometheus_answers(fleet), default_account(fleet))?;
    Ok(())
}

async fn control_plane(fleet: &Fleet) -> Result<()> {
    api_server_ready(fleet).await?;
    fleet.start("kube-controller-manager")?;
    fleet.start("kube-scheduler")
}

/// Waits for the API server to call itself ready.
///
/// # Errors
/// When it does not in time.
pub async fn api_server_ready(fleet: &Fleet) -> Result<()> {
    listens("kube-apiserver", "10.244.0.1:6443").await?;
    until("kube-apiserver", || async { kubectl(fleet.dir(), &["get", "--raw=/readyz"]).await.map(|_| ()) }).await
}

/// Starts Prometheus, one or several, and waits until it answers.
///
/// # Errors
/// When it runs already or does not answer.
pub async fn start_prometheus(fleet: &Fleet) -> Result<()> {
    start_servers(fleet)?;
    prometheus_answers(fleet).await
}

/// Stops whatever answers as Prometheus, first that which clients ask.
///
/// # Errors
/// When it does not run.
pub async fn stop_prometheus(fleet: &Fleet) -> Result<()> {
    fleet.stop(prometheus::NAME).await?;
    for server in replicas(fleet) {
        fleet.stop(server.name).await?;
    }
    Ok(())
}

/// The servers behind the one that clients ask; none if that is the only one.
fn replicas(fleet: &Fleet) -> Vec<prometheus::Server> {
    let several = prometheus::servers(u16::MAX).into_iter();
    several.filter(|server| fleet.has(server.name)).collect()
}

fn start_servers(fleet: &Fleet) -> Result<()> {
    let replicas = replicas(fleet);
    if replicas.is_empty() {
        return fleet.start(prometheus::NAME);
    }
    replicas.iter().try_for_each(|server| fleet.start(server.name))
}

async fn prometheus_answers(fleet: &Fleet) -> Result<()> {
    for server in replicas(fleet) {
        listens(server.name, &server.address).await?;
    }
    // With several servers this is the one that asks them, which must not find them away.
    if !fleet.runs(prometheus::NAME) {
        fleet.start(prometheus::NAME)?;
    }
    listens(prometheus::NAME, &prometheus::address()).await
}

async fn nodes_ready(fleet: &Fleet) -> Result<()> {
    for node in fleet.nodes() {
        node_ready(fleet, node).await?;
    }
    Ok(())
}

/// Waits until the API calls a node ready.
///
/// # Errors
/// When it does not in time.
pub async fn node_ready(fleet: &Fleet, node: &Node) -> Result<()> {
    until(&format!("{} ({})", node.kubelet, node.name), || async {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        let ready = kubectl(fleet.dir(), &["get", "node", node.name, "-o", path]).await?;
        if ready == "True" { Ok(()) } else { bail!("{} is not ready", node.name) }
    })
    .await
}

/// Pods are refused before the controllers have made the namespace's account.
async fn default_account(fleet: &Fleet) -> Result<()> {
    until("kube-controller-manager (service account `default`)", || async {
        kubectl(fleet.dir(), &["get", "serviceaccount", "default"]).await.map(|_| ())
    })
    .await
}

async fn images_ready(fleet: &Fleet, images: &[std::path::PathBuf]) -> Result<()> {
    for node in fleet.nodes() {
        containerd_ready(fleet, node).await?;
    }
    for image in images {
        import(fleet, image).await?;
    }
    Ok(())
}

/// Waits until a node's containerd answers.
///
/// # Errors
/// When it does not in time.
pub async fn containerd_ready(fleet: &Fleet, node: &Node) -> Result<()> {
    until(node.containerd, || async { ctr(fleet, node, &["version"]).await.map(|_| ()) }).await
}

/// Makes an archive's images known to every node whose containerd runs.
///
/// # Errors
/// When containerd refuses it.
pub async fn import(fleet: &Fleet, image: &Path) -> Result<()> {
    let file = image.to_string_lossy();
    for node in fleet.nodes().iter().filter(|node| fleet.runs(node.containerd)) {
        ctr(fleet, node, &["-n", "k8s.io", "images", "import", "--local", &file])
            .await
            .with_context(|| format!("cannot import the image {file} on {}", node.name))?;
    }
    Ok(())
}

async fn ctr(fleet: &Fleet, node: &Node, arguments: &[&str]) -> Result<String> {
    let (program, arguments) = node.command("ctr", arguments.iter().map(|&argument| argument.to_owned()).collect());
    run(fleet.dir(), &program, &arguments).await
}

/// Waits until something listens.
///
/// # Errors
/// When nothing does in time.
pub async fn listens(name: &str, address: &str) -> Result<()> {
    until(name, || async { Ok(TcpStream::connect(address).await.map(|_| ())?) }).await
}

async fn until<F: Future<Output = Result<()>>>(what: &str, check: impl Fn() -> F) -> Result<()> {
    let started = Instant::now();
    loop {
        let Err(error) = check().await else {
            return Ok(());
        };
        if started.elapsed() > PATIENCE {
            bail!("{what} is not ready after {} s: {error:#}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs kubectl as the cluster's administrator.
///
/// # Errors
/// With what it printed, when it fails.
pub async fn kubectl(dir: &Path, arguments: &[&str]) -> Result<String> {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    run(dir, &dir.join("bin/kubectl"), &arguments).await
}

async fn run(dir: &Path, program: &Path, arguments: &[String]) -> Result<String> {
    let shown = program.file_name().unwrap_or_default().to_string_lossy();
    let command = Command::new(program)
        .args(arguments)
        .env("KUBECONFIG", dir.join("kubeconfig"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_mins(1), command)
        .await
        .with_context(|| format!("{shown} did not end within 60 s"))?
        .with_context(|| format!("cannot start {shown}"))?;
    if !output.status.success() {
        bail!("{shown} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
