//! Findings in status and in decisions: what is new against the old revision first.
//!
//! Role: joins what pods, logs and probes gave, shows it bounded, names the kind of failure, and completes a decision that
//! was made before the logs were read. Inputs: a case, findings. Outputs: status, events. Must never import: `cli`,
//! `console`.

use std::time::Duration;

use super::case::Case;
use super::inspect::Order;
use crate::api::status::{FindingStatus, parse_time};
use crate::domain::assess::{SignalVerdict, SignalView};
use crate::domain::facts::{FactKind, HardFact};
use crate::domain::failure::{self, Clues, FactClue, FactWord, SignalClue};
use crate::domain::finding::{Finding, Novelty, Source};
use crate::domain::outcome::Verdict;
use crate::domain::plan::{self, Current, Stage};
use crate::domain::policy::Policy;
use crate::domain::rollout::PodFact;
use crate::domain::signal::Term;
use crate::record::events::EventReason;

/// Findings that status shows.
const MOST: usize = 16;
/// How long after a decision its logs may come in.
const COMPLETE_WITHIN: Duration = Duration::from_secs(15);
/// Findings that a decision keeps.
const MOST_OF_DECISION: usize = 8;

/// What a decision was made from, kept until its logs were read too.
#[derive(Debug, Clone)]
pub struct Basis {
    /// The decision.
    decision: String,
    fact: Option<HardFact>,
    pods: Vec<Finding>,
    signals: Vec<SignalView>,
    /// The pods that proved it, as they were seen.
    proof: Option<serde_json::Value>,
}

/// Has logs and probes looked at in the background, and shows what is known.
pub fn look(case: &mut Case<'_>, policy: &Policy, current: &Current, pods: &[PodFact], of_pods: &[Finding]) {
    let sided = pods.iter().filter_map(|pod| Some((plan::side(current, pod)?, pod.clone())));
    let order = Order {
        revision: current.revision.to_string(),
        started: current.started,
        now: case.now,
        pods: sided.collect(),
        logs: policy.logs.clone(),
        probes: policy.probes.clone(),
    };
    if let Some(again) = case.ctx.inspections.order(&case.key, order) {
        case.wake_at(again);
    }
    let known = std::mem::take(&mut case.draft.findings);
    let all = if let Some(found) = inspected(case, current.revision.as_str()) {
        announce(case, &known, &found);
        sorted(of_pods.iter().chain(&found).map(status).collect())
    } else {
        // After a restart nothing was read yet: what was known of logs and probes stays.
        let kept = known.into_iter().filter(|finding| finding.source != "pods");
        sorted(of_pods.iter().map(status).chain(kept).collect())
    };
    case.draft.findings = all.into_iter().take(MOST).collect();
}

fn inspected(case: &Case<'_>, revision: &str) -> Option<Vec<Finding>> {
    let found = case.ctx.inspections.found(&case.key).filter(|found| found.revision == revision)?;
    Some(found.logs.into_iter().chain(found.probes).collect())
}

/// Tells people once a rollout that logs, or a probe, show something new.
fn announce(case: &mut Case<'_>, known: &[FindingStatus], found: &[Finding]) {
    for (prefix, event) in [("logs/", EventReason::LogErrorsDetected), ("probe/", EventReason::ProbeFailed)] {
        let belongs = |source: &Source| source.to_string().starts_with(prefix);
        let is_new = |finding: &FindingStatus| finding.novelty == Novelty::New.as_str();
        let told = known.iter().any(|finding| finding.source.starts_with(prefix) && is_new(finding));
        let first = found.iter().find(|finding| finding.novelty == Novelty::New && belongs(&finding.source));
        if let (false, Some(first)) = (told, first) {
            let times = if first.new == 1 { "once".to_owned() } else { format!("{} times", first.new) };
            let text = format!("new in this revision: {} ({}, {times}): {}", first.issue, first.source, first.context);
            case.note(event, text);
        }
    }
}

/// Puts findings and the kind of failure into the last decision, as far as they are known.
pub fn explain(case: &mut Case<'_>, fact: Option<&HardFact>, of_pods: &[Finding], signals: &[SignalView]) {
    let Some(decision) = case.draft.last_decision.as_ref().map(|record| record.id.clone()) else { return };
    let proof = case.proof.take();
    case.keep_basis(Basis { decision, fact: fact.cloned(), pods: of_pods.to_vec(), signals: signals.to_vec(), proof });
    complete(case);
}

/// Completes the last decision with what was found since. Level-triggered: an act never waits for it.
pub fn complete(case: &mut Case<'_>) {
    let Some(record) = &case.draft.last_decision else { return };
    let Some(basis) = case.basis().filter(|basis| basis.decision == record.id).cloned() else { return };
    // What was found much later, or is let go already, was not there when it was decided.
    let inspected = inspected(case, &record.from_revision);
    let decided = parse_time(&record.time).unwrap_or(case.now);
    let late = decided.checked_add(COMPLETE_WITHIN).is_ok_and(|end| end < case.now);
    if late || (inspected.is_none() && !record.findings.is_empty()) {
        return;
    }
    let all: Vec<Finding> = basis.pods.iter().cloned().chain(inspected.unwrap_or_default()).collect();
    let is_rollback = record.decision == Verdict::Rollback.as_str();
    let signals: Vec<SignalClue<'_>> = basis.signals.iter().map(clue).collect();
    let fact = basis.fact.as_ref().map(|fact| FactClue {
        word: word(fact.kind),
        sentence: &fact.sentence,
        exit_code: fact.sample.exit_code,
        message: &fact.sample.message,
    });
    let classified = is_rollback.then(|| failure::classify(&Clues { fact, findings: &all, signals: &signals }));
    let findings = sorted(all.iter().map(status).collect()).into_iter().take(MOST_OF_DECISION).collect();
    if let Some(record) = &mut case.draft.last_decision {
        record.findings = findings;
        if let Some(classified) = classified {
            record.failure_class = Some(classified.class.to_string());
            record.failure_evidence = classified.because.into_iter().take(failure::MOST_EVIDENCE).collect();
        }
    }
}

/// Lets go of what was counted, once nothing is judged and nothing is undone any more.
pub fn rest(case: &Case<'_>) {
    let stage = case.draft.current.as_ref().and_then(|current| Stage::parse(&current.state));
    let goes_on = case.draft.undo.is_some() || stage.is_some_and(Stage::is_judging);
    let complete = case.draft.last_decision.as_ref().is_none_or(|record| record.sample_ref.is_some());
    if !goes_on && complete {
        case.ctx.inspections.rest(&case.key);
    }
}

/// The pods that proved the last decision, as they were seen.
#[must_use]
pub fn proof(case: &Case<'_>) -> Option<serde_json::Value> {
    let record = case.draft.last_decision.as_ref()?;
    case.basis().filter(|basis| basis.decision == record.id)?.proof.clone()
}

/// The most telling line of the logs, to be said with a verdict.
#[must_use]
pub fn line(case: &Case<'_>) -> Option<String> {
    let telling =
        |finding: &&FindingStatus| finding.source.starts_with("logs/") && finding.novelty != Novelty::Known.as_str();
    case.draft.findings.iter().find(telling).map(|finding| format!("{}: {}", finding.source, finding.context))
}

fn clue(view: &SignalView) -> SignalClue<'_> {
    let worse = view.verdict == SignalVerdict::Worse;
    // Memory is judged by its growth.
    SignalClue {
        name: &view.name,
        term: view.term,
        worse,
        grows: worse && view.term == Some(Term::Memory),
        sentence: &view.message,
    }
}

const fn word(kind: FactKind) -> FactWord {
    match kind {
        FactKind::ImagePull => FactWord::ImagePull,
        FactKind::Config => FactWord::ConfigError,
        FactKind::Start => FactWord::StartError,
        FactKind::Hook => FactWord::Hook,
        FactKind::OutOfMemory => FactWord::OomKilled,
        FactKind::LivenessKills => FactWord::Liveness,
        FactKind::CrashLoop => FactWord::CrashLoop,
        FactKind::VolumeMount => FactWord::VolumeMount,
        FactKind::Progress => FactWord::Progress,
        FactKind::NeverReady => FactWord::NeverReady,
    }
}

fn sorted(mut findings: Vec<FindingStatus>) -> Vec<FindingStatus> {
    let order = [Novelty::New, Novelty::More, Novelty::Unknown, Novelty::Known];
    let rank = |finding: &FindingStatus| {
        order.iter().position(|novelty| novelty.as_str() == finding.novelty).unwrap_or(order.len())
    };
    // Within a rank pods come first, then logs and probes in their own order.
    findings.sort_by_key(rank);
    findings
}

fn status(finding: &Finding) -> FindingStatus {
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    FindingStatus {
        issue: cut(&finding.issue, 128),
        context: cut(&finding.context, 512),
        suggested_fix: (!finding.suggested_fix.is_empty()).then(|| cut(&finding.suggested_fix, 400)),
        source: finding.source.to_string(),
        service: finding.service.as_deref().map(|service| cut(service, 128)),
        class: finding.class.to_string(),
        new: count(finding.new),
        old: finding.old.map(count),
        novelty: finding.novelty.as_str().into(),
    }
}
