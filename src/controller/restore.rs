//! The undo from its intent to the patch, and what others do in between.
//!
//! Role: writes the intent, lets `act` carry it out, says what became of it. Inputs: a case and a pending undo. Outputs:
//! conditions, record, events. Must never import: `cli`, `console`.

use jiff::Timestamp;

use super::case::Case;
use super::error::Error;
use super::{class, progress, suspensions};
use crate::act::{ActError, GiveBack, Suspended, UndoOutcome};
use crate::api::GuardClass;
use crate::api::condition::{Truth, Type};
use crate::api::status::{parse_time, time};
use crate::domain::guardrail::{self, Proposal};
use crate::domain::known_good::Choice;
use crate::domain::outcome::{ActionTaken, Reason};
use crate::domain::plan::{BadRevision, Current, PendingUndo, Stage};
use crate::domain::policy::{Mode, Policy};
use crate::domain::recommend;
use crate::domain::rollout::{PodFact, Tool, Workload};
use crate::domain::undo::{KeptTemplate, LostPort, UndoRequest};
use crate::record::events::EventReason;

/// Hands back fields of the template that an undo still owns; without it the user's next apply would conflict.
pub async fn give_back(case: &mut Case<'_>, workload: &Workload) {
    if !workload.owns_template {
        return;
    }
    let leadership = case.ctx.leadership.clone();
    let fence = move || leadership.holds();
    match case.ctx.act.give_back(&case.key.namespace, &case.target.target, &fence).await {
        Ok(GiveBack::Moved { to }) => {
            tracing::info!(%to, "ownership of the template was handed back");
            case.workload_is_stale();
        }
        Ok(GiveBack::NothingToDo | GiveBack::NobodyToGiveTo | GiveBack::Gone) => {}
        // Level-triggered: the next look tries again.
        Err(error) => tracing::warn!(%error, "ownership of the template was not handed back yet"),
    }
}

/// Finishes an undo that was written down and not sent, unless something objects by now.
///
/// # Errors
/// If the status cannot be written; then nothing was sent.
pub async fn finish(
    case: &mut Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    workload: &Workload,
    pods: &[PodFact],
    undo: PendingUndo,
) -> Result<(), Error> {
    let current =
        Current { baseline: Some(undo.to.clone()), ..Current::new(undo.from.clone(), undo.intended, Stage::Judging) };
    let undone = case.progress.undone.clone();
    let choice = workload.exists(&undo.to).then(|| Choice::made_before(&undo.to));
    let of_class = case.ctx.storms.of(class).moments(&undo.decision);
    let proposal = Proposal {
        policy,
        workload,
        current: &current,
        to: choice.as_ref(),
        pods,
        undone: &undone,
        of_class: &of_class,
        now: case.now,
    };
    let last = case.draft.last_decision.as_ref().filter(|last| last.id == undo.decision);
    let approved = last.is_some_and(|last| last.answered_by.is_some()) && policy.mode >= Mode::Approve;
    let objection = if case.guard.spec.suspend {
        Some((Reason::Suspended, "the guard was suspended meanwhile".to_owned()))
    } else if approved {
        guardrail::objection_of_the_world(&proposal).map(|clamp| (clamp.reason, clamp.message))
    } else {
        guardrail::first_objection(&proposal).map(|clamp| (clamp.reason, clamp.message))
    };
    match objection {
        Some((reason, why)) => {
            suspensions::without_undo_of(case, workload, &undo.decision).await;
            not_done(case, &undo, reason, EventReason::RollbackSkipped, &why);
            Ok(())
        }
        None => carry_out(case, class, policy, workload, undo).await,
    }
}

/// Carries out a decided undo. The intent stands in status before the first write to the workload.
///
/// # Errors
/// If the status cannot be written; then nothing was sent.
pub async fn carry_out(
    case: &mut Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    workload: &Workload,
    undo: PendingUndo,
) -> Result<(), Error> {
    progress::write_undo(&mut case.draft, Some(&undo));
    let message = format!("rolling back from revision {} to {}", undo.from, undo.to);
    case.observe_condition(Type::Reconciling, true, Reason::RollbackStarted, &message);
    crate::failpoint!("before-intent");
    case.write(true).await?;
    crate::failpoint!("after-intent");
    count(case, class, policy).await;
    // Whoever would revert the undo is stopped first, or it is not made.
    let suspended = match suspensions::before_undo(case, policy, workload, &undo).await {
        Ok(Suspended::Done { place, .. }) => Some(place),
        Ok(Suspended::NotNeeded) => None,
        Ok(Suspended::Refused(words)) => {
            not_suspended(case, workload, &undo, words.as_str());
            return Ok(());
        }
        Err(error) => {
            not_finished(case, &error);
            return Ok(());
        }
    };
    let request = UndoRequest {
        decision_id: undo.decision.clone(),
        namespace: case.key.namespace.clone(),
        target: case.target.target.clone(),
        uid: workload.uid.clone(),
        from: undo.from.clone(),
        to: undo.to.clone(),
        kept: undo.kept.as_ref().map(|kept| KeptTemplate {
            name: kept.name.clone(),
            template: kept.template,
            owner: case.owner().uid,
        }),
    };
    let leadership = case.ctx.leadership.clone();
    let outcome = case.ctx.act.undo(&request, &move || leadership.holds()).await;
    case.workload_is_stale();
    match outcome {
        Ok(outcome) => {
            let made = matches!(outcome, UndoOutcome::Patched { .. } | UndoOutcome::AlreadyDone { .. });
            if let Some(place) = suspended.filter(|_| !made) {
                suspensions::without_undo(case, &place, &undo.decision).await;
            }
            concluded(case, policy, workload, undo, outcome);
        }
        Err(error) => not_finished(case, &error),
    }
    Ok(())
}

/// The intent stands: the next look, or the next leader, finishes it or finds it done.
fn not_finished(case: &mut Case<'_>, error: &ActError) {
    tracing::warn!(%error, category = error.category(), "the undo is not finished yet");
    case.ctx.metrics.reconcile_failed(error.category());
    let message = format!("the undo is not finished yet: {error}");
    case.observe_condition(Type::Healthy, false, Reason::RollbackStarted, &message);
    case.wake_in(std::time::Duration::from_secs(2));
}

/// Without it the undo would be reverted, so it is left to people.
fn not_suspended(case: &mut Case<'_>, workload: &Workload, undo: &PendingUndo, words: &str) {
    let choice = Choice::made_before(&undo.to);
    let why = Reason::SuppressedByGitOps;
    let commands = recommend::commands(&case.key.namespace, &case.target.target, workload, Some(&choice), why);
    let what = if commands.is_empty() { String::new() } else { format!(". Recommended: {}", commands.join("; or: ")) };
    let applier = workload.applier.as_ref().map(ToString::to_string).unwrap_or_default();
    let why = format!("{applier} could not be suspended: {words}{what}");
    if let Some(decision) = &mut case.draft.last_decision {
        decision.clamped_by = Some("git-ops".to_owned());
        decision.commands = commands;
    }
    not_done(case, undo, Reason::SuppressedByGitOps, EventReason::GitOpsConflict, &why);
}

/// Writes the undo into the class's status for the storm breaker. The undo does not wait for better times: this process
/// has counted it.
async fn count(case: &Case<'_>, class: &GuardClass, policy: &Policy) {
    let status = case.ctx.storms.of(class).status(policy.storm, case.now);
    if let Err(error) = class::write_storm(case.ctx, class, status).await {
        tracing::warn!(%error, "the undo is not in the class's status yet");
    }
}

fn concluded(case: &mut Case<'_>, policy: &Policy, workload: &Workload, undo: PendingUndo, outcome: UndoOutcome) {
    match outcome {
        UndoOutcome::Patched { only_in_good, .. } => {
            if let Some(record) = &mut case.draft.last_decision {
                record.only_in_restored = only_in_good.into_iter().take(32).collect();
            }
            sent(case, policy, workload, undo);
        }
        UndoOutcome::AlreadyDone { .. } => sent(case, policy, workload, undo),
        UndoOutcome::AlreadyCurrent => already_current(case, workload, &undo),
        UndoOutcome::Superseded => {
            let why = "another template was pushed in between and stands";
            not_done(case, &undo, Reason::Superseded, EventReason::RollbackSkipped, why);
        }
        UndoOutcome::Paused => {
            let why = "the Deployment was paused in between; resume it with kubectl rollout resume";
            not_done(case, &undo, Reason::WorkloadPaused, EventReason::RollbackSkipped, why);
        }
        UndoOutcome::Gone(_) => {
            not_done(case, &undo, Reason::TargetNotFound, EventReason::RollbackSkipped, "the workload is gone");
        }
        UndoOutcome::NothingToGoBackTo => {
            let why = format!("revision {} no longer exists; push a fixed version", undo.to);
            // Whatever status says is kept was not there, or was not what was put there.
            case.doubt_kept();
            not_done(case, &undo, Reason::NoKnownGoodRevision, EventReason::NoKnownGoodRevision, &why);
        }
        UndoOutcome::Unreadable => {
            let why = format!("what revision {} holds is no pod template; push a fixed version", undo.to);
            not_done(case, &undo, Reason::NoKnownGoodRevision, EventReason::NoKnownGoodRevision, &why);
        }
        UndoOutcome::PortMissing(LostPort { service, port }) => {
            let why = format!(
                "Service {service} targets the port {port:?}, which revision {} does not have: it would lead nowhere; roll \
                 back the Service as well, by hand",
                undo.to
            );
            not_done(case, &undo, Reason::ServicePortMissing, EventReason::RollbackSkipped, &why);
        }
        UndoOutcome::AdmissionRejected { message } => {
            let why = format!("the API server's policies refused it: {}", message.as_str());
            not_done(case, &undo, Reason::AdmissionRejected, EventReason::RollbackFailed, &why);
        }
        UndoOutcome::Failed { message } => {
            let why = format!("the API server refused it: {}", message.as_str());
            not_done(case, &undo, Reason::RollbackFailed, EventReason::RollbackFailed, &why);
        }
    }
}

/// What people who release with Helm have to know: Helm itself does not see the undo.
fn helm(workload: &Workload) -> String {
    let release = workload.applier.as_ref().filter(|applier| applier.tool == Tool::Helm && !applier.name.is_empty());
    release.map_or_else(String::new, |applier| {
        let namespace = if applier.namespace.is_empty() { String::new() } else { format!(" -n {}", applier.namespace) };
        let name = &applier.name;
        format!(
            "; Helm still takes the bad release for deployed (helm rollback {name}{namespace} puts its record right)"
        )
    })
}

/// Writes down that the patch was accepted, now or before a crash: once, whatever became of the workload since.
fn booked(case: &mut Case<'_>, policy: &Policy, workload: &Workload, mut undo: PendingUndo) -> PendingUndo {
    crate::failpoint!("before-undo-is-recorded");
    let now = case.ctx.now();
    if undo.sent.is_none() {
        undo.sent = Some(now);
        let mut undone = case.progress.undone.clone();
        undone.push(now);
        progress::write_undone(&mut case.draft, &undone, now);
        let until = now.checked_add(policy.rollback.bad_revision_memory).unwrap_or(Timestamp::MAX);
        let bad = BadRevision { revision: undo.from.clone(), decision: undo.decision.clone(), undone: now, until };
        progress::write_bad(&mut case.draft, &bad, now);
        if let Some(current) = &case.progress.current {
            case.ctx.metrics.undo_sent(since(current.started, now));
        }
        let helm = helm(workload);
        let message = format!("rolled {} back from revision {} to {}{helm}", policy.target, undo.from, undo.to);
        case.note(EventReason::RollbackStarted, message);
    }
    progress::write_undo(&mut case.draft, Some(&undo));
    record(case, ActionTaken::RolledBack, None);
    if let Some(decision) = &mut case.draft.last_decision {
        decision.durations.decision_to_undo.get_or_insert_with(|| seconds(since(undo.intended, now)));
    }
    undo
}

/// The patch was accepted, now or before a crash, and the restored revision is current.
pub(super) fn sent(case: &mut Case<'_>, policy: &Policy, workload: &Workload, undo: PendingUndo) {
    let now = case.ctx.now();
    let undo = booked(case, policy, workload, undo);
    let current = restored(case, Current::new(undo.to.clone(), now, Stage::Restoring));
    progress::write_current(&mut case.draft, &current, workload);
    case.draft.analysis = None;
    case.draft.health_score = None;
    let message = format!("went back from revision {} to {}; waiting for its pods", undo.from, undo.to);
    case.observe_condition(Type::RolledBack, true, Reason::RollbackStarted, &message);
    case.observe_condition(Type::Reconciling, true, Reason::RollbackStarted, &message);
    case.observe_condition(Type::Healthy, Truth::Unknown, Reason::RollbackStarted, &message);
    case.wake_in(std::time::Duration::from_secs(1));
}

fn not_done(case: &mut Case<'_>, undo: &PendingUndo, reason: Reason, event: EventReason, why: &str) {
    progress::write_undo(&mut case.draft, None);
    record(case, ActionTaken::None, Some(format!("{reason}: {why}")));
    if let Some(current) = &mut case.draft.current {
        Stage::Condemned.as_str().clone_into(&mut current.state);
    }
    let message = format!("revision {} was judged bad, but was not rolled back: {why}", undo.from);
    case.observe_condition(Type::Healthy, false, reason, &message);
    case.observe_condition(Type::Reconciling, false, reason, &message);
    // What was asked for, or overtaken, is not stuck.
    let stuck = !matches!(reason, Reason::Superseded | Reason::SuppressedByMode | Reason::Suspended);
    case.observe_condition(Type::Stalled, stuck, reason, &message);
    case.ctx.metrics.rolled_back(result_of(reason));
    case.note(event, message);
    // A push that won is a rollout of its own: look at it right away.
    case.wake_in(std::time::Duration::from_millis(100));
}

/// What is known of the start of the revision that serves again.
pub(super) fn restored(case: &Case<'_>, current: Current) -> Current {
    let known = case.progress.current.as_ref();
    let start = known.and_then(|known| match &known.baseline {
        _ if known.revision == current.revision => known.start,
        Some(baseline) if *baseline == current.revision => known.baseline_start,
        // An older one, of whose start nothing is remembered.
        _ => None,
    });
    Current { start, ..current }
}

/// Somebody else put the good revision back first.
pub(super) fn already_current(case: &mut Case<'_>, workload: &Workload, undo: &PendingUndo) {
    progress::write_undo(&mut case.draft, None);
    let why = format!("the workload already carries revision {}; somebody else put it back", undo.to);
    record(case, ActionTaken::None, Some(format!("{}: {why}", Reason::SkippedAlreadyCurrent)));
    let current = restored(case, Current::new(undo.to.clone(), case.now, Stage::Serving));
    progress::write_current(&mut case.draft, &current, workload);
    case.idle(Reason::SkippedAlreadyCurrent, &why);
    case.ctx.metrics.rolled_back(result_of(Reason::SkippedAlreadyCurrent));
    case.note(EventReason::RollbackSkipped, why);
}

/// The label of an undo's end.
pub(super) const fn result_of(reason: Reason) -> &'static str {
    match reason {
        Reason::RollbackSucceeded => "succeeded",
        Reason::RollbackTimedOut | Reason::OnDeleteStrategy | Reason::StuckStatefulSetPod => "timed_out",
        Reason::Superseded => "superseded",
        Reason::AdmissionRejected => "rejected",
        Reason::RollbackReverted => "reverted",
        Reason::WorkloadPaused
        | Reason::SuppressedByMode
        | Reason::Suspended
        | Reason::SkippedByAnnotation
        | Reason::RollbackLimitReached
        | Reason::StormBreakerOpen
        | Reason::SuppressedByGitOps
        | Reason::SameRevisionRestarted
        | Reason::NoNewRevisionPods
        | Reason::TargetOwnedByController
        | Reason::TargetNotFound
        | Reason::NoKnownGoodRevision
        | Reason::SkippedAlreadyCurrent => "skipped",
        _ => "failed",
    }
}

/// Somebody pushed another template while the undo was pending: theirs is judged.
pub fn overtaken(case: &mut Case<'_>, policy: &Policy, workload: &Workload, undo: PendingUndo, current: &Current) {
    // What a crash left out is made up for: an undo that is forgotten would be repeated on what came back.
    let landed = workload.last_rollback.as_deref() == Some(&*undo.decision);
    let undo = &if landed && undo.sent.is_none() { booked(case, policy, workload, undo) } else { undo };
    progress::write_undo(&mut case.draft, None);
    if undo.sent.is_none() {
        let why = "another template was pushed in between and stands";
        record(case, ActionTaken::None, Some(format!("{}: {why}", Reason::Superseded)));
        case.ctx.metrics.rolled_back(result_of(Reason::Superseded));
        case.note(EventReason::RollbackSkipped, format!("the undo of revision {} was not needed: {why}", undo.from));
    }
    if current.stage == Stage::KnownBad {
        let until = case.draft.bad_revisions.iter().find(|bad| bad.revision == undo.from.as_str());
        let until = until.and_then(|bad| parse_time(&bad.until)).unwrap_or(case.now);
        let (revision, decision) = (undo.from.clone(), undo.decision.clone());
        let undone = undo.sent.unwrap_or(undo.intended);
        back_again(case, workload, current, &BadRevision { revision, decision, undone, until });
        return;
    }
    case.begin(current, workload);
    case.observe_condition(Type::Stalled, false, Reason::Accepted, "");
    case.wake_in(std::time::Duration::from_millis(100));
}

/// A revision that was undone is back: it is not judged and not undone again, and people are told once who did it.
pub fn back_again(case: &mut Case<'_>, workload: &Workload, current: &Current, bad: &BadRevision) {
    let known = case.draft.current.as_ref();
    let is_news =
        known.is_none_or(|known| known.revision != bad.revision.as_str() || known.state != Stage::KnownBad.as_str());
    if bad.until > case.now {
        case.wake_at(bad.until);
    }
    if !is_news {
        progress::write_current(&mut case.draft, current, workload);
        return;
    }
    case.fresh(current, workload);
    let who = workload.template_manager.as_deref().unwrap_or("somebody");
    let applier = workload.applier.as_ref().map(|applier| format!(" ({applier} applies the workload)"));
    let message = format!(
        "revision {} is back {} after decision {} undid it; {who} wrote it{}. It stands and is not judged again before {}: \
         push a fixed version, or annotate the guard deploymentguard.dev/retry to have it judged",
        bad.revision,
        seconds(since(bad.undone, case.now)),
        bad.decision,
        applier.unwrap_or_default(),
        time(bad.until),
    );
    case.observe_condition(Type::RolledBack, false, Reason::RollbackReverted, &message);
    case.observe_condition(Type::Healthy, false, Reason::RollbackReverted, &message);
    case.observe_condition(Type::Reconciling, false, Reason::RollbackReverted, &message);
    case.observe_condition(Type::Stalled, true, Reason::RollbackReverted, &message);
    case.ctx.metrics.rolled_back(result_of(Reason::RollbackReverted));
    case.note(EventReason::RollbackReverted, message);
}

pub(super) fn record(case: &mut Case<'_>, action: ActionTaken, why: Option<String>) {
    if let Some(decision) = &mut case.draft.last_decision {
        action.as_str().clone_into(&mut decision.action);
        decision.action_reason = why;
    }
}

/// Time between two moments; none if the clock went backwards.
#[must_use]
pub fn since(start: Timestamp, end: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

/// A duration as people read it, to a tenth of a second.
#[must_use]
pub fn seconds(duration: std::time::Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}
