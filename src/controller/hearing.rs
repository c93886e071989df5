//! What language models are asked about a rollout, and what may come of what they say.
//!
//! Role: asks in the background where there is something to ask, and holds what was said against the evidence of this
//! moment. Inputs: a case and what was assessed. Outputs: the step that follows, status, events. Must never import: `cli`,
//! `console`.

use kube::ResourceExt;

use super::case::Case;
use super::counsel::{Heard, Of, Question, Templates};
use super::judge::Rollout;
use crate::api::status::{AdviceStatus, AttemptStatus, time_ms};
use crate::domain::advice::authority::{self, Authority, Ground, Occasion, Ruling, Zone};
use crate::domain::advice::chain::Attempt;
use crate::domain::advice::prompt::{self, FactRow, Milestone, SignalRow};
use crate::domain::assess::Assessment;
use crate::domain::chain::{Advice, Step, advised};
use crate::domain::facts::Report;
use crate::domain::finding::{Finding, Novelty, Source};
use crate::domain::outcome::{Decider, Verdict};
use crate::domain::plan::{self, Current, Stage};
use crate::domain::policy::Policy;
use crate::domain::recording;
use crate::domain::rollout::Workload;
use crate::record::events::EventReason;

/// Questions that a record lists.
const ATTEMPTS: usize = 16;
/// Longest sentence of what clamped a proposal.
const CLAMP: usize = 512;

/// What follows a step once language models are heard; asks them, if there is something to ask.
pub(super) fn weigh(
    case: &mut Case<'_>,
    rollout: &Rollout<'_>,
    assessment: &Assessment,
    blind: bool,
    step: Step,
) -> Step {
    let Rollout { class, policy, current, workload, report, .. } = *rollout;
    let Some(advisers) = case.ctx.counsel.advisers.of(&class.name_any()) else { return step };
    if policy.decision.chain.is_empty() {
        return step;
    }
    let certified = current.stage == Stage::Certified;
    let ground = Ground::of(assessment, alpha(policy), report.fact.is_some(), certified, blind);
    let findings = findings(case, current, report);
    let asked_about = about(case, policy, current, workload, assessment, (report, &findings, &ground));
    let hash = prompt::evidence_hash(&asked_about, advisers.policy.data);
    let heard = case.ctx.counsel.heard(&case.key, current.revision.as_str(), current.started);
    let ruled = heard.as_ref().map(|heard| (heard, ruling(policy, &ground, heard)));
    if let Some((heard, ruling)) = &ruled {
        show(case, heard, ruling.as_ref());
        keep(case, policy, current, (heard, ruling.as_ref(), &ground));
    }
    let counts = |heard: &Heard| heard.fresh || heard.hash == hash;
    let advice = ruled.as_ref().filter(|(heard, _)| counts(heard)).and_then(|(heard, ruling)| {
        let (by, opinion) = heard.opinion.as_ref()?;
        Some(Advice { by, opinion, ruling: ruling.as_ref()? })
    });
    let step = advised(step, advice, false);
    if matches!(&step, Step::Decide(decided) if decided.verdict == Verdict::Rollback) {
        return step;
    }
    let question = Question {
        revision: current.revision.to_string(),
        started: current.started,
        hash,
        templates: templates(case, current, workload),
        case: asked_about,
        policy: policy.decision.clone(),
        class: class.name_any(),
        ground,
        explains: None,
    };
    ask(case, policy, current, question, signs(&findings));
    let decides = ground.zone() == Zone::Grey || policy.decision.authority == Authority::Decide;
    // Whatever became of the chain, nobody waits longer than the deadline.
    let ends = matches!(&step, Step::Decide(decided) if decided.is_final);
    let until = case.ctx.counsel.asking(&case.key).filter(|until| ends && decides && case.now < *until);
    if let Some(until) = until {
        case.wake_at(until);
    }
    advised(step, None, until.is_some())
}

/// What a ROLLBACK that was decided without a model is explained with, once it is done.
#[must_use]
pub fn explanation(
    case: &Case<'_>,
    policy: &Policy,
    current: &Current,
    workload: &Workload,
    (judged, report, class): (&Assessment, &Report, String),
) -> Option<Question> {
    let record = case.draft.last_decision.as_ref()?;
    let asked = record.decision == Verdict::Rollback.as_str() && !record.decider.starts_with(Decider::Llm.as_str());
    if !asked || policy.decision.chain.is_empty() {
        return None;
    }
    let ground = Ground::of(judged, alpha(policy), report.fact.is_some(), false, false);
    let findings = findings(case, current, report);
    Some(Question {
        revision: current.revision.to_string(),
        started: current.started,
        hash: String::new(),
        templates: templates(case, current, workload),
        case: about(case, policy, current, workload, judged, (report, &findings, &ground)),
        policy: policy.decision.clone(),
        class,
        ground,
        explains: Some(record.id.clone()),
    })
}

/// Asks for the explanation of what this look did.
pub fn explain(case: &mut Case<'_>) {
    let Some(question) = case.question.take().filter(|_| case.ctx.leadership.holds()) else { return };
    let revision = question.revision.clone();
    let of = Of { revision: &revision, started: question.started, calls_before: calls(case) };
    let (used, _) = case.ctx.counsel.so_far(&case.key, of);
    let left = question.policy.max_calls_per_rollout.saturating_sub(used);
    if authority::explain(true, left).is_ok() {
        case.ctx.counsel.ask(&case.key, of, question);
    }
}

/// Completes the last decision with what was said about it since. Level-triggered: an act never waits for it.
pub fn complete(case: &mut Case<'_>) {
    let Some(record) = case.draft.last_decision.as_ref() else { return };
    let Some(heard) = case.ctx.counsel.explanation(&case.key, &record.id) else { return };
    // Whatever it says, the decision stands; what it proposed against it is shown as clamped.
    let ruling = heard
        .opinion
        .as_ref()
        .map(|(_, opinion)| authority::rule(Authority::Advisory, &heard.ground, &heard.known, opinion));
    let (advice, attempts) = (advice(&heard, ruling.as_ref()), attempts(&heard.attempts));
    if advice.is_none() {
        fell_back(case, &heard.attempts);
    }
    if let Some(record) = &mut case.draft.last_decision {
        record.advice = advice.or_else(|| record.advice.take());
        record.attempts.extend(attempts);
        record.attempts.truncate(ATTEMPTS);
    }
}

/// Keeps what was asked and answered since, for people. Best effort: what is lost is lost to readers only.
pub async fn file(case: &Case<'_>) {
    let calls = case.ctx.counsel.take_calls(&case.key);
    if calls.is_empty() || !case.ctx.leadership.holds() {
        return;
    }
    if let Err(error) = case.ctx.prompts.keep(&case.owner(), &calls).await {
        tracing::warn!(%error, category = error.category(), "what a language model was asked was not kept");
    }
}

fn ask(case: &mut Case<'_>, policy: &Policy, current: &Current, question: Question, signs: bool) {
    if !case.ctx.leadership.holds() {
        return;
    }
    let of = Of { revision: current.revision.as_str(), started: current.started, calls_before: calls(case) };
    let (used, asked) = case.ctx.counsel.so_far(&case.key, of);
    if let Some(analysis) = &mut case.draft.analysis {
        analysis.llm_calls = i32::try_from(used).ok().filter(|used| *used > 0);
    }
    let occasion = Occasion {
        authority: policy.decision.authority,
        ground: &question.ground,
        signs,
        hash: &question.hash,
        answered: &asked,
        calls_left: policy.decision.max_calls_per_rollout.saturating_sub(used),
    };
    if authority::ask(&occasion).is_ok() {
        case.ctx.counsel.ask(&case.key, of, question);
    }
}

/// Calls that status knows of: an earlier process may have made them.
fn calls(case: &Case<'_>) -> u32 {
    let known = case.draft.analysis.as_ref().and_then(|analysis| analysis.llm_calls);
    known.and_then(|known| u32::try_from(known).ok()).unwrap_or(0)
}

fn ruling(policy: &Policy, ground: &Ground, heard: &Heard) -> Option<Ruling> {
    let (_, opinion) = heard.opinion.as_ref()?;
    Some(authority::rule(policy.decision.authority, ground, &heard.known, opinion))
}

fn show(case: &mut Case<'_>, heard: &Heard, ruling: Option<&Ruling>) {
    let advice = advice(heard, ruling);
    let before = case.draft.analysis.as_ref();
    let told = before.is_some_and(|before| before.advice.is_none() && !before.attempts.is_empty());
    if heard.fresh && advice.is_none() && !told {
        fell_back(case, &heard.attempts);
    }
    if let Some(analysis) = &mut case.draft.analysis {
        analysis.advice = advice;
        analysis.attempts = attempts(&heard.attempts);
    }
}

/// What was heard belongs to the recording: a replay rules on it again.
fn keep(
    case: &mut Case<'_>,
    policy: &Policy,
    current: &Current,
    (heard, ruling, ground): (&Heard, Option<&Ruling>, &Ground),
) {
    let decides = ruling == Some(&Ruling::Rollback);
    let Some((by, opinion)) = heard.opinion.as_ref().filter(|_| heard.fresh || decides) else { return };
    let held = ground.held || ground.blind;
    let line = recording::write_opinion(by, policy.decision.authority, held, &heard.known, opinion);
    let name = case.rollout(&current.revision);
    match case.ctx.recordings.note(&name, &line) {
        Ok(()) => case.recorded = Some(name),
        Err(error) => tracing::warn!(%error, "the recording was not written"),
    }
}

fn fell_back(case: &mut Case<'_>, attempts: &[Attempt]) {
    let all: Vec<String> = attempts.iter().map(|one| format!("{} {}", one.decider, one.outcome)).collect();
    let exhausted = attempts.iter().any(|one| one.outcome == "budget_exhausted");
    let (event, why) = if exhausted {
        (EventReason::LLMBudgetExhausted, "a budget for language models is used up")
    } else {
        (EventReason::LLMFallback, "no language model gave an opinion")
    };
    let of = if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) };
    case.note(event, format!("{why}{of}; the algorithm decides alone"));
}

fn advice(heard: &Heard, ruling: Option<&Ruling>) -> Option<AdviceStatus> {
    let (by, opinion) = heard.opinion.as_ref()?;
    let clamped = ruling.and_then(|ruling| match ruling {
        Ruling::Clamped(clamped) => Some(clamped),
        Ruling::Rollback | Ruling::Stands => None,
    });
    Some(AdviceStatus {
        by: format!("llm/{by}"),
        proposed: opinion.verdict.to_string(),
        confidence: i32::from(opinion.confidence.value()),
        failure_class: opinion.class.to_string(),
        reasoning: opinion.reasoning.clone(),
        evidence: opinion.evidence.iter().take(32).cloned().collect(),
        suggested_fix: (!opinion.suggested_fix.is_empty()).then(|| opinion.suggested_fix.clone()),
        clamped_by: clamped.map(|clamped| clamped.by.as_str().to_owned()),
        clamp: clamped.map(|clamped| clamped.message.chars().take(CLAMP).collect()),
        time: time_ms(heard.at),
    })
}

fn attempts(all: &[Attempt]) -> Vec<AttemptStatus> {
    let one = |attempt: &Attempt| AttemptStatus {
        decider: attempt.decider.clone(),
        outcome: attempt.outcome.to_owned(),
        milliseconds: i64::try_from(attempt.milliseconds).unwrap_or(i64::MAX),
    };
    all.iter().take(ATTEMPTS).map(one).collect()
}

fn alpha(policy: &Policy) -> f64 {
    f64::from(policy.analysis.alpha_ppm) / 1e6
}

/// What pods, logs and probes showed, what is new first.
fn findings(case: &Case<'_>, current: &Current, report: &Report) -> Vec<Finding> {
    let found = case.ctx.inspections.found(&case.key).filter(|found| found.revision == current.revision.as_str());
    let beside = found.into_iter().flat_map(|found| found.logs.into_iter().chain(found.probes));
    let mut all: Vec<Finding> = report.findings.iter().cloned().chain(beside).collect();
    all.sort_by_key(|finding| finding.novelty != Novelty::New);
    all
}

/// New error signatures, or probes that fail.
fn signs(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.novelty == Novelty::New && finding.source != Source::Pods)
}

fn templates(case: &Case<'_>, current: &Current, workload: &Workload) -> Option<Templates> {
    Some(Templates {
        key: case.target.clone(),
        uid: workload.uid.to_string(),
        old: current.baseline.clone()?,
        new: current.revision.clone(),
    })
}

fn about(
    case: &Case<'_>,
    policy: &Policy,
    current: &Current,
    workload: &Workload,
    judged: &Assessment,
    (report, findings, ground): (&Report, &[Finding], &Ground),
) -> prompt::Case {
    let since = |at: jiff::Timestamp| at.duration_since(current.started).as_secs();
    let end = plan::window_end(current, &policy.analysis, workload);
    let ready = current.first_ready.map(|at| (since(at), Milestone::FirstReady));
    let mut timeline = vec![(0, Milestone::Began)];
    timeline.extend(ready);
    timeline.extend([(since(case.now), Milestone::Now), (since(end), Milestone::WindowEnds)]);
    let fact = report.fact.as_ref();
    prompt::Case {
        workload: format!("{}/{}", case.key.namespace, case.target.target),
        zone: ground.zone(),
        alpha: ground.alpha,
        ln_e: ground.ln_e,
        signals: judged.signals.iter().map(SignalRow::of).collect(),
        facts: fact
            .map(|fact| FactRow { reason: fact.kind.reason(), sentence: fact.sentence.clone() })
            .into_iter()
            .collect(),
        findings: findings.to_vec(),
        timeline,
        changes: Vec::new(),
        notes: workload.change_cause.iter().map(|cause| format!("change cause: {cause}")).collect(),
    }
}
