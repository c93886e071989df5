//! Status by server-side apply.
//!
//! Role: writes a status when a reader could see a difference. Inputs: the status as it was and as it is now. Outputs: one
//! API call, or none. Must never import: `act`, `observe`, `controller`.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::api::status::{AnalysisStatus, DeploymentGuardStatus};
use crate::domain::managers;
use crate::domain::retry::Retry;

/// How long one write may take; kube itself would retry for minutes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Numbers that merely move are written this often at most.
const QUIET: SignedDuration = SignedDuration::from_secs(15);

/// Why a status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The API server refused or could not be reached.
    #[error("writing the status failed: {0}")]
    Api(#[from] Box<kube::Error>),
    /// No answer in time.
    #[error("writing the status took longer than {WRITE_TIMEOUT:?}")]
    TimedOut,
}

impl StatusError {
    /// The error's class, for metrics.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Api(_) => "api",
            Self::TimedOut => "timeout",
        }
    }

    /// Whether somebody else wrote the object in between.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(error) if matches!(&**error, kube::Error::Api(status) if status.code == 409))
    }

    /// When to try again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            // The object is gone; its deletion is an event of its own.
            Self::Api(error) if matches!(&**error, kube::Error::Api(status) if status.code == 404) => Retry::Never,
            Self::Api(_) if self.is_conflict() => Retry::Conflict,
            _ => Retry::Backoff,
        }
    }
}

/// Whether `new` must be written over `old`, last written at `written`.
#[must_use]
pub fn worth_writing(
    old: &DeploymentGuardStatus,
    new: &DeploymentGuardStatus,
    written: Option<Timestamp>,
    now: Timestamp,
) -> bool {
    if old == new {
        return false;
    }
    let quiet_over = written.is_none_or(|at| now.duration_since(at) >= QUIET);
    quiet_over || is_news(old, new)
}

/// Whether `new` says something that a reader must not wait for.
#[must_use]
pub fn is_news(old: &DeploymentGuardStatus, new: &DeploymentGuardStatus) -> bool {
    lasting(old) != lasting(new)
}

/// What must be written at once: all but what merely moves while an analysis goes on.
fn lasting(status: &DeploymentGuardStatus) -> DeploymentGuardStatus {
    // Evidence that grows tenfold is news.
    let magnitude = |analysis: &AnalysisStatus| analysis.one_in.as_ref().map(|text| text.len().to_string());
    let analysis = status.analysis.as_ref().and_then(magnitude);
    let mut lasting = DeploymentGuardStatus {
        signals: Vec::new(),
        analysis: analysis.map(|one_in| AnalysisStatus { one_in: Some(one_in), ..AnalysisStatus::default() }),
        health_score: None,
        next_evaluation: None,
        ..status.clone()
    };
    for condition in &mut lasting.conditions {
        condition.message.clear();
    }
    // What is found is news; how often the same line was logged again is not.
    for finding in lasting.findings.iter_mut().filter(|finding| finding.source != "pods") {
        (finding.new, finding.old) = (0, None);
        finding.context.clear();
    }
    lasting
}

/// Writes the status of an object as ours.
///
/// # Errors
/// If the API server does not take it.
pub async fn apply<K, S>(api: &Api<K>, name: &str, status: &S, manager: &str) -> Result<K, StatusError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
    S: Serialize + Sync,
{
    apply_over(api, name, status, manager, None).await
}

/// The same, but only over this version of the object: a write that was under way while leadership moved on must not undo
/// what the next leader wrote.
///
/// # Errors
/// As [`apply`], and a conflict when the object changed since.
pub async fn apply_over<K, S>(
    api: &Api<K>,
    name: &str,
    status: &S,
    manager: &str,
    version: Option<&str>,
) -> Result<K, StatusError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
    S: Serialize + Sync,
{
    let mut body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name },
        "status": status,
    });
    if let Some(version) = version {
        body["metadata"]["resourceVersion"] = json!(version);
    }
    let params = PatchParams::apply(manager).force();
    match tokio::time::timeout(WRITE_TIMEOUT, api.patch_status(name, &params, &Patch::Apply(body))).await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(error)) => Err(StatusError::Api(Box::new(error))),
        Err(_) => Err(StatusError::TimedOut),
    }
}

/// Reads an object as it is stored; `None` when it does not exist.
///
/// # Errors
/// If the API server does not answer.
pub async fn stored<K>(api: &Api<K>, name: &str) -> Result<Option<K>, StatusError>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    match tokio::time::timeout(WRITE_TIMEOUT, api.get_opt(name)).await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(error)) => Err(StatusError::Api(Box::new(error))),
        Err(_) => Err(StatusError::TimedOut),
    }
}

/// Stands for a status: equal ones have equal numbers.
#[must_use]
pub fn fingerprint<S: Serialize>(status: &S) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    json!(status).to_string().hash(&mut hasher);
    hasher.finish()
}

/// The field manager of guards' status.
pub const MANAGER: &str = managers::STATUS;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::Condition;

    fn status(reason: &str, message: &str, score: i32) -> DeploymentGuardStatus {
        let condition = Condition {
            type_: "Healthy".into(),
            status: "Unknown".into(),
            reason: reason.into(),
            message: message.into(),
            last_transition_time: "2026-01-01T00:00:00Z".into(),
            observed_generation: Some(1),
        };
        DeploymentGuardStatus { conditions: vec![condition], health_score: Some(score), ..Default::default() }
    }

    #[test]
    fn numbers_that_move_wait_and_reasons_do_not() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let old = status("Analyzing", "score 90", 90);
        assert!(!worth_writing(&old, &old, Some(at(0)), at(100)));
        assert!(!worth_writing(&old, &status("Analyzing", "score 91", 91), Some(at(0)), at(14)));
        assert!(worth_writing(&old, &status("Analyzing", "score 91", 91), Some(at(0)), at(15)));
        assert!(worth_writing(&old, &status("NoTraffic", "score 90", 90), Some(at(0)), at(1)));
    }
}
