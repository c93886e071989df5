//! Git as Flux sees it, without a Git server: an archive over HTTP, and a `GitRepository` that points to it.
//!
//! Role: what a push means to kustomize-controller. Inputs: manifests. Outputs: an artifact of a new revision.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::Component;
use testbed::shop::Shop;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::scene::Scene;

/// The node's address: Flux runs as a process, and pods reach it too.
const NODE: &str = "10.244.0.1";
/// The `GitRepository` and the Kustomization of a test.
pub const NAME: &str = "shop";

type Archives = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A repository that Flux applies to a test's namespace every few seconds.
pub struct Git {
    scene: Scene,
    archives: Archives,
    address: String,
    server: JoinHandle<()>,
}

impl Drop for Git {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Git {
    /// A repository with one revision, applied.
    pub async fn with(scene: &Scene, first: &Shop) -> Result<Self> {
        start_flux(scene).await?;
        let listener = TcpListener::bind((NODE, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let archives = Archives::default();
        let server = tokio::spawn(serve(listener, archives.clone()));
        let git = Self { scene: scene.clone(), archives, address, server };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": scene.namespace}});
        scene.cluster.apply(&namespace.to_string()).await?;
        scene.cluster.apply(&first.service().to_string()).await?;
        let source = json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": {"name": NAME, "namespace": scene.namespace},
            "spec": {"interval": "1h", "url": "https://git.example/shop"},
        });
        let kustomization = json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": NAME, "namespace": scene.namespace},
            "spec": {
                "interval": "4s", "retryInterval": "4s", "prune": false, "path": "./",
                "sourceRef": {"kind": "GitRepository", "name": NAME},
            },
        });
        scene.cluster.apply(&source.to_string()).await?;
        git.push(first, "main@sha1:1").await?;
        scene.cluster.apply(&kustomization.to_string()).await?;
        let look = async || {
            let deployment = scene.deployment().await.map_err(|error| format!("{error:#}"))?;
            let label = &deployment.0["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"];
            if label == NAME { Ok(()) } else { Err("somebody else's Deployment".to_owned()) }
        };
        testbed::cluster::wait_for("Flux to apply the first revision", crate::scene::PATIENCE, look).await?;
        Ok(git)
    }

    /// Pushes a release as a new revision.
    pub async fn push(&self, shop: &Shop, revision: &str) -> Result<()> {
        let folder = tempfile::tempdir()?;
        // JSON is YAML.
        std::fs::write(folder.path().join("shop.yaml"), shop.workload().to_string())?;
        let path = folder.path().to_string_lossy().into_owned();
        let archive = printed("tar", &["-C", &path, "-czf", "-", "shop.yaml"]).await?;
        std::fs::write(folder.path().join("archive"), &archive)?;
        let sum = printed("sha256sum", &[&format!("{path}/archive")]).await?;
        let digest = String::from_utf8_lossy(&sum).split(' ').next().unwrap_or_default().to_owned();
        let file = format!("{digest}.tar.gz");
        let now = String::from_utf8(printed("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]).await?)?.trim().to_owned();
        let status = json!({"status": {
            "observedGeneration": 1,
            "artifact": {
                "digest": format!("sha256:{digest}"), "lastUpdateTime": now, "path": file, "revision": revision,
                "url": format!("http://{}/{file}", self.address), "size": archive.len(),
            },
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored artifact",
                "lastTransitionTime": now, "observedGeneration": 1,
            }],
        }});
        self.archives.lock().unwrap_or_else(PoisonError::into_inner).insert(file, archive);
        let patch = ["patch", "gitrepository", NAME, "--subresource=status", "--type=merge", "-p", &status.to_string()];
        self.scene.kubectl(&patch).await?;
        Ok(())
    }

    /// The status of the Kustomization.
    pub async fn applied(&self) -> Result<Value> {
        Ok(self.scene.get(&["kustomization", NAME]).await?["status"].clone())
    }
}

/// Flux runs once for all tests.
async fn start_flux(scene: &Scene) -> Result<()> {
    static STARTED: tokio::sync::Mutex<bool> = tokio::sync::Mutex::const_new(false);
    let mut started = STARTED.lock().await;
    if *started {
        return Ok(());
    }
    let cluster = &scene.cluster;
    let there = cluster.program("kustomize-controller").is_some();
    ensure!(there, "this test needs Flux: start it with `testbed run --with flux -- …`");
    for file in ["kustomizations", "gitrepositories", "ocirepositories", "buckets", "externalartifacts"] {
        let file = cluster.definition(&format!("{file}.yaml")).context("a definition of Flux is missing")?;
        cluster.kubectl(&["apply", "--server-side", "-f", &file.to_string_lossy()]).await?;
    }
    let wait =
        ["wait", "--for=condition=Established", "crd/kustomizations.kustomize.toolkit.fluxcd.io", "--timeout=30s"];
    cluster.kubectl(&wait).await?;
    // A cluster that was kept up runs it already.
    if let Err(error) = cluster.start(Component::KustomizeController).await {
        ensure!(error.to_string().contains("runs already"), "{error}");
    }
    *started = true;
    Ok(())
}

/// Runs a program to its end; what it printed.
pub async fn printed(program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
    Ok(output.stdout)
}

/// As much of HTTP as a download needs.
async fn serve(listener: TcpListener, archives: Archives) {
    while let Ok((stream, _)) = listener.accept().await {
        let archives = archives.clone();
        tokio::spawn(async move {
            // A download that breaks off is tried again by Flux.
            let _ = answer(stream, &archives).await;
        });
    }
}

async fn answer(mut stream: TcpStream, archives: &Archives) -> Result<()> {
    let mut reader = BufReader::new(&mut stream);
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let mut header = String::from("more");
    while !header.trim().is_empty() {
        header.clear();
        reader.read_line(&mut header).await?;
    }
    let asked = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let body = archives.lock().unwrap_or_else(PoisonError::into_inner).get(asked).cloned();
    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
    let body = body.unwrap_or_default();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    Ok(stream.shutdown().await?)
}
