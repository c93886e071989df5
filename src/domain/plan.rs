//! What is due, and what a new look at the workload means: the state machine of one guard.
//!
//! Role: from what status remembers and what the world shows now to the next step. Inputs: `Progress`, a `Workload`, its
//! pods, `now`. Outputs: a `Situation` or when to look again. Must never import: other rooms, a clock.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::facts::StartRecord;
use super::known_good::{Kept, ProvenGood};
use super::outcome::Reason;
use super::policy::Analysis;
use super::rollout::{PodFact, RevisionHash, Side, Workload};

/// Where the current revision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Was serving before anybody looked, or was returned to by hand; not judged.
    Serving,
    /// Being judged.
    Judging,
    /// Being judged beyond the window, because nothing could be proven and the guard is to hold.
    Held,
    /// Judged bad and not undone.
    Condemned,
    /// Judged bad; a person is asked whether to undo it.
    AwaitingApproval,
    /// Undone before, and back again unchanged; not judged until it is forgotten or somebody asks.
    KnownBad,
    /// Not worse so far, proven; watched to the end of the window.
    Certified,
    /// Put back by us, being verified.
    Restoring,
    /// Judged and fine.
    Passed,
    /// Let through without proof.
    Unproven,
}

impl Stage {
    const ALL: [Self; 10] = [
        Self::Serving,
        Self::Judging,
        Self::Held,
        Self::Condemned,
        Self::AwaitingApproval,
        Self::KnownBad,
        Self::Certified,
        Self::Restoring,
        Self::Passed,
        Self::Unproven,
    ];

    /// The word in status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "Serving",
            Self::Judging => "Judging",
            Self::Held => "Held",
            Self::Condemned => "Condemned",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::KnownBad => "KnownBad",
            Self::Certified => "Certified",
            Self::Restoring => "Restoring",
            Self::Passed => "Passed",
            Self::Unproven => "Unproven",
        }
    }

    /// Reads the word back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == word)
    }

    /// Whether metrics are read in this stage.
    #[must_use]
    pub const fn is_judging(self) -> bool {
        matches!(self, Self::Judging | Self::Held | Self::Certified)
    }

    /// Whether pods and time matter in this stage.
    #[must_use]
    pub const fn is_active(self) -> bool {
        self.is_judging() || matches!(self, Self::AwaitingApproval | Self::KnownBad)
    }

    /// Whether a later rollout may go back to this revision.
    const fn may_be_baseline(self) -> bool {
        matches!(self, Self::Serving | Self::Passed | Self::Certified | Self::Unproven | Self::Restoring)
    }
}

/// The revision the workload asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Its hash.
    pub revision: RevisionHash,
    /// When it was first seen.
    pub started: Timestamp,
    /// When its first pod became Ready: the window counts from here.
    pub first_ready: Option<Timestamp>,
    /// The revision it is compared with and would be undone to.
    pub baseline: Option<RevisionHash>,
    /// Where it stands.
    pub stage: Stage,
    /// How its own pods start, as far as that was seen.
    pub start: Option<StartRecord>,
    /// How the baseline's pods start; recorded before the rollout, because they may soon be gone.
    pub baseline_start: Option<StartRecord>,
}

impl Current {
    /// A revision of which nothing is known yet.
    #[must_use]
    pub const fn new(revision: RevisionHash, started: Timestamp, stage: Stage) -> Self {
        Self { revision, started, first_ready: None, baseline: None, stage, start: None, baseline_start: None }
    }

    /// The revision to which a rollout that followed now would be compared: this one, unless it is judged or was found bad.
    #[must_use]
    pub const fn serves(&self) -> Option<&RevisionHash> {
        if self.stage.may_be_baseline() { Some(&self.revision) } else { self.baseline.as_ref() }
    }
}

/// An undo that was decided and is not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingUndo {
    /// The decision it carries out.
    pub decision: String,
    /// The workload that was judged.
    pub workload_uid: String,
    /// The revision that was judged.
    pub from: RevisionHash,
    /// The revision to go back to.
    pub to: RevisionHash,
    /// Its template, where the guard keeps it: put back from there, the revision may get another hash.
    pub kept: Option<Kept>,
    /// When it was decided.
    pub intended: Timestamp,
    /// When the patch was accepted.
    pub sent: Option<Timestamp>,
}

/// A decision that a person has to approve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingApproval {
    /// The decision.
    pub decision: String,
    /// The workload that was judged.
    pub workload_uid: String,
    /// The revision that was judged.
    pub from: RevisionHash,
    /// The revision to go back to.
    pub to: RevisionHash,
    /// When it was asked for.
    pub asked: Timestamp,
    /// Until when it is waited for.
    pub expires: Timestamp,
}

/// A restored revision while it is judged for one question: did the undo help?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recheck {
    /// The decision that was carried out.
    pub decision: String,
    /// The restored revision.
    pub revision: RevisionHash,
    /// When it served again.
    pub since: Timestamp,
    /// Until when it is judged.
    pub until: Timestamp,
}

/// A revision that was undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRevision {
    /// Which.
    pub revision: RevisionHash,
    /// By which decision.
    pub decision: String,
    /// When it was undone.
    pub undone: Timestamp,
    /// Until when it is known as bad.
    pub until: Timestamp,
}

/// What status remembers of a guard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// The current revision, once one was seen.
    pub current: Option<Current>,
    /// The uid of the workload that `current` belongs to.
    pub workload_uid: Option<String>,
    /// An undo under way.
    pub undo: Option<PendingUndo>,
    /// The question whether the last undo helped.
    pub recheck: Option<Recheck>,
    /// A decision that waits for a person.
    pub pending: Option<PendingApproval>,
    /// Revisions that were undone and are not forgotten.
    pub bad: Vec<BadRevision>,
    /// Revisions that proved good, the latest first.
    pub good: Vec<ProvenGood>,
    /// What serves, or served before the rollout, if the guard keeps its template though it never proved good.
    pub served: Option<(RevisionHash, Kept)>,
    /// When undos were sent, in the last 24 hours.
    pub undone: Vec<Timestamp>,
    /// When to look again.
    pub next: Option<Timestamp>,
}

impl Progress {
    /// The templates that the guard keeps.
    #[must_use]
    pub fn kept(&self) -> BTreeMap<RevisionHash, Kept> {
        let good = self.good.iter().filter_map(|good| Some((good.revision.clone(), good.kept.clone()?)));
        self.served.iter().cloned().chain(good).collect()
    }
}

/// What changed since the last evaluation, cheap to know from the watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // Each stands for a watch of its own.
pub struct Changes {
    /// The guard's spec, its class or its annotations.
    pub guard: bool,
    /// The workload.
    pub workload: bool,
    /// A pod of the workload.
    pub pods: bool,
    /// What logs and probes show.
    pub findings: bool,
}

/// Whether there is anything to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Look now, metrics included.
    Evaluate,
    /// Look at the API's facts only; metrics have their own time.
    Facts,
    /// Nothing before that moment, if any.
    Rest(Option<Timestamp>),
}

/// Whether an evaluation is due: the first question of every reconcile, answered without I/O.
#[must_use]
pub fn due(progress: &Progress, changes: Changes, now: Timestamp) -> Due {
    let time_has_come = progress.next.is_none_or(|next| next <= now);
    let active = progress.undo.is_some()
        || progress.recheck.is_some()
        || progress.current.as_ref().is_some_and(|c| c.stage.is_active());
    if progress.current.is_none() || changes.guard || (active && time_has_come) {
        Due::Evaluate
    } else if changes.workload || changes.findings || (active && changes.pods) {
        Due::Facts
    } else if time_has_come && progress.next.is_some() {
        Due::Evaluate
    } else {
        Due::Rest(progress.next)
    }
}

/// What a look at the workload shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Situation {
    /// Nothing holds the template yet: look again in a moment.
    TemplatePending,
    /// Nothing to judge now, and why.
    Idle(Reason, String),
    /// First sight of a workload whose rollout is long over.
    Adopted(Current),
    /// A revision nobody judged: begin.
    Begin(Current),
    /// The judged revision is still the current one.
    Judge(Current),
    /// An undo was written down and not yet sent, or the answer was lost: finish it.
    FinishUndo(PendingUndo),
    /// The restored revision is current: verify it.
    Verify(PendingUndo),
    /// Somebody pushed another template while an undo was pending: their push stands.
    Overtaken(PendingUndo, Current),
    /// A revision that was undone is back: it stands, and is not judged.
    BackAgain(Current, BadRevision),
    /// The restored revision serves; whether that helped is still asked.
    Recheck(Current, Recheck),
    /// The revision was judged bad, and a person is asked.
    AwaitApproval(Current, PendingApproval),
    /// The current revision was judged; rest until something changes.
    Settled(Current),
}

/// Reads the situation off progress and world.
#[must_use]
pub fn situation(progress: &Progress, workload: &Workload, pods: &[PodFact], now: Timestamp) -> Situation {
    let Some(revision) = workload.current.as_ref() else {
        // A paused Deployment makes no ReplicaSet of a new template until it is resumed.
        return if workload.paused {
            Situation::Idle(
                Reason::WorkloadPaused,
                "the Deployment is paused; resume it with kubectl rollout resume".into(),
            )
        } else {
            Situation::TemplatePending
        };
    };
    let known = progress.workload_uid.as_deref() == Some(&*workload.uid);
    if let Some(undo) = progress.undo.as_ref().filter(|undo| *undo.workload_uid == *workload.uid) {
        return pending(undo, workload, revision, progress, pods, now);
    }
    match progress.current.as_ref().filter(|_| known) {
        None => first_sight(revision, workload, pods, now),
        Some(current) if current.revision != *revision => next(progress, current, revision, pods, now),
        Some(current) if current.stage == Stage::AwaitingApproval => match &progress.pending {
            Some(pending) if pending.from == current.revision => {
                Situation::AwaitApproval(current.clone(), pending.clone())
            }
            // Status was written by somebody else: what nobody can approve is not undone.
            _ => Situation::Settled(Current { stage: Stage::Condemned, ..current.clone() }),
        },
        Some(current) if current.stage == Stage::KnownBad => match known_bad(progress, revision, now) {
            Some(bad) => Situation::BackAgain(current.clone(), bad.clone()),
            // Forgotten by now: judged from its start, against what it would have been judged against.
            None => Situation::Begin(again(current, pods, now)),
        },
        Some(current) if current.stage.is_judging() => {
            if workload.replicas == 0 {
                return Situation::Idle(Reason::ScaledToZero, "no replicas are wanted, so nothing is judged".into());
            }
            Situation::Judge(with_pods(current.clone(), pods))
        }
        // Its pods may be gone before the next revision's first one is seen.
        Some(current) => {
            let start = worst(current.start, StartRecord::of(of(revision, pods)));
            let current = Current { start, ..current.clone() };
            match progress.recheck.as_ref().filter(|recheck| recheck.revision == current.revision) {
                Some(recheck) => Situation::Recheck(current, recheck.clone()),
                None => Situation::Settled(current),
            }
        }
    }
}

/// A template that follows another one: a revision that was undone before stands and is not judged.
fn next(progress: &Progress, before: &Current, revision: &RevisionHash, pods: &[PodFact], now: Timestamp) -> Situation {
    let current = begin(before, revision, pods, now);
    match known_bad(progress, revision, now) {
        Some(bad) => Situation::BackAgain(Current { stage: Stage::KnownBad, ..current }, bad.clone()),
        None => Situation::Begin(current),
    }
}

fn known_bad<'a>(progress: &'a Progress, revision: &RevisionHash, now: Timestamp) -> Option<&'a BadRevision> {
    progress.bad.iter().find(|bad| bad.revision == *revision && now < bad.until)
}

/// The record of a revision that is to be judged again.
#[must_use]
pub fn again(current: &Current, pods: &[PodFact], now: Timestamp) -> Current {
    let fresh = Current {
        baseline: current.baseline.clone(),
        baseline_start: current.baseline_start,
        ..Current::new(current.revision.clone(), now, Stage::Judging)
    };
    with_pods(fresh, pods)
}

fn pending(
    undo: &PendingUndo,
    workload: &Workload,
    revision: &RevisionHash,
    progress: &Progress,
    pods: &[PodFact],
    now: Timestamp,
) -> Situation {
    let landed = workload.last_rollback.as_deref() == Some(&*undo.decision);
    let is_kept = undo.kept.as_ref().is_some_and(|kept| kept.template == workload.template);
    if *revision == undo.to || is_kept {
        // Whether our patch or somebody else put it there, it is the revision to verify.
        Situation::Verify(PendingUndo { to: revision.clone(), ..undo.clone() })
    } else if *revision == undo.from && !landed && undo.sent.is_none() {
        Situation::FinishUndo(undo.clone())
    } else {
        let before = progress.current.clone().unwrap_or_else(|| Current::new(undo.to.clone(), now, Stage::Restoring));
        let current = begin(&before, revision, pods, now);
        // What was just undone is back before the undo was verified: it is not undone again, whatever is remembered.
        let stage = if *revision == undo.from { Stage::KnownBad } else { current.stage };
        Situation::Overtaken(undo.clone(), Current { stage, ..current })
    }
}

fn first_sight(revision: &RevisionHash, workload: &Workload, pods: &[PodFact], now: Timestamp) -> Situation {
    let others = pods.iter().filter(|pod| pod.is_live() && pod.revision != *revision);
    let oldest = others.filter_map(|pod| workload.revision(&pod.revision)).max_by_key(|other| other.number);
    match oldest {
        // The rollout is still going on, so it is judged.
        Some(baseline) if !workload.rollout_complete(revision, pods) => {
            let current = Current {
                baseline: Some(baseline.hash.clone()),
                ..Current::new(revision.clone(), now, Stage::Judging)
            };
            Situation::Begin(with_pods(current, pods))
        }
        _ => {
            let current = Current::new(revision.clone(), now, Stage::Serving);
            Situation::Adopted(Current { start: StartRecord::of(of(revision, pods)), ..current })
        }
    }
}

/// The record of a revision that follows `before`. The baseline stays the last one that was not found bad.
fn begin(before: &Current, revision: &RevisionHash, pods: &[PodFact], now: Timestamp) -> Current {
    let (baseline, baseline_start) = if before.stage.may_be_baseline() {
        (Some(before.revision.clone()), before.start)
    } else {
        (before.baseline.clone(), before.baseline_start)
    };
    if baseline.as_ref() == Some(revision) {
        // A person went back to it; it served before and is not judged against itself.
        return Current { start: baseline_start, ..Current::new(revision.clone(), now, Stage::Serving) };
    }
    let current = Current { baseline, baseline_start, ..Current::new(revision.clone(), now, Stage::Judging) };
    with_pods(current, pods)
}

/// What its pods tell: when the first was Ready, and how those of both revisions start.
fn with_pods(mut current: Current, pods: &[PodFact]) -> Current {
    if current.first_ready.is_none() {
        current.first_ready = of(&current.revision, pods).filter_map(|pod| pod.first_ready).min();
    }
    current.start = worst(current.start, StartRecord::of(of(&current.revision, pods)));
    if let Some(baseline) = &current.baseline {
        current.baseline_start = worst(current.baseline_start, StartRecord::of(of(baseline, pods)));
    }
    current
}

fn of<'a>(revision: &'a RevisionHash, pods: &'a [PodFact]) -> impl Iterator<Item = &'a PodFact> {
    pods.iter().filter(move |pod| pod.revision == *revision)
}

fn worst(known: Option<StartRecord>, seen: Option<StartRecord>) -> Option<StartRecord> {
    match (known, seen) {
        (Some(known), Some(seen)) => Some(known.worst(seen)),
        (known, seen) => known.or(seen),
    }
}

/// The side a pod is counted on. Pods of other revisions belong to neither.
#[must_use]
pub fn side(current: &Current, pod: &PodFact) -> Option<Side> {
    if pod.revision == current.revision {
        Some(Side::New)
    } else if Some(&pod.revision) == current.baseline.as_ref() {
        Some(Side::Old)
    } else {
        None
    }
}

fn add(at: Timestamp, duration: std::time::Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// When the window of a rollout ends. While no pod is Ready, the progress deadline is allowed for on top.
#[must_use]
pub fn window_end(current: &Current, analysis: &Analysis, workload: &Workload) -> Timestamp {
    if let Some(ready) = current.first_ready {
        // A pod may have been Ready before the guard first saw it; what nobody watched is no part of the window.
        return add(ready.max(current.started), analysis.window);
    }
    let deadline = std::time::Duration::from_secs(workload.progress_deadline_seconds.into());
    add(add(current.started, deadline), analysis.window)
}

/// How long after a moment of the grid its samples are in the store: a scrape that has just begun is not.
const SETTLE_MS: i64 = 600;

/// The next moment shortly after the grid of `interval`, so that guards of one class ask Prometheus together, and as soon
/// as the samples of that moment are there.
#[must_use]
pub fn next_on_grid(now: Timestamp, interval: std::time::Duration) -> Timestamp {
    let every = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let passed = now.as_millisecond().saturating_sub(SETTLE_MS).rem_euclid(every);
    now.checked_add(SignedDuration::from_millis(every.saturating_sub(passed))).unwrap_or(Timestamp::MAX)
}

/// Undos that still count against `maxPerDay`.
#[must_use]
pub fn within_a_day(undone: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    let day = SignedDuration::from_hours(24);
    undone.iter().copied().filter(|at| now.duration_since(*at) < day).collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
