//! Sample ConfigMaps.
//!
//! Role: puts training samples into the guard's ring. Inputs: the guard and a sample. Outputs: a ConfigMap that the guard
//! owns. Must never import: other rooms than `domain` and `api`.

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
use crate::domain::managers;
use crate::domain::redact::{Redacted, Redactor, SERVER_MESSAGE};
use crate::domain::retry::Retry;
use crate::domain::sample::{RingChange, Sample, canonical, push};

/// The longest name of an object.
const MAX_NAME: usize = 253;

/// How often a lost race is run again.
const TRIES: u32 = 5;

/// Marks ConfigMaps that hold samples.
pub const SAMPLE_LABEL: &str = "deploymentguard.dev/sample";

/// Writes samples.
#[derive(Clone)]
pub struct Samples {
    client: Client,
    redactor: Arc<Redactor>,
    time_out: Duration,
}

/// Why a sample was not kept.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
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

impl SampleError {
    /// The metric label.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::NotOurs { .. } => "sample_not_ours",
            Self::Conflict { .. } => "sample_conflict",
            Self::TimedOut { .. } => "sample_timeout",
            Self::Api { .. } => "sample_api",
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

impl Samples {
    /// A writer that waits at most `time_out` for one answer.
    #[must_use]
    pub fn new(client: Client, redactor: Arc<Redactor>, time_out: Duration) -> Self {
        Self { client, redactor, time_out }
    }

    /// Puts a sample into the guard's ring under its decision's id and returns the ConfigMap's name. Repeating it with
    /// the same id changes nothing.
    ///
    /// # Errors
    /// When the ConfigMap is somebody else's, keeps changing, or cannot be written.
    pub async fn append(
        &self,
        owner: &Owner,
        decision_id: &str,
        sample: &Sample,
        retain: usize,
    ) -> Result<String, SampleError> {
        let name = config_map_name(&owner.guard);
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &owner.namespace);
        let mut sample = sample.clone();
        sample.evidence_hash = hash(&canonical(&sample.state.evidence));
        for _ in 0..TRIES {
            let written = match self.in_time(&name, api.get_opt(&name)).await? {
                None => {
                    let Some(change) = push(&BTreeMap::new(), decision_id, &sample, retain) else { return Ok(name) };
                    let new = new_config_map(owner, &name, change);
                    self.in_time(&name, api.create(&create_params(), &new)).await
                }
                Some(found) => {
                    check_owner(owner, &name, &found)?;
                    let ring = found.data.unwrap_or_default();
                    let Some(change) = push(&ring, decision_id, &sample, retain) else { return Ok(name) };
                    let patch = Patch::Merge(merge(found.metadata.resource_version.as_deref(), change));
                    self.in_time(&name, api.patch(&name, &PatchParams::apply(managers::SAMPLES), &patch)).await
                }
            };
            match written {
                Ok(_) => return Ok(name),
                Err(SampleError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(SampleError::Conflict { name })
    }

    async fn in_time<T>(
        &self,
        name: &str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, SampleError> {
        let name = name.to_owned();
        match tokio::time::timeout(self.time_out, call).await {
            Ok(Ok(value)) => Ok(value),
            // 404 on a patch: deleted in between; the next try makes it anew.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 || is_gone(&status) => {
                Err(SampleError::Conflict { name })
            }
            Ok(Err(error)) => {
                let message = self.redactor.redact(&error.to_string(), SERVER_MESSAGE);
                Err(SampleError::Api { name, message })
            }
            Err(_) => Err(SampleError::TimedOut { name }),
        }
    }
}

/// The name of a guard's sample ConfigMap; a guard's name that is too long is cut and told apart by a hash.
#[must_use]
pub fn config_map_name(guard: &str) -> String {
    const SUFFIX: &str = "-samples";
    if guard.len() + SUFFIX.len() <= MAX_NAME {
        return format!("{guard}{SUFFIX}");
    }
    let digest = hash(guard);
    let digest = digest.get(..8).unwrap_or_default();
    let room = MAX_NAME - SUFFIX.len() - digest.len() - 1;
    let end = (0..=room).rev().find(|end| guard.is_char_boundary(*end)).unwrap_or(0);
    // Each part of a name ends in a letter or a digit.
    let head = guard.get(..end).unwrap_or_default().trim_end_matches(['-', '.']);
    format!("{head}-{digest}{SUFFIX}")
}

/// The ConfigMap, not its namespace, is missing.
fn is_gone(status: &kube::core::Status) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|details| details.kind == "configmaps")
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn create_params() -> PostParams {
    PostParams { field_manager: Some(managers::SAMPLES.to_owned()), ..PostParams::default() }
}

/// The resourceVersion makes the API server refuse it with 409 when somebody wrote in between.
fn merge(resource_version: Option<&str>, change: RingChange) -> Value {
    let mut data: BTreeMap<String, Option<String>> = change.dropped.into_iter().map(|key| (key, None)).collect();
    data.insert(change.key, Some(change.value));
    json!({"metadata": {"resourceVersion": resource_version}, "data": data})
}

fn check_owner(owner: &Owner, name: &str, found: &ConfigMap) -> Result<(), SampleError> {
    let labelled = found.metadata.labels.iter().flatten().any(|(key, value)| key == SAMPLE_LABEL && value == "true");
    if labelled && owner.owns(&found.metadata) {
        return Ok(());
    }
    let name = name.to_owned();
    // Left by an earlier guard of this name, and about to be collected.
    if labelled && owner.owned_before(&found.metadata) {
        return Err(SampleError::Conflict { name });
    }
    Err(SampleError::NotOurs { name })
}

fn new_config_map(owner: &Owner, name: &str, change: RingChange) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(owner.namespace.clone()),
            labels: Some(owner.labels(SAMPLE_LABEL, "true")),
            owner_references: Some(vec![owner.reference(false)]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(change.key, change.value)])),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
