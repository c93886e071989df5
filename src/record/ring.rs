//! ConfigMaps that belong to a guard and hold the newest of something.
//!
//! Role: reads a guard's ConfigMap, has its entries changed, and writes only what nobody else wrote meanwhile. Inputs: the
//! guard, a change of entries. Outputs: a ConfigMap that the guard owns. Must never import: other rooms than `domain` and
//! `api`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::owner::Owner;
use crate::domain::redact::{Redacted, Redactor, SERVER_MESSAGE};
use crate::domain::retry::Retry;

/// The longest name of an object.
const MAX_NAME: usize = 253;

/// How often a lost race is run again.
const TRIES: u32 = 5;

/// One sort of ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sort {
    /// What follows the guard's name.
    pub(super) suffix: &'static str,
    /// The label that marks it.
    pub(super) label: &'static str,
    /// Under whose name it is written.
    pub(super) manager: &'static str,
}

/// What changes in a ring.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Change {
    /// Entries that are new.
    pub(super) added: BTreeMap<String, String>,
    /// Keys that make room for them.
    pub(super) dropped: Vec<String>,
}

/// Writes rings.
#[derive(Clone)]
pub(super) struct Rings {
    client: Client,
    redactor: Arc<Redactor>,
    time_out: Duration,
}

/// Why nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// A ConfigMap of that name exists and is not this guard's.
    #[error("ConfigMap {name} exists and does not belong to this guard; it was left alone")]
    NotOurs {
        /// The ConfigMap.
        name: String,
    },
    /// Other writers kept winning.
    #[error("ConfigMap {name} kept changing")]
    Conflict {
        /// The ConfigMap.
        name: String,
    },
    /// The API server did not answer in time.
    #[error("the API server did not answer in time about ConfigMap {name}")]
    TimedOut {
        /// The ConfigMap.
        name: String,
    },
    /// The API server refused or was not reached.
    #[error("ConfigMap {name}: {message}")]
    Api {
        /// The ConfigMap.
        name: String,
        /// What it said, redacted and cut.
        message: Redacted,
    },
}

impl RingError {
    /// The metric label.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::NotOurs { .. } => "ring_not_ours",
            Self::Conflict { .. } => "ring_conflict",
            Self::TimedOut { .. } => "ring_timeout",
            Self::Api { .. } => "ring_api",
        }
    }

    /// When to try again.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::NotOurs { .. } => Retry::Never,
            Self::Conflict { .. } => Retry::Conflict,
            Self::TimedOut { .. } | Self::Api { .. } => Retry::Backoff,
        }
    }
}

impl Rings {
    /// A writer that waits at most `time_out` for one answer.
    pub(super) fn new(client: Client, redactor: Arc<Redactor>, time_out: Duration) -> Self {
        Self { client, redactor, time_out }
    }

    /// What the text of a server or a program looks like when it may be kept.
    pub(super) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Changes the guard's ring and returns the ConfigMap's name. `change` is asked again after every lost race; with
    /// `None` nothing is written.
    pub(super) async fn write(
        &self,
        owner: &Owner,
        sort: Sort,
        change: impl Fn(&BTreeMap<String, String>) -> Option<Change> + Send + Sync,
    ) -> Result<String, RingError> {
        let name = name(&owner.guard, sort.suffix);
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &owner.namespace);
        for _ in 0..TRIES {
            let written = match self.in_time(&name, api.get_opt(&name)).await? {
                None => {
                    let Some(change) = change(&BTreeMap::new()) else { return Ok(name) };
                    let new = new_config_map(owner, sort, &name, change);
                    let params = PostParams { field_manager: Some(sort.manager.to_owned()), ..PostParams::default() };
                    self.in_time(&name, api.create(&params, &new)).await
                }
                Some(found) => {
                    check_owner(owner, sort, &name, &found)?;
                    let ring = found.data.unwrap_or_default();
                    let Some(change) = change(&ring) else { return Ok(name) };
                    let patch = Patch::Merge(merge(found.metadata.resource_version.as_deref(), change));
                    self.in_time(&name, api.patch(&name, &PatchParams::apply(sort.manager), &patch)).await
                }
            };
            match written {
                Ok(_) => return Ok(name),
                Err(RingError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(RingError::Conflict { name })
    }

    async fn in_time<T>(&self, name: &str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, RingError> {
        let name = name.to_owned();
        match tokio::time::timeout(self.time_out, call).await {
            Ok(Ok(value)) => Ok(value),
            // 404 on a patch: deleted in between; the next try makes it anew.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 || is_gone(&status) => {
                Err(RingError::Conflict { name })
            }
            Ok(Err(error)) => {
                let message = self.redactor.redact(&error.to_string(), SERVER_MESSAGE);
                Err(RingError::Api { name, message })
            }
            Err(_) => Err(RingError::TimedOut { name }),
        }
    }
}

/// The name of a guard's ConfigMap; a guard's name that is too long is cut and told apart by a hash.
pub(super) fn name(guard: &str, suffix: &str) -> String {
    if guard.len() + suffix.len() <= MAX_NAME {
        return format!("{guard}{suffix}");
    }
    let digest = hash(guard);
    let digest = digest.get(..8).unwrap_or_default();
    let room = MAX_NAME.saturating_sub(suffix.len() + digest.len() + 1);
    let end = (0..=room).rev().find(|end| guard.is_char_boundary(*end)).unwrap_or(0);
    // Each part of a name ends in a letter or a digit.
    let head = guard.get(..end).unwrap_or_default().trim_end_matches(['-', '.']);
    format!("{head}-{digest}{suffix}")
}

/// SHA-256 in hex.
pub(super) fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// The ConfigMap, not its namespace, is missing.
fn is_gone(status: &kube::core::Status) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|details| details.kind == "configmaps")
}

/// The resourceVersion makes the API server refuse it with 409 when somebody wrote in between.
fn merge(resource_version: Option<&str>, change: Change) -> Value {
    let mut data: BTreeMap<String, Option<String>> = change.dropped.into_iter().map(|key| (key, None)).collect();
    data.extend(change.added.into_iter().map(|(key, value)| (key, Some(value))));
    json!({"metadata": {"resourceVersion": resource_version}, "data": data})
}

fn check_owner(owner: &Owner, sort: Sort, name: &str, found: &ConfigMap) -> Result<(), RingError> {
    let labelled = found.metadata.labels.iter().flatten().any(|(key, value)| key == sort.label && value == "true");
    if labelled && owner.owns(&found.metadata) {
        return Ok(());
    }
    let name = name.to_owned();
    // Left by an earlier guard of this name, and about to be collected.
    if labelled && owner.owned_before(&found.metadata) {
        return Err(RingError::Conflict { name });
    }
    Err(RingError::NotOurs { name })
}

fn new_config_map(owner: &Owner, sort: Sort, name: &str, change: Change) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(owner.namespace.clone()),
            labels: Some(owner.labels(sort.label, "true")),
            owner_references: Some(vec![owner.reference(false)]),
            ..ObjectMeta::default()
        },
        data: Some(change.added),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
