//! Pods that keep an undo from coming up.
//!
//! Role: while an undo is being verified, deletes the one pod that the domain names, or names it to people. Inputs: a
//! case, what is verified. Outputs: a deletion, events, conditions, the next wake-up. Must never import: `cli`, `console`.

use std::time::Duration;

use super::case::Case;
use crate::act::PodDeletion;
use crate::api::condition::{self, Type};
use crate::domain::outcome::Reason;
use crate::domain::policy::{Mode, Policy, StuckPods};
use crate::domain::rollout::{PodFact, Workload};
use crate::domain::undo::{self, Freeing, StuckPod, VerifyState};
use crate::record::events::EventReason;

/// When a deletion that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Looks for a pod that has to go. At most one is deleted in a look.
pub async fn look(case: &mut Case<'_>, policy: &Policy, workload: &Workload, pods: &[PodFact], state: &VerifyState) {
    case.freed().retain(|uid| pods.iter().any(|pod| pod.uid == *uid));
    let found = match undo::stuck_pod(case.now, state, workload, pods) {
        Freeing::Nothing => return,
        Freeing::Wait(until) => return case.wake_at(until),
        Freeing::Delete(found) => found,
    };
    if case.freed().contains(&found.uid) {
        // The watch does not show it yet.
        return case.wake_in(AGAIN);
    }
    if let Some(why) = why_not(case, policy, workload, found.reason) {
        return name(case, &found, &why);
    }
    crate::failpoint!("before-stuck-pod-is-deleted");
    let leadership = case.ctx.leadership.clone();
    match case.ctx.act.delete_pod(&found.pod, &found.uid, &move || leadership.holds()).await {
        Ok(PodDeletion::Deleted) => {
            crate::failpoint!("after-stuck-pod-is-deleted");
            case.freed().insert(found.uid.clone());
            let message = format!("deleted pod {} of revision {}: {}", found.pod.name, state.bad, found.why);
            case.note_of_pod(EventReason::StuckPodDeleted, message, &found.pod, &found.uid);
        }
        // Somebody was faster; the watch tells.
        Ok(PodDeletion::Gone) => {}
        Ok(PodDeletion::Refused { message }) => {
            let refused = format!("the API server refused to delete it: {}", message.as_str());
            name(case, &found, &refused);
            case.wake_in(AGAIN);
        }
        Err(error) => {
            tracing::warn!(%error, category = error.category(), pod = %found.pod, "a stuck pod was not deleted yet");
            case.ctx.metrics.reconcile_failed(error.category());
            case.wake_in(AGAIN);
        }
    }
}

/// What keeps an undo from coming up when its time is over, if it is a pod that nobody deleted.
#[must_use]
pub fn at_the_end(case: &Case<'_>, workload: &Workload, pods: &[PodFact], state: &VerifyState) -> Option<Reason> {
    match undo::stuck_pod(case.now, state, workload, pods) {
        Freeing::Delete(found) => Some(found.reason),
        Freeing::Nothing | Freeing::Wait(_) => None,
    }
}

/// Why the pod is named and not deleted, if so: deleting is an act like the undo itself.
fn why_not(case: &Case<'_>, policy: &Policy, workload: &Workload, reason: Reason) -> Option<String> {
    let (given, field) = if reason == Reason::OnDeleteStrategy {
        (policy.rollback.on_delete, "rollback.onDelete")
    } else {
        (policy.rollback.stuck_pods, "rollback.statefulSet.stuckPods")
    };
    if given == StuckPods::Alert {
        Some(format!("{field} is Alert"))
    } else if case.guard.spec.suspend {
        Some("the guard was suspended meanwhile".to_owned())
    } else if policy.mode < Mode::Approve {
        Some(format!("the guard's mode is {}", policy.mode.as_str()))
    } else {
        workload.skip.is_some().then(|| "the workload is annotated deploymentguard.dev/skip".to_owned())
    }
}

/// Tells people which pod to delete, once for each.
fn name(case: &mut Case<'_>, found: &StuckPod, why: &str) {
    let message = format!(
        "pod {} keeps the undo from coming up: {}. It was not deleted, because {why}. Delete it with kubectl -n {} delete \
         pod {} (pods of the undone revision: {})",
        found.pod.name, found.why, found.pod.namespace, found.pod.name, found.all
    );
    let told = format!("pod {} keeps the undo", found.pod.name);
    let before = condition::find(&case.draft.conditions, Type::Stalled);
    let is_news = before.is_none_or(|known| !known.message.starts_with(&told));
    case.observe_condition(Type::Stalled, true, found.reason, &message);
    if is_news {
        case.note_of_pod(EventReason::StuckPodFound, message, &found.pod, &found.uid);
    }
}
