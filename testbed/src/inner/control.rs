//! The socket in the work folder through which tests, the demo and people stop and start components.
//! One line in, one line out: `ok`, or `error: …`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::fleet::Fleet;
use super::{components, image_registry, prometheus, startup};

const SOCKET: &str = "control.sock";

/// A node that only kwok manages, with a taint that keeps ordinary pods away.
const KWOK_NODE: &str = "---
apiVersion: v1
kind: Node
metadata:
  name: @NAME@
  annotations: {kwok.x-k8s.io/node: fake}
  labels: {type: kwok, kubernetes.io/hostname: @NAME@}
spec:
  taints: [{key: kwok.x-k8s.io/node, value: fake, effect: NoSchedule}]
";

/// Answers requests until the cluster ends.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve(fleet: Fleet) -> Result<()> {
    let listener = UnixListener::bind(fleet.dir().join(SOCKET)).context("cannot make the control socket")?;
    loop {
        let (stream, _) = listener.accept().await?;
        let fleet = fleet.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(stream, &fleet).await {
                eprintln!("testbed: a control request was broken off: {error:#}");
            }
        });
    }
}

async fn answer(stream: UnixStream, fleet: &Fleet) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let line = BufReader::new(read).lines().next_line().await?.unwrap_or_default();
    let reply = match obey(&line, fleet).await {
        Ok(()) => "ok\n".to_owned(),
        Err(error) => format!("error: {}\n", format!("{error:#}").replace('\n', " ")),
    };
    Ok(write.write_all(reply.as_bytes()).await?)
}

async fn obey(line: &str, fleet: &Fleet) -> Result<()> {
    let words: Vec<&str> = line.splitn(2, ' ').collect();
    match words.as_slice() {
        ["stop", name] => stop(fleet, name).await,
        ["start", name] => start(fleet, name).await,
        ["restart", name] => {
            stop(fleet, name).await?;
            start(fleet, name).await
        }
        ["kwok", nodes] => kwok(fleet, nodes).await,
        ["import", file] => startup::import(fleet, Path::new(file)).await,
        _ => bail!("unknown request `{line}`"),
    }
}

async fn stop(fleet: &Fleet, name: &str) -> Result<()> {
    match name {
        prometheus::NAME => startup::stop_prometheus(fleet).await,
        _ => fleet.stop(name).await,
    }
}

async fn start(fleet: &Fleet, name: &str) -> Result<()> {
    if name == prometheus::NAME {
        return startup::start_prometheus(fleet).await;
    }
    if name == components::KUSTOMIZE_CONTROLLER && !fleet.dir().join("bin").join(name).exists() {
        bail!("{name} is not built, start the cluster with `testbed run --with flux`");
    }
    fleet.start(name)?;
    if let Some(node) = fleet.nodes().iter().find(|node| node.containerd == name) {
        return startup::containerd_ready(fleet, node).await;
    }
    if let Some(node) = fleet.nodes().iter().find(|node| node.kubelet == name) {
        return startup::node_ready(fleet, node).await;
    }
    match name {
        "kube-apiserver" => startup::api_server_ready(fleet).await,
        components::KUSTOMIZE_CONTROLLER => startup::listens(name, components::FLUX_HEALTH).await,
        image_registry::NAME => startup::listens(name, &image_registry::address()).await,
        _ => Ok(()),
    }
}

/// Makes the nodes and starts kwok, which calls them ready.
async fn kwok(fleet: &Fleet, nodes: &str) -> Result<()> {
    let nodes: u32 = nodes.parse().context("the number of nodes is not a number")?;
    if nodes == 0 || nodes > 1000 {
        bail!("between 1 and 1000 nodes, not {nodes}");
    }
    let mut list = String::new();
    for node in 1..=nodes {
        list.push_str(&KWOK_NODE.replace("@NAME@", &format!("kwok-{node}")));
    }
    let file = fleet.dir().join("kwok-nodes.yaml");
    tokio::fs::write(&file, list).await?;
    startup::kubectl(fleet.dir(), &["apply", "-f", &file.to_string_lossy()]).await?;
    if !fleet.runs("kwok") {
        fleet.start("kwok")?;
    }
    let wait = ["wait", "--for=condition=Ready", "node", "-l", "type=kwok", "--timeout=60s"];
    startup::kubectl(fleet.dir(), &wait).await.map(|_| ())
}

/// Sends one request to the cluster whose work folder is `dir`.
///
/// # Errors
/// When there is no cluster, or with its refusal.
pub async fn request(dir: &Path, line: &str) -> Result<()> {
    let stream = UnixStream::connect(dir.join(SOCKET))
        .await
        .with_context(|| format!("no cluster answers in {}", dir.display()))?;
    let (read, mut write) = stream.into_split();
    write.write_all(format!("{line}\n").as_bytes()).await?;
    let reply = BufReader::new(read).lines().next_line().await?;
    match reply.as_deref() {
        Some("ok") => Ok(()),
        Some(refusal) => bail!("{}", refusal.strip_prefix("error: ").unwrap_or(refusal)),
        None => bail!("the cluster ended before it answered `{line}`"),
    }
}
