//! The rules between a verdict and an act.
//!
//! Role: a list of named rules; each may forbid an undo and says why. Inputs: what is proposed and the facts around it.
//! Outputs: the first clamp, or leave to act. Must never import: other rooms, a clock.

use std::time::Duration;

use jiff::Timestamp;

use super::known_good::Choice;
use super::outcome::Reason;
use super::plan::Current;
use super::policy::{GitOpsPolicy, Mode, Policy};
use super::rollout::{PodFact, RevisionHash, Tool, Workload};

/// What is about to be undone.
#[derive(Debug, Clone, Copy)]
pub struct Proposal<'a> {
    /// The parsed guard.
    pub policy: &'a Policy,
    /// The workload as read.
    pub workload: &'a Workload,
    /// The judged revision.
    pub current: &'a Current,
    /// The revision to go back to, if there is one.
    pub to: Option<&'a Choice>,
    /// Its pods.
    pub pods: &'a [PodFact],
    /// Undos of this workload in the last 24 hours.
    pub undone: &'a [Timestamp],
    /// Undos of all guards of the class.
    pub of_class: &'a [Timestamp],
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

/// What the world allows, in the order in which it is asked; the first that objects is named. Nobody can overrule these.
pub const WORLD: &[(&str, Check)] = &[
    ("judged-revision-is-current", judged_revision_is_current),
    ("new-pods-exist", new_pods_exist),
    ("known-revision-to-go-back-to", known_revision),
    ("workload-not-skipped", not_skipped),
    ("workload-not-paused", not_paused),
    ("workload-not-owned", not_owned),
    ("something-else-differs", something_else_differs),
    ("git-ops", git_ops),
];

/// What the guard and its class allow it to do by itself, asked after [`WORLD`]. A person who approves is not bound by it.
pub const OWN: &[(&str, Check)] =
    &[("mode", mode), ("max-per-day", max_per_day), ("cooldown", cooldown), ("storm-breaker", storm_breaker)];

/// Where a person is asked first, though nothing objects.
pub const ASKS: &[(&str, Check)] = &[("irreversible", irreversible), ("volumes", volumes), ("approval", approval)];

/// Asks every rule.
#[must_use]
pub fn first_objection(proposal: &Proposal<'_>) -> Option<Clamp> {
    objection_of_the_world(proposal).or_else(|| first(OWN, proposal))
}

/// Asks what nobody can overrule.
#[must_use]
pub fn objection_of_the_world(proposal: &Proposal<'_>) -> Option<Clamp> {
    first(WORLD, proposal)
}

/// Why a person has to be asked, if so.
#[must_use]
pub fn asks_a_person(proposal: &Proposal<'_>) -> Option<Clamp> {
    first(ASKS, proposal)
}

/// What objects to an undo that a person makes by hand: what the world does not allow, and where it would not help. Limits
/// of guards do not bind people, and neither does the wish of a workload that guards leave it alone.
#[must_use]
pub fn objection_to_a_person(workload: &Workload, from: &RevisionHash, to: &RevisionHash) -> Option<Clamp> {
    const CURE: &str = "revert the change where it comes from";
    let clamp = |rule, said: Option<(Reason, String)>| said.map(|(reason, message)| Clamp { rule, reason, message });
    clamp("workload-not-paused", paused(workload))
        .or_else(|| clamp("workload-not-owned", owned(workload)))
        .or_else(|| clamp("something-else-differs", nothing_differs(workload, from, to)))
        .or_else(|| clamp("git-ops", applied(workload, CURE)))
}

fn first(rules: &[(&'static str, Check)], proposal: &Proposal<'_>) -> Option<Clamp> {
    rules.iter().find_map(|(rule, check)| check(proposal).map(|(reason, message)| Clamp { rule, reason, message }))
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
    if p.to.is_some() {
        return None;
    }
    let message = match &p.current.baseline {
        None => "no earlier revision is known; roll back by hand or push a fixed version".into(),
        Some(baseline) if !p.workload.exists(baseline) => {
            format!("the earlier revision {baseline} no longer exists (revisionHistoryLimit); push a fixed version")
        }
        Some(baseline) => format!("the earlier revision {baseline} was undone itself; push a fixed version"),
    };
    Some((Reason::NoKnownGoodRevision, message))
}

fn not_skipped(p: &Proposal<'_>) -> Option<(Reason, String)> {
    let reason = p.workload.skip.as_ref()?;
    Some((Reason::SkippedByAnnotation, format!("the workload is annotated deploymentguard.dev/skip: {reason}")))
}

fn not_paused(p: &Proposal<'_>) -> Option<(Reason, String)> {
    paused(p.workload)
}

fn paused(workload: &Workload) -> Option<(Reason, String)> {
    workload.paused.then(|| {
        let message = "the Deployment is paused; an undo would change no pod. Resume it with kubectl rollout resume";
        (Reason::WorkloadPaused, message.into())
    })
}

fn not_owned(p: &Proposal<'_>) -> Option<(Reason, String)> {
    owned(p.workload)
}

fn owned(workload: &Workload) -> Option<(Reason, String)> {
    let owner = workload.controlled_by.as_ref()?;
    Some((Reason::TargetOwnedByController, format!("{owner} owns the workload and would revert an undo")))
}

fn something_else_differs(p: &Proposal<'_>) -> Option<(Reason, String)> {
    nothing_differs(p.workload, &p.current.revision, &p.to?.revision)
}

/// Restarts and other annotations: the same code runs on both sides, so that going back changes nothing.
fn nothing_differs(workload: &Workload, from: &RevisionHash, to: &RevisionHash) -> Option<(Reason, String)> {
    let new = workload.substance(from)?;
    let old = workload.substance(to)?;
    (new == old).then(|| {
        let message = "only annotations of the pod template differ from the revision to go back to, as after kubectl \
                       rollout restart: the same code and settings would run again, so an undo cannot help";
        (Reason::SameRevisionRestarted, message.into())
    })
}

fn git_ops(p: &Proposal<'_>) -> Option<(Reason, String)> {
    const CURE: &str = "revert the change where it comes from, or set rollback.gitOps to Suspend or Rollback";
    if p.policy.rollback.git_ops == GitOpsPolicy::Recommend { applied(p.workload, CURE) } else { None }
}

/// Whether something applies the workload again and again.
fn applied(workload: &Workload, cure: &str) -> Option<(Reason, String)> {
    let applier = workload.applier.as_ref().filter(|applier| applier.tool != Tool::Helm)?;
    let message = format!("{applier} applies the workload and would revert an undo; {cure}");
    Some((Reason::SuppressedByGitOps, message))
}

fn mode(p: &Proposal<'_>) -> Option<(Reason, String)> {
    (p.policy.mode < Mode::Approve).then(|| {
        let mode = p.policy.mode.as_str();
        let why = if p.policy.asked_mode < Mode::Approve {
            format!("the guard's mode is {mode}")
        } else {
            format!("the guard's class allows at most {mode}")
        };
        (Reason::SuppressedByMode, format!("{why}, so nothing was changed"))
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

fn storm_breaker(p: &Proposal<'_>) -> Option<(Reason, String)> {
    let storm = p.policy.storm;
    let recent = p.of_class.iter().filter(|at| lies_within(**at, storm.within, p.now)).count();
    let most = usize::try_from(storm.undos).unwrap_or(usize::MAX);
    (recent >= most).then(|| {
        let message = format!(
            "{recent} undos of the class in {} s, and stormBreaker.undos is {most}: so many bad releases at once look \
             like something else, such as metrics that lie",
            storm.within.as_secs()
        );
        (Reason::StormBreakerOpen, message)
    })
}

/// Whether a moment lies in the last so many seconds.
#[must_use]
pub fn lies_within(at: Timestamp, time: Duration, now: Timestamp) -> bool {
    // A moment in the future is a clock that was set back: it counts.
    Duration::try_from(now.duration_since(at)).map_or(true, |since| since < time)
}

fn irreversible(p: &Proposal<'_>) -> Option<(Reason, String)> {
    p.workload.revision(&p.current.revision).is_some_and(|revision| revision.irreversible).then(|| {
        let message = "its pod template is annotated deploymentguard.dev/irreversible: what it did, such as a migration, \
                       is not undone with it";
        (Reason::IrreversibleRevision, message.into())
    })
}

fn volumes(p: &Proposal<'_>) -> Option<(Reason, String)> {
    (p.workload.has_volumes && !p.policy.rollback.volumes_without_asking).then(|| {
        let message = "the StatefulSet has volumes, and what the bad version wrote into them is not undone with it \
                       (rollback.statefulSet.withVolumes)";
        (Reason::AwaitingApproval, message.into())
    })
}

fn approval(p: &Proposal<'_>) -> Option<(Reason, String)> {
    (p.policy.mode == Mode::Approve).then(|| {
        let who = if p.policy.asked_mode > Mode::Approve { "the guard's class allows" } else { "the guard's mode is" };
        (Reason::AwaitingApproval, format!("{who} Approve"))
    })
}

#[cfg(test)]
#[path = "guardrail_tests.rs"]
mod tests;
