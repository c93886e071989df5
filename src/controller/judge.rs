//! One evaluation of a rollout: observe metrics → assess → decide → act.
//!
//! Role: reads the signals, lets the domain judge, writes the decision down, starts the undo. Inputs: a case, the
//! workload, its pods. Outputs: conditions, record, sample, events. Must never import: `cli`, `console`.

use std::time::Duration;

use kube::ResourceExt;

use super::case::Case;
use super::error::Error;
use super::{decision, progress, restore};
use crate::api::GuardClass;
use crate::api::condition::{Truth, Type};
use crate::api::status::{AnalysisStatus, SignalStatus};
use crate::domain::assess::{
    self, AssessInput, AssessState, Assessment, MetricReadings, Reading, SignalReading, SignalVerdict,
};
use crate::domain::chain::{self, Decision, Health, Moment, Step};
use crate::domain::evidence::PodLife;
use crate::domain::guardrail::{self, Clamp, Proposal};
use crate::domain::outcome::{Reason, Verdict};
use crate::domain::plan::{self, Current, Due, PendingUndo, Stage};
use crate::domain::policy::Policy;
use crate::domain::redact::SERVER_MESSAGE;
use crate::domain::rollout::{PodFact, Workload};
use crate::domain::signal::Term;
use crate::observe::prometheus::ReadRequest;
use crate::record::events::EventReason;

/// Longest text of a signal or of the analysis in status.
const MESSAGE: usize = 512;

/// Evaluates a rollout that is being judged.
///
/// # Errors
/// If an intent to undo cannot be written to status; then nothing is undone.
pub async fn step(
    case: &mut Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    current: Current,
    workload: &Workload,
    pods: &[PodFact],
) -> Result<(), Error> {
    let known = case.draft.current.as_ref().is_some_and(|known| known.first_ready_at.is_some());
    progress::write_current(&mut case.draft, &current, workload);
    if current.first_ready.is_some() && !known {
        let message = format!("the first pod of revision {} is ready; the window begins", current.revision);
        case.note(EventReason::AnalysisStarted, message);
    }
    if case.due == Due::Facts && case.progress.next.is_some_and(|next| next > case.now) {
        // Facts alone: metrics have their own time.
        if let Some(next) = case.progress.next {
            case.wake_at(next);
        }
        return Ok(());
    }
    let lives: Vec<_> =
        pods.iter().map(|pod| PodLife::of(pod, plan::side(&current, pod), policy.analysis.warmup)).collect();
    let state = state(case, policy, &current);
    let readings = read(case, class, policy, &lives, &state).await;
    let input = AssessInput { now: case.now, lives: &lives, readings: &readings };
    let assessment = assess::assess(policy.analysis.scorer, &state, &input, &policy.analysis);
    let interval = policy.analysis.interval.resolve(case.scrape(assessment.scrape));
    case.wake_at(plan::next_on_grid(case.now, interval));
    let blind = blind(&readings);
    say_metrics(case, current.first_ready.is_some(), readings.error(), blind.is_some());
    show(case, &assessment);
    let moment = Moment {
        now: case.now,
        window_end: plan::window_end(&current, &policy.analysis, workload),
        interval,
        rollout_complete: workload.rollout_complete(&current.revision, pods),
        stage: current.stage,
        on_inconclusive: policy.analysis.on_inconclusive,
    };
    let scored = case.last_scored(&assessment);
    match chain::decide(&assessment, scored.as_ref(), blind.as_deref(), &moment) {
        Step::Watch(reason, message) => {
            case.observe_condition(Type::Healthy, Truth::Unknown, reason, &message);
            case.observe_condition(Type::Reconciling, true, reason, &message);
            Ok(())
        }
        Step::Decide(decided) => {
            let judged = if assessment.score.is_some() { assessment } else { scored.unwrap_or(assessment) };
            conclude(case, policy, current, workload, pods, &judged, &decided).await
        }
    }
}

/// Where the last evaluation of this rollout stopped, or its beginning.
fn state(case: &Case<'_>, policy: &Policy, current: &Current) -> AssessState {
    let stored = case.draft.analysis.as_ref().and_then(|analysis| serde_json::from_str(&analysis.checkpoint).ok());
    case.checkpoint().or(stored).unwrap_or_else(|| AssessState::new(policy.analysis.scorer, current.started))
}

async fn read(
    case: &Case<'_>,
    class: &GuardClass,
    policy: &Policy,
    lives: &[PodLife],
    state: &AssessState,
) -> MetricReadings {
    let name = class.name_any();
    let source = match case.ctx.sources.get(&name) {
        Some(source) => source,
        // The class was not looked at yet.
        None => match case.ctx.sources.ensure(&name, &class.spec.prometheus).await {
            Ok(source) => source,
            Err(error) => return MetricReadings::unreadable(&policy.signals, &format!("GuardClass {name}: {error}")),
        },
    };
    let request = ReadRequest {
        signals: policy.signals.clone(),
        lives: lives.to_vec(),
        since: state.since(),
        until: case.now,
        interval: policy.analysis.interval,
    };
    let mut readings = source.read(request).await;
    // What a server says may hold anything; it is shown and stored only after this.
    for signal in &mut readings.signals {
        if let Reading::Errored(text) = &mut signal.reading {
            let (redacted, counts) = case.ctx.redactor.redact_counted(text, SERVER_MESSAGE);
            redacted.as_str().clone_into(text);
            for (kind, pieces) in &counts {
                case.ctx.metrics.redacted(kind.as_str(), *pieces);
            }
        }
    }
    readings
}

/// Why nothing can be said about errors, if so. Without another signal the judge goes on, and says what is missing.
fn blind(readings: &MetricReadings) -> Option<String> {
    let errored = |signal: &&SignalReading| matches!(signal.reading, Reading::Errored(_));
    let needed = readings.signals.iter().any(|signal| errored(&signal) && signal.term == Some(Term::Errors));
    let all = !readings.signals.is_empty() && readings.signals.iter().all(|signal| errored(&signal));
    (needed || all).then(|| readings.error().unwrap_or_default().to_owned())
}

fn say_metrics(case: &mut Case<'_>, asked: bool, error: Option<&str>, blind: bool) {
    let before = crate::api::condition::find(&case.draft.conditions, Type::MetricsAvailable);
    let was_blind = before.is_some_and(|condition| condition.status == Truth::False.as_str());
    match error {
        Some(error) => {
            let (what, reason) = if blind {
                ("metrics", Reason::PrometheusUnreachable)
            } else {
                ("some signals", Reason::InsufficientData)
            };
            let message = format!("{what} could not be read: {error}; nothing is concluded from that");
            if !was_blind {
                case.note(EventReason::MetricsUnavailable, message.clone());
            }
            case.observe_condition(Type::MetricsAvailable, false, reason, &message);
        }
        None if asked => {
            case.observe_condition(Type::MetricsAvailable, true, Reason::MetricsRead, "the last read worked");
        }
        None => {}
    }
}

/// Puts the numbers into status.
fn show(case: &mut Case<'_>, assessment: &Assessment) {
    if let Some(score) = assessment.score {
        case.draft.health_score = Some(i32::from(score.points()));
    }
    let some = |text: &str| (!text.is_empty()).then(|| text.chars().take(MESSAGE).collect::<String>());
    let quiet = |verdict| matches!(verdict, SignalVerdict::Waiting);
    let mut signals = Vec::new();
    for view in &assessment.signals {
        let before = case.draft.signals.iter().find(|known| known.name == view.name);
        if let (true, Some(known)) = (quiet(view.verdict), before) {
            // Between two scores the last numbers stay readable.
            signals.push(known.clone());
            continue;
        }
        let message = [view.counts.as_str(), view.message.as_str()]
            .iter()
            .filter(|t| !t.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("; ");
        signals.push(SignalStatus {
            name: view.name.clone(),
            state: view.verdict.as_str().into(),
            value: some(&view.new),
            baseline: some(&view.old),
            message: some(&message),
            query: some(&view.query),
        });
    }
    case.draft.signals = signals;
    if let Ok(checkpoint) = serde_json::to_string(&assessment.state) {
        case.draft.analysis = Some(AnalysisStatus { checkpoint, message: some(&assessment.reasoning) });
    }
    let at = Duration::try_from(case.now.duration_since(jiff::Timestamp::UNIX_EPOCH)).unwrap_or_default();
    let score = assessment.score.map(crate::domain::outcome::HealthScore::points);
    let guards = case.ctx.memory.len();
    case.ctx.metrics.evaluated(at.as_secs_f64(), &case.key.namespace, &case.key.name, score, guards);
}

async fn conclude(
    case: &mut Case<'_>,
    policy: &Policy,
    current: Current,
    workload: &Workload,
    pods: &[PodFact],
    judged: &Assessment,
    decided: &Decision,
) -> Result<(), Error> {
    let undone = case.progress.undone.clone();
    let proposal = Proposal { policy, workload, current: &current, pods, undone: &undone, now: case.now };
    let clamp = (decided.verdict == Verdict::Rollback).then(|| guardrail::first_objection(&proposal)).flatten();
    let acts = decided.verdict == Verdict::Rollback && clamp.is_none();
    let id = decision::id(&current, case.now);
    let record = decision::record(&id, case.now, &current, judged, decided, clamp.as_ref(), acts);
    decision::file(case, record);
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
    case.note(EventReason::AnalysisFailed, message);
}

/// The decision changes nothing about the workload: say what it means.
fn settle(case: &mut Case<'_>, mut current: Current, workload: &Workload, decided: &Decision, clamp: Option<&Clamp>) {
    current.stage = match (decided.verdict, decided.health) {
        (Verdict::Rollback, _) => Stage::Condemned,
        (Verdict::Inconclusive, _) => Stage::Held,
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
        }
        _ => {
            case.observe_condition(Type::Healthy, Truth::Unknown, decided.reason, &decided.message);
            let held = current.stage == Stage::Held;
            case.observe_condition(Type::Reconciling, held, decided.reason, &decided.message);
        }
    }
    if current.stage != Stage::Held {
        case.draft.analysis = None;
        case.rest();
    }
}
