//! What can be wrong with a release besides the faults of the program: probes, hooks, containers at its side, what it
//! refers to, where its image comes from, where it may run.

use serde_json::{Value, json};

use super::{Kind, Shop, lay_over};
use crate::images::SHOP_REPOSITORY;
use crate::inner::image_registry;
use crate::inner::nodes;

impl Shop {
    /// The same as another kind of workload.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The same with another memory limit.
    #[must_use]
    pub fn memory_limit(mut self, limit: &str) -> Self {
        limit.clone_into(&mut self.memory_limit);
        self
    }

    /// The same with something laid over the workload's spec, such as a strategy or a deadline.
    #[must_use]
    pub fn with_spec(mut self, part: &Value) -> Self {
        lay_over(&mut self.spec, part);
        self
    }

    /// The same with something laid over the pod's spec.
    #[must_use]
    pub fn with_pod(mut self, part: &Value) -> Self {
        lay_over(&mut self.pod, part);
        self
    }

    /// The same with something laid over the container.
    #[must_use]
    pub fn with_container(mut self, part: &Value) -> Self {
        lay_over(&mut self.container, part);
        self
    }

    /// How many pods a rolling update may have above and below the wanted number: numbers or percentages.
    #[must_use]
    pub fn rolling(self, max_surge: &str, max_unavailable: &str) -> Self {
        let limit = |text: &str| text.parse::<u32>().map_or_else(|_| json!(text), |number| json!(number));
        let limits = json!({"maxSurge": limit(max_surge), "maxUnavailable": limit(max_unavailable)});
        let field = if self.kind == Kind::Deployment { "strategy" } else { "updateStrategy" };
        self.with_spec(&json!({field: {"type": "RollingUpdate", "rollingUpdate": limits}}))
    }

    /// A liveness probe that kills about two seconds after `/livez` began to fail.
    #[must_use]
    pub fn liveness_probe(self) -> Self {
        let probe = json!({"httpGet": {"path": "/livez", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2});
        self.with_container(&json!({"livenessProbe": probe}))
    }

    /// An init container that ends with this code; 0 is one that succeeds.
    #[must_use]
    pub fn init_container(self, exit_code: u8) -> Self {
        let init = self.beside("migrate", exit_code, "0", "migration 42 failed: relation \"orders\" does not exist");
        self.with_pod(&json!({"initContainers": [init]}))
    }

    /// A sidecar that ends with code 3 again and again, two seconds after each start.
    #[must_use]
    pub fn failing_sidecar(self) -> Self {
        let mut sidecar = self.beside("proxy", 3, "2", "proxy: cannot read its configuration");
        sidecar["restartPolicy"] = "Always".into();
        self.with_pod(&json!({"initContainers": [sidecar]}))
    }

    fn beside(&self, name: &str, exit_code: u8, after: &str, message: &str) -> Value {
        let env = |name: &str, value: &str| json!({"name": name, "value": value});
        json!({
            "name": name,
            "image": format!("{}:{}", self.repository, self.version),
            "imagePullPolicy": "IfNotPresent",
            "env": [env("PORT", "8079"), env("EXIT_AFTER_S", after), env("EXIT_CODE", &exit_code.to_string()),
                env("EXIT_MESSAGE", message)],
        })
    }

    /// A variable from a key that a ConfigMap does not have, because there is no such ConfigMap.
    #[must_use]
    pub fn env_from_missing_key(mut self) -> Self {
        let key = json!({"configMapKeyRef": {"name": "settings", "key": "database-url"}});
        self.references.push(json!({"name": "DATABASE_URL", "valueFrom": key}));
        self
    }

    /// The name of its node as a variable, and an end at once on this one.
    #[must_use]
    pub fn exits_on_node(mut self, node: &str) -> Self {
        let field = json!({"fieldRef": {"fieldPath": "spec.nodeName"}});
        self.references.push(json!({"name": "NODE_NAME", "valueFrom": field}));
        self.fault("EXIT_ON_NODE", node)
    }

    /// Exits in the first so many starts of each pod, as one that waits for its database; counted in a volume of the pod.
    #[must_use]
    pub fn exits_at_start(self, times: u32) -> Self {
        self.with_pod(&json!({"volumes": [{"name": "starts", "emptyDir": {}}]}))
            .with_container(&json!({"volumeMounts": [{"name": "starts", "mountPath": "/starts"}]}))
            .fault("EXIT_AT_START_TIMES", &times.to_string())
    }

    /// A volume of a ConfigMap that does not exist.
    #[must_use]
    pub fn volume_of_missing_config_map(self) -> Self {
        self.with_pod(&json!({"volumes": [{"name": "templates", "configMap": {"name": "templates"}}]}))
            .with_container(&json!({"volumeMounts": [{"name": "templates", "mountPath": "/templates"}]}))
    }

    /// A hook after the start that fails, upon which the container is killed.
    #[must_use]
    pub fn failing_hook(self) -> Self {
        self.with_container(&json!({"lifecycle": {"postStart": {"exec": {"command": ["/shop", "fail"]}}}}))
    }

    /// The image from the registry of the cluster, which must have been started, with this pull policy.
    #[must_use]
    pub fn from_registry(mut self, pull_policy: &str) -> Self {
        let name = SHOP_REPOSITORY.trim_start_matches("localhost/");
        self.repository = format!("{}/{name}", image_registry::HOST);
        self.with_container(&json!({"imagePullPolicy": pull_policy}))
    }

    /// Only on this node; the second one is tolerated.
    #[must_use]
    pub fn on_node(self, node: &str) -> Self {
        self.tolerating_second_node().with_pod(&json!({"nodeSelector": {"kubernetes.io/hostname": node}}))
    }

    /// Evenly over both nodes.
    #[must_use]
    pub fn over_both_nodes(self) -> Self {
        let spread = json!({"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": self.name}}, "matchLabelKeys": ["pod-template-hash"],
            // Else nodes of kwok would have to take their share.
            "nodeTaintsPolicy": "Honor"});
        self.tolerating_second_node().with_pod(&json!({"topologySpreadConstraints": [spread]}))
    }

    fn tolerating_second_node(self) -> Self {
        self.with_pod(&json!({"tolerations": [{"key": nodes::TAINT, "operator": "Exists"}]}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_laid_over_leaves_the_rest() {
        let shop = Shop::new("demo", "shop").liveness_probe().failing_hook().rolling("25%", "0");
        let workload = shop.env_from_missing_key().fault("ERROR_RATE", "1").workload();
        assert_eq!(workload["spec"]["strategy"]["rollingUpdate"], json!({"maxSurge": "25%", "maxUnavailable": 0}));
        let container = &workload["spec"]["template"]["spec"]["containers"][0];
        assert!(container["readinessProbe"].is_object() && container["livenessProbe"].is_object());
        assert_eq!(container["env"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn each_kind_has_the_fields_it_needs() {
        let of = |kind| Shop::new("demo", "shop").kind(kind).rolling("0", "1").workload();
        assert!(of(Kind::DaemonSet)["spec"]["replicas"].is_null());
        assert_eq!(of(Kind::StatefulSet)["spec"]["serviceName"], "shop");
        assert!(of(Kind::StatefulSet)["spec"]["updateStrategy"].is_object());
    }

    #[test]
    fn an_image_of_the_registry_has_its_name() {
        let workload = Shop::new("demo", "shop").from_registry("Always").workload();
        let container = &workload["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "registry.test/shop:v1");
        assert_eq!(container["imagePullPolicy"], "Always");
    }
}
