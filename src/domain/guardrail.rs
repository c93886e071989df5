//! The rules between a verdict and an act.
//!
//! Role: a list of named rules; each may forbid an undo and says why. Inputs: what is proposed and the facts around it.
//! Outputs: the first clamp, or leave to act. Must never import: other rooms, a clock.

use std::time::Duration;

use jiff::Timestamp;

use super::outcome::Reason;
use super::plan::Current;
use super::policy::{Mode, Policy};
use super::rollout::{PodFact, Workload};

/// What is about to be undone.
#[derive(Debug, Clone, Copy)]
pub struct Proposal<'a> {
    /// The parsed guard.
    pub policy: &'a Policy,
    /// The workload as read.
    pub workload: &'a Workload,
    /// The judged revision.
    pub current: &'a Current,
    /// Its pods.
    pub pods: &'a [PodFact],
    /// Undos in the last 24 hours.
    pub undone: &'a [Timestamp],
    /// The moment of the decision.
    pub now: Timestamp,
}

/// A rule that forbids the act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clamp {
    /// The rule's name, as `clampedBy` shows it.
    pub rule: &'static str,
    /// The reason as one word.
    pub reason: Reason,
    /// The reason as a sentence.
    pub message: String,
}

type Check = fn(&Proposal<'_>) -> Option<(Reason, String)>;

/// Every rule, in the order in which they are asked; the first that objects is named.
pub const RULES: &[(&str, Check)] = &[
    ("judged-revision-is-current", judged_revision_is_current),
    ("new-pods-exist", new_pods_exist),
    ("known-revision-to-go-back-to", known_revision),
    ("workload-not-skipped", not_skipped),
    ("workload-not-paused", not_paused),
    ("workload-not-owned", not_owned),
    ("mode", mode),
    ("kind-can-be-undone", can_be_undone),
    ("max-per-day", max_per_day),
    ("cooldown", cooldown),
];

/// Asks every rule.
#[must_use]
pub fn first_objection(proposal: &Proposal<'_>) -> Option<Clamp> {
    RULES.iter().find_map(|(rule, check)| check(proposal).map(|(reason, message)| Clamp { rule, reason, message }))
}

fn judged_revision_is_current(p: &Proposal<'_>) -> Option<(Reason, String)> {
    (p.workload.current.as_ref() != Some(&p.current.revision))
        .then(|| (Reason::Superseded, format!("the template is no longer the judged revision {}", p.current.revision)))
}

fn new_pods_exist(p: &Proposal<'_>) -> Option<(Reason, String)> {
    (!p.pods.iter().any(|pod| pod.is_live() && pod.revision == p.current.revision))
        .then(|| (Reason::NoNewRevisionPods, "no pod of the judged revision is running any more".into()))
}

fn known_revision(p: &Proposal<'_>) -> Option<(Reason, String)> {
    match &p.current.baseline {
        None => Some((
            Reason::NoKnownGoodRevision,
            "no earlier revision is known; roll back by hand or push a fixed version".into(),
        )),
        Some(baseline) => p.workload.revision(baseline).is_none().then(|| {
            let message = format!(
                "the earlier revision {baseline} no longer exists (revisionHistoryLimit); push a fixed version"
            );
            (Reason::NoKnownGoodRevision, message)
        }),
    }
}

fn not_skipped(p: &Proposal<'_>) -> Option<(Reason, String)> {
    let reason = p.workload.skip.as_ref()?;
    Some((Reason::SkippedByAnnotation, format!("the workload is annotated deploymentguard.dev/skip: {reason}")))
}

fn not_paused(p: &Proposal<'_>) -> Option<(Reason, String)> {
    p.workload.paused.then(|| {
        let message = "the Deployment is paused; an undo would change no pod. Resume it with kubectl rollout resume";
        (Reason::WorkloadPaused, message.into())
    })
}

fn not_owned(p: &Proposal<'_>) -> Option<(Reason, String)> {
    let owner = p.workload.controlled_by.as_ref()?;
    Some((Reason::TargetOwnedByController, format!("{owner} owns the workload and would revert an undo")))
}

fn mode(p: &Proposal<'_>) -> Option<(Reason, String)> {
    (p.policy.mode < Mode::Enforce).then(|| {
        let why = if p.policy.asked_mode < Mode::Enforce {
            "the guard's mode is Observe"
        } else {
            "the guard's class allows at most Observe"
        };
        (Reason::SuppressedByMode, format!("{why}, so nothing was changed"))
    })
}

fn can_be_undone(p: &Proposal<'_>) -> Option<(Reason, String)> {
    let target = &p.policy.target;
    (!target.kind.can_be_undone()).then(|| {
        let (kind, resource, name) = (target.kind, target.kind.resource(), &target.name);
        let message = format!(
            "this version judges a {kind} and undoes none; roll back with kubectl rollout undo {resource}/{name}"
        );
        (Reason::UndoNotSupported, message)
    })
}

fn max_per_day(p: &Proposal<'_>) -> Option<(Reason, String)> {
    let undone = super::plan::within_a_day(p.undone, p.now).len();
    let limit = p.policy.rollback.max_per_day;
    (u32::try_from(undone).is_ok_and(|undone| undone >= limit) || u32::try_from(undone).is_err()).then(|| {
        (Reason::RollbackLimitReached, format!("{undone} undos in 24 hours, and rollback.maxPerDay is {limit}"))
    })
}

fn cooldown(p: &Proposal<'_>) -> Option<(Reason, String)> {
    let last = p.undone.iter().max()?;
    let since = Duration::try_from(p.now.duration_since(*last)).unwrap_or_default();
    let cooldown = p.policy.rollback.cooldown;
    (since < cooldown).then(|| {
        let message =
            format!("the last undo was {} s ago, and rollback.cooldown is {} s", since.as_secs(), cooldown.as_secs());
        (Reason::RollbackLimitReached, message)
    })
}

#[cfg(test)]
#[path = "guardrail_tests.rs"]
mod tests;
