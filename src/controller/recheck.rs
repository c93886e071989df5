//! Did the undo help?
//!
//! Role: judges the restored revision against what was before the bad release, for that one question. Inputs: a case and a
//! restored revision. Outputs: conditions, record, an alert; never another undo. Must never import: `cli`, `console`.

use std::time::Duration;

use jiff::Timestamp;

use super::case::Case;
use super::judge::{self, Rollout};
use super::progress;
use crate::api::GuardClass;
use crate::api::condition::{Truth, Type};
use crate::api::status::{RecheckStatus, time_ms};
use crate::domain::assess::Standing;
use crate::domain::facts::Report;
use crate::domain::judge::Baseline;
use crate::domain::outcome::{Decider, Reason};
use crate::domain::plan::{Current, PendingUndo, Recheck, Stage};
use crate::domain::policy::{Analysis, Policy, Scorer};
use crate::domain::rollout::{PodFact, Workload};
use crate::record::events::EventReason;

/// The longest time for which the question is asked.
const LONGEST: Duration = Duration::from_mins(10);

/// Asks the question, where metrics condemned the release and what was before it is known. A hard fact was verified by
/// pods that are Ready and stay so.
pub fn begin(case: &mut Case<'_>, policy: &Policy, undo: &PendingUndo) {
    let last = case.draft.last_decision.as_ref().filter(|last| last.id == undo.decision);
    let measured = last.and_then(|last| Decider::parse(&last.decider)) == Some(Decider::Evidence);
    let Some(past) = case.past(&undo.from).filter(|_| measured && policy.analysis.scorer == Scorer::Evidence) else {
        return;
    };
    case.keep_known_past(&undo.to, past);
    case.forget_pods();
    let until = case.now.checked_add(policy.analysis.window.min(LONGEST)).unwrap_or(Timestamp::MAX);
    case.draft.recheck = Some(RecheckStatus {
        decision: undo.decision.clone(),
        revision: undo.to.to_string(),
        since: time_ms(case.now),
        until: time_ms(until),
    });
    case.draft.analysis = None;
    case.wake_in(Duration::from_secs(1));
}

/// Looks at the restored revision.
pub async fn look(
    case: &mut Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    current: Current,
    workload: &Workload,
    pods: &[PodFact],
    recheck: Recheck,
) {
    progress::write_current(&mut case.draft, &current, workload);
    if case.past(&current.revision).is_none() {
        // The operator restarted: what was before the bad release is not read a second time for this.
        return end(case);
    }
    case.wake_at(recheck.until);
    if let Some(next) = case.metrics_due().filter(|next| *next > case.now) {
        // Something else changed; metrics have their own time.
        return case.wake_at(next);
    }
    let policy = against_the_past(policy);
    let judged = Current { baseline: None, ..Current::new(current.revision.clone(), recheck.since, Stage::Judging) };
    let report = Report::default();
    let rollout = Rollout { class, policy: &policy, current: &judged, workload, pods, report: &report };
    let measured = judge::measure(case, &rollout).await;
    match measured.assessment.standing {
        Standing::Harmful => did_not_help(case, &current, &recheck, &measured.assessment.reasoning),
        Standing::Fine => end(case),
        _ if case.now >= recheck.until => end(case),
        _ => {}
    }
}

/// The same evidence, with nothing to compare with but what was before.
fn against_the_past(policy: &Policy) -> Policy {
    let analysis = Analysis { baseline: Baseline::History, controls: Vec::new(), ..policy.analysis.clone() };
    Policy { analysis, ..policy.clone() }
}

/// Nothing speaks against the undo.
fn end(case: &mut Case<'_>) {
    case.draft.recheck = None;
    case.draft.analysis = None;
    case.rest();
}

fn did_not_help(case: &mut Case<'_>, current: &Current, recheck: &Recheck, reasoning: &str) {
    end(case);
    let message = format!(
        "revision {} was put back by decision {} and is as bad as what it replaced: {reasoning}. The release was not the \
         cause; nothing more is undone",
        current.revision, recheck.decision
    );
    if let Some(decision) = case.draft.last_decision.as_mut().filter(|last| last.id == recheck.decision) {
        decision.action_reason =
            Some(format!("{}: {message}", Reason::RollbackDidNotHelp).chars().take(1024).collect());
    }
    case.observe_condition(Type::RolledBack, true, Reason::RollbackDidNotHelp, &message);
    case.observe_condition(Type::Healthy, Truth::False, Reason::RollbackDidNotHelp, &message);
    case.observe_condition(Type::Stalled, true, Reason::RollbackDidNotHelp, &message);
    case.ctx.metrics.rolled_back("did_not_help");
    case.note(EventReason::RollbackDidNotHelp, message);
}
