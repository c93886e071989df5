//! Pods of a bad revision that their controller does not replace after an undo.
//!
//! Role: names the one pod that may be deleted now, so that the restored revision comes up: what a StatefulSet waits for
//! (Kubernetes issue 67250), or what nobody replaces because of `OnDelete`. Inputs: the workload, pod facts, `now`.
//! Outputs: a pod, or when to look again. Must never import: other rooms.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::verify::{VerifyState, named};
use crate::domain::outcome::Reason;
use crate::domain::policy::Kind;
use crate::domain::rollout::{PodFact, PodName, Strategy, Workload};

/// So long the controller has to do it itself, and so long a pod was not Ready on end.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so many restarts nobody waits for the pod any longer.
const RESTARTS: u32 = 2;

/// A pod that has to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StuckPod {
    /// Which.
    pub pod: PodName,
    /// Its uid: another pod of that name stays.
    pub uid: Arc<str>,
    /// Why, as one word.
    pub reason: Reason,
    /// Why, as a clause.
    pub why: String,
    /// The pods that still carry the bad revision, this one among them, for people.
    pub all: String,
}

/// What is to be done about pods that stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freeing {
    /// Nothing now; only a change of a pod can change that.
    Nothing,
    /// Nothing before that moment.
    Wait(Timestamp),
    /// This pod is to be deleted, and no other one.
    Delete(Box<StuckPod>),
}

/// The pod that may be deleted now. One a look: the next one is asked for when its successor stands.
#[must_use]
pub fn stuck_pod(now: Timestamp, state: &VerifyState, workload: &Workload, pods: &[PodFact]) -> Freeing {
    let is_set = workload.kind == Kind::StatefulSet;
    let restored = Some(&state.revision);
    let observed = workload.observed_generation >= workload.generation
        && workload.current.as_ref() == restored
        // A pod that goes before the set makes restored ones would come back as it was.
        && (!is_set || workload.update_revision.as_ref() == restored);
    if !observed || workload.uid != state.uid || workload.terminating || state.bad == state.revision {
        return Freeing::Nothing;
    }
    match (workload.kind, workload.strategy) {
        (Kind::StatefulSet | Kind::DaemonSet, Strategy::OnDelete) => nobody_replaces(now, state, workload, pods),
        (Kind::StatefulSet, Strategy::Rolling) => set_waits_for(now, state, workload, pods),
        // Deployments and rolling DaemonSets replace their pods whatever these do.
        _ => Freeing::Nothing,
    }
}

/// The set waits for the lowest of its unavailable pods. Deleting a higher one first makes it worse.
fn set_waits_for(now: Timestamp, state: &VerifyState, workload: &Workload, pods: &[PodFact]) -> Freeing {
    let all = workload.first_ordinal..workload.first_ordinal.saturating_add(workload.replicas);
    for ordinal in all {
        // Absent or going: the set is at work there.
        let Some(pod) = pods.iter().find(|pod| pod.is_live() && pod.ordinal() == Some(ordinal)) else {
            return Freeing::Nothing;
        };
        let Some(since) = pod.ready_since else { return unready(now, state, workload, pods, pod) };
        let available = after(since, Duration::from_secs(workload.min_ready_seconds.into()));
        if now < available {
            return Freeing::Wait(available);
        }
    }
    Freeing::Nothing
}

/// The lowest unavailable pod is not Ready.
fn unready(now: Timestamp, state: &VerifyState, workload: &Workload, pods: &[PodFact], pod: &PodFact) -> Freeing {
    if pod.revision != state.bad || workload.leaves_alone(pod) {
        return Freeing::Nothing;
    }
    let since = pod.unready_since.unwrap_or(pod.created);
    let own_time = after(state.started, PATIENCE);
    let due = if pod.restarts >= RESTARTS { own_time } else { own_time.max(after(since, PATIENCE)) };
    if now < due {
        return Freeing::Wait(due);
    }
    let why = if pod.restarts >= RESTARTS {
        format!("it is not Ready and its containers restarted {} times", pod.restarts)
    } else {
        let seconds = Duration::try_from(now.duration_since(since)).unwrap_or_default().as_secs();
        format!("it has not been Ready for {seconds} s")
    };
    let why = format!("the StatefulSet waits for it instead of replacing it, and {why}");
    found(state, workload, pods, pod, Reason::StuckStatefulSetPod, why)
}

/// One after the other, each once the one before is replaced and available; what is not Ready first.
fn nobody_replaces(now: Timestamp, state: &VerifyState, workload: &Workload, pods: &[PodFact]) -> Freeing {
    let live = || pods.iter().filter(|pod| pod.is_live());
    let complete = u32::try_from(live().count()).is_ok_and(|there| there >= workload.replicas);
    if !complete || pods.iter().any(|pod| pod.terminating) {
        return Freeing::Nothing;
    }
    let hold = Duration::from_secs(workload.min_ready_seconds.into());
    let mut available = now;
    for pod in live().filter(|pod| pod.revision == state.revision) {
        let Some(since) = pod.ready_since else { return Freeing::Nothing };
        available = available.max(after(since, hold));
    }
    // A StatefulSet that makes its pods in order makes none above one that is not Ready.
    let place = |pod: &&PodFact| (pod.ready_since.is_some(), pod.ordinal(), pod.pod.name.clone());
    let Some(pod) = live().filter(|pod| pod.revision == state.bad).min_by_key(place) else { return Freeing::Nothing };
    if now < available {
        return Freeing::Wait(available);
    }
    let why = "nobody replaces it, because the update strategy is OnDelete".to_owned();
    found(state, workload, pods, pod, Reason::OnDeleteStrategy, why)
}

fn found(
    state: &VerifyState,
    workload: &Workload,
    pods: &[PodFact],
    pod: &PodFact,
    reason: Reason,
    why: String,
) -> Freeing {
    let stays = |pod: &&PodFact| pod.is_live() && pod.revision == state.bad && !workload.leaves_alone(pod);
    let mut all: Vec<&str> = pods.iter().filter(stays).map(|pod| &*pod.pod.name).collect();
    all.sort_unstable();
    let all = named(&all);
    Freeing::Delete(Box::new(StuckPod { pod: pod.pod.clone(), uid: pod.uid.clone(), reason, why, all }))
}

fn after(time: Timestamp, wait: Duration) -> Timestamp {
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}
