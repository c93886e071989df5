//! Did the restored revision come up?
//!
//! Role: counts pods; conditions of the workload were all seen true over a failing undo. Inputs: the workload, pod facts
//! and `now`. Outputs: wait, success, or why not. Must never import: other rooms.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::policy::Kind;
use crate::domain::rollout::{PodFact, RevisionHash, Strategy, Workload};

/// Restored pods must stay Ready this long even where the workload asks for less.
pub const STEADY: Duration = Duration::from_secs(30);

/// What is being verified. It never changes, so a new leader goes on where the old one was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyState {
    /// The object that was patched.
    pub uid: Arc<str>,
    /// The revision that was put back.
    pub revision: RevisionHash,
    /// The revision that was undone.
    pub bad: RevisionHash,
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

/// When verification gives up: the user's time-out, but never before a Deployment's own progress deadline. The other
/// kinds have none.
#[must_use]
pub fn verify_deadline(started: Timestamp, time_out: Duration, workload: &Workload) -> Timestamp {
    let deadline = if workload.kind == Kind::Deployment { workload.progress_deadline_seconds } else { 0 };
    after(started, time_out.max(Duration::from_secs(deadline.into())))
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
    if workload.uid != state.uid || workload.terminating {
        return VerifyOutcome::Superseded;
    }
    // A read from before the patch says nothing about what came after it.
    let behind = state.generation.is_some_and(|generation| workload.generation < generation);
    let pushed = workload.current.as_ref().is_some_and(|current| *current != state.revision);
    if pushed && !behind {
        return VerifyOutcome::Superseded;
    }
    if let Some(why) = missing(state, workload, pods, behind) {
        let over = now >= deadline;
        return if over { VerifyOutcome::TimedOut { why } } else { VerifyOutcome::Waiting { why, until: deadline } };
    }
    let last = last_disturbance(state, pods);
    let steady = after(last, hold(workload));
    let why = "every pod is Ready and has to stay so".to_owned();
    if now >= steady {
        VerifyOutcome::Succeeded
    } else if now >= deadline && last > deadline {
        VerifyOutcome::TimedOut { why }
    } else {
        // The time-out is for becoming Ready; whoever was in time is watched to the end.
        VerifyOutcome::Waiting { why, until: steady }
    }
}

/// What is not as wanted yet, apart from time.
fn missing(state: &VerifyState, workload: &Workload, pods: &[PodFact], behind: bool) -> Option<String> {
    if behind {
        return Some("the patch was not seen in the cache yet".to_owned());
    }
    if workload.current.is_none() {
        return Some("no revision of the workload holds the restored template".to_owned());
    }
    if workload.paused {
        return Some("the workload was paused".to_owned());
    }
    if workload.observed_generation < workload.generation {
        return Some("the controller has not observed the undo yet".to_owned());
    }
    if workload.strategy == Strategy::OnDelete {
        return missing_on_delete(state, workload, pods);
    }
    let live = || pods.iter().filter(|pod| pod.is_live() && !workload.leaves_alone(pod));
    let others = live().filter(|pod| pod.revision != state.revision).count();
    let good = live().filter(|pod| pod.revision == state.revision).count();
    let ready = live().filter(|pod| pod.revision == state.revision && pod.ready_since.is_some()).count();
    let wanted = workload.wanted();
    if u32::try_from(ready).is_ok_and(|ready| ready < wanted) {
        return Some(format!("{ready} of {wanted} pods are Ready on the restored revision"));
    }
    if ready < good {
        return Some(format!("{} pods of the restored revision are not Ready", good - ready));
    }
    (others > 0).then(|| format!("{others} pods of another revision are still there"))
}

/// Where nobody replaces pods, only those of the bad revision have to go; how old the others are is their owner's affair.
fn missing_on_delete(state: &VerifyState, workload: &Workload, pods: &[PodFact]) -> Option<String> {
    let live = || pods.iter().filter(|pod| pod.is_live());
    let mut left: Vec<&str> = live().filter(|pod| pod.revision == state.bad).map(|pod| &*pod.pod.name).collect();
    if !left.is_empty() {
        left.sort_unstable();
        let names = named(&left);
        let bad = &state.bad;
        return Some(format!("nobody replaces pods, because the update strategy is OnDelete: {names} still run {bad}"));
    }
    let there = live().count();
    let wanted = workload.replicas;
    if u32::try_from(there).is_ok_and(|there| there < wanted) {
        return Some(format!("{there} of {wanted} pods are there"));
    }
    let unready = live().filter(|pod| pod.revision == state.revision && pod.ready_since.is_none()).count();
    (unready > 0).then(|| format!("{unready} pods of the restored revision are not Ready"))
}

/// Names for people, the first few of many.
pub(super) fn named(names: &[&str]) -> String {
    const MOST: usize = 5;
    let shown = names.get(..MOST).unwrap_or(names).join(", ");
    let more = names.len().saturating_sub(MOST);
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// What a partition keeps from being undone, for people.
#[must_use]
pub fn left_alone(bad: &RevisionHash, workload: &Workload, pods: &[PodFact]) -> Option<String> {
    if workload.kind != Kind::StatefulSet || workload.partition == 0 {
        return None;
    }
    let first = workload.first_ordinal.saturating_add(workload.partition);
    let still = pods.iter().filter(|pod| pod.is_live() && workload.leaves_alone(pod) && pod.revision == *bad);
    let mut still: Vec<&str> = still.map(|pod| &*pod.pod.name).collect();
    still.sort_unstable();
    let keep = format!("pods with an ordinal below {first} keep their revision (rollingUpdate.partition)");
    Some(if still.is_empty() { keep } else { format!("{keep}, of them {} the bad one", named(&still)) })
}

/// How long restored pods must stay Ready.
fn hold(workload: &Workload) -> Duration {
    STEADY.max(Duration::from_secs(u64::from(workload.min_ready_seconds)))
}

/// The last time that a restored pod started or became Ready. Pods that outlived the bad rollout were Ready long before:
/// they too must hold after the undo.
fn last_disturbance(state: &VerifyState, pods: &[PodFact]) -> Timestamp {
    let restored = pods.iter().filter(|pod| pod.is_live() && pod.revision == state.revision);
    let disturbed = restored.flat_map(|pod| pod.ready_since.into_iter().chain(pod.container_starts.last().copied()));
    disturbed.max().map_or(state.started, |last| last.max(state.started))
}

fn after(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}
