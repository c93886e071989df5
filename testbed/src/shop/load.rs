//! The client as a pod, and what it reports.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Error, wait_for};
use crate::images::LOAD_IMAGE;

/// A pod that sends requests through a Service and counts what comes back.
#[derive(Clone, Debug)]
pub struct Load {
    /// Name of the pod.
    pub name: String,
    /// Its namespace, which must exist.
    pub namespace: String,
    /// Address to request.
    pub target: String,
    /// Requests per second.
    pub rate: u32,
    /// Ends by itself after this many seconds.
    pub duration_s: u32,
}

impl Load {
    /// The pod.
    #[must_use]
    pub fn pod(&self) -> Value {
        let text = |name: &str, value: &str| json!({"name": name, "value": value});
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": {"app": self.name}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 5,
                "containers": [{
                    "name": "load",
                    "image": LOAD_IMAGE,
                    "imagePullPolicy": "Never",
                    "env": [
                        text("TARGET", &self.target),
                        text("RATE", &self.rate.to_string()),
                        text("DURATION_S", &self.duration_s.to_string()),
                    ],
                }],
            },
        })
    }

    /// Starts the pod and waits until it has reported its first second.
    ///
    /// # Errors
    /// When it does not start within 30 s.
    pub async fn start(&self, cluster: &Cluster) -> Result<(), Error> {
        // A namespace made just now has no service account yet, and its pods are refused.
        let limit = Duration::from_secs(30);
        let pod = self.pod().to_string();
        wait_for("the pod of the load to be accepted", limit, async || cluster.apply(&pod).await).await?;
        let look = async || {
            let lines = self.log(cluster, 1).await.map_err(|error| error.to_string())?;
            lines.last().cloned().ok_or_else(|| "no line".to_owned())
        };
        wait_for("the first report of the load", Duration::from_secs(30), look).await.map(|_| ())
    }

    /// The last line: of the last second while it runs (`ok`, `errors`, `by_version`, `p95_ms`), of the whole run
    /// (`final: true`) once it has ended.
    ///
    /// # Errors
    /// When there is no line yet.
    pub async fn report(&self, cluster: &Cluster) -> Result<Value, Error> {
        let look = async || {
            let lines = self.log(cluster, 1).await.map_err(|error| error.to_string())?;
            lines.last().cloned().ok_or_else(|| "no line".to_owned())
        };
        wait_for("a report of the load", Duration::from_secs(5), look).await
    }

    /// Every line so far, one per second.
    ///
    /// # Errors
    /// When the pod's log cannot be read.
    pub async fn reports(&self, cluster: &Cluster) -> Result<Vec<Value>, Error> {
        self.log(cluster, -1).await
    }

    /// Ends the pod.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub async fn stop(&self, cluster: &Cluster) -> Result<(), Error> {
        cluster.kubectl(&["-n", &self.namespace, "delete", "pod", &self.name, "--ignore-not-found"]).await.map(|_| ())
    }

    async fn log(&self, cluster: &Cluster, tail: i32) -> Result<Vec<Value>, Error> {
        let tail = format!("--tail={tail}");
        let text = cluster.kubectl(&["-n", &self.namespace, "logs", &self.name, &tail]).await?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}
