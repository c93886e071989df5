//! The guarded workloads: a light watch on their metadata, and a full read when something changed.
//!
//! Role: says which workload changed and reads it raw. Inputs: watch events, a client. Outputs: `Workload` as the domain
//! sees it. Must never import: other rooms than `domain`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::{PartialObjectMeta, Selector};
use kube::runtime::watcher::Event;
use serde_json::Value;

use super::pods::WorkloadKey;
use crate::domain::git_ops::{self, Marker};
use crate::domain::policy::{Kind, Target};
use crate::domain::retry::Retry;
use crate::domain::rollout::{RevisionHash, Workload};
use crate::domain::undo::{Held, UndoError, describe, held};

/// How long one read of the API may take; kube itself would retry for minutes.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What the watch knows of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The object's uid.
    pub uid: Arc<str>,
    /// `metadata.generation`: moves with the spec.
    pub generation: i64,
    /// `metadata.resourceVersion`: moves with everything.
    pub version: Arc<str>,
    /// The marker of a suspended sync, if it carries one that can be read.
    pub suspension: Option<Arc<Marker>>,
}

/// Every workload of the cluster in a few words.
#[derive(Debug, Default)]
pub struct WorkloadIndex {
    inner: RwLock<Inner>,
}

type Known = HashMap<WorkloadKey, Seen>;

/// One watch a kind: each lists and resumes for itself.
#[derive(Debug, Default)]
struct Inner {
    known: Known,
    arriving: HashMap<Kind, Known>,
    synced: BTreeSet<Kind>,
}

impl WorkloadIndex {
    /// Whether the first list is complete.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.read().synced.len() == Kind::ALL.len()
    }

    /// What is known of a workload; `None` when it does not exist.
    #[must_use]
    pub fn get(&self, key: &WorkloadKey) -> Option<Seen> {
        self.read().known.get(key).cloned()
    }

    /// The workloads on which a sync is suspended.
    #[must_use]
    pub fn suspended(&self) -> Vec<(WorkloadKey, Seen)> {
        let inner = self.read();
        let suspended = inner.known.iter().filter(|(_, seen)| seen.suspension.is_some());
        suspended.map(|(key, seen)| (key.clone(), seen.clone())).collect()
    }

    /// Takes one watch event of a kind; says which workloads it changed.
    pub fn apply<K>(&self, kind: Kind, event: Event<PartialObjectMeta<K>>) -> Vec<WorkloadKey> {
        let mut guard = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        match event {
            Event::Init => {
                inner.arriving.insert(kind, Known::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some((key, seen)) = reduce(kind, &object.metadata) {
                    inner.arriving.entry(kind).or_default().insert(key, seen);
                }
                Vec::new()
            }
            Event::InitDone => {
                let arrived = inner.arriving.remove(&kind).unwrap_or_default();
                inner.synced.insert(kind);
                inner.replace(kind, arrived)
            }
            Event::Apply(object) => {
                let Some((key, seen)) = reduce(kind, &object.metadata) else { return Vec::new() };
                inner.known.insert(key.clone(), seen);
                vec![key]
            }
            Event::Delete(object) => {
                let Some((key, _)) = reduce(kind, &object.metadata) else { return Vec::new() };
                inner.known.remove(&key);
                vec![key]
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Puts a whole list in the place of what was known of a kind; says what differs.
    fn replace(&mut self, kind: Kind, arrived: Known) -> Vec<WorkloadKey> {
        let of_kind = |key: &WorkloadKey| key.target.kind == kind;
        let fresh = arrived.iter().filter(|(key, seen)| self.known.get(*key) != Some(seen)).map(|(key, _)| key);
        let gone = self.known.keys().filter(|key| of_kind(key) && !arrived.contains_key(*key));
        let changed = fresh.chain(gone).cloned().collect();
        self.known.retain(|key, _| !of_kind(key));
        self.known.extend(arrived);
        changed
    }
}

fn reduce(kind: Kind, meta: &ObjectMeta) -> Option<(WorkloadKey, Seen)> {
    let key =
        WorkloadKey { namespace: meta.namespace.as_deref()?.into(), target: Target { kind, name: meta.name.clone()? } };
    let seen = Seen {
        uid: meta.uid.as_deref()?.into(),
        generation: meta.generation.unwrap_or_default(),
        version: meta.resource_version.as_deref()?.into(),
        suspension: meta
            .annotations
            .as_ref()
            .and_then(|annotations| Marker::parse(annotations.get(git_ops::MARKER)?))
            .map(Arc::new),
    };
    Some((key, seen))
}

/// Why a workload could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The API server refused or could not be reached.
    #[error("reading {what} failed: {source}")]
    Api {
        /// What was read.
        what: &'static str,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// No answer in time.
    #[error("reading {0} took longer than {READ_TIMEOUT:?}")]
    TimedOut(&'static str),
    /// The object does not look as the API promises.
    #[error(transparent)]
    Unreadable(#[from] UndoError),
}

impl ReadError {
    /// The error's class, for metrics.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Api { .. } => "api",
            Self::TimedOut(_) => "timeout",
            Self::Unreadable(_) => "malformed",
        }
    }

    /// When to try again.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        Retry::Backoff
    }
}

/// Reads a workload with its revisions; `None` when it does not exist.
///
/// # Errors
/// If the API server does not answer or answers something unreadable.
pub async fn fetch(client: &kube::Client, key: &WorkloadKey) -> Result<Option<Workload>, ReadError> {
    let raw = raw(client, key).await?;
    raw.map(|(workload, holders)| describe(key.target.kind, &workload, &holders)).transpose().map_err(Into::into)
}

/// Reads the templates of some revisions of the workload with this uid, as far as its history still holds them.
///
/// # Errors
/// If the API server does not answer.
pub async fn templates(
    client: &kube::Client,
    key: &WorkloadKey,
    uid: &str,
    wanted: &BTreeSet<RevisionHash>,
) -> Result<BTreeMap<RevisionHash, Held>, ReadError> {
    let Some((workload, holders)) = raw(client, key).await? else { return Ok(BTreeMap::new()) };
    let of = |revision: &RevisionHash| {
        held(key.target.kind, uid, &workload, &holders, revision).map(|held| (revision.clone(), held))
    };
    Ok(wanted.iter().filter_map(of).collect())
}

/// A workload and what may hold its revisions, as the API server has them.
async fn raw(client: &kube::Client, key: &WorkloadKey) -> Result<Option<(Value, Vec<Value>)>, ReadError> {
    let namespace = &key.namespace;
    let (workloads, holders) = match key.target.kind {
        Kind::Deployment => (api::<Deployment>(client, namespace), api::<ReplicaSet>(client, namespace)),
        Kind::StatefulSet => (api::<StatefulSet>(client, namespace), api::<ControllerRevision>(client, namespace)),
        Kind::DaemonSet => (api::<DaemonSet>(client, namespace), api::<ControllerRevision>(client, namespace)),
    };
    let Some(workload) = within("the workload", workloads.get_opt(&key.target.name)).await? else {
        return Ok(None);
    };
    // The selector only narrows the list; holders are matched by owner uid, because selectors may overlap.
    let list = selector(&workload).map_or_else(ListParams::default, |s| ListParams::default().labels_from(&s));
    let holders = within("its revisions", holders.list(&list)).await?;
    let raw = |object: DynamicObject| serde_json::to_value(object).unwrap_or(Value::Null);
    Ok(Some((raw(workload), holders.items.into_iter().map(raw).collect())))
}

/// The workload's own label selector, where it can be read.
fn selector(workload: &DynamicObject) -> Option<Selector> {
    let selector = workload.data.pointer("/spec/selector")?;
    serde_json::from_value::<LabelSelector>(selector.clone()).ok()?.try_into().ok()
}

fn api<K: Resource<DynamicType = ()>>(client: &kube::Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()))
}

async fn within<T>(what: &'static str, read: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ReadError> {
    match tokio::time::timeout(READ_TIMEOUT, read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(ReadError::Api { what, source: Box::new(source) }),
        Err(_) => Err(ReadError::TimedOut(what)),
    }
}
