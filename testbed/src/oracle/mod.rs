//! A double of a language model: speaks chat completions and answers as it is told, well or badly. As manifests for the
//! cluster, and what to ask it there; as a server for its own program and for benches.

pub mod behaviour;
pub mod server;

use std::time::Duration;

use serde_json::{Value, json};

pub use self::behaviour::Behaviour;
use crate::cluster::{Cluster, Error, wait_for};
use crate::images::ORACLE_IMAGE;

/// Where its program listens.
pub const PORT: u16 = 8081;

/// The double as a pod with a Service `oracle` on port 80.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// Where it lives; must exist.
    pub namespace: String,
}

impl Oracle {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When it does not within a minute.
    pub async fn start(&self, cluster: &Cluster) -> Result<(), Error> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        let list = |items: Value| json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        cluster.apply(&list(json!([namespace]))).await?;
        // A namespace made just now has no service account yet, and its pods are refused.
        let limit = Duration::from_secs(30);
        let objects = list(json!([self.pod(), self.service()]));
        wait_for("the pod of the model double to be accepted", limit, async || cluster.apply(&objects).await).await?;
        wait_for("the model double to answer", Duration::from_mins(1), async || self.asked(cluster).await).await?;
        Ok(())
    }

    fn pod(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "oracle", "namespace": self.namespace, "labels": {"app": "oracle"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "oracle",
                    "image": ORACLE_IMAGE,
                    "imagePullPolicy": "Never",
                    "ports": [{"name": "http", "containerPort": PORT}],
                    "readinessProbe": {"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 1},
                }],
            },
        })
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "oracle", "namespace": self.namespace},
            "spec": {"selector": {"app": "oracle"}, "ports": [{"name": "http", "port": 80, "targetPort": PORT}]},
        })
    }

    /// What a class has as the `baseURL` of a provider.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://oracle.{}.svc.cluster.local/v1", self.namespace)
    }

    /// A provider of a class that behaves like this, and is called so.
    #[must_use]
    pub fn provider(&self, behaviour: Behaviour) -> Value {
        let word = behaviour.word();
        json!({"name": word, "kind": "openai", "model": word, "baseURL": self.base_url(), "retries": 0})
    }

    /// What it was asked: `requests`, `byModel`, the last `prompts`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn asked(&self, cluster: &Cluster) -> Result<Value, Error> {
        let text = cluster.kubectl(&["get", "--raw", &self.proxied("asked")]).await?;
        serde_json::from_str(&text).map_err(|error| Error::Kubectl {
            arguments: "get --raw".to_owned(),
            message: format!("the model double answered no JSON: {error}"),
        })
    }

    /// Has all its models behave like this from now on; without one, each as its name says.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn tell(&self, cluster: &Cluster, behaviour: Option<Behaviour>) -> Result<(), Error> {
        let word = behaviour.map_or("", Behaviour::word);
        cluster.kubectl_with(&["create", "--raw", &self.proxied("behaviour"), "-f", "-"], word).await.map(|_| ())
    }

    fn proxied(&self, path: &str) -> String {
        format!("/api/v1/namespaces/{}/services/oracle:http/proxy/{path}", self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_called_as_it_behaves_and_found_inside_the_cluster() {
        let provider = Oracle { namespace: "demo".to_owned() }.provider(Behaviour::Agree);
        assert_eq!((&provider["name"], &provider["model"]), (&json!("agree"), &json!("agree")));
        assert_eq!(provider["baseURL"], "http://oracle.demo.svc.cluster.local/v1");
    }
}
