//! Decisions that wait for a person.
//!
//! Role: asks, reads the answer, acts on it or lets it lapse. Inputs: a case and a decision that waits. Outputs:
//! conditions, record, events, the start of an undo. Must never import: `cli`, `console`.

use super::case::Case;
use super::error::Error;
use super::{progress, restore, verdict};
use crate::api::GuardClass;
use crate::api::condition::{Truth, Type};
use crate::api::status::{PendingAction, time, time_ms};
use crate::domain::approval::{self, Answer};
use crate::domain::chain::Decision;
use crate::domain::guardrail::{self, Clamp, Proposal};
use crate::domain::known_good::Choice;
use crate::domain::outcome::{ActionTaken, Reason};
use crate::domain::plan::{self, Current, PendingApproval, PendingUndo, Stage};
use crate::domain::policy::{Mode, Policy};
use crate::domain::redact::SERVER_MESSAGE;
use crate::domain::rollout::{PodFact, Workload};
use crate::record::events::EventReason;

/// Longest sentences in status.
const WHY: usize = 512;
const REASONING: usize = 1024;

/// Asks a person.
pub fn ask(
    case: &mut Case<'_>,
    current: Current,
    workload: &Workload,
    decided: &Decision,
    (pending, clamp): (PendingApproval, &Clamp),
) {
    crate::failpoint!("before-approval-is-asked");
    let current = Current { stage: Stage::AwaitingApproval, ..current };
    progress::write_current(&mut case.draft, &current, workload);
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let command = |key: &str| {
        let (namespace, name, decision) = (&case.key.namespace, &case.key.name, &pending.decision);
        format!(
            "kubectl -n {namespace} annotate --overwrite dg/{name} {key}=\"{decision} by $(kubectl auth whoami -o jsonpath={{.status.userInfo.username}})\""
        )
    };
    case.draft.pending_action = Some(PendingAction {
        decision: pending.decision.clone(),
        action: "Rollback".into(),
        workload_uid: pending.workload_uid.clone(),
        from_revision: pending.from.to_string(),
        to_revision: pending.to.to_string(),
        why: cut(&clamp.message, WHY),
        reasoning: cut(&decided.message, REASONING),
        approve: cut(&command(approval::APPROVE), WHY),
        reject: cut(&command(approval::REJECT), WHY),
        asked_at: time_ms(pending.asked),
        expires_at: time_ms(pending.expires),
        ignored: None,
    });
    case.draft.analysis = None;
    case.rest();
    case.wake_at(pending.expires);
    verdict::say_bad(case, &current, decided, "waiting for approval");
    say_waiting(case, &pending);
    let text = format!(
        "decision {} waits for approval until {}: roll back from revision {} to {} ({})? Approve with the annotation \
         {}: \"{} by NAME\"",
        pending.decision,
        time(pending.expires),
        pending.from,
        pending.to,
        clamp.message,
        approval::APPROVE,
        pending.decision,
    );
    case.note(EventReason::ApprovalRequired, text);
}

fn say_waiting(case: &mut Case<'_>, pending: &PendingApproval) {
    let ignored = case.draft.pending_action.as_ref().and_then(|pending| pending.ignored.clone());
    let ignored = ignored.map(|why| format!("; {why}")).unwrap_or_default();
    let message = format!("decision {} waits for approval until {}{ignored}", pending.decision, time(pending.expires));
    case.observe_condition(Type::Reconciling, true, Reason::AwaitingApproval, &message);
    // A person is needed, and was asked: nothing is wrong with the guard.
    case.observe_condition(Type::Stalled, false, Reason::AwaitingApproval, &message);
}

/// Looks for an answer, and follows it.
///
/// # Errors
/// If an intent to undo cannot be written to status; then nothing is undone.
pub async fn look(
    case: &mut Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    current: Current,
    workload: &Workload,
    pods: &[PodFact],
    pending: PendingApproval,
) -> Result<(), Error> {
    let (approve, reject) = (case.annotation(approval::APPROVE), case.annotation(approval::REJECT));
    let answer = approval::answer(approve.as_deref(), reject.as_deref(), &pending, case.now);
    match answer {
        Answer::Waiting { ignored } => {
            wait(case, &pending, ignored);
            Ok(())
        }
        Answer::Expired => {
            let message = format!("nobody answered to decision {} in time, so nothing was undone", pending.decision);
            lapse(case, &current, workload, Reason::ApprovalExpired, &message);
            Ok(())
        }
        Answer::Rejected { by } => {
            let by = person(&by);
            answered_by(case, &by);
            let message = format!("{by} rejected decision {}, so nothing was undone", pending.decision);
            lapse(case, &current, workload, Reason::Rejected, &message);
            Ok(())
        }
        Answer::Approved { by } => {
            let by = person(&by);
            answered_by(case, &by);
            approved(case, class, policy, current, workload, pods, (pending, by)).await
        }
    }
}

/// Names come from an annotation. The admission policy vouches for them, so an address is shown as it is: who decided is
/// what the record is for.
fn person(by: &str) -> String {
    by.chars().filter(|character| !character.is_control()).collect()
}

fn answered_by(case: &mut Case<'_>, by: &str) {
    if let Some(decision) = &mut case.draft.last_decision {
        decision.answered_by = Some(by.to_owned());
    }
}

fn wait(case: &mut Case<'_>, pending: &PendingApproval, ignored: Option<String>) {
    case.wake_at(pending.expires);
    let known = case.draft.pending_action.as_ref().and_then(|action| action.ignored.clone());
    let ignored = ignored.map(|text| case.ctx.redactor.redact(&text, SERVER_MESSAGE).as_str().to_owned());
    if known != ignored {
        if let Some(why) = &ignored {
            case.note(EventReason::ApprovalAnswered, why.clone());
        }
        if let Some(action) = &mut case.draft.pending_action {
            action.ignored = ignored;
        }
    }
    say_waiting(case, pending);
}

/// The decision is not carried out; the revision stays, judged bad.
fn lapse(case: &mut Case<'_>, current: &Current, workload: &Workload, reason: Reason, message: &str) {
    case.draft.pending_action = None;
    let current = Current { stage: Stage::Condemned, ..current.clone() };
    progress::write_current(&mut case.draft, &current, workload);
    restore::record(case, ActionTaken::None, Some(format!("{reason}: {message}")));
    case.rest();
    case.observe_condition(Type::Reconciling, false, reason, message);
    let rejected = reason == Reason::Rejected;
    case.observe_condition(Type::Stalled, !rejected, reason, message);
    case.observe_condition(
        Type::Healthy,
        Truth::False,
        reason,
        &format!("revision {} is bad: {message}", current.revision),
    );
    case.note(EventReason::ApprovalAnswered, message.to_owned());
}

/// What was approved is looked at again before anything is done: the world may have moved on while a person thought.
async fn approved(
    case: &mut Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    current: Current,
    workload: &Workload,
    pods: &[PodFact],
    (pending, by): (PendingApproval, String),
) -> Result<(), Error> {
    crate::failpoint!("after-approval-is-read");
    let choice = workload.exists(&pending.to).then(|| Choice::made_before(&pending.to));
    let undone = case.progress.undone.clone();
    let proposal = Proposal {
        policy,
        workload,
        current: &current,
        to: choice.as_ref(),
        pods,
        undone: &undone,
        of_class: &[],
        now: case.now,
    };
    let objection = if policy.mode < Mode::Approve {
        let message = format!("the mode is {} by now, so the approval of {by} does nothing", policy.mode.as_str());
        Some((Reason::SuppressedByMode, message))
    } else {
        guardrail::objection_of_the_world(&proposal).map(|clamp| (clamp.reason, clamp.message))
    };
    if let Some((reason, message)) = objection {
        let message = format!("{by} approved decision {}, but {message}", pending.decision);
        lapse(case, &current, workload, reason, &message);
        return Ok(());
    }
    case.draft.pending_action = None;
    case.ctx.storms.of(class).add(case.now, &case.key, &pending.decision);
    case.note(EventReason::ApprovalAnswered, format!("{by} approved decision {}", pending.decision));
    let undo = PendingUndo {
        decision: pending.decision,
        workload_uid: pending.workload_uid,
        from: pending.from,
        kept: case.kept(&pending.to),
        to: pending.to,
        intended: case.now,
        sent: None,
    };
    restore::carry_out(case, class, policy, workload, undo).await
}

/// A new value of the annotation `retry` has the current revision judged again, also one that is known as bad.
pub fn retry(case: &mut Case<'_>, pods: &[PodFact]) {
    let Some(nonce) = case.annotation(approval::RETRY) else { return };
    let nonce: String = nonce.chars().take(256).collect();
    if case.draft.retried.as_ref() == Some(&nonce) {
        return;
    }
    case.draft.retried = Some(nonce);
    let Some(current) = case.progress.current.clone() else { return };
    if !matches!(current.stage, Stage::Condemned | Stage::KnownBad | Stage::Unproven) || case.progress.undo.is_some() {
        return;
    }
    let revision = current.revision.to_string();
    case.draft.bad_revisions.retain(|bad| bad.revision != revision);
    case.progress.bad.retain(|bad| bad.revision != current.revision);
    // `situation` begins with it: what is known as bad and forgotten is judged again.
    case.progress.current = Some(Current { stage: Stage::KnownBad, ..plan::again(&current, pods, case.now) });
}
