//! From a decision to what is done and said about it.
//!
//! Role: guardrails, record, the start of an undo, conditions, known-good revisions. Inputs: a case and a decision.
//! Outputs: conditions, record, events. Must never import: `cli`, `console`.

use jiff::Timestamp;
use kube::ResourceExt;

use super::case::Case;
use super::configuration::{self, Judged};
use super::error::Error;
use super::{approval, decision, findings, hearing, progress, restore};
use crate::api::GuardClass;
use crate::api::condition::{Truth, Type};
use crate::api::status::{KnownGood, time};
use crate::domain::assess::{Assessment, Standing};
use crate::domain::chain::{Decision, Health};
use crate::domain::facts::Report;
use crate::domain::guardrail::{self, Clamp, Proposal};
use crate::domain::known_good::{self, Choice, Trust};
use crate::domain::outcome::{ActionTaken, Reason, Verdict};
use crate::domain::plan::{Current, PendingApproval, PendingUndo, Stage};
use crate::domain::policy::{Mode, Policy};
use crate::domain::recommend;
use crate::domain::rollout::{PodFact, RevisionHash, Workload};
use crate::record::events::EventReason;

/// Revisions that status remembers as good.
const KNOWN_GOOD: usize = 10;

/// What a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Grounds<'a> {
    /// The guard's class.
    pub class: &'a GuardClass,
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
    let Grounds { class, judged, decided, report } = *grounds;
    let id = decision::id(&current, case.now);
    beside(case, &current, workload, decided).await;
    let (choice, course) = course(case, policy, &current, workload, pods, (grounds, &id));
    // In Observe nobody is told what to do.
    let commands = match &course {
        Course::Nothing(Some(clamp)) if policy.mode > Mode::Observe => {
            commands(case, workload, choice.as_ref(), clamp.reason)
        }
        _ => Vec::new(),
    };
    let done = (choice.as_ref(), &course, commands);
    let record = decision::record(&id, case.now, &current, judged, decided, done);
    decision::file(case, record);
    findings::explain(case, report.fact.as_ref(), &report.findings, &judged.signals);
    case.question = hearing::explanation(case, policy, &current, workload, (judged, report, class.name_any()));
    let since = restore::since(current.started, case.now);
    case.ctx.metrics.decided(decided.verdict.as_str(), decided.decider.as_str(), since);
    let Some(to) = choice.map(|choice| choice.revision).filter(|_| !matches!(course, Course::Nothing(_))) else {
        settle(case, current, workload, pods, grounds, &course);
        return Ok(());
    };
    if let Course::Ask(clamp) = &course {
        let expires = case.now.checked_add(policy.rollback.approval_timeout).unwrap_or(Timestamp::MAX);
        let pending = PendingApproval {
            decision: id,
            workload_uid: workload.uid.to_string(),
            from: current.revision.clone(),
            to,
            asked: case.now,
            expires,
        };
        approval::ask(case, current, workload, decided, (pending, clamp));
        return Ok(());
    }
    let undo = PendingUndo {
        decision: id,
        workload_uid: workload.uid.to_string(),
        from: current.revision.clone(),
        kept: case.kept(&to),
        to,
        intended: case.now,
        sent: None,
    };
    say_bad(case, &current, decided, "rolling back");
    restore::carry_out(case, class, policy, workload, undo).await
}

/// Notes what the judged pods read besides their template. It is looked at after whatever is done, unless the template
/// runs the same as the one before: then nothing is undone, and this may be why it is bad all the same.
async fn beside(case: &mut Case<'_>, current: &Current, workload: &Workload, decided: &Decision) {
    if decided.verdict != Verdict::Rollback {
        return;
    }
    let judged = Judged { reads: configuration::read_by(workload, &current.revision), started: current.started };
    let substance = |revision: &RevisionHash| workload.substance(revision);
    let before = current.baseline.as_ref().and_then(substance);
    if before.is_some() && before == substance(&current.revision) {
        case.told = Some(configuration::told(case, judged).await);
    } else {
        case.judged = Some(judged);
    }
}

/// Only the configuration differs: that is the reason, and its name.
fn named(case: &Case<'_>, clamp: Clamp) -> Clamp {
    let changes = case.told.as_ref().map(|told| told.changes.join("; ")).filter(|changes| !changes.is_empty());
    match changes {
        Some(changes) if clamp.reason == Reason::SameRevisionRestarted => Clamp {
            reason: Reason::ConfigurationChanged,
            message: format!(
                "{changes}, and nothing else differs that runs, so an undo cannot help: revert that change"
            ),
            ..clamp
        },
        _ => clamp,
    }
}

fn commands(case: &Case<'_>, workload: &Workload, choice: Option<&Choice>, why: Reason) -> Vec<String> {
    let mut commands = recommend::commands(&case.key.namespace, &case.target.target, workload, choice, why);
    commands.truncate(4);
    commands
}

/// What is to be done about a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// Nothing, and what forbids an undo, if one was called for.
    Nothing(Option<Clamp>),
    /// A person is asked.
    Ask(Clamp),
    /// The undo.
    Act,
}

impl Course {
    /// What stood between the decision and its act.
    #[must_use]
    pub const fn clamp(&self) -> Option<&Clamp> {
        match self {
            Self::Nothing(clamp) => clamp.as_ref(),
            Self::Ask(clamp) => Some(clamp),
            Self::Act => None,
        }
    }
}

/// The revision to go back to, and what is to be done. An undo is counted for the storm breaker here and now, so that two
/// guards cannot both take the last one.
fn course(
    case: &Case<'_>,
    policy: &Policy,
    current: &Current,
    workload: &Workload,
    pods: &[PodFact],
    (grounds, id): (&Grounds<'_>, &str),
) -> (Option<Choice>, Course) {
    if grounds.decided.verdict != Verdict::Rollback {
        return (None, Course::Nothing(None));
    }
    let known = &case.progress;
    let exists = |revision: &RevisionHash| workload.exists(revision);
    let choice = known_good::choose(policy.rollback.target, current, &known.good, &known.bad, exists);
    let mut storm = case.ctx.storms.of(grounds.class);
    let of_class = storm.moments(id);
    let proposal = Proposal {
        policy,
        workload,
        current,
        to: choice.as_ref(),
        pods,
        undone: &known.undone,
        of_class: &of_class,
        now: case.now,
    };
    let only = grounds.judged.only_recommend.clone();
    let only = only.map(|(reason, message)| Clamp { rule: "recommend-only", reason, message });
    let course = if let Some(clamp) = guardrail::first_objection(&proposal).or(only) {
        Course::Nothing(Some(named(case, clamp)))
    } else if let Some(clamp) = guardrail::asks_a_person(&proposal) {
        Course::Ask(clamp)
    } else {
        storm.add(case.now, &case.key, id);
        Course::Act
    };
    (choice, course)
}

pub(super) fn say_bad(case: &mut Case<'_>, current: &Current, decided: &Decision, what: &str) {
    let message = format!("revision {} is bad, {what}: {}", current.revision, decided.message);
    case.observe_condition(Type::Healthy, false, decided.reason, &message);
    let line = findings::line(case).map(|line| format!("; {line}")).unwrap_or_default();
    case.note(EventReason::AnalysisFailed, format!("{message}{line}"));
}

/// The window is over and the certificate stands: the revision is known to be good.
pub fn confirm(case: &mut Case<'_>, mut current: Current, workload: &Workload, message: &str) {
    current.stage = Stage::Passed;
    progress::write_current(&mut case.draft, &current, workload);
    know_good(case, &current, Trust::Certified, "certified, and watched to the end of the window");
    let message = format!("not worse to the end of the window: {message}");
    case.observe_condition(Type::Healthy, true, Reason::AnalysisPassed, &message);
    case.observe_condition(Type::Reconciling, false, Reason::AnalysisPassed, &message);
    case.draft.analysis = None;
    case.rest();
}

/// Remembers a revision that proved good. The latest proof counts; a weaker one takes no stronger one away.
fn know_good(case: &mut Case<'_>, current: &Current, trust: Trust, how: &str) {
    let revision = current.revision.to_string();
    let known = &mut case.draft.known_good;
    let kept = known.iter().find(|known| known.revision == revision).cloned();
    if kept.as_ref().and_then(|kept| Trust::parse(&kept.trust)).is_some_and(|before| before > trust) {
        return;
    }
    known.retain(|known| known.revision != revision);
    let trust = trust.as_str().to_owned();
    // What is kept of it stays kept; what is not, is written at the end of the look.
    let before = kept.unwrap_or_default();
    known.insert(0, KnownGood { revision, at: time(case.now), trust, how: how.to_owned(), ..before });
    known.truncate(KNOWN_GOOD);
}

/// The decision changes nothing about the workload: say what it means.
fn settle(
    case: &mut Case<'_>,
    mut current: Current,
    workload: &Workload,
    pods: &[PodFact],
    grounds: &Grounds<'_>,
    course: &Course,
) {
    let decided = grounds.decided;
    current.stage = match (decided.verdict, decided.health) {
        (Verdict::Rollback, _) => Stage::Condemned,
        (Verdict::Inconclusive, _) => Stage::Held,
        (Verdict::Continue, Health::Good) if !decided.is_final => Stage::Certified,
        (Verdict::Continue, Health::Good) => Stage::Passed,
        (Verdict::Continue, _) => Stage::Unproven,
    };
    progress::write_current(&mut case.draft, &current, workload);
    match (decided.verdict, course.clamp()) {
        (Verdict::Rollback, Some(clamp)) => not_undone(case, &current, decided, clamp),
        (Verdict::Continue, _) if decided.health == Health::Good => {
            case.observe_condition(Type::Healthy, true, decided.reason, &decided.message);
            case.observe_condition(Type::Reconciling, false, decided.reason, &decided.message);
            case.note(EventReason::AnalysisPassed, decided.message.clone());
            if current.stage == Stage::Passed {
                know_good(case, &current, Trust::Certified, "judged to the end of the window");
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
            if current.stage == Stage::Unproven && pods_were_well(&current, workload, pods, grounds) {
                know_good(
                    case,
                    &current,
                    Trust::PodsOnly,
                    "its pods were well for a whole window; nothing was measured",
                );
            }
        }
    }
    if !current.stage.is_judging() {
        case.draft.analysis = None;
        case.rest();
    }
}

/// Nothing could be measured, nothing speaks against it, and every pod of it serves.
fn pods_were_well(current: &Current, workload: &Workload, pods: &[PodFact], grounds: &Grounds<'_>) -> bool {
    let unmeasured = matches!(grounds.judged.standing, Standing::NotYet { .. } | Standing::Unproven { .. });
    let quiet = grounds.report.hold.is_none() && grounds.report.fact.is_none();
    let serves = current.first_ready.is_some() && workload.rollout_complete(&current.revision, pods);
    unmeasured && quiet && serves && workload.replicas > 0
}

/// The revision is bad, and a rule keeps it from being undone.
fn not_undone(case: &mut Case<'_>, current: &Current, decided: &Decision, clamp: &Clamp) {
    say_bad(case, current, decided, &format!("not rolled back ({})", clamp.message));
    case.observe_condition(Type::Reconciling, false, clamp.reason, &clamp.message);
    // What was asked for is no standstill.
    let stuck = clamp.reason != Reason::SuppressedByMode;
    case.observe_condition(Type::Stalled, stuck, clamp.reason, &clamp.message);
    let event = match clamp.reason {
        Reason::NoKnownGoodRevision => EventReason::NoKnownGoodRevision,
        Reason::RollbackLimitReached => EventReason::RollbackLimitReached,
        Reason::StormBreakerOpen => EventReason::StormBreakerOpen,
        Reason::SuppressedByGitOps => EventReason::GitOpsConflict,
        _ => EventReason::RollbackSkipped,
    };
    let recommended = case.draft.last_decision.as_ref().filter(|last| last.action == ActionTaken::Recommended.as_str());
    let commands = recommended.map(|last| last.commands.join("; or: ")).filter(|commands| !commands.is_empty());
    let what = commands.map(|commands| format!(". Recommended: {commands}")).unwrap_or_default();
    case.note(event, format!("revision {} was not rolled back: {}{what}", current.revision, clamp.message));
}
