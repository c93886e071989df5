//! From an assessment to a decision.
//!
//! Role: who decides, in order; today the algorithm alone, which is always the chain's end. Inputs: an assessment and
//! where the rollout stands. Outputs: keep watching, or a decision. Must never import: other rooms, a clock.

use std::time::Duration;

use jiff::Timestamp;

use super::advice::authority::Ruling;
use super::advice::reply::Opinion;
use super::assess::{AssessState, Assessment, Standing};
use super::facts::{HardFact, Hold};
use super::outcome::{Decider, Reason, Verdict};
use super::plan::Stage;
use super::policy::OnInconclusive;

/// A low score at the very end of the window is given this many intervals to be confirmed or refuted.
const INTERVALS_TO_CONFIRM: u32 = 3;

/// What is known about the current revision's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Proven good enough.
    Good,
    /// Proven bad.
    Bad,
    /// Neither.
    Unknown,
}

/// Where the rollout stands at the moment of the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Now.
    pub now: Timestamp,
    /// The end of the window.
    pub window_end: Timestamp,
    /// The interval in force.
    pub interval: Duration,
    /// Whether every wanted pod carries the revision and is Ready.
    pub rollout_complete: bool,
    /// Where the revision stood before.
    pub stage: Stage,
    /// What an unproven end means.
    pub on_inconclusive: OnInconclusive,
}

/// A decision, before guardrails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub verdict: Verdict,
    /// Why, as one word.
    pub reason: Reason,
    /// Why, as a sentence.
    pub message: String,
    /// What it says about the revision's health.
    pub health: Health,
    /// Who decided.
    pub decider: Decider,
    /// Whether the watch ends with it; a certificate before the end of the window does not end it.
    pub is_final: bool,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Look again at the next interval.
    Watch(Reason, String),
    /// Health was certified, and the watch goes on to the end of the window.
    WatchCertified(String),
    /// The window ended and the certificate still stands: the revision is known to be good.
    Confirm(String),
    /// Decided.
    Decide(Decision),
}

/// Decides, or says why not yet. `scored` is the last assessment that gave a score; `blind` says why this one saw nothing.
///
/// The order: evidence of harm acts at once; what is wrong elsewhere holds and never passes; a certificate passes early;
/// between 1/(κα) and 1/α another opinion would be asked, and the algorithm's is to keep watching.
#[must_use]
pub fn decide(now: &Assessment, scored: Option<&Assessment>, blind: Option<&str>, moment: &Moment) -> Step {
    let by = now.decider;
    if now.standing == Standing::Harmful {
        return decision(by, Verdict::Rollback, now.harm, &now.reasoning, Health::Bad);
    }
    let ended = moment.now >= moment.window_end;
    // Something else is wrong: that stands, whatever can be measured.
    if let Standing::Held { reason, message } = &now.standing {
        return held(by, ended, *reason, message, moment);
    }
    if let Some(error) = blind {
        // Blind is not bad: what was seen before stays, and nothing is concluded from silence.
        let message = format!("metrics could not be read: {error}");
        let patient = !ended || within_grace(moment);
        return if patient {
            Step::Watch(Reason::PrometheusUnreachable, message)
        } else {
            unproven(by, Reason::PrometheusUnreachable, &message, moment)
        };
    }
    // An evaluation between two scores changes nothing about the last one.
    let last = if now.score.is_some() { now } else { scored.unwrap_or(now) };
    if !ended || (suspicious(last) && within_grace(moment)) {
        return match &now.standing {
            Standing::Fine if by == Decider::Evidence && moment.stage == Stage::Certified => {
                Step::WatchCertified(now.reasoning.clone())
            }
            Standing::Fine if by == Decider::Evidence => {
                let message = format!("not worse so far: {}", now.reasoning);
                let (verdict, reason) = (Verdict::Continue, Reason::AnalysisPassed);
                Step::Decide(Decision { verdict, reason, message, health: Health::Good, decider: by, is_final: false })
            }
            Standing::NotYet { reason, message } if scored.is_none() => Step::Watch(*reason, message.clone()),
            _ => Step::Watch(Reason::Analyzing, last.reasoning.clone()),
        };
    }
    at_the_end(now, last, moment)
}

/// What a language model's opinion came to, for a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Advice<'a> {
    /// Its name.
    pub by: &'a str,
    /// What it said.
    pub opinion: &'a Opinion,
    /// What may come of that.
    pub ruling: &'a Ruling,
}

/// The step after an opinion was heard, or while one is waited for. Only a ROLLBACK that the ruling lets pass changes
/// what is decided; waiting only puts the end of a window off, and the chain ends by its deadline.
#[must_use]
pub fn advised(step: Step, advice: Option<Advice<'_>>, waiting: bool) -> Step {
    if matches!(&step, Step::Decide(decided) if decided.verdict == Verdict::Rollback) {
        return step;
    }
    if let Some(advice) = advice.filter(|advice| *advice.ruling == Ruling::Rollback) {
        return Step::Decide(Decision {
            verdict: Verdict::Rollback,
            reason: Reason::LLMDecision,
            message: format!(
                "llm/{} proposed ROLLBACK at {} % confidence, where evidence leaves room: {}",
                advice.by,
                advice.opinion.confidence.value(),
                advice.opinion.reasoning
            ),
            health: Health::Bad,
            decider: Decider::Llm,
            is_final: true,
        });
    }
    match &step {
        Step::Decide(decided) if decided.is_final && waiting => {
            Step::Watch(Reason::Analyzing, "the window is over; a language model is being asked".to_owned())
        }
        _ => step,
    }
}

/// A hard fact needs no comparison, and nobody is asked.
#[must_use]
pub fn on_fact(fact: &HardFact) -> Decision {
    Decision {
        verdict: Verdict::Rollback,
        reason: fact.kind.reason(),
        message: fact.sentence.clone(),
        health: Health::Bad,
        decider: Decider::HardFact,
        is_final: true,
    }
}

/// What pods show may be explained by something else: then nothing is concluded from what was measured meanwhile, but
/// evidence of harm, which has its own protection, still counts.
#[must_use]
pub fn tempered(mut assessment: Assessment, hold: Option<&Hold>) -> Assessment {
    if let Some(hold) = hold.filter(|_| assessment.standing != Standing::Harmful) {
        assessment.standing = Standing::Held { reason: hold.reason, message: hold.message.clone() };
    }
    assessment
}

/// Evidence of harm may come from what people or an autoscaler did a moment ago: it is held back, and counts again
/// afterwards. What passes, passes for its own reasons; hard facts do not come this way.
#[must_use]
pub fn doubted(mut assessment: Assessment, doubt: Option<&Hold>) -> Assessment {
    if let Some(hold) = doubt.filter(|_| assessment.standing == Standing::Harmful) {
        assessment.standing = Standing::Held { reason: hold.reason, message: hold.message.clone() };
    }
    assessment
}

/// Something else is wrong: alert and wait; it never passes.
fn held(by: Decider, ended: bool, reason: Reason, message: &str, moment: &Moment) -> Step {
    if ended && moment.stage != Stage::Held {
        return decision(by, Verdict::Inconclusive, reason, message, Health::Unknown);
    }
    Step::Watch(reason, message.to_owned())
}

fn at_the_end(now: &Assessment, last: &Assessment, moment: &Moment) -> Step {
    let by = now.decider;
    if now.no_data_fails && !matches!(last.standing, Standing::Harmful | Standing::Held { .. }) {
        let message = format!("a signal that has to have data has none; {}", last.reasoning);
        return decision(by, Verdict::Continue, Reason::InsufficientData, &message, Health::Bad);
    }
    match &last.standing {
        Standing::Fine if last.score.is_none() => {
            // After a restart only the next score shows that it is still so.
            let message = "no score since the operator restarted";
            if within_grace(moment) {
                return Step::Watch(Reason::Analyzing, message.to_owned());
            }
            unproven(by, Reason::InsufficientData, message, moment)
        }
        Standing::Fine if !moment.rollout_complete => {
            let message = format!("{} But the rollout is not complete.", last.reasoning);
            unproven(by, Reason::InsufficientData, &message, moment)
        }
        Standing::Fine if moment.stage == Stage::Certified => Step::Confirm(last.reasoning.clone()),
        Standing::Fine => decision(by, Verdict::Continue, Reason::AnalysisPassed, &last.reasoning, Health::Good),
        Standing::Unproven { reason, message } | Standing::NotYet { reason, message } => {
            unproven(by, *reason, message, moment)
        }
        Standing::Grey => {
            let message = format!("nearly evidence of harm: {}", last.reasoning);
            unproven(by, Reason::InsufficientData, &message, moment)
        }
        Standing::Held { reason, message } => held(by, true, *reason, message, moment),
        Standing::Harmful => decision(by, Verdict::Rollback, last.harm, &last.reasoning, Health::Bad),
    }
}

/// A low score that the next one has not confirmed.
fn suspicious(assessment: &Assessment) -> bool {
    matches!(assessment.state, AssessState::Seed(state) if state.low_streak > 0)
}

fn within_grace(moment: &Moment) -> bool {
    let end = moment.window_end.checked_add(moment.interval.saturating_mul(INTERVALS_TO_CONFIRM));
    end.is_ok_and(|end| moment.now < end)
}

fn unproven(by: Decider, reason: Reason, message: &str, moment: &Moment) -> Step {
    match moment.on_inconclusive {
        OnInconclusive::Continue => decision(by, Verdict::Continue, reason, message, Health::Unknown),
        OnInconclusive::Hold if moment.stage == Stage::Held => Step::Watch(reason, message.to_owned()),
        OnInconclusive::Hold => decision(by, Verdict::Inconclusive, reason, message, Health::Unknown),
    }
}

fn decision(decider: Decider, verdict: Verdict, reason: Reason, message: &str, health: Health) -> Step {
    Step::Decide(Decision { verdict, reason, message: message.to_owned(), health, decider, is_final: true })
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
