//! Every pod of the cluster as a `PodFact`, from one watch.
//!
//! Role: reduces each pod to a few words the moment it arrives, so that no full pod stays in memory. Inputs: watch events.
//! Outputs: the pods of a revision, and which workload changed. Must never import: other rooms than `domain`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
};
use kube::runtime::watcher::Event;

use crate::domain::pod::{ContainerFact, Exit, Glimpse, Role, Standing};
use crate::domain::policy::{Kind, Target};
use crate::domain::rollout::{PodFact, PodName, RevisionHash};

/// How many starts of containers are remembered per pod; older ones cannot explain a counter reset any more.
const STARTS_KEPT: usize = 8;
/// The label by which a ReplicaSet marks its pods.
const REPLICA_SET_LABEL: &str = "pod-template-hash";
/// The label by which a `StatefulSet` or `DaemonSet` marks its pods.
const CONTROLLER_LABEL: &str = "controller-revision-hash";
/// The kubelet writes its first status of a pod within this time.
const FIRST_STATUS: Duration = Duration::from_secs(30);
/// The longest message that is kept of a container or a pod.
const MESSAGE: usize = 1024;

/// A workload in a namespace: what watches are mapped to guards by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// The workload in it.
    pub target: Target,
}

/// The pods of the cluster that belong to workloads, by the uid of their owner.
#[derive(Debug, Default)]
pub struct PodIndex {
    inner: RwLock<Inner>,
}

type ByOwner = HashMap<Arc<str>, Vec<PodFact>>;

#[derive(Debug, Default)]
struct Inner {
    pods: ByOwner,
    /// Filled between `Init` and `InitDone`, then swapped in whole.
    arriving: Option<ByOwner>,
    synced: bool,
}

impl PodIndex {
    /// Whether the first list is complete.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.read().synced
    }

    /// How many pods are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().pods.values().map(Vec::len).sum()
    }

    /// Whether no pod is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pods of these owners.
    #[must_use]
    pub fn of_owners(&self, owners: &BTreeSet<Arc<str>>) -> Vec<PodFact> {
        let inner = self.read();
        owners.iter().filter_map(|owner| inner.pods.get(owner)).flatten().cloned().collect()
    }

    /// The first pod of somebody else that is so.
    #[must_use]
    pub fn other(&self, ours: &BTreeSet<Arc<str>>, is: impl Fn(&PodFact) -> bool) -> Option<PodFact> {
        let inner = self.read();
        let others = inner.pods.iter().filter(|(owner, _)| !ours.contains(*owner));
        others.flat_map(|(_, pods)| pods).find(|pod| is(pod)).cloned()
    }

    /// Takes one watch event; says which workload it changed. Events that change no fact change nothing.
    pub fn apply(&self, event: Event<Pod>, now: Timestamp) -> Option<WorkloadKey> {
        let mut guard = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        match event {
            Event::Init => {
                inner.arriving = Some(ByOwner::new());
                None
            }
            Event::InitApply(pod) => {
                let (fact, key) = inner.reduce(&pod, now)?;
                upsert(inner.arriving.get_or_insert_default(), fact);
                // During the first list everything is reconciled anyway.
                inner.synced.then_some(key)
            }
            Event::InitDone => {
                inner.pods = inner.arriving.take().unwrap_or_default();
                inner.pods.shrink_to_fit();
                inner.synced = true;
                None
            }
            Event::Apply(pod) => {
                let (fact, key) = inner.reduce(&pod, now)?;
                upsert(&mut inner.pods, fact).then_some(key)
            }
            Event::Delete(pod) => {
                let (owner, _, key) = owner_of(&pod)?;
                let uid = pod.metadata.uid.as_deref()?;
                let pods = inner.pods.get_mut(owner)?;
                pods.retain(|known| &*known.uid != uid);
                if pods.is_empty() {
                    inner.pods.remove(owner);
                }
                Some(key)
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn reduce(&self, pod: &Pod, now: Timestamp) -> Option<(PodFact, WorkloadKey)> {
        let (owner, revision, key) = owner_of(pod)?;
        let uid = pod.metadata.uid.as_deref()?;
        let before = self.pods.get(owner).and_then(|pods| pods.iter().find(|known| &*known.uid == uid));
        Some((fact(pod, (owner, revision), before, now)?, key))
    }
}

/// Puts a fact in; says whether anything changed.
fn upsert(pods: &mut ByOwner, fact: PodFact) -> bool {
    let of_owner = pods.entry(fact.owner.clone()).or_default();
    match of_owner.iter_mut().find(|known| known.uid == fact.uid) {
        Some(known) if *known == fact => false,
        Some(known) => {
            *known = fact;
            true
        }
        None => {
            of_owner.push(fact);
            true
        }
    }
}

/// The owner's uid, the revision, and the workload behind it. A ReplicaSet is named after its Deployment and the revision.
fn owner_of(pod: &Pod) -> Option<(&str, &str, WorkloadKey)> {
    let owner = pod.metadata.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))?;
    let label = |key: &str| pod.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let (kind, name, revision) = match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = label(REPLICA_SET_LABEL)?;
            (Kind::Deployment, owner.name.strip_suffix(hash)?.strip_suffix('-')?, hash)
        }
        "StatefulSet" => (Kind::StatefulSet, owner.name.as_str(), label(CONTROLLER_LABEL)?),
        "DaemonSet" => (Kind::DaemonSet, owner.name.as_str(), label(CONTROLLER_LABEL)?),
        _ => return None,
    };
    let namespace: Arc<str> = pod.metadata.namespace.as_deref()?.into();
    Some((&owner.uid, revision, WorkloadKey { namespace, target: Target { kind, name: name.to_owned() } }))
}

/// Reduces a pod; `before` is what was known of it, because the API forgets the first time it was Ready, how its
/// containers ended before the last time, and since when they cannot start.
fn fact(pod: &Pod, (owner, revision): (&str, &str), before: Option<&PodFact>, now: Timestamp) -> Option<PodFact> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref()?);
    let status = pod.status.as_ref();
    let statuses = || status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let created = meta.creation_timestamp.as_ref()?.0;
    let when = |name: &str| {
        let found = condition(pod, name).filter(|condition| condition.status == "True");
        found.and_then(|condition| condition.last_transition_time.as_ref()).map(|at| at.0)
    };
    let ready_since = when("Ready");
    let lost = condition(pod, "Ready").and_then(|ready| ready.last_transition_time.as_ref()).map(|at| at.0);
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let terminating = meta.deletion_timestamp.is_some();
    let containers = containers(pod, before, created, now);
    Some(PodFact {
        pod: PodName::new(meta.namespace.as_deref()?, meta.name.as_deref()?),
        uid: meta.uid.as_deref()?.into(),
        owner: owner.into(),
        revision: RevisionHash::new(revision),
        created,
        ready_since,
        // Before the kubelet says anything a pod is as unready as it was made.
        unready_since: ready_since.is_none().then(|| lost.unwrap_or(created)),
        first_ready: before.and_then(|known| known.first_ready).or(ready_since).or_else(|| lost_readiness(pod)),
        terminating,
        finished: matches!(phase, "Succeeded" | "Failed"),
        restarts: statuses().iter().map(|s| u32::try_from(s.restart_count).unwrap_or(0)).sum(),
        container_starts: starts(statuses(), before),
        node: spec.node_name.as_deref().map(Into::into),
        scheduled: when("PodScheduled"),
        unschedulable: condition(pod, "PodScheduled")
            .filter(|condition| condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable"))
            .map(|condition| cut(condition.message.as_deref().unwrap_or_default())),
        disrupted: disrupted(pod),
        ip: status.and_then(|s| s.pod_ip.as_deref()).and_then(|ip| ip.parse().ok()),
        host_network: spec.host_network == Some(true),
        // A pod that is being deleted ends its containers on purpose.
        containers: match before {
            Some(known) if terminating => known.containers.clone(),
            _ => containers,
        },
    })
}

/// A pod that is not Ready and changed to that long after a node took it was Ready once; when first, is forgotten.
fn lost_readiness(pod: &Pod) -> Option<Timestamp> {
    let at = |condition: &PodCondition| condition.last_transition_time.as_ref().map(|at| at.0);
    let lost = condition(pod, "Ready").filter(|ready| ready.status == "False").and_then(at)?;
    let taken = condition(pod, "PodScheduled").filter(|taken| taken.status == "True").and_then(at)?;
    taken.checked_add(FIRST_STATUS).is_ok_and(|since| since < lost).then_some(lost)
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Why the cluster ends the pod, if it does.
fn disrupted(pod: &Pod) -> Option<Arc<str>> {
    let target = condition(pod, "DisruptionTarget").filter(|condition| condition.status == "True");
    let reason = target.and_then(|condition| condition.reason.as_deref()).or_else(|| {
        let status = pod.status.as_ref()?;
        let words = ["Evicted", "Preempting", "Shutdown", "NodeShutdown", "NodeLost", "Terminated", "NodeAffinity"];
        status.reason.as_deref().filter(|reason| words.contains(reason))
    })?;
    Some(reason.into())
}

fn containers(pod: &Pod, before: Option<&PodFact>, created: Timestamp, now: Timestamp) -> Vec<ContainerFact> {
    let (Some(spec), status) = (pod.spec.as_ref(), pod.status.as_ref()) else { return Vec::new() };
    let of_init = status.and_then(|s| s.init_container_statuses.as_deref()).unwrap_or_default();
    let of_app = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let init = spec.init_containers.as_deref().unwrap_or_default().iter().map(|container| {
        let role = if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init };
        (container, role, of_init)
    });
    let app = spec.containers.iter().map(|container| (container, Role::App, of_app));
    init.chain(app)
        .map(|(container, role, statuses)| {
            let known = before.and_then(|known| known.containers.iter().find(|known| *known.name == *container.name));
            let status = statuses.iter().find(|status| status.name == container.name);
            let glimpse = status.map(glimpse).unwrap_or_default();
            blank(container, role).follow(known, &glimpse, created, now)
        })
        .collect()
}

/// A container as its template describes it.
fn blank(container: &Container, role: Role) -> ContainerFact {
    let limit = container.resources.as_ref().and_then(|r| r.limits.as_ref()).and_then(|limits| limits.get("memory"));
    ContainerFact {
        name: container.name.as_str().into(),
        role,
        image: container.image.as_deref().unwrap_or_default().into(),
        memory_limit: limit.and_then(|quantity| bytes(&quantity.0)),
        is_probed: container.liveness_probe.is_some() || container.startup_probe.is_some(),
        standing: Standing::Waiting,
        ready: false,
        ended: 0,
        exits: Vec::new(),
        trouble: None,
    }
}

fn glimpse(status: &ContainerStatus) -> Glimpse {
    let exit = |state: Option<&ContainerState>| state.and_then(|state| state.terminated.as_ref()).and_then(exit);
    let state = status.state.as_ref();
    Glimpse {
        restarts: u32::try_from(status.restart_count).unwrap_or(0),
        ready: status.ready,
        running: state.and_then(|s| s.running.as_ref()).and_then(|r| r.started_at.as_ref()).map(|at| at.0),
        waiting: state.and_then(|s| s.waiting.as_ref()).map(|waiting| {
            let word = |text: &Option<String>| cut(text.as_deref().unwrap_or_default());
            (word(&waiting.reason), word(&waiting.message))
        }),
        terminated: exit(state),
        last: exit(status.last_state.as_ref()),
    }
}

fn exit(terminated: &ContainerStateTerminated) -> Option<Exit> {
    Some(Exit {
        at: terminated.finished_at.as_ref().or(terminated.started_at.as_ref())?.0,
        code: Some(terminated.exit_code),
        reason: cut(terminated.reason.as_deref().unwrap_or("Error")),
        message: terminated.message.as_deref().filter(|message| !message.trim().is_empty()).map(cut),
    })
}

/// Text from outside, bounded.
fn cut(text: &str) -> Arc<str> {
    text.char_indices().nth(MESSAGE).map_or(text, |(end, _)| text.get(..end).unwrap_or_default()).into()
}

/// When containers started again. Only restarts count: a first start explains no counter reset.
fn starts(statuses: &[ContainerStatus], before: Option<&PodFact>) -> Vec<Timestamp> {
    let mut known = before.map(|fact| fact.container_starts.clone()).unwrap_or_default();
    for status in statuses.iter().filter(|status| status.restart_count > 0) {
        let running = status.state.as_ref().and_then(|s| s.running.as_ref()).and_then(|r| r.started_at.as_ref());
        // Without a running container the end of the last one bounds the start of the next from below.
        let ended = status.last_state.as_ref().and_then(|s| s.terminated.as_ref()).and_then(|t| t.finished_at.as_ref());
        known.extend(running.or(ended).map(|at| at.0));
    }
    known.sort_unstable();
    known.dedup();
    let surplus = known.len().saturating_sub(STARTS_KEPT);
    known.drain(..surplus);
    known.shrink_to_fit();
    known
}

/// Bytes of a Kubernetes quantity such as `64Mi`, `1.5G` or `1e9`. Fractions of a byte are dropped.
#[must_use]
pub fn bytes(quantity: &str) -> Option<u64> {
    const SUFFIXES: [(&str, u64); 13] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("Ei", 1 << 60),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000),
        ("", 1),
    ];
    if let Some(milli) = quantity.strip_suffix('m') {
        return milli.parse::<u64>().ok().map(|milli| milli / 1000);
    }
    let (number, factor) =
        SUFFIXES.iter().find_map(|(suffix, factor)| Some((quantity.strip_suffix(suffix)?, *factor)))?;
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<u32>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let value = digits.checked_mul(u128::from(factor))?.checked_mul(10_u128.checked_pow(exponent)?)? / scale;
    u64::try_from(value).ok()
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
