//! Every pod of the cluster as a `PodFact`, from one watch.
//!
//! Role: reduces each pod to a few words the moment it arrives, so that no full pod stays in memory. Inputs: watch events.
//! Outputs: the pods of a revision, and which workload changed. Must never import: other rooms than `domain`.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};
use kube::runtime::watcher::Event;

use crate::domain::policy::{Kind, Target};
use crate::domain::rollout::{ContainerFact, PodFact, PodName, RevisionHash};

/// How many starts of containers are remembered per pod; older ones cannot explain a counter reset any more.
const STARTS_KEPT: usize = 8;
/// The label by which a ReplicaSet marks its pods.
const REVISION_LABEL: &str = "pod-template-hash";

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
    pub fn of_owners<'a>(&self, owners: impl IntoIterator<Item = &'a Arc<str>>) -> Vec<PodFact> {
        let inner = self.read();
        owners.into_iter().filter_map(|owner| inner.pods.get(owner)).flatten().cloned().collect()
    }

    /// Takes one watch event; says which workload it changed. Events that change no fact change nothing.
    pub fn apply(&self, event: Event<Pod>) -> Option<WorkloadKey> {
        let mut guard = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        match event {
            Event::Init => {
                inner.arriving = Some(ByOwner::new());
                None
            }
            Event::InitApply(pod) => {
                let (fact, key) = inner.reduce(&pod)?;
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
                let (fact, key) = inner.reduce(&pod)?;
                upsert(&mut inner.pods, fact).then_some(key)
            }
            Event::Delete(pod) => {
                let (owner, key) = owner_of(&pod)?;
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
    fn reduce(&self, pod: &Pod) -> Option<(PodFact, WorkloadKey)> {
        let (owner, key) = owner_of(pod)?;
        let uid = pod.metadata.uid.as_deref()?;
        let before = self.pods.get(owner).and_then(|pods| pods.iter().find(|known| &*known.uid == uid));
        Some((fact(pod, owner, before)?, key))
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

/// The owner's uid and the workload behind it. A ReplicaSet is named after its Deployment and the revision.
fn owner_of(pod: &Pod) -> Option<(&str, WorkloadKey)> {
    let owner = pod.metadata.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))?;
    let (kind, name) = match owner.kind.as_str() {
        "ReplicaSet" => {
            let hash = pod.metadata.labels.as_ref()?.get(REVISION_LABEL)?;
            (Kind::Deployment, owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?)
        }
        _ => return None,
    };
    let namespace: Arc<str> = pod.metadata.namespace.as_deref()?.into();
    Some((&owner.uid, WorkloadKey { namespace, target: Target { kind, name: name.to_owned() } }))
}

/// Reduces a pod; `before` is what was known of it, because the API forgets the first time it was Ready.
fn fact(pod: &Pod, owner: &str, before: Option<&PodFact>) -> Option<PodFact> {
    let meta = &pod.metadata;
    let status = pod.status.as_ref();
    let statuses = || status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let ready_since = status
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default()
        .iter()
        .find(|condition| condition.type_ == "Ready" && condition.status == "True")
        .and_then(|condition| condition.last_transition_time.as_ref())
        .map(|at| at.0);
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
    Some(PodFact {
        pod: PodName::new(meta.namespace.as_deref()?, meta.name.as_deref()?),
        uid: meta.uid.as_deref()?.into(),
        owner: owner.into(),
        revision: RevisionHash::new(meta.labels.as_ref()?.get(REVISION_LABEL)?),
        created: meta.creation_timestamp.as_ref()?.0,
        ready_since,
        first_ready: before.and_then(|known| known.first_ready).or(ready_since),
        terminating: meta.deletion_timestamp.is_some(),
        finished: matches!(phase, "Succeeded" | "Failed"),
        restarts: statuses().iter().map(|s| u32::try_from(s.restart_count).unwrap_or(0)).sum(),
        container_starts: starts(statuses(), before),
        containers: pod.spec.as_ref()?.containers.iter().map(container).collect(),
    })
}

fn container(container: &Container) -> ContainerFact {
    let limit = container.resources.as_ref().and_then(|r| r.limits.as_ref()).and_then(|limits| limits.get("memory"));
    ContainerFact { name: container.name.as_str().into(), memory_limit: limit.and_then(|quantity| bytes(&quantity.0)) }
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
