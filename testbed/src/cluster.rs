//! What a test or the demo does with the cluster it runs in. Input: the environment that `testbed run` sets.

use std::env;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::inner::network::NODE;
use crate::inner::{components, control, image_registry, nodes};
use crate::outer::Options;

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not started by the testbed.
    #[error("not inside a testbed, start this with `testbed run -- …`")]
    Outside,
    /// A program could not be run.
    #[error("cannot run {program}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// kubectl refused.
    #[error("kubectl {arguments}: {message}")]
    Kubectl {
        /// What it was asked.
        arguments: String,
        /// What it said.
        message: String,
    },
    /// The supervisor refused.
    #[error("the testbed refused `{request}`: {message}")]
    Control {
        /// What it was asked.
        request: String,
        /// What it said.
        message: String,
    },
    /// Prometheus did not answer as it should.
    #[error("prometheus: {0}")]
    Prometheus(String),
    /// Waited in vain.
    #[error("waited {seconds} s in vain for {what}; last seen: {seen}")]
    Timeout {
        /// What was awaited.
        what: String,
        /// For how long.
        seconds: u64,
        /// What the last look saw.
        seen: String,
    },
}

/// A component that may be stopped and started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Prometheus; its data stays.
    Prometheus,
    /// The API server; etcd keeps its data.
    ApiServer,
    /// The controllers of Deployments, ReplicaSets and so on.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// The image registry; does not run before it is started.
    ImageRegistry,
    /// Flux's kustomize-controller; does not run before it is started, and only where it is built.
    KustomizeController,
    /// The kubelet of the second node, without which the node is lost after 12 s. Its containers run on.
    SecondKubelet,
    /// The containerd of the second node, without which nothing starts there and its kubelet calls the node unready.
    SecondContainerd,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::ImageRegistry => image_registry::NAME,
            Self::KustomizeController => components::KUSTOMIZE_CONTROLLER,
            Self::SecondKubelet => nodes::SECOND_KUBELET,
            Self::SecondContainerd => nodes::SECOND_CONTAINERD,
        }
    }
}

/// The cluster this process runs in.
#[derive(Clone, Debug)]
pub struct Cluster {
    dir: PathBuf,
}

impl Cluster {
    /// The cluster named by the environment.
    ///
    /// # Errors
    /// When this was not started by `testbed run`, `shell` or `exec`.
    pub fn join() -> Result<Self, Error> {
        let dir = env::var_os("TESTBED_DIR").map(PathBuf::from).ok_or(Error::Outside)?;
        if dir.join("kubeconfig").is_file() { Ok(Self { dir }) } else { Err(Error::Outside) }
    }

    /// How it was started; none if it cannot be read.
    #[must_use]
    pub fn options(&self) -> Option<Options> {
        serde_json::from_slice(&std::fs::read(self.dir.join("options.json")).ok()?).ok()
    }

    /// A kubeconfig of the administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Where Prometheus answers, for processes and pods alike.
    #[must_use]
    pub fn prometheus_url(&self) -> &'static str {
        "http://10.244.0.1:9090"
    }

    /// The log of a component, such as `kubelet`.
    #[must_use]
    pub fn log(&self, component: &str) -> PathBuf {
        self.dir.join("log").join(format!("{component}.log"))
    }

    /// Runs kubectl and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with its message.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String, Error> {
        self.kubectl_with(arguments, "").await
    }

    /// Runs kubectl with something on its input.
    ///
    /// # Errors
    /// When it fails, with its message.
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String, Error> {
        let failed = |source| Error::Start { program: "kubectl".to_owned(), source };
        let mut child = Command::new(self.dir.join("bin/kubectl"))
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // kubectl may end before it has read all; then its message says more than the broken pipe.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Kubectl {
            arguments: arguments.join(" "),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// A program of the cluster, if it was built.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.join("bin").join(name)).filter(|program| program.exists())
    }

    /// A definition that came with a program, if it was built.
    #[must_use]
    pub fn definition(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.join("crds").join(name)).filter(|file| file.exists())
    }

    /// Applies manifests, YAML or JSON.
    ///
    /// # Errors
    /// When the API server refuses them.
    pub async fn apply(&self, manifests: &str) -> Result<(), Error> {
        self.kubectl_with(&["apply", "-f", "-"], manifests).await.map(|_| ())
    }

    /// Asks Prometheus now; the result has an element per series with `metric` and `value`.
    ///
    /// # Errors
    /// When it does not answer within 5 s, or refuses the query.
    pub async fn query(&self, promql: &str) -> Result<Vec<Value>, Error> {
        let asked = tokio::time::timeout(Duration::from_secs(5), ask_prometheus(promql)).await;
        let text = asked
            .map_err(|_| Error::Prometheus("no answer within 5 s".to_owned()))?
            .map_err(|error| Error::Prometheus(error.to_string()))?;
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let mut answer: Value = serde_json::from_str(body).map_err(|_| Error::Prometheus(text.clone()))?;
        match answer["data"]["result"].take() {
            Value::Array(series) => Ok(series),
            _ => Err(Error::Prometheus(text)),
        }
    }

    /// Stops a component on purpose.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn stop(&self, component: Component) -> Result<(), Error> {
        self.ask(&format!("stop {}", component.name())).await
    }

    /// Starts a component again and waits until it answers.
    ///
    /// # Errors
    /// When it runs already or does not answer.
    pub async fn start(&self, component: Component) -> Result<(), Error> {
        self.ask(&format!("start {}", component.name())).await
    }

    /// Stops a component, starts it, and waits until it answers.
    ///
    /// # Errors
    /// When it does not run or does not answer again.
    pub async fn restart(&self, component: Component) -> Result<(), Error> {
        self.ask(&format!("restart {}", component.name())).await
    }

    /// Imports an image archive, so that pods with `imagePullPolicy: Never` can use it.
    ///
    /// # Errors
    /// When containerd refuses it.
    pub async fn import_image(&self, archive: &Path) -> Result<(), Error> {
        self.ask(&format!("import {}", archive.display())).await
    }

    /// Makes `nodes` nodes that exist only in the API. Pods reach them with `nodeSelector: {type: kwok}` and a
    /// toleration of the taint `kwok.x-k8s.io/node`.
    ///
    /// # Errors
    /// When kwok does not start.
    pub async fn start_kwok(&self, nodes: u32) -> Result<(), Error> {
        self.ask(&format!("kwok {nodes}")).await
    }

    async fn ask(&self, request: &str) -> Result<(), Error> {
        control::request(&self.dir, request)
            .await
            .map_err(|error| Error::Control { request: request.to_owned(), message: format!("{error:#}") })
    }
}

/// HTTP/1.0: the answer ends with the connection, so no HTTP library is needed.
async fn ask_prometheus(promql: &str) -> std::io::Result<String> {
    let query = hex::encode_upper(promql).into_bytes();
    let query: Vec<&str> = query.chunks(2).filter_map(|byte| std::str::from_utf8(byte).ok()).collect();
    let query = query.iter().flat_map(|byte| ["%", byte]).collect::<String>();
    let mut stream = TcpStream::connect((NODE, 9090)).await?;
    let request = format!("GET /api/v1/query?query={query} HTTP/1.0\r\nHost: prometheus\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Looks every 200 ms until `look` finds what it wants. A look that finds nothing says what it saw instead.
///
/// # Errors
/// After `limit`, with what was awaited and what the last look saw.
pub async fn wait_for<T, S: Display>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, S>,
) -> Result<T, Error> {
    let started = Instant::now();
    let mut seen = "nothing yet".to_owned();
    while started.elapsed() < limit {
        match tokio::time::timeout(limit.saturating_sub(started.elapsed()), look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(other)) => seen = other.to_string(),
            Err(_) => break,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(Error::Timeout { what: what.to_owned(), seconds: limit.as_secs(), seen })
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_in_vain_says_what_was_awaited_and_what_was_seen() {
        let limit = Duration::from_millis(300);
        let error = wait_for::<(), _>("four pods", limit, async || Err("three pods")).await.expect_err("in vain");
        assert_eq!(error.to_string(), "waited 0 s in vain for four pods; last seen: three pods");
    }

    #[tokio::test]
    async fn a_look_that_hangs_ends_with_the_limit() {
        let limit = Duration::from_millis(50);
        let look = async || -> Result<(), &str> { std::future::pending().await };
        let error = wait_for("an answer", limit, look).await.expect_err("hangs");
        assert!(error.to_string().ends_with("last seen: nothing yet"), "{error}");
    }

    #[tokio::test]
    async fn what_is_found_is_returned() {
        let found = wait_for("a number", Duration::from_secs(1), async || Ok::<_, String>(7)).await;
        assert_eq!(found.expect("found"), 7);
    }
}
