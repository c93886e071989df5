//! The decision record and its training sample.
//!
//! Role: writes down what was decided and from what, so that it can be explained and replayed. Inputs: an assessment and a
//! decision. Outputs: `lastDecision`, `history`, a sample. Must never import: `cli`, `console`.

use jiff::Timestamp;
use serde_json::json;

use super::case::Case;
use super::verdict::Course;
use super::{findings, restore};
use crate::api::status::{
    ContributionStatus, DecisionMetrics, DecisionRecord, Durations, PastDecision, parse_time, time_ms,
};
use crate::domain::assess::Assessment;
use crate::domain::chain::Decision;
use crate::domain::known_good::Choice;
use crate::domain::outcome::{ActionTaken, Confidence, Decider, HealthScore};
use crate::domain::plan::Current;
use crate::domain::sample::{SCHEMA_VERSION, Sample, SampleState};

/// Earlier decisions that status keeps.
const HISTORY: usize = 10;
/// Samples kept per guard.
const RETAIN: usize = 20;
/// Longest reasoning.
const REASONING: usize = 2048;
/// How long a sample waits for logs that are being read.
const LOGS: std::time::Duration = std::time::Duration::from_secs(3);
/// What a sample's policy was; changes with the rules.
const fn policy_version(decider: Option<Decider>) -> &'static str {
    match decider {
        Some(Decider::SeedFormula) => "seed-v1",
        Some(Decider::HardFact) => "facts-v1",
        Some(Decider::Llm) => "llm-v1",
        Some(Decider::Evidence) | None => "evidence-v1",
    }
}

/// Names a decision: what was judged and when.
#[must_use]
pub fn id(current: &Current, now: Timestamp) -> String {
    format!("{}-{}", current.revision, now.as_millisecond())
}

/// The record as it stands before anything is done.
#[must_use]
pub fn record(
    id: &str,
    now: Timestamp,
    current: &Current,
    judged: &Assessment,
    decided: &Decision,
    (choice, course, commands): (Option<&Choice>, &Course, Vec<String>),
) -> DecisionRecord {
    let clamp = course.clamp();
    let action = match course {
        Course::Act => ActionTaken::RollingBack,
        Course::Ask(_) => ActionTaken::AwaitingApproval,
        Course::Nothing(_) if !commands.is_empty() => ActionTaken::Recommended,
        Course::Nothing(_) => ActionTaken::None,
    };
    let whole = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok());
    DecisionRecord {
        id: id.to_owned(),
        decision: decided.verdict.to_string(),
        confidence: judged.confidence.map(|confidence| i32::from(Confidence::value(confidence))),
        health_score: judged.score.map(|score| i32::from(HealthScore::points(score))),
        reasoning: decided.message.chars().take(REASONING).collect(),
        decider: decided.decider.to_string(),
        reason: decided.reason.to_string(),
        failure_class: None,
        failure_evidence: Vec::new(),
        findings: Vec::new(),
        metrics: DecisionMetrics {
            error_rate_ppm: whole(judged.metrics.error_rate_ppm),
            memory_percent: whole(judged.metrics.memory_percent),
            response_time_ms: whole(judged.metrics.response_time_ms),
        },
        contributions: judged
            .contributions
            .iter()
            .map(|contribution| ContributionStatus {
                term: contribution.name.clone(),
                value: contribution.value.clone(),
                points_hundredths: contribution.points_hundredths(),
            })
            .collect(),
        one_in: judged.one_in.clone(),
        clamped_by: clamp.map(|clamp| clamp.rule.to_owned()),
        from_revision: current.revision.to_string(),
        to_revision: choice.map(|choice| &choice.revision).or(current.baseline.as_ref()).map(ToString::to_string),
        to_trust: choice.map(|choice| choice.trust.as_str().to_owned()),
        action: action.to_string(),
        configuration: Vec::new(),
        commands,
        advice: None,
        attempts: Vec::new(),
        answered_by: None,
        action_reason: clamp.map(|clamp| format!("{}: {}", clamp.reason, clamp.message)),
        only_in_restored: Vec::new(),
        time: time_ms(now),
        durations: Durations {
            detection_to_decision: Some(restore::seconds(restore::since(current.started, now))),
            ..Durations::default()
        },
        sample_ref: None,
    }
}

/// Files a record: the last one moves into history.
pub fn file(case: &mut Case<'_>, mut record: DecisionRecord) {
    if let Some(analysis) = &case.draft.analysis {
        record.advice.clone_from(&analysis.advice);
        record.attempts.clone_from(&analysis.attempts);
    }
    if let Some(advice) = record.advice.as_ref().filter(|_| record.decider == Decider::Llm.as_str()) {
        record.decider.clone_from(&advice.by);
    }
    if let Some(last) = case.draft.last_decision.replace(record) {
        case.draft.history.insert(0, past(&last));
        case.draft.history.truncate(HISTORY);
    }
}

/// Keeps a training sample of the last decision, unless one is kept. Level-triggered and best effort: an undo never waits
/// for it, and what a crash or an error left out is made up for at the next look.
pub async fn keep_sample(case: &mut Case<'_>) {
    let Some(record) = case.draft.last_decision.as_ref().filter(|record| record.sample_ref.is_none()) else { return };
    if !case.ctx.leadership.holds() {
        return;
    }
    let decided = parse_time(&record.time).unwrap_or(case.now);
    let patient = decided.checked_add(LOGS).is_ok_and(|until| case.now < until);
    if patient && case.ctx.inspections.is_under_way(&case.key, &record.from_revision) {
        // The logs that say why are being read at this moment.
        case.wake_in(LOGS);
        return;
    }
    let (id, sample) = (record.id.clone(), sample(case, record));
    let owner = case.owner();
    match case.ctx.samples.append(&owner, &id, &sample, RETAIN).await {
        Ok(config_map) => {
            if let Some(record) = &mut case.draft.last_decision {
                record.sample_ref = Some(format!("{config_map}/{id}"));
            }
        }
        Err(error) => tracing::warn!(%error, decision = %id, "the training sample was not written"),
    }
}

/// The recording's file and hash at this moment, if the rollout is recorded.
fn recording(case: &Case<'_>) -> serde_json::Value {
    let found = case.recorded.as_ref().and_then(|rollout| case.ctx.recordings.reference(rollout));
    found.map_or(serde_json::Value::Null, |(file, hash)| json!({"file": file, "sha256": hash}))
}

fn past(record: &DecisionRecord) -> PastDecision {
    PastDecision {
        id: record.id.clone(),
        decision: record.decision.clone(),
        reason: record.reason.clone(),
        action: record.action.clone(),
        from_revision: record.from_revision.clone(),
        health_score: record.health_score,
        time: record.time.clone(),
    }
}

fn sample(case: &Case<'_>, record: &DecisionRecord) -> Sample {
    let percent = |ppm: i64| f64::from(i32::try_from(ppm).unwrap_or(i32::MAX)) / 10_000.0;
    let whole = |value: i64| f64::from(i32::try_from(value).unwrap_or(i32::MAX));
    let evidence = json!({
        "signals": case.draft.signals,
        "contributions": record.contributions,
        "healthScore": record.health_score,
        "reason": record.reason,
        "clampedBy": record.clamped_by,
        "reasoning": record.reasoning,
        "fromRevision": record.from_revision,
        "toRevision": record.to_revision,
        "oneIn": record.one_in,
        "lnE": case.ln_e(),
        "recording": recording(case),
        "failureClass": record.failure_class,
        "findings": record.findings,
        "pods": findings::proof(case),
    });
    Sample {
        schema_version: SCHEMA_VERSION,
        time: record.time.clone(),
        state: SampleState {
            error_rate: record.metrics.error_rate_ppm.map(percent),
            memory_usage: record.metrics.memory_percent.map(whole),
            response_time: record.metrics.response_time_ms.map(whole),
            deployment_id: format!("{}/{}@{}", case.key.namespace, case.target.target, record.from_revision),
            evidence,
        },
        action: record.decision.clone(),
        confidence: record.confidence.and_then(|percent| u8::try_from(percent).ok()).unwrap_or(0),
        reward: None,
        decider: record.decider.clone(),
        policy_version: policy_version(record.decider.split('/').next().and_then(Decider::parse)).into(),
        propensity: 1.0,
        evidence_hash: String::new(),
    }
}
