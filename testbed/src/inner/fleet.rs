//! The running components: starts them, stops them on purpose, and reports the ones that end by themselves.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::components::Component;
use super::nodes::Node;

/// A component that ended though nobody stopped it.
#[derive(Debug)]
pub struct Death {
    /// Its name.
    pub name: &'static str,
    /// How it ended.
    pub status: String,
}

struct Running {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

/// All components of one cluster.
#[derive(Clone)]
pub struct Fleet {
    dir: PathBuf,
    components: Arc<Vec<Component>>,
    nodes: Arc<Vec<Node>>,
    running: Arc<Mutex<BTreeMap<&'static str, Running>>>,
    deaths: mpsc::UnboundedSender<Death>,
}

impl Fleet {
    /// Nothing is started yet.
    #[must_use]
    pub fn new(dir: &Path, components: Vec<Component>, nodes: Vec<Node>, deaths: mpsc::UnboundedSender<Death>) -> Self {
        let (components, nodes) = (Arc::new(components), Arc::new(nodes));
        Self { dir: dir.to_owned(), components, nodes, running: Arc::default(), deaths }
    }

    /// The nodes that really run something.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The cluster's work folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A component's log.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    fn component(&self, name: &str) -> Result<&Component> {
        let found = self.components.iter().find(|component| component.name == name);
        found.with_context(|| format!("there is no component {name}"))
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this cluster has such a component.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.component(name).is_ok()
    }

    /// Whether a component runs.
    #[must_use]
    pub fn runs(&self, name: &str) -> bool {
        self.running().contains_key(name)
    }

    /// Starts a component; its output is appended to its log.
    ///
    /// # Errors
    /// When it runs already or cannot be started.
    pub fn start(&self, name: &str) -> Result<()> {
        let component = self.component(name)?;
        if self.runs(name) {
            bail!("{name} runs already");
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log(name))?;
        let child = Command::new(&component.program)
            .args(&component.arguments)
            .current_dir(&self.dir)
            // Flux has no option for it.
            .env("KUBECONFIG", self.dir.join("kubeconfig"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C at the terminal is for the command, not for the cluster under it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(watch(component.name, child, stopped, self.clone()));
        self.running().insert(component.name, Running { stop, ended });
        Ok(())
    }

    /// Stops a component and waits until it has ended.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn stop(&self, name: &str) -> Result<()> {
        let component = self.component(name)?.name;
        let Some(running) = self.running().remove(component) else { bail!("{name} does not run") };
        // A closed channel means that it has just ended by itself, which its watcher reports.
        let _ = running.stop.send(());
        running.ended.await.with_context(|| format!("cannot wait for {name}"))
    }
}

async fn watch(name: &'static str, mut child: Child, stopped: oneshot::Receiver<()>, fleet: Fleet) {
    tokio::select! {
        status = child.wait() => {
            fleet.running().remove(name);
            let status = status.map_or_else(|error| error.to_string(), describe);
            let _ = fleet.deaths.send(Death { name, status });
        }
        _ = stopped => terminate(name, &mut child).await,
    }
}

fn describe(status: ExitStatus) -> String {
    status.to_string()
}

/// How long a component may take to end: Prometheus must save its data, the API server would wait for every watch.
fn grace(name: &str) -> Duration {
    Duration::from_secs(if name == "kube-apiserver" { 2 } else { 10 })
}

async fn terminate(name: &str, child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if tokio::time::timeout(grace(name), child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// The last lines of a file.
#[must_use]
pub fn last_lines(file: &Path, count: usize) -> Vec<String> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(count)).map(|line| (*line).to_owned()).collect()
}
