//! What is kept of each guard between two reconciles, and may be lost at any time.
//!
//! Role: what changed since the last look, the workload as last read, the status as last written. Inputs: watch events.
//! Outputs: `Changes`. Status alone survives a restart; nothing here decides anything. Must never import: a client.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::facts::Answers;
use super::findings::Basis;

use crate::api::status::DeploymentGuardStatus;
use crate::domain::assess::Assessment;
use crate::domain::evidence::PodLife;
use crate::domain::judge::History;
use crate::domain::plan::{Changes, Stage};
use crate::domain::policy::Policy;
use crate::domain::rollout::{RevisionHash, Workload};
use crate::domain::scaling::Scaling;
use crate::observe::pods::WorkloadKey;
use crate::record::templates::Found;
use crate::telemetry::metrics::Metrics;

/// A guard's place: namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GuardKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// One guard between two reconciles.
#[derive(Debug, Default, Clone)]
pub struct Remembered {
    /// The guard's uid: a guard of the same name made anew starts afresh.
    pub uid: String,
    /// The status as last written; newer than what the watch may still show.
    pub status: DeploymentGuardStatus,
    /// When it was last written.
    pub written: Option<Timestamp>,
    /// The version of the guard that was seen last, and what stands for the status in it.
    pub stored: Option<(String, u64)>,
    /// What the guard looked like at the last evaluation: generation and class version.
    pub seen: Option<(i64, String)>,
    /// The workload as last read, and the resource version it had.
    pub workload: Option<(Arc<str>, Workload)>,
    /// The last evaluation, with the revision it was about.
    pub evaluated: Option<(String, Assessment)>,
    /// The last evaluation that gave a score.
    pub scored: Option<(String, Assessment)>,
    /// The state under which the guard is counted in the metrics.
    pub counted_as: Option<&'static str>,
    /// The scrape interval seen in the samples.
    pub scrape: Option<Duration>,
    /// What was seen before the rollout of a revision.
    pub past: Option<(String, Arc<Past>)>,
    /// Workloads whose trouble means a shared incident: as last read, with what was seen before the rollout.
    pub controls: Vec<Control>,
    /// The pods of the last look.
    pub present: Vec<PodLife>,
    /// Pods of the rollout that are gone; their last counts are still in Prometheus.
    pub gone: Vec<PodLife>,
    /// Pods that were deleted after an undo, by uid; the watch may still show them.
    pub freed: BTreeSet<Arc<str>>,
    /// What events told of pods.
    pub answers: Answers,
    /// From where this process judges a rollout, until its first step is recorded.
    pub resumed: Option<Timestamp>,
    /// When metrics are read next.
    pub metrics_due: Option<Timestamp>,
    /// How many pods were wanted during the rollout.
    pub scaling: Option<Scaling>,
    /// What the last decision was made from.
    pub basis: Option<Basis>,
    /// The templates that are kept.
    pub shelf: Shelf,
    /// The parsed guard, and of which version of guard and class.
    pub policy: Option<((i64, String), Arc<Policy>)>,
}

/// The templates that are kept for a guard.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    /// By the names of the objects, once they were listed.
    pub there: Option<BTreeMap<String, Found>>,
    /// Revisions of which no template can be had.
    pub lost: BTreeSet<RevisionHash>,
    /// The revision that was current then; another one may bring a lost one back.
    pub current: String,
    /// Not tried again before.
    pub patient_until: Option<Timestamp>,
}

/// A workload whose trouble means a shared incident.
#[derive(Debug, Clone)]
pub struct Control {
    /// Its name.
    pub name: String,
    /// The version that was read, and what was read.
    pub workload: (Arc<str>, Workload),
    /// What was seen of it before the rollout.
    pub past: Option<Arc<Past>>,
}

/// What was seen before a rollout.
#[derive(Debug, Default)]
pub struct Past {
    /// By signal.
    pub history: History,
    /// The scrape interval in it.
    pub scrape: Option<Duration>,
}

#[derive(Debug, Default)]
struct Entry {
    remembered: Remembered,
    workload_changed: bool,
    pods_changed: bool,
    findings_changed: bool,
    /// Rings whenever a pod or something around it changed.
    bell: Arc<Notify>,
}

/// Every guard's memory.
#[derive(Debug, Default)]
pub struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    guards: HashMap<GuardKey, Entry>,
    by_target: HashMap<WorkloadKey, BTreeSet<(Option<Timestamp>, GuardKey)>>,
    primed: bool,
}

impl Memory {
    fn locked(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many guards are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.locked().guards.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A guard's memory and what changed since it was last taken. A change that comes later is kept for the next time.
    #[must_use]
    pub fn take(
        &self,
        key: &GuardKey,
        uid: &str,
        created: Option<Timestamp>,
        target: &WorkloadKey,
    ) -> Option<(Remembered, Changes)> {
        let mut inner = self.locked();
        inner.relate(key.clone(), created, target);
        // From the first look on: what changes during that look must not be lost either.
        let entry = inner.guards.entry(key.clone()).or_default();
        let changes = Changes {
            guard: false,
            workload: std::mem::take(&mut entry.workload_changed),
            pods: std::mem::take(&mut entry.pods_changed),
            findings: std::mem::take(&mut entry.findings_changed),
        };
        (entry.remembered.uid == uid).then(|| (entry.remembered.clone(), changes))
    }

    /// Keeps a guard's memory after a look.
    pub fn keep(&self, key: &GuardKey, remembered: Remembered) {
        let mut inner = self.locked();
        inner.guards.entry(key.clone()).or_default().remembered = remembered;
    }

    /// Marks changes as still to be looked at, after a look that failed.
    pub fn restore(&self, key: &GuardKey, changes: Changes) {
        if let Some(entry) = self.locked().guards.get_mut(key) {
            entry.workload_changed |= changes.workload;
            entry.pods_changed |= changes.pods;
            entry.findings_changed |= changes.findings;
        }
    }

    /// Forgets a deleted guard; says which other guards had the same workload.
    #[must_use]
    pub fn forget(&self, key: &GuardKey, metrics: &Metrics) -> Vec<GuardKey> {
        let mut inner = self.locked();
        let mut others = Vec::new();
        for guards in inner.by_target.values_mut().filter(|guards| guards.iter().any(|(_, guard)| guard == key)) {
            guards.retain(|(_, guard)| guard != key);
            others.extend(guards.iter().map(|(_, guard)| guard.clone()));
        }
        inner.by_target.retain(|_, guards| !guards.is_empty());
        if let Some(entry) = inner.guards.remove(key) {
            metrics.guard_state(entry.remembered.counted_as, None);
        }
        metrics.forget(&key.namespace, &key.name);
        // They stood aside and must look again.
        for other in &others {
            if let Some(entry) = inner.guards.get_mut(other) {
                entry.remembered.seen = None;
            }
        }
        others
    }

    /// The guards of a workload, the oldest first.
    #[must_use]
    pub fn guards_of(&self, target: &WorkloadKey) -> Vec<GuardKey> {
        self.locked().guards_of(target)
    }

    /// Learns every guard's workload once, before the first of them is looked at: which of two is older must not depend
    /// on which is looked at first.
    pub fn prime(&self, all: impl FnOnce() -> Vec<(GuardKey, Option<Timestamp>, WorkloadKey)>) {
        let mut inner = self.locked();
        if !std::mem::replace(&mut inner.primed, true) {
            for (key, created, target) in all() {
                inner.relate(key, created, &target);
            }
        }
    }

    /// A pod changed: says whose guards must look.
    #[must_use]
    pub fn pod_changed(&self, target: &WorkloadKey) -> Vec<GuardKey> {
        self.mark(target, |entry| {
            entry.pods_changed = true;
            entry.bell.notify_one();
        })
    }

    /// Rings whenever a pod of the guard's workload changed, or something around it.
    #[must_use]
    pub fn pods_of(&self, key: &GuardKey) -> Arc<Notify> {
        self.locked().guards.get(key).map(|entry| entry.bell.clone()).unwrap_or_default()
    }

    /// A workload changed: says whose guards must look.
    #[must_use]
    pub fn workload_changed(&self, target: &WorkloadKey) -> Vec<GuardKey> {
        self.mark(target, |entry| entry.workload_changed = true)
    }

    /// Logs or probes of a guard's rollout showed something new.
    pub fn found(&self, key: &GuardKey) {
        if let Some(entry) = self.locked().guards.get_mut(key) {
            entry.findings_changed = true;
        }
    }

    /// Something around every workload changed: says who is judging and must look.
    #[must_use]
    pub fn surroundings_changed(&self) -> Vec<GuardKey> {
        let mut inner = self.locked();
        let judging = inner.guards.iter_mut().filter(|(_, entry)| {
            let current = entry.remembered.status.current.as_ref();
            current.and_then(|current| Stage::parse(&current.state)).is_some_and(Stage::is_judging)
        });
        judging
            .map(|(key, entry)| {
                entry.pods_changed = true;
                entry.bell.notify_one();
                key.clone()
            })
            .collect()
    }

    fn mark(&self, target: &WorkloadKey, set: impl Fn(&mut Entry)) -> Vec<GuardKey> {
        let mut inner = self.locked();
        let keys = inner.guards_of(target);
        for key in &keys {
            if let Some(entry) = inner.guards.get_mut(key) {
                set(entry);
            }
        }
        keys
    }
}

impl Inner {
    fn relate(&mut self, key: GuardKey, created: Option<Timestamp>, target: &WorkloadKey) {
        self.by_target.entry(target.clone()).or_default().insert((created, key));
    }

    fn guards_of(&self, target: &WorkloadKey) -> Vec<GuardKey> {
        self.by_target.get(target).into_iter().flatten().map(|(_, key)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::{Kind, Target};

    #[test]
    fn what_changes_during_the_first_look_is_looked_at_next() {
        let memory = Memory::default();
        let key = GuardKey { namespace: "shop".into(), name: "guard".into() };
        let target =
            WorkloadKey { namespace: "shop".into(), target: Target { kind: Kind::StatefulSet, name: "db".into() } };
        assert!(memory.take(&key, "uid", None, &target).is_none(), "nothing is remembered before the first look");
        // The look deletes a pod, and the watch is faster than the end of the look.
        let bell = memory.pods_of(&key);
        assert_eq!(memory.pod_changed(&target), std::slice::from_ref(&key));
        assert!(futures::FutureExt::now_or_never(bell.notified()).is_some(), "who waits for pods hears it");
        memory.keep(&key, Remembered { uid: "uid".into(), ..Remembered::default() });
        let (_, changes) = memory.take(&key, "uid", None, &target).expect("it was kept");
        assert!(changes.pods);
        let (_, changes) = memory.take(&key, "uid", None, &target).expect("it was kept");
        assert!(!changes.pods, "once");
        // A guard of the same name that is another one begins anew.
        assert!(memory.take(&key, "another", None, &target).is_none());
    }
}
