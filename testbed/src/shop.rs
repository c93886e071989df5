//! The demo application and its client as manifests, and what to ask them. See `src/bin/shop` for the faults.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Error, wait_for};
use crate::images::{LOAD_IMAGE, SHOP_REPOSITORY};

/// A release of the shop: a Deployment with a Service of the same name on port 80.
#[derive(Clone, Debug)]
pub struct Shop {
    /// Name of the Deployment, the Service and the label `app`.
    pub name: String,
    /// Where it lives; made if it does not exist.
    pub namespace: String,
    /// The image's tag, `v1` to `v5`; another one cannot be pulled.
    pub version: String,
    /// Number of pods.
    pub replicas: u32,
    /// The faults.
    pub env: BTreeMap<String, String>,
    /// How long a pod must be ready before it counts.
    pub min_ready_seconds: u32,
    /// Memory limit, such as `64Mi`.
    pub memory_limit: String,
}

impl Shop {
    /// Four healthy pods of `v1`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            version: "v1".to_owned(),
            replicas: 4,
            env: BTreeMap::new(),
            min_ready_seconds: 0,
            memory_limit: "64Mi".to_owned(),
        }
    }

    /// The same at another version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// The same with one fault more, such as `ERROR_RATE` = `0.4`.
    #[must_use]
    pub fn fault(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with another number of pods.
    #[must_use]
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    /// The Deployment.
    #[must_use]
    pub fn deployment(&self) -> Value {
        let env: Vec<Value> = self.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "replicas": self.replicas,
                "minReadySeconds": self.min_ready_seconds,
                "selector": {"matchLabels": {"app": self.name}},
                "template": {
                    "metadata": {
                        "labels": {"app": self.name},
                        "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
                    },
                    "spec": {
                        "terminationGracePeriodSeconds": 10,
                        "containers": [{
                            "name": "shop",
                            "image": format!("{SHOP_REPOSITORY}:{}", self.version),
                            "imagePullPolicy": "IfNotPresent",
                            "env": env,
                            "ports": [{"name": "http", "containerPort": 8080}],
                            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
                            "resources": {"limits": {"memory": self.memory_limit}, "requests": {"cpu": "10m"}},
                        }],
                    },
                },
            },
        })
    }

    /// The Service.
    #[must_use]
    pub fn service(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {"selector": {"app": self.name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        })
    }

    /// Pushes this release, as `kubectl apply` does. Does not wait for it.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn deploy(&self, cluster: &Cluster) -> Result<(), Error> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        let items = [namespace, self.deployment(), self.service()];
        cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).await
    }

    /// Waits until every pod runs this release.
    ///
    /// # Errors
    /// When it is not complete within `limit`.
    pub async fn rolled_out(&self, cluster: &Cluster, limit: Duration) -> Result<(), Error> {
        let timeout = format!("--timeout={}s", limit.as_secs());
        let target = format!("deployment/{}", self.name);
        cluster.kubectl(&["-n", &self.namespace, "rollout", "status", &target, &timeout]).await.map(|_| ())
    }

    /// Where the shop answers inside the cluster.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}.{}.svc.cluster.local/", self.name, self.namespace)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_and_a_version_change_the_pod_template() {
        let healthy = Shop::new("demo", "shop").deployment();
        let bad = Shop::new("demo", "shop").version("v2").fault("ERROR_RATE", "0.4").deployment();
        assert_eq!(healthy["metadata"], bad["metadata"]);
        let container = &bad["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "localhost/shop:v2");
        assert_eq!(container["env"], json!([{"name": "ERROR_RATE", "value": "0.4"}]));
    }
}
