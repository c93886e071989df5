//! From a decision to what is done and said about it.
//!
//! Role: guardrails, record, the start of an undo, conditions, known-good revisions. Inputs: a case and a decision.
//! Outputs: conditions, record, events. Must never import: `cli`, `console`.

use super::case::Case;
use super::error::Error;
use super::{decision, findings, progress, restore};
use crate::api::condition::{Truth, Type};
use crate::api::status::{KnownGood, time};
use crate::domain::assess::Assessment;
use crate::domain::chain::{Decision, Health};
use crate::domain::facts::Report;
use crate::domain::guardrail::{self, Clamp, Proposal};
use crate::domain::outcome::{Reason, Verdict};
use crate::domain::plan::{Current, PendingUndo, Stage};
use crate::domain::policy::Policy;
use crate::domain::rollout::{PodFact, Workload};
use crate::record::events::EventReason;

/// Revisions that status remembers as good.
const KNOWN_GOOD: usize = 10;

/// What a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Grounds<'a> {
    /// What was measured.
    pub judged: &'a Assessment,
    /// What was decided.
    pub decided: &'a Decision,
    /// What pods show.
    pub report: &'a Report,
}

/// Carries a decision out, as far as the guardrails let it.
///
/// # Errors
/// If an intent to undo cannot be written to status; then nothing is undone.
pub async fn conclude(
    case: &mut Case<'_>,
    policy: &Policy,
    current: Current,
    workload: &Workload,
    pods: &[PodFact],
    grounds: &Grounds<'_>,
) -> Result<(), Error> {
    let Grounds { judged, decided, report } = *grounds;
    let undone = case.progress.undone.clone();
    let proposal = Proposal { policy, workload, current: &current, pods, undone: &undone, now: case.now };
    let only = judged.only_recommend.clone().map(|(reason, message)| Clamp { rule: "recommend-only", reason, message });
    let clamp =
        (decided.verdict == Verdict::Rollback).then(|| guardrail::first_objection(&proposal).or(only)).flatten();
    let acts = decided.verdict == Verdict::Rollback && clamp.is_none();
    let id = decision::id(&current, case.now);
    let record = decision::record(&id, case.now, &current, judged, decided, clamp.as_ref(), acts);
    decision::file(case, record);
    findings::explain(case, report.fact.as_ref(), &report.findings, &judged.signals);
    let since = restore::since(current.started, case.now);
    case.ctx.metrics.decided(decided.verdict.as_str(), decided.decider.as_str(), since);
    let Some(to) = current.baseline.clone().filter(|_| acts) else {
        settle(case, current, workload, decided, clamp.as_ref());
        return Ok(());
    };
    let undo = PendingUndo {
        decision: id,
        workload_uid: workload.uid.to_string(),
        from: current.revision.clone(),
        to,
        intended: case.now,
        sent: None,
    };
    say_bad(case, &current, decided, "rolling back");
    restore::carry_out(case, policy, workload, undo).await
}

fn say_bad(case: &mut Case<'_>, current: &Current, decided: &Decision, what: &str) {
    let message = format!("revision {} is bad, {what}: {}", current.revision, decided.message);
    case.observe_condition(Type::Healthy, false, decided.reason, &message);
    let line = findings::line(case).map(|line| format!("; {line}")).unwrap_or_default();
    case.note(EventReason::AnalysisFailed, format!("{message}{line}"));
}

/// The window is over and the certificate stands: the revision is known to be good.
pub fn confirm(case: &mut Case<'_>, mut current: Current, workload: &Workload, message: &str) {
    current.stage = Stage::Passed;
    progress::write_current(&mut case.draft, &current, workload);
    know_good(case, &current, "certified, and watched to the end of the window");
    let message = format!("not worse to the end of the window: {message}");
    case.observe_condition(Type::Healthy, true, Reason::AnalysisPassed, &message);
    case.observe_condition(Type::Reconciling, false, Reason::AnalysisPassed, &message);
    case.draft.analysis = None;
    case.rest();
}

/// Remembers a revision that proved good.
fn know_good(case: &mut Case<'_>, current: &Current, how: &str) {
    let revision = current.revision.to_string();
    let known = &mut case.draft.known_good;
    known.retain(|known| known.revision != revision);
    known.insert(0, KnownGood { revision, at: time(case.now), how: how.to_owned() });
    known.truncate(KNOWN_GOOD);
}

/// The decision changes nothing about the workload: say what it means.
fn settle(case: &mut Case<'_>, mut current: Current, workload: &Workload, decided: &Decision, clamp: Option<&Clamp>) {
    current.stage = match (decided.verdict, decided.health) {
        (Verdict::Rollback, _) => Stage::Condemned,
        (Verdict::Inconclusive, _) => Stage::Held,
        (Verdict::Continue, Health::Good) if !decided.is_final => Stage::Certified,
        (Verdict::Continue, Health::Good) => Stage::Passed,
        (Verdict::Continue, _) => Stage::Unproven,
    };
    progress::write_current(&mut case.draft, &current, workload);
    match (decided.verdict, clamp) {
        (Verdict::Rollback, Some(clamp)) => {
            say_bad(case, &current, decided, &format!("not rolled back ({})", clamp.message));
            case.observe_condition(Type::Reconciling, false, clamp.reason, &clamp.message);
            // In Observe nothing is stuck: it does what it was asked to.
            let stuck = clamp.reason != Reason::SuppressedByMode;
            case.observe_condition(Type::Stalled, stuck, clamp.reason, &clamp.message);
            let event = match clamp.reason {
                Reason::NoKnownGoodRevision => EventReason::NoKnownGoodRevision,
                Reason::RollbackLimitReached => EventReason::RollbackLimitReached,
                _ => EventReason::RollbackSkipped,
            };
            case.note(event, format!("revision {} was not rolled back: {}", current.revision, clamp.message));
        }
        (Verdict::Continue, _) if decided.health == Health::Good => {
            case.observe_condition(Type::Healthy, true, decided.reason, &decided.message);
            case.observe_condition(Type::Reconciling, false, decided.reason, &decided.message);
            case.note(EventReason::AnalysisPassed, decided.message.clone());
            if current.stage == Stage::Passed {
                know_good(case, &current, "judged to the end of the window");
            }
        }
        (Verdict::Continue, _) if decided.health == Health::Bad => {
            case.observe_condition(Type::Healthy, false, decided.reason, &decided.message);
            case.observe_condition(Type::Reconciling, false, decided.reason, &decided.message);
        }
        _ => {
            case.observe_condition(Type::Healthy, Truth::Unknown, decided.reason, &decided.message);
            let held = current.stage == Stage::Held;
            case.observe_condition(Type::Reconciling, held, decided.reason, &decided.message);
        }
    }
    if !current.stage.is_judging() {
        case.draft.analysis = None;
        case.rest();
    }
}
