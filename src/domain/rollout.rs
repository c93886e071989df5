//! Workloads, revisions and pods as the judge sees them.
//!
//! Role: the facts about one target, reduced from API objects by `observe`. Inputs: none. Outputs: who is new, who is
//! old, which revision is which. Must never import: other rooms; raw templates stay in `domain::undo`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::git_ops::Marker;
use super::judge::Overlap;
use super::known_good::Kept;
use super::pod::ContainerFact;
use super::policy::Kind;

/// A revision's identity: what its pods are labelled with, by a ReplicaSet or as the `ControllerRevision` has it. Never its
/// number, which an undo re-assigns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RevisionHash(Arc<str>);

impl RevisionHash {
    /// Wraps a hash read from the API.
    #[must_use]
    pub fn new(hash: &str) -> Self {
        Self(hash.into())
    }

    /// The hash as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RevisionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pod's identity in metrics: Prometheus knows names, not uids.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodName {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl PodName {
    /// Names a pod.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is kept of a pod: a few words instead of 15 KB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFact {
    /// Name and namespace.
    pub pod: PodName,
    /// The uid, because names come back.
    pub uid: Arc<str>,
    /// Uid of the controlling owner: a ReplicaSet, StatefulSet or DaemonSet.
    pub owner: Arc<str>,
    /// The revision it carries.
    pub revision: RevisionHash,
    /// When it was created.
    pub created: Timestamp,
    /// Ready now, since when.
    pub ready_since: Option<Timestamp>,
    /// Not Ready now, since when, as far as its status tells.
    pub unready_since: Option<Timestamp>,
    /// The first time it was seen Ready; flapping readiness does not make a pod young again.
    pub first_ready: Option<Timestamp>,
    /// Being deleted.
    pub terminating: bool,
    /// Finished (Succeeded or Failed): it serves no more and is no longer wanted.
    pub finished: bool,
    /// Container restarts in all.
    pub restarts: u32,
    /// When containers were seen to start again (API timestamps, whole seconds), oldest first, bounded.
    pub container_starts: Vec<Timestamp>,
    /// The node it was given to.
    pub node: Option<Arc<str>>,
    /// When it was given to it.
    pub scheduled: Option<Timestamp>,
    /// Why no node takes it, in the scheduler's words.
    pub unschedulable: Option<Arc<str>>,
    /// The cluster ends it for reasons of its own: eviction, preemption, a node shutting down.
    pub disrupted: Option<Arc<str>>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Uses its node's network.
    pub host_network: bool,
    /// Its containers, init and sidecar containers too.
    pub containers: Vec<ContainerFact>,
}

impl PodFact {
    /// Counts towards the wanted pods.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.terminating && !self.finished
    }

    /// Its place in a `StatefulSet`: the number at the end of its name.
    #[must_use]
    pub fn ordinal(&self) -> Option<u32> {
        self.pod.name.rsplit_once('-')?.1.parse().ok()
    }

    /// How often its containers ended.
    #[must_use]
    pub fn ended(&self) -> u32 {
        self.containers.iter().map(|container| container.ended).fold(0, u32::saturating_add)
    }
}

/// Which revision a pod belongs to, in one rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The revision being judged.
    New,
    /// The revision it is compared with.
    Old,
}

/// One revision that still exists in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Identity.
    pub hash: RevisionHash,
    /// Uid that its pods name as owner: its ReplicaSet's, or the workload's own where that has no ReplicaSets.
    pub uid: Arc<str>,
    /// `deployment.kubernetes.io/revision`, or that of the `ControllerRevision`; shown to people.
    pub number: u64,
    /// Images of its app containers.
    pub images: Vec<String>,
    /// How the names of its pods begin; metrics know pods that the API server has forgotten.
    pub pod_prefix: String,
    /// Stands for what decides whether pods are let in and find a place: resources, affinity, volumes, security context.
    pub placement: u64,
    /// Stands for everything that runs: the template without its annotations.
    pub substance: u64,
    /// Its template says that what it does cannot be undone.
    pub irreversible: bool,
    /// The `ConfigMap`s and `Secret`s that its pods read.
    pub configuration: BTreeSet<Configuration>,
}

/// An object that pods read and that can be changed without a rollout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Configuration {
    /// Whether it is a `Secret`.
    pub secret: bool,
    /// Its name, in the workload's namespace.
    pub name: String,
}

/// How a workload replaces its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Step by step.
    Rolling,
    /// All at once, the old ones first.
    Recreate,
    /// Only where somebody deletes them.
    OnDelete,
}

/// Who applies a workload, and would apply it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applier {
    /// With what.
    pub tool: Tool,
    /// The object that makes it do so: a Kustomization, a `HelmRelease`, an Application, a Helm release. Empty if what
    /// names it cannot be a name.
    pub name: String,
    /// That object's namespace; empty where only the tool knows it.
    pub namespace: String,
}

impl fmt::Display for Applier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.tool {
            Tool::FluxKustomize => "the Flux Kustomization",
            Tool::FluxHelm => "the Flux HelmRelease",
            Tool::ArgoCd => "the Argo CD Application",
            Tool::Helm => "the Helm release",
        };
        if self.name.is_empty() {
            return write!(f, "{what} (whose name cannot be read)");
        }
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        write!(f, "{what} {}{slash}{}", self.namespace, self.name)
    }
}

/// What applies workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Flux's kustomize-controller.
    FluxKustomize,
    /// Flux's helm-controller.
    FluxHelm,
    /// Argo CD.
    ArgoCd,
    /// A person or a pipeline with Helm: once, not again and again.
    Helm,
}

/// The state of a guarded workload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // As the API has them.
pub struct Workload {
    /// Its kind.
    pub kind: Kind,
    /// The object's uid.
    pub uid: Arc<str>,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed_generation: i64,
    /// Pods wanted.
    pub replicas: u32,
    /// `spec.paused`.
    pub paused: bool,
    /// How it replaces its pods.
    pub strategy: Strategy,
    /// So many pods, those with the lowest ordinals, keep their revision (`StatefulSet`).
    pub partition: u32,
    /// The lowest ordinal of a `StatefulSet`.
    pub first_ordinal: u32,
    /// The revision that the controller gives to pods, as it says itself (`StatefulSet`).
    pub update_revision: Option<RevisionHash>,
    /// Its pods keep volumes of their own.
    pub has_volumes: bool,
    /// In how many waves a rolling update replaces the pods; none where all of them go first.
    pub waves: Option<u32>,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: u32,
    /// `spec.progressDeadlineSeconds`.
    pub progress_deadline_seconds: u32,
    /// Why no pod can be made, in the API server's words: quota, admission.
    pub replica_failure: Option<String>,
    /// The progress deadline has passed.
    pub deadline_passed: bool,
    /// A controller that owns the workload, as `Kind/name`.
    pub controlled_by: Option<String>,
    /// A Flagger Canary whose primary it is, by name: it judges releases itself.
    pub canary: Option<String>,
    /// What applies it.
    pub applier: Option<Applier>,
    /// The suspension of its sync that stands on the workload itself, if we made one.
    pub suspension: Option<Marker>,
    /// Who changed the template last, by managed fields.
    pub template_manager: Option<String>,
    /// What people say this release is for (`kubernetes.io/change-cause`), its beginning. Anybody may write it.
    pub change_cause: Option<String>,
    /// `deploymentguard.dev/skip`, if set.
    pub skip: Option<String>,
    /// `deploymentguard.dev/last-rollback`, if set.
    pub last_rollback: Option<String>,
    /// Whether our undo still owns fields of the template, which would make the next apply conflict.
    pub owns_template: bool,
    /// The revision of the present template, once what holds it exists.
    pub current: Option<RevisionHash>,
    /// Every revision that still exists.
    pub revisions: BTreeMap<RevisionHash, Revision>,
    /// Revisions whose templates the guard keeps, whatever becomes of the workload's own history.
    pub kept: BTreeMap<RevisionHash, Kept>,
    /// Stands for the present template, as `domain::undo` reads it.
    pub template: u64,
    /// Being deleted.
    pub terminating: bool,
}

impl Workload {
    /// The uids that its pods name as their owner.
    #[must_use]
    pub fn pod_owners(&self) -> BTreeSet<Arc<str>> {
        self.revisions.values().map(|revision| revision.uid.clone()).collect()
    }

    /// Whether a revision can be gone back to.
    #[must_use]
    pub fn exists(&self, hash: &RevisionHash) -> bool {
        self.revisions.contains_key(hash) || self.kept.contains_key(hash)
    }

    /// What stands for everything of a revision that runs, if that is known.
    #[must_use]
    pub fn substance(&self, hash: &RevisionHash) -> Option<u64> {
        let held = self.revision(hash).map(|revision| revision.substance);
        held.or_else(|| self.kept.get(hash).and_then(|kept| kept.substance))
    }

    /// Whether what decides about places and admission differs between two revisions; unknown counts as no.
    #[must_use]
    pub fn placement_changed(&self, new: &RevisionHash, old: Option<&RevisionHash>) -> bool {
        let of = |hash| self.revision(hash).map(|revision| revision.placement);
        matches!((of(new), old.and_then(of)), (Some(new), Some(old)) if new != old)
    }

    /// The revision with this hash, if it still exists.
    #[must_use]
    pub fn revision(&self, hash: &RevisionHash) -> Option<&Revision> {
        self.revisions.get(hash)
    }

    /// How long old and new pods are expected to serve side by side, from the pods that are there: waves times the time
    /// that a pod takes to be available.
    #[must_use]
    pub fn expected_overlap(&self, pods: &[PodFact], judged: &RevisionHash) -> Overlap {
        let Some(waves) = self.waves.filter(|_| self.replicas > 1) else { return Overlap::Never };
        let mut ready: Vec<Duration> = pods
            .iter()
            // Nothing that is fixed for a rollout may depend on what the new revision does.
            .filter(|pod| pod.revision != *judged)
            .filter_map(|pod| Duration::try_from(pod.first_ready?.duration_since(pod.created)).ok())
            .collect();
        let middle = ready.len() / 2;
        let to_ready = if ready.is_empty() { Duration::ZERO } else { *ready.select_nth_unstable(middle).1 };
        Overlap::For(to_ready.max(Duration::from_secs(self.min_ready_seconds.into())).saturating_mul(waves))
    }

    /// Whether a pod lies below the partition: its controller leaves it as it is.
    #[must_use]
    pub fn leaves_alone(&self, pod: &PodFact) -> bool {
        let first = self.first_ordinal.saturating_add(self.partition);
        self.partition > 0 && pod.ordinal().is_some_and(|ordinal| ordinal < first)
    }

    /// Pods that are to carry the revision of the template.
    #[must_use]
    pub const fn wanted(&self) -> u32 {
        self.replicas.saturating_sub(self.partition)
    }

    /// Whether every wanted pod carries `hash` and is Ready, and no other live pod is left but what a partition keeps.
    #[must_use]
    pub fn rollout_complete(&self, hash: &RevisionHash, pods: &[PodFact]) -> bool {
        let live = || pods.iter().filter(|pod| pod.is_live() && !self.leaves_alone(pod));
        let ready = live().filter(|pod| pod.revision == *hash && pod.ready_since.is_some()).count();
        self.observed_generation >= self.generation
            && live().all(|pod| pod.revision == *hash)
            && u32::try_from(ready).is_ok_and(|ready| ready >= self.wanted())
    }
}
