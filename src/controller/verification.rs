//! Whether an undo did what it was for: the restored pods are counted.
//!
//! Role: waits for them, frees what keeps them from coming up, and says how it ended. Inputs: a case and a sent undo.
//! Outputs: conditions, record, events. Must never import: `cli`, `console`.

use jiff::Timestamp;

use super::case::Case;
use super::restore::{already_current, restored, result_of, seconds, sent, since};
use super::{progress, recheck, stuck};
use crate::api::condition::{Truth, Type};
use crate::api::status::{DecisionRecord, parse_time};
use crate::domain::outcome::Reason;
use crate::domain::plan::{Current, PendingUndo, Stage};
use crate::domain::policy::Policy;
use crate::domain::redact::SERVER_MESSAGE;
use crate::domain::rollout::{PodFact, Workload};
use crate::domain::undo::{self, VerifyOutcome, VerifyState};
use crate::record::events::EventReason;

/// Counts the restored pods, and frees what keeps them from coming up.
pub async fn look(case: &mut Case<'_>, policy: &Policy, workload: &Workload, pods: &[PodFact], undo: PendingUndo) {
    if undo.sent.is_none() {
        if workload.last_rollback.as_deref() == Some(&*undo.decision) {
            // The answer was lost, or another leader sent it.
            sent(case, policy, workload, undo);
        } else {
            already_current(case, workload, &undo);
        }
        return;
    }
    crate::failpoint!("before-verification");
    let started = undo.sent.unwrap_or(undo.intended);
    let (revision, bad) = (undo.to.clone(), undo.from.clone());
    let state = VerifyState { uid: workload.uid.clone(), revision, bad, generation: None, started };
    let alone = undo::left_alone(&undo.from, workload, pods).map(|alone| format!("; {alone}")).unwrap_or_default();
    let deadline = undo::verify_deadline(started, policy.rollback.verify_timeout, workload);
    match undo::verify(case.now, &state, workload, pods, deadline) {
        VerifyOutcome::Waiting { why, until } => {
            let message = format!("went back from revision {} to {}; {why}{alone}", undo.from, undo.to);
            case.observe_condition(Type::RolledBack, true, Reason::RollbackStarted, &message);
            case.observe_condition(Type::Healthy, Truth::Unknown, Reason::RollbackStarted, &message);
            stuck::look(case, policy, workload, pods, &state).await;
            case.wake_at(until.max(case.now.checked_add(std::time::Duration::from_millis(500)).unwrap_or(until)));
        }
        VerifyOutcome::Succeeded => {
            verified(case, workload, &undo, Ok(alone));
            recheck::begin(case, policy, &undo);
        }
        VerifyOutcome::TimedOut { why } => {
            let reason = stuck::at_the_end(case, workload, pods, &state).unwrap_or(Reason::RollbackTimedOut);
            let refused = refused(case, workload);
            verified(case, workload, &undo, Err((reason, format!("{why}{alone}{refused}"))));
        }
        VerifyOutcome::Superseded => {
            case.workload_is_stale();
            case.wake_in(std::time::Duration::from_millis(100));
        }
    }
}

/// Why Kubernetes makes no more pods: a quota or an admission policy, which the dry run of an undo does not see.
fn refused(case: &Case<'_>, workload: &Workload) -> String {
    let words = workload.replica_failure.as_deref().map(|words| case.ctx.redactor.redact(words, SERVER_MESSAGE));
    words.map_or_else(String::new, |words| format!("; no more pods are made: {}", words.as_str()))
}

fn verified(case: &mut Case<'_>, workload: &Workload, undo: &PendingUndo, result: Result<String, (Reason, String)>) {
    crate::failpoint!("before-verification-is-recorded");
    progress::write_undo(&mut case.draft, None);
    let took = since(undo.sent.unwrap_or(undo.intended), case.now);
    let stage = if result.is_ok() { Stage::Serving } else { Stage::Unproven };
    let restored = restored(case, Current::new(undo.to.clone(), undo.sent.unwrap_or(undo.intended), stage));
    progress::write_current(&mut case.draft, &restored, workload);
    let (reason, event, message) = match result {
        Ok(alone) => (
            Reason::RollbackSucceeded,
            EventReason::RollbackSucceeded,
            format!(
                "revision {} serves again; every pod has been ready long enough, {} after the undo{alone}",
                undo.to,
                seconds(took)
            ),
        ),
        Err((reason, why)) => (
            reason,
            EventReason::RollbackFailed,
            format!("revision {} was put back, but did not become ready in time: {why}", undo.to),
        ),
    };
    let succeeded = reason == Reason::RollbackSucceeded;
    if let Some(decision) = &mut case.draft.last_decision {
        decision.durations.undo_to_restored = succeeded.then(|| seconds(took));
        let known = succeeded.then(|| detected(decision)).flatten();
        decision.durations.detection_to_restored = known.map(|at| seconds(since(at, case.now)));
        decision.action_reason = Some(reason.to_string());
    }
    case.observe_condition(Type::RolledBack, true, reason, &message);
    let healthy = if succeeded { Truth::Unknown } else { Truth::False };
    case.observe_condition(Type::Healthy, healthy, reason, &message);
    case.observe_condition(Type::Reconciling, false, reason, &message);
    case.observe_condition(Type::Stalled, !succeeded, reason, &message);
    case.ctx.metrics.rolled_back(result_of(reason));
    case.note(event, message);
}

/// When the bad revision was first seen.
fn detected(decision: &DecisionRecord) -> Option<Timestamp> {
    let took: kube::core::Duration = decision.durations.detection_to_decision.as_deref()?.parse().ok()?;
    parse_time(&decision.time)?.checked_sub(std::time::Duration::from(took)).ok()
}
