//! The demo application and its client as manifests, and what to ask them. See `src/bin/shop` for the faults.

mod ailing;
mod load;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

pub use self::load::Load;
use crate::cluster::{Cluster, Error};
use crate::images::SHOP_REPOSITORY;

/// The kind of the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Rolls over by surge.
    #[default]
    Deployment,
    /// Rolls over one pod after the other, the last one first.
    StatefulSet,
    /// A pod on every node that it tolerates.
    DaemonSet,
}

impl Kind {
    /// Its name in manifests.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

/// A release of the shop: a workload with a Service of the same name on port 80. What goes beyond the fields is laid
/// over the manifest; see `ailing.rs` for what can be wrong with it.
#[derive(Clone, Debug)]
pub struct Shop {
    /// Name of the workload, the Service and the label `app`.
    pub name: String,
    /// Where it lives; made if it does not exist.
    pub namespace: String,
    /// The image's tag, one of `images::SHOP_TAGS`; another one cannot be pulled.
    pub version: String,
    /// Number of pods.
    pub replicas: u32,
    /// The faults.
    pub env: BTreeMap<String, String>,
    /// How long a pod must be ready before it counts.
    pub min_ready_seconds: u32,
    /// Memory limit, such as `64Mi`.
    pub memory_limit: String,
    /// Kind of the workload.
    pub kind: Kind,
    /// Variables that are not just text.
    references: Vec<Value>,
    /// Where the image comes from.
    repository: String,
    /// Laid over the spec of the workload, of the pod and of the container.
    spec: Value,
    pod: Value,
    container: Value,
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
            kind: Kind::Deployment,
            references: Vec::new(),
            repository: SHOP_REPOSITORY.to_owned(),
            spec: json!({}),
            pod: json!({}),
            container: json!({}),
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

    /// The workload.
    #[must_use]
    pub fn workload(&self) -> Value {
        let mut spec = json!({
            "minReadySeconds": self.min_ready_seconds,
            "selector": {"matchLabels": {"app": self.name}},
            "template": {
                "metadata": {
                    "labels": {"app": self.name},
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
                },
                "spec": self.pod_spec(),
            },
        });
        if self.kind != Kind::DaemonSet {
            spec["replicas"] = self.replicas.into();
        }
        if self.kind == Kind::StatefulSet {
            spec["serviceName"] = self.name.as_str().into();
        }
        lay_over(&mut spec, &self.spec);
        json!({
            "apiVersion": "apps/v1",
            "kind": self.kind.word(),
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": spec,
        })
    }

    fn pod_spec(&self) -> Value {
        let text = self.env.iter().map(|(name, value)| json!({"name": name, "value": value}));
        let env: Vec<Value> = text.chain(self.references.iter().cloned()).collect();
        let mut container = json!({
            "name": "shop",
            "image": format!("{}:{}", self.repository, self.version),
            "imagePullPolicy": "IfNotPresent",
            "env": env,
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
            "resources": {"limits": {"memory": self.memory_limit}, "requests": {"cpu": "10m"}},
        });
        lay_over(&mut container, &self.container);
        let mut pod = json!({"terminationGracePeriodSeconds": 10, "containers": [container]});
        lay_over(&mut pod, &self.pod);
        pod
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
        let items = [namespace, self.workload(), self.service()];
        cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).await
    }

    /// Waits until every pod runs this release.
    ///
    /// # Errors
    /// When it is not complete within `limit`.
    pub async fn rolled_out(&self, cluster: &Cluster, limit: Duration) -> Result<(), Error> {
        let timeout = format!("--timeout={}s", limit.as_secs());
        let target = format!("{}/{}", self.kind.word().to_lowercase(), self.name);
        cluster.kubectl(&["-n", &self.namespace, "rollout", "status", &target, &timeout]).await.map(|_| ())
    }

    /// Where the shop answers inside the cluster.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}.{}.svc.cluster.local/", self.name, self.namespace)
    }
}

/// Objects are merged, everything else is replaced.
fn lay_over(whole: &mut Value, part: &Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().for_each(|(key, value)| lay_over(whole.entry(key).or_insert(Value::Null), value));
        }
        (whole, part) => *whole = part.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_and_a_version_change_the_pod_template() {
        let healthy = Shop::new("demo", "shop").workload();
        let bad = Shop::new("demo", "shop").version("v2").fault("ERROR_RATE", "0.4").workload();
        assert_eq!(healthy["metadata"], bad["metadata"]);
        let container = &bad["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "localhost/shop:v2");
        assert_eq!(container["env"], json!([{"name": "ERROR_RATE", "value": "0.4"}]));
    }
}
