//! The model: one workload of any kind, its controller, its pods, its guard.
//!
//! Role: what users, Git and the controllers of Kubernetes do. Inputs: events of a story. Outputs: objects in the API
//! server, as each kind has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use deployment_guard::domain::policy::Kind;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::api_server::{ApiServer, Key};
use super::patches::{fields_of, managed};

pub const NAMESPACE: &str = "shop";
pub const NAME: &str = "api";
/// The image whose pods cannot start.
pub const BAD: &str = "api:bad";
const REPLICAS: usize = 2;

/// The world outside the operators. Clones are the same world.
#[derive(Clone)]
pub struct World {
    pub api: ApiServer,
    pub kind: Kind,
    clock: Arc<AtomicI64>,
    /// How often somebody else has written the template.
    pub rollouts: Arc<AtomicU64>,
}

impl World {
    /// A workload that serves its first version, guarded.
    pub fn new(kind: Kind, mode: &str) -> Self {
        let clock = Arc::new(AtomicI64::new(1_767_225_600_000));
        let world = Self { api: ApiServer::default(), kind, clock, rollouts: Arc::default() };
        world.api.put(
            &class(),
            json!({
                "apiVersion": "deploymentguard.dev/v1alpha1", "kind": "GuardClass",
                "metadata": {"annotations": {"deploymentguard.dev/is-default-class": "true"}},
                "spec": {
                    // The Secret is missing, so nothing is measured: what decides is what pods show.
                    "prometheus": {"url": "http://nowhere", "bearerTokenSecretRef": {"name": "none", "key": "none"}},
                    "stormBreaker": {"undos": 100, "within": "10m"},
                },
            }),
        );
        // The guardrails stand as wide open as they can: what is to hold must hold without them.
        let spec = json!({
            "targetRef": {"apiVersion": "apps/v1", "kind": kind.name(), "name": NAME},
            "mode": mode,
            "logs": {"enabled": false},
            "pods": {"startErrors": {"enabled": true, "after": "1s"}},
            "analysis": {"interval": "1s", "warmup": "0s", "window": "1m", "scorer": "Seed"},
            "rollback": {"maxPerDay": 100, "cooldown": "1s", "verifyTimeout": "2m", "approval": {"timeout": "5m"}},
        });
        world.api.put(
            &guard(),
            json!({"apiVersion": "deploymentguard.dev/v1alpha1", "kind": "DeploymentGuard", "metadata": {}, "spec": spec}),
        );
        world.push("api:v1", "kubectl");
        world.controllers();
        world
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.clock.load(Ordering::SeqCst)).unwrap()
    }

    pub fn pass(&self, milliseconds: i64) {
        self.clock.fetch_add(milliseconds, Ordering::SeqCst);
    }

    /// The workload's place.
    pub fn place(&self) -> Key {
        let resource = match self.kind {
            Kind::Deployment => "deployments",
            Kind::StatefulSet => "statefulsets",
            Kind::DaemonSet => "daemonsets",
        };
        Key::new("apps", resource, NAMESPACE, NAME)
    }

    const fn holders(&self) -> &'static str {
        if matches!(self.kind, Kind::Deployment) { "replicasets" } else { "controllerrevisions" }
    }

    pub fn workload(&self) -> Value {
        self.api.get(&self.place()).unwrap_or_default()
    }

    pub fn status(&self) -> Value {
        self.api.get(&guard()).unwrap_or_default()["status"].clone()
    }

    /// The word by which the operator knows a template.
    pub fn revision(&self, template: &Value) -> String {
        let hash = hash(template);
        if self.kind == Kind::StatefulSet { format!("{NAME}-{hash}") } else { hash }
    }

    /// Somebody applies this image.
    pub fn push(&self, image: &str, manager: &str) {
        let template = template(image);
        let owner = json!([managed(manager, "Apply", json!({"f:spec": {"f:template": fields_of(&template)}}))]);
        if self.api.get(&self.place()).is_none() {
            self.api.put(
                &self.place(),
                json!({
                    "apiVersion": "apps/v1", "kind": self.kind.name(),
                    "metadata": {"annotations": {"team": "checkout"}, "managedFields": owner},
                    "spec": {
                        "replicas": REPLICAS, "progressDeadlineSeconds": 60,
                        "selector": {"matchLabels": {"app": NAME}}, "template": template,
                    },
                    "status": {"desiredNumberScheduled": REPLICAS},
                }),
            );
        } else {
            self.api.change(&self.place(), |workload| {
                workload["spec"]["template"] = template;
                workload["metadata"]["managedFields"] = owner;
            });
        }
        self.rollouts.fetch_add(1, Ordering::SeqCst);
    }

    /// Changes the workload, if it is there.
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        if self.api.get(&self.place()).is_some() {
            self.api.change(&self.place(), change);
        }
    }

    /// Deleted and made again under the same name.
    pub fn recreate(&self, image: &str) {
        for resource in [self.holders(), "pods"] {
            for (key, _) in self.api.all(resource) {
                self.api.delete(&key);
            }
        }
        self.api.delete(&self.place());
        self.push(image, "kubectl");
    }

    /// A person answers the pending decision.
    pub fn answer(&self, verb: &str) {
        let pending = self.status()["pendingAction"]["decision"].clone();
        if let Some(decision) = pending.as_str() {
            self.api.change(&guard(), |guard| {
                guard["metadata"]["annotations"][format!("deploymentguard.dev/{verb}")] =
                    json!(format!("{decision} by eve"));
            });
        }
    }

    /// The controller of the workload and the kubelets do their part.
    pub fn controllers(&self) {
        let workload = self.workload();
        let meta = &workload["metadata"];
        if workload.is_null() || workload["status"]["observedGeneration"] == meta["generation"] {
            return;
        }
        if workload["spec"]["paused"] != json!(true) {
            self.roll_out(&workload);
        }
        let generation = meta["generation"].clone();
        self.api.change(&self.place(), |workload| workload["status"]["observedGeneration"] = generation);
    }

    fn roll_out(&self, workload: &Value) {
        let mut template = workload["spec"]["template"].clone();
        if let Some(metadata) = template["metadata"].as_object_mut() {
            metadata.retain(|_, value| !value.is_null());
        }
        let hash = hash(&template);
        let place = Key::new("apps", self.holders(), NAMESPACE, &format!("{NAME}-{hash}"));
        // Never lower than any that was given out.
        let number = |(_, holder): &(Key, Value)| {
            let noted = holder["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str();
            noted.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
        };
        let next = self.api.all(self.holders()).iter().map(number).max().unwrap_or(0) + 1;
        let (kind, owner) = (self.kind.name(), &workload["metadata"]["uid"]);
        let meta = json!({
            "labels": {"app": NAME, "pod-template-hash": hash, "controller-revision-hash": hash},
            "annotations": {"deployment.kubernetes.io/revision": next.to_string()},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": NAME, "uid": owner, "controller": true}],
        });
        let holder = if self.kind == Kind::Deployment {
            template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta, "spec": {"template": template}})
        } else {
            template["$patch"] = json!("replace");
            json!({
                "apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": meta, "revision": next,
                "data": {"spec": {"template": template}},
            })
        };
        let holder = self.api.put(&place, holder);
        self.pods(&hash, &holder, workload);
    }

    /// Good pods replace all others at once; of a bad version's pods one waits beside an old one.
    fn pods(&self, hash: &str, holder: &Value, workload: &Value) {
        let bad = workload["spec"]["template"]["spec"]["containers"][0]["image"] == BAD;
        let mut old = self.api.all("pods");
        if bad && !old.is_empty() {
            old.remove(0);
        }
        for (key, _) in &old {
            self.api.delete(key);
        }
        let owner = if self.kind == Kind::Deployment { holder } else { workload };
        let label = if self.kind == Kind::StatefulSet { format!("{NAME}-{hash}") } else { hash.to_owned() };
        for index in 0..REPLICAS {
            let number = self.rollouts.load(Ordering::SeqCst);
            let name = format!("{NAME}-{hash}-{number}-{index}");
            let mut pod = pod(&self.now().to_string(), bad);
            pod["spec"] = workload["spec"]["template"]["spec"].clone();
            pod["metadata"]["labels"] =
                json!({"app": NAME, "pod-template-hash": label, "controller-revision-hash": label});
            pod["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "apps/v1", "kind": owner["kind"], "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"], "controller": true,
            }]);
            self.api.put(&Key::new("", "pods", NAMESPACE, &name), pod);
        }
    }
}

pub fn guard() -> Key {
    Key::new("deploymentguard.dev", "deploymentguards", NAMESPACE, "guard")
}

pub fn class() -> Key {
    Key::new("deploymentguard.dev", "guardclasses", "", "default")
}

fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": NAME}, "creationTimestamp": null},
        "spec": {"containers": [{"name": "app", "image": image, "futureField": {"kept": true}}]},
    })
}

/// One word an image, so that failures can be read.
fn hash(template: &Value) -> String {
    let image = template["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
    image.rsplit(':').next().unwrap_or_default().to_owned()
}

fn pod(now: &str, bad: bool) -> Value {
    let condition = |type_: &str, status: bool| json!({"type": type_, "status": if status { "True" } else { "False" }, "lastTransitionTime": now});
    let state = if bad {
        json!({"waiting": {"reason": "CreateContainerConfigError", "message": "configmap \"settings\" not found"}})
    } else {
        json!({"running": {"startedAt": now}})
    };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"creationTimestamp": now},
        "status": {
            "phase": if bad { "Pending" } else { "Running" },
            "conditions": [condition("PodScheduled", true), condition("Ready", !bad)],
            "containerStatuses": [{
                "name": "app", "image": "app", "imageID": "", "ready": !bad, "restartCount": 0, "state": state,
            }],
        },
    })
}
